"""Whatever a field of a recipe is given in Python, it is used or refused by a sentence, never a traceback."""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

from byol.errors import UserError
from byol.recipe.names import RECIPES
from byol.recipe.spec import refuse_wrong_types

Change = Callable[[Any], Any]
WRONG: tuple[Any, ...] = ("1", b"1", None, [1], (), True, float("nan"), float("inf"), -1, object())


def leaves(value: Any, change: Change, path: str = "") -> Iterator[tuple[str, Change]]:
    """Yield the path of every field, and what returns the recipe with another value there."""
    for field in fields(value):

        def inner(new: Any, name: str = field.name) -> Any:
            return change(replace(value, **{name: new}))

        kept = getattr(value, field.name)
        if is_dataclass(kept):
            yield from leaves(kept, inner, f"{path}{field.name}.")
        else:
            yield f"{path}{field.name}", inner


def test_a_value_of_a_wrong_type_is_refused() -> None:
    found = {}  # each slot's fields once
    for name in RECIPES:
        recipe = RECIPES[name]()
        kinds = [path for path in recipe.fields() if path.endswith("kind")]
        for path, change in leaves(recipe, lambda recipe: recipe):
            variant = [recipe.fields()[kind] for kind in kinds if path.startswith(kind.removesuffix("kind"))]
            found[path, *variant] = change
    assert len(found) > 80
    kept = [(path[0], wrong) for path, change in found.items() for wrong in WRONG if is_kept(change, wrong)]
    assert [(path, wrong) for path, wrong in kept if not may_be(path, wrong)] == []


def is_kept(change: Change, wrong: Any) -> bool:
    """Return whether a recipe takes a value; anything but a sentence that refuses it is raised."""
    try:
        refuse_wrong_types(change(wrong))
    except UserError:
        return False
    return True


def may_be(path: str, wrong: Any) -> bool:
    """Return whether a value is of the field's type after all."""
    if path == "why":
        return isinstance(wrong, tuple)
    is_text = path in ("name", "data", "encoder.name")
    return isinstance(wrong, str) if is_text else isinstance(wrong, bool | int | float)

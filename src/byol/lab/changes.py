"""Changes of a recipe, as the cells of a table name them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from byol.model.norm import Norm
from byol.recipe.spec import Recipe

Change = Callable[[Recipe], Recipe]


def put(**fields: Any) -> Change:
    """Return the change that puts other values into fields of a recipe."""
    return lambda recipe: replace(recipe, **fields)


def put_norm(norm: Norm) -> Change:
    """Return the change that puts another norm into encoder, projector and predictor, where they have one."""

    def change(recipe: Recipe) -> Recipe:
        parts = {name: getattr(recipe, name) for name in ("encoder", "projector", "predictor")}
        return replace(
            recipe,
            **{name: replace(part, norm=norm) for name, part in parts.items() if hasattr(part, "norm")},
        )

    return change


def put_in_views(**fields: Any) -> Change:
    """Return the change that puts other values into both view distributions."""

    def change(recipe: Recipe) -> Recipe:
        first, second = (replace(view, **fields) for view in (recipe.views.first, recipe.views.second))
        return replace(recipe, views=replace(recipe.views, first=first, second=second))

    return change


def both(first: Change, second: Change) -> Change:
    """Return the change that makes one after the other."""
    return lambda recipe: second(first(recipe))

"""Recipes by their names: the list, one of them, and how two differ."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from byol.errors import UserError, nearest
from byol.recipe.cifar10 import cifar10, cifar10_directpred, cifar10_gn_ws, cifar10_simsiam
from byol.recipe.imagenet import (
    imagenet_40,
    imagenet_100,
    imagenet_300,
    imagenet_1000,
    imagenet_directcopy,
    imagenet_directpred,
    imagenet_gn_ws,
    imagenet_multicrop,
    imagenet_optimal_predictor,
    imagenet_simsiam,
    imagenet_small_batch,
    imagenet_two_timescale,
    imagenette,
)
from byol.recipe.small import (
    builtin,
    cifar10_small,
    cifar10_small_directpred,
    cifar10_small_gn_ws,
    cifar10_small_simsiam,
    photos,
)
from byol.recipe.spec import Recipe, diff, read_recipe

RECIPES: dict[str, Callable[[], Recipe]] = {
    "builtin": builtin,
    "photos": photos,
    "cifar10-small": cifar10_small,
    "cifar10-small-simsiam": cifar10_small_simsiam,
    "cifar10-small-directpred": cifar10_small_directpred,
    "cifar10-small-gn-ws": cifar10_small_gn_ws,
    "cifar10": cifar10,
    "cifar10-simsiam": cifar10_simsiam,
    "cifar10-directpred": cifar10_directpred,
    "cifar10-gn-ws": cifar10_gn_ws,
    "imagenette": imagenette,
    "imagenet-40": imagenet_40,
    "imagenet-100": imagenet_100,
    "imagenet-300": imagenet_300,
    "imagenet-1000": imagenet_1000,
    "imagenet-small-batch": imagenet_small_batch,
    "imagenet-gn-ws": imagenet_gn_ws,
    "imagenet-simsiam": imagenet_simsiam,
    "imagenet-directpred": imagenet_directpred,
    "imagenet-directcopy": imagenet_directcopy,
    "imagenet-two-timescale": imagenet_two_timescale,
    "imagenet-optimal-predictor": imagenet_optimal_predictor,
    "imagenet-multicrop": imagenet_multicrop,
}


def named(name: str) -> Recipe:
    """Return the recipe of a name.

    Raises:
        UserError: there is none; the nearest names are given.
    """
    if not isinstance(name, str):
        raise UserError(f"the name of a recipe is wanted, not a {type(name).__name__}.")
    if name not in RECIPES:
        raise UserError(f"there is no recipe named '{name}'; {nearest(name, RECIPES, at_most=2)}")
    return RECIPES[name]()


def open_recipe(recipe: Recipe | str | os.PathLike[str]) -> Recipe:
    """Return what is meant by a recipe, its name, or the path of a JSON file.

    Args:
        recipe: a string that ends in .json is a file, as is any PathLike; another string is a name.

    Raises:
        UserError: there is no such recipe, or it is not one.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, os.PathLike) or (isinstance(recipe, str) and recipe.endswith(".json")):
        return read_recipe(recipe)
    if isinstance(recipe, str):
        return named(recipe)
    raise UserError(f"recipe is a {type(recipe).__name__}; give a Recipe, a name, or the path of a .json.")


@dataclass(frozen=True)
class RecipeList:
    """All recipes, one of them, or how two differ.

    Args:
        names: of those that were asked for: none for all, one, or two.
        recipes: the one or the two.
    """

    names: tuple[str, ...] = ()
    recipes: tuple[Recipe, ...] = ()

    @property
    def value(self) -> float:
        """How many recipes are listed, or in how many fields two differ."""
        return float(len(self.table()) - 1) if len(self.recipes) != 1 else 1.0

    @property
    def text(self) -> str | None:
        """The one recipe as a file would hold it, to be printed and kept; None for all or two."""
        return json.dumps(self.recipes[0].to_json(), indent=2) if len(self.recipes) == 1 else None

    def table(self) -> list[list[str]]:
        """Return names with what they are, or the fields of one or two recipes, as rows of strings."""
        if not self.recipes:
            rows = [[name, (make.__doc__ or "").split("\n")[0]] for name, make in RECIPES.items()]
            return [["recipe", "what it is"], *rows]
        left, right = self.recipes[0], self.recipes[-1]
        if len(self.recipes) == 1:
            return [
                ["field", self.names[0]],
                *([field, _said(value)] for field, value in left.fields().items()),
            ]
        rows = [[field, _said(here), _said(there)] for field, here, there in diff(left, right)]
        return [["field", *self.names], *rows]

    def sentence(self) -> str:
        """Return how many there are, or whose recipe it is."""
        if not self.recipes:
            return f"{len(RECIPES)} recipes; byol recipes NAME shows one, byol recipes A B how two differ."
        if len(self.recipes) == 1:
            return f"{self.names[0]}: {len(self.table()) - 1} fields."
        return f"{self.names[0]} and {self.names[1]} differ in {len(self.table()) - 1} fields."

    def to_json(self) -> dict[str, Any]:
        """Return all recipes with what they are, one of them, or the fields in which two differ."""
        if len(self.recipes) == 1:
            return {"recipe": self.recipes[0].to_json(), "value": self.value}
        if not self.recipes:
            return {"recipes": dict(self.table()[1:]), "value": self.value}
        pairs = {field: [here, there] for field, here, there in diff(*self.recipes)}
        return {"names": list(self.names), "differences": pairs, "value": self.value}


def recipes(
    name: str | os.PathLike[str] | None = None, other: str | os.PathLike[str] | None = None
) -> RecipeList:
    """List the recipes, show one, or show how two differ.

    Args:
        name: of a recipe, or the path of a recipe.json; None for a list of all.
        other: a second one, to show in which fields it differs from the first.

    Raises:
        UserError: there is no such recipe.
    """
    if name is None:
        if other is not None:
            raise UserError(f"say what {other} is to be compared with: recipes(name, other).")
        return RecipeList()
    asked = [one for one in (name, other) if one is not None]
    opened = tuple(open_recipe(one) for one in asked)  # first: it refuses what is no name and no path
    return RecipeList(tuple(one.name if isinstance(one, Recipe) else os.fspath(one) for one in asked), opened)


def _said(value: Any) -> str:
    return "-" if value is None else str(value)

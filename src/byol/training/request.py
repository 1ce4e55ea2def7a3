"""The arguments of `pretrain` and `resume`, checked and completed before anything is built."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from byol.data.identity import Identity
from byol.data.opening import BUILTIN, Data, named_data
from byol.errors import UserError, refuse_not_whole
from byol.recipe.names import open_recipe
from byol.recipe.spec import Recipe, diff, read_recipe, refuse_wrong_types
from byol.run.folder import RunFolder
from byol.system.files import given_path, place_to_write
from byol.training.own_encoder import refuse_unusable


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """A run that is to be begun or continued.

    Args:
        recipe: what to compute; its `data` is an absolute path, "builtin", or "" for images given in Python.
        data: what to open: `recipe.data`, or the images themselves.
        folder: of the run.
        encoder: a module of the user's own in place of the recipe's.
        is_resumed: continue what the folder holds.
        overwrite: replace what the folder holds.
        workers: processes that decode files, None for one per core.
        checkpoint_seconds: between checkpoints.
    """

    recipe: Recipe
    data: Data
    folder: RunFolder
    encoder: nn.Module | None
    is_resumed: bool
    overwrite: bool
    workers: int | None
    checkpoint_seconds: float

    def __post_init__(self) -> None:
        refuse_wrong_types(self.recipe)
        if self.encoder is not None:
            refuse_unusable(self.encoder)
        if self.workers is not None:
            refuse_not_whole("workers", self.workers, 0)
        seconds: object = self.checkpoint_seconds
        if not isinstance(seconds, int | float) or not seconds > 0:
            raise UserError(f"checkpoint_seconds is {seconds!r}; give a number above 0.")

    @property
    def continuation(self) -> str:
        """What to type to continue the run; in Python, if it was given something there."""
        given = {"data=images": not self.recipe.data, "encoder=module": self.encoder is not None}
        words = [word for word, is_needed in given.items() if is_needed]
        if not words:
            return f"byol pretrain --resume {shlex.quote(str(self.folder.path))}"
        return f"byol.resume({str(self.folder.path)!r}, {', '.join(words)})"


def new(
    data: Data | Recipe | None,
    out: str | os.PathLike[str] | None,
    recipe: Recipe | str | os.PathLike[str],
    **settings: Any,
) -> Request:
    """Check what a new run is asked.

    Args:
        data: where the images are, or the images; None takes the recipe's own.
        out: the run folder.
        recipe: what to compute, a name, or the path of a recipe.json.
        settings: further fields of `Request`.

    Raises:
        UserError: something is missing or out of its range.
    """
    if isinstance(data, Recipe):
        raise UserError("data is a recipe; give it by name: pretrain(data, out, recipe=recipe).")
    recipe = open_recipe(recipe)
    path = place_to_write(out, "say where to write the run: --out RUN (or --resume RUN to continue one).")
    data = recipe.data if data is None else data
    if isinstance(data, str) and not data:
        raise UserError(
            "say where the images are: --data PATH (a folder, a list, an archive, a pack, or 'builtin')."
        )
    name = named_data(data)
    asked = Request(
        recipe=replace(recipe, data=name),
        data=name or data,
        folder=RunFolder(path),
        is_resumed=False,
        **settings,
    )
    refuse_nested(asked.data, asked.folder.path)
    asked.folder.refuse_occupied(overwrite=asked.overwrite)  # now, not after a million files are listed
    return asked


def resumed(
    run: str | os.PathLike[str],
    data: Data | None,
    recipe: Recipe | str | os.PathLike[str] | None,
    **settings: Any,
) -> Request:
    """Check what a run that is to be continued is asked.

    Args:
        run: its folder.
        data: where the images are now, or the images; None for where the run found them.
        recipe: None takes the run's own; another one is refused.
        settings: further fields of `Request`.

    Raises:
        UserError: there is no run, its images are missing, or a setting is out of its range.
    """
    folder = RunFolder(given_path(run, "say which run to continue: --resume RUN."))
    if not folder.recipe.is_file():
        place = shlex.quote(str(folder.path))
        raise UserError(f"{folder.path} holds no run to resume; start one with --out {place}.")
    own = read_recipe(folder.recipe)
    asked = own if recipe is None else open_recipe(recipe)
    if recipe is not None:
        if asked.data:
            asked = replace(asked, data=named_data(asked.data))
        refuse_other_recipe(own, asked, folder.path)
    if not own.data and data is None:
        raise UserError(
            f"{folder.path} learns from images that were given in Python; give them again: "
            f"byol.resume({str(folder.path)!r}, data=images)."
        )
    if data is None:
        data = own.data
        refuse_missing(data, folder.path)
    name = named_data(data)
    asked_for = Request(
        recipe=replace(asked, data=name),
        data=name or data,
        folder=folder,
        is_resumed=True,
        overwrite=False,
        **settings,
    )
    refuse_nested(asked_for.data, folder.path)
    return asked_for


def refuse_nested(data: Data, out: Path) -> None:
    """Raise a UserError where the images lie in the run folder, or the run folder among the images.

    A run would be taken for images, or images be lost with a run.

    Args:
        data: the images.
        out: the run folder, whether it exists or not.
    """
    if not (named := named_data(data)) or named == BUILTIN:
        return
    images, folder = Path(named), out.resolve()
    if images.is_relative_to(folder):
        raise UserError(f"the images at {images} lie in the run folder {folder}; choose another --out.")
    if folder.is_relative_to(images):
        raise UserError(f"{folder} lies among the images at {images}; choose an --out outside of it.")


def refuse_other_recipe(own: Recipe, asked: Recipe, place: Path) -> None:
    """Raise a UserError where a run is to be continued with another recipe than its own.

    Args:
        own: of the run, or of its checkpoint.
        asked: with which it is to be continued.
        place: where the first was found.
    """
    if differences := diff(own, asked):
        sides = "; ".join(
            f"{field} is {there!r} there and {here!r} here" for field, there, here in differences
        )
        raise UserError(
            f"{place} is of another recipe: {sides}. Resume with its own, or choose another --out."
        )


def refuse_missing(data: str, run: Path) -> None:
    """Raise a UserError where the images of a run are no longer where it found them."""
    if data != BUILTIN and not Path(data).exists():
        raise UserError(
            f"the images of {run} are no longer at {data}; say where they are now: byol pretrain --resume "
            f"{shlex.quote(str(run))} --data NEW."
        )


def refuse_other_images(before: Mapping[str, Any], now: Identity, run: Path) -> None:
    """Raise a UserError where a run is to go on with other images than it began with.

    Args:
        before: `count` and `digest` of the images that the run began with.
        now: which images there are now.
        run: its folder.
    """
    if before == asdict(now):
        return
    place = shlex.quote(str(run))
    remedy = (
        f"give the images that it began with (--resume {place} --data PATH), or begin another run: "
        f"byol pretrain {place}/recipe.json --data PATH --out NEW."
    )
    if before["count"] != now.count:
        raise UserError(
            f"{run} began with {before['count']:,} images, and there are {now.count:,} now; {remedy}"
        )
    raise UserError(
        f"{run} began with {before['count']:,} images and there are as many now, but of other names, labels "
        f"or contents; {remedy}"
    )

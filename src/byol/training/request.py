"""The arguments of `pretrain`, `extend` and `resume`, checked and completed before anything is built."""

import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from byol.data.opening import BUILTIN, Data, named_data
from byol.errors import UserError, refuse_not_whole
from byol.recipe.names import named, open_recipe
from byol.recipe.spec import Recipe, read_recipe, refuse_wrong_types
from byol.run.folder import RunFolder
from byol.system.files import given_path, place_to_write
from byol.training.bound import refuse_missing, refuse_other_recipe
from byol.training.own_encoder import refuse_unusable
from byol.training.planning import PLANNED_FROM, plan
from byol.training.start import Drawn, Extended, From, Start
from byol.weights.pretrained import Pretrained


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """A run that is to be begun or continued.

    Args:
        recipe: what to compute; its `data` is an absolute path, "builtin", or "" for images given in Python.
        data: what to open: `recipe.data`, or the images themselves.
        folder: of the run.
        encoder: a module of the user's own in place of the recipe's.
        start: the weights of its first step; a continued run has those of its checkpoint.
        is_resumed: continue what the folder holds.
        overwrite: replace what the folder holds.
        workers: processes that decode files, None for one per core.
        checkpoint_seconds: between checkpoints.
    """

    recipe: Recipe
    data: Data
    folder: RunFolder
    encoder: nn.Module | None
    start: Start
    is_resumed: bool
    overwrite: bool
    workers: int | None
    checkpoint_seconds: float

    def __post_init__(self) -> None:
        refuse_wrong_types(self.recipe)
        refuse_wrong_settings(self.encoder, self.workers, self.checkpoint_seconds)

    @property
    def continuation(self) -> str:
        """What to type to continue the run; in Python, if it was given something there."""
        given = {"data=images": not self.recipe.data, "encoder=module": self.encoder is not None}
        words = [word for word, is_needed in given.items() if is_needed]
        if not words:
            return f"byol pretrain --resume {shlex.quote(str(self.folder.path))}"
        return f"byol.resume({str(self.folder.path)!r}, {', '.join(words)})"


def refuse_wrong_settings(encoder: nn.Module | None, workers: int | None, checkpoint_seconds: object) -> None:
    """Raise a UserError where a run cannot be made of what stands beside its recipe."""
    if encoder is not None:
        refuse_unusable(encoder)
    if workers is not None:
        refuse_not_whole("workers", workers, 0)
    if not isinstance(checkpoint_seconds, int | float) or not checkpoint_seconds > 0:
        raise UserError(f"checkpoint_seconds is {checkpoint_seconds!r}; give a number above 0.")


def new(
    data: Data | Recipe | None,
    out: str | os.PathLike[str] | None,
    recipe: Recipe | str | os.PathLike[str] | None,
    start: str | os.PathLike[str] | Pretrained | None = None,
    fit_in: str | None = None,
    **settings: Any,
) -> Request:
    """Check what a new run is asked.

    Args:
        data: where the images are, or the images; None takes the recipe's own.
        out: the run folder.
        recipe: what to compute, a name, or the path of a recipe.json; None for what `recipe_for` finds.
        start: whose weights it begins with; None for drawn ones.
        fit_in: the time that a run without a recipe may take.
        settings: further fields of `Request`.

    Raises:
        UserError: something is missing or out of its range.
    """
    if isinstance(data, Recipe):
        raise UserError("data is a recipe; give it by name: pretrain(data, out, recipe=recipe).")
    folder = folder_for(data, out, **settings)
    begin = Drawn() if start is None else From.opened(start)
    opened = recipe_for(
        *(recipe, begin if isinstance(begin, From) else None, data, fit_in),
        encoder=settings["encoder"],
        workers=settings["workers"],
    )
    data = opened.data if data is None else data
    if isinstance(data, str) and not data:
        raise UserError(
            "say where the images are: --data PATH (a folder, a list, an archive, a pack, or 'builtin')."
        )
    return _begun(opened, data, folder, begin, **settings)


def folder_for(
    data: Data | None,
    out: str | os.PathLike[str] | None,
    *,
    encoder: nn.Module | None,
    overwrite: bool,
    workers: int | None,
    checkpoint_seconds: float,
) -> RunFolder:
    """Return the folder of a new run, once all is checked that needs no recipe: a plan takes its time.

    Raises:
        UserError: something is missing or out of its range, or something is in the way.
    """
    path = place_to_write(out, "say where to write the run: --out RUN (or --resume RUN to continue one).")
    refuse_wrong_settings(encoder, workers, checkpoint_seconds)
    if data is not None:
        refuse_nested(data, path)
    folder = RunFolder(path)
    folder.refuse_occupied(overwrite=overwrite)
    return folder


def suggested(recipe: Recipe | str | os.PathLike[str] | None, start: str | os.PathLike[str] | None) -> Recipe:
    """Return the recipe that is asked for, or one for the weights to start from, or else what plans change.

    Raises:
        UserError: there is no such recipe, or there are no such weights.
    """
    if recipe is not None:
        return open_recipe(recipe)
    return named(PLANNED_FROM) if start is None else From.opened(start).suggested_recipe()


def recipe_for(
    recipe: Recipe | str | os.PathLike[str] | None,
    start: From | None,
    data: Data | None,
    fit_in: str | None,
    encoder: nn.Module | None = None,
    workers: int | None = None,
) -> Recipe:
    """Return the recipe that is asked for, or one that fits the weights to start from, or else a plan's.

    Raises:
        UserError: there is no such recipe, or a time is given to one that has its epochs.
    """
    if fit_in is not None and (recipe is not None or start is not None):
        raise UserError("fit_in is for runs without a recipe, which are planned; leave one of the two away.")
    if recipe is not None:
        return open_recipe(recipe)
    if start is not None:
        return start.suggested_recipe()
    if data is None or (isinstance(data, str) and not data):
        raise UserError(
            "say where the images are: --data PATH (a folder, a list, an archive, a pack, or 'builtin')."
        )
    return plan(data, fit_in=fit_in, encoder=encoder, workers=workers).recipe


def extended(
    run: str | os.PathLike[str],
    epochs: int,
    out: str | os.PathLike[str] | None,
    data: Data | None,
    **settings: Any,
) -> Request:
    """Check what a run that is to go on for more epochs is asked.

    Args:
        run: the folder of the run that is extended, finished or not; nothing is written into it.
        epochs: of the whole, above those that it has.
        out: the run folder of what goes on.
        data: where the images are now, or the images; None for where the run found them.
        settings: further fields of `Request`.

    Raises:
        UserError: there is no run, its images are missing, or a setting is out of its range.
    """
    folder = RunFolder(given_path(run, "say which run to extend: --extend RUN."))
    own = _recipe_of(folder, "extend")
    refuse_not_whole("epochs", epochs, 1)
    if epochs <= own.epochs:
        raise UserError(f"epochs is {epochs}, and {folder.path} has {own.epochs} already; give more.")
    path = place_to_write(out, "say where to write the longer run: --out NEW.")
    data = _images_of(own, folder, data, f"byol.extend({str(folder.path)!r}, {epochs}, OUT, data=images)")
    after = replace(own, epochs=epochs)
    return _begun(after, data, RunFolder(path), Extended.opened(folder, own, after), **settings)


def _begun(recipe: Recipe, data: Data, folder: RunFolder, start: Start, **settings: Any) -> Request:
    name = named_data(data)
    asked = Request(
        recipe=replace(recipe, data=name),
        data=name or data,
        folder=folder,
        start=start,
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
    own = _recipe_of(folder, "resume")
    asked = own if recipe is None else open_recipe(recipe)
    if recipe is not None:
        if asked.data:
            asked = replace(asked, data=named_data(asked.data))
        refuse_other_recipe(own, asked, folder.path)
    data = _images_of(own, folder, data, f"byol.resume({str(folder.path)!r}, data=images)")
    name = named_data(data)
    asked_for = Request(
        recipe=replace(asked, data=name),
        data=name or data,
        folder=folder,
        start=Drawn(),
        is_resumed=True,
        overwrite=False,
        **settings,
    )
    refuse_nested(asked_for.data, folder.path)
    return asked_for


def _recipe_of(folder: RunFolder, what: str) -> Recipe:
    """Return the recipe of a run that is to be resumed or extended."""
    if not folder.recipe.is_file():
        place = shlex.quote(str(folder.path))
        raise UserError(f"{folder.path} holds no run to {what}; begin one: byol pretrain --out {place}.")
    return read_recipe(folder.recipe)


def _images_of(recipe: Recipe, folder: RunFolder, data: Data | None, again: str) -> Data:
    """Return the images that a run goes on with: those that are given, or those that it names itself."""
    if data is not None:
        return data
    if not recipe.data:
        raise UserError(
            f"{folder.path} learns from images that were given in Python; give them again: {again}."
        )
    refuse_missing(recipe.data, folder.path)
    return recipe.data


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

"""Temporary, on this branch alone: the signatures of DESIGN.md over the functions of today."""

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn
from torch.utils.data import Dataset

from byol.data.packing import pack as old_pack
from byol.errors import UserError
from byol.lab import laboratory, speed
from byol.lab.tables import TABLES
from byol.recipe.names import RECIPES, named
from byol.recipe.spec import Recipe, diff
from byol.recipe.spec import read_recipe as old_read
from byol.run.folder import RunFolder
from byol.training import loop
from byol.weights.official import import_official as old_import
from byol.weights.pretrained import Pretrained, load

Path_ = str | os.PathLike[str]
Data = str | os.PathLike[str] | Tensor | Dataset[Any]


@dataclass(frozen=True)
class Simple:
    """What was found."""

    said: str
    rows: tuple[tuple[str, ...], ...] = ()
    fields: Any = None

    @property
    def value(self) -> float | None:
        """Its headline number."""
        return None

    def table(self) -> list[list[str]]:
        """Return the table as rows of strings; the first row is the header."""
        return [list(row) for row in self.rows or (("what",), ("done",))]

    def sentence(self) -> str:
        """Return it in words."""
        return self.said

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return self.fields or {"value": None}


class Packed(Simple):
    """A pack."""


class Imported(Simple):
    """An imported encoder."""


class Exported(Simple):
    """An exported encoder."""


class Ablation(Simple):
    """A table that was run."""


class RecipeList(Simple):
    """Recipes."""

    @property
    def text(self) -> str:
        """What a file of the one recipe holds."""
        import json

        return json.dumps(self.fields, indent=2) if self.fields else ""


class Run(Simple):
    """A run."""


def _home(path: Path_) -> Path:
    return Path(path).expanduser()


def _data(data: Any) -> str:
    if isinstance(data, Tensor | Dataset):
        raise UserError("not yet.")
    return str(data) if str(data) == "builtin" else str(_home(data).resolve())


def read_recipe(path: Path_) -> Recipe:
    """Read a recipe."""
    return old_read(_home(path))


def as_recipe(recipe: Recipe | Path_) -> Recipe:
    """Return a recipe, a named one, or that of a file."""
    if isinstance(recipe, Recipe):
        return recipe
    return read_recipe(_home(recipe)) if str(recipe).endswith(".json") else named(str(recipe))


def pretrain(
    data: Data | None,
    out: Path_,
    *,
    recipe: Recipe | Path_ = "photos",
    encoder: nn.Module | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    checkpoint_seconds: float = 120.0,
) -> Run:
    """Learn an encoder from images without labels, and write a run folder.

    Args:
        data: images: a folder, a list, an archive, a pack or "builtin"; None for the recipe's own.
        out: the run folder to write.
        recipe: what to compute: a recipe, its name, or the path of a recipe.json.
        encoder: any module (B, 3, H, W) -> (B, D) to train in place of the recipe's.
        overwrite: replace a run that `out` already holds.
        workers: processes that decode files; None for one per core.
        checkpoint_seconds: time between checkpoints.

    Raises:
        UserError: a value is wrong.
    """
    recipe = as_recipe(recipe)
    if data is not None:
        recipe = replace(recipe, data=_data(data))
    if not recipe.data:
        raise UserError(
            "say where the images are: --data PATH (a folder, a list, an archive, a pack, or 'builtin')."
        )
    summary = loop.pretrain(recipe, _home(out), encoder=encoder, overwrite=overwrite, workers=workers)
    return Run(f"done: {out}", fields={"value": None, **summary})


def resume(
    run: Path_ | Run,
    *,
    data: Data | None = None,
    encoder: nn.Module | None = None,
    workers: int | None = None,
    checkpoint_seconds: float = 120.0,
) -> Run:
    """Continue a run from its newest checkpoint, exactly as if it had never stopped.

    Args:
        run: the run folder, or a Run.
        data: its images, if they have moved; None for those that it began with.
        encoder: the module that the run trains, where that is your own.
        workers: processes that decode files; None for one per core.
        checkpoint_seconds: time between checkpoints.

    Raises:
        UserError: a value is wrong.
    """
    folder = _home(run)  # type: ignore[arg-type]
    recipe = read_recipe(RunFolder(folder).recipe)
    summary = loop.pretrain(recipe, folder, encoder=encoder, resume=True, workers=workers)
    return Run(f"done: {folder}", fields={"value": None, **summary})


Encoder = str | os.PathLike[str] | Pretrained


def pack(
    data: Data,
    out: Path_,
    *,
    short_side: int = 256,
    quality: int = 90,
    raw: bool = False,
    overwrite: bool = False,
) -> Packed:
    """Write a copy of a set whose images are no larger than needed, as one file that is data like any other.

    Args:
        data: a folder, an archive, a list or a pack.
        out: the file to write; it appears when it is complete.
        short_side: most pixels of an image's shorter side; smaller images are not enlarged.
        quality: of JPEG, in [1, 100].
        raw: write pixels in place of JPEG: exact, and some nine times as large.
        overwrite: replace a file that is there.

    Raises:
        UserError: a value is wrong.
    """
    old_pack(_data(data), _home(out), short_side=short_side, quality=quality, raw=raw, overwrite=overwrite)
    return Packed(f"wrote {out}")


def bench(recipe: Recipe | Path_ = "builtin", *, data: Data | None = None, rounds: int = 5) -> speed.Speed:
    """Measure how fast a recipe is here, beside what the machine can do at most.

    Args:
        recipe: what is run: a recipe, its name, or the path of a recipe.json.
        data: images; None for random ones in memory.
        rounds: times that every part is timed.

    Raises:
        UserError: a value is wrong.
    """
    if rounds < 1:
        raise UserError(f"rounds is {rounds}; use 1 or more.")
    return speed.bench(replace(as_recipe(recipe), data="" if data is None else _data(data)), rounds=rounds)


def ablate(
    table: str,
    out: Path_,
    *,
    recipe: Recipe | Path_ = "builtin",
    data: Data | None = None,
    seeds: int = 3,
    budget: int = 4,
    jobs: int | None = None,
) -> Ablation:
    """Run a table of recipes under one budget, and say what came out.

    Args:
        table: the question, by its name.
        out: folder of tables and runs.
        recipe: the recipe that the table changes.
        data: labelled images; None for the recipe's own.
        seeds: runs of each cell, with seeds 0, 1, ...
        budget: epochs of each run.
        jobs: runs at a time, one core each; None for one per core.

    Raises:
        UserError: a value is wrong.
    """
    if table not in TABLES:
        raise UserError(f"there is no table '{table}'; did you mean predictor-target?")
    recipe = as_recipe(recipe)
    if data is not None:
        recipe = replace(recipe, data=_data(data))
    if not recipe.data:
        raise UserError("say where the images are: --data PATH (or 'builtin').")
    path = laboratory.ablate(TABLES[table](), recipe, _home(out), seeds=seeds, budget=budget, jobs=jobs)
    return Ablation(path.read_text())


def import_official(file: Path_, out: Path_, *, overwrite: bool = False) -> Imported:
    """Turn an officially published checkpoint into an encoder.

    Args:
        file: the checkpoint, or any pickle of a mapping with `online_params` and `online_state`.
        out: the folder to write.
        overwrite: write into a folder that is not empty.

    Raises:
        UserError: a value is wrong.
    """
    return Imported(str(old_import(_home(file), _home(out), overwrite=overwrite)))


def export(
    encoder: Encoder, out: Path_, *, format: Literal["torch", "onnx"] = "torch", overwrite: bool = False
) -> Exported:
    """Write an encoder for other programs, and prove by reading it back that nothing changed.

    Args:
        encoder: an encoder, as for `judge`.
        out: the file to write.
        format: of the file.
        overwrite: replace a file that is there.

    Raises:
        UserError: a value is wrong.
    """
    if not isinstance(encoder, Pretrained):
        load(encoder)  # type: ignore[arg-type]
    return Exported(f"wrote {out}")


def recipes(name: str | None = None, other: str | None = None) -> RecipeList:
    """List the named recipes, show one, or show how two differ.

    Args:
        name: of a recipe; None for all of them.
        other: of a second one, to be set beside the first.

    Raises:
        UserError: there is no such recipe.
    """

    if name is None:
        rows = tuple((key, (make.__doc__ or "").split("\n")[0]) for key, make in RECIPES.items())
        return RecipeList(f"{len(rows)} recipes.", (("recipe", "what it is"), *rows))
    if other is None:
        return RecipeList("", fields=asdict(named(name)))
    differing = tuple((a, str(b), str(c)) for a, b, c in diff(named(name), named(other)))
    return RecipeList(f"{len(differing)} fields differ.", (("field", name, other), *differing))

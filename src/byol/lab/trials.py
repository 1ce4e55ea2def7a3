"""The runs of a table: which there are, each in a process and a folder of its own, and what came out."""

import ctypes
import math
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from byol.errors import Diverged, UserError
from byol.lab.findings import CellOutcome
from byol.lab.tables import Position, Table
from byol.recipe.spec import Recipe
from byol.run import checkpoint
from byol.run.folder import RunFolder
from byol.system.digest import json_digest
from byol.system.files import read_json, write_json


@dataclass(frozen=True)
class Trial:
    """One run of a cell: its recipe with one seed, in a folder of its own.

    Args:
        recipe: what is run, at the budget.
        path: the run folder; its name is a fingerprint of the recipe, so that equal cells share a run.
    """

    recipe: Recipe
    path: Path

    @property
    def summary(self) -> dict[str, Any] | None:
        """What the run found, or None when it has not finished."""
        return _read(RunFolder(self.path).summary)

    @property
    def failure(self) -> str | None:
        """Why the run cannot be finished (its loss became infinite, say), or None."""
        failure = _read(_failure(self.path))
        return None if failure is None else failure["sentence"]

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to do."""
        return self.summary is not None or self.failure is not None


def planned(
    table: Table, base: Recipe, folder: Path, *, seeds: int, budget: int
) -> dict[Position, list[Trial]]:
    """Return the runs of each cell of a table; the warm-up keeps its fraction of the epochs."""
    warmup = base.warmup_epochs * budget / base.epochs
    plan = {}
    for cell in table.cells:
        recipe = replace(cell.change(base), epochs=budget, warmup_epochs=warmup)
        plan[cell.row, cell.column] = [_trial(replace(recipe, seed=seed), folder) for seed in range(seeds)]
    return plan


def outcome(runs: Iterable[Trial]) -> CellOutcome:
    """Return what the runs of one cell found."""
    runs = list(runs)
    summaries = [run.summary for run in runs]
    found = [summary for summary in summaries if summary is not None]

    def mean(name: str) -> float:
        return statistics.fmean(summary[name] for summary in found) if found else math.nan

    return CellOutcome(
        values=tuple(summary["knn_top1"] for summary in found),
        random=mean("knn_top1_random"),
        pixels=mean("knn_top1_pixels"),
        failures=tuple(run.failure for run in runs if run.failure is not None),
        spread=mean("feature_spread"),
        minutes=mean("wall_seconds") / 60,
    )


def _trial(recipe: Recipe, folder: Path) -> Trial:
    fingerprint = json_digest(recipe.to_json(), sort_keys=True, length=12)
    return Trial(recipe, folder / "runs" / fingerprint)


def start(run: Trial, threads: int) -> "subprocess.Popen[bytes]":
    """Begin a run, or continue it, in a process that ends with this one."""
    folder = RunFolder(run.path)
    order = folder.path.with_suffix(".json")
    write_json(order, run.recipe.to_json())
    begun = folder.recipe.exists() and checkpoint.newest(folder.checkpoints) is not None
    words = ["--resume", str(run.path)] if begun else [str(order), "--out", str(run.path), "--overwrite"]
    with run.path.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "byol", "pretrain", *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            start_new_session=True,  # Ctrl-C is for the laboratory, which passes it on once
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )


def take_result(path: Path, code: int) -> None:
    """Note a run that its recipe has made impossible; anything else that went wrong stops the laboratory."""
    if code == 0:
        return
    said = path.with_suffix(".log").read_text(errors="replace").strip().splitlines()
    last = said[-1] if said else ""
    if code != Diverged.exit_code:
        raise UserError(f"run {path} ended with code {code}: {last or 'it said nothing'}")
    write_json(_failure(path), {"sentence": last})


def _failure(path: Path) -> Path:
    return path.with_suffix(".failed")


def _end_with_parent() -> None:
    # Without this a laboratory that is killed leaves runs behind, and the next one would write beside them.
    set_death_signal = 1  # PR_SET_PDEATHSIG of prctl.h
    ctypes.CDLL(None).prctl(set_death_signal, signal.SIGTERM)


def _read(path: Path) -> dict[str, Any] | None:
    return read_json(path) if path.is_file() else None

"""The collapse laboratory: runs a table of recipes under one budget, and says what came out.

Each cell and seed is a run of its own, in its own process and folder, so that whatever stops the laboratory
costs no finished run: the same command goes on where it was.
"""

import ctypes
import hashlib
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from byol.data.opening import open_data
from byol.errors import Interrupted, UserError
from byol.lab.findings import Outcome, as_json, draw_outcomes, report
from byol.lab.tables import Place, Table
from byol.recipe.spec import Recipe
from byol.run import checkpoint
from byol.run.folder import RunFolder
from byol.run.provenance import provenance
from byol.system.device import usable_cores
from byol.system.files import write_json
from byol.system.progress import Progress, duration
from byol.system.stop import StopRequest


@dataclass(frozen=True)
class Run:
    """One recipe and seed, in its folder.

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


def ablate(
    table: Table, base: Recipe, out: str | Path, *, seeds: int = 3, budget: int = 4, jobs: int | None = None
) -> Path:
    """Run a table and write TABLE.md, TABLE.json and TABLE.png into `out`.

    Tables in one folder share the runs that they have in common.

    Args:
        table: the question.
        base: the recipe that the table changes; its data must carry labels.
        out: folder of tables and runs.
        seeds: runs of each cell, with seeds 0, 1, ...
        budget: epochs of each run.
        jobs: runs at a time, one core each; None for one per core (one in all where there is a GPU).

    Returns:
        The path of TABLE.md.

    Raises:
        UserError: a value is out of range, or the data have no labels.
        Interrupted: it was asked to stop; the runs that were going on have saved themselves.
    """
    if seeds < 1 or budget < 1 or (jobs is not None and jobs < 1):
        raise UserError(f"seeds is {seeds}, budget {budget} and jobs {jobs}; each must be 1 or more.")
    if any(images.labels is None for images in open_data(base.data).values()):
        raise UserError(f"{base.data} has no labels to judge by; put the images of each class into a folder.")
    folder = Path(out)
    runs = planned(table, base, folder, seeds=seeds, budget=budget)
    distinct = list({run.path: run for cell in runs.values() for run in cell}.values())
    carry_out(distinct, jobs or _jobs())
    outcomes = {place: outcome(cell) for place, cell in runs.items()}
    facts = provenance(
        table=table.name,
        recipe=base.name,
        data=Path(base.data).name,
        seeds=seeds,
        budget_epochs=budget,
    )
    write_json(folder / f"{table.name}.json", {"provenance": facts, "cells": as_json(table, outcomes)})
    draw_outcomes(folder / f"{table.name}.png", table, outcomes)
    path = folder / f"{table.name}.md"
    path.write_text(report(table, outcomes, facts))
    return path


def planned(table: Table, base: Recipe, folder: Path, *, seeds: int, budget: int) -> dict[Place, list[Run]]:
    """Return the runs of each cell of a table; the warm-up keeps its share of the epochs."""
    warmup = base.warmup_epochs * budget / base.epochs
    plan = {}
    for cell in table.cells:
        recipe = replace(cell.change(base), epochs=budget, warmup_epochs=warmup)
        plan[cell.row, cell.column] = [_run(replace(recipe, seed=seed), folder) for seed in range(seeds)]
    return plan


def carry_out(runs: list[Run], jobs: int) -> None:
    """Bring every run to its end, some at a time; what is over already is left alone.

    Raises:
        Interrupted: on Ctrl-C or SIGTERM, after the runs that were going on have saved themselves.
        UserError: a run failed in a way that is not its recipe's result.
    """
    waiting = [run for run in runs if not run.is_over]
    going: dict[Path, subprocess.Popen[bytes]] = {}
    begun, total = time.monotonic(), len(waiting)
    with Progress() as progress, StopRequest() as stop, _ended(going):
        progress.say(f"{len(runs)} runs, {len(runs) - total} of them over already, {jobs} at a time")
        while waiting or going:
            while waiting and len(going) < jobs and not stop.received:
                run = waiting.pop(0)
                going[run.path] = _start(run, threads=max(1, usable_cores() // jobs))
            if stop.received:
                raise Interrupted("stopped; the same command goes on where it was.", stop.received)
            for path, process in list(going.items()):
                if process.poll() is not None:
                    del going[path]
                    _take_result(path, process.returncode)
            over = total - len(waiting) - len(going)
            passed = time.monotonic() - begun
            left = duration(passed / over * (total - over)) if over else "unknown"
            progress.show(f"{over} of {total} runs over, {len(going)} going on, ETA {left}")
            time.sleep(0.2)


def outcome(runs: Iterable[Run]) -> Outcome:
    """Return what the runs of one cell found."""
    runs = list(runs)
    summaries = [run.summary for run in runs]
    found = [summary for summary in summaries if summary is not None]

    def mean(name: str) -> float:
        return statistics.fmean(summary[name] for summary in found) if found else math.nan

    return Outcome(
        values=tuple(summary["knn_top1"] for summary in found),
        random=mean("knn_top1_random"),
        pixels=mean("knn_top1_pixels"),
        failures=tuple(run.failure for run in runs if run.failure is not None),
        spread=mean("feature_spread"),
        minutes=mean("wall_seconds") / 60,
    )


def _run(recipe: Recipe, folder: Path) -> Run:
    fingerprint = hashlib.sha256(json.dumps(recipe.to_json(), sort_keys=True).encode()).hexdigest()[:12]
    return Run(recipe, folder / "runs" / fingerprint)


def _start(run: Run, threads: int) -> "subprocess.Popen[bytes]":
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
            preexec_fn=_end_with_parent,
        )


@contextmanager
def _ended(going: dict[Path, "subprocess.Popen[bytes]"]) -> Iterator[None]:
    """Ask the runs that are still going on to save themselves, however one leaves, and wait for them."""
    try:
        yield
    finally:
        for process in going.values():
            process.terminate()
        for process in going.values():
            process.wait()


def _take_result(path: Path, code: int) -> None:
    """Note a run that its recipe has made impossible; anything else that went wrong stops the laboratory."""
    if code == 0:
        return
    said = path.with_suffix(".log").read_text(errors="replace").strip().splitlines()
    last = said[-1] if said else ""
    if "the loss became" not in last:
        raise UserError(f"run {path} ended with code {code}: {last or 'it said nothing'}")
    write_json(_failure(path), {"sentence": last})


def _failure(path: Path) -> Path:
    return path.with_suffix(".failed")


def _end_with_parent() -> None:
    # Without this a laboratory that is killed leaves runs behind, and the next one would write beside them.
    if sys.platform == "linux":
        set_death_signal = 1  # PR_SET_PDEATHSIG of prctl.h
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGTERM)


def _jobs() -> int:
    import torch

    return 1 if torch.cuda.is_available() else usable_cores()


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.is_file() else None

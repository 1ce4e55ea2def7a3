"""The collapse laboratory: runs a table of recipes under one budget, and says what came out.

Each cell and seed is a run of its own, in its own process and folder, so that whatever stops the laboratory
costs no finished run: the same command goes on where it was.
"""

import math
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from byol.data.opening import named_data, open_data
from byol.errors import Interrupted, UserError, refuse_not_whole
from byol.lab.findings import CellOutcome, as_json, draw_outcomes, report, verdict
from byol.lab.tables import Position, Table, open_table
from byol.lab.trials import Trial, outcome, planned, start, take_result
from byol.recipe.names import open_recipe
from byol.recipe.spec import Recipe, refuse_wrong_types
from byol.run.folder import RunFolder
from byol.run.provenance import provenance
from byol.system.device import usable_cores
from byol.system.files import place_to_write, write_json, write_text
from byol.system.progress import Progress, duration
from byol.system.stop import StopRequest
from byol.training.request import refuse_nested


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """What a table of recipes found.

    Args:
        path: of TABLE.md; TABLE.json and TABLE.png lie beside it.
        question: the table.
        outcomes: of each cell, (row, column) -> outcome.
    """

    path: Path
    question: Table
    outcomes: Mapping[Position, CellOutcome]

    @property
    def verdicts(self) -> list[str]:
        """Of each finding of the papers: "holds", "does not hold" or "undecided"."""
        return [verdict(finding, self.outcomes) for finding in self.question.findings]

    @property
    def value(self) -> float | None:
        """How many findings of the papers hold here; None where the table names none."""
        return float(self.verdicts.count("holds")) if self.verdicts else None

    def table(self) -> list[list[str]]:
        """Return the cells as rows of strings; the first row is the header."""
        row, column = self.question.axes
        rows = [[row, column, "kNN top-1, %", "feature spread", "published, %"]]
        for cell in self.question.cells:
            found = self.outcomes[cell.row, cell.column]
            spread = f"{found.spread:.2f}" if math.isfinite(found.spread) else "-"
            published = "-" if cell.published is None else f"{cell.published:g}"
            rows.append([cell.row, cell.column, str(found), spread, published])
        return rows

    def sentence(self) -> str:
        """Return how many of the findings hold."""
        counts = [f"{self.verdicts.count(word)} {word}" for word in dict.fromkeys(self.verdicts)]
        return f"{len(self.verdicts)} findings of the papers: {', '.join(counts) or 'none'}; {self.path}"

    def to_json(self) -> dict[str, Any]:
        """Return cells and findings as JSON values."""
        findings = [
            {"sentence": finding.sentence, "verdict": said}
            for finding, said in zip(self.question.findings, self.verdicts, strict=True)
        ]
        cells = as_json(self.question, self.outcomes)
        return {
            "table": self.question.name,
            "path": str(self.path),
            "cells": cells,
            "findings": findings,
            "value": self.value,
        }


def ablate(
    table: Table | str,
    out: str | os.PathLike[str],
    *,
    recipe: Recipe | str | os.PathLike[str] = "builtin",
    data: str | os.PathLike[str] | None = None,
    seeds: int = 3,
    budget: int = 4,
    jobs: int | None = None,
) -> Ablation:
    """Run a table of recipes under one budget and write TABLE.md, TABLE.json and TABLE.png into `out`.

    Each run is a process of its own. Stopped with Ctrl-C, it goes on when it is called again. Tables in one
    folder share the runs that they have in common.

    Args:
        table: the name of a table, such as "tau"; in Python also a `Table` of one's own.
        out: folder of tables and runs.
        recipe: what the table changes: a recipe, its name, or the path of a recipe.json.
        data: labelled images; None for the recipe's own.
        seeds: runs of each cell, with seeds 0, 1, ...
        budget: epochs of each run.
        jobs: runs at a time, one core each; None for one per core (one in all where there is a GPU).

    Raises:
        UserError: a value is out of range, or the data have no labels.
        Interrupted: it was asked to stop; the runs that were going on have saved themselves.
    """
    table = table if isinstance(table, Table) else open_table(table)
    base = open_recipe(recipe)
    refuse_wrong_types(base)
    folder = place_to_write(out, "say where to write the table and its runs: --out DIR.")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; give a folder for the table and its runs: --out DIR.")
    for name, number in (("seeds", seeds), ("budget", budget), ("jobs", 1 if jobs is None else jobs)):
        refuse_not_whole(name, number, 1)
    if data is not None and not isinstance(data, str | os.PathLike):
        raise UserError(f"data is a {type(data).__name__}; each run is a process of its own, so give a path.")
    data = base.data if data is None else data
    if not os.fspath(data):
        raise UserError("say where the images are: --data PATH (labelled ones, or 'builtin').")
    base = replace(base, data=named_data(data))
    refuse_nested(base.data, folder)
    if any(images.labels is None for images in open_data(base.data).values()):
        raise UserError(f"{base.data} has no labels to judge by; put the images of each class into a folder.")
    trials = planned(table, base, folder, seeds=seeds, budget=budget)
    distinct = list({trial.path: trial for cell in trials.values() for trial in cell}.values())
    carry_out(distinct, jobs or _jobs())
    outcomes = {position: outcome(cell) for position, cell in trials.items()}
    facts = provenance(
        table=table.name,
        recipe=base.name,
        data=Path(base.data).name,
        seeds=seeds,
        budget_epochs=budget,
    )
    _write(folder, table, outcomes, facts)
    return Ablation(path=folder / f"{table.name}.md", question=table, outcomes=outcomes)


def _write(
    folder: Path, table: Table, outcomes: Mapping[Position, CellOutcome], facts: dict[str, Any]
) -> None:
    """Write what a table found; trouble there loses nothing, as it is returned and its runs are kept."""
    writes: dict[str, Callable[[Path], None]] = {
        "json": partial(write_json, value={"provenance": facts, "cells": as_json(table, outcomes)}),
        "png": partial(draw_outcomes, table=table, outcomes=outcomes),
        "md": partial(write_text, text=report(table, outcomes, facts)),
    }
    with Progress() as progress:
        for ending, write in writes.items():
            path = folder / f"{table.name}.{ending}"
            try:
                write(path)
            except OSError as error:
                progress.say(f"note: {path} could not be written: {error.strerror or error}.")


def carry_out(runs: list[Trial], jobs: int) -> None:
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
                run = next((run for run in waiting if not RunFolder(run.path).is_in_use), None)
                if run is None:  # a laboratory was killed a moment ago, and its runs still save themselves
                    break
                waiting.remove(run)
                going[run.path] = start(run, threads=max(1, usable_cores() // jobs))
            if stop.received:
                raise Interrupted("stopped; the same command goes on where it was.", stop.received)
            for path, process in list(going.items()):
                if process.poll() is not None:
                    del going[path]
                    take_result(path, process.returncode)
            over = total - len(waiting) - len(going)
            passed = time.monotonic() - begun
            left = duration(passed / over * (total - over)) if over else "unknown"
            progress.show(f"{over} of {total} runs over, {len(going)} going on, ETA {left}")
            time.sleep(0.2)


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


def _jobs() -> int:
    import torch

    return 1 if torch.cuda.is_available() else usable_cores()

"""The laboratory runs real processes; its runs are those of the command line."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import byol.training.loop
from byol.answer import Answer
from byol.data.loader import Batch, batches
from byol.errors import Interrupted, UserError
from byol.lab.changes import put
from byol.lab.findings import CellOutcome
from byol.lab.laboratory import ablate
from byol.lab.tables import Cell, Table
from byol.lab.trials import planned
from byol.model.target import Shared
from byol.recipe.spec import Recipe
from byol.run.folder import RunFolder
from byol.training.runs import pretrain

TABLE = Table(
    "small",
    "Which target?",
    ("target", ""),
    "nobody",
    (Cell("EMA", "x", put()), Cell("shared", "x", put(target=Shared())), Cell("the same", "x", put())),
    (),
)


def test_equal_cells_share_their_runs_and_the_warm_up_keeps_its_share(
    tiny: Callable[[Path | str], Recipe], tmp_path: Path
) -> None:
    plan = planned(TABLE, tiny("builtin"), tmp_path, seeds=2, budget=2)
    assert [run.path for run in plan["EMA", "x"]] == [run.path for run in plan["the same", "x"]]
    paths = {run.path for runs in plan.values() for run in runs}
    assert len(paths) == 4
    recipe = plan["shared", "x"][1].recipe
    assert (recipe.epochs, recipe.warmup_epochs, recipe.seed) == (2, 0.5, 1)


def test_a_table_is_run_written_and_not_run_again(
    tiny: Callable[[Path | str], Recipe], thumbnails: Path, tmp_path: Path
) -> None:
    out = tmp_path / "lab"
    base = tiny(thumbnails)
    # An absurd learning rate: this run's loss becomes infinite, which is a result and no accident.
    wild = replace(base.optimizer, base_lr=1e30)
    table = replace(TABLE, cells=(*TABLE.cells, Cell("wild", "x", put(optimizer=wild))))
    found = ablate(table, out, recipe=base, seeds=1, budget=2, jobs=2)
    text = found.path.read_text()
    assert "| wild | **diverged** |" in text
    answer: Answer = found
    assert found.path == out / "small.md"
    assert [row[0] for row in answer.table()] == ["target", "EMA", "shared", "the same", "wild"]
    assert answer.table()[4][2] == "diverged"
    assert (answer.value, answer.to_json()["value"]) == (None, None)  # the table names no findings
    assert "0 findings" in answer.sentence()
    assert {file.name for file in out.iterdir()} == {"runs", "small.md", "small.json", "small.png"}
    summaries = {file: file.stat().st_mtime_ns for file in out.glob("runs/*/summary.json")}
    assert len(summaries) == 2
    started = time.monotonic()
    ablate(table, out, recipe=base, seeds=1, budget=2, jobs=2)
    assert time.monotonic() - started < 10  # drawing the figure alone; a run takes as long as importing torch
    assert summaries == {file: file.stat().st_mtime_ns for file in out.glob("runs/*/summary.json")}


def test_what_a_table_found_is_returned_where_it_cannot_be_written(
    tiny: Callable[[Path | str], Recipe],
    thumbnails: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("byol.lab.laboratory.carry_out", lambda runs, jobs: None)
    monkeypatch.setattr(
        "byol.lab.laboratory.outcome", lambda cell: CellOutcome((50.0,), 20.0, 30.0, (), 0.9, 0.1)
    )
    for ending in ("json", "png", "md"):
        (tmp_path / "lab" / f"small.{ending}").mkdir(parents=True)
    found = ablate(TABLE, tmp_path / "lab", recipe=tiny(thumbnails), seeds=1, budget=1)
    assert found.table()[1][2].startswith("50")
    said = capsys.readouterr().err
    for ending in ("json", "png", "md"):
        assert f"small.{ending} could not be written: " in said


def test_a_stopped_laboratory_ends_its_runs_and_says_how_to_go_on(
    tiny: Callable[[Path | str], Recipe], thumbnails: Path, tmp_path: Path
) -> None:
    out = tmp_path / "lab"
    words = [sys.executable, "-m", "byol", "ablate", "predictor-target", "--recipe", "builtin"]
    words += ["--data", str(thumbnails), "--out", str(out), "--seeds", "1", "--budget", "1", "--jobs", "1"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env={**os.environ})
    while not list(out.glob("runs/*.log")):
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert "the same command goes on" in said


@pytest.mark.slow
def test_a_run_that_was_stopped_half_way_is_continued_and_not_begun_again(
    tiny: Callable[[Path | str], Recipe], thumbnails: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, table = tiny(thumbnails), replace(TABLE, cells=TABLE.cells[:1])
    ((run,),) = planned(table, base, tmp_path / "lab", seeds=1, budget=2).values()

    def stream(*args: Any, **kwargs: Any) -> Iterator[Batch]:
        for batch in batches(*args, **kwargs):
            if batch.step == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    monkeypatch.setattr(byol.training.loop, "batches", stream)
    with pytest.raises(Interrupted):
        pretrain(None, run.path, recipe=run.recipe)
    begun = RunFolder(run.path).provenance.stat().st_mtime_ns
    ablate(table, tmp_path / "lab", recipe=base, seeds=1, budget=2, jobs=1)
    assert run.summary is not None
    assert run.summary["steps"] == 6
    assert RunFolder(run.path).provenance.stat().st_mtime_ns == begun  # written when a run is begun
    assert "steps 4 to 6" in run.path.with_suffix(".log").read_text()


@pytest.mark.slow
def test_a_run_that_fails_for_another_reason_stops_the_laboratory_with_its_sentence(
    tiny: Callable[[Path | str], Recipe], thumbnails: Path, tmp_path: Path
) -> None:
    base = replace(tiny(thumbnails), batch_size=64)
    with pytest.raises(UserError, match="batch_size is 64, but there are only 26 images"):
        ablate(
            replace(TABLE, cells=TABLE.cells[:1]), tmp_path / "lab", recipe=base, seeds=1, budget=1, jobs=1
        )


def test_images_without_labels_are_refused_before_anything_is_run(
    tiny: Callable[[Path | str], Recipe], thumbnails: Path, tmp_path: Path
) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for picture in thumbnails.rglob("*.png"):
        picture.rename(flat / picture.name)
    with pytest.raises(UserError, match="has no labels"):
        ablate(TABLE, tmp_path / "lab", recipe=tiny(flat), seeds=1, budget=1)
    assert not (tmp_path / "lab").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seeds": 0}, "seeds is 0; use 1 or more"),
        ({"budget": 0}, "budget is 0; use 1 or more"),
        ({"jobs": 0}, "jobs is 0; use 1 or more"),
        ({"seeds": 1.5}, "seeds is 1.5; give a whole number"),
        ({"table": "tua"}, "there is no table 'tua'; did you mean tau?"),
        ({"out": ""}, "say where to write the table and its runs: --out DIR"),
        ({"recipe": "photos"}, "say where the images are: --data PATH"),
        ({"data": 3}, "data is a int; each run is a process of its own, so give a path"),
        ({"data": "/nowhere"}, "no images at /nowhere"),
    ],
)
def test_what_is_asked_wrongly_is_one_sentence(
    wrong: dict[str, Any], message: str, tiny: Callable[[Path | str], Recipe], tmp_path: Path
) -> None:
    asked = {"table": TABLE, "out": tmp_path, "recipe": tiny("builtin"), **wrong}
    with pytest.raises(UserError, match=message):
        ablate(asked.pop("table"), asked.pop("out"), **asked)
    assert list(tmp_path.iterdir()) == []

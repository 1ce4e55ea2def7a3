import json
import os
import shutil
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from byol.answer import Answer
from byol.errors import UserError
from byol.recipe.spec import Recipe
from byol.run.folder import RunFolder
from byol.training.result import Run, not_beaten
from byol.training.runs import pretrain
from byol.weights.pretrained import load

MakeRecipe = Callable[[Path | str], Recipe]


def test_a_run_answers_and_stands_for_its_folder(tiny: MakeRecipe, thumbnails: Path, tmp_path: Path) -> None:
    run = pretrain(None, tmp_path / "run", recipe=tiny(thumbnails))
    answer: Answer = run
    assert answer.to_json() == {**run.summary, "value": run.summary["knn_top1"]}
    assert json.loads(RunFolder(run.path).summary.read_text()) == run.summary
    header, *rows = answer.table()
    assert {len(row) for row in (header, *rows)} == {2}
    assert [row[1] for row in rows][3] == f"{answer.value:.2f}"
    assert f"kNN top-1 {answer.value:.1f} %" in answer.sentence()
    assert run.recipe == tiny(thumbnails)
    assert run.records[0]["step"] == 1
    assert Run(os.fspath(run)) == Run(tmp_path / "run") == run
    with pytest.raises(FrozenInstanceError):
        run.path = tmp_path  # type: ignore[misc]
    assert run.load().fingerprint() == load(Path(run)).fingerprint()


def test_without_labels_a_run_has_no_headline(tiny: MakeRecipe, thumbnails: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in thumbnails.rglob("*.png"):
        path.rename(flat / path.name)
    run = pretrain(flat, tmp_path / "run", recipe=tiny("builtin"))
    assert run.value is None
    assert run.to_json()["value"] is None
    assert "no labels to judge by" in run.sentence()
    assert [row[0] for row in run.table()[1:]] == ["loss", "feature spread", "effective rank"]


def test_a_run_that_is_not_finished_says_so(tiny: MakeRecipe, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(overwrite=False)
    folder.recipe.write_text(json.dumps(tiny("builtin").to_json()))
    run = Run(folder.path)
    assert (run.is_finished, run.value, run.records) == (False, None, [])
    assert "is not finished; its last record is of step 0" in run.sentence()
    with pytest.raises(UserError, match="is not finished; continue it with: byol pretrain --resume"):
        run.summary  # noqa: B018


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        Run(tmp_path)


@pytest.mark.parametrize("text", ["[", "{}", "[1]", '{"recipe": 3}', "[" * 100_000, "\\udcff"])
def test_a_damaged_summary_is_one_sentence(text: str, made: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(made / "run", tmp_path / "run"))
    (run / "summary.json").write_text(text)
    with pytest.raises(UserError, match=r"summary\.json is damaged"):
        Run(run).sentence()


def test_a_summary_with_a_number_of_another_type_is_damaged(made: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(made / "run", tmp_path / "run"))
    summary = Run(run).summary
    for name in ("knn_top1", "wall_seconds"):
        (run / "summary.json").write_text(json.dumps({**summary, name: "many"}))
        with pytest.raises(UserError, match=f"{name} is 'many'; write it again"):
            Run(run).table()


def test_a_run_whose_records_were_deleted_is_shown_without_them(made: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(made / "run", tmp_path / "run"))
    summary = {"recipe": "tiny", "epochs": 2, "wall_seconds": 1.0}
    (run / "summary.json").write_text(json.dumps(summary | {"loss": None, "feature_spread": None}))
    assert "feature spread -, and no labels" in Run(run).sentence()
    assert Run(run).table()[1:] == [["loss", "-"], ["feature spread", "-"], ["effective rank", "-"]]


@pytest.mark.parametrize(
    ("random", "pixels", "said"),
    [
        (20.0, 30.0, ""),
        (50.0, 20.0, ", so it is NOT ahead of random initialization: this run has not helped;"),
        (20.0, 60.0, ", so it is NOT ahead of raw pixels;"),
        (
            51.0,
            60.0,
            ", so it is NOT ahead of random initialization and raw pixels: this run has not helped;",
        ),
    ],
)
def test_a_run_says_what_it_is_not_ahead_of(
    random: float, pixels: float, said: str, tiny: MakeRecipe, thumbnails: Path, tmp_path: Path
) -> None:
    run = pretrain(None, tmp_path / "run", recipe=tiny(thumbnails))
    file = RunFolder(run.path).summary
    summary = json.loads(file.read_text())
    assert summary["not_beaten"] == not_beaten(summary)
    scores = {
        "knn_top1": 50.0,
        "knn_top1_random": random,
        "knn_top1_pixels": pixels,
        "knn_top1_histograms": 1.0,
    }
    file.write_text(json.dumps(summary | scores))
    assert said in run.sentence()
    assert ("NOT ahead" in run.sentence()) == bool(said)

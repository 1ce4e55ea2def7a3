"""The command line as a person meets it: in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from byol.cli import main
from byol.cli.verbs import EVALUATIONS, VERBS
from byol.recipe.names import RECIPES
from byol.recipe.spec import Recipe, read_recipe
from byol.run.folder import RunFolder

MakeRecipe = Callable[[Path | str], Recipe]
BYOL = [sys.executable, "-m", "byol"]
QUICK = ["--views.size", "8", "--batch-size", "8", "--epochs", "2", "--encoder.widths", "4", "8"]


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one sentence with which a command refuses."""
    assert main(words) == 2
    said = capsys.readouterr().err
    *notes, sentence = said.splitlines()
    assert all(note.startswith("note: ") for note in notes), said
    assert sentence.startswith("byol: ")
    return f"{sentence}\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["pretrian"], "did you mean pretrain"),
        (["eval", "kn", "RUN"], "did you mean knn"),
        (["pretrain", "cifar-10", "--out", "x"], "did you mean cifar10"),
        (
            ["pretrain", "builtin", "--out", "x", "--optimizer.base-lrr", "3"],
            "did you mean --optimizer.base-lr",
        ),
        (["pretrain", "builtin"], "--out RUN"),
        (["pretrain", "photos", "--out", "x"], "--data PATH"),
        (["pretrain", "photos", "--out", "x", "--data", "/nowhere"], "no images at /nowhere"),
        (["pretrain", "none.json", "--out", "x"], "none.json cannot be read"),
        (["pretrain", "builtin", "--out", "x", "--batch-size", "1"], "batch norm"),
        (["pretrain", "builtin", "--out", "x", "--batch-size", "20000"], "10000 images"),
        (["pretrain", "--resume", "/nowhere"], "/nowhere holds no run"),
        (["pretrain", "--resume"], "which run to continue"),
        (["pretrain", "--resume", "x", "--out", "y"], "leave --out away"),
        (["pretrain", "cifar10", "--resume", "x"], "x holds no run to resume"),
        (["resume"], "which run to continue"),
        (["resume", "/nowhere"], "/nowhere"),
        (["pretrain", "builtin", "--out", "x", "--epochs", "many"], "--epochs is many; give a whole number"),
        (["pretrain", "builtin", "--out", "x", "--epochs"], "--epochs has no value; give a whole number"),
        (["pretrain", "builtin", "--out", "x", "--precision", "fp8"], "give one of auto, bf16, float32"),
        (["pretrain", "builtin", "--out", "x", "--encoder.widths", "8", "a"], "--encoder.widths is 8 a;"),
        (["pretrain", "builtin", "--out", "x", "--workers", "-1"], "workers is -1"),
        (["pretrain", "--out", "x", "builtin"], "'builtin' belongs to no flag; words come first"),
        (["pretrain", "--out", "x", "--data", "builtin", "--overwrite", "yes"], "'yes' belongs to no flag"),
        (["eval", "--data", "builtin"], "which protocol"),
        (["eval", "knn", "x"], "which images"),
        (["eval", "knn", "x", "--data", "builtin", "--k", "3.5"], "--k is 3.5; give a whole number"),
        (["compare", "x", "y", "--data", "builtin", "--protocol", "linaer"], "did you mean linear"),
        (["completion", "bsh"], "did you mean bash"),
        (["export"], "which encoder"),
        (["export", "x"], "--out FILE"),
        (["export", "/nowhere", "--out", "y"], "no encoder at /nowhere"),
        (["recipes", "a", "b", "c"], "'c' is one word too many"),
        (["bench", "builtin", "--rounds", "0"], "rounds is 0; use 1 or more"),
        (["eval", "knn", "--data", "builtin"], "which encoder"),
        (["eval", "knn", "/nowhere", "--data", "builtin"], "no encoder at /nowhere"),
        (["recipes", "builtn"], "did you mean builtin"),
        (["ablate", "predictor-targets", "--out", "x"], "did you mean predictor-target?"),
        (["ablate", "tau"], "--out DIR"),
        (["ablate", "tau", "--out", "x", "--recipe", "photos"], "--data PATH"),
        (["ablate", "tau", "--out", "x", "--seeds", "0"], "1 or more"),
        (["pack"], "which images"),
        (["pack", "x"], "--out FILE"),
        (["pack", "x", "--out", "y", "--short-sid", "3"], "did you mean --short-side"),
        (["pack", "/nowhere", "--out", "y"], "no images at /nowhere"),
        (["import"], "which checkpoint"),
        (["import", "x.pkl"], "--out RUN"),
        (["import", "/nowhere.pkl", "--out", "x"], "nowhere.pkl cannot be read"),
    ],
)
def test_what_cannot_work_is_one_sentence(
    words: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence in refused(words, capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_written_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    said = refused(["pretrain", "builtin", "--out", str(tmp_path / "file" / "run")], capsys)
    assert "is a file, so nothing can be written below it" in said


def test_a_relative_path_of_the_data_is_kept_whole(
    thumbnails: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(thumbnails.parent)
    assert main(["pretrain", "builtin", "--data", thumbnails.name, "--out", "run", *QUICK]) == 0
    monkeypatch.chdir(thumbnails)
    assert read_recipe(tmp_path / "run" / "recipe.json").data == str(thumbnails)


def test_a_wrong_type_is_refused_with_the_flag_and_exit_code_two() -> None:
    done = subprocess.run(
        [*BYOL, "pretrain", "builtin", "--out", "x", "--epochs", "many"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "--epochs" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_flags_change_one_field_and_keep_the_others(tmp_path: Path, thumbnails: Path) -> None:
    out = tmp_path / "run"
    words = [
        "pretrain",
        "builtin",
        "--data",
        str(thumbnails),
        "--out",
        str(out),
        *QUICK,
        "--target.tau-base",
        "0.5",
    ]
    assert main(words) == 0
    written = read_recipe(RunFolder(out).recipe)
    assert (written.target.tau_base, written.epochs, written.encoder.widths) == (0.5, 2, (4, 8))  # type: ignore[union-attr]
    assert written.optimizer == RECIPES["builtin"]().optimizer
    assert written.views.second == RECIPES["builtin"]().views.second


def test_every_field_of_a_recipe_is_a_flag_with_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "builtin", "--help-all"]) == 0
    said = capsys.readouterr().out
    for field in fields(Recipe):
        assert f"--{field.name.replace('_', '-')}" in said, field.name
    for flag in ("--out", "--overwrite", "--workers"):
        assert flag in said, flag
    assert main(["pretrain", "--help"]) == 0
    assert "byol pretrain --resume" in capsys.readouterr().out


def test_recipes_are_listed_shown_and_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in RECIPES)
    assert main(["recipes", "imagenet-1000"]) == 0
    assert json.loads(capsys.readouterr().out)["target"]["tau_base"] == 0.996
    assert main(["recipes", "imagenet-300", "imagenet-100"]) == 0
    compared = capsys.readouterr().out
    assert "optimizer.base_lr" in compared
    assert "weight_decay" not in compared


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == main([]) == 0
    said = capsys.readouterr().out
    assert all(f"byol {verb}" in said for verb in VERBS)
    assert main(["--version"]) == 0
    capsys.readouterr()
    assert main(["eval"]) == main(["eval", "--help"]) == 0
    assert capsys.readouterr().out.count("weighted nearest neighbors") == 2
    assert main(["ablate"]) == 0
    assert "predictor-target" in capsys.readouterr().out


def start(words: list[str]) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*BYOL, *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_saves_and_the_sentence_it_leaves_behind_resumes(
    number: signal.Signals, photographs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = ["pretrain", "builtin", "--data", str(photographs), "--out", str(out), *QUICK, "--epochs", "30"]
    running = start([*words, "--workers", "1"])
    deadline = time.monotonic() + 120
    while not (RunFolder(out).metrics.exists() and RunFolder(out).metrics.read_text().count("\n") > 3):
        assert running.poll() is None, running.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    running.send_signal(number)
    said = running.communicate(timeout=60)[1]
    assert running.returncode == 128 + number
    assert f"byol pretrain --resume {out}" in said
    assert "Traceback" not in said
    assert main(["pretrain", "--resume", str(out)]) == 0
    assert json.loads(RunFolder(out).summary.read_text())["steps"] == 26 * 30 // 8


def test_a_run_that_is_going_on_is_left_alone(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["pretrain", "builtin", "--data", str(photographs), "--out", str(out), *QUICK, "--epochs", "500"]
    running = start([*words, "--workers", "1"])
    try:
        deadline = time.monotonic() + 120
        while not RunFolder(out).metrics.exists():
            assert running.poll() is None, running.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for others in ([*words, "--overwrite"], ["resume", str(out)]):
            assert f"a run is going on in {out} (process {running.pid})" in refused(others, capsys)
    finally:
        running.kill()
        running.communicate()
    assert RunFolder(out).metrics.exists()


def test_a_run_is_resumed_with_its_own_recipe_and_no_other(
    tmp_path: Path, thumbnails: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, recipe = tmp_path / "run", tmp_path / "mine.json"
    assert main(["pretrain", "builtin", "--data", str(thumbnails), "--out", str(out), *QUICK]) == 0
    recipe.write_text((out / "recipe.json").read_text())
    assert main(["pretrain", str(recipe), "--resume", str(out)]) == 0
    capsys.readouterr()
    said = refused(["pretrain", "photos", "--resume", str(out)], capsys)
    assert f"{out} is of another recipe: name is 'builtin' there and 'photos' here" in said
    said = refused(["pretrain", "--resume", str(out), "--epochs", "5"], capsys)
    assert "there is no flag --epochs; a run is continued as it was begun" in said


def test_eval_prints_one_json_object(
    tmp_path: Path, thumbnails: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    assert main(["pretrain", "builtin", "--data", str(thumbnails), "--out", out, *QUICK]) == 0
    capfd.readouterr()
    assert main(["eval", "knn", out, "--data", str(thumbnails), "--k", "5", "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert [row["encoder"] for row in result["rows"]] == [
        *(out, "random initialization", "raw pixels", "histograms")
    ]
    assert 0 <= result["rows"][0]["metrics"]["top1"]["value"] <= 100
    assert (result["settings"]["k"], result["learned_from"], result["judged"]) == (5, 26, 26)
    (line,) = (tmp_path / "run" / "results" / "results.jsonl").read_text().splitlines()
    assert json.loads(line) == result


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few seconds on pictures of two kinds, which also serve to judge it."""
    folder, random = tmp_path_factory.mktemp("cli"), np.random.default_rng(0)
    for number in range(60):
        split, kind = ("test", "train")[number % 3 > 0], ("dark", "light")[number % 2]
        path = folder / "set" / split / kind / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        level = 90 + 60 * (number % 2)
        Image.fromarray(np.clip(random.normal(level, 40, (8, 8, 3)), 0, 255).astype(np.uint8)).save(path)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("BYOL_CACHE", str(folder / "cache"))
        words = ["pretrain", "builtin", "--data", str(folder / "set"), "--out", str(folder / "run"), *QUICK]
        assert main(words) == 0
    return folder / "run"


@pytest.mark.parametrize(
    "words",
    [
        ["knn", "--k", "3", "--temperature", "0.1"],
        ["linear", "--strengths", "1", "0.1", "--flip"],
        ["linear-paper", "--epochs", "1", "--lrs", "0.1"],
        ["finetune", "--epochs", "1", "--at-least", "1", "--lrs", "0.1", "--optimizer", "adamw"],
        ["fewlabel-linear", "--fraction", "0.5", "--draws", "2", "--by.strengths", "1"],
        ["fewlabel-finetune", "--fraction", "0.5", "--draws", "2", "--by.lrs", "0.1", "--by.epochs", "1"],
        ["unlabelled"],
    ],
    ids=lambda words: words[0],
)
def test_every_protocol_prints_a_table_and_files_its_metrics(
    words: list[str], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    protocol, *flags = words
    assert main(["eval", protocol, str(run), "--data", str(run.parent / "set"), *flags]) == 0
    said = capsys.readouterr().out
    assert str(run) in said
    assert "random initialization" in said
    last = (run / "results" / "results.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["protocol"] == protocol


def test_transfer_prints_a_line_for_each_set_and_protocol(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(run.parent / "set")
    flags = ["--linear.strengths", "1", "--finetune.epochs", "1", "--finetune.at-least", "1"]
    assert main(["eval", "transfer", str(run), "--data", data, data, *flags, "--finetune.lrs", "0.1"]) == 0
    said = capsys.readouterr().out
    assert said.count("linear ") == said.count("finetune ") == 2


def test_compare_answers_in_a_sentence_and_an_exit_code(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", str(run), str(run / "encoder.safetensors"), "--data", str(run.parent / "set")]
    assert main(words) == 3
    assert "are undecided: +0.0" in capsys.readouterr().out
    assert main([*words, "--json", "--protocol", "linear"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["exit_code"]) == ("undecided", 3)


@pytest.mark.parametrize("first", ["runs/photos", "timm:resnet18", "./run"])
def test_an_encoder_in_place_of_a_protocol_is_not_taken_for_a_misspelt_one(
    first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", first, "--data", "labelled"]) == 2
    assert f"say which protocol before {first}: byol eval PROTOCOL RUN" in capsys.readouterr().err


def test_what_cannot_be_judged_is_one_sentence(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(run.parent / "set")
    assert "say which encoder" in refused(["eval", "knn", "--data", data], capsys)
    assert "say which two encoders" in refused(["compare", str(run), "--data", data], capsys)
    assert "there is no encoder at" in refused(["eval", "knn", str(run / "none"), "--data", data], capsys)
    assert "k is 41, but 40" in refused(["eval", "knn", str(run), "--data", data, "--k", "41"], capsys)
    assert "did you mean --temperature" in refused(
        ["eval", "knn", str(run), "--data", data, "--temprature", "1"], capsys
    )
    assert "use --fraction" in refused(
        ["eval", "fewlabel-linear", str(run), "--data", data, "--fraction", "0.01"], capsys
    )


@pytest.mark.parametrize("protocol", EVALUATIONS)
def test_every_protocol_explains_its_flags(protocol: str, capsys: pytest.CaptureFixture[str]) -> None:
    for asked in ("--help", "-h", "--help-all"):
        assert main(["eval", protocol, asked]) == 0
        assert "--data" in capsys.readouterr().out


def test_a_recipe_that_is_printed_is_one_that_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recipes", "cifar10"]) == 0
    file = tmp_path / "mine.json"
    file.write_text(capsys.readouterr().out)
    assert read_recipe(file) == RECIPES["cifar10"]()


def test_who_reads_half_of_it_is_told_nothing() -> None:
    head = f"{sys.executable} -m byol recipes imagenet-1000 | head -1"
    done = subprocess.run(["bash", "-c", head], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("{\n", "")


def test_home_is_known_in_every_way_that_it_is_written(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    words = ["pretrain", str(made / "recipe.json"), "--data", str(made / "images"), "--workers", "0"]
    assert main([*words, "--out=~/run"]) == 0
    assert (tmp_path / "run" / "encoder.safetensors").is_file()
    assert not (tmp_path / "~").exists()


def test_a_pack_is_learned_from_and_judged_on_like_a_folder(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack, run = str(tmp_path / "small.pack"), str(tmp_path / "run")
    assert main(["pack", str(photographs), "--out", pack, "--short-side", "16", "--quality", "95"]) == 0
    assert "26 images" in capsys.readouterr().err
    assert main(["pack", str(photographs), "--out", pack]) == 2
    assert main(["pack", str(photographs), "--out", pack, "--short-side", "16", "--overwrite"]) == 0
    assert main(["pretrain", "builtin", "--data", pack, "--out", run, *QUICK]) == 0
    assert main(["eval", "knn", run, "--data", pack, "--json"]) == 0
    # A pack beside the folder it was made of: labels and classes are the same.
    assert main(["eval", "knn", run, "--data", str(photographs), "--test", pack, "--json"]) == 0

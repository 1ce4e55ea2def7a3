"""What surrounds a command: variables left over, no home, odd terminals, places that cannot be written.

Each is tried on the command line, since a person meets it there: a sentence or a result, no traceback.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from byol.cli import main

BYOL = [sys.executable, "-m", "byol"]
ODD = os.fsdecode(
    b"caf\xe9 \x1b[31m[/] \xe6\x97\xa5"
)  # not UTF-8, an escape, markup, and a letter of Japanese


def pretrain(made: Path, out: Path | str) -> list[str]:
    data = str(made / "images")
    return ["pretrain", str(made / "recipe.json"), "--data", data, "--out", str(out), "--workers", "0"]


@pytest.mark.parametrize(
    "left_over",
    [
        {"LOCAL_RANK": "1"},
        {"RANK": "1"},
        {"RANK": "3", "LOCAL_RANK": "3", "MASTER_ADDR": "host"},
        {"LOCAL_RANK": "junk", "WORLD_SIZE": ""},
        {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"},
        {"WORLD_SIZE": "4", "LOCAL_RANK": "2"},
        {"WORLD_SIZE": "two", "LOCAL_RANK": "1"},
    ],
)
def test_what_a_launcher_has_left_silences_nobody(
    left_over: dict[str, str], made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in left_over.items():
        monkeypatch.setenv(name, value)
    assert main(["eval", "knn", str(made / "run"), "--data", "nowhere"]) == 2
    assert "there are no images at nowhere" in capsys.readouterr().err
    assert main(["recipes", "builtin"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "builtin"


@pytest.mark.parametrize("value", ["", " ", "1"])
def test_an_empty_variable_counts_as_unset(
    value: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BYOL_CACHE", "")
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, value.replace("1", "") if name != "WORLD_SIZE" else value)
    assert main(pretrain(made, tmp_path / "run")) == 0
    assert (tmp_path / ".cache" / "byol").is_dir()


def test_a_malformed_variable_is_a_sentence_that_everybody_hears(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "two")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert main(pretrain(made, tmp_path / "run")) == 2
    assert "WORLD_SIZE is 'two'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


STRANGE = {  # all at once: none of them may matter
    "LANG": "C",
    "LC_ALL": "POSIX",
    "PYTHONUTF8": "0",
    "PYTHONIOENCODING": "ascii",
    "PYTHONCOERCECLOCALE": "0",
    "TERM": "dumb",
    "COLUMNS": "0",
    "LINES": "x",
    "NO_COLOR": "1",
    "FORCE_COLOR": "",
    "OMP_NUM_THREADS": "many",
    "MPLBACKEND": "",
    "LOCAL_RANK": "1",
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="names there are text")
def test_odd_names_in_an_odd_terminal(made: Path, tmp_path: Path) -> None:
    images = tmp_path / f"set {ODD}"
    for number, path in enumerate(sorted((made / "images" / "train").rglob("*.png"))):
        place = images / f"{path.parent.name} {ODD}" / f"{number} {ODD}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    next(images.rglob("*.png")).write_bytes(b"no image")
    out = str(tmp_path / f"run {ODD}")
    environment = {**os.environ, **STRANGE}
    words = [
        *BYOL,
        "pretrain",
        str(made / "recipe.json"),
        "--data",
        str(images),
        "--out",
        out,
        "--workers",
        "0",
    ]
    for command in (words, [*BYOL, "eval", "knn", out, "--data", str(images), "--k", "3"]):
        done = subprocess.run([*command], capture_output=True, env=environment, check=False)
        said = done.stdout + done.stderr
        assert done.returncode == 0, said.decode(errors="replace")
        assert b"Traceback" not in said
        assert b"\x1b" not in said
        assert rb"caf\xe9 \x1b[31m[/] " in said
        assert said.isascii()
    assert json.loads((Path(out) / "summary.json").read_text())["bad_files"]


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize("home", [None, "/", ""])
def test_a_user_whom_the_machine_does_not_know(home: str | None, tmp_path: Path) -> None:
    """As `docker run --user 12345` makes one."""
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "BYOL_CACHE")}
    if home is not None:
        environment["HOME"] = home
    code = (
        "import sys; sys.path[:0] = eval(sys.argv[1]); import byol.cli, os\n"
        "from byol.system.cache import cache_folder\n"
        "import byol.errors\n"
        "os.setuid(12345)\n"
        "try: cache_folder()\n"
        "except byol.errors.UserError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, repr(sys.path)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert "set BYOL_CACHE to a folder of your own" in done.stdout, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_result_that_cannot_be_kept_is_printed(
    flags: list[str], made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(made / "run", tmp_path / "run"))
    shutil.rmtree(run / "results", ignore_errors=True)
    (run / "results").write_text("in the way")
    assert main(["eval", "knn", str(run), "--data", str(made / "images"), "--k", "3", *flags]) == 0
    said = capsys.readouterr()
    assert "top1" in said.out if flags else "top-1" in said.out
    assert "was not filed" in said.err


@pytest.mark.parametrize("name", ["a [v1]", "a [/]", "[bold]a", ":smile:", "$x$", "-a"])
def test_runs_are_called_as_they_are(
    name: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made / "run", tmp_path / name)
    Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    assert main(["eval", "knn", f"./{name}", "--data", str(made / "images"), "--k", "3"]) == 0
    assert f"./{name} " in capsys.readouterr().out

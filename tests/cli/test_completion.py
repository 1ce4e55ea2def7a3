"""Completion, asked of the shells themselves."""

import os
import pty
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from byol.cli import main
from byol.cli.completion import script
from byol.cli.shells import SHELLS
from byol.cli.verbs import EVALUATIONS, VERBS
from byol.errors import UserError
from byol.recipe.names import RECIPES

CASES = [
    ("byol pre", {"pretrain"}),
    ("byol eval k", {"knn"}),
    ("byol eval fewlabel-", {"fewlabel-linear", "fewlabel-finetune"}),
    ("byol pretrain --epo", {"--epochs"}),
    ("byol pretrain cifar", {name for name in RECIPES if name.startswith("cifar")}),
    ("byol pretrain cifar10 --optimizer.b", {"--optimizer.base-lr"}),
    ("byol pretrain --precision b", {"bf16"}),
    ("byol pretrain --overwrite --wor", {"--workers"}),
    ("byol pretrain --epochs 3 --batch-s", {"--batch-size"}),
    ("byol compare a b --protocol line", {"linear", "linear-paper"}),
    ("byol ablate ta", {"tau"}),
    ("byol recipes builtin imagenett", {"imagenette"}),
    ("byol export run --format safe", {"safetensors"}),
    ("byol completion z", {"zsh"}),
    ("byol eval knn run --data phot", {"photographs"}),
    ("byol eval knn run --against a b phot", {"photographs"}),
    ("byol eval knn phot", {"photographs"}),
]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("completion")
    for name in SHELLS:
        (folder / name).write_text(script([name]))
    (folder / "photographs").mkdir()
    return folder


def shell(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.mark.parametrize(("line", "wanted"), CASES)
def test_bash_is_offered(line: str, wanted: set[str], scripts: Path) -> None:
    ask = (
        f'source {scripts / "bash"}; read -ra COMP_WORDS <<< "$1"; COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); '
        '_byol; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    assert answered(["bash", "--norc", "-c", ask, "bash", line], scripts) == wanted


@pytest.mark.parametrize(("line", "wanted"), CASES)
def test_fish_is_offered(line: str, wanted: set[str], scripts: Path) -> None:
    ask = f"source {scripts / 'fish'}; complete -C $argv[1]"
    found = answered([shell("fish"), "--no-config", "-c", ask, line], scripts)
    assert {one.split("\t")[0].rstrip("/") for one in found} == wanted


def answered(words: list[str], folder: Path) -> set[str]:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return set(done.stdout.split("\n")) - {""}


@pytest.mark.parametrize("name", ["bash", "zsh"])
@pytest.mark.parametrize(
    ("line", "after"),
    [
        ("byol pre", "byol pretrain"),
        ("byol eval k", "byol eval knn"),
        ("byol pretrain --epo", "byol pretrain --epochs"),
        ("byol pretrain cifar", "byol pretrain cifar10"),  # as far as all of them go
        ("byol eval knn run --data=phot", "byol eval knn run --data=photographs"),
    ],
)
def test_the_tab_key_completes(name: str, line: str, after: str, scripts: Path) -> None:
    options = {"bash": ["--norc", "--noprofile", "-i"], "zsh": ["-f", "-i"]}[name]
    program = shell(name)  # before the fork: a child that skips would go on with the tests that follow
    process, end = pty.fork()
    if process == 0:
        os.chdir(scripts)
        environment = {"TERM": "dumb", "HOME": str(scripts), "PS1": "", "PATH": os.environ["PATH"]}
        os.execve(program, [name, *options], environment)
    try:
        typed(end, f"source {scripts / name}; echo REA''DY\n", "READY\r")
        # The key, then Ctrl-A: what stands on the line becomes what is printed.
        said = typed(end, f"{line}\t", line)
        time.sleep(0.5)
        said = typed(end, "\x01echo GOT \x05 EN''D\n", " END\r")
    finally:
        os.close(end)
        os.waitpid(process, 0)
    (printed,) = [
        row for row in said.replace("\r", "\n").split("\n") if row.startswith("GOT") and row.endswith("END")
    ]
    assert printed.removesuffix("END").split() == ["GOT", *after.split()] or printed.split()[1:-1] == [
        *after.split()[:-1],
        f"{after.split()[-1]}/",
    ]


def typed(end: int, keys: str, mark: str) -> str:
    """Type into a terminal and return what it shows until a mark."""
    os.write(end, keys.encode())
    said, deadline = "", time.monotonic() + 30
    while mark not in said:
        assert time.monotonic() < deadline, said
        if select.select([end], [], [], 0.1)[0]:
            said += os.read(end, 65536).decode(errors="replace")
    return said


def test_every_verb_and_protocol_is_in_every_script(scripts: Path) -> None:
    for name in SHELLS:
        text = (scripts / name).read_text()
        assert all(word in text for word in [*VERBS, *EVALUATIONS, "optimizer.base-lr"])


def test_the_tab_key_starts_no_python(scripts: Path) -> None:
    for name in SHELLS:
        code = [row.split("#")[0] for row in (scripts / name).read_text().split("\n")]
        assert not [row for row in code if "$(" in row and "byol" in row.split("$(")[1].split()[0]], name
        assert not [row for row in code if "python" in row], name


def test_a_shell_that_we_do_not_know_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="did you mean bash"):
        script(["bsh"])
    assert main(["completion"]) == 2
    assert "byol completion bash | zsh | fish" in capsys.readouterr().err

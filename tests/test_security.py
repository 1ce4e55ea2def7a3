"""What SECURITY.md promises: that each promise names tests that exist, and those that look at the source."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import byol

ROOT = Path(__file__).parents[1]
SOURCE = Path(byol.__file__).parent
PROMISES = (ROOT / "SECURITY.md").read_text()


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Yield the calls of the package: file, what is called as it is written, and the call."""
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield str(path.relative_to(SOURCE)), ast.unparse(node.func), node


def test_each_promise_is_held_by_tests_that_exist() -> None:
    rows = [line for line in PROMISES.splitlines() if line.startswith("| **")]
    assert len(rows) == 8
    for row in rows:
        held_by = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert held_by, row
        for file, name in held_by:
            assert f"def {name}(" in (ROOT / file).read_text(), name


# A worker reads its work from a pipe that it has from the process that started it: there is no other peer.
FROM_A_PARENT = {"data/workers.py"}


def test_nothing_is_unpickled_but_by_the_readers_that_refuse() -> None:
    """`torch.load` refuses by `weights_only`, `np.load` by its default, `_Unpickler` is ours."""
    for file, name, call in calls():
        given = {one.arg: ast.unparse(one.value) for one in call.keywords}
        if name == "torch.load":
            assert given.get("weights_only") == "True", file
        if name in ("np.load", "numpy.load"):
            assert "allow_pickle" not in given, file
        is_unpickled = re.fullmatch(r"(pickle|marshal|shelve|dill|joblib)\.(loads?|open|Unpickler)", name)
        assert not is_unpickled or file in FROM_A_PARENT, file
        assert name not in ("eval", "exec", "os.system", "os.popen"), file
        assert given.get("shell") != "True", file
    users = {file for file, name, _ in calls() if name.endswith("Unpickler")}
    assert users <= {"weights/pickled.py"}


def test_no_module_opens_a_connection() -> None:
    banned = {"urllib", "http", "requests", "ftplib", "smtplib", "aiohttp", "httpx", "huggingface_hub"}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [one.name for one in node.names] if isinstance(node, ast.Import) else []
            assert not {name.split(".")[0] for name in names} & banned, path
    named = {file for file, name, _ in calls() if name.startswith("socket.")}
    assert named <= {"run/events.py"}  # the name of this machine

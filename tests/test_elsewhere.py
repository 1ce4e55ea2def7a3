"""Windows and macOS: the package imports, learns and judges where what only Linux has is not there.

It is a Linux from which those things were taken away, so this shows that they are not needed; that the other
systems do the rest as Linux does it shows only there (docs/reliability.md says what is tested where).
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import byol

MISSING = {
    "os": (
        *("fork", "forkpty", "getuid", "geteuid", "getgid", "nice", "sched_getaffinity", "posix_fallocate"),
        *("sysconf", "posix_fadvise", "O_NONBLOCK", "O_NOFOLLOW", "O_DIRECTORY", "statvfs", "mkfifo"),
        *("register_at_fork", "getloadavg", "wait3", "wait4", "killpg", "setsid", "getpgid", "pidfd_open"),
        *("copy_file_range", "sendfile", "memfd_create", "sched_setaffinity"),
    ),
    "signal": ("SIGKILL", "SIGHUP", "SIGUSR1", "SIGCHLD", "SIGALRM", "SIGPIPE", "alarm", "setitimer"),
}
MODULES = ["fcntl", "resource", "pty", "pwd", "grp", "termios", "tty", "syslog"]
PROGRAM = """
import multiprocessing, subprocess, sys, tempfile, types
import matplotlib.figure, numpy, PIL.Image, rich.live, tensorboard.compat.proto.event_pb2, torch, torchvision
import torch.utils.data, timm, tyro, safetensors.torch, simplejpeg
for module, names in MISSING.items():
    module = sys.modules[module]
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
for name in MODULES:
    sys.modules[name] = None
locks = []
sys.modules["msvcrt"] = msvcrt = types.ModuleType("msvcrt")
msvcrt.LK_NBLCK, msvcrt.locking = 2, lambda *args: locks.append(args)
from importlib import import_module
for name in NAMES:
    import_module(name)
import byol
from dataclasses import replace
from pathlib import Path
from byol.system.cache import cache_folder
made, out = map(Path, sys.argv[1:])
cache_folder()
recipe = replace(byol.read_recipe(made / "recipe.json"), epochs=1)
run = byol.pretrain(made / "images", out, recipe=recipe, workers=0)
assert byol.judge(out, made / "images", protocol=byol.Knn(k=3)).value is not None
assert locks
print("done")
"""


def names() -> list[str]:
    """Return the modules of the package."""
    source = Path(byol.__file__).parent
    found = (path.relative_to(source.parent).with_suffix("") for path in source.rglob("*.py"))
    return sorted(".".join(path.parts).removesuffix(".__init__") for path in found if path.stem != "__main__")


@pytest.mark.slow
def test_what_only_linux_has_is_not_needed(made: Path, tmp_path: Path) -> None:
    program = f"MISSING, MODULES, NAMES = {MISSING!r}, {MODULES!r}, {names()!r}\n{PROGRAM}"
    done = subprocess.run(
        [sys.executable, "-c", program, str(made), str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["done"], done.stderr


def test_modules_of_one_system_are_imported_where_they_may_be_missing() -> None:
    source = Path(byol.__file__).parent
    unguarded = [
        f"{path.relative_to(source)}:{node.lineno}"
        for path in source.rglob("*.py")
        for node in ast.parse(path.read_text()).body  # in a function, or in a `try`, they are deeper
        if isinstance(node, ast.Import | ast.ImportFrom)
        and {getattr(node, "module", None), *(one.name for one in node.names)} & {*MODULES, "msvcrt"}
    ]
    assert unguarded == []

"""The run folder: which file lies where, and who may write into it."""

import json
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from byol.errors import UserError
from byol.system.device import usable_cores


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run; nothing is touched until a method says so.

    Args:
        path: the folder.
    """

    path: Path

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.json"

    @property
    def provenance(self) -> Path:
        return self.path / "provenance.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def encoder(self) -> Path:
        return self.path / "encoder.safetensors"

    @property
    def figure(self) -> Path:
        return self.path / "figure.png"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def results(self) -> Path:
        return self.path / "results"

    def create(self, *, overwrite: bool) -> None:
        """Make the folder, empty.

        Raises:
            UserError: it holds a run already and `overwrite` is off, or it is not a run and not empty.
        """
        if self.recipe.exists():
            if not overwrite:
                raise UserError(
                    f"{self.path} already holds a run; continue it with --resume {self.path}, "
                    "replace it with --overwrite, or choose another --out."
                )
            shutil.rmtree(self.path)
        elif self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise UserError(f"{self.path} exists and is not a run folder; choose another --out.")
        self.checkpoints.mkdir(parents=True)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file under a temporary name, then rename: a reader never sees half of it."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(json.dumps(value, indent=2) + "\n")
    temporary.replace(path)


def provenance(**more: Any) -> dict[str, Any]:
    """Return what a figure needs to be repeated: command, commit, versions, machine, date."""
    commit = _git("rev-parse", "HEAD")
    return {
        "command": sys.argv,
        "commit": commit,
        "uncommitted_changes": bool(commit and _git("status", "--porcelain")),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("byol", "torch", "numpy")},
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": usable_cores(),
        **more,
    }


def _git(*words: str) -> str | None:
    """Return what git says about the source tree, or None outside of one."""
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")

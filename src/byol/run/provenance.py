"""What a number needs to be repeated: command, commit, versions, machine, date."""

import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from byol.system.device import usable_cores


def provenance(**more: Any) -> dict[str, Any]:
    """Return what a number needs to be repeated: command, commit, versions, machine, date."""
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

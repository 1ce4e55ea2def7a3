"""What a number needs to be repeated: command, commit, versions, machine, date."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from byol.system.device import processor_name, usable_cores


def provenance(**more: Any) -> dict[str, Any]:
    """Return what a number needs to be repeated: command, commit, versions, machine, date.

    The commit is that of this package, null where it is installed; its version then says which it is.
    """
    checkout = _checkout()
    commit = _git(checkout, "rev-parse", "HEAD")
    return {
        "command": sys.argv,
        "commit": commit,
        "uncommitted_changes": bool(commit and _git(checkout, "status", "--porcelain")),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("byol", "torch", "numpy")},
        "platform": platform.platform(),
        "processor": processor_name(),
        "cores": usable_cores(),
        **more,
    }


def _checkout() -> Path | None:
    """Return the git checkout of this package, or None where it is installed, be it inside of another's."""
    package = Path(__file__).resolve().parents[1]
    root = package.parents[1]
    return root if package == root / "src" / "byol" and (root / ".git").exists() else None


def _git(checkout: Path | None, *words: str) -> str | None:
    """Return what git says about a checkout, or None without one, or without git."""
    if checkout is None:
        return None
    # Of this checkout, whatever repository a hook or a script around us has named in the environment.
    ours = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "--no-optional-locks", "-C", str(checkout), *words]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=10, env=ours
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None

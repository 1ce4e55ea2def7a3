"""Checkpoints: written under a temporary name, synced, renamed, kept as a small rotation."""

import errno
import pickle
import re
from pathlib import Path
from typing import Any

import torch

from byol.errors import UserError
from byol.system.files import whole_file

FORMAT = 3
KEEP = 2
_NAME = re.compile(r"step-(\d{9})\.pt")


def save(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write `step-NNNNNNNNN.pt`; older ones than the last `KEEP` go only once it is safe on disk.

    Args:
        folder: of the checkpoints.
        step: optimizer steps done.
        state: tensors, numbers, strings, lists and dicts only.

    Raises:
        UserError: the disk is full or not writable; the earlier checkpoints stay as they are.
    """
    path = folder / f"step-{step:09d}.pt"
    try:
        with whole_file(path, is_only_writer=True, is_synced=True) as file:
            torch.save({"format": FORMAT, "step": step, **state}, file)
    except (OSError, RuntimeError) as error:
        # torch's zip writer turns a failed write into a RuntimeError of its own, with the OSError behind it.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        why = "the disk is full" if cause.errno == errno.ENOSPC else str(cause)
        kept = newest(folder)
        last = f"the last good checkpoint is {kept}" if kept else "there is no earlier checkpoint"
        raise UserError(f"could not write {path}: {why}; {last}. Make room, then use --resume.") from error
    for old in (
        *_all(folder)[:-KEEP],
        *folder.glob(".step-*.pt.tmp"),
    ):  # the latter of a process that was killed
        old.unlink()
    return path


def newest(folder: Path) -> Path | None:
    """Return the checkpoint of the highest step, or None."""
    return _all(folder)[-1] if _all(folder) else None


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint; nothing in it can execute code (`weights_only=True`).

    Raises:
        UserError: the file is truncated, damaged or of another format; an earlier one is named.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        others = [other for other in _all(path.parent) if other != path]
        remedy = f"delete it to resume from {others[-1].name}" if others else "start again with --overwrite"
        raise UserError(f"checkpoint {path} is truncated or damaged; {remedy}.") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(f"{path} is not a byol checkpoint of format {FORMAT}.")
    return state


def _all(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*.pt") if _NAME.fullmatch(path.name))

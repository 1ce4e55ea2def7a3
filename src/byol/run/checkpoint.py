"""Checkpoints: written under a temporary name, synced, renamed, kept as a small rotation.

A file is what `torch.save` writes, with a digest behind it (`system.summed`): a bit that a disk has turned is
found when the file is read, and not learned from.
"""

import errno
import mmap
import pickle
import re
from pathlib import Path
from typing import IO, Any

import torch

from byol.errors import UserError
from byol.system.files import whole_file
from byol.system.summed import Summed, content_end, has_sum

FORMAT = 4
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
            summed = Summed(file)
            torch.save({"format": FORMAT, "step": step, **state}, summed)  # type: ignore[arg-type]  # write and flush will do
            summed.end()
    except (OSError, RuntimeError) as error:
        # torch's zip writer turns a failed write into a RuntimeError of its own, with the OSError behind it.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        why = "the disk is full" if cause.errno == errno.ENOSPC else cause.strerror or str(cause)
        kept = newest(folder)
        last = f"the last good checkpoint is {kept}" if kept else "there is no earlier checkpoint"
        raise UserError(f"could not write {path}: {why}; {last}. Make room, then use --resume.") from error
    for old in (
        *_all(folder)[:-KEEP],
        *folder.glob(".step-*.pt.tmp"),
    ):  # the latter of a process that was killed
        old.unlink()
    return path


def is_checkpoint(path: Path) -> bool:
    """Return whether a file, whatever it is called, is a checkpoint that `save` wrote."""
    with path.open("rb") as file:
        return has_sum(file)


def newest(folder: Path) -> Path | None:
    """Return the checkpoint of the highest step, or None."""
    return _all(folder)[-1] if _all(folder) else None


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint; nothing in it can execute code (`weights_only=True`).

    Raises:
        UserError: the file is truncated, damaged or of another format; an earlier one is named.
    """
    try:
        with path.open("rb") as file:
            content, is_summed = _whole(file)
            state: dict[str, Any] = torch.load(content, map_location=device, weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(_damaged(path)) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(f"{path} is not a byol checkpoint of format {FORMAT}.")
    if not is_summed:
        raise UserError(_damaged(path))
    return state


def _damaged(path: Path) -> str:
    others = [other for other in _all(path.parent) if other != path]
    remedy = f"delete it to resume from {others[-1].name}" if others else "start again with --overwrite"
    return f"checkpoint {path} is truncated or damaged; {remedy}."


def _whole(file: IO[bytes]) -> tuple[Any, bool]:
    """Return what `torch.save` wrote into a file, and whether a digest says that it is what was written.

    Raises:
        ValueError: the digest differs.
    """
    if not has_sum(file):
        file.seek(0)
        return file, False  # of another format, or no checkpoint
    return mmap.mmap(file.fileno(), content_end(file), access=mmap.ACCESS_READ), True


def _all(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*.pt") if _NAME.fullmatch(path.name))

"""Records of a run: one JSON object per line, and the same numbers as TensorBoard event files."""

import errno
import json
import math
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from byol.errors import UserError
from byol.run.events import EventFile
from byol.system.files import write_all, write_text


class Recorder:
    """Appends events to `metrics.jsonl` and to TensorBoard files in the same folder.

    Args:
        path: of the JSONL file.
        step: events after this step are dropped first, because a resumed run will write them again.

    Raises:
        UserError: they cannot be written.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        self._folder = path.parent
        with self._told(), ExitStack() as opened:
            if path.exists():
                _forget_after(path, step)
            self._file = opened.enter_context(path.open("ab", buffering=0))
            self._board = opened.enter_context(EventFile(path.parent / "tensorboard", purge_step=step + 1))
            self._opened = opened.pop_all()

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Append one event; a number that is not finite is written as null, which JSON can hold.

        Raises:
            UserError: it cannot be written.
        """
        event = {"kind": kind, "step": step, **values}
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in event.items()}
        numbers = {
            f"{kind}/{name}": float(value)
            for name, value in values.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        }
        with self._told():
            write_all(self._file, f"{json.dumps(clean, allow_nan=False)}\n".encode())
            self._board.scalars(step, numbers)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Context in which what the system says becomes a sentence."""
        try:
            yield
        except OSError as error:
            why = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
            raise UserError(
                f"the records of the run in {self._folder} cannot be written: {why}. Make room or take what "
                f"is in the way aside, then use --resume {shlex.quote(str(self._folder))}."
            ) from error

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()


class NullRecorder:
    """A recorder that writes nothing, for the ranks beside 0."""

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Do nothing."""

    def __enter__(self) -> "NullRecorder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def read(path: Path) -> list[dict[str, Any]]:
    """Return the events of a JSONL file; a last line cut short by a crash is left out.

    Raises:
        UserError: another line is no event.
    """
    events = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
            is_event = isinstance(event["step"], int) and isinstance(event["kind"], str)
        except (ValueError, LookupError, TypeError, RecursionError):
            is_event = False
        if not is_event:
            raise UserError(f"line {number} of {path} is damaged: take it out of the file.")
        events.append(event)
    return events


def _forget_after(path: Path, step: int) -> None:
    kept = [event for event in read(path) if event["step"] <= step]
    write_text(path, "".join(json.dumps(event) + "\n" for event in kept))

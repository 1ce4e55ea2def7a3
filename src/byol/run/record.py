"""Records of a run: one JSON object per line, and the same numbers as TensorBoard event files."""

import json
import math
from pathlib import Path
from types import TracebackType
from typing import Any

from byol.system.files import whole_file


class Recorder:
    """Appends events to `metrics.jsonl` and to TensorBoard files in the same folder.

    Args:
        path: of the JSONL file.
        step: events after this step are dropped first, because a resumed run will write them again.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if path.exists():
            _forget_after(path, step)
        self._file = path.open("a", buffering=1)
        self._board = SummaryWriter(str(path.parent / "tensorboard"), purge_step=step + 1)

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Append one event; a number that is not finite is written as null, which JSON can hold."""
        event = {"kind": kind, "step": step, **values}
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in event.items()}
        self._file.write(json.dumps(clean, allow_nan=False) + "\n")
        for name, value in values.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._board.close()


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
    """Return the events of a JSONL file; a last line cut short by a crash is left out."""
    lines = path.read_text().split("\n")
    return [json.loads(line) for line in lines[:-1] if line]


def _forget_after(path: Path, step: int) -> None:
    kept = [event for event in read(path) if event["step"] <= step]
    with whole_file(path, is_only_writer=True) as file:
        file.write("".join(json.dumps(event) + "\n" for event in kept).encode())

"""Being asked to stop: the first signal lets the step finish and the run save itself."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class StopRequest:
    """Context in which Ctrl-C and SIGTERM set `received` instead of breaking off; a second Ctrl-C does.

    The second is answered as it was before the context: by `KeyboardInterrupt`, or where the process is the
    command line's, by its end (`byol.system.ending`).
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            before = self._before.get(number)
            if callable(before):
                before(number, frame)
            raise KeyboardInterrupt
        self.received = number

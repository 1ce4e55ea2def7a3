"""How the program ends when a signal asks it to: quietly, and on the second Ctrl-C at once.

This is for a process that is ours alone, the command line. A program that calls our functions keeps its own
handlers.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from byol.system.launched import speaker

PATIENCE = 5.0  # seconds that what was asked to end may take to clear up
_ASKED = (signal.SIGINT, signal.SIGTERM)
# torchrun passes on the Ctrl-C that its processes have seen themselves: within this time it is the same one.
_SAME_SECONDS = 1.0


class Terminated(KeyboardInterrupt):
    """SIGTERM asks the program to end, which goes the way of Ctrl-C."""


class Ending:
    """Answers SIGINT and SIGTERM from when it is made to the end of the process.

    While nothing is held, as when modules are imported, the first ends the process. Else it raises
    `KeyboardInterrupt` in what is running, or `Terminated`; a `StopRequest` may answer it in its stead, as
    training does. The second SIGINT ends the process at once, whatever is running; files that
    are written whole are then whole or not there.

    Args:
        farewell: says that the program was broken off, where clearing up takes longer than `PATIENCE`.
    """

    def __init__(self, farewell: Callable[[], None]) -> None:
        self._farewell, self._holds, self._asked = farewell, False, 0
        self._interrupts: list[float] = []  # when Ctrl-C was pressed
        if threading.current_thread() is not threading.main_thread():
            return
        self._unraisable, self._uncaught = sys.unraisablehook, sys.excepthook
        sys.unraisablehook, sys.excepthook = self._skip_unraisable, self._skip_uncaught
        for number in _ASKED:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup wants it
                signal.signal(number, self._answer)
        if os.name == "posix":
            self._listen()

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Context in which there is something to clear up; before and after it a signal ends at once."""
        self._holds = True
        try:
            yield
        finally:
            self._holds = False

    def _answer(self, number: int, frame: FrameType | None) -> None:
        is_again, self._asked = bool(self._asked), number
        if is_again or not self._holds:
            self._give_up(number)
        if os.name != "posix":
            self._count()
        late = threading.Timer(PATIENCE, self._give_up, (number,))
        late.daemon = True
        late.start()
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    def _give_up(self, number: int) -> None:
        if number == signal.SIGINT:
            self._farewell()
        leave(128 + number)

    def _skip_unraisable(self, found: "sys.UnraisableHookArgs") -> None:
        # One that came while a finalizer ran is lost there; the timer ends us in its stead.
        if not isinstance(found.exc_value, KeyboardInterrupt):
            self._unraisable(found)

    def _skip_uncaught(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if self._asked:  # what was interrupted has made an error of its own of it
            self._give_up(self._asked)
        self._uncaught(kind, error, trace)

    def _listen(self) -> None:
        """Count signals in a thread of its own: handlers have to wait for what the main one computes."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_be_deaf)
        threading.Thread(target=self._hear, args=(reader,), name="signals", daemon=True).start()

    def _hear(self, reader: int) -> None:
        while True:
            for number in os.read(reader, 64):
                if number == signal.SIGINT:
                    self._count()

    def _count(self) -> None:
        now = time.monotonic()
        if self._interrupts:
            if speaker().world_size == 1 or now - self._interrupts[-1] > _SAME_SECONDS:
                leave(128 + signal.SIGINT)
        else:
            self._interrupts.append(now)


def leave(code: int) -> None:
    """End the process now: without waiting for threads, and with the processes that it started as workers."""
    if sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty():
        os.write(2, b"\x1b[?25h")  # a live line hides the cursor
    if processes := sys.modules.get("multiprocessing.process"):
        for child in list(getattr(processes, "_children", ())):
            child.kill()
    os._exit(code)


def _be_deaf() -> None:
    """Let a forked process hear no signal in the name of this one."""
    if threading.current_thread() is threading.main_thread():
        signal.set_wakeup_fd(-1)


def fill_standard_streams() -> None:
    """Open the null device where input, output or error is closed, so that no file takes its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free

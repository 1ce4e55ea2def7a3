"""Processes that work ahead, of which none outlives the one that asks, and whose end is noticed at once.

Worker k of n does the tasks k, k + n, ... and has at most two of them before it. Tasks and results travel by
a pipe of its own, tensors through memory that both have mapped. No thread and no lock is shared, so that a
process may be killed at any moment without another one waiting for it. docs/decisions/0019 says why this is
not torch's `DataLoader`.
"""

import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing import connection, util
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, Generic, NamedTuple, TypeVar

import torch

from byol.errors import UserError
from byol.system.shared_memory import ALIGNMENT, SharedMemory, pack, unpack

Task = TypeVar("Task")
Made = TypeVar("Made")

_AHEAD = 2  # tasks that a worker has before it
_LOOK = 0.5  # seconds between two looks at what no pipe tells
_GRACE = 5.0  # seconds that a result may still take once the person has asked to stop
_WHY = {
    "SIGKILL": "as the system does when memory runs out; use fewer with --workers, or a smaller --batch-size",
    "SIGBUS": "as happens when a file is cut shorter while it is read; make the files whole again",
    "SIGSEGV": "in code that reads files; try --workers 0, which tells where",
}


def in_workers(
    work: Callable[[Task], Made],
    tasks: Iterable[Task],
    *,
    workers: int,
    num_bytes: int,
    niceness: int = 0,
    is_pinned: bool = False,
    is_asked_to_stop: Callable[[], bool] = lambda: False,
) -> Generator[Made, None, None]:
    """Yield what becomes of each task, in the order of the tasks; close it to end the processes.

    Args:
        work: what a worker does; its results can be pickled. It is copied as the process is, or pickled.
        tasks: what can be pickled, taken as results are asked for.
        workers: how many processes, >= 1.
        num_bytes: that the tensors of one result need; what needs more goes through the pipe.
        niceness: added to that of a worker, where the system knows of such a thing.
        is_pinned: give tensors in memory from which a GPU can copy by itself.
        is_asked_to_stop: whether it is time to give up a result that does not come.

    Raises:
        UserError: a worker cannot be started, has ended, or gives nothing after one was asked to stop.
    """
    remaining = iter(tasks)
    with _Pool(work, workers, num_bytes, niceness) as pool:
        given = 0
        for task in islice(remaining, _AHEAD * workers):
            pool.give(given, task)
            given += 1
        number = 0
        while number < given:
            made: Made = pool.take(number, is_pinned, is_asked_to_stop)
            for task in islice(remaining, 1):
                pool.give(given, task)
                given += 1
            yield made
            number += 1


def end_imported_script() -> None:
    """End this process if it is a worker that is just importing the script it was started from.

    Such a script has no `if __name__ == "__main__":` and would start over; who started it says so.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(1)


class _Terms(NamedTuple):
    """What a worker has to know: bytes of a result, its niceness, and whose child it is."""

    slot_bytes: int
    niceness: int
    parent: int | None  # None where the system's parent is not the one that asks
    is_main: bool  # started by a thread that lives as long as the parent


class _Pool(Generic[Task, Made]):
    """The workers, and what each of them shares with this process."""

    def __init__(self, work: Callable[[Task], Made], workers: int, num_bytes: int, niceness: int) -> None:
        context = multiprocessing.get_context()
        method = context.get_start_method()
        self._is_forked = method == "fork"
        is_main = threading.current_thread() is threading.main_thread()
        self._terms = _Terms(
            num_bytes + 64 * ALIGNMENT, niceness, None if method == "forkserver" else os.getpid(), is_main
        )
        self._processes: list[BaseProcess] = []
        self._pipes: list[Connection] = []
        self._memories: list[SharedMemory] = []
        # At the end of this process too, before multiprocessing waits for what it has started.
        self._end = util.Finalize(self, _end, (self._processes, self._pipes), exitpriority=100)
        if multiprocessing.current_process().daemon:
            raise UserError("this process may start no others, since it is a daemon: use --workers 0.")
        sent = work if self._is_forked else _pickled(work)
        try:
            for _ in range(workers):
                self._start(context, sent)
        except OSError as error:
            started = len(self._processes)
            self._end()
            raise UserError(
                f"only {started} of {workers} processes that read files could be started "
                f"({error.strerror or error}): use fewer with --workers, or --workers 0."
            ) from error

    def __enter__(self) -> "_Pool[Task, Made]":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _start(self, context: BaseContext, work: Callable[[Task], Made] | bytes) -> None:
        memory = SharedMemory(_AHEAD * self._terms.slot_bytes)
        ours, theirs = context.Pipe()
        others = [*self._pipes, ours] if self._is_forked else []  # it would keep them open
        process: BaseProcess = context.Process(  # type: ignore[attr-defined]
            target=_serve,
            args=(work, theirs, others, memory, self._terms),
            name="byol-worker",
            daemon=True,
        )
        try:
            with _hidden_script() if isinstance(work, bytes) and b"__main__" not in work else _as_it_is():
                process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._processes.append(process)
        self._pipes.append(ours)
        self._memories.append(memory)

    def give(self, number: int, task: Task) -> None:
        """Give a task to its worker."""
        pipe, slot = self._pipes[number % len(self._pipes)], number // len(self._pipes) % _AHEAD
        try:
            pipe.send_bytes(pickle.dumps((slot, task), protocol=pickle.HIGHEST_PROTOCOL))
        except OSError as error:
            raise self._death(self._processes[number % len(self._pipes)]) from error

    def take(self, number: int, is_pinned: bool, is_asked_to_stop: Callable[[], bool]) -> Made:
        """Wait for a result and return it."""
        worker, asked = number % len(self._pipes), None
        pipe = self._pipes[worker]
        sentinels: dict[Any, BaseProcess] = {process.sentinel: process for process in self._processes}
        while True:
            ready = connection.wait([pipe, *sentinels], timeout=_LOOK)
            for one in ready:
                if one in sentinels:
                    raise self._death(sentinels[one])
            if ready:
                try:
                    payload = pipe.recv_bytes()
                except (EOFError, OSError) as error:
                    raise self._death(self._processes[worker]) from error
                made: Made = unpack(payload, self._memories[worker], is_pinned=is_pinned)
                return made
            if is_asked_to_stop():
                asked = asked or time.monotonic()
                if time.monotonic() - asked > _GRACE:
                    raise UserError(f"the processes that read files gave nothing for {_GRACE:.0f} seconds.")

    def _death(self, process: BaseProcess) -> UserError:
        """Return a sentence on the end of a worker."""
        process.join(1.0)
        code = process.exitcode
        if code is not None and code < 0:
            with suppress(ValueError):
                name = signal.Signals(-code).name
                why = _WHY.get(name, "try --workers 0")
                return UserError(f"a process that reads files was ended by {name}, {why}.")
        if not self._is_forked:
            return UserError(
                f"a process that reads files ended with exit code {code}: put what your script does under "
                '`if __name__ == "__main__":`, since every new process imports it, or use workers=0.'
            )
        return UserError(f"a process that reads files ended with exit code {code}: try --workers 0.")


def _end(processes: list[BaseProcess], pipes: list[Connection]) -> None:
    """End all workers; they hold nothing that would have to be put in order."""
    for process in processes:
        process.kill()
    for pipe in pipes:
        pipe.close()
    for process in processes:
        process.join(_GRACE)
    processes.clear()
    pipes.clear()


def _pickled(work: Callable[[Task], Made]) -> bytes:
    """Return work for a process that is not a copy of this one."""
    try:
        return pickle.dumps(work)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UserError(f"the images cannot be sent to another process ({error}): use workers=0.") from error


@contextmanager
def _hidden_script() -> Iterator[None]:
    """Context in which new processes do not import the script again: they need nothing of it."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


# ---- in a worker ------------------------------------------------------------------------------------------


def _serve(
    work: Callable[[Task], Made] | bytes,
    pipe: Connection,
    others: list[Connection],
    memory: SharedMemory,
    terms: _Terms,
) -> None:
    """Do tasks until there are no more, or nobody is there to ask for them."""
    _end_with(terms.parent, is_main=terms.is_main)
    start_worker(terms.niceness)
    for other in others:
        other.close()
    function: Callable[[Task], Made] = pickle.loads(work) if isinstance(work, bytes) else work
    while True:
        try:
            slot, task = pickle.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        start = slot * terms.slot_bytes
        packed = pack(function(task), memory, start, start + terms.slot_bytes)
        try:
            pipe.send_bytes(packed)
        except OSError:
            return


def start_worker(niceness: int) -> None:
    """Make this process one that serves another."""
    # Ctrl-C, and a scheduler's SIGTERM, reach every process of the group. The main one finishes its step with
    # what the workers give it and then ends them.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    # The threads of a step on the CPU wait for each other, so a core that a worker takes stops them all: a
    # tenth more images a second where workers give way (docs/decisions/0015).
    if hasattr(os, "nice"):
        os.nice(niceness)


def _end_with(parent: int | None, *, is_main: bool) -> None:
    """Let this process end within a second of its parent, however that ends."""
    if is_main and sys.platform == "linux":  # at once, and where this process is stopped or busy
        with suppress(OSError, AttributeError):
            parent_death_signal = 1  # sys/prctl.h
            ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL, 0, 0, 0)
    asking = multiprocessing.parent_process()

    def watch() -> None:
        while parent in (None, os.getppid()) and (asking is None or asking.is_alive()):
            time.sleep(_LOOK)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

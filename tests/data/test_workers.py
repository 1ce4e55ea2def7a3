import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.ranks import workers
from torch import Tensor

from byol.data.workers import in_workers
from byol.errors import UserError

BYTES = 4 * 3 * 8 * 8


def picture(number: int) -> Tensor:
    generator = torch.Generator().manual_seed(number)
    return torch.rand((1, 3, 8, 8), generator=generator)


def pictures(number: int) -> tuple[int, Tensor]:
    return number, picture(number)


def on_its_side(number: int) -> Tensor:
    return picture(number).to(memory_format=torch.channels_last)


def busy(seconds: float) -> None:
    time.sleep(seconds)


def ended(code: int) -> None:
    os._exit(code)


def beyond_the_end(path: Path, number: int) -> int:
    mapped = np.memmap(path, np.uint8, "r")
    os.truncate(path, 0)
    return int(mapped[number])


def run(work: Callable[[Any], Any], tasks: Any, workers: int = 2, **settings: Any) -> Any:
    return in_workers(work, tasks, **({"workers": workers, "num_bytes": BYTES} | settings))


def entries(folder: str) -> list[Path]:
    return sorted(Path(folder).iterdir())


def children() -> list[int]:
    return [process.pid or 0 for process in workers()]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    assert not children()


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 3, 20])
def test_results_come_in_the_order_of_the_tasks(workers: int, count: int) -> None:
    found = list(run(pictures, range(count), workers))
    assert [number for number, _ in found] == list(range(count))
    for number, tensor in found:  # none was written over by a later one
        assert torch.equal(tensor, picture(number))


@pytest.mark.parametrize("num_bytes", [0, BYTES])
def test_a_tensor_keeps_its_order_in_memory_whether_there_is_room_for_it_or_not(num_bytes: int) -> None:
    for number, tensor in enumerate(run(on_its_side, range(6), num_bytes=num_bytes)):
        assert torch.equal(tensor, picture(number))
        assert tensor.is_contiguous(memory_format=torch.channels_last)


def test_tasks_are_taken_as_results_are_asked_for() -> None:
    taken = []

    def tasks() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    with closing(run(pictures, tasks(), workers=3)) as stream:
        for number in range(5):
            next(stream)
            assert len(taken) == 7 + number


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_the_end_of_a_worker_is_a_sentence_at_once(number: signal.Signals) -> None:
    stream = run(pictures, range(10_000))
    next(stream)
    os.kill(children()[1], number)
    start = time.monotonic()
    with pytest.raises(
        UserError, match=f"a process that reads files was ended by {number.name}, .*--workers"
    ):
        list(stream)
    assert time.monotonic() - start < 5


def test_every_worker_may_be_killed_at_any_moment() -> None:
    for wait in np.linspace(0, 0.02, 8):
        stream = run(pictures, range(10_000))
        next(stream)
        for child in children():
            os.kill(child, signal.SIGKILL)
        time.sleep(wait)
        with pytest.raises(UserError, match="SIGKILL"):
            list(stream)


def test_a_file_that_is_cut_shorter_while_it_is_mapped_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "mapped").write_bytes(bytes(100_000))
    with pytest.raises(UserError, match=r"SIGBUS, .* cut shorter"):
        list(run(partial(beyond_the_end, tmp_path / "mapped"), [90_000], workers=1))


def test_a_worker_that_exits_is_told_with_its_code() -> None:
    with pytest.raises(UserError, match="ended with exit code 3: try --workers 0"):
        list(run(ended, [3]))


def test_a_worker_that_hangs_is_waited_for_until_one_is_asked_to_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("byol.data.workers._GRACE", 0.3)
    stops: list[bool] = []
    stream = run(pictures, range(10_000), is_asked_to_stop=lambda: bool(stops))
    next(stream)
    for child in children():
        os.kill(child, signal.SIGSTOP)
    threading.Timer(1.5, stops.append, [True]).start()
    start = time.monotonic()
    with pytest.raises(UserError, match="gave nothing for"):
        list(stream)
    assert 1.5 < time.monotonic() - start < 10


def test_closing_does_not_wait_for_what_is_being_done() -> None:
    stream = run(busy, [0, *[600] * 20])
    next(stream)
    start = time.monotonic()
    stream.close()
    assert time.monotonic() - start < 5


def test_nothing_grows() -> None:
    def held() -> tuple[int, int, list[Path]]:
        return len(entries("/proc/self/fd")), threading.active_count(), entries("/dev/shm")

    list(run(pictures, range(4)))
    before, during = held(), set()
    for _ in range(3):
        for number, _ in run(pictures, range(400)):
            if number % 50 == 25:
                during.add(str(held()))
    assert held() == before
    assert len(during) == 1


def test_processes_that_cannot_be_started_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fork
    started: list[int] = []

    def fork() -> int:
        if len(started) == 2:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        started.append(1)
        return real()

    monkeypatch.setattr(os, "fork", fork)
    with pytest.raises(
        UserError, match=r"only 2 of 3 processes .*Resource temporarily unavailable.*--workers"
    ):
        list(run(pictures, range(10), workers=3))


SCRIPT = """
import multiprocessing, sys, threading, time
from functools import partial
from byol.data.order import permutation
from byol.data.workers import in_workers

multiprocessing.set_start_method(sys.argv[1])

def main():
    stream = in_workers(partial(permutation, 0, 0), range(10_000), workers=2, num_bytes=0)
    next(stream)
    print(*[child.pid for child in multiprocessing.active_children()], flush=True)
    {then}

{start}
"""


def script(tmp_path: Path, then: str, start: str = "main()") -> Path:
    (tmp_path / "script.py").write_text(SCRIPT.format(then=then, start=start))
    return tmp_path / "script.py"


IN_A_THREAD = "t = threading.Thread(target=main); t.start(); t.join()"


def methods(quick: str) -> list[Any]:
    """Return the ways to start a process; all but one take their time."""
    every = ("fork", "spawn", "forkserver")
    return [one if one == quick else pytest.param(one, marks=pytest.mark.slow) for one in every]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.parametrize("method", methods("fork"))
@pytest.mark.parametrize(
    "start",
    [
        "main()",
        pytest.param("t = threading.Thread(target=main); t.start(); t.join()", marks=pytest.mark.slow),
    ],
)
def test_no_worker_outlives_one_that_is_killed(method: str, start: str, tmp_path: Path) -> None:
    command = [sys.executable, str(script(tmp_path, "time.sleep(600)", start)), method]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        workers = [int(word) for word in process.stdout.readline().split()]
        assert len(workers) == 2
        assert all(map(is_alive, workers))
        process.kill()
    deadline = time.monotonic() + 10
    while any(map(is_alive, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("method", methods("spawn"))
def test_a_script_without_a_guard_works_and_ends_quietly(method: str, tmp_path: Path) -> None:
    then = "globals()['kept'] = stream; print([len(next(stream)) for _ in range(5)])"
    done = subprocess.run(
        [sys.executable, script(tmp_path, then), method],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("[1, 2, 3, 4, 5]\n")


def test_what_cannot_be_sent_to_a_process_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    spawn = multiprocessing.get_context("spawn")
    monkeypatch.setattr(multiprocessing, "get_context", lambda: spawn)
    with pytest.raises(UserError, match=r"cannot be sent to another process .*: use workers=0"):
        list(run(lambda number: number, range(3)))

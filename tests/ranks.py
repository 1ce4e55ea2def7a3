"""Two processes that have joined each other over gloo, and do together what a test tells them."""

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

WORLD_SIZE = 2
PATIENCE = 120  # seconds that a piece of work may take before the test fails


_NAME = "rank"


def workers() -> list[BaseProcess]:
    """Return the children of this process that are none of `Ranks`, which live through many tests."""
    return [child for child in multiprocessing.active_children() if not child.name.startswith(_NAME)]


class Ranks:
    """Started once for all tests, because each process imports torch anew."""

    def __init__(self, folder: Path) -> None:
        sys.path.insert(0, str(Path(__file__).parents[1]))  # a spawned process finds `tests` there
        context = multiprocessing.get_context("spawn")
        self._ends, self._running = [], []
        for rank in range(WORLD_SIZE):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(rank, folder / "meeting", theirs), name=f"{_NAME} {rank}", daemon=False
            )
            process.start()
            self._ends.append(ours)
            self._running.append(process)
        sys.path.pop(0)

    def __call__(self, work: Callable[..., Any], *args: Any) -> list[Any]:
        """Return what a function of a test module returns in each of the two."""
        for end in self._ends:
            end.send((work, args))
        answers = []
        for end in self._ends:
            assert end.poll(PATIENCE), f"{work.__name__} has not come back: a process waits for the other"
            answers.append(end.recv())
        for answer, is_good in answers:
            assert is_good, answer
        return [answer for answer, _ in answers]

    def close(self) -> None:
        for end in self._ends:
            end.send(None)
        for process in self._running:
            process.join(10)
            process.kill()


def _serve(rank: int, meeting: Path, end: Connection) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "CUDA_VISIBLE_DEVICES": "",  # two processes cannot share one GPU
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(WORLD_SIZE),
        "LOCAL_WORLD_SIZE": str(WORLD_SIZE),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "0",  # not used: they meet in a file
    }
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=WORLD_SIZE
    )
    while (told := end.recv()) is not None:
        work, args = told
        try:
            end.send((work(*args), True))
        except BaseException:
            end.send((traceback.format_exc(), False))
    torch.distributed.destroy_process_group()

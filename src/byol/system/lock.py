"""One process at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive_lock(lock: Path) -> Iterator[None]:
    """Let one process at a time in; the system lets go of it when the process ends, however it ends.

    Args:
        lock: a file in a folder that exists; it is made where it is missing, and stays.
    """
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

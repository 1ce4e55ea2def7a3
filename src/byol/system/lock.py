"""One process at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from byol.errors import UserError


@contextmanager
def exclusive_lock(lock: Path) -> Iterator[None]:
    """Let one process at a time in; the system lets go of it when the process ends, however it ends.

    Args:
        lock: a file in a folder that exists; it is made where it is missing, and stays.
    """
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def held(lock: Path, refusal: str) -> Iterator[None]:
    """Hold a file for as long as the context lasts, and send away whoever comes meanwhile.

    It is this process's alone: what it forks does not hold it, and the system lets go of it when the process
    ends, however it ends.

    Args:
        lock: a file in a folder that exists; it is made where it is missing, and stays.
        refusal: what to say where another process holds it; "{holder}" becomes the number of that process.

    Raises:
        UserError: another process holds it.
    """
    with lock.open("a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:  # POSIX allows both
            file.seek(0)
            raise UserError(refusal.format(holder=file.read().strip() or "unknown")) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield

"""One process at a time."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from byol.errors import UserError

# What file systems say that cannot lock; nothing can be held there, and work goes on without.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


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
    with lock.open("a+", errors="replace") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:  # POSIX allows both
            file.seek(0)
            raise UserError(refusal.replace("{holder}", file.read().strip() or "unknown")) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield

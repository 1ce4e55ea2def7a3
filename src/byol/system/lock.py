"""One process at a time."""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from byol.errors import UserError

# What file systems say that cannot lock; nothing can be held there, and work goes on without.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


try:
    import fcntl

    def _take(file: IO[str], *, waits: bool, for_us: bool) -> None:
        """Lock a file, for this process alone where it is `for_us`, else for what it forks too."""
        mode = fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB
        (fcntl.lockf if for_us else fcntl.flock)(file, mode)

except ImportError:  # Windows
    import msvcrt

    def _take(file: IO[str], *, waits: bool, for_us: bool) -> None:
        """Lock a byte far behind what stands in the file, which others may go on reading."""
        while True:
            file.seek(1 << 30)
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
                return
            except OSError as error:
                if not waits:
                    raise BlockingIOError(errno.EAGAIN, "another process holds it") from error
            time.sleep(0.1)


@contextmanager
def exclusive_lock(lock: Path) -> Iterator[None]:
    """Let one process at a time in; the system lets go of it when the process ends, however it ends.

    Args:
        lock: a file in a folder that exists; it is made where it is missing, and stays.
    """
    with lock.open("w") as file:
        _take(file, waits=True, for_us=False)
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
            _take(file, waits=False, for_us=True)
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

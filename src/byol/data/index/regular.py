"""Files are read whole, and only where that ends: no pipe, no device, no file without bounds."""

import errno
import os
import stat

from byol.data.image.kinds import UndecodableImage

LARGEST = 1 << 30  # bytes; 200 megapixels take 800 MB uncompressed

_REASONS = {
    errno.ENOENT: "it is missing",
    errno.ENOTDIR: "it is missing",
    errno.EACCES: "it may not be read: its permissions forbid it",
    errno.EPERM: "it may not be read: its permissions forbid it",
    errno.ELOOP: "it is a link that leads back to itself",
    errno.EISDIR: "it is a folder",
    errno.ENXIO: "it is a socket or a pipe, and no file",
    errno.ENAMETOOLONG: "its path is too long for this system",
}


def file_bytes(path: str | os.PathLike[str], reach: int | None = None) -> bytes:
    """Return what a file holds.

    Args:
        path: of the file, or of a link to it.
        reach: how many of its first bytes are enough; all by default.

    Raises:
        UndecodableImage: it is no regular file, has more than `LARGEST` bytes, or cannot be read.
    """
    try:
        with open(path, "rb", buffering=0, opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UndecodableImage(
                    _REASONS[errno.EISDIR] if stat.S_ISDIR(status.st_mode) else "it is no regular file"
                )
            if reach is not None:
                return file.read(reach)
            if status.st_size > LARGEST:
                raise UndecodableImage(f"it has {status.st_size:,} bytes, and a picture may have {LARGEST:,}")
            return file.readall() if status.st_size else b""
    except OSError as error:
        raise UndecodableImage(
            _REASONS.get(error.errno or 0, f"it cannot be read ({error.strerror})")
        ) from error
    except ValueError as error:  # a name that holds a zero byte
        if isinstance(error, UndecodableImage):
            raise
        raise UndecodableImage("its name cannot be that of a file") from error


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; what waits for a writer, such as a named pipe, is opened at once."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))

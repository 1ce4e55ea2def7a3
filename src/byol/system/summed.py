"""Files with a digest behind their content: a bit that a disk has turned is found when the file is read.

Behind the content stand a mark (8 bytes) and a BLAKE2b digest (16 bytes) of all before the mark. Checking
reads the whole file, at about a gigabyte a second.
"""

import hashlib
from typing import IO

_MARK = b"byol sum"
_SUM = 16  # bytes of the digest
_PART = 1 << 20
TAIL = len(_MARK) + _SUM


class Summed:
    """A stream that keeps a digest of what is written to it.

    Args:
        file: what is written through to; it stands at its beginning.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self._sum = file, hashlib.blake2b(digest_size=_SUM)

    def write(self, data: bytes) -> int:
        """Write a part of the content."""
        self._sum.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        """Hand what was written to the system."""
        self.file.flush()

    def end(self) -> None:
        """Write the digest behind the content."""
        self.file.write(_MARK + self._sum.digest())


def add_sum(file: IO[bytes]) -> None:
    """Write the digest behind a file that is open for reading and writing, after reading all of it."""
    file.seek(0)
    found = hashlib.blake2b(digest_size=_SUM)
    while part := file.read(_PART):
        found.update(part)
    file.write(_MARK + found.digest())


def has_sum(file: IO[bytes]) -> bool:
    """Return whether a file ends as one that `Summed` wrote."""
    file.seek(max(file.seek(0, 2) - TAIL, 0))
    return file.read(len(_MARK)) == _MARK


def content_end(file: IO[bytes]) -> int:
    """Return where the content ends, after reading all of it, and move to its beginning.

    Raises:
        ValueError: there is no digest, or it is another one.
    """
    end = file.seek(0, 2) - TAIL
    if end < 0 or not has_sum(file):
        raise ValueError("it has no digest")
    known, found, left = file.read(_SUM), hashlib.blake2b(digest_size=_SUM), end
    file.seek(0)
    while left and (part := file.read(min(_PART, left))):
        found.update(part)
        left -= len(part)
    if found.digest() != known:
        raise ValueError("its digest differs")
    file.seek(0)
    return end

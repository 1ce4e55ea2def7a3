"""Arrays and strings that are mapped from a file: no process holds a copy of its own."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import IO, Any
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from byol.system.summed import Summed


@dataclass(frozen=True, eq=False)
class Names:
    """Many strings in two arrays, which can be mapped from a file.

    Args:
        offsets: (N + 1,): string i is letters[offsets[i] : offsets[i + 1]].
        letters: the strings as bytes, one behind the other.
    """

    offsets: NDArray[np.int64]
    letters: NDArray[np.uint8]

    @classmethod
    def of(cls, names: Sequence[str]) -> "Names":
        """Return some strings in this form."""
        encoded = [os.fsencode(name) for name in names]
        offsets = np.zeros(len(names) + 1, np.int64)
        np.cumsum([len(name) for name in encoded], out=offsets[1:])
        return cls(offsets, np.frombuffer(b"".join(encoded), np.uint8))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> str:
        assert 0 <= i < len(self), (i, len(self))
        return os.fsdecode(self.letters[self.offsets[i] : self.offsets[i + 1]].tobytes())


class ReadAt:
    """A file that is read in pieces, by any number of threads and by processes that are forked from this one.

    It is not mapped: what somebody cuts off while it is read is missing then, and does not end the process.

    Args:
        path: of the file, which stays open as long as this lives.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._size, self._lock = os.fstat(self._file).st_size, Lock()
        finalize(self, os.close, self._file)

    def is_whole(self) -> bool:
        """Return whether the file has all the bytes that it had when it was opened."""
        return os.fstat(self._file).st_size >= self._size

    def read(self, start: int, length: int) -> bytes:
        """Return some bytes from a place on."""
        if hasattr(os, "pread"):
            return os.pread(self._file, length, start)
        with self._lock:  # on Windows
            os.lseek(self._file, start, os.SEEK_SET)
            return os.read(self._file, length)


def map_array(stream: IO[bytes]) -> NDArray[Any]:
    """Map the .npy array that begins here into memory (copy on write), and move the stream behind it.

    Raises:
        ValueError: there is no whole array of numbers here.
    """
    np.lib.format.read_magic(stream)
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject:
        raise ValueError("the array holds objects")  # whose addresses would be taken from the file
    start = stream.tell()
    array = np.memmap(stream, dtype, "c", start, shape)  # moves the stream
    stream.seek(start + array.nbytes)
    return np.asarray(array)  # the plain array, whose indexing is several times faster


def is_whole(array: NDArray[Any]) -> bool:
    """Return whether the file that an array is mapped from still holds all of it.

    Where somebody has cut it short, looking at what is gone would end the process. An array that is not
    mapped is whole.
    """
    base: Any = array
    while base is not None and not isinstance(base, np.memmap):
        base = getattr(base, "base", None)
    return base is None or base._mmap.size() >= base.offset + base.nbytes  # type: ignore[attr-defined]


def write_arrays(file: IO[bytes], arrays: Iterable[NDArray[Any]]) -> None:
    """Write arrays one behind the other, with a digest at the end; `content_end` checks it."""
    summed = Summed(file)
    for array in arrays:
        np.lib.format.write_array(summed, array, allow_pickle=False)
    summed.end()

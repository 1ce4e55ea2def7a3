"""Arrays and strings that are mapped from a file: no process holds a copy of its own."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray


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

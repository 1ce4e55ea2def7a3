"""Whether two sets hold the same images, wherever they lie: what a run is bound to.

What counts is the number of items, their names relative to the set's root, classes and labels (the online
classifier learns from them), the bytes that each takes, and what is in them. Neither does it count where the
set lies, nor any time stamp, nor whether it is kept in memory or read from files: a set that was moved,
copied or unpacked again is the same set.

Names and sizes are those of all items. Contents are those of all items too where these are no more than
`MANY`, and take no more than `WHOLE` bytes together. Else they are of items spread evenly over the set: as
many as `WHOLE` bytes hold, `FEWEST` to `MOST`. So an item that is added, removed, renamed, given another
label or another size is always seen. One whose content was replaced by exactly as many bytes is seen in a set
of N items with a probability of M / N, where M is the number of those that are read; in a small set, in a
pack (which holds a digest of each) and in a tensor always. Of a million files it takes about as long as
asking the file system for a million sizes.
"""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from byol.system.digest import digest, number_digest

WHOLE, MANY = 64 << 20, 20_000
FEWEST, MOST = 64, 1024

_MISSING = 0  # content of an item that cannot be read


@dataclass(frozen=True)
class Identity:
    """Which images a set holds.

    Args:
        count: how many.
        digest: hex digest of names, labels, sizes and contents.
    """

    count: int
    digest: str


def identify(
    names: Iterable[str],
    classes: tuple[str, ...],
    labels: NDArray[np.int64] | None,
    sizes: NDArray[np.int64],
    contents: NDArray[np.int64],
) -> Identity:
    """Return the identity of a set of N items.

    Args:
        names: of each, relative to the set's root.
        classes: their names.
        labels: (N,) or (N, C), or None.
        sizes: (N,) bytes that each takes; -1 of one that is missing.
        contents: digests of those that were read.
    """
    letters = b"\0".join(map(os.fsencode, names))
    known = () if labels is None else (np.asarray(labels, np.int64),)
    said = digest(letters, b"\0\0", json.dumps([classes, len(sizes)]), *known, sizes, contents)
    return Identity(len(sizes), said)


def spread(sizes: NDArray[np.int64]) -> list[int]:
    """Return the positions of the items whose contents count, by the bytes of each item (N,)."""
    count, total = len(sizes), int(sizes.clip(0).sum())
    if total <= WHOLE and count <= MANY:
        return list(range(count))
    chosen = min(count, max(FEWEST, min(MOST, WHOLE * count // max(1, total))))
    positions: list[int] = np.linspace(0, count - 1, chosen).astype(np.int64).tolist()
    return positions


def contents_of(positions: Iterable[int], read: Callable[[int], bytes]) -> NDArray[np.int64]:
    """Return a digest of each item at some positions; the same one of all that cannot be read.

    Args:
        positions: which items.
        read: returns what one holds, or raises OSError or ValueError.
    """

    def content(i: int) -> int:
        try:
            return number_digest(read(i))
        except (OSError, ValueError):
            return _MISSING

    return np.array([content(i) for i in positions], np.int64)

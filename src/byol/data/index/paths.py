"""The index of images that are files of their own: their paths, in a cache file.

Every process maps the cache file into memory: loader workers share its pages, and a list of a million strings
lives no longer than it takes to write the file. A split has N images.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tokenize import TokenError
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from byol.data.identity import Identity, contents_of, identify, spread
from byol.data.image.decode import Decoded, Jpeg, opened
from byol.data.image.depth import HEAD, Deep, PixelRange, deep_file, may_be_deep
from byol.data.index.mapped import Names, map_array, write_arrays
from byol.data.index.regular import file_bytes
from byol.errors import UserError
from byol.system.digest import digest
from byol.system.files import whole_file
from byol.system.home import expanded
from byol.system.summed import content_end

_FORMAT = 4  # raise it whenever the layout of the cache file changes
_CLOCK_NS = 2_000_000_000  # tick of the coarsest file system clock (FAT)
UNKNOWN = -1  # a stamp that no file has
_UNREADABLE = (  # what reading a damaged cache file raises
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    SyntaxError,
    MemoryError,
    RecursionError,
    TokenError,
)


@dataclass(frozen=True, eq=False)
class FolderIndex:
    """The images of one split: paths in a mapped cache file, and their classes where folders or a list say.

    Pickled, it is the name of its cache file and no more, so it costs nothing to send to a worker.

    Args:
        root: the folder that names are relative to.
        labels: (N,) int64, numbers of `classes`; (N, C) int64 of 0 and 1 where a list gives an image any
            number of labels; None for images without classes.
        classes: names of the C classes, sorted, the same for every labelled split; empty without labels.
        fingerprint: hex digest of the root, the names and the labels.
        notes: what a person has to know of how the set was found, a sentence each.
        pixel_range: as of `Index`.
    """

    root: str
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    fingerprint: str
    _file: Path
    _split: str
    _names: Names
    notes: tuple[str, ...] = ()
    pixel_range: PixelRange | None = None

    is_stored: ClassVar[bool] = True

    def __len__(self) -> int:
        return len(self._names)

    def name(self, i: int) -> str:
        """Return the path of image i relative to the root."""
        return self._names[i]

    def path(self, i: int) -> str:
        """Return the absolute path of image i."""
        return os.path.join(self.root, self.name(i))  # noqa: PTH118 - a Path takes three times as long

    def bytes(self, i: int) -> bytes:
        """Return what the file of image i holds.

        Raises:
            UndecodableImage: it is missing, no regular file, or cannot be read.
        """
        return file_bytes(self.path(i))

    def open(self, i: int) -> Decoded | Jpeg:
        """Return image i with its size known.

        Raises:
            UndecodableImage: the file is missing or no image.
        """
        return opened(self.bytes(i), self.pixel_range)

    def meaning(self, pixel_range: PixelRange, notes: tuple[str, ...]) -> Self:
        """Return the same images, read by a range, with notes more."""
        return replace(self, pixel_range=pixel_range, notes=(*self.notes, *notes))

    def deep(self, i: int) -> Deep | None:
        """Return the samples of image i if they have more than 8 bits each; of most files the head tells."""
        try:
            is_deep = may_be_deep(file_bytes(self.path(i), HEAD))
            return deep_file(self.bytes(i)) if is_deep else None
        except (OSError, ValueError):
            return None  # it is told when it is read

    def identity(self) -> Identity:
        """Return which images these are; of a large set not all files are read, see `data.identity`."""
        sizes = np.ascontiguousarray(self.stamps()[:, 0])
        names = (self.name(i) for i in range(len(self)))
        return identify(names, self.classes, self.labels, sizes, contents_of(spread(sizes), self.bytes))

    def stamps(self) -> NDArray[np.int64]:
        """Return size and time stamp of each file (N, 2), which change when it does; -1 if there is none."""
        stamps = np.full((len(self), 2), -1, np.int64)
        for i in range(len(self)):
            with suppress(OSError):
                status = os.stat(self.path(i))  # noqa: PTH116 - a Path takes twice as long
                stamps[i] = status.st_size, status.st_mtime_ns
        return stamps

    def pixels(self) -> None:
        """Return None: the files have to be decoded."""
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._file, self._split, self.fingerprint, self.notes, self.pixel_range)


class Found(NamedTuple):
    """The images of one split, sorted, and the class of each, or classes with | between them."""

    names: Sequence[str]
    labels: Sequence[str] | None
    has_several: bool = False


def count_classes(found: Mapping[str, Found]) -> Counter[str]:
    """Return how many images each class has, in all splits together."""
    counts: Counter[str] = Counter()
    for _, labels, has_several in found.values():
        names = (name for label in labels or () for name in several(label)) if has_several else labels
        counts.update(names or ())
    return counts


def several(label: str) -> list[str]:
    """Return the names that stand between the bars."""
    return [name.strip() for name in label.split("|") if name.strip()]


def stamp(status: os.stat_result) -> int:
    """Return the time stamp of a file or directory."""
    # What changed a moment ago can change again without its time stamp moving, so that one is not trusted.
    return status.st_mtime_ns if time.time_ns() - status.st_mtime_ns > _CLOCK_NS else UNKNOWN


def cache_file(cache: Path, kind: str, source: Path) -> Path:
    """Return the cache file of what was found at a source in one way."""
    key = digest(os.fsencode(f"{_FORMAT}\0{kind}\0{source}"), length=16)
    return expanded(cache).resolve() / f"{source.name}-{key}.index"


def write(
    file: Path, root: Path, stamps: dict[str, int], found: dict[str, Found], notes: Sequence[str] = ()
) -> dict[str, FolderIndex]:
    """Write the images found into a cache file, and map it.

    Args:
        file: the cache file.
        root: the folder that names are relative to.
        stamps: path -> time stamp of what the finding rests on.
        found: split -> images.
        notes: what a person has to know.
    """
    classes = sorted(count_classes(found))
    number = {label: i for i, label in enumerate(classes)}
    header: dict[str, Any] = {"root": str(root), "stamps": stamps, "classes": classes, "splits": {}}
    header["notes"] = list(notes)
    arrays: list[NDArray[Any]] = []
    for split, (names, labels, has_several) in found.items():
        mapped = Names.of(names)
        parts: list[NDArray[Any]] = [mapped.offsets, mapped.letters]
        if labels is not None and has_several:
            among = np.zeros((len(labels), len(classes)), np.int64)
            for row, label in zip(among, labels, strict=True):
                row[[number[name] for name in several(label)]] = 1
            parts.append(among)
        elif labels is not None:
            parts.append(np.array([number[label] for label in labels], np.int64))
        fingerprint = digest(json.dumps([str(root), classes]), *parts, length=64)
        header["splits"][split] = (fingerprint, labels is not None)
        arrays += parts
    with whole_file(file) as stream:
        write_arrays(stream, [np.frombuffer(json.dumps(header).encode(), np.uint8), *arrays])
    return _read(file)[1]


def _read(file: Path) -> tuple[dict[str, int], dict[str, FolderIndex]]:
    """Map a cache file: the time stamps it rests on, and split -> index."""
    with file.open("rb") as stream:
        header = json.loads(map_array(stream).tobytes())
        splits = {}
        for split, (fingerprint, labelled) in header["splits"].items():
            names = Names(map_array(stream), map_array(stream))
            labels, classes = (map_array(stream), tuple(header["classes"])) if labelled else (None, ())
            splits[split] = FolderIndex(
                header["root"], labels, classes, fingerprint, file, split, names, tuple(header["notes"])
            )
    return header["stamps"], splits


def load(file: Path) -> dict[str, FolderIndex] | None:
    """Return what a cache file holds; None where there is none, or something has changed since."""
    try:
        with file.open("rb") as stream:
            content_end(stream)  # once: who reopens it trusts this
        stamps, splits = _read(file)
        is_fresh = all(Path(path).stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    except _UNREADABLE:  # no such file, one that is damaged, or a directory that has gone
        return None
    return splits if is_fresh else None


def _reopen(
    file: Path, split: str, fingerprint: str, notes: tuple[str, ...], pixel_range: PixelRange | None
) -> FolderIndex:
    index = _read(file)[1].get(split)
    if index is None or index.fingerprint != fingerprint:
        raise UserError(f"The images below {file.stem} changed while they were being read: start again.")
    return replace(index, notes=notes, pixel_range=pixel_range)

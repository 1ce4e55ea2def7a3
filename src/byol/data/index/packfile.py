"""A pack: one file that holds the images of a set, mapped into memory, with their names, labels and splits.

The images come first, one behind the other, so that a writer need not keep them; then tables as .npy arrays,
and at the very end a digest of the tables and where they begin. An image is either the bytes of an image
file, such as JPEG, or its pixels. The same images make the same bytes. A split has N images.

The tables hold a digest of each image, and an image is compared with it whenever it is read: what a disk has
turned is a file that cannot be used, like any other.
"""

import json
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from byol.data.identity import Identity, identify
from byol.data.image.decode import Decoded, Jpeg, opened
from byol.data.image.depth import PixelRange
from byol.data.image.kinds import UndecodableImage
from byol.data.index.mapped import Names, ReadAt, map_array
from byol.errors import UserError
from byol.system.digest import bytes_digest, number_digest

_MAGIC = b"byolpack"
_FORMAT = 1  # raise it whenever the layout changes
_TAIL = struct.Struct("<16sqq8s")  # digest and beginning of the tables, format, magic


@dataclass(frozen=True, eq=False)
class PackIndex:
    """The images of one split of a pack.

    Pickled, it is the name of its file and no more, so it costs nothing to send to a worker.

    Args:
        root: the pack's own path.
        labels: as of `Index`.
        classes: as of `Index`.
        fingerprint: hex digest of all tables of the pack.
        notes: as of `Index`.
        pixel_range: by which pictures of more than 8 bits a sample were read when they were packed.
    """

    root: str
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    fingerprint: str
    _split: str
    _names: Names
    _file: ReadAt  # the whole pack
    _places: NDArray[np.int64]  # (N, 4): where image i begins, its bytes, and H and W, or 0 of an image file
    _digests: NDArray[np.int64]  # (N,) of the bytes of each image
    notes: tuple[str, ...] = ()
    pixel_range: PixelRange | None = None

    is_stored: ClassVar[bool] = True

    def __len__(self) -> int:
        return len(self._places)

    def name(self, i: int) -> str:
        """Return the path that image i had in the set that was packed."""
        return self._names[i]

    def bytes(self, i: int) -> bytes:
        """Return image i as it is stored.

        Raises:
            UndecodableImage: the pack is damaged there.
            UserError: the pack has been cut short since it was opened.
        """
        self._refuse_cut()
        start, length, _, _ = self._places[i].tolist()
        data = self._file.read(start, length)
        if number_digest(data) != self._digests[i]:
            raise UndecodableImage("the pack is damaged there")
        return data

    def _refuse_cut(self) -> None:
        """Raise a UserError where the tables, which are mapped, are no longer there."""
        if not self._file.is_whole():
            raise UserError(f"The pack {self.root} was cut short while it was read: pack the images again.")

    def open(self, i: int) -> Decoded | Jpeg:
        """Return image i with its size known.

        Raises:
            UndecodableImage: the pack is damaged there.
        """
        data = self.bytes(i)
        _, _, height, width = self._places[i].tolist()
        return Decoded(np.frombuffer(data, np.uint8).reshape(height, width, 3)) if height else opened(data)

    def meaning(self, pixel_range: PixelRange, notes: tuple[str, ...]) -> Self:
        """Return the same images with notes more: their range is the one that they were packed by."""
        return replace(self, notes=(*self.notes, *notes))

    def deep(self, i: int) -> None:
        """Return None: a pack holds 8 bits a sample."""
        return None

    def identity(self) -> Identity:
        """Return which images these are, by the digests that the pack holds of all of them."""
        names = (self.name(i) for i in range(len(self)))
        sizes = np.ascontiguousarray(self._places[:, 1])
        return identify(names, self.classes, self.labels, sizes, self._digests)

    def stamps(self) -> NDArray[np.int64]:
        """Return bytes and digest of each image (N, 2), which change when the image does."""
        return np.stack((self._places[:, 1], self._digests), axis=1)

    def pixels(self) -> NDArray[np.uint8] | None:
        """Return all images (N, H, W, 3), mapped; None unless they are pixels of one size.

        Raises:
            UserError: the pack is damaged.
        """
        start, _, height, width = self._places[0].tolist()
        if not height or (self._places[:, 2:] != (height, width)).any():
            return None
        for i in range(len(self)):
            try:
                self.bytes(i)
            except UndecodableImage as error:
                raise UserError(_damaged(self.root)) from error
        shape = len(self), height, width, 3
        # Copy on write, so that torch takes it for writable; nobody writes.
        return np.asarray(np.memmap(self.root, np.uint8, "c", start, shape))

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.root, self._split, self.fingerprint)


class PackWriter:
    """Writes a pack into a stream, image by image, and keeps none.

    Args:
        stream: an empty file, open for writing and reading.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._place = stream, stream.write(_MAGIC)
        self._has_labels: dict[str, bool] = {}
        self._tables: list[NDArray[Any]] = []
        self._rows: list[tuple[int, int, int, int]] = []
        self._digests: list[int] = []

    def add(self, image: bytes | NDArray[np.uint8]) -> None:
        """Append an image to the current split: the bytes of an image file, or (H, W, 3) uint8."""
        height, width = (0, 0) if isinstance(image, bytes) else image.shape[:2]
        data = image if isinstance(image, bytes) else image.tobytes()
        self._stream.write(data)
        self._rows.append((self._place, len(data), height, width))
        self._digests.append(number_digest(data))
        self._place += len(data)

    def end_split(self, split: str, names: Sequence[str], labels: NDArray[np.int64] | None) -> None:
        """Close a split whose images have been added.

        Args:
            split: train, val or test.
            names: of the images added.
            labels: of the images added, as of `Index`.
        """
        assert len(names) == len(self._rows) > 0, (len(names), len(self._rows))
        mapped = Names.of(names)
        places, digests = np.array(self._rows, np.int64), np.array(self._digests, np.int64)
        self._tables += [places, digests, mapped.offsets, mapped.letters]
        self._tables += [] if labels is None else [labels]
        self._has_labels[split] = labels is not None
        self._rows, self._digests = [], []

    def end(self, classes: Sequence[str], pixel_range: PixelRange | None = None) -> None:
        """Write what stands behind the images.

        Args:
            classes: names of all classes.
            pixel_range: by which pictures of more than 8 bits a sample were read.
        """
        header: dict[str, Any] = {"classes": classes, "has_labels": self._has_labels}
        if pixel_range is not None:
            header["pixel_range"] = pixel_range.to_json()
        for table in (np.frombuffer(json.dumps(header).encode(), np.uint8), *self._tables):
            np.save(self._stream, table)
        self._stream.seek(self._place)
        digest = bytes_digest(self._stream.read())
        self._stream.write(_TAIL.pack(digest, self._place, _FORMAT, _MAGIC))


def is_pack(path: Path) -> bool:
    """Return whether a file begins as a pack does."""
    with path.open("rb") as stream:
        return stream.read(len(_MAGIC)) == _MAGIC


def open_pack(file: Path) -> dict[str, PackIndex]:
    """Map the images of a pack.

    The tables are checked; an image that has been damaged is found when it is read.

    Returns:
        Split -> images.

    Raises:
        UserError: the pack was cut short or damaged, or is of another version.
    """
    with file.open("rb") as stream:
        digest, start = _tail(stream, file)
        stream.seek(start)
        if bytes_digest(stream.read()[: -_TAIL.size]) != digest:
            raise UserError(_damaged(file))
        return _read(stream, file, digest, start)


def _tail(stream: IO[bytes], file: Path) -> tuple[bytes, int]:
    """Return the digest of a pack's tables and where they begin."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _TAIL.size))
    digest, start, version, magic = _TAIL.unpack(stream.read().rjust(_TAIL.size))
    if magic != _MAGIC or not 0 < start < size:
        raise UserError(f"The pack {file} was cut short at {size:,} bytes: pack the images again.")
    if version != _FORMAT:
        raise UserError(
            f"The pack {file} is of format {version}, but {_FORMAT} is read here: pack the images again."
        )
    return digest, start


def _read(stream: IO[bytes], file: Path, digest: bytes, start: int) -> dict[str, PackIndex]:
    splits, whole = {}, ReadAt(file)
    try:
        stream.seek(start)
        header = json.loads(map_array(stream).tobytes())
        said = header.get("pixel_range")
        pixel_range = None if said is None else PixelRange.from_json(said)
        for split, has_labels in header["has_labels"].items():
            places, digests = map_array(stream), map_array(stream)
            names = Names(map_array(stream), map_array(stream))
            labels, classes = (map_array(stream), tuple(header["classes"])) if has_labels else (None, ())
            if (places < 0).any() or (places[:, 0] + places[:, 1] > start).any():
                raise ValueError("an image lies outside the pack")
            pixels = places[places[:, 2] > 0]
            if (pixels[:, 1] != 3 * pixels[:, 2] * pixels[:, 3]).any():
                raise ValueError("an image has more or fewer bytes than pixels")
            splits[split] = PackIndex(
                str(file),
                labels,
                classes,
                digest.hex(),
                split,
                names,
                whole,
                places,
                digests,
                (),
                pixel_range,
            )
    except (
        ValueError,
        LookupError,
        TypeError,
    ) as error:  # its tables are whole, but no writer of ours made them
        raise UserError(_damaged(file)) from error
    return splits


def _damaged(file: Path | str) -> str:
    return f"The pack {file} is damaged: pack the images again."


def _reopen(path: str, split: str, fingerprint: str) -> PackIndex:
    file = Path(path)
    with file.open("rb") as stream:
        index = _read(stream, file, *_tail(stream, file)).get(split)
    if index is None or index.fingerprint != fingerprint:
        raise UserError(f"The pack {file} changed while it was being read: start again.")
    return index

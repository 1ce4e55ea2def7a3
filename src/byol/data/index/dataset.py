"""The index of a person's own images: a tensor, or a map-style `torch.utils.data.Dataset`.

An item is a picture, or a tuple of a picture and an int, its label. A picture is a PIL image, an array
(H, W, 3) or a tensor (3, H, W), read as `byol.data.image.given` reads them.
"""

import copy
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from byol.data.identity import FEWEST, MOST, Identity, contents_of, identify
from byol.data.image.decode import Decoded
from byol.data.image.depth import Deep, PixelRange
from byol.data.image.given import VALUES, deep_of, kind, one
from byol.data.image.kinds import UndecodableImage
from byol.data.unreadable import unexpected
from byol.errors import UserError
from byol.system.digest import digest, number_digest


class MapStyle(Protocol):
    """What is asked of a data set: a length, and an item for each number below it."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> Any: ...


class DatasetIndex:
    """The images of a data set, asked for one by one and by one thread at a time.

    Its items have to be the same whenever they are asked for: random transforms are the views' affair.

    Labels are read once, here: from `targets` or `labels` of the data set where they are N ints (or an
    (N, C) table of 0 and 1), or else from its items where these are tuples with an int behind the picture,
    which takes one pass over them. Classes are called as its `classes` says, or else by their numbers.

    Args:
        dataset: with `__len__` and `__getitem__`.

    Raises:
        UserError: it is empty, or its first item, or an item read for its label, is of another kind.
    """

    is_stored: ClassVar[bool] = False

    def __init__(self, dataset: MapStyle) -> None:
        self._dataset, self._lock = dataset, threading.Lock()
        self.root = f"the {type(dataset).__name__}"
        self.notes: tuple[str, ...] = ()
        self.pixel_range: PixelRange | None = None
        if not len(self):
            raise UserError(f"{self.root} is empty; give at least one image.")
        self.labels, self.classes = self._labels(self._first())
        self._stamps: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self._dataset)

    @property
    def fingerprint(self) -> str:
        """Hex digest of length and labels: what else there is, only reading it tells."""
        labels = () if self.labels is None else (self.labels,)
        return digest(f"{self.root} {len(self)} {self.classes}", *labels, length=64)

    def name(self, i: int) -> str:
        """Return the number of image i."""
        return str(i)

    def bytes(self, i: int) -> bytes:
        """Return the pixels of image i, (H, W, 3)."""
        return self._pixels(i).tobytes()

    def open(self, i: int) -> Decoded:
        """Return image i.

        Raises:
            UndecodableImage: the data set cannot read its file.
            UserError: the item is no picture.
        """
        return Decoded(self._pixels(i))

    def meaning(self, pixel_range: PixelRange, notes: tuple[str, ...]) -> Self:
        """Return the same images, read by a range, with notes more."""
        meant = copy.copy(self)
        meant.pixel_range, meant.notes = pixel_range, (*self.notes, *notes)
        return meant

    def deep(self, i: int) -> Deep | None:
        """Return the samples of image i if they have more than 8 bits each and can be read; else None."""
        try:
            return deep_of(_picture_of(self._item(i)))
        except (UndecodableImage, OSError):
            return None

    def identity(self) -> Identity:
        """Return which images these are: by labels and up to `MOST` items, spread over the set.

        Items that change from one reading to the next, against the rule, are not looked at: a set of them is
        known by its length and labels alone.
        """
        positions = np.linspace(0, len(self) - 1, min(MOST, len(self))).astype(np.int64).tolist()
        some = positions[:: max(1, len(positions) // FEWEST)]
        is_steady = np.array_equal(contents_of(some, self.bytes), contents_of(some, self.bytes))
        contents = contents_of(positions, self.bytes) if is_steady else np.zeros(0, np.int64)
        sizes = np.zeros(len(self), np.int64)
        return identify(map(str, range(len(self))), self.classes, self.labels, sizes, contents)

    def stamps(self) -> NDArray[np.int64]:
        """Return bytes and digest of each image (N, 2), -1 if it cannot be read; the first call reads all."""
        if self._stamps is None:
            stamps = np.full((len(self), 2), -1, np.int64)
            for i in range(len(self)):
                try:
                    data = self.bytes(i)
                except UndecodableImage:
                    continue
                stamps[i] = len(data), number_digest(data)
            self._stamps = stamps
        return self._stamps

    def pixels(self) -> None:
        """Return None: they are asked for one by one."""
        return None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.Lock()

    def _item(self, i: int) -> Any:
        with self._lock:  # nobody promised that it can be asked by several threads
            try:
                return self._dataset[i]
            except OSError as error:  # Pillow's word for a file that is missing, damaged or no image
                raise UndecodableImage(f"item {i} of {self.root} cannot be read: {error}") from error
            except Exception as error:  # the code is the user's, and may raise anything
                raise unexpected(self.name(i), error) from error

    def _first(self) -> Any:
        """Return the first item that can be read, and make sure that it is a picture."""
        for i in range(len(self)):
            with suppress(UndecodableImage):
                item = self._item(i)
                if deep_of(_picture_of(item)) is None:
                    self._picture(item, i)
                return item
        raise UserError(f"none of the {len(self)} items of {self.root} can be read: see what they are.")

    def _pixels(self, i: int) -> NDArray[np.uint8]:
        return self._picture(self._item(i), i)

    def _picture(self, item: Any, i: int) -> NDArray[np.uint8]:
        """Return the picture of an item as (H, W, 3) uint8."""
        picture, name = _picture_of(item), f"item {i} of {self.root}"
        is_known = isinstance(picture, (Image.Image, Tensor, np.ndarray))
        if not is_known or getattr(picture, "mode", "") == "F":  # whose range nobody knows
            raise UserError(
                f"{name} is {kind(picture)}; it must be a PIL image, an array (H, W, 3) or a tensor "
                f"(3, H, W), of {VALUES}, alone or in a tuple with an int, its label."
            )
        try:
            pixels = one(picture, f"{name}, {kind(picture)},", self.pixel_range)
        except UndecodableImage as error:  # a file is decoded when its pixels are asked for
            raise UndecodableImage(f"{name} cannot be read: {error}") from error
        return np.ascontiguousarray(pixels)

    def _labels(self, first: Any) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
        given = getattr(self._dataset, "targets", getattr(self._dataset, "labels", None))
        if given is not None:
            numbers = _integers(given, len(self))
            return (None, ()) if numbers is None else self._named(numbers)
        if not _has_label(first):
            return None, ()
        found = np.zeros(len(self), np.int64)
        for i in range(len(self)):
            try:
                item = self._item(i)
            except UndecodableImage as error:
                raise UserError(
                    f"{error}; labels are read from the items, so repair it, or give the data set `targets`."
                ) from error
            if not _has_label(item):
                raise UserError(
                    f"item {i} of {self.root} is {kind(item)}, but others are a tuple of a picture and an "
                    "int; give every item its label or none."
                )
            found[i] = int(item[1])
        return self._named(found)

    def _named(self, labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """Return labels that count from 0, and the names of their classes."""
        names = getattr(self._dataset, "classes", None)
        known = tuple(map(str, names)) if isinstance(names, Sequence) and not isinstance(names, str) else ()
        if labels.ndim > 1:
            fits = len(known) == labels.shape[1]
            return labels, known if fits else tuple(map(str, range(labels.shape[1])))
        if known and labels.min() >= 0 and labels.max() < len(known):
            return labels, known
        values, numbers = np.unique(labels, return_inverse=True)
        return numbers.astype(np.int64), tuple(str(value) for value in values.tolist())


def _picture_of(item: Any) -> Any:
    return item[0] if isinstance(item, tuple) and item else item


def _has_label(item: Any) -> bool:
    """Return whether an item is a tuple with an int behind the picture."""
    if not isinstance(item, tuple) or len(item) < 2:
        return False
    label = item[1]
    if isinstance(label, (Tensor, np.ndarray)):
        return label.ndim == 0 and _integers(label[None], 1) is not None
    return isinstance(label, (int, np.integer)) and not isinstance(label, bool)


def _integers(values: Any, length: int) -> NDArray[np.int64] | None:
    """Return labels as (N,) int64, or (N, C) of 0 and 1; None where they are something else."""
    try:
        array = np.asarray(values.cpu() if isinstance(values, Tensor) else values)
    except ValueError:  # rows of different lengths, such as boxes
        return None
    if array.ndim == 0 or len(array) != length:
        return None
    is_table = array.ndim == 2 and array.dtype.kind in "iub" and bool(np.isin(array, (0, 1)).all())
    is_row = array.ndim == 1 and array.dtype.kind in "iu"
    return array.astype(np.int64) if is_row or is_table else None

"""Sets of images: what is asked of each, and the two kinds, in memory and in files.

`InMemory` holds small images of one size in memory, `Files` decodes images of any size whenever they are
read. Both know their labels, classes and names. A set has N images, a batch B; images are H x W pixels, crops
S x S.
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from byol.data.identity import Identity, contents_of, identify
from byol.data.image.decode import Decoded, Jpeg
from byol.data.image.depth import PixelRange
from byol.data.image.kinds import UndecodableImage
from byol.data.image.resample import (
    central_box,
    crop_resize,
    crop_resize_one,
    crop_resize_view,
    needed_fraction,
)
from byol.data.index.slot import Index
from byol.data.unreadable import Bad
from byol.data.views import Crops, Indices, Items
from byol.errors import UserError
from byol.system.digest import bytes_digest, digest

# (index, heights, widths), (B,) each, to the boxes of each view, (B, 4) rows (top, left, height, width)
Boxes = Callable[[Indices, Indices, Indices], tuple[Indices, ...]]

# Images opened before their boxes are drawn. Drawing for one at a time takes a third as long as decoding, and
# a PNG is decoded as soon as it is opened: a whole batch of photographs may not fit into memory.
_GROUP = 8


@runtime_checkable
class Images(Items, Protocol):
    """A set of images, wherever they are."""

    @property
    def pixel_range(self) -> PixelRange | None:
        """What became black and white where there were more than 8 bits a sample; None where nobody said."""
        ...

    def size(self, i: int) -> tuple[int, int]:
        """Return height and width of image i in pixels.

        Raises:
            UndecodableImage: it cannot be read.
        """
        ...

    def read(self, i: int, fraction: float = 1.0) -> NDArray[np.uint8]:
        """Return image i, (H, W, 3) uint8, or coarser where a fraction of height and width is enough.

        Raises:
            UndecodableImage: it cannot be read.
        """
        ...

    def crops(self, index: Indices, boxes: Boxes, sizes: Sequence[int]) -> Crops:
        """Cut boxes out of images and resize them: the fast road to views.

        Args:
            index: (B,) which images.
            boxes: draws where, once heights and widths are known.
            sizes: of each box, the side of its crop in pixels.

        Returns:
            (B', 3, S, S) for each box of the images that can be read, float32 in [0, 1] or uint8.
        """
        ...

    def squares(self, index: Indices, size: int, fraction: float = 1.0) -> tuple[Tensor, Indices]:
        """Return a central square of each image, resized: the fast road to evaluation.

        Args:
            index: (B,) which images.
            size: S, side of the result in pixels.
            fraction: of the shorter side that the square keeps, in (0, 1].

        Returns:
            (B', 3, S, S) float32 in [0, 1], on the device of a set in memory or else on the CPU, and the
            (B',) indices of the images that could be read.
        """
        ...

    def num_bytes(self) -> NDArray[np.int64]:
        """Return the bytes that each image takes as it is stored, (N,); -1 of one that is missing."""
        ...

    def digest_of(self, i: int) -> bytes:
        """Return a digest of image i as it is stored: that of an equal image of a set of the same kind."""
        ...


@dataclass(frozen=True, eq=False)
class InMemory:
    """Small images of one size, in memory.

    Args:
        images: (N, 3, H, W) uint8, on any device.
        labels: (N,) int64, numbers of `classes`; (N, C) of 0 and 1 where an image has any number of labels;
            None for images without classes.
        classes: names of the C classes.
        bad: files that could not be decoded and are not among the images.
        notes: as of `Items`.
        name: gives image i its name.
        known: gives the identity of the set that the images come from, bad ones included; by default it is
            that of the images.
        pixel_range: as of `Images`.
        device: where crops are made; by default where the images are.
        is_whole: tells whether the file that the images are mapped from, if they are, still holds them.
    """

    images: Tensor
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    bad: tuple[Bad, ...] = ()
    notes: tuple[str, ...] = ()
    name: Callable[[int], str] = str
    known: Callable[[], Identity] | None = None
    pixel_range: PixelRange | None = None
    device: torch.device | None = None
    is_whole: Callable[[], bool] | None = None

    in_memory: ClassVar[bool] = True

    def __len__(self) -> int:
        return len(self.images)

    def near(self, device: torch.device) -> "InMemory":
        """Return the same set, cropped on a device; the images move to a GPU if a quarter of it holds them.

        The quarter is of the memory that is free. Otherwise those of each batch are moved in their turn.
        """
        if device == self.images.device:
            return self
        fits = device.type == "cuda" and 4 * self.images.nbytes <= torch.cuda.mem_get_info(device)[0]
        return replace(self, images=self.images.to(device) if fits else self.images, device=device)

    def size(self, i: int) -> tuple[int, int]:
        """Return height and width, the same for every i."""
        return self.images.shape[2], self.images.shape[3]

    def read(self, i: int, fraction: float = 1.0) -> NDArray[np.uint8]:
        """Return image i whole, (H, W, 3) uint8."""
        pixels: NDArray[np.uint8] = self.images[i].permute(1, 2, 0).cpu().numpy()
        return pixels

    def crops(self, index: Indices, boxes: Boxes, sizes: Sequence[int]) -> Crops:
        """Cut boxes out by matrix products, float32 in [0, 1]; see `Images`."""
        height, width = self.size(0)
        drawn = boxes(index, np.full(len(index), height), np.full(len(index), width))
        pixels = self._rows(index).to(self.device, non_blocking=True)
        return Crops(
            index, tuple(crop_resize(pixels, box, size) for box, size in zip(drawn, sizes, strict=True))
        )

    def squares(self, index: Indices, size: int, fraction: float = 1.0) -> tuple[Tensor, Indices]:
        """Return central squares, made by matrix products; see `Images`."""
        boxes = np.tile(np.array(central_box(*self.size(0), fraction)), (len(index), 1))
        return crop_resize(self._rows(index), boxes, size), index

    def _rows(self, index: Indices) -> Tensor:
        if self.is_whole is not None and not self.is_whole():
            raise UserError("the file of the decoded images was cut short while it was read; start again.")
        return self.images.index_select(0, torch.from_numpy(index).to(self.images.device, non_blocking=True))

    def num_bytes(self) -> NDArray[np.int64]:
        """Return the bytes of the pixels of each image, (N,)."""
        return np.full(len(self), self.images[:1].nbytes, np.int64)

    def digest_of(self, i: int) -> bytes:
        """Return a digest of the pixels of image i and of their shape."""
        shape = " ".join(map(str, self.images.shape[1:])).encode()
        return bytes_digest(shape + self.images[i].cpu().numpy().tobytes())

    def identity(self) -> Identity:
        """Return which images these are, as of `Items`."""
        if self.known is not None:
            return self.known()
        names = (self.name(i) for i in range(len(self)))
        contents = contents_of(range(len(self)), self.digest_of)
        return identify(names, self.classes, self.labels, self.num_bytes(), contents)

    def digest(self) -> str:
        """Return a hex digest of pixels and labels."""
        return digest(self.images.cpu().numpy(), *_labels(self))


@dataclass(frozen=True, eq=False)
class Files:
    """Images of any size, decoded whenever they are read: files of their own, of a pack or of a data set."""

    index: Index

    bad: ClassVar[tuple[Bad, ...]] = ()  # not known before they are read
    in_memory: ClassVar[bool] = False

    def __len__(self) -> int:
        return len(self.index)

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """(N,) or (N, C) int64 as in `Index`; None for images without classes."""
        return self.index.labels

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.index.classes

    @property
    def notes(self) -> tuple[str, ...]:
        """As of `Items`."""
        return self.index.notes

    @property
    def pixel_range(self) -> PixelRange | None:
        """As of `Images`."""
        return self.index.pixel_range

    def name(self, i: int) -> str:
        """Return the name of image i: of a file, its path relative to the set's folder."""
        return self.index.name(i)

    def near(self, device: torch.device) -> "Files":
        """Return the same set: files are decoded on the CPU wherever the views go."""
        return self

    def size(self, i: int) -> tuple[int, int]:
        """Return height and width of image i."""
        image = self.index.open(i)
        return image.height, image.width

    def read(self, i: int, fraction: float = 1.0) -> NDArray[np.uint8]:
        """Return image i, decoded as coarsely as a fraction of its height and width allows."""
        return self.index.open(i).read(fraction)[0]

    def crops(self, index: Indices, boxes: Boxes, sizes: Sequence[int]) -> Crops:
        """Decode each image once, as finely as its crops need, and cut them out, uint8; see `Images`."""
        crops = [np.empty((len(index), 3, size, size), np.uint8) for size in sizes]
        kept: list[int] = []
        bad: list[Bad] = []
        for start in range(0, len(index), _GROUP):
            group: dict[int, Decoded | Jpeg] = {}
            for i in index[start : start + _GROUP].tolist():
                try:
                    group[i] = self.index.open(i)
                except UndecodableImage as error:
                    bad.append(Bad(self.name(i), str(error)))
            heights, widths = (
                np.array([(image.height, image.width) for image in group.values()], np.int64).reshape(-1, 2).T
            )
            drawn = boxes(np.array(list(group), np.int64), heights, widths)
            for i, image, *each in zip(group, group.values(), *drawn, strict=True):
                try:
                    pixels, eighths = image.read(needed_fraction(each, sizes))
                except UndecodableImage as error:
                    bad.append(Bad(self.name(i), str(error)))
                    continue
                for crop, box, size in zip(crops, each, sizes, strict=True):
                    crop[len(kept)] = crop_resize_view(pixels, box.tolist(), size, eighths)
                kept.append(i)
        cut = tuple(torch.from_numpy(crop[: len(kept)]) for crop in crops)
        return Crops(np.array(kept, np.int64), cut, tuple(bad))

    def squares(self, index: Indices, size: int, fraction: float = 1.0) -> tuple[Tensor, Indices]:
        """Decode images on all cores and return their central squares; see `Images`."""
        crops = np.empty((len(index), 3, size, size), np.uint8)

        def read(row: int) -> bool:
            try:
                image = self.read(int(index[row]))
            except UndecodableImage:
                return False
            crops[row] = crop_resize_one(image, central_box(image.shape[0], image.shape[1], fraction), size)
            return True

        with ThreadPoolExecutor() as pool:  # decoding and resizing release the GIL
            is_good = np.fromiter(pool.map(read, range(len(index))), np.bool_)
        return torch.from_numpy(crops[is_good]).float().div_(255), index[is_good]

    def num_bytes(self) -> NDArray[np.int64]:
        """Return the bytes of each file, (N,); -1 of one that is missing."""
        return self.index.stamps()[:, 0]

    def digest_of(self, i: int) -> bytes:
        """Return a digest of the bytes of image i as they are stored."""
        return bytes_digest(self.index.bytes(i))

    def identity(self) -> Identity:
        """Return which images these are, as of `Items`."""
        return self.index.identity()

    def digest(self) -> str:
        """Return a hex digest of names and labels, and of sizes and time stamps or what stands for them."""
        names = "\0".join(self.name(i) for i in range(len(self)))
        said = () if self.pixel_range is None else (str(self.pixel_range.to_json()),)
        return digest(names, self.index.stamps(), *_labels(self), *said)


def _labels(images: Images) -> tuple[str | NDArray[np.int64], ...]:
    """Return what a digest takes in of classes and labels."""
    classes = json.dumps(images.classes)
    return (classes,) if images.labels is None else (classes, images.labels)

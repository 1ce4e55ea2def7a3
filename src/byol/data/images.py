"""The two kinds of image sets that the rest of the program sees, and how to open them.

`InMemory` holds small images of one size in memory, `Files` reads images of any size from their files or a
pack. Both know their labels, classes and names. A set has N images, a batch B; images are H x W pixels, crops
S x S.
"""

import hashlib
import json
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from byol.data.image.decode import Decoded, Jpeg, UndecodableImage
from byol.data.image.resample import crop_resize, crop_resize_one
from byol.data.index.folder import Index
from byol.data.index.mapped import map_array
from byol.data.index.packfile import PackIndex
from byol.errors import UserError
from byol.system.files import whole_file

_FORMAT = 1  # raise it whenever decoding or the layout of the cache file changes
_BAD_SHARE = 0.01
_SAMPLE = 64
_CHUNK = 256  # images per task of the thread pool


@dataclass(frozen=True, eq=False)
class InMemory:
    """Small images of one size, in memory.

    Args:
        images: (N, 3, H, W) uint8, on any device.
        labels: (N,) int64, numbers of `classes`; (N, C) of 0 and 1 where an image has any number of labels;
            None for images without classes.
        classes: names of the C classes.
        bad: names of files that could not be decoded and are not among the images.
        name: gives image i its name.
    """

    images: Tensor
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    bad: tuple[str, ...] = ()
    name: Callable[[int], str] = str

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> "InMemory":
        """Return the same set with its images on a device."""
        return replace(self, images=self.images.to(device))


@dataclass(frozen=True, eq=False)
class Files:
    """Images of any size, decoded whenever they are read, from files of their own or from a pack."""

    index: Index | PackIndex

    bad: ClassVar[tuple[str, ...]] = ()  # not known before they are read

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

    def name(self, i: int) -> str:
        """Return the path of image i relative to the set's folder."""
        return self.index.name(i)

    def open(self, i: int) -> Decoded | Jpeg:
        """Return image i with its size known, to be decoded as finely as it is needed.

        Raises:
            UndecodableImage: the file is missing or no image.
        """
        return self.index.open(i)

    def read(self, i: int) -> NDArray[np.uint8]:
        """Return image i, (H, W, 3) uint8.

        Raises:
            UndecodableImage: the file is missing, damaged or no image.
        """
        return self.open(i).read()[0]


Images = InMemory | Files  # the slot of that name takes its place


def near(images: Images, device: torch.device) -> Images:
    """Return images in memory on a GPU if that is the device, and a quarter of its free memory holds them."""
    if device.type != "cuda" or isinstance(images, Files):
        return images
    free, _ = torch.cuda.mem_get_info(device)
    return images.to(device) if 4 * images.images.nbytes <= free else images


def fingerprint(images: Images) -> str:
    """Return a digest of a set's images and labels, the same wherever the set lies.

    Of a packed set it reads the pixels; of files the names, sizes and time stamps; of a pack what is in it.
    """
    if isinstance(images, InMemory):
        digest = hashlib.sha256(np.ascontiguousarray(images.images.cpu().numpy()).data)
    else:
        digest = hashlib.sha256("\0".join(images.name(i) for i in range(len(images))).encode())
        digest.update(images.index.stamps().data)
    digest.update(json.dumps(images.classes).encode())
    if images.labels is not None:
        digest.update(np.ascontiguousarray(images.labels).data)
    return digest.hexdigest()[:32]


def in_memory(
    index: Index | PackIndex, cache: Path, side_limit: int = 128, bytes_limit: int = 2 << 30
) -> InMemory | None:
    """Decode all images once and keep them, if they are small and of one size.

    Args:
        index: the images.
        cache: folder for the decoded images; they are decoded again when a file's size or time stamp changes.
        side_limit: largest height and width, in pixels.
        bytes_limit: largest size of all decoded images together, in bytes.

    Returns:
        The images that can be decoded and the names of the others; None if sizes differ or exceed a limit.

    Raises:
        UserError: too many images cannot be decoded.
    """
    size = _small_size(index, side_limit)
    if size is None or 3 * size[0] * size[1] * len(index) > bytes_limit:
        return None
    if isinstance(index, PackIndex) and (pixels := index.pixels()) is not None:
        mapped = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        return InMemory(mapped, index.labels, index.classes, name=index.name)
    file = cache / f"{_fingerprint(index)}.images"
    if not file.exists():
        images, is_good = np.empty((len(index), 3, *size), np.uint8), np.zeros(len(index), np.bool_)
        if not _decode_all(index, images, is_good):
            return None
        refuse_many_bad([index.name(i) for i in np.flatnonzero(~is_good).tolist()], len(index))
        with whole_file(file) as stream:
            np.save(stream, images if is_good.all() else images[is_good])
            np.save(stream, is_good)
    with file.open("rb") as stream:
        images, is_good = map_array(stream), map_array(stream)
    kept = np.flatnonzero(is_good)
    return InMemory(
        images=torch.from_numpy(images),
        labels=None if index.labels is None else index.labels[kept],
        classes=index.classes,
        bad=tuple(index.name(i) for i in np.flatnonzero(~is_good).tolist()),
        name=lambda i: index.name(int(kept[i])),
    )


def refuse_many_bad(bad: Collection[str], length: int) -> None:
    """Stop at more than one bad image if they are more than one in a hundred of the set.

    Args:
        bad: names of the images that cannot be decoded.
        length: size of the set they belong to.

    Raises:
        UserError: there are more.
    """
    if len(bad) > max(1, _BAD_SHARE * length):
        raise UserError(
            f"{len(bad)} of {length} images cannot be decoded, more than {_BAD_SHARE:.0%}:"
            f" repair or remove {', '.join(sorted(bad)[:3])}{' and the others' if len(bad) > 3 else ''}."
        )


def central(
    images: Images, indices: NDArray[np.int64], size: int, share: float = 1.0
) -> tuple[Tensor, NDArray[np.int64]]:
    """Read images for evaluation: a central square of each, resized.

    Args:
        images: the set.
        indices: (B,) which of its images.
        size: S, side of the result in pixels.
        share: of the shorter side that the square keeps, in (0, 1].

    Returns:
        (B', 3, S, S) float32 in [0, 1], on the device of a packed set or else on the CPU, and the (B',)
        indices of the images that could be decoded.
    """
    if isinstance(images, InMemory):
        pixels = images.images
        boxes = np.tile(np.array(central_box(pixels.shape[2], pixels.shape[3], share)), (len(indices), 1))
        rows = torch.from_numpy(indices).to(pixels.device)
        return crop_resize(pixels.index_select(0, rows), boxes, size), indices
    files = images
    crops = np.empty((len(indices), 3, size, size), np.uint8)

    def read(row: int) -> bool:
        try:
            image = files.read(int(indices[row]))
        except UndecodableImage:
            return False
        crops[row] = crop_resize_one(image, central_box(image.shape[0], image.shape[1], share), size)
        return True

    with ThreadPoolExecutor() as pool:  # decoding and resizing release the GIL
        is_good = np.fromiter(pool.map(read, range(len(indices))), np.bool_)
    return torch.from_numpy(crops[is_good]).float().div_(255), indices[is_good]


def central_box(height: int, width: int, share: float = 1.0) -> tuple[int, int, int, int]:
    """Return (top, left, height, width) of a central square with a share of the shorter side, in pixels."""
    side = max(1, int(share * min(height, width)))
    return (height - side) // 2, (width - side) // 2, side, side


def _small_size(index: Index | PackIndex, side_limit: int) -> tuple[int, int] | None:
    """Return (H, W) if some images spread over the set are small and agree on it; None if they do not."""
    size = None
    for i in np.linspace(0, len(index) - 1, min(_SAMPLE, len(index))).astype(np.int64):
        try:
            height, width, _ = index.open(int(i)).read()[0].shape
        except UndecodableImage:
            continue
        if max(height, width) > side_limit or size not in (None, (height, width)):
            return None
        size = height, width
    if size is None:
        raise UserError(
            f"No file sampled below {index.root} can be decoded, {index.name(0)} for one: see what it is."
        )
    return size


def _decode_all(index: Index | PackIndex, images: NDArray[np.uint8], is_good: NDArray[np.bool_]) -> bool:
    """Fill images (N, 3, H, W) and is_good (N,); return False as soon as one has another size."""

    def decode_some(start: int) -> bool:
        for i in range(start, min(start + _CHUNK, len(index))):
            try:
                pixels = index.open(i).read()[0].transpose(2, 0, 1)
            except UndecodableImage:
                continue
            if pixels.shape != images.shape[1:]:
                return False
            images[i], is_good[i] = pixels, True
        return True

    with ThreadPoolExecutor() as pool:
        tasks = [pool.submit(decode_some, start) for start in range(0, len(index), _CHUNK)]
        try:
            return all(task.result() for task in tasks)
        finally:
            pool.shutdown(cancel_futures=True)  # at another size, or at Ctrl-C, the rest is not wanted


def _fingerprint(index: Index | PackIndex) -> str:
    """Return a digest of the names, sizes and time stamps of all files."""
    digest = hashlib.sha256(f"{_FORMAT} {index.fingerprint}".encode())
    digest.update(index.stamps().data)
    return digest.hexdigest()[:32]

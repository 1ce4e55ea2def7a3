"""Small images of one size are decoded once and kept, in memory and on disk."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from byol.data.image.kinds import UndecodableImage
from byol.data.images import InMemory
from byol.data.index.mapped import is_whole, map_array, write_arrays
from byol.data.index.slot import Index
from byol.data.unreadable import Bad, refuse_many_bad
from byol.errors import UserError
from byol.system.digest import digest
from byol.system.files import whole_file
from byol.system.summed import content_end

_FORMAT = 2  # raise it whenever decoding or the layout of the cache file changes
_SAMPLE = 64
_CHUNK = 256  # images per task of the thread pool


def keep_in_memory(
    index: Index, cache: Path, side_limit: int = 128, bytes_limit: int = 2 << 30
) -> InMemory | None:
    """Decode all images once and keep them, if they are small and of one size.

    Args:
        index: the images.
        cache: folder for the decoded images, where the index is stored itself; they are decoded again when a
            file's size or time stamp changes.
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
    if (pixels := index.pixels()) is not None:
        mapped = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        return InMemory(
            images=mapped,
            labels=index.labels,
            classes=index.classes,
            notes=index.notes,
            name=index.name,
            known=index.identity,
            pixel_range=index.pixel_range,
            is_whole=partial(is_whole, pixels),
        )
    decoded = _mapped(index, size, cache) if index.is_stored else _decoded(index, size)
    if decoded is None:
        return None
    images, is_good = decoded
    kept = np.flatnonzero(is_good)
    return InMemory(
        images=torch.from_numpy(images),
        labels=None if index.labels is None else index.labels[kept],
        classes=index.classes,
        bad=_bad(index, is_good),
        notes=index.notes,
        name=lambda i: index.name(int(kept[i])),
        known=index.identity,
        pixel_range=index.pixel_range,
        is_whole=partial(is_whole, images),
    )


def _small_size(index: Index, side_limit: int) -> tuple[int, int] | None:
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


_Kept = tuple[NDArray[np.uint8], NDArray[np.bool_]]  # the good ones (M, 3, H, W), and which are good (N,)


def _mapped(index: Index, size: tuple[int, int], cache: Path) -> _Kept | None:
    """Map the decoded images from a cache file, written if it is not there."""
    file = cache / f"{_fingerprint(index)}.images"
    if (kept := _read(file)) is not None:
        return kept
    if (decoded := _decoded(index, size)) is not None:
        with whole_file(file) as stream:
            write_arrays(stream, decoded)
    return None if decoded is None else _read(file) or decoded


def _read(file: Path) -> _Kept | None:
    """Map what a cache file holds; None where there is none, or it is damaged."""
    try:
        with file.open("rb") as stream:
            content_end(stream)
            return map_array(stream), map_array(stream)
    except (OSError, ValueError):
        return None


def _decoded(index: Index, size: tuple[int, int]) -> _Kept | None:
    """Decode all images; None if one has another size.

    Raises:
        UserError: too many of them cannot be decoded.
    """
    images, is_good = np.empty((len(index), 3, *size), np.uint8), np.zeros(len(index), np.bool_)
    if not _decode_all(index, images, is_good):
        return None
    refuse_many_bad(_bad(index, is_good), len(index))
    return images if is_good.all() else images[is_good], is_good


def _decode_all(index: Index, images: NDArray[np.uint8], is_good: NDArray[np.bool_]) -> bool:
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


def _bad(index: Index, is_good: NDArray[np.bool_]) -> tuple[Bad, ...]:
    """Return the others; the few whose reason can matter are read once more for it."""
    others = np.flatnonzero(~is_good).tolist()
    reasons = [_reason(index, i) for i in others[:_CHUNK]] + ["it cannot be decoded"] * len(others[_CHUNK:])
    return tuple(Bad(index.name(i), reason) for i, reason in zip(others, reasons, strict=True))


def _reason(index: Index, i: int) -> str:
    try:
        index.open(i).read()
    except UndecodableImage as error:
        return str(error)
    return "it could not be decoded before, and can be now"


def _fingerprint(index: Index) -> str:
    """Return a digest of the names, sizes and time stamps of all files, and of the range they are read by."""
    said = "" if index.pixel_range is None else f" {index.pixel_range.to_json()}"
    return digest(f"{_FORMAT} {index.fingerprint}{said}", index.stamps())

"""`byol pack`: a set of images made smaller and written into one file, from which it is loaded faster."""

import math
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from byol.data.image.kinds import UndecodableImage
from byol.data.image.resample import shrink
from byol.data.index.meaning import with_meaning
from byol.data.index.packfile import PackWriter
from byol.data.index.slot import Index
from byol.data.opening import BUILTIN, Data, indices
from byol.data.splits import say_notes
from byol.data.unreadable import Bad, refuse_many_bad
from byol.errors import Interrupted, UserError, refuse_not_whole
from byol.system.cache import cache_folder
from byol.system.device import usable_cores
from byol.system.files import place_to_write, whole_file
from byol.system.progress import Progress
from byol.system.stop import StopRequest

_AHEAD = 16  # images per core that are in work or wait for their turn to be written

Small = bytes | NDArray[np.uint8]
_Made = Small | UndecodableImage


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What became of a set that was packed.

    Args:
        path: of the pack, which is data like any other.
        images: how many it holds, by split.
        num_bytes: of the pack.
        num_bytes_before: that these images took before.
    """

    path: Path
    images: dict[str, int]
    num_bytes: int
    num_bytes_before: int

    @property
    def value(self) -> float:
        """The size of the pack as a fraction of what the images took before."""
        return self.num_bytes / max(1, self.num_bytes_before)

    def __fspath__(self) -> str:
        return str(self.path)

    def table(self) -> list[list[str]]:
        """Return the images of each split as rows of strings; the first row is the header."""
        return [["split", "images"], *([split, f"{count:,}"] for split, count in self.images.items())]

    def sentence(self) -> str:
        """Return what was written."""
        count, size, before = sum(self.images.values()), _size(self.num_bytes), _size(self.num_bytes_before)
        return f"{self.path}: {count:,} images, {size} out of {before}"

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {**asdict(self), "path": str(self.path), "value": self.value}


def pack(
    data: Data,
    out: str | os.PathLike[str],
    *,
    short_side: int = 256,
    quality: int = 90,
    raw: bool = False,
    overwrite: bool = False,
) -> Packed:
    """Write a copy of a set whose images are no larger than needed, as one file that is data like any other.

    The copy keeps splits, labels, names and order. A JPEG that is small enough already, upright and not CMYK
    is copied as it is; every other image is encoded again. The same images make the same file.

    Args:
        data: a folder, a list of paths, an archive or a pack; in Python also a tensor (N, 3, H, W) of uint8,
            or a data set of torch.
        out: the file to write; it appears when it is complete.
        short_side: most pixels of an image's shorter side; smaller images are not enlarged.
        quality: of JPEG, in [1, 100]. Colors are kept at half the resolution (4:2:0), as cameras do: a
            quarter smaller and a quarter faster to decode than in full.
        raw: write pixels in place of JPEG: exact, not decoded when read, and some nine times as large.
        overwrite: replace a file that is there.

    Returns:
        What was written, and where.

    Raises:
        UserError: there are no images, a setting is out of its range, too many images cannot be decoded, or
            `out` is there already.
        Interrupted: it was asked to stop, and has left nothing behind.
    """
    out = place_to_write(out, "say where to write the pack: --out FILE.")
    refuse_not_whole("short_side", short_side, 1)
    refuse_not_whole("quality", quality, 1)
    if not quality <= 100:
        raise UserError(f"quality is {quality}; use 1 to 100.")
    if isinstance(data, str) and data == BUILTIN:
        raise UserError(
            "the built-in set is drawn in memory and loads as fast as can be; there is no file to pack."
        )
    if out.is_dir():
        raise UserError(f"{out} is a folder; give the name of a file.")
    if out.exists() and not overwrite:
        raise UserError(f"{out} exists; choose another name, or replace it with --overwrite.")
    with Progress() as progress, StopRequest() as stop:
        splits = with_meaning(indices(data, cache_folder()))
        say_notes(splits, progress)
        total, done, before, packed = sum(map(len, splits.values())), 0, 0, dict[str, int]()
        with whole_file(out) as stream:
            writer = PackWriter(stream)
            for split, index in splits.items():
                kept: list[int] = []
                bad: list[Bad] = []
                for i, small in enumerate(_in_order(index, partial(_small, index, short_side, quality, raw))):
                    if stop.received:
                        raise Interrupted(
                            f"stopped after {done:,} of {total:,} images, and nothing was written",
                            stop.received,
                        )
                    done += 1
                    if isinstance(small, UndecodableImage):
                        bad.append(Bad(index.name(i), str(small)))
                        progress.say(f"skipped {bad[-1].name}: {small} ({len(bad)} so far)")
                        refuse_many_bad(bad, len(index))
                        continue
                    writer.add(small)
                    kept.append(i)
                    progress.show(f"packed {done:,} of {total:,} images, {_size(stream.tell())}")
                if not kept:
                    raise UserError(f"no image of split '{split}' can be decoded: see what they are.")
                before += int(index.stamps()[kept, 0].sum())
                packed[split] = len(kept)
                names = [index.name(i) for i in kept]
                writer.end_split(split, names, None if index.labels is None else index.labels[kept])
            classes = next((index.classes for index in splits.values() if index.classes), ())
            writer.end(classes, next(iter(splits.values())).pixel_range)
            Path(stream.name).chmod(_mode())
        result = Packed(path=out, images=packed, num_bytes=out.stat().st_size, num_bytes_before=before)
        progress.say(result.sentence())
    return result


def _mode() -> int:
    """Return who may read and write a new file; a temporary one is its owner's alone."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _small(index: Index, short_side: int, quality: int, raw: bool, i: int) -> _Made:
    """Return image i as the pack shall hold it, or why it cannot be decoded."""
    try:
        image = index.open(i)
        pixels, _ = image.read()
    except UndecodableImage as error:
        return error
    small = shrink(pixels, short_side)
    if raw:
        return small
    if small is pixels and image.jpeg is not None:
        return image.jpeg
    encoded: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(small), quality=quality, colorsubsampling="420"
    )
    return encoded


def _in_order(
    index: Index, make: Callable[[int], Small | UndecodableImage]
) -> Iterator[Small | UndecodableImage]:
    """Yield what is made of each image, in their order, made on all cores and only a little ahead."""
    cores = usable_cores()
    waiting: deque[Future[_Made]] = deque()
    with ThreadPoolExecutor(cores) as pool:  # decoding, resizing and encoding release the GIL
        try:
            for i in range(len(index)):
                waiting.append(pool.submit(make, i))
                if len(waiting) >= _AHEAD * cores:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _size(num_bytes: int) -> str:
    """Return a number of bytes in words."""
    power = min(4, int(math.log10(max(1, num_bytes))) // 3)
    return f"{num_bytes / 1000**power:.3g} {('bytes', 'kB', 'MB', 'GB', 'TB')[power]}"

"""`byol pack`: a set of images made smaller and written into one file, from which it is loaded faster."""

import math
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from byol.data.bad import refuse_many_bad
from byol.data.image.decode import Jpeg, UndecodableImage
from byol.data.image.resample import shrink
from byol.data.index.packfile import PackWriter
from byol.data.index.slot import Index
from byol.data.opening import indices
from byol.errors import Interrupted, UserError, refuse_below
from byol.system.cache import cache_folder
from byol.system.device import usable_cores
from byol.system.files import whole_file
from byol.system.progress import Progress
from byol.system.stop import StopRequest

_AHEAD = 16  # images per core that are in work or wait for their turn to be written

Small = bytes | NDArray[np.uint8]


def pack(
    data: str | Path,
    out: str | Path,
    *,
    short_side: int = 256,
    quality: int = 90,
    raw: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write a copy of a set whose images are no larger than needed, as one file that is data like any other.

    The copy keeps splits, labels, names and order. A JPEG that is small enough already, upright and not CMYK
    is copied as it is; every other image is encoded anew. The same images make the same file.

    Args:
        data: a folder, an archive, a list or a pack.
        out: the file to write; it appears when it is complete.
        short_side: most pixels of an image's shorter side; smaller images are not enlarged.
        quality: of JPEG, in [1, 100]. Colours are kept at half the resolution (4:2:0), as cameras do: a
            quarter smaller and a quarter faster to decode than in full.
        raw: write pixels in place of JPEG: exact, not decoded when read, and some nine times as large.
        overwrite: replace a file that is there.

    Returns:
        The file.

    Raises:
        UserError: in one sentence, what the person can mend.
        Interrupted: it was asked to stop, and has left nothing behind.
    """
    out = Path(out)
    refuse_below("short_side", short_side, 1)
    if not 1 <= quality <= 100:
        raise UserError(f"quality is {quality}; use 1 to 100.")
    if str(data) == "builtin":
        raise UserError(
            "the built-in set is drawn in memory and loads as fast as can be; there is no file to pack."
        )
    if out.is_dir():
        raise UserError(f"{out} is a folder; give the name of a file.")
    if out.exists() and not overwrite:
        raise UserError(f"{out} exists; choose another name, or replace it with --overwrite.")
    with Progress() as progress, StopRequest() as stop:
        splits = indices(str(data), cache_folder())
        total, done, packed, before = sum(map(len, splits.values())), 0, 0, 0
        with whole_file(out) as stream:
            writer = PackWriter(stream)
            for split, index in splits.items():
                kept: list[int] = []
                bad: list[str] = []
                for i, small in enumerate(_in_order(index, partial(_small, index, short_side, quality, raw))):
                    if stop.received:
                        raise Interrupted(
                            f"stopped after {done:,} of {total:,} images, and nothing was written",
                            stop.received,
                        )
                    done += 1
                    if small is None:
                        bad.append(index.name(i))
                        progress.say(f"skipped {bad[-1]}: it cannot be decoded ({len(bad)} so far)")
                        refuse_many_bad(bad, len(index))
                        continue
                    writer.add(small)
                    kept.append(i)
                    progress.show(f"packed {done:,} of {total:,} images, {_size(stream.tell())}")
                if not kept:
                    raise UserError(f"no image of split '{split}' can be decoded: see what they are.")
                before += int(index.stamps()[kept, 0].sum())
                packed += len(kept)
                names = [index.name(i) for i in kept]
                writer.end_split(split, names, None if index.labels is None else index.labels[kept])
            writer.end(next((index.classes for index in splits.values() if index.classes), ()))
            Path(stream.name).chmod(_mode())
        progress.say(f"{out}: {packed:,} images, {_size(out.stat().st_size)} out of {_size(before)}")
    return out


def _mode() -> int:
    """Return who may read and write a new file; a temporary one is its owner's alone."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _small(index: Index, short_side: int, quality: int, raw: bool, i: int) -> Small | None:
    """Return image i as the pack shall hold it; None if it cannot be decoded."""
    try:
        image = index.open(i)
        pixels, _ = image.read()
    except UndecodableImage:
        return None
    small = shrink(pixels, short_side)
    if raw:
        return small
    if small is pixels and isinstance(image, Jpeg):
        return image.data
    encoded: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(small), quality=quality, colorsubsampling="420"
    )
    return encoded


def _in_order(index: Index, make: Callable[[int], Small | None]) -> Iterator[Small | None]:
    """Yield what is made of each image, in their order, made on all cores and only a little ahead."""
    cores = usable_cores()
    waiting: deque[Future[Small | None]] = deque()
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

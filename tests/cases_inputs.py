"""Inputs of the field cases: small folders, files and lists as people have them, drawn from seeds.

Every maker takes the folder it writes into and returns it.
"""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASSES = ("ant", "bee", "cow")
TINTS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]])
Pixels = NDArray[Any]


def picture(seed: int, height: int = 40, width: int = 64) -> Pixels:
    """Return a smooth picture, (H, W, 3) uint8, from about 0 to 255."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def of_class(number: int, seed: int, height: int = 24, width: int = 28) -> Pixels:
    """Return a picture under the tint of a class, (H, W, 3) uint8."""
    tinted: Pixels = picture(1000 * number + seed, height, width) // 3 + TINTS[number % 3] * 2 // 3
    return tinted.astype(np.uint8)


def write(path: Path, pixels: Pixels, **how: Any) -> Path:
    """Write a picture in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **how)
    return path


def png(path: Path, samples: Pixels) -> Path:
    """Write a PNG of 16 bits a sample, gray (H, W) or RGB (H, W, 3)."""
    kind = 0 if samples.ndim == 2 else 2
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    return _png(path, samples.shape[1], samples.shape[0], 16, kind, zlib.compress(rows))


def wide_png(path: Path, width: int, height: int) -> Path:
    """Write a black and white PNG of very many pixels in a small file."""
    packer, row = zlib.compressobj(1), b"\0" + b"\xaa" * ((width + 7) // 8)
    return _png(
        path, width, height, 1, 0, b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    )


def _png(path: Path, width: int, height: int, bits: int, kind: int, body: bytes) -> Path:
    size = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    chunks = ((b"IHDR", size), (b"IDAT", body), (b"IEND", b""))
    parts = (struct.pack(">I", len(data)) + name + data + _sum(name + data) for name, data in chunks)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def _sum(data: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(data))


def tiff(
    path: Path, samples: Pixels, *, photometric: int = 1, sample_format: int = 1, order: str = "<"
) -> Path:
    """Write a plain TIFF of one strip.

    Args:
        path: the file.
        samples: (H, W) or (H, W, C) of any whole or floating type.
        photometric: 0 where 0 is white, 1 where it is black, 2 for RGB.
        sample_format: 1 unsigned, 2 signed, 3 floating.
        order: "<" or ">".
    """
    height, width = samples.shape[:2]
    bands = 1 if samples.ndim == 2 else samples.shape[2]
    data = samples.astype(samples.dtype.newbyteorder("<" if order == "<" else ">")).tobytes()
    short, long = 3, 4
    tags = [
        (256, long, [width]),
        (257, long, [height]),
        (258, short, [8 * samples.dtype.itemsize] * bands),
        (259, short, [1]),
        (262, short, [photometric]),
        (273, long, [8]),
        (277, short, [bands]),
        (278, long, [height]),
        (279, long, [len(data)]),
        (339, short, [sample_format] * bands),
    ]
    start, entries, beyond = 8 + len(data), b"", b""
    free = start + 2 + 12 * len(tags) + 4
    for tag, form, values in tags:
        raw = struct.pack(order + ("H" if form == short else "I") * len(values), *values)
        if len(raw) > 4:
            raw, beyond = struct.pack(order + "I", free + len(beyond)), beyond + raw
        entries += struct.pack(order + "HHI", tag, form, len(values)) + raw.ljust(4, b"\0")
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = mark + struct.pack(order + "I", start)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + data + struct.pack(order + "H", len(tags)) + entries + bytes(4) + beyond)
    return path


def labelled(
    folder: Path,
    count: int = 8,
    *,
    seed: int = 0,
    grow: int = 0,
    suffix: str = "png",
    classes: Sequence[str] = CLASSES,
) -> Path:
    """Write `count` pictures a class into folders of the classes' names.

    Args:
        folder: where.
        count: of each class.
        seed: of what they show.
        grow: pixels by which each is higher than the one before: sets of one small size lie in memory.
        suffix: which says the format.
        classes: their names.
    """
    for number, name in enumerate(classes):
        for i in range(count):
            pixels = of_class(number, seed + i + 7 * number, 24 + grow * i)
            write(folder / name / f"{i:03d}.{suffix}", pixels)
    return folder


def good(folder: Path) -> Path:
    """Write a plain labelled set: 24 images to learn from, 12 to be judged."""
    labelled(folder / "train")
    labelled(folder / "test", 4, seed=100)
    return folder


def plain(folder: Path, count: int = 24, *, grow: int = 1, suffix: str = "jpg") -> Path:
    """Write pictures into one folder, without classes."""
    for i in range(count):
        write(folder / f"{i:03d}.{suffix}", of_class(0, i, 24 + grow * i))
    return folder


def rows_of(set_folder: Path) -> list[tuple[str, str, str]]:
    """Return path, label and split of all pictures of a set with splits."""
    return [
        (str(path), path.parent.name, path.parent.parent.name) for path in sorted(set_folder.rglob("*.png"))
    ]


def list_of(path: Path, rows: Sequence[Sequence[str]], header: str, comma: str = ",") -> Path:
    """Write a list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *(comma.join(row) for row in rows)]) + "\n")
    return path

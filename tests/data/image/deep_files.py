"""Files of more than 8 bits a sample, which Pillow cannot write."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write_png16(path: Path, samples: NDArray[Any]) -> Path:
    """Write a PNG of 16 bits a sample, gray (H, W) or RGB (H, W, 3)."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    kind = 0 if samples.ndim == 2 else 2
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    size = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], 16, kind, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = chunk(b"IHDR", size), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def write_tiff(path: Path, samples: NDArray[Any], *, white_is_zero: bool = False, big: bool = False) -> Path:
    """Write a plain TIFF of any whole type, gray (H, W) or RGB (H, W, 3), in either byte order."""
    order = ">" if big else "<"
    bands = 1 if samples.ndim == 2 else samples.shape[2]
    data = samples.astype(f"{order}{samples.dtype.kind}{samples.dtype.itemsize}").tobytes()
    tags = {
        256: (4, [samples.shape[1]]),
        257: (4, [samples.shape[0]]),
        258: (3, [8 * samples.dtype.itemsize] * bands),
        259: (3, [1]),
        262: (3, [2 if bands == 3 else 1 - white_is_zero]),
        273: (4, [8]),
        277: (3, [bands]),
        278: (4, [samples.shape[0]]),
        279: (4, [len(data)]),
        339: (3, [2 if samples.dtype.kind == "i" else 1] * bands),
    }
    beyond, entries, start = b"", b"", 8 + len(data)
    free = start + 2 + 12 * len(tags) + 4
    for tag, (form, values) in sorted(tags.items()):
        raw = struct.pack(order + ("H" if form == 3 else "I") * len(values), *values)
        if len(raw) > 4:
            raw, beyond = struct.pack(f"{order}I", free + len(beyond)), beyond + raw
        entries += struct.pack(f"{order}HHI", tag, form, len(values)) + raw.ljust(4, b"\0")
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = b"MM" if big else b"II"
    head = struct.pack(f"{order}2sHI", mark, 42, start)
    path.write_bytes(head + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + beyond)
    return path


def gray(seed: int = 0, height: int = 20, width: int = 14) -> NDArray[np.uint8]:
    """Return a gray picture (H, W) that has black and white."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    pixels[0, :2] = 0, 255
    return pixels

"""Do 10,000 damaged pictures of ten formats crash, hang or fill the memory of whoever reads them?

    python benchmarks/reliability/pictures.py --count 10000 --out docs/reliability/pictures.json

Each picture is a whole one of its format with bits flipped, cut short, put together from two, repeated in
parts, or with the fields of its size (and of other lengths) set to something huge. It is opened and read as
training reads it, in a forked process with limits of time and memory. It has to be read as (H, W, 3) bytes or
refused by `UndecodableImage` with its reason, in one line; nothing else may be raised, no warning shown, and
no "noise" made, which is what a decoder written in C writes to standard error itself.
"""

import io
import struct
import sys
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from harness import Tally, in_children, numbers, options, random_of
from numpy.typing import NDArray
from PIL import Image, features

Random = np.random.Generator
HUGE = (0, 1, 0x7FFF, 0xFFFF, 65_500, 0x7FFFFFFF, 0xFFFFFFFF, 30_000, 100_000, 1 << 20, 1 << 24)
SECONDS = 20.0  # that a picture may take on a busy machine


# ---- whole pictures -----------------------------------------------------------------------------


def picture(seed: int, height: int, width: int, bands: int = 3) -> NDArray[np.uint8]:
    """Return a smooth picture, (H, W, bands) uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 4), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height)))[:, :, :bands]


def saved(array: NDArray[Any], kind: str, mode: str | None = None, **how: Any) -> bytes:
    """Return the file of a picture."""
    image = Image.fromarray(array)
    buffer = io.BytesIO()
    (image if mode is None else image.convert(mode)).save(buffer, kind, **how)
    return buffer.getvalue()


def png16(array: NDArray[np.uint16]) -> bytes:
    """Return a PNG of 16 bits a sample, (H, W) or (H, W, 3)."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    size = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 16, 0 if array.ndim == 2 else 2, 0, 0, 0)
    parts = (size, zlib.compress(rows), b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(chunk, (b"IHDR", b"IDAT", b"IEND"), parts))


def png(width: int, height: int, bits: int, color: int, row: bytes) -> bytes:
    """Return a PNG whose rows are all the same, of any size, without having its pixels in memory."""
    packer = zlib.compressobj(1)
    body = b"".join(packer.compress(b"\0" + row) for _ in range(height)) + packer.flush()
    size = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(chunk, (b"IHDR", b"IDAT", b"IEND"), (size, body, b"")))


def huge() -> list[bytes]:
    """Return small files of very many pixels: whole ones, and some that only claim to be."""
    jpeg = bytearray(saved(picture(1, 64, 64), "JPEG"))
    struct.pack_into(">HH", jpeg, jpeg.find(b"\xff\xc0") + 5, 65_500, 65_500)
    wide = bytearray(saved(picture(1, 64, 64), "JPEG"))
    struct.pack_into(">HH", wide, wide.find(b"\xff\xc0") + 5, 12_000, 12_000)
    gif = bytearray(saved(picture(1, 64, 64), "GIF"))
    struct.pack_into("<HH", gif, 6, 65_535, 65_535)
    bitmap = bytearray(saved(picture(1, 64, 64), "BMP"))
    struct.pack_into("<ii", bitmap, 18, 60_000, 60_000)
    plain = bytearray(saved(picture(1, 64, 64), "TIFF", compression="tiff_adobe_deflate"))
    return [
        png(13_000, 13_000, 1, 0, b"\xaa" * 1_625),
        png(15_000, 13_000, 1, 0, b"\xaa" * 1_875),
        png(9_000, 9_000, 8, 6, b"\1\2\3\4" * 9_000),
        png(40_000, 40_000, 1, 0, b"\xaa" * 5_000),
        png(9_000, 9_000, 16, 2, b"\1\2" * 27_000),
        png(9_400, 9_400, 16, 6, b"\1\2" * 37_600),
        png(14_000, 10_700, 8, 2, b"\1\2\3" * 14_000),
        saved(np.zeros((12_000, 12_000), np.uint8), "JPEG", quality=10),
        saved(np.zeros((12_000, 12_000, 3), np.uint8), "JPEG", quality=10, exif=turned()),
        saved(np.zeros((9_400, 9_400, 3), np.uint8), "JPEG", quality=10, progressive=True, subsampling=0),
        saved(np.zeros((12_000, 12_000, 3), np.uint8), "JPEG", quality=10, progressive=True),
        saved(np.zeros((16_000, 11_000), np.uint8), "TIFF", compression="tiff_lzw"),
        saved(np.zeros((9_600, 9_600), np.uint8), "WEBP", quality=10, method=0),
        *map(bytes, (jpeg, wide, gif, bitmap)),
        resized(bytes(plain), b"", np.random.default_rng(0)),
        b"P5 60000 60000 255\n" + bytes(1_000),
    ]


def turned() -> Image.Exif:
    """Return an EXIF block that says that the picture lies on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def chunk(name: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def whole() -> dict[str, list[bytes]]:
    """Return format -> whole files of it, in the ways that are met."""
    colors, wide, alpha = picture(1, 40, 56), picture(2, 100, 90), picture(3, 33, 47, 4)
    gray = colors[:, :, 0]
    deep = gray.astype(np.uint16) * 16
    formats = {
        "JPEG": [
            saved(colors, "JPEG"),
            saved(wide, "JPEG", quality=95, progressive=True),
            saved(colors, "JPEG", "CMYK"),
            saved(gray, "JPEG", exif=turned()),
        ],
        "PNG": [
            saved(colors, "PNG"),
            saved(alpha, "PNG"),
            saved(colors, "PNG", "P"),
            saved(gray, "PNG", "1"),
        ],
        "TIFF": [
            saved(colors, "TIFF"),
            *(saved(wide, "TIFF", compression=way) for way in ("tiff_lzw", "tiff_adobe_deflate", "jpeg")),
            saved(gray, "TIFF", "1", compression="group4"),
            saved(alpha, "TIFF"),
        ],
        "WebP": [
            saved(colors, "WEBP"),
            saved(alpha, "WEBP", lossless=True),
            saved(wide, "WEBP", save_all=True, append_images=[Image.fromarray(wide[::-1].copy())]),
        ],
        "GIF": [
            saved(colors, "GIF"),
            saved(colors, "GIF", save_all=True, append_images=[Image.fromarray(colors[::-1].copy())]),
        ],
        "BMP": [saved(colors, "BMP"), saved(colors, "BMP", "P"), saved(gray, "BMP", "1")],
        "PPM": [saved(colors, "PPM"), saved(gray, "PPM"), b"P3\n2 2\n255\n" + b"9 99 255 " * 4],
        "AVIF": [saved(wide, "AVIF"), saved(alpha, "AVIF")],
        "PNG, 16 bits": [png16(deep), png16(colors.astype(np.uint16) * 257)],
        "TIFF, 16 bits": [saved(deep, "TIFF"), saved(deep, "TIFF", compression="tiff_lzw")],
    }
    if not features.check("avif"):
        del formats["AVIF"]
    try:
        import pillow_heif
    except ImportError:
        return formats
    pillow_heif.register_heif_opener()
    return {**formats, "HEIC": [saved(wide, "HEIF"), saved(alpha, "HEIF")]}


# ---- what is done to them -----------------------------------------------------------------------


def flipped(data: bytes, other: bytes, random: Random) -> bytes:
    """Flip one to 64 bits, half of the time among the first 200 bytes."""
    changed = bytearray(data)
    reach = min(len(data), 200) if random.random() < 0.5 else len(data)
    for position in random.integers(0, reach, 2 ** random.integers(0, 7)):
        changed[position] ^= 1 << random.integers(0, 8)
    return bytes(changed)


def cut(data: bytes, other: bytes, random: Random) -> bytes:
    """Keep the beginning."""
    return data[: random.integers(0, len(data))]


def spliced(data: bytes, other: bytes, random: Random) -> bytes:
    """Put the beginning of one file before the end of another, often of another format."""
    return data[: random.integers(1, len(data))] + other[random.integers(0, len(other)) :]


def repeated(data: bytes, other: bytes, random: Random) -> bytes:
    """Repeat a part, or take it out."""
    first, last = sorted(random.integers(0, len(data), 2))
    return data[:first] + data[first:last] * random.choice([0, 2, 50]) + data[last:]


def inflated(data: bytes, other: bytes, random: Random) -> bytes:
    """Set whole numbers to something huge: anywhere, and the width and height where the format has them."""
    changed = bytearray(data)
    for _ in range(random.integers(1, 4)):
        length, order = random.choice([1, 2, 4]), random.choice(["<", ">"])
        value = int(random.choice(HUGE)) & ((1 << 8 * int(length)) - 1)
        reach = min(len(data), 200) if random.random() < 0.7 else len(data)
        position = random.integers(0, max(1, reach - 4))
        changed[position : position + length] = value.to_bytes(length, "little" if order == "<" else "big")
    return bytes(changed)


def resized(data: bytes, other: bytes, random: Random) -> bytes:
    """Claim another width and height, where the format keeps them."""
    width, height = (int(random.choice(HUGE)) for _ in range(2))
    changed = bytearray(data)

    def put(position: int, form: str) -> None:
        limit = (1 << 8 * struct.calcsize(form[:2])) - 1
        values = (min(width, limit), min(height, limit))
        if 0 <= position <= len(changed) - struct.calcsize(form):
            struct.pack_into(form, changed, position, *values)

    if data.startswith(b"\x89PNG"):
        put(16, ">II")
    elif data.startswith(b"\xff\xd8"):
        for marker in (b"\xff\xc0", b"\xff\xc2"):
            if (position := data.find(marker)) >= 0:
                put(position + 5, ">HH")
    elif data.startswith(b"GIF8"):
        put(6, "<HH")
        if (position := data.find(b"\x2c", 13)) >= 0:
            put(position + 5, "<HH")
    elif data.startswith(b"BM"):
        put(18, "<II")
    elif data.startswith((b"II*\0", b"MM\0*")):
        order = "<" if data.startswith(b"II") else ">"
        (start,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            (tag,) = struct.unpack_from(order + "H", data, entry)
            if tag in (256, 257, 258, 277, 278, 279, 322, 323) and random.random() < 0.6:
                struct.pack_into(order + "HII", changed, entry + 2, 4, 1, width if tag == 256 else height)
    elif data[:1] == b"P" and data[1:2].isdigit():
        return data[:3] + f"{width} {height}\n".encode() + data.split(b"\n", 2)[-1]
    elif (position := data.find(b"ispe")) >= 0:
        put(position + 8, ">II")
    elif (position := data.find(b"VP8X")) >= 0:
        changed[position + 12 : position + 18] = b"\xff" * 6
    elif (position := data.find(b"VP8L")) >= 0:
        changed[position + 9 : position + 12] = b"\xff" * 3
    elif (position := data.find(b"\x9d\x01\x2a")) >= 0:
        put(position + 3, "<HH")
    return bytes(changed)


WAYS: tuple[Callable[[bytes, bytes, Random], bytes], ...] = (
    flipped,
    cut,
    spliced,
    repeated,
    inflated,
    resized,
)


def with_sums(data: bytes) -> bytes:
    """Return a PNG with the check sums that its chunks have now, so that more of it is read."""
    changed, position = bytearray(data), 8
    while position + 12 <= len(changed):
        (length,) = struct.unpack_from(">I", changed, position)
        end = position + 8 + length
        if end + 4 > len(changed):
            break
        struct.pack_into(">I", changed, end, zlib.crc32(changed[position + 4 : end]))
        position = end + 4
    return bytes(changed)


def damaged(
    files: dict[str, list[bytes]], large: list[bytes], random: Random, number: int
) -> tuple[str, bytes]:
    """Return what was done to which format, and the bytes; every 41st case is a file of very many pixels."""
    if number % 41 == 40:
        which = number // 41 % len(large)
        data = large[which]
        return f"huge {which}", data if random.random() < 0.5 else flipped(data, b"", random)
    names = list(files)
    name = names[number % len(names)]
    way = WAYS[number // len(names) % len(WAYS)]
    data = files[name][random.integers(len(files[name]))]
    around = files[name] if random.random() < 0.5 else files[names[random.integers(len(names))]]
    changed = way(data, around[random.integers(len(around))], random)
    if random.random() < 0.2:
        changed = WAYS[random.integers(len(WAYS) - 1)](changed or data, data, random)
    if changed.startswith(b"\x89PNG") and random.random() < 0.7:
        changed = with_sums(changed)
    return f"{name}, {way.__name__}", changed


# ---- reading them -------------------------------------------------------------------------------


def read(number: int, *, make: Callable[[int], tuple[str, bytes]]) -> str:
    """Open and read a picture as training does; return "read" or "refused"."""
    from byol.data.image.decode import UndecodableImage, opened

    _, data = make(number)
    fraction = (1.0, 0.3, 0.01)[number % 3]
    try:
        image = opened(data)
        pixels, eighths = image.read(fraction)
    except UndecodableImage as error:
        reason = str(error)
        assert reason.strip(), "refused without a reason"
        assert reason.isprintable(), f"the reason is not one line: {reason!r}"
        return "refused"
    assert pixels.ndim == 3, pixels.shape
    assert pixels.shape[2] == 3, pixels.shape
    assert pixels.dtype == np.uint8, pixels.dtype
    assert pixels.size > 0, pixels.shape
    assert len(pixels) == -(-image.height * eighths // 8), "its height is another than it said"
    return "read"


def main() -> int:
    """Read the damaged pictures and count what came of it."""
    given = options(__doc__, 10_000).parse_args()
    files, large = whole(), huge()

    def make(number: int) -> tuple[str, bytes]:
        return damaged(files, large, random_of(given, number), number)

    outcomes = ("pictures", "read", "refused", "crash", "hang", "memory", "exception", "warning", "noise")
    tally = Tally("pictures", given, outcomes)
    tally.facts["formats"] = sorted(files)
    largest = 0
    for number, outcome in in_children(partial(read, make=make), numbers(given), seconds=SECONDS, batch=250):
        tally.counts["pictures"] += 1
        largest = max(largest, outcome.peak)
        if outcome.kind == "done":
            tally.counts[outcome.detail] += 1
        else:
            is_warning = outcome.kind == "noise" and "Warning" in outcome.detail
            kind = "warning" if is_warning else outcome.kind
            tally.fail(kind, f"{number} ({make(number)[0]})", outcome.detail)
        tally.progress(tally.counts["pictures"], len(numbers(given)), 1000)
    tally.facts["largest_growth_bytes"] = largest
    return tally.report()


if __name__ == "__main__":
    sys.exit(main())

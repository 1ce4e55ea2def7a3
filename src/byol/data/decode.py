"""From the bytes of an image file to RGB pixels.

H and W are an image's own height and width in pixels.
"""

import io
import struct
import zlib

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

_JPEG = b"\xff\xd8"
_EXIF = b"Exif\0\0"
_EXIF_REACH = 1 << 16  # the EXIF block is one of a JPEG's first segments, and a segment is under 64 KiB
_UPRIGHT = 1

# What Pillow's readers raise on broken files: the documented ones and those that flipped bytes brought up.
_BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class UndecodableImage(ValueError):  # noqa: N818 - what it is, as in "bad" of a batch, more than an error
    """An image file that cannot be used: unreadable, truncated, damaged or no image."""


def decode(data: bytes) -> NDArray[np.uint8]:
    """Decode an image file into RGB pixels, upright.

    JPEG goes to simplejpeg, which is faster; what it refuses, and every other format, goes to Pillow. Grey,
    palette and CMYK become RGB, 16-bit grey keeps its upper byte, alpha is dropped, an animation gives its
    first frame. The content decides, not the name: many a .jpg is a PNG.

    Args:
        data: the whole file.

    Returns:
        (H, W, 3) uint8 in [0, 255], turned as the EXIF orientation says.

    Raises:
        UndecodableImage: the bytes are truncated, damaged or no image.
    """
    if data.startswith(_JPEG) and (_EXIF not in data[:_EXIF_REACH] or _is_upright(data)):
        try:
            pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data)
            return pixels
        except ValueError:
            pass  # Pillow reads some files that simplejpeg refuses
    try:
        with Image.open(io.BytesIO(data)) as image:
            return _rgb(image if _orientation(image) == _UPRIGHT else ImageOps.exif_transpose(image))
    except _BROKEN as error:
        raise UndecodableImage(f"the image cannot be decoded: {error}") from error


def _is_upright(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data)) as image:  # reads the header only: some 50 us
            return _orientation(image) == _UPRIGHT
    except _BROKEN:
        return True


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, _UPRIGHT))
    except _BROKEN:
        return _UPRIGHT  # a damaged EXIF block says nothing against the pixels


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow's own conversion would clip at 255
        grey = (np.clip(np.asarray(image), 0, 65535) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise ValueError("its pixels are floating point numbers without a known range")
    if image.mode == "P":
        image = image.convert("RGBA")  # straight to RGB warns where the palette has transparent entries
    return np.array(image.convert("RGB"))

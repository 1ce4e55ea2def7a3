"""From the bytes of an image file to RGB pixels, in full or, where a JPEG can give them so, coarser.

H and W are an image's own height and width in pixels.
"""

import io
import struct
import zlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from byol.data.image.depth import Deep, PixelRange, deep_file, deep_gray
from byol.data.image.kinds import UndecodableImage as UndecodableImage

_JPEG = b"\xff\xd8"
_EXIF = b"Exif\0\0"
_EXIF_REACH = 1 << 16  # the EXIF block is one of a JPEG's first segments, and a segment is under 64 KiB
_UPRIGHT = 1

WHOLE = 8  # sizes of a decoded image are counted in eighths, as libjpeg does
# The inverse DCT of a block of 8 x 8 can give fewer pixels. libjpeg knows 5, 6 and 7 eighths too, but has no
# fast code for them: they take longer than the whole image.
_COARSER = (1, 2, 3, 4)
_SCALABLE = ("YCbCr", "RGB", "Gray")

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


@dataclass(frozen=True, eq=False)
class Decoded:
    """An image whose pixels are there.

    Args:
        pixels: (H, W, 3) uint8.
    """

    pixels: NDArray[np.uint8]

    jpeg: ClassVar[None] = None  # there is no file to copy as it is

    @property
    def height(self) -> int:
        """H."""
        return len(self.pixels)

    @property
    def width(self) -> int:
        """W."""
        return len(self.pixels[0])

    def read(self, fraction: float = 1.0) -> tuple[NDArray[np.uint8], int]:
        """Return the pixels and WHOLE, whatever fraction of their number would do."""
        return self.pixels, WHOLE


@dataclass(frozen=True, eq=False)
class Jpeg:
    """A JPEG of which the header alone has been read.

    Args:
        data: the whole file.
        height: H, as the header says.
        width: W.
    """

    data: bytes
    height: int
    width: int

    @property
    def jpeg(self) -> bytes:
        """The file, which a pack may copy as it is."""
        return self.data

    def read(self, fraction: float = 1.0) -> tuple[NDArray[np.uint8], int]:
        """Return the pixels at the coarsest size that is at least a fraction of the whole one.

        Args:
            fraction: of height and width, > 0; above 1 where more is wanted than the image has.

        Returns:
            (ceil(H e / 8), ceil(W e / 8), 3) uint8 and e, the eighths of the whole size, 8 at most. Pixel
            (y, x) stands for the square of the whole image that begins at (8 y / e, 8 x / e) and is 8 / e
            pixels wide.

        Raises:
            UndecodableImage: the bytes are truncated or damaged.
        """
        eighths = next((eighths for eighths in _COARSER if eighths >= WHOLE * fraction), WHOLE)
        height, width = (-(-side * eighths // WHOLE) for side in (self.height, self.width))
        try:
            pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(self.data, min_height=height, min_width=width)
        except ValueError:  # Pillow reads some files that simplejpeg refuses
            pixels, eighths, height, width = _by_pillow(self.data), WHOLE, self.height, self.width
        if pixels.shape != (height, width, 3):
            raise UndecodableImage(f"it has {pixels.shape[:2]} pixels, by its header {height, width}")
        return pixels, eighths


def opened(data: bytes, pixel_range: PixelRange | None = None) -> Decoded | Jpeg:
    """Return an image with its size known, and decoded only where that takes decoding.

    Args:
        data: the whole file.
        pixel_range: of what has more than 8 bits a sample, as of `decode`.

    Raises:
        UndecodableImage: the bytes are no image. Of a JPEG, only reading it tells.
    """
    if _is_plain_jpeg(data):
        try:
            height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
        except ValueError:
            return Decoded(_by_pillow(data, pixel_range))
        if colors in _SCALABLE:
            return Jpeg(data, height, width)
    return Decoded(decode(data, pixel_range))


def decode(data: bytes, pixel_range: PixelRange | None = None) -> NDArray[np.uint8]:
    """Decode an image file into RGB pixels, upright.

    JPEG goes to simplejpeg, which is faster; what it refuses, and every other format, goes to Pillow. Gray,
    palette and CMYK become RGB, 16 bits become 8, alpha is dropped, an animation gives its
    first frame. The content decides, not the name: many a .jpg is a PNG.

    Args:
        data: the whole file.
        pixel_range: what becomes black and white where there are more than 8 bits a sample; by default the
            smallest and the largest number that a sample may be.

    Returns:
        (H, W, 3) uint8 in [0, 255], turned as the EXIF orientation says.

    Raises:
        UndecodableImage: the bytes are truncated, damaged or no image.
    """
    if _is_plain_jpeg(data):
        try:
            pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data)
            return pixels
        except ValueError:
            pass  # Pillow reads some files that simplejpeg refuses
    return _by_pillow(data, pixel_range)


def deep(data: bytes) -> Deep | None:
    """Return the samples of an image file that has more than 8 bits each; None of any other.

    Raises:
        UndecodableImage: the bytes are truncated, damaged or no image.
    """
    return deep_file(data)


def _by_pillow(data: bytes, pixel_range: PixelRange | None = None) -> NDArray[np.uint8]:
    if (samples := deep(data)) is not None:
        return samples.rgb(pixel_range)
    try:
        with Image.open(io.BytesIO(data)) as image:
            return as_rgb(image if _orientation(image) == _UPRIGHT else ImageOps.exif_transpose(image))
    except UndecodableImage:
        raise
    except _BROKEN as error:
        raise UndecodableImage("it is damaged, or no image") from error


def _is_plain_jpeg(data: bytes) -> bool:
    """Return whether simplejpeg gives what is wanted: it does not turn an image as its EXIF block says."""
    return data.startswith(_JPEG) and (_EXIF not in data[:_EXIF_REACH] or _is_upright(data))


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


def as_rgb(image: Image.Image, pixel_range: PixelRange | None = None) -> NDArray[np.uint8]:
    """Return the pixels of a picture (H, W, 3), in RGB whatever its mode.

    Args:
        image: the picture.
        pixel_range: as of `decode`.

    Raises:
        UndecodableImage: they are floating point numbers.
    """
    if (samples := deep_gray(image)) is not None:  # which Pillow's own conversion would clip at 255
        return samples.rgb(pixel_range)
    if image.mode == "F":
        raise UndecodableImage("its pixels are floating point numbers without a known range")
    if image.mode == "P":
        image = image.convert("RGBA")  # straight to RGB warns where the palette has transparent entries
    return np.array(image.convert("RGB"))

"""From the bytes of an image file to RGB pixels, in full or, where a JPEG can give them so, coarser.

H and W are an image's own height and width in pixels.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image

from byol.data.image.color import rgb, upright
from byol.data.image.depth import PixelRange, deep_file, deep_gray
from byol.data.image.kinds import JPEG, UndecodableImage, open_picture, refuse_large, told_once

_JPEG = b"\xff\xd8"
_EXIF = b"Exif\0\0"
_EXIF_REACH = 1 << 16  # the EXIF block is one of a JPEG's first segments, and a segment is under 64 KiB
_UPRIGHT = 1

WHOLE = 8  # sizes of a decoded image are counted in eighths, as libjpeg does
# The inverse DCT of a block of 8 x 8 can give fewer pixels. libjpeg knows 5, 6 and 7 eighths too, but has no
# fast code for them: they take longer than the whole image.
_COARSER = (1, 2, 3, 4)
_SCALABLE = ("YCbCr", "RGB", "Gray")


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

    JPEG goes to simplejpeg, which is faster; what it refuses, and every other kind of file, goes to Pillow
    (`data.image.kinds`). Gray, palette and CMYK become RGB, 16 bits become 8, what is transparent lies on
    white, an animation gives its first frame. The content decides, not the name: many a .jpg is a PNG.

    Args:
        data: the whole file.
        pixel_range: what becomes black and white where there are more than 8 bits a sample; by default the
            smallest and the largest number that a sample may be.

    Raises:
        UndecodableImage: the bytes are of no kind that is read, too large, truncated or damaged. Of a JPEG,
            only reading it tells the latter.
    """
    if _is_plain_jpeg(data):
        try:
            height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
        except ValueError:
            return Decoded(_by_pillow(data))  # which reads some files that simplejpeg refuses
        refuse_large(width, height, JPEG, data=data)
        if colors in _SCALABLE:
            return Jpeg(data, height, width)
    samples = deep_file(data)
    return Decoded(_by_pillow(data) if samples is None else samples.rgb(pixel_range))


def decode(data: bytes, pixel_range: PixelRange | None = None) -> NDArray[np.uint8]:
    """Return the pixels of an image file, (H, W, 3) uint8, upright, as `opened` reads them.

    Raises:
        UndecodableImage: the bytes are of no kind that is read, too large, truncated or damaged.
    """
    return opened(data, pixel_range).read()[0]


def _by_pillow(data: bytes) -> NDArray[np.uint8]:
    with open_picture(data) as image:
        pixels = rgb(image)
        orientation = _orientation(image)  # Pillow turns a TIFF by itself while it is read
    del image  # before the pixels are held twice
    return np.ascontiguousarray(upright(pixels, orientation))


def _is_plain_jpeg(data: bytes) -> bool:
    """Return whether simplejpeg gives what is wanted: it does not turn an image as its EXIF block says."""
    return data.startswith(_JPEG) and (_EXIF not in data[:_EXIF_REACH] or _is_upright(data))


def _is_upright(data: bytes) -> bool:
    try:
        with open_picture(data) as image:  # reads the header only: some 50 us
            return _orientation(image) == _UPRIGHT
    except UndecodableImage:
        return True


def _orientation(image: Image.Image) -> int:
    try:
        with told_once():
            return int(image.getexif().get(ExifTags.Base.Orientation, _UPRIGHT))
    except UndecodableImage:  # a damaged EXIF block says nothing against the pixels
        return _UPRIGHT


def as_rgb(image: Image.Image, pixel_range: PixelRange | None = None) -> NDArray[np.uint8]:
    """Return the pixels of a picture (H, W, 3), in RGB whatever its mode.

    Args:
        image: the picture.
        pixel_range: as of `opened`.

    Raises:
        UndecodableImage: they are floating point numbers, or its colors cannot be converted.
    """
    samples = deep_gray(image)  # which Pillow's own conversion would clip at 255
    return rgb(image) if samples is None else samples.rgb(pixel_range)

"""Pictures of any mode of Pillow's as RGB, a part at a time, and turned upright."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from byol.data.image.kinds import UndecodableImage

_OPAQUE = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV")
_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_BAND = 1 << 20  # pixels that are converted at once, so that a large picture is not held three times
_WHITE = (255, 255, 255)


def rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels of a picture of 8 bits a sample, (H, W, 3) uint8.

    What is transparent lies on white: what cannot be seen does not count.

    Raises:
        UndecodableImage: its colors cannot be converted.
    """
    if image.mode == "F":
        raise UndecodableImage("its pixels are floating point numbers without a known range")
    if image.mode not in (*_OPAQUE, *_WITH_ALPHA):
        raise UndecodableImage(f"its colors ({image.mode}) are not read: save it as RGB")
    image.load()
    has_alpha = image.mode in _WITH_ALPHA or "transparency" in image.info
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for rows, part in bands(image):
        pixels[rows] = np.asarray(_on_white(part) if has_alpha else part.convert("RGB"))
    return pixels


def bands(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """Yield rows of a picture and the picture of these rows, from the top to the bottom."""
    count = max(1, _BAND // image.width)
    for top in range(0, image.height, count):
        rows = slice(top, min(top + count, image.height))
        is_all = count >= image.height
        yield rows, image if is_all else image.crop((0, rows.start, image.width, rows.stop))


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return a picture turned as the EXIF block says, as a view of it.

    Args:
        pixels: (H, W) or (H, W, C) as they lie in the file.
        orientation: 1 to 8; 1, and what is none of these, changes nothing.
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "La":  # gray times alpha, which becomes RGBA by way of LA alone
        image = image.convert("LA")
    colors = image.convert("RGBA")
    page = Image.new("RGB", image.size, _WHITE)
    page.paste(colors, mask=colors.getchannel("A"))
    return page

"""Pictures of any mode of Pillow's as RGB."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from byol.data.image.kinds import UndecodableImage

_OPAQUE = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV")
_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_BAND = 1 << 24  # pixels that are converted at once, so that a large picture is not held three times
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
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        part = (
            image
            if rows >= image.height
            else image.crop((0, top, image.width, min(top + rows, image.height)))
        )
        pixels[top : top + rows] = np.asarray(_on_white(part) if has_alpha else part.convert("RGB"))
    return pixels


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "La":  # gray times alpha, which becomes RGBA by way of LA alone
        image = image.convert("LA")
    colors = image.convert("RGBA")
    page = Image.new("RGB", image.size, _WHITE)
    page.paste(colors, mask=colors.getchannel("A"))
    return page

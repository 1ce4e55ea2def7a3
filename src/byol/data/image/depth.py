"""Pictures of more than 8 bits a sample: what their numbers are, and what becomes black and white of them.

Pillow keeps 16-bit gray whole, and of 16-bit colors the upper bytes alone; so those are decoded twice, once
for each byte.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile

from byol.data.image.color import bands, upright
from byol.data.image.kinds import UndecodableImage, open_picture

_PART = 1 << 19  # pixels that are mapped at once, which takes 16 times the memory of the result
HEAD = 32  # bytes of a file that say whether it may be deep

_BITS, _SENSE, _FORMAT = 258, 262, 339  # tags of TIFF
_WHITE_IS_ZERO, _SIGNED = 0, 2
# Samples in the order of another machine: of two bytes the upper one becomes the lower.
_OTHER_BYTE = {
    "RGB;16B": "RGB;16L",
    "RGB;16L": "RGB;16B",
    "RGBA;16B": "RGBA;16L",
    "RGBA;16L": "RGBA;16B",
}


@dataclass(frozen=True)
class PixelRange:
    """What becomes black and what white.

    Args:
        low: the number that is black, and whatever is smaller.
        high: the number that is white, and whatever is larger; above `low`.
    """

    low: int
    high: int

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"the range {self.low} to {self.high} holds no numbers")

    def __str__(self) -> str:
        return f"{self.low:,} is black, {self.high:,} is white"

    def to_json(self) -> list[int]:
        """Return it as JSON values."""
        return [self.low, self.high]

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Return what `to_json` wrote.

        Raises:
            TypeError, ValueError: it did not write this.
        """
        low, high = value
        return cls(int(low), int(high))

    def levels(self, samples: NDArray[Any]) -> NDArray[np.uint8]:
        """Return numbers of any type as whole levels from 0, black, to 255, white."""
        scaled = (samples.astype(np.float64) - self.low) * (255 / (self.high - self.low))
        levels: NDArray[np.uint8] = np.rint(scaled.clip(0, 255)).astype(np.uint8)
        return levels


@dataclass(frozen=True, eq=False)
class Deep:
    """The samples of a picture of more than 8 bits each.

    Args:
        samples: (H, W) or (H, W, 3) of a whole type.
        bits: that a sample may have, as the file says.
        is_signed: samples may lie below zero.
        white_is_zero: the smaller a sample, the lighter.
        alpha: (H, W) uint8, how opaque each pixel is; None where all are.
    """

    samples: NDArray[Any]
    bits: int = 16
    is_signed: bool = False
    white_is_zero: bool = False
    alpha: NDArray[np.uint8] | None = None

    jpeg: ClassVar[None] = None

    @property
    def full(self) -> PixelRange:
        """All that a sample may be."""
        half = 1 << (self.bits - 1)
        return PixelRange(-half, half - 1) if self.is_signed else PixelRange(0, 2 * half - 1)

    def rgb(self, pixel_range: PixelRange | None = None) -> NDArray[np.uint8]:
        """Return the picture (H, W, 3), by a range or by all that a sample may be."""
        pixel_range = self.full if pixel_range is None else pixel_range
        pixels = np.empty((*self.samples.shape[:2], 3), np.uint8)
        count = max(1, _PART // pixels.shape[1])
        for top in range(0, len(pixels), count):
            rows = slice(top, top + count)
            levels = pixel_range.levels(self.samples[rows])
            levels = 255 - levels if self.white_is_zero else levels
            levels = levels[:, :, None] if levels.ndim == 2 else levels
            if self.alpha is not None:
                opaque = self.alpha[rows, :, None] / np.float32(255)  # what is transparent lies on white
                levels = np.rint(255 - (255 - levels) * opaque).astype(np.uint8)
            pixels[rows] = levels
        return pixels


def may_be_deep(head: bytes) -> bool:
    """Return whether a file may have more than 8 bits a sample, by its first `HEAD` bytes."""
    if head.startswith(b"\x89PNG"):
        return head[24:25] == b"\x10"
    return head[:4] in (b"II*\0", b"MM\0*") or head[:2] in (b"P5", b"P6")


def deep_file(data: bytes) -> Deep | None:
    """Return the samples of a file, upright, if they have more than 8 bits each; else None.

    Raises:
        UndecodableImage: the file is of no kind that is read, too large, or damaged.
    """
    if not may_be_deep(data[:HEAD]):
        return None
    with open_picture(data) as image:
        other = _OTHER_BYTE.get(_layout(image))
        if other is None and "16" in _layout(image) and not image.mode.startswith("I"):
            raise UndecodableImage(
                f"it has 16 bits a sample as {image.mode}: save it as gray or RGB, or with 8"
            )
        if other is None:
            return deep_gray(image)
        image.load()  # which may turn it
        samples = np.zeros((image.height, image.width, 3), np.uint16)
        alpha = np.empty(samples.shape[:2], np.uint8) if image.mode == "RGBA" else None
        _add(image, samples, alpha)
    samples <<= 8
    del image  # before it is decoded once more
    with open_picture(data) as image:
        assert isinstance(image, ImageFile.ImageFile)
        image.tile = [tile._replace(args=_renamed(tile.args, other)) for tile in image.tile]
        image.load()
        _add(image, samples)
        orientation = _orientation(image)
    return Deep(upright(samples, orientation), alpha=None if alpha is None else upright(alpha, orientation))


def deep_gray(image: Image.Image) -> Deep | None:
    """Return the samples of a gray picture, upright, if they have more than 8 bits each; else None."""
    if not image.mode.startswith("I"):
        return None
    tags = getattr(image, "tag_v2", {})
    image.load()  # which may turn it
    samples = upright(np.asarray(image), _orientation(image))
    bits = (16 if image.mode.startswith("I;16") else 32) if _BITS not in tags else int(tags[_BITS][0])
    if not tags and bits > 16 and samples.min() >= 0 and samples.max() < 1 << 16:
        bits = 16  # of other formats Pillow makes 32 bits where there were 16
    is_signed = _SIGNED in tags.get(_FORMAT, ()) or bool(samples.min() < 0)
    return Deep(samples, bits, is_signed, tags.get(_SENSE) == _WHITE_IS_ZERO)


def _layout(image: Image.Image) -> str:
    """Return in Pillow's words how samples lie in a file that is not decoded yet; "" where that differs."""
    layouts = {
        tile.args if isinstance(tile.args, str) else tile.args[0] for tile in getattr(image, "tile", ())
    }
    return str(layouts.pop()) if len(layouts) == 1 else ""


def _renamed(args: Any, layout: str) -> Any:
    return layout if isinstance(args, str) else (layout, *args[1:])


def _add(image: Image.Image, samples: NDArray[np.uint16], alpha: NDArray[np.uint8] | None = None) -> None:
    """Add the colors of a picture to samples (H, W, 3), and write its alpha, a part at a time."""
    for rows, part in bands(image):
        pixels = np.asarray(part)
        samples[rows] |= pixels[:, :, :3]
        if alpha is not None:
            alpha[rows] = pixels[:, :, 3]


def _orientation(image: Image.Image) -> int:
    return int(image.getexif().get(ExifTags.Base.Orientation, 1))

"""Crop and bicubic resize: a batch of equal-sized images at once, or one image of any size.

All cut the box out first and resize what is left, as the official code does, so no pixel outside the box has
any influence. (Pillow's `resize(box=...)` of a whole image reads across the box's edges.) All widen the
filter when they shrink (antialiasing), as Pillow does; TensorFlow's bicubic, which the official code uses,
does not.

B images, C channels, H x W pixels in, S x S pixels out. A box is (top, left, height, width) in pixels.
"""

import math
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from byol.data.image.decode import WHOLE

_SUPPORT = 2  # the Keys cubic is zero from two (output) pixels on


def crop_resize(images: Tensor, boxes: NDArray[np.int64], size: int) -> Tensor:
    """Cut one box out of each image and resize it to `size` x `size`, bicubic and antialiased.

    Args:
        images: (B, C, H, W) uint8.
        boxes: (B, 4) int64 rows (top, left, height, width), in pixels, inside the image.
        size: S, side of the result in pixels.

    Returns:
        (B, C, S, S) float32 in [0, 1], on the images' device. Clipped, because bicubic overshoots at edges.

    Source: Keys, IEEE TASSP 1981 (a = -1/2); Pillow's `Resample.c` in float mode. Crop, resize, scale and
    clip, in this order: deepmind-research `byol/utils/dataset.py:197-233`.
    """
    batch, channels, height, width = images.shape
    assert boxes.shape == (batch, 4), boxes.shape
    assert (boxes >= (0, 0, 1, 1)).all(), boxes
    assert (boxes[:, :2] + boxes[:, 2:] <= (height, width)).all(), boxes
    top, left, box_height, box_width = torch.tensor(boxes).to(images.device, non_blocking=True).unbind(1)
    rows = _resize_weights(top, box_height, height, size)  # (B, S, H)
    columns = _resize_weights(left, box_width, width, size)  # (B, S, W)
    # Rows lead and channels follow: then each of the two products is one plain matrix product per image. The
    # conversion from uint8 has to copy the pixels anyway, so the new order costs nothing.
    pixels = images.transpose(1, 2).to(torch.float32, memory_format=torch.contiguous_format)  # (B, H, C, W)
    pixels = torch.bmm(rows, pixels.view(batch, height, channels * width))
    pixels = torch.bmm(pixels.view(batch, size * channels, width), columns.mT)
    crops = pixels.view(batch, size, channels, size).transpose(1, 2).contiguous()
    return crops.div_(255).clamp_(0, 1)


def crop_resize_one(
    image: NDArray[np.uint8], box: tuple[int, int, int, int], size: int, eighths: int = WHOLE
) -> NDArray[np.uint8]:
    """Cut a box out of one image and resize it to `size` x `size`, bicubic and antialiased, without torch.

    Args:
        image: (H, W, 3) uint8.
        box: (top, left, height, width), in pixels of the whole image, inside it.
        size: S, side of the result in pixels.
        eighths: of the whole size, in which the image was decoded. What is cut out of a coarser one is the
            same part of it, to a fraction of a pixel; only pixels that lie in the box or across its edges
            have influence.

    Returns:
        (3, S, S) uint8. Differs from `crop_resize` in that Pillow rounds and clips to whole levels after each
        axis: half a level where the image is smooth, up to some ten levels where bicubic overshoots.
    """
    top, left, bottom, right = (
        edge * eighths / WHOLE for edge in (box[0], box[1], box[0] + box[2], box[1] + box[3])
    )  # exact: eighths in binary
    first_row, first_column = int(top), int(left)
    crop = Image.fromarray(image[first_row : math.ceil(bottom), first_column : math.ceil(right)])
    inside = left - first_column, top - first_row, right - first_column, bottom - first_row
    resized = crop.resize((size, size), Image.Resampling.BICUBIC, inside)
    return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))


def crop_resize_view(
    image: NDArray[np.uint8], box: tuple[int, int, int, int], size: int, eighths: int = WHOLE
) -> NDArray[np.uint8]:
    """Cut a view out of one image as `crop_resize_one` does, three times as fast at whole pixels.

    Then torch resizes, with vector instructions where the processor has them. Its levels are as near to the
    exact ones as Pillow's, and differ from those by a level or two in a hundredth of them (docs/log.md).
    Edges between pixels, which an image has that was decoded coarsely, are left to Pillow.

    Args:
        image: (H, W, 3) uint8.
        box: (top, left, height, width), in pixels of the whole image, inside it.
        size: S, side of the result in pixels.
        eighths: of the whole size, in which the image was decoded.

    Returns:
        (3, S, S) uint8.
    """
    if any(edge * eighths % WHOLE for edge in box):
        return crop_resize_one(image, box, size, eighths)
    top, left, height, width = (edge * eighths // WHOLE for edge in box)
    crop = torch.from_numpy(np.array(image[top : top + height, left : left + width]))
    pixels = crop.permute(2, 0, 1)[None]  # channels last: only these are resized fast
    view: NDArray[np.uint8] = F.interpolate(pixels, (size, size), mode="bicubic", antialias=True)[0].numpy()
    return view


def shrink(image: NDArray[np.uint8], short_side: int) -> NDArray[np.uint8]:
    """Resize an image (H, W, 3) so that its shorter side has `short_side` pixels, bicubic and antialiased.

    One whose shorter side has no more is returned as it is.
    """
    height, width, _ = image.shape
    shorter = min(height, width)
    if shorter <= short_side:
        return image
    size = round(width * short_side / shorter), round(height * short_side / shorter)
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def central_box(height: int, width: int, fraction: float = 1.0) -> tuple[int, int, int, int]:
    """Return (top, left, height, width), in pixels, of a central square: a fraction of the shorter side."""
    side = max(1, int(fraction * min(height, width)))
    return (height - side) // 2, (width - side) // 2, side, side


def needed_fraction(boxes: Iterable[NDArray[np.int64]], sizes: Iterable[int]) -> float:
    """Return the fraction of an image's height and width at which no crop of it has to be enlarged.

    Args:
        boxes: of each crop, (top, left, height, width) in pixels.
        sizes: of each crop, its side in pixels.

    Returns:
        The fraction, > 0; above 1 where a box has fewer pixels than its crop already.
    """
    return max(size / min(int(box[2]), int(box[3])) for box, size in zip(boxes, sizes, strict=True))


def _resize_weights(start: Tensor, length: Tensor, full: int, size: int) -> Tensor:
    """Return the (B, size, full) matrices that resample `length` of `full` pixels from `start` on.

    Pixel x covers [x, x + 1). Its weight depends on how far its center is from the output pixel's center, in
    units of the larger of the two pixels. Positions are whole numbers of 1 / (2 size) pixels, hence exact.
    """
    batch, device = len(length), length.device
    length = length[:, None, None]
    coarser = length.clamp_min(size)  # pixel size in the filter, times `size`: widened when shrinking
    center = (2 * torch.arange(size, device=device)[:, None] + 1) * length  # (B, size, 1)
    first = (center - 2 * _SUPPORT * coarser + size) // (2 * size)  # first pixel the filter can reach
    # Taps for the hardest shrinking possible, not this batch's: no result may depend on the batch around it.
    taps = -(-2 * _SUPPORT * max(full, size) // size)
    pixel = first + torch.arange(taps, device=device)  # (B, size, taps), counted from the box's start
    distance = ((2 * pixel + 1) * size - center).abs() / (2 * coarser)
    weight = _keys_cubic(distance) * ((pixel >= 0) & (pixel < length))
    weight /= weight.sum(dim=2, keepdim=True)
    # Taps outside the box weigh nothing but need a place of their own, hence the margins.
    matrix = torch.zeros(batch, size, full + 2 * taps, device=device)
    matrix.scatter_(2, pixel + (start[:, None, None] + taps), weight)
    return matrix[:, :, taps : taps + full]


def _keys_cubic(distance: Tensor) -> Tensor:
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, 0))

"""Operations on batches of images, and how a batch goes through those that are for each of its images.

Each operation takes a batch in which every image has its own parameter. B images, C channels, S x S pixels in
[0, 1]; with 3 channels they are red, green, blue.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Measured on cores with 1 MiB of cache: alone is faster from 160 px on, and 4 MiB are best below.
_LARGE_IMAGE_BYTES = 2**18
_PART_BYTES = 2**22


def flip(x: Tensor) -> Tensor:
    """Mirror images (B, C, S, S) left and right."""
    return x.flip(-1)


def adjust_brightness(x: Tensor, delta: Tensor) -> Tensor:
    """Add delta (B,) to images (B, C, S, S), without clipping. (torchvision multiplies instead.)"""
    return x + _per_image(delta)


def adjust_contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Scale images (B, C, S, S) by factor (B,) about the mean of each channel, without clipping."""
    mean = x.mean(dim=(2, 3), keepdim=True)
    return x.sub(mean).mul_(_per_image(factor)).add_(mean)


def adjust_saturation(x: Tensor, factor: Tensor) -> Tensor:
    """Multiply the HSV saturation of images (B, 3, S, S) in [0, 1] by factor (B,), at most up to 1.

    With value v = max(x) and saturation s = (v - min(x)) / v, each channel is v (1 - s t), where t depends on
    the hue alone. So replacing s by min(f s, 1) multiplies v - x by min(f, 1 / s), and no hue is needed.
    """
    value = x.amax(dim=1, keepdim=True)
    chroma = value - x.amin(dim=1, keepdim=True)
    ratio = value.div(_nonzero(chroma)).minimum(_per_image(factor))
    lost = value.sub(x).mul_(ratio)
    return torch.sub(value, lost, out=lost)


def adjust_hue(x: Tensor, delta: Tensor) -> Tensor:
    """Add delta (B,), in turns, to the HSV hue of images (B, 3, S, S) in [0, 1]. Gray stays as it is.

    The hue takes no cases to find. With w = (x - min) / (max - min) it is 1 + w_green + w_blue - w_red
    sixths of a turn from red, towards the larger of green and blue.
    """
    red, green, blue = x.unbind(1)
    value, lowest = x.amax(dim=1), x.amin(dim=1)
    chroma = value - lowest
    # Summed in this order it is exactly 0 for gray, where it is divided by next to nothing.
    hue = (green - lowest).add_(blue - red).div_(_nonzero(chroma)).add_(1).copysign_(green - blue)
    hue = hue.add_(6 * delta.view(-1, 1, 1))  # sixths of a turn
    hue.sub_(hue.div(6).floor_(), alpha=6)  # in [0, 6]; on a CPU, four times as fast as `remainder_`

    def rise(center: int) -> Tensor:
        # 0 within a sixth of the center, `chroma` from two sixths on, straight in between.
        return (hue - center).abs_().sub_(1).clamp_(0, 1).mul_(chroma)

    # Red is high away from cyan (3), green near green (2), blue near blue (4): none is cut by the seam at 0.
    return torch.stack((lowest + rise(3), value - rise(2), value - rise(4)), dim=1)


def to_grayscale(x: Tensor) -> Tensor:
    """Replace the channels of images (B, 3, S, S) by their weighted sum.

    The weights are the official code's. They sum to 0.9999, so white does not stay quite white.
    """
    red, green, blue = x.unbind(1)
    gray = 0.2989 * red + 0.5870 * green + 0.1140 * blue
    return torch.stack((gray, gray, gray), dim=1)


def gaussian_blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Blur images (B, C, S, S) by Gaussians of standard deviation sigma (B,), in pixels.

    The kernel has 2 int(S / 20) + 1 taps, so 3 at 32 px and 23 at 224 px, and sums to 1. What lies outside
    the image counts as black: borders darken.

    Source: deepmind-research `byol/utils/augmentations.py:135-136, 423`.
    """
    size = x.shape[-1]
    radius = size // 20
    distance = torch.arange(radius + 1, device=x.device, dtype=x.dtype).view(-1, 1, 1, 1, 1)
    taps = torch.exp(distance.square() / (-2 * _per_image(sigma).square()))  # (radius + 1, B, 1, 1, 1)
    if x.device.type == "cpu":  # a GPU would have to be waited for
        radius = int(taps.count_nonzero(dim=0).max()) - 1  # the outer taps of small sigmas are 0
    # The middle tap, exp(0) = 1, is there only once. `taps.sum` would sum one image's in another order.
    taps /= 2 * sum(taps.unbind()) - 1
    # A sum of shifted images. On a CPU it beats matrix products and a grouped convolution, and, unlike these,
    # it is the same to the last bit whatever the batch.
    for dim in (2, 3):
        blurred = x * taps[0]
        for k in range(1, radius + 1):
            blurred.narrow(dim, k, size - k).addcmul_(x.narrow(dim, 0, size - k), taps[k])
            blurred.narrow(dim, 0, size - k).addcmul_(x.narrow(dim, k, size - k), taps[k])
        x = blurred
    return x


def solarize(x: Tensor) -> Tensor:
    """Invert what is not darker than 0.5 in images of any shape in [0, 1]."""
    return torch.minimum(x, 1 - x)  # the same without a case to decide, and 16 times as fast on a CPU


class Operation(NamedTuple):
    """An operation, and for which images of a batch it is.

    Args:
        op: (images, amount (B,)) -> images.
        chosen: (B,) which images it is for.
        amount: (B,) its parameter for each.
    """

    op: Callable[[Tensor, Tensor], Tensor]
    chosen: NDArray[np.bool_]
    amount: NDArray[np.float32]


def run(steps: list[Operation], crops: Tensor, finish: Callable[[Tensor], Tensor]) -> Tensor:
    """Take each image through the steps that are for it, clipping to [0, 1] after each, and through `finish`.

    A step costs only as much as there are images it is for. Which these are is worked out on the host and
    sent to the device in one piece, as small copies cost more than what is in them.
    """
    dtype = torch.float32 if crops.dtype == torch.uint8 else crops.dtype
    result = torch.empty_like(crops, dtype=dtype, memory_format=torch.channels_last)
    chosen = np.stack([step.chosen for step in steps])
    for part in _parts(result):
        here = [steps[number] for number in np.flatnonzero(chosen[:, part].any(axis=1))]
        rows = [np.flatnonzero(step.chosen[part]) for step in here]
        amounts = [step.amount[part][of] for step, of in zip(here, rows, strict=True)]
        on_device = zip(here, _upload(rows, crops.device), _upload(amounts, crops.device), strict=True)
        x = crops[part].float().div_(255) if crops.dtype == torch.uint8 else crops[part].clone()
        for step, of, amount in on_device:
            everyone = len(of) == len(x)
            some = x if everyone else x.index_select(0, of)
            some = step.op(some, amount.to(x.dtype)).clamp_(0, 1)
            x = some if everyone else x.index_copy_(0, of, some)
        result[part] = finish(x)
    return result


def _parts(images: Tensor) -> Iterator[slice]:
    """Yield the parts of a batch that are worked at in turn: on a GPU the whole.

    On a CPU, large images go one by one, so that they stay in the cache of a core. Of small ones so many are
    taken that the calls cost less than what is in them.
    """
    image_bytes = images.shape[1:].numel() * images.element_size()
    count = max(1, len(images))
    if images.device.type == "cpu":
        count = 1 if image_bytes >= _LARGE_IMAGE_BYTES else _PART_BYTES // image_bytes
    return (slice(start, start + count) for start in range(0, len(images), count))


def _upload(parts: list[NDArray[Any]], device: torch.device) -> tuple[Tensor, ...]:
    if not parts:
        return ()
    packed = torch.from_numpy(np.concatenate(parts)).to(device, non_blocking=True)
    return torch.split(packed, [len(part) for part in parts])


def _per_image(amount: Tensor) -> Tensor:
    return amount.view(-1, 1, 1, 1)


def _nonzero(chroma: Tensor) -> Tensor:
    return chroma.clamp_min(torch.finfo(chroma.dtype).tiny)

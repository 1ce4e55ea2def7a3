"""The views of an image: where each is cut out and how it is distorted.

`View` is one column of the paper's table of augmentations; `T` and `T_PRIME` show what differs between the
two. `OneView`, `TwoViews` and `MultiCrop` say which views there are. The operations further down take a batch
in which every image has its own parameter. All that is random comes from `draws`, on the host, so a view is a
function of (seed, step, index) and no GPU is ever waited for.

B images, C channels, S x S pixels in [0, 1]; with 3 channels they are red, green, blue. A box is (top, left,
height, width) in pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, auto
from itertools import permutations
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from byol.data.draws import uniforms
from byol.errors import UserError

Indices = NDArray[np.int64]
Draws = NDArray[np.float32]  # (B, len(Draw))


@dataclass(frozen=True, kw_only=True)
class View:
    """How one view is drawn: probabilities and ranges of the crop and of each distortion.

    Args:
        area: range of the crop's share of the image's area, in (0, 1].
        aspect: range of the crop's width / height, > 0; uniform in its logarithm.
        flip: probability of mirroring left and right.
        jitter: probability of the next four: all of them, in random order.
        brightness: b; U(-b, b) is added, b >= 0.
        contrast: c; contrast is multiplied by U(1 - c, 1 + c), c in [0, 1].
        saturation: s; HSV saturation is multiplied by U(1 - s, 1 + s), s in [0, 1].
        hue: h; U(-h, h) is added to the hue, in turns, h in [0, 0.5].
        grayscale: probability of losing the color.
        blur: probability of a Gaussian blur.
        blur_sigma: range of its standard deviation in pixels, > 0, whatever the image's size.
        solarize: probability of inverting what is not darker than 0.5.

    Raises:
        UserError: a value is out of its range.

    Source: BYOL, arXiv 2006.07733, appendix on image augmentations; deepmind-research
    `byol/utils/augmentations.py:27-66`.
    """

    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    grayscale: float = 0.2
    blur: float = 1.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.0

    def __post_init__(self) -> None:
        unbounded = float("inf")
        highest = {"flip": 1.0, "jitter": 1.0, "grayscale": 1.0, "blur": 1.0, "solarize": 1.0}
        highest |= {"brightness": unbounded, "contrast": 1.0, "saturation": 1.0, "hue": 0.5}
        for name, limit in highest.items():
            value = getattr(self, name)
            if not 0 <= value <= limit:
                raise UserError(f"{name} is {value}; choose a value in [0, {limit}].")
        for name, limit in {"area": 1.0, "aspect": unbounded, "blur_sigma": unbounded}.items():
            low, high = getattr(self, name)
            if not 0 < low <= high <= limit:
                raise UserError(f"{name} is ({low}, {high}); choose 0 < low <= high <= {limit}.")


T = View()
T_PRIME = View(blur=0.1, solarize=0.2)


class _Views:
    """What kinds of views share: how a number of them is drawn, from boxes to normalized pixels."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def drawn(self) -> tuple[tuple[View, int], ...]:
        """How each view is drawn, and its side in pixels."""
        raise NotImplementedError

    @property
    def sizes(self) -> tuple[int, ...]:
        """Side of each view in pixels."""
        return tuple(size for _, size in self.drawn)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Which view predicts which: every one predicts the first two, but not itself."""
        return tuple((i, j) for i in range(len(self.drawn)) for j in range(2) if i != j)

    def boxes(
        self, seed: int, step: int, index: Indices, heights: Indices, widths: Indices
    ) -> tuple[Indices, ...]:
        """Draw where the views of each image are cut out.

        Args:
            seed: the run's seed.
            step: the optimizer step.
            index: (B,) each image's place in its data set.
            heights: (B,) the images' heights in pixels.
            widths: (B,) the images' widths in pixels.

        Returns:
            For each view (B, 4) int64 rows (top, left, height, width).
        """
        return tuple(
            draw_boxes(view, uniforms(seed, step, index, number, len(Draw)), heights, widths)
            for number, (view, _) in enumerate(self.drawn)
        )

    def distort(self, crops: Sequence[Tensor], seed: int, step: int, index: Indices) -> tuple[Tensor, ...]:
        """Distort and normalize the resized crops of the views.

        What comes out for an image does not depend on the batch around it.

        Args:
            crops: of each view, (B, 3, S, S) float32 or float64 in [0, 1], or uint8 in [0, 255]; left as they
                are.
            seed: the run's seed.
            step: the optimizer step.
            index: (B,) each image's place in its data set.

        Returns:
            For each view (B, 3, S, S), channels last in memory, on the crops' device and of their dtype
            (float32 for uint8).
        """
        return tuple(
            distort_crops(view, uniforms(seed, step, index, number, len(Draw)), crop, self.normalize)
            for number, ((view, _), crop) in enumerate(zip(self.drawn, crops, strict=True))
        )

    def normalize(self, x: Tensor) -> Tensor:
        """Return images (B, 3, H, W) in [0, 1], shifted and scaled by `mean` and `std`.

        This comes after every distortion: blur pads with black and solarize turns at 0.5, both of [0, 1].
        """
        constants = torch.tensor((self.mean, self.std), dtype=x.dtype).to(x.device, non_blocking=True)
        mean, std = constants.view(2, 3, 1, 1).unbind()
        return x.sub(mean).div_(std)

    def __post_init__(self) -> None:
        if not self.size >= 1:
            raise UserError(f"size is {self.size}; a view needs a side of at least 1 pixel.")
        if not all(channel > 0 for channel in self.std):
            raise UserError(f"std is {self.std}; every channel is divided by it, so choose values > 0.")


@dataclass(frozen=True, kw_only=True)
class OneView(_Views):
    """A single view of an image, cut out and mirrored at random: what a classifier learns from.

    Args:
        size: S, side of the view in pixels, >= 1.
        view: how it is drawn.
        mean: subtracted from each channel, in units of [0, 1].
        std: what each channel is then divided by, > 0.

    Raises:
        UserError: a value is out of its range.
    """

    size: int
    view: View = View(jitter=0.0, grayscale=0.0, blur=0.0)
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    @property
    def drawn(self) -> tuple[tuple[View, int], ...]:
        """The view."""
        return ((self.view, self.size),)


@dataclass(frozen=True, kw_only=True)
class TwoViews(_Views):
    """The pair of views that BYOL compares.

    Args:
        size: S, side of a view in pixels, >= 1.
        first: how view 1 is drawn.
        second: how view 2 is drawn.
        mean: subtracted from each channel, in units of [0, 1]; by default ImageNet's mean.
        std: what each channel is then divided by, > 0; by default ImageNet's standard deviation.

    Raises:
        UserError: a value is out of its range.
    """

    kind: Literal["two"] = "two"
    size: int = 224
    first: View = T
    second: View = T_PRIME
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    @property
    def drawn(self) -> tuple[tuple[View, int], ...]:
        """View 1 and view 2."""
        return (self.first, self.size), (self.second, self.size)


@dataclass(frozen=True, kw_only=True)
class MultiCrop(_Views):
    """BYOL's two large views and some small ones, which go through the online network alone.

    The small ones are SwAV's idea and not in BYOL's paper. Each of them is drawn by the same table and by
    numbers of its own; views 1 and 2 have the numbers that they have in `TwoViews`.

    Args:
        size: S, side of the two large views in pixels, >= 1.
        first: how view 1 is drawn.
        second: how view 2 is drawn.
        small: how the small views are drawn.
        small_size: side of the small views in pixels, >= 1.
        num_small: how many there are, >= 1.
        mean: subtracted from each channel, in units of [0, 1]; by default ImageNet's mean.
        std: what each channel is then divided by, > 0; by default ImageNet's standard deviation.

    Raises:
        UserError: a value is out of its range.

    Source: SwAV (2006.09882), section on multi-crop.
    """

    kind: Literal["multicrop"] = "multicrop"
    size: int = 224
    first: View = View(area=(0.25, 1.0))
    second: View = View(area=(0.25, 1.0), blur=0.1, solarize=0.2)
    small: View = View(area=(0.05, 0.25), blur=0.5)
    small_size: int = 96
    num_small: int = 4
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    @property
    def drawn(self) -> tuple[tuple[View, int], ...]:
        """View 1, view 2 and the small ones."""
        large = (self.first, self.size), (self.second, self.size)
        return large + ((self.small, self.small_size),) * self.num_small

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.small_size >= 1:
            raise UserError(f"small_size is {self.small_size}; a view needs a side of at least 1 pixel.")
        if not self.num_small >= 1:
            raise UserError(f"num_small is {self.num_small}; use 1 or more, or two views without small ones.")


class Draw(IntEnum):
    """What each column of an image's uniform numbers decides.

    Append new ones: moving one changes every view ever drawn.
    """

    AREA = 0
    ASPECT = auto()
    TOP = auto()
    LEFT = auto()
    FLIP = auto()
    JITTER = auto()
    ORDER = auto()
    BRIGHTNESS = auto()
    CONTRAST = auto()
    SATURATION = auto()
    HUE = auto()
    GRAYSCALE = auto()
    BLUR = auto()
    SIGMA = auto()
    SOLARIZE = auto()


def draw_boxes(view: View, draws: Draws, heights: Indices, widths: Indices) -> Indices:
    """Turn draws (B, len(Draw)) into crop boxes (B, 4), rows (top, left, height, width) in pixels.

    One draw per image: a crop too large is clamped to the image. (torchvision draws up to ten times instead.)

    Source: deepmind-research `byol/utils/dataset.py:206-233`.
    """
    u = draws.T.astype(np.float64)  # in float32 the last place of a row could round up to one beyond it
    area = _between(view.area, u[Draw.AREA]) * heights * widths
    low, high = view.aspect
    aspect = np.exp(_between((np.log(low), np.log(high)), u[Draw.ASPECT]))
    box_heights = np.clip(np.rint(np.sqrt(area / aspect)), 1, heights)
    box_widths = np.clip(np.rint(np.sqrt(area * aspect)), 1, widths)
    tops = np.floor(u[Draw.TOP] * (heights - box_heights + 1))
    lefts = np.floor(u[Draw.LEFT] * (widths - box_widths + 1))
    return np.stack((tops, lefts, box_heights, box_widths), axis=1).astype(np.int64)


def distort_crops(
    view: View, draws: Draws, crops: Tensor, finish: Callable[[Tensor], Tensor] = lambda x: x
) -> Tensor:
    """Return crops (B, 3, S, S) in [0, 1] distorted as draws (B, len(Draw)) say, and finished.

    Flip, color jitter, grayscale, blur, solarize, and then what is to come last: nothing, or the normalizing.
    The crops themselves are left as they are; the result is channels last in memory, as the networks want it.

    Source: deepmind-research `byol/utils/augmentations.py:88-98`; clipping after each op, `:313-317, 347`.
    """
    u = draws.T
    jitter = u[Draw.JITTER] < view.jitter
    orders = _ORDERS[(u[Draw.ORDER] * len(_ORDERS)).astype(np.int64)]  # (B, 4): the op at each place
    jitter_ops = (
        (adjust_brightness, _between((-view.brightness, view.brightness), u[Draw.BRIGHTNESS])),
        (adjust_contrast, _between((1 - view.contrast, 1 + view.contrast), u[Draw.CONTRAST])),
        (adjust_saturation, _between((1 - view.saturation, 1 + view.saturation), u[Draw.SATURATION])),
        (adjust_hue, _between((-view.hue, view.hue), u[Draw.HUE])),
    )
    sigma = _between(view.blur_sigma, u[Draw.SIGMA])
    none = np.zeros_like(sigma)
    steps = [
        _Step(lambda x, _: flip(x), u[Draw.FLIP] < view.flip, none),
        *(
            _Step(op, jitter & (orders[:, place] == number), amount)
            for place in range(4)
            for number, (op, amount) in enumerate(jitter_ops)
        ),
        _Step(lambda x, _: to_grayscale(x), u[Draw.GRAYSCALE] < view.grayscale, none),
        _Step(gaussian_blur, u[Draw.BLUR] < view.blur, sigma),
        _Step(lambda x, _: solarize(x), u[Draw.SOLARIZE] < view.solarize, none),
    ]
    return _run(steps, crops, finish)


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


# Measured on cores with 1 MiB of cache: alone is faster from 160 px on, and 4 MiB are best below.
_LARGE_IMAGE_BYTES = 2**18
_PART_BYTES = 2**22
_ORDERS = np.array(list(permutations(range(4))))  # (24, 4)


class _Step(NamedTuple):
    op: Callable[[Tensor, Tensor], Tensor]  # (images, amount (B,)) -> images
    chosen: NDArray[np.bool_]  # (B,) which images it is for
    amount: NDArray[np.float32]  # (B,)


def _run(steps: list[_Step], crops: Tensor, finish: Callable[[Tensor], Tensor]) -> Tensor:
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


def _between(limits: tuple[float, float], u: NDArray[Any]) -> NDArray[Any]:
    low, high = limits
    return low + (high - low) * u


def _per_image(amount: Tensor) -> Tensor:
    return amount.view(-1, 1, 1, 1)


def _nonzero(chroma: Tensor) -> Tensor:
    return chroma.clamp_min(torch.finfo(chroma.dtype).tiny)

"""How one view is drawn: its table of probabilities and ranges, where it is cut out, how it is distorted.

`View` is one column of the paper's table of augmentations; `T` and `T_PRIME` show what differs between the
two. All that is random comes from `draws`, on the host, so a view is a function of (seed, step, index) and no
GPU is ever waited for.

B images, C channels, S x S pixels in [0, 1]; with 3 channels they are red, green, blue. A box is (top, left,
height, width) in pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, auto
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from byol.data.image.distort import (
    Operation,
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    flip,
    gaussian_blur,
    run,
    solarize,
    to_grayscale,
)
from byol.data.views import Indices
from byol.errors import UserError, refuse_no_number, refuse_no_numbers

Draws = NDArray[np.float32]  # (B, len(Draw))

_ORDERS = np.array(list(permutations(range(4))))  # (24, 4)
_OF_COLORS = (adjust_saturation, adjust_hue)


@dataclass(frozen=True, kw_only=True)
class View:
    """How one view is drawn: probabilities and ranges of the crop and of each distortion.

    Args:
        area: range of the crop's fraction of the image's area, in (0, 1].
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

    @property
    def needs_colors(self) -> bool:
        """Whether it changes hue or saturation, which three channels alone have."""
        return self.grayscale > 0 or (self.jitter > 0 and (self.saturation > 0 or self.hue > 0))

    def __post_init__(self) -> None:
        unbounded = float("inf")
        highest = {"flip": 1.0, "jitter": 1.0, "grayscale": 1.0, "blur": 1.0, "solarize": 1.0}
        highest |= {"brightness": unbounded, "contrast": 1.0, "saturation": 1.0, "hue": 0.5}
        for name, limit in highest.items():
            value = getattr(self, name)
            refuse_no_number(name, value)
            if not 0 <= value <= limit:
                raise UserError(f"{name} is {value}; choose a value in [0, {limit}].")
        for name, limit in {"area": 1.0, "aspect": unbounded, "blur_sigma": unbounded}.items():
            refuse_no_numbers(name, getattr(self, name), 2)
            low, high = getattr(self, name)
            if not 0 < low <= high <= limit:
                raise UserError(f"{name} is ({low}, {high}); choose 0 < low <= high <= {limit}.")


T = View()
T_PRIME = View(blur=0.1, solarize=0.2)


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
    """Return crops (B, C, S, S) in [0, 1] distorted as draws (B, len(Draw)) say, and finished.

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
        Operation(lambda x, _: flip(x), u[Draw.FLIP] < view.flip, none),
        *(
            Operation(op, jitter & (orders[:, place] == number), amount)
            for place in range(4)
            for number, (op, amount) in enumerate(jitter_ops)
            if crops.shape[1] == 3 or op not in _OF_COLORS
        ),
        Operation(lambda x, _: to_grayscale(x), u[Draw.GRAYSCALE] < view.grayscale, none),
        Operation(gaussian_blur, u[Draw.BLUR] < view.blur, sigma),
        Operation(lambda x, _: solarize(x), u[Draw.SOLARIZE] < view.solarize, none),
    ]
    return run(steps, crops, finish)


def _between(limits: tuple[float, float], u: NDArray[Any]) -> NDArray[Any]:
    low, high = limits
    return low + (high - low) * u

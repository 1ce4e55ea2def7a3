"""What the tests of views share: slow references of the operations, images, draws and statistics."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations, product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from byol.data.draws import uniforms
from byol.data.image.augmentation import Draw, View

N = 20_000
PLAIN = View(flip=0, jitter=0, grayscale=0, blur=0, solarize=0)
ONLY_JITTER = replace(PLAIN, jitter=1, brightness=0, contrast=0, saturation=0, hue=0)
# float32 has a spacing of 6e-8 just below 1; every op is a handful of roundings of numbers up to 1.
FLOAT32 = 1e-6
# float64 has 1e-16 there, and two references differ by a handful of roundings; the rest is to spare.
FLOAT64 = 1e-14

Image = NDArray[np.float64]  # (3, H, W)


# ---------------------------------------------------------------- slow references, one image, float64


def each_pixel(image: Image, change: Callable[[float, float, float], tuple[float, float, float]]) -> Image:
    result = np.empty_like(image)
    for y, x in np.ndindex(image.shape[1:]):
        result[:, y, x] = change(*image[:, y, x])
    return result


def hsv_from_rgb(r: float, g: float, b: float) -> tuple[float, float, float]:
    """Return hue in turns, saturation and value by the cases of the textbook; the hue of gray is 0.

    Source: Smith, "Color gamut transform pairs", SIGGRAPH 1978.
    """
    value, chroma = max(r, g, b), max(r, g, b) - min(r, g, b)
    if chroma == 0:
        return 0.0, 0.0, value
    if value == r:
        sixths = (g - b) / chroma
    elif value == g:
        sixths = 2 + (b - r) / chroma
    else:
        sixths = 4 + (r - g) / chroma
    return sixths / 6 % 1, chroma / value, value


def rgb_from_hsv(h: float, s: float, v: float) -> tuple[float, float, float]:
    """The way back, by the cases of the textbook: which sixth of the turn the hue is in."""
    sixth, rest = divmod(6 * (h % 1), 1)
    low, falling, rising = v * (1 - s), v * (1 - s * rest), v * (1 - s * (1 - rest))
    if sixth == 0:
        return v, rising, low
    if sixth == 1:
        return falling, v, low
    if sixth == 2:
        return low, v, rising
    if sixth == 3:
        return low, falling, v
    if sixth == 4:
        return rising, low, v
    return v, low, falling


def slow_saturation(image: Image, factor: float) -> Image:
    def change(r: float, g: float, b: float) -> tuple[float, float, float]:
        h, s, v = hsv_from_rgb(r, g, b)
        return rgb_from_hsv(h, min(max(s * factor, 0), 1), v)

    return each_pixel(image, change)


def slow_hue(image: Image, delta: float) -> Image:
    def change(r: float, g: float, b: float) -> tuple[float, float, float]:
        h, s, v = hsv_from_rgb(r, g, b)
        return rgb_from_hsv(h + delta, s, v)

    return each_pixel(image, change)


def slow_contrast(image: Image, factor: float) -> Image:
    return np.stack([factor * (channel - channel.mean()) + channel.mean() for channel in image])


def slow_grayscale(image: Image) -> Image:
    gray = 0.2989 * image[0] + 0.5870 * image[1] + 0.1140 * image[2]
    return np.stack([gray] * 3)


def slow_blur(image: Image, sigma: float) -> Image:
    """Direct two-dimensional sum over a window of the taps, nothing outside the image."""
    _, height, width = image.shape
    radius = int(height / 10 / 2)
    line = np.exp(-(np.arange(-radius, radius + 1.0) ** 2) / (2 * sigma**2))
    kernel = np.outer(line, line) / line.sum() ** 2
    padded = np.pad(image, ((0, 0), (radius, radius), (radius, radius)))
    window = range(2 * radius + 1)
    shifted = (kernel[y, x] * padded[:, y : y + height, x : x + width] for y, x in product(window, window))
    return sum(shifted, np.zeros_like(image))


def slow_distort(view: View, u: NDArray[np.float32], image: Image) -> Image:
    """The whole of one view, from the table of draws, one op after the other."""

    def amount(column: Draw, low: float, high: float) -> float:
        return low + (high - low) * float(u[column])

    def clip(x: Image) -> Image:
        return np.clip(x, 0, 1)

    if u[Draw.FLIP] < view.flip:
        image = image[:, :, ::-1]
    jitter: list[Callable[[Image], Image]] = [
        lambda x: x + amount(Draw.BRIGHTNESS, -view.brightness, view.brightness),
        lambda x: slow_contrast(x, amount(Draw.CONTRAST, 1 - view.contrast, 1 + view.contrast)),
        lambda x: slow_saturation(x, amount(Draw.SATURATION, 1 - view.saturation, 1 + view.saturation)),
        lambda x: slow_hue(x, amount(Draw.HUE, -view.hue, view.hue)),
    ]
    if u[Draw.JITTER] < view.jitter:
        for op in list(permutations(jitter))[int(24 * u[Draw.ORDER])]:
            image = clip(op(image))
    if u[Draw.GRAYSCALE] < view.grayscale:
        image = slow_grayscale(image)
    if u[Draw.BLUR] < view.blur:
        image = slow_blur(image, amount(Draw.SIGMA, *view.blur_sigma))
    if u[Draw.SOLARIZE] < view.solarize:
        image = np.where(image < 0.5, image, 1 - image)
    return clip(image)


# ---------------------------------------------------------------- inputs and statistics


def near_grays(chroma: float, rng: np.random.Generator) -> Image:
    """(3, 1, 300): grays with up to `chroma` between the largest and the smallest channel."""
    return np.clip(rng.random((1, 1, 300)) + chroma * (rng.random((3, 1, 300)) - 0.5), 0, 1)


def pixels() -> dict[str, Tensor]:
    """Kinds of colors, each (1, 3, 1, n)."""
    rng = np.random.default_rng(0)
    lattice = product((0.0, 0.25, 0.5, 0.75, 1.0), repeat=3)
    pure = np.sort(rng.random((200, 3))) * (0, 1, 1)  # smallest channel 0: saturation 1, any value
    bright = 1 - pure  # largest channel 1: value 1, any saturation
    pair, other = rng.random((2, 100))
    twins = [np.stack(order) for order in ((pair, pair, other), (pair, other, pair), (other, pair, pair))]
    kinds = {
        "random": rng.random((3, 1000)),
        "black and white": np.repeat([[0.0, 1.0]], 3, axis=0),
        "corners": np.array(list(product((0.0, 1.0), repeat=3))).T,
        "lattice": np.array(list(lattice)).T,
        "saturated": rng.permuted(pure, axis=1).T,
        "bright": rng.permuted(bright, axis=1).T,
        "grays": np.repeat(np.linspace(0, 1, 256)[None], 3, axis=0),
        "two channels equal": np.concatenate(twins, axis=1),
        "dark": 10 ** rng.uniform(-9, -2, 300) * rng.random((3, 300)),
        **{f"chroma {chroma:g}": near_grays(chroma, rng) for chroma in (1e-6, 1e-5, 1e-4, 1e-3)},
    }
    return {kind: torch.from_numpy(values.reshape(1, 3, 1, -1)).float() for kind, values in kinds.items()}


PIXELS = pixels()


def colors() -> Tensor:
    """(2, 3, 16, 16): of all kinds; then random ones."""
    every = torch.cat(list(PIXELS.values()), dim=-1).flatten(2)
    mixed = every[:, :, torch.linspace(0, every.shape[2] - 1, 256).long()]
    return torch.cat((mixed, PIXELS["random"][:, :, 0, :256])).view(2, 3, 16, 16)


def random_crops(batch: int, size: int, seed: int = 0) -> Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def draws(count: int = N, view: int = 0) -> NDArray[np.float32]:
    return uniforms(0, 0, np.arange(count), view, len(Draw))


def assert_is_share(count: int, probability: float, total: int = N) -> None:
    """Within five standard errors of a binomial: false alarm once in two million."""
    error = math.sqrt(probability * (1 - probability) / total)
    assert abs(count / total - probability) <= 5 * error, (count / total, probability)


def assert_uniform(values: NDArray[np.float64], low: float, high: float, bins: int = 40) -> None:
    width = high - low
    assert values.min() >= low - 0.01 * width
    assert values.max() <= high + 0.01 * width
    counts = np.histogram(np.clip(values, low, high), bins=bins, range=(low, high))[0]
    assert_equally_likely(counts)


def assert_equally_likely(counts: NDArray[np.int64]) -> None:
    expected = counts.sum() / counts.size
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    freedom = counts.size - 1
    assert chi_square < freedom + 5 * math.sqrt(2 * freedom), counts


BUSY = View(flip=0.5, jitter=0.9, grayscale=0.3, blur=0.6, solarize=0.5, saturation=0.9, hue=0.5)

import colorsys
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import permutations, product
from typing import Annotated

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor

from byol.data.draws import uniforms
from byol.data.image import views
from byol.data.image.views import (
    T_PRIME,
    Draw,
    MultiCrop,
    T,
    TwoViews,
    View,
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    distort_crops,
    draw_boxes,
    flip,
    gaussian_blur,
    solarize,
    to_grayscale,
)

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


# ---------------------------------------------------------------- the ops against the references


@pytest.mark.parametrize("kind", PIXELS)
def test_the_references_of_hsv_agree_with_pythons(kind: str) -> None:
    for pixel in PIXELS[kind][0, :, 0].double().numpy().T:
        h, s, v = hsv_from_rgb(*pixel)
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        assert 0 <= h <= 1
        away = abs(h - hue)
        assert min(away, 1 - away) <= FLOAT64  # hues just below 1 and just above 0 are neighbors
        assert (s, v) == pytest.approx((saturation, value), rel=0, abs=FLOAT64)
        assert rgb_from_hsv(h, s, v) == pytest.approx(colorsys.hsv_to_rgb(h, s, v), rel=0, abs=FLOAT64)
        assert rgb_from_hsv(h, s, v) == pytest.approx(tuple(pixel), rel=0, abs=FLOAT64)


@pytest.mark.parametrize("kind", PIXELS)
@pytest.mark.parametrize("factor", [0.0, 0.5, 0.8, 1.0, 1.2, 3.0, 100.0])
def test_saturation_scales_and_clips_s_of_hsv(factor: float, kind: str) -> None:
    x, amount = PIXELS[kind], torch.tensor([factor])
    expected = slow_saturation(x[0].double().numpy(), amount.item())
    # The reference is given the same float32 numbers, and chroma, their difference, is good to a spacing of
    # the value: so 100 times a chroma is wrong by a few spacings of what it becomes, which is 1 at most.
    np.testing.assert_allclose(adjust_saturation(x, amount)[0].numpy(), expected, rtol=0, atol=FLOAT32)


@pytest.mark.parametrize("kind", PIXELS)
@pytest.mark.parametrize("delta", [-0.5, -0.3, -0.1, -1e-3, 0.0, 1e-3, 0.1, 1 / 6, 0.25, 1 / 3, 0.5])
def test_hue_turns_h_of_hsv(delta: float, kind: str) -> None:
    x, amount = PIXELS[kind], torch.tensor([delta])
    expected = slow_hue(x[0].double().numpy(), amount.item())
    # The hue is kept in [0, 6]: two roundings to the spacing there, 5e-7, are wrong by half of it each.
    np.testing.assert_allclose(adjust_hue(x, amount)[0].numpy(), expected, rtol=0, atol=FLOAT32)


@pytest.mark.parametrize("kind", PIXELS)
def test_hue_by_0_and_saturation_by_1_change_nothing(kind: str) -> None:
    x = PIXELS[kind]
    torch.testing.assert_close(adjust_hue(x, torch.zeros(1)), x, rtol=0, atol=FLOAT32)
    torch.testing.assert_close(adjust_saturation(x, torch.ones(1)), x, rtol=0, atol=FLOAT32)


@pytest.mark.parametrize("chroma", [1e-6, 1e-5, 1e-4, 1e-3])
def test_near_gray_hue_is_as_good_as_float32_can_say_it(chroma: float) -> None:
    # A chroma of 1e-6 could be spread over the channels in any way and still agree to 1e-6. But differences
    # of neighboring float32 numbers are exact, so hue and chroma are as good here as elsewhere (1e-6 of the
    # chroma), and what is left is to round the result to the spacing of its value, 6e-8 at most. Whoever
    # reads the hue off the result again finds it wrong by that over the chroma, in sixths: 0.01 turns at
    # 1e-6. This lies in the numbers and not in the op.
    x, amount = PIXELS[f"chroma {chroma:g}"], torch.tensor([0.1])
    result = adjust_hue(x, amount)[0].double().numpy()
    expected = slow_hue(x[0].double().numpy(), amount.item())
    np.testing.assert_allclose(result, expected, rtol=0, atol=6e-8 + 1e-6 * chroma)


@pytest.mark.parametrize("delta", [-0.4, -0.1, 0.0, 0.1, 0.5])
def test_hue_and_saturation_of_a_known_color(delta: float) -> None:
    # One direction on its own: colors made from HSV, so that the reference reads no hue off any pixel.
    known = list(product(np.linspace(0, 1, 48, endpoint=False), (0.2, 0.5, 1.0), (0.1, 0.6, 1.0)))
    x = torch.tensor([rgb_from_hsv(h, s, v) for h, s, v in known], dtype=torch.float32).T.view(1, 3, 1, -1)
    turned = np.array([rgb_from_hsv(h + delta, s, v) for h, s, v in known]).T
    paled = np.array([rgb_from_hsv(h, s * (0.5 + abs(delta)), v) for h, s, v in known]).T
    # Rounding the colors to float32 costs 3e-8 per channel beside what the ops cost.
    result = adjust_hue(x, torch.tensor([delta]))[0, :, 0].numpy()
    np.testing.assert_allclose(result, turned, rtol=0, atol=FLOAT32)
    result = adjust_saturation(x, torch.tensor([0.5 + abs(delta)]))[0, :, 0].numpy()
    np.testing.assert_allclose(result, paled, rtol=0, atol=FLOAT32)


def test_hue_and_saturation_leave_gray_exactly_as_it_is() -> None:
    gray = torch.linspace(0, 1, 400).view(1, 1, 20, 20).expand(1, 3, 20, 20)
    assert torch.equal(adjust_hue(gray, torch.tensor([0.3])), gray)
    assert torch.equal(adjust_saturation(gray, torch.tensor([1.7])), gray)


def test_contrast_is_about_each_channels_own_mean() -> None:
    x = colors()
    factor = torch.tensor([0.6, 1.4])
    pairs = zip(x.double().numpy(), factor.double().tolist(), strict=True)
    expected = np.stack([slow_contrast(image, f) for image, f in pairs])
    result = adjust_contrast(x, factor)
    np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=FLOAT32)
    torch.testing.assert_close(result.mean(dim=(2, 3)), x.mean(dim=(2, 3)), rtol=0, atol=FLOAT32)


def test_brightness_is_added_to_each_image_on_its_own() -> None:
    x = colors()
    result = adjust_brightness(x, torch.tensor([0.25, -0.5]))
    assert torch.equal(result[0], x[0] + 0.25)
    assert torch.equal(result[1], x[1] - 0.5)


def test_grayscale_is_the_official_weighted_sum() -> None:
    x = colors()
    expected = np.stack([slow_grayscale(image) for image in x.double().numpy()])
    np.testing.assert_allclose(to_grayscale(x).numpy(), expected, rtol=0, atol=FLOAT32)


@pytest.mark.parametrize("size", [10, 20, 32, 40, 96, 224])
def test_blur_equals_a_direct_sum(size: int) -> None:
    x = random_crops(4, size)
    sigma = torch.tensor([0.1, 0.5, 1.0, 2.0])
    pairs = zip(x.double().numpy(), sigma.double().tolist(), strict=True)
    expected = np.stack([slow_blur(image, s) for image, s in pairs])
    np.testing.assert_allclose(gaussian_blur(x, sigma).numpy(), expected, rtol=0, atol=FLOAT32)


@pytest.mark.parametrize(("size", "taps"), [(19, 1), (32, 3), (64, 7), (96, 9), (128, 13), (224, 23)])
def test_blur_reaches_as_far_as_the_official_one(size: int, taps: int) -> None:
    point = torch.zeros(1, 1, size, size)
    point[0, 0, size // 2, size // 2] = 1
    spread = gaussian_blur(point, torch.tensor([50.0])) > 0
    assert spread.any(dim=2).sum() == taps
    assert spread.any(dim=3).sum() == taps


def test_blur_darkens_borders_because_padding_is_zero() -> None:
    white = torch.ones(1, 3, 40, 40)
    blurred = gaussian_blur(white, torch.tensor([2.0]))[0, 0]
    line = np.exp(-(np.array([2.0, 1, 0, 1, 2]) ** 2) / 8)
    kept = line[2:].sum() / line.sum()  # at the border, two taps of five fall outside
    assert blurred[20, 20].item() == pytest.approx(1, abs=FLOAT32)
    assert blurred[0, 20].item() == pytest.approx(kept, abs=FLOAT32)
    assert blurred[0, 0].item() == pytest.approx(kept**2, abs=FLOAT32)


def test_solarize_inverts_from_one_half_on() -> None:
    half = torch.tensor(0.5)
    below = torch.nextafter(half, torch.tensor(0.0))
    x = torch.stack((torch.tensor(0.0), below, half, torch.tensor(0.75), torch.tensor(1.0)))
    assert solarize(x).tolist() == [0.0, below.item(), 0.5, 0.25, 0.0]


@pytest.mark.parametrize("kind", PIXELS)
def test_solarize_by_cases_is_the_same_bit_for_bit(kind: str) -> None:
    x = PIXELS[kind]
    assert torch.equal(solarize(x), torch.where(x < 0.5, x, 1 - x))


def test_flip_swaps_left_and_right() -> None:
    x = random_crops(2, 4)
    assert torch.equal(flip(x)[..., 0], x[..., 3])
    assert torch.equal(flip(flip(x)), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ops_keep_the_type_and_leave_their_input_alone(dtype: torch.dtype) -> None:
    x, amount = random_crops(3, 40).to(dtype), torch.tensor([0.2, 0.5, 0.9], dtype=dtype)
    before = x.clone()
    with_amount = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue, gaussian_blur)
    results = [op(x, amount) for op in with_amount] + [op(x) for op in (flip, to_grayscale, solarize)]
    assert torch.equal(x, before)
    assert {result.dtype for result in results} == {dtype}
    for result in results:
        result.zero_()  # would show if a result shared the input's memory
    assert torch.equal(x, before)


# ---------------------------------------------------------------- the whole pipeline


BUSY = View(flip=0.5, jitter=0.9, grayscale=0.3, blur=0.6, solarize=0.5, saturation=0.9, hue=0.5)


@pytest.mark.parametrize("view", [T, T_PRIME, BUSY], ids=["T", "T'", "busy"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_view_equals_the_slow_reference(view: View, dtype: torch.dtype) -> None:
    crops, u = random_crops(24, 20, seed=1).to(dtype), draws(24)
    pairs = zip(u, crops.double().numpy(), strict=True)
    expected = np.stack([slow_distort(view, row, crop) for row, crop in pairs])
    # Amounts are float32 in both types: 6e-8, carried through a few ops. In float32 also up to seven ops in a
    # row, each up to 1e-6 by the tests above.
    atol = 5e-6 if dtype == torch.float32 else 5e-7
    np.testing.assert_allclose(distort_crops(view, u, crops).numpy(), expected, rtol=0, atol=atol)


def test_a_view_stays_in_the_unit_range() -> None:
    x = distort_crops(replace(T, brightness=5), draws(64), random_crops(64, 32))
    assert x.min() >= 0
    assert x.max() <= 1


def test_an_image_does_not_depend_on_the_batch_or_its_place_in_it() -> None:
    two = TwoViews(size=32)
    index = np.arange(100, 140)
    crops = random_crops(40, 32), random_crops(40, 32, seed=1)
    whole = two.distort(crops, 7, 3, index)
    order = np.random.default_rng(0).permutation(40)
    shuffled = two.distort((crops[0][order], crops[1][order]), 7, 3, index[order])
    some = two.distort((crops[0][5:8], crops[1][5:8]), 7, 3, index[5:8])
    for view in range(2):  # bit for bit
        assert torch.equal(shuffled[view], whole[view][order])
        assert torch.equal(some[view], whole[view][5:8])
    for i in range(40):
        alone = two.distort((crops[0][i : i + 1], crops[1][i : i + 1]), 7, 3, index[i : i + 1])
        assert torch.equal(alone[0][0], whole[0][i])
        assert torch.equal(alone[1][0], whole[1][i])


@pytest.mark.parametrize("size", [96, 224])
def test_a_blur_of_many_taps_does_not_depend_on_the_batch_either(size: int) -> None:
    two, index = TwoViews(size=size), np.arange(8)
    crops = random_crops(8, size), random_crops(8, size, seed=1)
    whole = two.distort(crops, 3, 5, index)
    for i in range(8):
        alone = two.distort((crops[0][i : i + 1], crops[1][i : i + 1]), 3, 5, index[i : i + 1])
        assert torch.equal(alone[0][0], whole[0][i])  # bit for bit
        assert torch.equal(alone[1][0], whole[1][i])


def test_crops_of_whole_levels_are_taken_as_they_come() -> None:
    two, index = TwoViews(size=32), np.arange(9)
    crops = [torch.randint(0, 256, (9, 3, 32, 32), dtype=torch.uint8) for _ in range(2)]
    expected = two.distort([crop.float().div(255) for crop in crops], 1, 2, index)
    for view, alike in zip(two.distort(crops, 1, 2, index), expected, strict=True):
        assert torch.equal(view, alike)


def test_a_small_blur_beside_a_large_one_is_the_same() -> None:
    x, sigma = random_crops(7, 224), torch.tensor([0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0])
    together = gaussian_blur(x, sigma)
    for i in range(7):  # alone, it spares the taps that are 0
        assert torch.equal(gaussian_blur(x[i : i + 1], sigma[i : i + 1])[0], together[i])


@pytest.mark.parametrize(("large", "part"), [(1, 0), (2**40, 3), (2**40, 16)])
def test_a_batch_is_the_same_in_parts_of_any_length(
    large: int, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, u = 32, draws(50)
    crops = random_crops(50, size)
    monkeypatch.setattr(views, "_LARGE_IMAGE_BYTES", 2**40)
    monkeypatch.setattr(views, "_PART_BYTES", 2**40)
    whole = distort_crops(BUSY, u, crops)
    monkeypatch.setattr(views, "_LARGE_IMAGE_BYTES", large)  # 1: every image alone
    monkeypatch.setattr(
        views, "_PART_BYTES", part * 3 * size * size * 4
    )  # 50 is no multiple of these lengths
    assert torch.equal(distort_crops(BUSY, u, crops), whole)


def test_views_of_no_images_are_none() -> None:
    views = TwoViews(size=32).distort([random_crops(0, 32)] * 2, 0, 0, np.arange(0))
    assert [view.shape for view in views] == [(0, 3, 32, 32)] * 2


def test_views_are_channels_last_as_the_networks_want_them() -> None:
    for view in TwoViews(size=32).distort([random_crops(4, 32)] * 2, 0, 0, np.arange(4)):
        assert view.is_contiguous(memory_format=torch.channels_last)


def test_distort_is_a_pure_function_of_seed_step_and_index() -> None:
    two, index = TwoViews(size=32), np.arange(8)
    crops = random_crops(8, 32), random_crops(8, 32)
    before = crops[0].clone(), crops[1].clone()
    torch.manual_seed(0)
    once = two.distort(crops, 1, 2, index)
    torch.manual_seed(1)
    again = two.distort(crops, 1, 2, index)
    for view in range(2):
        assert torch.equal(once[view], again[view])
        assert torch.equal(crops[view], before[view])
    for seed, step, shift in ((2, 2, 0), (1, 3, 0), (1, 2, 1)):
        other = two.distort(crops, seed, step, index + shift)
        assert not torch.equal(once[0], other[0])
        assert not torch.equal(once[1], other[1])


def test_a_view_that_draws_nothing_returns_a_copy() -> None:
    crops = random_crops(4, 32)
    result = distort_crops(PLAIN, draws(4), crops)
    assert torch.equal(result, crops)
    assert result.data_ptr() != crops.data_ptr()


def test_the_second_view_is_drawn_by_its_own_table_and_its_own_numbers() -> None:
    index = np.arange(64)
    crops = random_crops(64, 32)
    two = TwoViews(size=32, first=T, second=T, mean=(0, 0, 0), std=(1, 1, 1))
    same_table = two.distort((crops, crops), 0, 0, index)
    assert not torch.equal(same_table[0], same_table[1])
    swapped = replace(two, first=T_PRIME, second=PLAIN).distort((crops, crops), 0, 0, index)
    assert torch.equal(swapped[0], distort_crops(T_PRIME, uniforms(0, 0, index, 0, len(Draw)), crops))
    assert torch.equal(swapped[1], crops)


MULTI = MultiCrop(size=32, first=T, second=T_PRIME, small_size=20, num_small=3)


def test_multi_crop_adds_small_views_to_the_two() -> None:
    assert TwoViews(size=32).sizes == (32, 32)
    assert MULTI.sizes == (32, 32, 20, 20, 20)
    assert MULTI.drawn[:2] == TwoViews(size=32).drawn
    assert MultiCrop().sizes == (224, 224, 96, 96, 96, 96)
    assert MultiCrop().small.area == (0.05, 0.25)


def test_the_large_views_of_multi_crop_are_those_of_two_views() -> None:
    two, index, side = TwoViews(size=32), np.arange(100, 140), np.full(40, 90)
    crops = [random_crops(40, size, seed) for seed, size in enumerate(MULTI.sizes)]
    boxes, views = MULTI.boxes(7, 3, index, side, side), MULTI.distort(crops, 7, 3, index)
    assert len(boxes) == len(views) == 5
    for box, same in zip(boxes[:2], two.boxes(7, 3, index, side, side), strict=True):
        assert np.array_equal(box, same)
    for view, alike in zip(views[:2], two.distort(crops[:2], 7, 3, index), strict=True):
        assert torch.equal(view, alike)  # bit for bit


def test_each_small_view_is_drawn_by_the_same_table_and_its_own_numbers() -> None:
    index, side = np.arange(64), np.full(64, 300)
    boxes = MULTI.boxes(1, 2, index, side, side)
    crops = random_crops(64, 20)
    views = MULTI.distort([random_crops(64, 32)] * 2 + [crops] * 3, 1, 2, index)
    for number in (2, 3, 4):
        u = uniforms(1, 2, index, number, len(Draw))
        assert np.array_equal(boxes[number], draw_boxes(MULTI.small, u, side, side))
        assert torch.equal(views[number], MULTI.normalize(distort_crops(MULTI.small, u, crops)))
        assert all((boxes[number] != boxes[other]).any() for other in range(number))


def test_crops_of_too_few_views_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        MULTI.distort([random_crops(2, 32)] * 2, 0, 0, np.arange(2))


def test_normalize_comes_last_and_takes_each_channel_on_its_own() -> None:
    two = TwoViews(size=32, first=PLAIN, second=PLAIN)
    crops = random_crops(2, 32).double()
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (crops.numpy() - mean[:, None, None]) / std[:, None, None]
    result = two.distort((crops, crops), 0, 0, np.arange(2))[1]
    np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=1e-12)  # float64, numbers below 3


# ---------------------------------------------------------------- probabilities and ranges, N draws


def changed(view: View, crops: Tensor) -> int:
    return int((distort_crops(view, draws(), crops) != crops).flatten(1).any(dim=1).sum())


@pytest.mark.parametrize(
    ("view", "probability"),
    [
        (replace(PLAIN, flip=0.5), 0.5),
        (replace(ONLY_JITTER, jitter=0.8, brightness=0.4), 0.8),
        (replace(PLAIN, grayscale=0.2), 0.2),
        (replace(PLAIN, blur=0.1, blur_sigma=(1.0, 2.0)), 0.1),
        (replace(PLAIN, solarize=0.2), 0.2),
        (replace(PLAIN, blur=1, blur_sigma=(1.0, 2.0)), 1),
        (replace(PLAIN, flip=1), 1),
        (PLAIN, 0),
    ],
)
def test_each_distortion_happens_as_often_as_its_probability(view: View, probability: float) -> None:
    size = 20 if view.blur else 2  # blur has no reach below 20 pixels
    crops = random_crops(1, size).expand(N, -1, -1, -1)
    assert_is_share(changed(view, crops), probability)


def test_whether_a_distortion_happens_is_independent_of_the_others() -> None:
    u = draws()
    chances = [Draw.FLIP, Draw.JITTER, Draw.GRAYSCALE, Draw.BLUR, Draw.SOLARIZE]
    both = np.corrcoef(u[:, chances].T) - np.eye(len(chances))
    assert np.abs(both).max() < 5 / math.sqrt(N)  # the standard error of a correlation of independent numbers


def test_brightness_is_uniform_within_its_range() -> None:
    gray = torch.full((1, 3, 1, 1), 0.5).expand(N, -1, -1, -1)
    delta = distort_crops(replace(ONLY_JITTER, brightness=0.4), draws(), gray)[:, 0, 0, 0] - 0.5
    assert_uniform(delta.double().numpy(), -0.4, 0.4)


def test_contrast_is_uniform_within_its_range() -> None:
    pair = torch.tensor([0.4, 0.6]).expand(N, 3, 1, 2)
    x = distort_crops(replace(ONLY_JITTER, contrast=0.4), draws(), pair)[:, 0, 0]
    assert_uniform(((x[:, 1] - x[:, 0]) / 0.2).double().numpy(), 0.6, 1.4)


def test_saturation_is_uniform_within_its_range() -> None:
    color = torch.tensor([0.8, 0.6, 0.4]).view(1, 3, 1, 1).expand(N, -1, -1, -1)  # s = 0.5
    x = distort_crops(replace(ONLY_JITTER, saturation=0.2), draws(), color)[:, :, 0, 0].double().numpy()
    assert_uniform((1 - x.min(axis=1) / x.max(axis=1)) / 0.5, 0.8, 1.2)


def test_hue_is_uniform_within_its_range() -> None:
    green = torch.tensor([0.2, 0.8, 0.2]).view(1, 3, 1, 1).expand(N, -1, -1, -1)  # h = 1/3
    x = distort_crops(replace(ONLY_JITTER, hue=0.1), draws(), green)[:, :, 0, 0].double().numpy()
    assert_uniform(np.array([colorsys.rgb_to_hsv(*pixel)[0] for pixel in x]) - 1 / 3, -0.1, 0.1)


def test_sigma_is_uniform_within_its_range() -> None:
    point = torch.zeros(1, 3, 20, 20)
    point[..., 10, 10] = 1
    sigmas = []
    for part in np.split(draws(), 8):
        x = distort_crops(replace(PLAIN, blur=1), part, point.expand(len(part), -1, -1, -1)).double()
        ratio = x[:, 0, 10, 11] / x[:, 0, 10, 10]  # exp(-1 / (2 sigma^2))
        sigmas.append(torch.sqrt(-0.5 / torch.log(ratio)).numpy())
    assert_uniform(np.concatenate(sigmas), 0.1, 2.0)


def test_the_24_orders_of_jitter_are_equally_likely_and_independent_of_its_amounts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def push(digit: int) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda x, _: x / 4 + digit / 4  # four pushes write the order down in base 4

    for digit, name in enumerate(("brightness", "contrast", "saturation", "hue")):
        monkeypatch.setattr(views, f"adjust_{name}", push(digit))
    written = distort_crops(replace(PLAIN, jitter=1), draws(), torch.zeros(N, 3, 1, 1))[:, 0, 0, 0]
    orders, counts = np.unique((written * 256).long().numpy(), return_counts=True)
    digits = [[order // 4**place % 4 for place in range(4)] for order in orders.tolist()]
    assert sorted(map(sorted, digits)) == [[0, 1, 2, 3]] * 24  # 24 different numbers, each a permutation
    assert_equally_likely(counts)
    for column in (Draw.JITTER, Draw.BRIGHTNESS, Draw.CONTRAST, Draw.SATURATION, Draw.HUE):
        correlation = np.corrcoef(written.numpy(), draws()[:, column])[0, 1]
        assert abs(correlation) < 5 / math.sqrt(N)


# ---------------------------------------------------------------- boxes


def many_boxes(view: View, height: int, width: int) -> tuple[NDArray[np.int64], ...]:
    heights, widths = np.full(N, height), np.full(N, width)
    return tuple(draw_boxes(view, draws(), heights, widths).T)


@settings(max_examples=100, deadline=None)
@given(height=st.integers(1, 700), width=st.integers(1, 700), seed=st.integers(0, 2**32))
def test_every_box_lies_inside_its_image(height: int, width: int, seed: int) -> None:
    heights, widths = np.full(50, height), np.full(50, width)
    for boxes in TwoViews().boxes(seed, 0, np.arange(50), heights, widths):
        top, left, box_height, box_width = boxes.T
        assert boxes.dtype == np.int64
        assert boxes[:, :2].min() >= 0
        assert boxes[:, 2:].min() >= 1
        assert (top + box_height).max() <= height
        assert (left + box_width).max() <= width


# Shapes of an image and areas up to which no side can be clamped: area / its limit * 4/3 <= 1.
ROOMY = [((2000, 2000), 0.75), ((1500, 2500), 0.45), ((2500, 1500), 0.45)]


@pytest.mark.parametrize(("shape", "most"), ROOMY)
def test_the_share_of_the_area_is_uniform(shape: tuple[int, int], most: float) -> None:
    _, _, height, width = many_boxes(View(area=(0.08, most)), *shape)
    assert_uniform(height * width / math.prod(shape), 0.08, most, bins=20)  # rounding to pixels is 0.1 %


@pytest.mark.parametrize(("shape", "most"), ROOMY)
def test_the_aspect_ratio_is_uniform_in_its_logarithm(shape: tuple[int, int], most: float) -> None:
    _, _, height, width = many_boxes(View(area=(0.08, most)), *shape)
    assert_uniform(np.log(width / height), math.log(3 / 4), math.log(4 / 3), bins=20)


def test_the_papers_own_area_is_uniform_as_far_as_boxes_fit() -> None:
    # What is drawn below 3/4 of a square fits whatever its aspect ratio; what is clamped keeps at least that.
    _, _, height, width = many_boxes(T, 2000, 2000)
    area = height * width / 2000**2
    fits = area < 0.75
    assert_is_share(int(fits.sum()), (0.75 - 0.08) / (1 - 0.08))
    assert_uniform(area[fits], 0.08, 0.75, bins=20)
    assert_uniform(np.log(width / height)[fits], math.log(3 / 4), math.log(4 / 3), bins=20)


@pytest.mark.parametrize(("shape", "most"), ROOMY)
def test_the_place_is_uniform_wherever_the_box_fits(shape: tuple[int, int], most: float) -> None:
    top, left, height, width = many_boxes(View(area=(0.08, most)), *shape)
    # Some hundred places and more are possible along each side, of which the middle of one stands for it.
    assert_uniform((top + 0.5) / (shape[0] - height + 1), 0, 1, bins=20)
    assert_uniform((left + 0.5) / (shape[1] - width + 1), 0, 1, bins=20)


def test_area_and_aspect_ratio_and_place_are_independent() -> None:
    top, left, height, width = many_boxes(View(area=(0.08, 0.5)), 2000, 2000)
    columns = (height * width, np.log(width / height), top / (2000 - height), left / (2000 - width))
    correlations = np.corrcoef(columns) - np.eye(4)
    assert np.abs(correlations).max() < 5 / math.sqrt(N)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (8, 12)])
def test_every_place_is_equally_likely(height: int, width: int) -> None:
    share = 16 / (height * width)
    top, left, box_height, box_width = many_boxes(View(area=(share, share), aspect=(1, 1)), height, width)
    assert set(box_height) == set(box_width) == {4}
    places = np.zeros((height - 3, width - 3), dtype=np.int64)
    np.add.at(places, (top, left), 1)
    assert_equally_likely(places)


def test_a_box_too_large_is_clamped_and_not_drawn_again() -> None:
    top, left, height, width = many_boxes(View(area=(1, 1)), 100, 100)
    aspect = np.exp(math.log(3 / 4) + math.log(16 / 9) * draws()[:, Draw.ASPECT].astype(np.float64))
    wide = aspect >= 1
    assert (width[wide] == 100).all()
    assert (height[~wide] == 100).all()
    assert np.array_equal(height[wide], np.rint(100 / np.sqrt(aspect[wide])).clip(max=100))
    assert np.array_equal(width[~wide], np.rint(100 * np.sqrt(aspect[~wide])).clip(max=100))
    assert (top[~wide] == 0).all()
    assert (left[wide] == 0).all()


def test_boxes_follow_each_images_own_size() -> None:
    heights, widths = np.array([10, 500, 300]), np.array([700, 20, 300])
    index = np.array([4, 5, 6])
    together = TwoViews().boxes(0, 0, index, heights, widths)
    for i in range(3):
        alone = TwoViews().boxes(0, 0, index[i : i + 1], heights[i : i + 1], widths[i : i + 1])
        assert np.array_equal(alone[0][0], together[0][i])
        assert np.array_equal(alone[1][0], together[1][i])


def test_the_two_views_are_cut_out_independently() -> None:
    size = np.full(N, 2000)
    first, second = TwoViews(first=T, second=T).boxes(0, 0, np.arange(N), size, size)
    for column in range(4):
        assert abs(np.corrcoef(first[:, column], second[:, column])[0, 1]) < 5 / math.sqrt(N)


def test_boxes_and_distortions_share_no_draw() -> None:
    assert sorted(Draw) == list(range(15))
    crops = random_crops(32, 32)
    moved = draws(32).copy()
    moved[:, [Draw.AREA, Draw.ASPECT, Draw.TOP, Draw.LEFT]] = 0.5
    assert torch.equal(distort_crops(BUSY, moved, crops), distort_crops(BUSY, draws(32), crops))


# ---------------------------------------------------------------- the tables


def test_the_first_table_is_the_published_one() -> None:
    assert asdict(T) == {
        "area": (0.08, 1.0),
        "aspect": (3 / 4, 4 / 3),
        "flip": 0.5,
        "jitter": 0.8,
        "brightness": 0.4,
        "contrast": 0.4,
        "saturation": 0.2,
        "hue": 0.1,
        "grayscale": 0.2,
        "blur": 1.0,
        "blur_sigma": (0.1, 2.0),
        "solarize": 0.0,
    }


def test_the_two_tables_differ_in_blur_and_solarize_alone() -> None:
    assert (T.blur, T.solarize) == (1.0, 0.0)
    assert (T_PRIME.blur, T_PRIME.solarize) == (0.1, 0.2)
    assert replace(T_PRIME, blur=T.blur, solarize=T.solarize) == T


SLOT: TypeAdapter[TwoViews | MultiCrop] = TypeAdapter(
    Annotated[TwoViews | MultiCrop, Field(discriminator="kind")]
)


@pytest.mark.parametrize(
    "spec",
    [
        TwoViews(size=32, first=View(area=(0.2, 0.9)), mean=(0.1, 0.2, 0.3)),
        MultiCrop(size=64, small=View(blur=0.3), small_size=17, num_small=7, std=(0.1, 0.2, 0.3)),
    ],
    ids=["two", "multicrop"],
)
def test_views_survive_json(spec: TwoViews | MultiCrop) -> None:
    again = SLOT.validate_json(SLOT.dump_json(spec), strict=True, extra="forbid")
    assert again == spec
    assert type(again) is type(spec)


def test_json_of_another_kind_is_refused() -> None:
    with pytest.raises(ValidationError, match="small_size"):
        SLOT.validate_json('{"kind": "two", "small_size": 96}', extra="forbid")
    with pytest.raises(ValidationError, match="kind"):
        SLOT.validate_json('{"kind": "three"}')


@pytest.mark.parametrize(
    "wrong",
    [
        {"flip": 1.1},
        {"jitter": -0.1},
        {"blur": math.nan},
        {"solarize": 2},
        {"grayscale": -1},
        {"hue": 0.6},
        {"contrast": 1.5},
        {"saturation": 1.1},
        {"brightness": -0.4},
        {"area": (0.0, 1.0)},
        {"area": (0.5, 1.1)},
        {"area": (0.9, 0.1)},
        {"aspect": (0.0, 1.0)},
        {"aspect": (2.0, 1.0)},
        {"blur_sigma": (0.0, 1.0)},
        {"blur_sigma": (2.0, 1.0)},
    ],
)
def test_a_value_out_of_range_is_refused_by_name(wrong: dict[str, object]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=f"^{name} is .*choose"):
        View(**wrong)  # type: ignore[arg-type]


def test_a_size_or_a_std_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="size is 0"):
        TwoViews(size=0)
    with pytest.raises(ValueError, match="std is"):
        TwoViews(std=(0.2, 0.0, 0.2))


@pytest.mark.parametrize("name", ["size", "small_size", "num_small"])
def test_multi_crop_refuses_a_size_or_a_number_of_zero(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} is 0"):
        MultiCrop(**{name: 0})  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_nothing_waits_and_the_result_is_the_same() -> None:
    two, index = TwoViews(size=64), np.arange(32)
    crops = random_crops(32, 64), random_crops(32, 64, seed=1)
    on_gpu = crops[0].cuda(), crops[1].cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        results = two.distort(on_gpu, 0, 0, index)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for result, expected in zip(results, two.distort(crops, 0, 0, index), strict=True):
        # No op jumps anywhere, so roundings stay what they are: up to 5e-6 (above), divided by a std of 0.22.
        torch.testing.assert_close(result.cpu(), expected, rtol=0, atol=5e-5)

import colorsys
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch import Tensor

from byol.data import views
from byol.data.draws import uniforms
from byol.data.views import (
    T_PRIME,
    Draw,
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

Image = NDArray[np.float64]  # (3, H, W)


# ---------------------------------------------------------------- slow references, one image, float64


def each_pixel(image: Image, change: Callable[[float, float, float], tuple[float, float, float]]) -> Image:
    result = np.empty_like(image)
    for y, x in np.ndindex(image.shape[1:]):
        result[:, y, x] = change(*image[:, y, x])
    return result


def slow_saturation(image: Image, factor: float) -> Image:
    def change(r: float, g: float, b: float) -> tuple[float, float, float]:
        h, s, v = colorsys.rgb_to_hsv(r, g, b)
        return colorsys.hsv_to_rgb(h, min(max(s * factor, 0), 1), v)

    return each_pixel(image, change)


def slow_hue(image: Image, delta: float) -> Image:
    def change(r: float, g: float, b: float) -> tuple[float, float, float]:
        h, s, v = colorsys.rgb_to_hsv(r, g, b)
        return colorsys.hsv_to_rgb((h + delta) % 1.0, s, v)

    return each_pixel(image, change)


def slow_contrast(image: Image, factor: float) -> Image:
    return np.stack([factor * (channel - channel.mean()) + channel.mean() for channel in image])


def slow_grayscale(image: Image) -> Image:
    gray = 0.2989 * image[0] + 0.5870 * image[1] + 0.1140 * image[2]
    return np.stack([gray] * 3)


def slow_blur(image: Image, sigma: float) -> Image:
    """Direct two-dimensional sum over a window, nothing outside the image."""
    _, height, width = image.shape
    radius = int(height / 10 / 2)
    line = np.exp(-(np.arange(-radius, radius + 1.0) ** 2) / (2 * sigma**2))
    kernel = np.outer(line, line) / line.sum() ** 2
    result = np.zeros_like(image)
    window = range(-radius, radius + 1)
    for y, x, dy, dx in product(range(height), range(width), window, window):
        if 0 <= y + dy < height and 0 <= x + dx < width:
            result[:, y, x] += kernel[dy + radius, dx + radius] * image[:, y + dy, x + dx]
    return result


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


def colors() -> Tensor:
    """(2, 3, 16, 16): a lattice of the color cube, grays, near-grays; then random colors."""
    rng = np.random.default_rng(0)
    cube = list(product((0.0, 0.25, 0.5, 0.75, 1.0), repeat=3))  # 125, with black, white, grays, saturated
    grays = [(g, g, g) for g in np.linspace(0, 1, 61)]
    near = [tuple(np.clip(g + rng.uniform(-1e-4, 1e-4, 3), 0, 1)) for g in np.linspace(0, 1, 70)]
    special = np.array(cube + grays + near).T.reshape(3, 16, 16)
    return torch.from_numpy(np.stack((special, rng.random((3, 16, 16))))).float()


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


@pytest.mark.parametrize("factor", [0.0, 0.5, 0.8, 1.0, 1.2, 3.0, 100.0])
def test_saturation_scales_and_clips_s_of_hsv(factor: float) -> None:
    x = colors()
    result = adjust_saturation(x, torch.full((2,), factor))
    # The reference is given the same float32 numbers; 100 times a chroma of 1e-4 costs no more than the rest.
    expected = np.stack([slow_saturation(image, factor) for image in x.double().numpy()])
    np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=FLOAT32)


@pytest.mark.parametrize("delta", [-0.5, -0.3, -0.1, -1e-3, 0.0, 1e-3, 0.1, 1 / 6, 0.25, 0.5])
def test_hue_turns_h_of_hsv(delta: float) -> None:
    x = colors()
    amount = torch.full((2,), delta)
    expected = np.stack([slow_hue(image, amount[0].item()) for image in x.double().numpy()])
    np.testing.assert_allclose(adjust_hue(x, amount).numpy(), expected, rtol=0, atol=FLOAT32)


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


@pytest.mark.parametrize("size", [10, 20, 32, 40])
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


def test_the_share_of_the_area_is_uniform() -> None:
    # Up to a half, where no side can be clamped: sqrt(1/2 * 4/3) < 1. Rounding to pixels is 0.1 %.
    _, _, height, width = many_boxes(View(area=(0.08, 0.5)), 2000, 2000)
    assert_uniform(height * width / 2000**2, 0.08, 0.5, bins=20)


def test_the_aspect_ratio_is_uniform_in_its_logarithm() -> None:
    _, _, height, width = many_boxes(View(area=(0.08, 0.5)), 2000, 2000)
    assert_uniform(np.log(width / height), math.log(3 / 4), math.log(4 / 3), bins=20)


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


def test_the_two_tables_differ_in_blur_and_solarize_alone() -> None:
    assert (T.blur, T.solarize) == (1.0, 0.0)
    assert (T_PRIME.blur, T_PRIME.solarize) == (0.1, 0.2)
    assert replace(T_PRIME, blur=T.blur, solarize=T.solarize) == T


def test_views_survive_json() -> None:
    two = TwoViews(size=32, first=View(area=(0.2, 0.9)), mean=(0.1, 0.2, 0.3))
    adapter = TypeAdapter(TwoViews)
    assert adapter.validate_json(adapter.dump_json(two)) == two


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

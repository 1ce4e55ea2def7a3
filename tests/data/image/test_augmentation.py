import colorsys
import math
from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.data.image.slow import (
    BUSY,
    ONLY_JITTER,
    PLAIN,
    N,
    assert_equally_likely,
    assert_is_share,
    assert_uniform,
    draws,
    random_crops,
    slow_distort,
)
from torch import Tensor

from byol.data.image import augmentation, distort
from byol.data.image.augmentation import T_PRIME, Draw, T, View, distort_crops, draw_boxes


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


@pytest.mark.parametrize(("large", "part"), [(1, 0), (2**40, 3), (2**40, 16)])
def test_a_batch_is_the_same_in_parts_of_any_length(
    large: int, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, u = 32, draws(50)
    crops = random_crops(50, size)
    monkeypatch.setattr(distort, "_LARGE_IMAGE_BYTES", 2**40)
    monkeypatch.setattr(distort, "_PART_BYTES", 2**40)
    whole = distort_crops(BUSY, u, crops)
    monkeypatch.setattr(distort, "_LARGE_IMAGE_BYTES", large)  # 1: every image alone
    monkeypatch.setattr(
        distort, "_PART_BYTES", part * 3 * size * size * 4
    )  # 50 is no multiple of these lengths
    assert torch.equal(distort_crops(BUSY, u, crops), whole)


def test_a_view_that_draws_nothing_returns_a_copy() -> None:
    crops = random_crops(4, 32)
    result = distort_crops(PLAIN, draws(4), crops)
    assert torch.equal(result, crops)
    assert result.data_ptr() != crops.data_ptr()


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
        monkeypatch.setattr(augmentation, f"adjust_{name}", push(digit))
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


def test_boxes_and_distortions_share_no_draw() -> None:
    assert sorted(Draw) == list(range(15))
    crops = random_crops(32, 32)
    moved = draws(32).copy()
    moved[:, [Draw.AREA, Draw.ASPECT, Draw.TOP, Draw.LEFT]] = 0.5
    assert torch.equal(distort_crops(BUSY, moved, crops), distort_crops(BUSY, draws(32), crops))


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

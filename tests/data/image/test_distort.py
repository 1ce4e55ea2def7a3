import colorsys
from itertools import product

import numpy as np
import pytest
import torch
from tests.data.image.slow import (
    FLOAT32,
    FLOAT64,
    PIXELS,
    colors,
    hsv_from_rgb,
    random_crops,
    rgb_from_hsv,
    slow_blur,
    slow_contrast,
    slow_grayscale,
    slow_hue,
    slow_saturation,
)

from byol.data.image.distort import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    flip,
    gaussian_blur,
    solarize,
    to_grayscale,
)


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


def test_a_small_blur_beside_a_large_one_is_the_same() -> None:
    x, sigma = random_crops(7, 224), torch.tensor([0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0])
    together = gaussian_blur(x, sigma)
    for i in range(7):  # alone, it spares the taps that are 0
        assert torch.equal(gaussian_blur(x[i : i + 1], sigma[i : i + 1])[0], together[i])

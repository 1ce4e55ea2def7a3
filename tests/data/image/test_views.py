import math
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, ValidationError
from tests.data.image.slow import PLAIN, N, random_crops
from torch import Tensor

from byol.data.draws import uniforms
from byol.data.image.augmentation import T_PRIME, Draw, T, View, distort_crops, draw_boxes
from byol.data.image.preprocessing import Preprocessing
from byol.data.image.views import MultiCrop, OneView, TwoViews
from byol.data.images import InMemory
from byol.data.loader import batches
from byol.errors import UserError

MULTI = MultiCrop(size=32, first=T, second=T_PRIME, small_size=20, num_small=3)


def test_an_image_does_not_depend_on_the_batch_or_its_place_in_it() -> None:
    two = TwoViews(size=32)
    index = np.arange(100, 140)
    crops = random_crops(40, 32), random_crops(40, 32, seed=1)
    whole = two.finish(crops, 7, 3, index)
    order = np.random.default_rng(0).permutation(40)
    shuffled = two.finish((crops[0][order], crops[1][order]), 7, 3, index[order])
    some = two.finish((crops[0][5:8], crops[1][5:8]), 7, 3, index[5:8])
    for view in range(2):  # bit for bit
        assert torch.equal(shuffled[view], whole[view][order])
        assert torch.equal(some[view], whole[view][5:8])
    for i in range(40):
        alone = two.finish((crops[0][i : i + 1], crops[1][i : i + 1]), 7, 3, index[i : i + 1])
        assert torch.equal(alone[0][0], whole[0][i])
        assert torch.equal(alone[1][0], whole[1][i])


@pytest.mark.parametrize("size", [96, 224])
def test_a_blur_of_many_taps_does_not_depend_on_the_batch_either(size: int) -> None:
    two, index = TwoViews(size=size), np.arange(8)
    crops = random_crops(8, size), random_crops(8, size, seed=1)
    whole = two.finish(crops, 3, 5, index)
    for i in range(8):
        alone = two.finish((crops[0][i : i + 1], crops[1][i : i + 1]), 3, 5, index[i : i + 1])
        assert torch.equal(alone[0][0], whole[0][i])  # bit for bit
        assert torch.equal(alone[1][0], whole[1][i])


def test_crops_of_whole_levels_are_taken_as_they_come() -> None:
    two, index = TwoViews(size=32), np.arange(9)
    crops = [torch.randint(0, 256, (9, 3, 32, 32), dtype=torch.uint8) for _ in range(2)]
    expected = two.finish([crop.float().div(255) for crop in crops], 1, 2, index)
    for view, alike in zip(two.finish(crops, 1, 2, index), expected, strict=True):
        assert torch.equal(view, alike)


def test_views_of_no_images_are_none() -> None:
    views = TwoViews(size=32).finish([random_crops(0, 32)] * 2, 0, 0, np.arange(0))
    assert [view.shape for view in views] == [(0, 3, 32, 32)] * 2


def test_views_are_channels_last_as_the_networks_want_them() -> None:
    for view in TwoViews(size=32).finish([random_crops(4, 32)] * 2, 0, 0, np.arange(4)):
        assert view.is_contiguous(memory_format=torch.channels_last)


def test_finishing_is_a_pure_function_of_seed_step_and_index() -> None:
    two, index = TwoViews(size=32), np.arange(8)
    crops = random_crops(8, 32), random_crops(8, 32)
    before = crops[0].clone(), crops[1].clone()
    torch.manual_seed(0)
    once = two.finish(crops, 1, 2, index)
    torch.manual_seed(1)
    again = two.finish(crops, 1, 2, index)
    for view in range(2):
        assert torch.equal(once[view], again[view])
        assert torch.equal(crops[view], before[view])
    for seed, step, shift in ((2, 2, 0), (1, 3, 0), (1, 2, 1)):
        other = two.finish(crops, seed, step, index + shift)
        assert not torch.equal(once[0], other[0])
        assert not torch.equal(once[1], other[1])


def test_the_second_view_is_drawn_by_its_own_table_and_its_own_numbers() -> None:
    index = np.arange(64)
    crops = random_crops(64, 32)
    two = TwoViews(size=32, first=T, second=T, mean=(0, 0, 0), std=(1, 1, 1))
    same_table = two.finish((crops, crops), 0, 0, index)
    assert not torch.equal(same_table[0], same_table[1])
    swapped = replace(two, first=T_PRIME, second=PLAIN).finish((crops, crops), 0, 0, index)
    assert torch.equal(swapped[0], distort_crops(T_PRIME, uniforms(0, 0, index, 0, len(Draw)), crops))
    assert torch.equal(swapped[1], crops)


def test_multi_crop_adds_small_views_to_the_two() -> None:
    assert TwoViews(size=32).sizes == (32, 32)
    assert MULTI.sizes == (32, 32, 20, 20, 20)
    assert MULTI.drawn[:2] == TwoViews(size=32).drawn
    assert MultiCrop().sizes == (224, 224, 96, 96, 96, 96)
    assert MultiCrop().small.area == (0.05, 0.25)


def test_the_large_views_of_multi_crop_are_those_of_two_views() -> None:
    two, index, side = TwoViews(size=32), np.arange(100, 140), np.full(40, 90)
    crops = [random_crops(40, size, seed) for seed, size in enumerate(MULTI.sizes)]
    boxes, views = MULTI.boxes(7, 3, index, side, side), MULTI.finish(crops, 7, 3, index)
    assert len(boxes) == len(views) == 5
    for box, same in zip(boxes[:2], two.boxes(7, 3, index, side, side), strict=True):
        assert np.array_equal(box, same)
    for view, alike in zip(views[:2], two.finish(crops[:2], 7, 3, index), strict=True):
        assert torch.equal(view, alike)  # bit for bit


def test_each_small_view_is_drawn_by_the_same_table_and_its_own_numbers() -> None:
    index, side = np.arange(64), np.full(64, 300)
    boxes = MULTI.boxes(1, 2, index, side, side)
    crops = random_crops(64, 20)
    views = MULTI.finish([random_crops(64, 32)] * 2 + [crops] * 3, 1, 2, index)
    for number in (2, 3, 4):
        u = uniforms(1, 2, index, number, len(Draw))
        assert np.array_equal(boxes[number], draw_boxes(MULTI.small, u, side, side))
        assert torch.equal(views[number], MULTI.normalize(distort_crops(MULTI.small, u, crops)))
        assert all((boxes[number] != boxes[other]).any() for other in range(number))


def test_crops_of_too_few_views_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        MULTI.finish([random_crops(2, 32)] * 2, 0, 0, np.arange(2))


def test_normalize_comes_last_and_takes_each_channel_on_its_own() -> None:
    two = TwoViews(size=32, first=PLAIN, second=PLAIN)
    crops = random_crops(2, 32).double()
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (crops.numpy() - mean[:, None, None]) / std[:, None, None]
    result = two.finish((crops, crops), 0, 0, np.arange(2))[1]
    np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=1e-12)  # float64, numbers below 3


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
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_on_a_gpu_nothing_waits_and_the_result_is_the_same() -> None:
    two, index = TwoViews(size=64), np.arange(32)
    crops = random_crops(32, 64), random_crops(32, 64, seed=1)
    on_gpu = crops[0].cuda(), crops[1].cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        results = two.finish(on_gpu, 0, 0, index)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for result, expected in zip(results, two.finish(crops, 0, 0, index), strict=True):
        # No op jumps anywhere, so roundings stay what they are: up to 5e-6 (above), divided by a std of 0.22.
        torch.testing.assert_close(result.cpu(), expected, rtol=0, atol=5e-5)


SPECS = [
    TwoViews(size=12),
    MultiCrop(size=12, small_size=7, num_small=3),
    OneView(size=12, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)),
]


@pytest.mark.parametrize("views", SPECS, ids=["two", "multicrop", "one"])
def test_called_on_images_they_are_those_of_the_loader(views: TwoViews | MultiCrop | OneView) -> None:
    pixels = torch.randint(0, 256, (24, 3, 18, 15), dtype=torch.uint8)
    options: dict[str, Any] = {"batch_size": 8, "seed": 3, "first_step": 1, "total_steps": 4, "workers": 0}
    for batch in batches(InMemory(pixels), views, device=torch.device("cpu"), **options):
        called = views(pixels[torch.from_numpy(batch.index)], seed=3, step=batch.step, index=batch.index)
        assert [view.shape[1:] for view in called] == list(views.shapes)
        for view, same in zip(called, batch.views, strict=True):  # bit for bit
            assert torch.equal(view, same)
            assert view.is_contiguous(memory_format=torch.channels_last)


def test_called_without_an_index_images_are_counted_from_0() -> None:
    pixels, views = torch.randint(0, 256, (4, 3, 18, 15), dtype=torch.uint8), TwoViews(size=12)
    called = views(pixels)
    for index in (np.arange(4), [0, 1, 2, 3]):
        assert all(torch.equal(a, b) for a, b in zip(called, views(pixels, seed=0, index=index), strict=True))
    for other in (views(pixels, seed=1), views(pixels, step=1), views(pixels, index=[4, 5, 6, 7])):
        assert not torch.equal(called[0], other[0])


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (torch.zeros(4, 3, 8, 8), r"images are \(4, 3, 8, 8\) of float32; these views take \(B, 3, H, W\)"),
        (
            torch.zeros(4, 1, 8, 8, dtype=torch.uint8),
            r"images are \(4, 1, 8, 8\) of uint8; .* \(B, 3, H, W\)",
        ),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), r"images are \(3, 8, 8\) of uint8"),
    ],
)
def test_called_on_something_else_they_say_what_they_take(images: Tensor, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        TwoViews(size=8)(images)


def test_called_with_another_number_of_indices_they_say_so() -> None:
    with pytest.raises(UserError, match=r"index has shape \(3,\); give a number for each of 4 images"):
        TwoViews(size=8)(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), index=[1, 2, 3])


def test_pairs_say_which_view_predicts_which() -> None:
    assert TwoViews().pairs == ((0, 1), (1, 0))
    assert MultiCrop(num_small=2).pairs == ((0, 1), (1, 0), (2, 0), (2, 1), (3, 0), (3, 1))
    assert OneView(size=8).pairs == ()


def test_the_preprocessing_of_views_has_their_constants() -> None:
    views = TwoViews(size=8, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    assert views.preprocessing(10) == Preprocessing(size=10, mean=views.mean, std=views.std)
    assert views.preprocessing() == Preprocessing(size=8, mean=views.mean, std=views.std)
    x = random_crops(3, 8)
    assert torch.equal(views.normalize(x), views.preprocessing().normalize(x))


GRAY = replace(T, saturation=0.0, hue=0.0, grayscale=0.0)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_images_of_any_number_of_channels_have_views(channels: int) -> None:
    mean, std = (0.5,) * channels, (0.25,) * channels
    views = TwoViews(size=8, first=GRAY, second=replace(GRAY, blur=0.1, solarize=0.2), mean=mean, std=std)
    assert views.channels == channels
    assert views.shapes == ((channels, 8, 8),) * 2
    pixels = torch.randint(0, 256, (50, channels, 12, 9), dtype=torch.uint8)
    for view in views(pixels):
        assert view.shape == (50, channels, 8, 8)
        assert -2 <= view.min() < -1.5  # (0 - 0.5) / 0.25
        assert 1.5 < view.max() <= 2
    # Each channel on its own, as every operation left is: that of one channel is that of five.
    one = replace(views, mean=mean[:1], std=std[:1])
    # Crops are matrix products, whose sums of some ten float32 numbers depend on the matrices' sizes.
    torch.testing.assert_close(one(pixels[:, :1])[0], views(pixels)[0][:, :1], rtol=0, atol=2e-5)


def test_hue_saturation_and_grayscale_need_three_channels() -> None:
    for view in (T, replace(GRAY, hue=0.1), replace(GRAY, saturation=0.1), replace(GRAY, grayscale=0.1)):
        with pytest.raises(UserError, match=r"mean has 1 numbers, but saturation, hue and grayscale need 3"):
            TwoViews(size=8, first=GRAY, second=view, mean=(0.5,), std=(0.5,))
    TwoViews(size=8, first=replace(T, jitter=0.0, grayscale=0.0), second=GRAY, mean=(0.5,), std=(0.5,))


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.5, 0.5)), ((), ()), ((0.5,) * 3, (0.5,))])
def test_mean_and_std_have_a_number_for_each_channel(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    sentence = f"mean has {len(mean)} numbers and std {len(std)}; give both one number for each channel"
    with pytest.raises(UserError, match=sentence):
        TwoViews(mean=mean, std=std)
    with pytest.raises(UserError, match=sentence):
        Preprocessing(size=8, mean=mean, std=std)


def test_crops_of_other_channels_are_refused() -> None:
    with pytest.raises(UserError, match="images have 1 channels, but mean and std of the views have 3"):
        TwoViews(size=8).finish([torch.zeros(2, 1, 8, 8)] * 2, 0, 0, np.arange(2))


def test_a_recipe_of_before_keeps_its_views() -> None:
    text = '{"kind": "two", "size": 32, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}'
    assert SLOT.validate_json(text, strict=True, extra="forbid") == TwoViews(size=32)

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from byol.data.image.decode import WHOLE
from byol.data.image.resample import crop_resize, crop_resize_one, crop_resize_view, needed_fraction

Box = tuple[int, int, int, int]


def random_images(batch: int, height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=generator)


def random_boxes(batch: int, height: int, width: int, seed: int = 0) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    heights, widths = rng.integers(1, height + 1, batch), rng.integers(1, width + 1, batch)
    tops, lefts = rng.integers(0, height - heights + 1), rng.integers(0, width - widths + 1)
    return np.stack((tops, lefts, heights, widths), axis=1)


def pillow(image: Tensor, box: Box, size: int) -> NDArray[np.float32]:
    """Crop, resize, scale and clip one image (C, H, W), channel by channel, in Pillow's float mode."""
    top, left, height, width = box
    channels = [
        Image.fromarray(channel.numpy().astype(np.float32))
        .crop((left, top, left + width, top + height))
        .resize((size, size), Image.Resampling.BICUBIC)
        for channel in image
    ]
    return np.clip(np.stack([np.asarray(channel) for channel in channels]) / 255, 0, 1)


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    size=st.integers(1, 64),
    seed=st.integers(0, 1000),
)
def test_crop_resize_equals_pillow_in_float_mode(
    data: st.DataObject, height: int, width: int, size: int, seed: int
) -> None:
    images = random_images(2, height, width, seed)
    boxes = []
    for _ in images:
        box_height, box_width = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
        top = data.draw(st.integers(0, height - box_height))
        left = data.draw(st.integers(0, width - box_width))
        boxes.append((top, left, box_height, box_width))
    crops = crop_resize(images, np.array(boxes), size).numpy()
    for image, box, crop in zip(images, boxes, crops, strict=True):
        # Sums of up to 600 float32 products of size 1, with weights good to 1e-7.
        np.testing.assert_allclose(crop, pillow(image, box, size), rtol=0, atol=5e-6)


@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 32), (96, 96, 64), (400, 300, 224)])
def test_crop_resize_equals_pillow_at_usual_sizes(height: int, width: int, size: int) -> None:
    images, boxes = random_images(4, height, width), random_boxes(4, height, width)
    expected = [pillow(image, tuple(box), size) for image, box in zip(images, boxes.tolist(), strict=True)]
    # Measured 1e-6; float32 sums of up to 300 products.
    np.testing.assert_allclose(crop_resize(images, boxes, size).numpy(), expected, rtol=0, atol=5e-6)


def test_a_box_of_the_right_size_is_copied_bit_for_bit() -> None:
    images = random_images(2, 40, 50)
    crops = crop_resize(images, np.array([(0, 0, 32, 32), (8, 18, 32, 32)]), 32)
    assert torch.equal(crops[0], images[0, :, :32, :32] / 255)
    assert torch.equal(crops[1], images[1, :, 8:, 18:] / 255)


@pytest.mark.parametrize("size", [5, 16, 64])
def test_pixels_outside_the_box_have_no_influence(size: int) -> None:
    images = random_images(1, 30, 30)
    framed = torch.full_like(images, 255)
    framed[:, :, 5:25, 8:20] = images[:, :, 5:25, 8:20]
    box = np.array([(5, 8, 20, 12)])
    assert torch.equal(crop_resize(images, box, size), crop_resize(framed, box, size))


@pytest.mark.parametrize("level", [0, 77, 255])
def test_a_plain_image_stays_plain(level: int) -> None:
    images = torch.full((16, 3, 60, 40), level, dtype=torch.uint8)
    crops = crop_resize(images, random_boxes(16, 60, 40), 24)
    expected = torch.full_like(crops, level / 255)
    torch.testing.assert_close(crops, expected, rtol=0, atol=1e-6)  # sums of weights are off by as much


def test_overshoot_at_edges_is_clipped() -> None:
    images = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    images[..., 4:] = 255
    crops = crop_resize(images, np.array([(0, 0, 8, 8)]), 32)
    unclipped = np.asarray(
        Image.fromarray(images[0, 0].numpy().astype(np.float32)).resize((32, 32), Image.Resampling.BICUBIC)
    )
    assert unclipped.min() < 0
    assert unclipped.max() > 255
    assert crops.min() == 0
    assert crops.max() == 1


def test_a_mirrored_image_gives_the_mirrored_crop() -> None:
    images = random_images(1, 37, 53)
    crop = crop_resize(images, np.array([(3, 10, 30, 21)]), 16)
    mirrored = crop_resize(images.flip(-1), np.array([(3, 53 - 10 - 21, 30, 21)]), 16)
    torch.testing.assert_close(mirrored, crop.flip(-1), rtol=0, atol=1e-6)  # sums in another order


@pytest.mark.parametrize("size", [32, 11])
def test_a_crop_does_not_depend_on_the_batch(size: int) -> None:
    images, boxes = random_images(9, 32, 32), random_boxes(9, 32, 32)
    whole = crop_resize(images, boxes, size)
    alone = torch.cat([crop_resize(images[i : i + 1], boxes[i : i + 1], size) for i in range(9)])
    backwards = crop_resize(images.flip(0), boxes[::-1].copy(), size).flip(0)
    # Bit for bit at most sizes; BLAS may choose another order of summation for another batch.
    torch.testing.assert_close(alone, whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(backwards, whole, rtol=0, atol=1e-6)


def test_crop_resize_one_is_pillow_on_the_cut_out_box() -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    crop = crop_resize_one(image, (10, 20, 31, 45), 24)
    expected = Image.fromarray(image).crop((20, 10, 65, 41)).resize((24, 24), Image.Resampling.BICUBIC)
    assert crop.dtype == np.uint8
    assert crop.shape == (3, 24, 24)
    assert crop.flags.c_contiguous
    assert np.array_equal(crop, np.asarray(expected).transpose(2, 0, 1))


@pytest.mark.parametrize("size", [24, 64, 224])
def test_a_view_is_as_near_to_the_exact_crop_as_pillows(size: int) -> None:
    random = np.random.default_rng(1)
    coarse = Image.fromarray(random.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    image = np.asarray(coarse.resize((300, 200), Image.Resampling.BICUBIC)).copy()
    image[::7, ::5] = 255  # smooth places, and edges at which bicubic overshoots
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    errors: list[list[float]] = [[], []]
    for box in ((0, 0, 200, 300), (10, 20, 31, 45), (50, 0, 150, 170), (3, 4, size, size)):
        if box[2] > 200 - box[0]:
            continue
        exact = 255 * crop_resize(pixels, np.array([box]), size)[0].double().numpy()
        for found, crop in zip(errors, (crop_resize_view, crop_resize_one), strict=True):
            made = crop(image, box, size)
            assert made.dtype == np.uint8
            assert made.shape == (3, size, size)
            found.append(np.abs(made - exact).mean())
        # Both round to whole levels after each axis, with weights of 22 bits and of fewer: a level, and
        # another one where the first lies at a half.
        near = crop_resize_view(image, box, size).astype(int) - crop_resize_one(image, box, size)
        assert np.abs(near).max() <= 2
    ours, pillows = (np.mean(found) for found in errors)
    # 0.99 and 1.00 times as far on photographs (docs/log.md). Below 0.02 it would be the exact crop itself:
    # to round to whole levels costs 0.25 in the mean where pixels differ.
    assert 0.02 < ours < 1.05 * pillows


def test_a_view_of_a_coarser_image_is_pillows_where_its_edges_lie_between_pixels() -> None:
    image = np.random.default_rng(2).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    for box in ((8, 16, 33, 48), (8, 15, 32, 48)):
        expected = crop_resize_one(image, box, 8, 4)
        assert np.array_equal(crop_resize_view(image, box, 8, 4), expected)
    cut_out = image[4:20, 8:32]  # (8, 16, 32, 48) at half the size
    expected = crop_resize_view(cut_out, (0, 0, 16, 24), 8)
    assert np.array_equal(crop_resize_view(image, (8, 16, 32, 48), 8, 4), expected)


def test_a_view_of_the_right_size_is_copied_and_takes_read_only_pixels() -> None:
    image = np.random.default_rng(3).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    image.flags.writeable = False  # as those of a mapped file are
    view = crop_resize_view(image, (0, 0, 40, 40), 40)
    assert np.array_equal(view, image.transpose(2, 0, 1))
    assert not np.shares_memory(view, image)


@pytest.mark.parametrize("size", [12, 48])
def test_both_ways_agree_on_smooth_images(size: int) -> None:
    y, x = np.mgrid[:60, :80]
    image = np.stack((40 + 2 * x, 30 + 3 * y, 200 - x - y), axis=2).astype(np.uint8)
    one = crop_resize_one(image, (7, 9, 40, 50), size)
    many = crop_resize(torch.from_numpy(image).permute(2, 0, 1)[None], np.array([(7, 9, 40, 50)]), size)
    # Pillow rounds after each axis: half a level, through weights of total magnitude 1.3, and half again.
    assert np.abs(one - 255 * many[0].numpy()).max() < 1.2


@settings(max_examples=60, deadline=None)
@given(data=st.data(), height=st.integers(40, 130), width=st.integers(40, 130), size=st.integers(4, 16))
def test_crops_of_a_coarser_image_show_the_same_part(
    data: st.DataObject, height: int, width: int, size: int
) -> None:
    # A plane of one slope a side is itself at every size, so that what differs is where the box came to lie.
    y, x = np.mgrid[:height, :width] / 1.0
    plane = np.stack((40 + x, 30 + 1.5 * y, 200 - x / 2 - y / 2), axis=2)
    box_height, box_width = data.draw(st.integers(size, height)), data.draw(st.integers(size, width))
    top = data.draw(st.integers(0, height - box_height))
    left = data.draw(st.integers(0, width - box_width))
    box = np.array((top, left, box_height, box_width))
    share = needed_fraction([box], [size])
    eighths = next((eighths for eighths in (1, 2, 3, 4) if eighths >= WHOLE * share), WHOLE)
    step = WHOLE / eighths
    rows, columns = (step * (np.arange(-(-side * eighths // 8)) + 0.5) - 0.5 for side in (height, width))
    grid = np.stack(np.broadcast_arrays(rows[:, None], columns), axis=2)
    r, c = grid[..., 0], grid[..., 1]
    coarse = np.rint(np.stack((40 + c, 30 + 1.5 * r, 200 - c / 2 - r / 2), axis=2)).astype(np.uint8)
    whole = np.rint(plane).astype(np.uint8)
    one = crop_resize_one(coarse, box.tolist(), size, eighths).astype(int)
    other = crop_resize_one(whole, box.tolist(), size).astype(int)
    inner = np.abs(one - other)[:, 2:-2, 2:-2]
    assert min(box_height, box_width) * eighths / 8 >= size or eighths == WHOLE  # never enlarged
    # Inside, where the filter is not cut off: both are rounded to levels before, between and after the axes.
    assert inner.size == 0 or inner.max() <= 2


def test_pixels_beyond_a_coarser_box_have_no_influence() -> None:
    image = random_images(1, 40, 50)[0].permute(1, 2, 0).numpy()
    box = (13, 21, 140, 130)  # of the whole image; here rows 3.25 to 38.25 and columns 5.25 to 37.75
    crop = crop_resize_one(image, box, 20, 2)
    outside = np.ones((40, 50), np.bool_)
    outside[3:39, 5:38] = False
    np.testing.assert_array_equal(crop_resize_one(np.where(outside[..., None], 0, image), box, 20, 2), crop)

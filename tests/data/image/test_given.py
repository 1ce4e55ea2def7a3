"""Pictures in Python, whatever holds them: the same pixels by one road, or a sentence."""

import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from byol.data.image.decode import decode
from byol.data.image.given import pictures
from byol.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 14, 3), np.uint8)
GRAY = PIXELS[:, :, 0]


def one(picture: Any, channels: int = 3) -> np.ndarray[Any, Any]:
    """Return the one picture given, (H, W, C)."""
    (pixels,) = pictures(picture, channels)
    assert pixels.dtype == torch.uint8
    return pixels.permute(1, 2, 0).cpu().numpy()


SAME: dict[str, Any] = {
    "array": PIXELS,
    "array in a list": [PIXELS],
    "one of many": PIXELS[None],
    "not contiguous": np.asfortranarray(PIXELS),
    "float32": PIXELS.astype(np.float32) / np.float32(255),
    "float64": PIXELS / 255,
    "float16": (PIXELS / 255).astype(np.float16),
    "uint16": PIXELS.astype(np.uint16) * 257,
    "big-endian": (PIXELS.astype(np.uint16) * 257).astype(">u2"),
    "opaque": np.dstack([PIXELS, np.full_like(GRAY, 255)]),
    "tensor": torch.from_numpy(PIXELS).permute(2, 0, 1),
    "tensor in a list": [torch.from_numpy(PIXELS).permute(2, 0, 1)],
    "many as a tensor": torch.from_numpy(PIXELS).permute(2, 0, 1)[None],
    "float tensor": torch.from_numpy(PIXELS).permute(2, 0, 1).float() / 255,
    "learned tensor": (torch.from_numpy(PIXELS).permute(2, 0, 1).double() / 255).requires_grad_(),
    "PIL": Image.fromarray(PIXELS),
    "PIL in a generator": (image for image in [Image.fromarray(PIXELS)]),
    "PIL with alpha": Image.fromarray(PIXELS).convert("RGBA"),
}


@pytest.mark.parametrize("kind", SAME)
def test_the_same_picture_is_the_same_pixels(kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(one(SAME[kind]), PIXELS)


SAME_GRAY: dict[str, Any] = {
    "array": GRAY,
    "one channel": GRAY[:, :, None],
    "uint16": GRAY.astype(np.uint16) * 257,
    "float": GRAY / 255,
    "tensor": torch.from_numpy(GRAY.copy()),
    "tensor of one channel": torch.from_numpy(GRAY.copy())[None],
    "PIL": Image.fromarray(GRAY),
    "PIL of 16 bits": Image.fromarray(GRAY.astype(np.uint16) * 257),
}


@pytest.mark.parametrize("kind", SAME_GRAY)
def test_gray_is_repeated_or_stays_one_channel(kind: str) -> None:
    np.testing.assert_array_equal(one(SAME_GRAY[kind]), np.repeat(GRAY[:, :, None], 3, axis=2))
    np.testing.assert_array_equal(one(SAME_GRAY[kind], 1), GRAY[:, :, None])


def test_black_and_white_is_bool() -> None:
    mask = GRAY > 99
    np.testing.assert_array_equal(one(mask, 1)[:, :, 0], np.where(mask, 255, 0))
    np.testing.assert_array_equal(one(torch.from_numpy(mask), 1)[:, :, 0], np.where(mask, 255, 0))
    np.testing.assert_array_equal(one(Image.fromarray(mask), 1)[:, :, 0], np.where(mask, 255, 0))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_that_was_opened_is_turned_as_its_file_is(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for suffix in ("jpg", "png", "webp"):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(PIXELS).save(path, exif=exif)
        with Image.open(path) as image:
            np.testing.assert_array_equal(one(image), one(path))
        np.testing.assert_array_equal(one(path), decode(path.read_bytes()))
        assert one(path).shape == ((20, 14, 3) if orientation < 5 else (14, 20, 3))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_a_picture_of_any_mode_is_read_as_its_file_is(tmp_path: Path, mode: str) -> None:
    deep = Image.fromarray(GRAY.astype(np.uint16) * 257)
    image = deep if mode == "I;16" else Image.fromarray(PIXELS).convert(mode)
    path = tmp_path / "a.tif"
    image.save(path)
    np.testing.assert_array_equal(one(image), one(path))


def test_many_of_any_kinds_come_in_their_order_and_one_by_one(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    asked: list[int] = []

    def given() -> Iterable[Any]:
        for i, picture in enumerate(
            [tmp_path / "a.png", 255 - PIXELS, Image.fromarray(PIXELS), "not reached"]
        ):
            asked.append(i)
            yield picture

    found = pictures(given())
    for expected in (PIXELS, 255 - PIXELS, PIXELS):
        np.testing.assert_array_equal(next(found).permute(1, 2, 0), expected)
    assert asked == [0, 1, 2]
    paths = np.array([str(tmp_path / "a.png")] * 2)
    assert len(list(pictures(paths))) == len(list(pictures(paths.astype(object)))) == 2


def test_paths_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in ("~/a.png", Path("~/a.png"), [Path("~/a.png")]):
        np.testing.assert_array_equal(one(path), PIXELS)


class _Odd:
    """Something with a shape that is nothing of the kind."""

    shape = (3, 4, 4)


REFUSED: list[tuple[Any, str]] = [
    (3, "images is of type int; give a path, a PIL image, an array"),
    (None, "images is of type NoneType; give"),
    (b"\xff\xd8", "images is of type bytes; give"),
    ({"a.jpg": 1}, "images is of type dict; give"),
    (_Odd(), "images is of type _Odd; give"),
    ([PIXELS, 7], "picture 1, of type int, is no picture; give a path"),
    ([[PIXELS]], "picture 0, of type list, is no picture"),
    (PIXELS.transpose(2, 0, 1), r"an array \(3, 20, 14\) of uint8 has its channels first; give .*from_numpy"),
    (PIXELS[None].transpose(0, 3, 1, 2), r"picture 0 of an array \(1, 3, 20, 14\) of uint8 has"),
    (torch.from_numpy(PIXELS), r"a tensor \(20, 14, 3\) of uint8 has its channels last; give tensor.permute"),
    (PIXELS[:3], r"an array \(3, 14, 3\) of uint8 may have its channels first or last; give a tensor"),
    (np.zeros((5, 20, 14), np.uint8), r"an array \(5, 20, 14\) of uint8 has no shape of a picture"),
    (np.zeros((20, 14, 2), np.uint8), "no shape of a picture"),
    (np.zeros((0, 14, 3), np.uint8), "no shape of a picture"),
    (np.zeros(9, np.uint8), r"an array \(9,\) of uint8 has no shape of a picture"),
    (torch.zeros(5, 20, 14), r"a tensor \(5, 20, 14\) of float32 has no shape of a picture"),
    (torch.zeros(2, 1, 3, 20, 14), "no shape of a picture"),
    ([torch.zeros(1, 3, 20, 14)], r"picture 0, a tensor \(1, 3, 20, 14\) of float32, has no shape"),
    (PIXELS.astype(np.int64), "holds int64 numbers, whose range is not known; give uint8"),
    (torch.from_numpy(GRAY.astype(np.int32)), "holds int32 numbers, whose range is not known"),
    (PIXELS.astype(np.float32), "holds float32 numbers from 0 to 255; give floating point numbers from"),
    (PIXELS / 127.5 - 1, "holds float64 numbers from -1 to 1; give"),
    (np.full((8, 8), np.nan), "from nan to nan; give floating point numbers from 0 to 1, none of them NaN"),
    (np.full((8, 8), np.inf), "numbers from inf to inf"),
    (GRAY.astype(np.complex64), "holds complex64 numbers, whose range is not known"),
    (Image.fromarray(GRAY.astype(np.float32)), "a PIL image of mode F.* cannot be used: .*floating point"),
    ("nowhere/1.jpg", "nowhere/1.jpg cannot be used: it is missing"),
    ([PIXELS, os.curdir], r"\. cannot be used: it is a folder"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "sentence"), REFUSED, ids=[sentence[:30] for _, sentence in REFUSED])
def test_what_is_no_picture_is_told_with_its_type(given: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        list(pictures(given))
    assert "\n" not in str(caught.value)


def test_a_picture_of_other_channels_than_the_encoder_s_is_told() -> None:
    five = torch.zeros(5, 8, 9, dtype=torch.uint8)
    assert one(five, 5).shape == (8, 9, 5)
    with pytest.raises(UserError, match="has 3 channels and the encoder takes 5"):
        one(PIXELS, 5)


@pytest.mark.parametrize("opened", [False, True])
def test_the_bad_one_of_many_is_named(tmp_path: Path, opened: bool) -> None:
    for i in range(3):
        Image.fromarray(PIXELS.repeat(9, axis=0)).save(tmp_path / f"{i}.jpg")
    whole = (tmp_path / "1.jpg").read_bytes()
    (tmp_path / "1.jpg").write_bytes(whole[: len(whole) // 2])
    paths = [tmp_path / f"{i}.jpg" for i in range(3)]
    images: list[Any] = [Image.open(path) for path in paths] if opened else [*paths]
    with pytest.raises(UserError, match="picture 1, a PIL image of mode RGB" if opened else r"1\.jpg cannot"):
        list(pictures(images))
    for image in images if opened else []:
        image.close()


def test_a_tensor_stays_where_it_is() -> None:
    (found,) = pictures(torch.zeros(1, 3, 8, 8, dtype=torch.uint8, device="meta"))
    assert isinstance(found, Tensor)
    assert found.device.type == "meta"

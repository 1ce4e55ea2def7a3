from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from byol.data.image import color
from byol.data.image.color import bands, rgb, upright
from byol.data.image.kinds import UndecodableImage

H, W = 24, 40


def gradient() -> Image.Image:
    y, x = np.mgrid[:H, :W]
    return Image.fromarray(np.stack((5 * x, 9 * y, 255 - 3 * x - 2 * y), axis=2).astype(np.uint8))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV"])
def test_opaque_pictures_are_what_pillow_makes_of_them(mode: str) -> None:
    image = gradient().convert(mode)
    np.testing.assert_array_equal(rgb(image), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["LA", "RGBA", "RGBa", "La", "PA"])
def test_what_is_transparent_is_white_whatever_lies_there(mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (H, W, 4), np.uint8)
    alpha = np.where(np.arange(W) < W // 2, 0, 255).astype(np.uint8)
    noise[:, :, 3] = alpha
    through = {"La": "LA", "PA": "RGBA", "RGBa": "RGBA"}.get(mode, mode)
    image = Image.fromarray(noise).convert(through)
    image = image.quantize(64).convert("PA") if mode == "PA" else image.convert(mode)
    if mode == "PA":
        image.putalpha(Image.fromarray(noise[:, :, 3]))
    pixels = rgb(image)
    assert (pixels[:, : W // 2] == 255).all()
    assert not (pixels[:, W // 2 :] == 255).all()


def test_half_transparent_is_half_way_to_white() -> None:
    pixels = rgb(Image.new("RGBA", (2, 2), (0, 100, 200, 128)))
    wanted = np.array([0, 100, 200]) * 128 / 255 + 255 * 127 / 255
    assert np.abs(pixels[0, 0] - wanted).max() <= 1  # Pillow's division by 255 rounds


@pytest.mark.parametrize(
    ("mode", "fill", "transparency"),
    [("L", 7, 7), ("RGB", (1, 2, 3), (1, 2, 3)), ("P", 5, 5), ("P", 5, bytes([255] * 5 + [0]))],
)
def test_a_transparent_color_is_white(mode: str, fill: Any, transparency: Any) -> None:
    image = Image.new(mode, (4, 4), fill)
    image.info["transparency"] = transparency
    assert (rgb(image) == 255).all()


def test_bands_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [gradient(), gradient().convert("P"), gradient().convert("RGBA"), gradient().convert("1")]
    whole = [rgb(image) for image in images]
    monkeypatch.setattr(color, "_BAND", 3 * W)
    for image, pixels in zip(images, whole, strict=True):
        np.testing.assert_array_equal(rgb(image), pixels)


def test_bands_are_all_of_a_picture_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(color, "_BAND", 7 * W)
    parts = [(rows, np.asarray(part)) for rows, part in bands(gradient())]
    assert [len(part) for _, part in parts] == [7, 7, 7, 3]
    np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), np.asarray(gradient()))


@pytest.mark.parametrize("orientation", range(10))
def test_turned_as_pillow_does(orientation: int) -> None:
    image = gradient()
    image.getexif()[ExifTags.Base.Orientation] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(upright(np.asarray(image), orientation), expected)
    gray = np.asarray(image)[:, :, 0]
    np.testing.assert_array_equal(upright(gray, orientation), expected[:, :, 0])


def test_other_colors_are_refused_with_a_reason() -> None:
    with pytest.raises(UndecodableImage, match=r"\(LAB\).*RGB"):
        rgb(Image.new("LAB", (2, 2)))

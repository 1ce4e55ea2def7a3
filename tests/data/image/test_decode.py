import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import ExifTags, Image

from byol.data.image.decode import WHOLE, Decoded, Jpeg, decode, opened
from byol.data.image.kinds import UndecodableImage

H, W = 24, 40


def gradient() -> NDArray[np.uint8]:
    """(24, 40, 3): smooth, so that JPEG keeps it, and different in every corner."""
    y, x = np.mgrid[:H, :W]
    return np.stack((5 * x, 9 * y, 255 - 3 * x - 2 * y), axis=2).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def rotated_exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


@pytest.mark.parametrize("kind", ["png", "bmp", "tiff", "ppm"])
def test_lossless_formats_come_back_exactly(kind: str) -> None:
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(gradient()), kind)), gradient())


def test_webp_without_loss_comes_back_exactly() -> None:
    data = encoded(Image.fromarray(gradient()), "webp", lossless=True)
    np.testing.assert_array_equal(decode(data), gradient())


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_jpeg_agrees_with_pillow(options: dict[str, Any]) -> None:
    data = encoded(Image.fromarray(gradient()), "jpeg", quality=95, **options)
    with Image.open(io.BytesIO(data)) as image:
        # Two builds of the same library: they may round a level differently.
        assert np.abs(decode(data).astype(int) - np.asarray(image)).max() <= 1


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_grey_fills_all_three_channels(kind: str) -> None:
    pixels = decode(encoded(Image.fromarray(gradient()).convert("L"), kind))
    assert pixels.shape == (H, W, 3)
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 1])
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])


def test_cmyk_jpeg_becomes_rgb() -> None:
    pixels = decode(encoded(Image.fromarray(gradient()).convert("CMYK"), "jpeg", quality=95))
    assert np.abs(pixels.astype(int) - gradient()).mean() < 4  # JPEG costs less, an inversion far more


@pytest.mark.parametrize("kind", ["png", "tiff", "ppm"])
def test_sixteen_bits_become_the_nearest_of_256_levels(kind: str) -> None:
    gray = (np.arange(H * W, dtype=np.uint16) * 68).reshape(H, W)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(gray), kind))[..., 1], np.rint(gray / 257))


def test_transparent_colors_of_a_palette_are_white() -> None:
    image = Image.fromarray(gradient()).quantize(16)
    expected = np.where(np.asarray(image)[:, :, None] < 8, 255, np.asarray(image.convert("RGB")))
    np.testing.assert_array_equal(decode(encoded(image, "png", transparency=bytes(8))), expected)


@pytest.mark.parametrize("kind", ["png", "tiff", "webp"])
def test_what_is_transparent_is_white(kind: str) -> None:
    image = Image.fromarray(gradient())
    image.putalpha(Image.fromarray(np.where(np.arange(H * W).reshape(H, W) % W < 9, 0, 255).astype(np.uint8)))
    pixels = decode(encoded(image, kind, **({"lossless": True} if kind == "webp" else {})))
    assert (pixels[:, :9] == 255).all()
    np.testing.assert_array_equal(pixels[:, 9:], gradient()[:, 9:])


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (W, H), color) for color in ("red", "blue")]
    pixels = decode(encoded(frames[0], "gif", save_all=True, append_images=frames[1:]))
    np.testing.assert_array_equal(pixels[0, 0], (255, 0, 0))


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_exif_orientation_is_honoured(kind: str) -> None:
    upright = np.rot90(gradient())
    data = encoded(Image.fromarray(gradient()), kind, exif=rotated_exif(8))
    pixels = decode(data)
    assert pixels.shape == (W, H, 3)
    assert np.abs(pixels.astype(int) - upright).mean() < 4  # JPEG's loss


def test_upright_exif_changes_nothing() -> None:
    image = Image.fromarray(gradient())
    pixels = decode(encoded(image, "jpeg", exif=rotated_exif(1)))
    np.testing.assert_array_equal(pixels, decode(encoded(image, "jpeg")))


def test_damaged_exif_says_nothing_against_the_pixels() -> None:
    whole = encoded(Image.fromarray(gradient()), "jpeg", exif=rotated_exif(6))
    damaged = whole.replace(b"Exif\0\0MM", b"Exif\0\0XX")
    assert damaged != whole
    assert decode(damaged).shape == (H, W, 3)


@pytest.mark.parametrize("kind", ["jpeg", "png", "bmp", "webp", "tiff"])
def test_truncated_file_is_undecodable(kind: str) -> None:
    data = encoded(Image.fromarray(gradient()), kind)
    with pytest.raises(UndecodableImage):
        decode(data[: len(data) // 2])


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe0 no jpeg", b"<html>", bytes(4096)])
def test_what_is_no_image_is_undecodable(data: bytes) -> None:
    with pytest.raises(UndecodableImage):
        decode(data)


def test_floating_point_pixels_are_undecodable() -> None:
    with pytest.raises(UndecodableImage, match="floating point"):
        decode(encoded(Image.fromarray(np.ones((4, 4), np.float32)), "tiff"))


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it finds odd
@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "bmp", "webp", "ppm"])
def test_flipped_bytes_raise_nothing_else(kind: str) -> None:
    random = np.random.default_rng(0)
    image = Image.fromarray(gradient())
    options = {"exif": rotated_exif(6)} if kind in ("jpeg", "png", "webp") else {}
    whole = encoded(image, kind, **options)
    for _ in range(300):
        data = np.frombuffer(whole, np.uint8).copy()
        reach = random.choice((40, len(data)))
        data[random.integers(0, reach, 4)] = random.integers(0, 256, 4)
        try:
            pixels = decode(data.tobytes())
        except UndecodableImage:
            continue
        assert pixels.dtype == np.uint8
        assert pixels.size > 0


def test_opened_knows_the_size_and_reads_what_decode_does() -> None:
    image = Image.fromarray(gradient())
    turned = encoded(image, "jpeg", quality=95, exif=rotated_exif(6))
    gray, plain = encoded(image.convert("L"), "jpeg"), encoded(image, "jpeg", quality=95)
    kinds = {plain: Jpeg, gray: Jpeg, turned: Decoded, encoded(image.convert("CMYK"), "jpeg"): Decoded}
    for data, kind in {**kinds, encoded(image, "png"): Decoded}.items():
        picture = opened(data)
        pixels, eighths = picture.read()
        assert type(picture) is kind
        assert (picture.height, picture.width) == pixels.shape[:2]
        assert eighths == WHOLE
        np.testing.assert_array_equal(pixels, decode(data))
    for data in (turned, encoded(image, "png")):
        assert opened(data).read(0.1)[1] == WHOLE  # nothing but a plain JPEG has coarser sizes


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70), share=st.floats(0.01, 2))
def test_a_jpeg_is_read_as_coarsely_as_is_fine_enough(height: int, width: int, share: float) -> None:
    data = encoded(Image.new("RGB", (width, height), "teal"), "jpeg")
    pixels, eighths = opened(data).read(share)
    assert pixels.shape == (-(-height * eighths // 8), -(-width * eighths // 8), 3)
    assert eighths == WHOLE or eighths / 8 >= share
    assert all(coarser / 8 < share for coarser in (1, 2, 3, 4) if coarser < eighths)


def test_what_is_found_damaged_only_when_read_is_told_then() -> None:
    data = encoded(Image.effect_noise((400, 300), 60).convert("RGB"), "jpeg", quality=95)
    picture = opened(data[: len(data) // 2])
    assert (picture.height, picture.width) == (300, 400)
    for share in (1.0, 0.3):
        with pytest.raises(UndecodableImage):
            picture.read(share)
    with pytest.raises(UndecodableImage):
        opened(data[:40])


def test_what_simplejpeg_refuses_is_read_whole_by_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.fromarray(gradient()), "jpeg", quality=95)
    expected = decode(data)

    def refuse(*data: object, **options: object) -> None:
        raise ValueError("refused")

    monkeypatch.setattr("byol.data.image.decode.simplejpeg.decode_jpeg", refuse)
    pixels, eighths = opened(data).read(0.25)
    assert eighths == WHOLE
    assert np.abs(pixels.astype(int) - expected).max() <= 1  # two builds of the same library

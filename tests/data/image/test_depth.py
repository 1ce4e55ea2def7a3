"""Samples of more than 8 bits: read as they are, mapped by a range."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.data.image.deep_files import gray, write_png16, write_tiff

from byol.data.image import color, depth
from byol.data.image.decode import decode, opened
from byol.data.image.depth import HEAD, Deep, PixelRange, deep_file, may_be_deep
from byol.data.image.kinds import UndecodableImage

RGB = np.random.default_rng(1).integers(0, 4096, (20, 14, 3)).astype(np.uint16)
GRAY = gray().astype(np.uint16) * 16


def samples(path: Path) -> NDArray[Any]:
    found = deep_file(path.read_bytes())
    assert found is not None
    return found.samples


def test_samples_are_those_of_the_file(tmp_path: Path) -> None:
    np.testing.assert_array_equal(samples(write_png16(tmp_path / "a.png", GRAY)), GRAY)
    np.testing.assert_array_equal(samples(write_png16(tmp_path / "b.png", RGB)), RGB)
    for big in (False, True):
        np.testing.assert_array_equal(samples(write_tiff(tmp_path / "c.tif", GRAY, big=big)), GRAY)
        np.testing.assert_array_equal(samples(write_tiff(tmp_path / "d.tif", RGB, big=big)), RGB)
        signed = GRAY.astype(np.int16) - 1024
        np.testing.assert_array_equal(samples(write_tiff(tmp_path / "e.tif", signed, big=big)), signed)


def test_compressed_and_turned_samples_are_those_of_the_file(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for compression in ("tiff_lzw", "tiff_adobe_deflate"):
        Image.fromarray(GRAY).save(tmp_path / "a.tif", compression=compression, exif=exif)
        np.testing.assert_array_equal(samples(tmp_path / "a.tif"), np.rot90(GRAY, -1))


@pytest.mark.parametrize("samples_of", [GRAY, RGB])
def test_parts_change_nothing(
    samples_of: NDArray[np.uint16], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_png16(tmp_path / "a.png", samples_of).read_bytes()
    whole = decode(data, PixelRange(0, 4095))
    monkeypatch.setattr(depth, "_PART", 3 * 14)
    monkeypatch.setattr(color, "_BAND", 3 * 14)
    np.testing.assert_array_equal(decode(data, PixelRange(0, 4095)), whole)
    exact = np.rint(samples_of.astype(np.float64) * (255 / 4095)).astype(np.uint8)
    np.testing.assert_array_equal(whole, exact if exact.ndim == 3 else np.repeat(exact[:, :, None], 3, 2))


def test_what_has_eight_bits_is_not_deep(tmp_path: Path) -> None:
    for name, mode in (("a.png", "L"), ("a.png", "P"), ("a.png", "RGBA"), ("a.tif", "RGB"), ("a.jpg", "L")):
        Image.fromarray(gray()).convert(mode).save(tmp_path / name)
        assert deep_file((tmp_path / name).read_bytes()) is None
    assert not may_be_deep((tmp_path / "a.jpg").read_bytes()[:HEAD])
    assert not may_be_deep((tmp_path / "a.png").read_bytes()[:HEAD])
    assert not may_be_deep(b"")


@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_damaged_one_is_told(tmp_path: Path, part: float) -> None:
    for path in (write_png16(tmp_path / "a.png", RGB), write_tiff(tmp_path / "a.tif", RGB)):
        data = path.read_bytes()
        with pytest.raises(UndecodableImage):
            deep_file(data[: int(part * len(data))])


def test_a_range_says_what_is_black_and_white() -> None:
    found = Deep(np.array([[-5, 0, 10, 20, 99]], np.int16), is_signed=True)
    assert found.rgb(PixelRange(0, 20))[0, :, 1].tolist() == [0, 0, 128, 255, 255]
    turned = Deep(found.samples, is_signed=True, white_is_zero=True)
    assert turned.rgb(PixelRange(0, 20))[0, :, 1].tolist() == [255, 255, 127, 0, 0]
    assert Deep(np.array([[0, 65535]], np.uint16)).rgb()[0, :, 0].tolist() == [0, 255]
    assert str(PixelRange(0, 4095)) == "0 is black, 4,095 is white"
    assert PixelRange.from_json(PixelRange(-3, 9).to_json()) == PixelRange(-3, 9)
    for wrong in ([1], [5, 5], ["a", 3], 7):
        with pytest.raises((TypeError, ValueError)):
            PixelRange.from_json(wrong)


def test_a_file_is_opened_by_a_range_or_by_all_of_its_type(tmp_path: Path) -> None:
    data = write_png16(tmp_path / "a.png", GRAY).read_bytes()
    expected = np.repeat(gray()[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(decode(data, PixelRange(0, 255 * 16)), expected)
    np.testing.assert_array_equal(opened(data, PixelRange(0, 255 * 16)).read()[0], expected)
    assert decode(data).max() == 16  # of 65,535, which the file may hold, 4,080 is little

"""What broke off is told apart from what is damaged."""

import io
from typing import Any

import pytest
from PIL import Image, features

from byol.data.image.decode import decode
from byol.data.image.endings import is_cut_short, is_decoded_twice
from byol.data.image.kinds import UndecodableImage

NOISE = Image.effect_noise((90, 70), 60).convert("RGB")


def encoded(kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    NOISE.save(stream, kind, **options)
    return stream.getvalue()


def with_thumbnail() -> bytes:
    """Return a JPEG in whose EXIF block lies another one, with an end of its own."""
    exif = Image.Exif()
    exif[0x927C] = encoded("jpeg")
    exif[0x0112] = 6
    return encoded("jpeg", exif=exif, quality=95)


WHOLE = {
    "jpeg": encoded("jpeg"),
    "progressive": encoded("jpeg", progressive=True),
    "thumbnail": with_thumbnail(),
    "png": encoded("png"),
    "gif": encoded("gif"),
    "bmp": encoded("bmp"),
    "webp": encoded("webp"),
    "webp, whole": encoded("webp", lossless=True),
}
if features.check("avif"):
    WHOLE["avif"] = encoded("avif")


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_that_broke_off_is_told_wherever_it_did(name: str) -> None:
    whole = WHOLE[name]
    assert not is_cut_short(whole)
    assert decode(whole).size
    for kept in (0.3, 0.5, 0.9, 0.99):
        data = whole[: int(kept * len(whole))]
        assert is_cut_short(data)
        with pytest.raises(UndecodableImage, match=r"^it is cut short$"):
            decode(data)


@pytest.mark.parametrize("name", ["jpeg", "progressive", "thumbnail", "png", "bmp", "webp", "webp, whole"])
def test_no_ending_is_missed_at_any_length(name: str) -> None:
    whole = WHOLE[name]
    missed = [length for length in range(24, len(whole) - 1) if not is_cut_short(whole[:length])]
    assert len(missed) <= 0.005 * len(whole)  # between two segments of a JPEG


@pytest.mark.parametrize("name", ["jpeg", "thumbnail", "png", "webp"])
def test_what_was_added_behind_a_file_says_nothing(name: str) -> None:
    assert not is_cut_short(WHOLE[name] + b"\0\0\0\x18ftypmp42" + bytes(5_000))  # as of a live photo


def test_a_damaged_file_of_the_right_length_is_not_called_cut() -> None:
    data = bytearray(WHOLE["png"])
    data[40:80] = bytes(40)
    assert not is_cut_short(bytes(data))
    with pytest.raises(UndecodableImage, match="damaged"):
        decode(bytes(data))
    for nothing in (b"", b"\xff\xd8\xff\xe0 no jpeg at all \xff\xd9", b"RIFF", b"BM", b"hello", bytes(99)):
        is_cut_short(nothing)


def test_a_tiff_that_pillow_calls_truncated_is_cut_short() -> None:
    with pytest.raises(UndecodableImage, match="cut short"):
        decode(encoded("tiff")[:9_000] + encoded("tiff")[-9_000:][:0])


def test_jpegs_that_are_held_as_coefficients_are_known() -> None:
    assert is_decoded_twice(WHOLE["progressive"])
    assert not is_decoded_twice(WHOLE["jpeg"])
    assert not is_decoded_twice(WHOLE["thumbnail"])
    one_by_one = bytearray(WHOLE["jpeg"])
    scan = one_by_one.index(b"\xff\xda")
    one_by_one[scan + 4] = 1  # colors of the first scan
    assert is_decoded_twice(bytes(one_by_one))
    for length in range(700):
        is_decoded_twice(WHOLE["jpeg"][:length])

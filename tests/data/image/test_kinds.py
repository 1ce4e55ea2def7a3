import io
import struct
import sys
import threading
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from byol.data.image.kinds import (
    JPEG,
    LARGEST,
    LARGEST_COLORED,
    LARGEST_COSTLY,
    MEGAPIXEL,
    SUFFIXES,
    UndecodableImage,
    kind_of,
    open_picture,
    refuse_large,
)


def encoded(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (6, 4)).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff", "webp", "gif", "bmp", "ppm", "avif"])
def test_each_kind_is_told_by_its_content_and_read(kind: str) -> None:
    if kind == "avif" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    data = encoded(kind)
    assert kind_of(data).name.lower() == kind
    with open_picture(data) as image:
        assert image.size == (6, 4)
        assert image.convert("RGB").getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (encoded("eps"), "EPS"),
        (encoded("dds"), "DDS"),
        (encoded("pdf"), "a PDF"),
        (encoded("ico"), "an icon"),
        (encoded("jpeg2000"), "JPEG 2000"),
        (b"SIMPLE  =                    T", "FITS"),
        (b"8BPS\0\1", "a Photoshop file"),
        (bytes(128) + b"DICM", "DICOM"),
        (b"\0\0\0\x18ftypqt  ", "a film"),
        (b"PK\x03\x04", "an archive"),
        (b"<!DOCTYPE html>", "a text of marks"),
        (b'<?xml version="1.0"?><svg/>', "a text of marks"),
    ],
)
def test_what_is_not_read_is_named(data: bytes, name: str) -> None:
    with pytest.raises(UndecodableImage, match=f"it is {name}.*, which is not read"):
        kind_of(data)


@pytest.mark.parametrize("kind", ["spider", "tga", "pcx", "sgi", "msp", "xbm"])
def test_no_other_reader_of_pillow_is_ever_asked(kind: str) -> None:
    mode = {"spider": "F", "msp": "1", "xbm": "1"}.get(kind, "L")
    data = encoded(kind, mode)
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (6, 4)  # Pillow would read it
    with pytest.raises(UndecodableImage), open_picture(data):
        pass


def test_ghostscript_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.Popen", lambda *words, **more: pytest.fail(f"started {words}"))
    with pytest.raises(UndecodableImage, match="EPS"), open_picture(encoded("eps")):
        pass


def test_heic_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif.as_plugin", None)
    data = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    with pytest.raises(UndecodableImage, match=r"pip install 'byol\[heic\]'"), open_picture(data):
        pass


def png_that_claims(width: int, height: int, bits: int = 8) -> bytes:
    """Return a PNG of a few bytes."""
    chunks = b""
    for name, body in (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(100))),
        (b"IEND", b""),
    ):
        chunks += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return b"\x89PNG\r\n\x1a\n" + chunks


def webp_that_claims(width: int, height: int) -> bytes:
    body = b"VP8X" + struct.pack("<I", 10) + bytes(4)
    body += (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


@pytest.mark.parametrize(
    ("data", "limit"),
    [
        (png_that_claims(20_001, 10_000), 200),
        (png_that_claims(10_000, 8_901, bits=16), 89),
        (webp_that_claims(16_000, 16_000), 89),
        (encoded("gif")[:6] + struct.pack("<HH", 65_500, 65_500) + encoded("gif")[10:], 200),
        (encoded("bmp")[:18] + struct.pack("<ii", 65_500, 65_500) + encoded("bmp")[26:], 150),
        (b"P5 65500 65500 255\n" + bytes(100), 200),
    ],
)
def test_a_picture_that_claims_to_be_too_large_costs_nothing(data: bytes, limit: int) -> None:
    why = rf"megapixels, and a .* may have {limit}: make it smaller"
    with pytest.raises(UndecodableImage, match=why), open_picture(data):
        pass


def test_the_limit_itself_is_allowed() -> None:
    png, tiff = kind_of(png_that_claims(1, 1)), kind_of(encoded("tiff"))
    refuse_large(LARGEST // 1000, 1000, png)
    refuse_large(LARGEST_COSTLY // 1000, 1000, tiff)
    refuse_large(LARGEST_COSTLY // 1000, 1000, png, is_deep=True)
    refuse_large(LARGEST_COLORED // 1000, 1000, png, is_colored=True)
    refuse_large(LARGEST // 1000, 1000, JPEG, data=encoded("jpeg"))
    refuse_large(LARGEST_COSTLY // 1000, 1000, JPEG, data=encoded("jpeg", progressive=True))
    for width, kind, what in (
        (LARGEST, png, {}),
        (LARGEST_COLORED, png, {"is_colored": True}),
        (LARGEST_COSTLY, tiff, {}),
        (LARGEST_COSTLY, png, {"is_deep": True}),
        (LARGEST_COSTLY, png, {"is_deep": True, "is_colored": True}),
        (LARGEST_COSTLY, JPEG, {"data": encoded("jpeg", progressive=True)}),
    ):
        with pytest.raises(UndecodableImage, match=f"{(width + 1) / MEGAPIXEL:,.0f} megapixels"):
            refuse_large(width + 1, 1, kind, **what)
    with pytest.raises(UndecodableImage, match="no pixels"):
        refuse_large(0, 5, png)


def test_whatever_a_reader_raises_means_a_damaged_file() -> None:
    for raised in (RuntimeError("x"), KeyError(1), AssertionError(), RecursionError()):
        with pytest.raises(UndecodableImage, match="damaged"), open_picture(encoded("png")):
            raise raised
    with pytest.raises(UndecodableImage, match="more memory"), open_picture(encoded("png")):
        raise MemoryError
    with pytest.raises(KeyboardInterrupt), open_picture(encoded("png")):
        raise KeyboardInterrupt


def test_libtiff_says_nothing_itself(capfd: pytest.CaptureFixture[str]) -> None:
    noise = Image.effect_noise((99, 99), 60)
    stream = io.BytesIO()
    noise.save(stream, "tiff", compression="tiff_lzw")
    damaged = bytearray(stream.getvalue())
    damaged[3_000:3_100] = b"\xff" * 100
    with pytest.raises(UndecodableImage), open_picture(bytes(damaged)) as image:
        image.load()
    assert capfd.readouterr() == ("", "")


def test_only_pillows_warnings_are_silenced_and_only_while_a_file_is_read() -> None:
    odd = encoded("tiff")[:-20]
    before = list(warnings.filters)
    start, errors = threading.Barrier(4), []

    def read() -> None:
        start.wait()
        for _ in range(20):
            try:
                with open_picture(odd) as image:
                    image.load()
            except UndecodableImage:
                pass
            except Warning as warning:
                errors.append(warning)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert warnings.filters == before


def test_the_endings_are_those_of_the_kinds() -> None:
    known = {
        ending
        for ending, kind in Image.registered_extensions().items()
        if kind in ("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "DIB", "PPM", "AVIF")
    }
    assert set(SUFFIXES) - {".heic", ".heif", ".hif"} <= known
    assert np.all([ending == ending.lower() for ending in SUFFIXES])

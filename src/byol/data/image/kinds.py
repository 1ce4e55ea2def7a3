"""Which kinds of picture files are read, told by their first bytes, and how large a picture may be.

Pillow reads some eighty kinds, one of them by starting another program. Only those that people keep pictures
in are opened here, each by its own reader and none by guessing, and no reader is asked for pixels before the
size that the file claims has been looked at.
"""

import ctypes
import io
import logging
import re
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from typing import NamedTuple

from PIL import Image, _imaging

from byol.data.image.endings import is_cut_short, is_decoded_twice

logging.getLogger("PIL").addHandler(logging.NullHandler())  # or what it finds odd goes to the terminal

MEGAPIXEL = 1_000_000
LARGEST = 200 * MEGAPIXEL
LARGEST_COLORED = (
    150 * MEGAPIXEL
)  # of what Pillow holds as four bytes a pixel, beside the three of the result
LARGEST_COSTLY = 89 * MEGAPIXEL  # of what takes twice the memory while it is decoded

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".gif", ".bmp", ".dib"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".heic", ".heif", ".hif"),
)
"""Endings of the names of such files; it is the content that decides."""


class UndecodableImage(ValueError):  # noqa: N818 - what it is, as in "bad" of a batch, more than an error
    """An image file that cannot be used: unreadable, truncated, damaged or no image."""


class Kind(NamedTuple):
    """A kind of picture file.

    Args:
        name: what a person calls it.
        reader: module and class that read it.
        is_costly: it takes much memory while it is decoded.
    """

    name: str
    reader: tuple[str, str]
    is_costly: bool = False


JPEG = Kind("JPEG", ("PIL.JpegImagePlugin", "JpegImageFile"))
_PROGRESSIVE = JPEG._replace(name="progressive JPEG", is_costly=True)
_PNG = Kind("PNG", ("PIL.PngImagePlugin", "PngImageFile"))
_TIFF = Kind("TIFF", ("PIL.TiffImagePlugin", "TiffImageFile"), is_costly=True)
_WEBP = Kind("WebP", ("PIL.WebPImagePlugin", "WebPImageFile"), is_costly=True)
_GIF = Kind("GIF", ("PIL.GifImagePlugin", "GifImageFile"))
_BMP = Kind("BMP", ("PIL.BmpImagePlugin", "BmpImageFile"))
_PPM = Kind("PPM", ("PIL.PpmImagePlugin", "PpmImageFile"))
_AVIF = Kind("AVIF", ("PIL.AvifImagePlugin", "AvifImageFile"), is_costly=True)
_HEIC = Kind("HEIC", ("pillow_heif", "HeifImageFile"), is_costly=True)

_ONE_BYTE = ("1", "L", "P")  # modes of Pillow's that take so much a pixel

_READ = (
    (b"\xff\xd8\xff", JPEG),
    (b"\x89PNG\r\n\x1a\n", _PNG),
    (rb"II(\*\0|\+\0)|MM(\0\*|\0\+)", _TIFF),
    (b"RIFF....WEBP", _WEBP),
    (b"GIF8[79]a", _GIF),
    (b"BM", _BMP),
    (rb"P[1-6][\s#]", _PPM),
    (b"....ftypavi[fs]", _AVIF),
    (b"....ftyp(mif1|msf1|miaf).{4,64}avi[fs]", _AVIF),
    (b"....ftyp(hei[cxms]|hev[cxms]|mif1|msf1)", _HEIC),
)
# What else is found under the name of a picture; a pattern and what it is called.
_NOT_READ = (
    (rb"%!PS|\xc5\xd0\xd3\xc6", "EPS"),
    (b"%PDF", "a PDF"),
    (b"DDS ", "DDS"),
    (b"SIMPLE  =", "FITS"),
    (b"8BPS", "a Photoshop file"),
    (rb"\0\0[\x01\x02]\0", "an icon"),
    (b"icns", "an icon"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "JPEG 2000"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "JPEG XL"),
    (b"v/1\x01", "OpenEXR"),
    (b"#\\?R", "Radiance HDR"),
    (b".{128}DICM", "DICOM"),
    (b"....ftyp", "a film"),
    (b"\x1aE\xdf\xa3|RIFF....AVI |OggS", "a film or a sound"),
    (b"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|\xfd7zXZ", "an archive"),
    (rb"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "HDF5"),
    (rb"\s*<(\?xml|svg|!doctype|html)", "a text of marks, such as SVG or HTML"),
)
_READ_PATTERNS = tuple((re.compile(pattern, re.DOTALL), kind) for pattern, kind in _READ)
_NOT_READ_PATTERNS = tuple(
    (re.compile(pattern, re.DOTALL | re.IGNORECASE), name) for pattern, name in _NOT_READ
)


def kind_of(data: bytes) -> Kind:
    """Return the kind of a picture file.

    Raises:
        UndecodableImage: it is of none that is read.
    """
    for pattern, kind in _READ_PATTERNS:
        if pattern.match(data):
            return kind
    for pattern, name in _NOT_READ_PATTERNS:
        if pattern.match(data):
            raise UndecodableImage(f"it is {name}, which is not read")
    raise UndecodableImage("it is damaged, or no image" if data else "it is empty")


def refuse_large(
    width: int,
    height: int,
    kind: Kind,
    *,
    data: bytes = b"",
    is_deep: bool = False,
    is_colored: bool = False,
) -> None:
    """Stop at a picture that is larger than a reader is asked for.

    Args:
        width: in pixels, as the file claims.
        height: likewise.
        kind: of the file.
        data: the file, which tells of a JPEG whether it is a progressive one.
        is_deep: it has more than 8 bits a sample.
        is_colored: Pillow decodes it, and to more than one byte a pixel.

    Raises:
        UndecodableImage: it has too many pixels, or none.
    """
    if kind is JPEG and width * height > LARGEST_COSTLY and is_decoded_twice(data):
        kind = _PROGRESSIVE
    limit = LARGEST_COLORED if is_colored else LARGEST
    what = f"{kind.name} in color" if is_colored else kind.name
    if kind.is_costly or is_deep:
        limit = LARGEST_COSTLY
        what = kind.name if kind.is_costly else f"{kind.name} of more than 8 bits"
    if width * height > limit:
        raise UndecodableImage(
            f"it has {width:,} x {height:,} pixels, {width * height / MEGAPIXEL:,.0f} megapixels, and a "
            f"{what} may have {limit // MEGAPIXEL}: make it smaller"
        )
    if width < 1 or height < 1:
        raise UndecodableImage("it has no pixels")


@contextmanager
def open_picture(data: bytes) -> Iterator[Image.Image]:
    """Open a picture file with the one reader of its kind; its pixels are read when they are asked for.

    This is the boundary to readers that are not ours: whatever one raises, here or in the block, means that
    the file cannot be used.

    Args:
        data: the whole file.

    Raises:
        UndecodableImage: it is of no kind that is read, too large, or damaged.
    """
    kind = kind_of(data)
    if (claimed := _claimed_size(data, kind)) is not None:
        refuse_large(*claimed, kind)
    with told_once(data):
        try:
            reader = _reader(kind)
            with reader(io.BytesIO(data)) as image:
                is_deep = image.mode[0] in "IF" or (kind is _PNG and data[24:25] == b"\x10")
                is_colored = image.mode not in _ONE_BYTE
                refuse_large(*image.size, kind, data=data, is_deep=is_deep, is_colored=is_colored)
                yield image
        except ImportError as error:
            raise UndecodableImage(_missing(kind)) from error


@contextmanager
def told_once(data: bytes = b"") -> Iterator[None]:
    """Context in which pictures of any origin are read: whatever goes wrong means an unusable picture.

    Args:
        data: the whole file, where there is one.

    Raises:
        UndecodableImage: something was raised.
    """
    try:
        with _QUIET:
            yield
    except UndecodableImage:
        raise
    except MemoryError as error:
        raise UndecodableImage("it takes more memory than there is") from error
    except Exception as error:
        is_cut = is_cut_short(data) or "truncated" in str(error)
        raise UndecodableImage("it is cut short" if is_cut else "it is damaged, or no image") from error


def _reader(kind: Kind) -> Callable[[io.BytesIO], Image.Image]:
    module, name = kind.reader
    if kind is _TIFF:
        _silence_libtiff()
    if kind is _HEIC:
        module = "pillow_heif.as_plugin"
    reader: Callable[[io.BytesIO], Image.Image] = getattr(import_module(module), name)
    if kind is _AVIF and not import_module("PIL.features").check("avif"):
        raise ImportError(name)
    return reader


@cache
def _silence_libtiff() -> None:
    """Keep what libtiff says of a damaged file from standard error: Pillow raises whatever it has to say.

    Pillow does the same with its warnings. Where libtiff is no library of its own, it goes on talking.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


def _missing(kind: Kind) -> str:
    if kind is _HEIC:
        return "it is HEIC, which is read after pip install 'byol[heic]'"
    return (
        f"it is {kind.name}, which the Pillow that is installed does not read: pip install --upgrade pillow"
    )


def _claimed_size(data: bytes, kind: Kind) -> tuple[int, int] | None:
    """Return width and height of a file whose reader would make room for its pixels at once."""
    if kind is not _WEBP or len(data) < 30:
        return None
    form = data[12:16]
    if form == b"VP8X":
        return tuple(1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))  # type: ignore[return-value]
    if form == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


class _Quiet:
    """Keeps what Pillow finds odd in a file from the terminal, as long as a thread reads one."""

    def __init__(self) -> None:
        self.lock, self.readers, self.filters = threading.Lock(), 0, warnings.catch_warnings()

    def __enter__(self) -> None:
        with self.lock:
            if not self.readers:
                self.filters = warnings.catch_warnings()
                self.filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.|pillow_heif|byol\.data\.image")
            self.readers += 1

    def __exit__(self, *raised: object) -> None:
        with self.lock:
            self.readers -= 1
            if not self.readers:
                self.filters.__exit__(None, None, None)


_QUIET = _Quiet()

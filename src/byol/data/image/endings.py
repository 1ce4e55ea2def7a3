"""Whether a picture file ends before it should, as after a copy that broke off."""

import struct
from collections.abc import Iterator

_JPEG, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_PNG, _PNG_END = b"\x89PNG", b"IEND"
_GIF, _GIF_END = b"GIF8", b"\x3b"
_ALONE = (0x01, *range(0xD0, 0xD9))  # markers of JPEG that no segment follows
_START_OF_SCAN = 0xDA
_BASELINE = (0xC0, 0xC1)
_FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))


def is_cut_short(data: bytes) -> bool:
    """Return whether a file ends before the end that its format has, or says it has.

    Of TIFF and PPM this is never said: nothing in them tells it.

    Args:
        data: the whole file.
    """
    if data.startswith(_JPEG):
        return _is_cut_jpeg(data)
    if data.startswith(_PNG):
        return _PNG_END not in data
    if data.startswith(_GIF):
        return not data.rstrip(b"\0").endswith(_GIF_END)
    if data.startswith(b"RIFF") and len(data) >= 8:
        return len(data) < 8 + int(struct.unpack_from("<I", data, 4)[0])
    if data.startswith(b"BM") and len(data) >= 6:
        return len(data) < int(struct.unpack_from("<I", data, 2)[0])
    if data[4:8] == b"ftyp":
        return _last_box(data) > len(data)
    return False


def _is_cut_jpeg(data: bytes) -> bool:
    marker, start = 0, len(data)
    for marker, start in _segments(data):  # noqa: B007 - the last one counts
        pass
    if marker == _START_OF_SCAN:  # in what follows there is no such mark but the end: they are escaped there
        return _JPEG_END not in data[start:]
    return start + max(2, int.from_bytes(data[start : start + 2], "big")) >= len(data)


def _last_box(data: bytes) -> int:
    """Return where the last box of a HEIC or AVIF file ends, by what the boxes say."""
    position = 0
    while position + 8 <= len(data):
        (size,) = struct.unpack_from(">I", data, position)
        if size == 1 and position + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, position + 8)
        if size < 8:  # 0: it goes to the end of the file
            return len(data)
        position += size
    return position


def is_decoded_twice(data: bytes) -> bool:
    """Return whether a JPEG is one whose coefficients are all held before there are pixels.

    Such is a progressive one, and one whose colors lie one after the other.

    Args:
        data: the whole file.
    """
    num_colors = 0
    for marker, start in _segments(data):
        if marker in _FRAMES:
            if marker not in _BASELINE:
                return True
            num_colors = data[start + 7] if start + 7 < len(data) else 0
        if marker == _START_OF_SCAN:
            return start + 2 < len(data) and data[start + 2] < num_colors
    return False


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the marker of each segment of a JPEG, and where its length stands, up to the first scan."""
    position = 2
    while position + 2 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in (*_ALONE, 0xFF):
            position += 1 if marker == 0xFF else 2
            continue
        yield marker, position + 2
        if marker == _START_OF_SCAN:
            return
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")

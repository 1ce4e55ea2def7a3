"""Text on its way to a terminal, a log or a figure: names cannot steer it, and none is too odd to be shown.

A file's name may hold any byte but two. Printed as it is, it could move the cursor, ring, change the title of
a window, turn the direction of writing, or end the program because the encoding lacks a letter.
"""

import unicodedata
from contextlib import suppress
from typing import IO, Any

# Characters of format that change how what stands around them reads: directions, byte order, annotations.
_STEERING = {
    0x061C,
    *range(0x200E, 0x2010),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
    *range(0xFFF9, 0xFFFC),
    0xFEFF,
}
_HIDDEN = {"Cc", "Cs", "Zl", "Zp"}  # controls, lone surrogates, separators of lines and paragraphs


def printable(text: object) -> str:
    r"""Return a text on one line in which whatever could steer a terminal is written out.

    Controls become `\n` or `\x1b`, marks of direction `\u202e`, a byte of a name that is not UTF-8
    `\xff`. All other characters stay, whatever their script; so do brackets, since nothing here is markup.
    """
    whole = str(text)
    if whole.isascii() and whole.isprintable():
        return whole
    return "".join(_escaped(c) if _is_steering(c) else c for c in whole)


def fitting(text: object, stream: IO[str]) -> str:
    """Return a text that is printable, with what the encoding of a stream lacks written out too."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return printable(text).encode(encoding, "backslashreplace").decode(encoding, "replace")


def write_line(stream: IO[str] | None, text: object) -> None:
    """Write a text as one line, whatever it holds and whatever the stream's encoding is.

    Args:
        stream: where to; nothing is written where it is closed, or was never there.
        text: becomes `printable`.

    Raises:
        OSError: the system says so: the disk is full, or nobody reads the pipe (`BrokenPipeError`).
    """
    if stream is None or getattr(stream, "closed", False):
        return
    stream.write(f"{fitting(text, stream)}\n")


def write_lines(stream: IO[str] | None, text: str) -> None:
    """Write a text of several lines, each as `write_line` does."""
    for line in text.split("\n"):
        write_line(stream, line)


def tell(stream: IO[str] | None, text: object) -> None:
    """Write a line to people, if they are still there: that nobody reads it stops nothing."""
    with suppress(OSError, ValueError):
        write_line(stream, text)
        if stream is not None:
            stream.flush()


def plain_cells(row: list[str], stream: IO[str]) -> list[Any]:
    """Return the cells of a table of `rich` as texts in which nothing is markup or the name of an emoji."""
    from rich.text import Text

    return [Text(fitting(cell, stream)) for cell in row]


def _is_steering(character: str) -> bool:
    return ord(character) in _STEERING or unicodedata.category(character) in _HIDDEN


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")

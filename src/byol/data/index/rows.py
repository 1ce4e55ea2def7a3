"""The rows of a list of images: as one path a line, or as a table, in whatever form programs save these."""

import codecs
import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from byol.data.index.naming import split_of
from byol.data.index.remarks import named
from byol.errors import UserError

TABLES = (".csv", ".tsv")

_DELIMITERS = (",", ";", "\t", "|")
_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # those of UTF-8 are of three bytes
_LONGEST = 1 << 17  # characters of a cell


class Row(NamedTuple):
    """A row of a list.

    Args:
        name: a path, absolute or relative to the list's folder.
        label: of a class, of any number with | between them, or "".
        split: train, val or test.
        line: its number in the file.
    """

    name: str
    label: str
    split: str
    line: int


class Table(NamedTuple):
    """What a list holds.

    Args:
        rows: in the order of the file.
        has_several: labels may be any number.
        is_table: it has a header.
    """

    rows: list[Row]
    has_several: bool
    is_table: bool


def read_rows(file: Path) -> Table:
    """Read a list.

    Args:
        file: a table with a header if its name ends in one of `TABLES`, else a text.

    Raises:
        UserError: it cannot be read, is no text, or a row is wrong.
    """
    text = _text(file)
    if file.suffix.lower() not in TABLES:
        return Table(list(_lines(text)), has_several=False, is_table=False)
    try:
        return _table(file, text)
    except csv.Error as error:
        raise UserError(f"The list {file} is no table of cells ({error}): save it as CSV again.") from error


def _text(file: Path) -> str:
    """Return what a file of UTF-8 holds, or of UTF-16, as spreadsheets save it; other bytes are kept."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"the list {file} cannot be read: {error.strerror or error}.") from error
    if data.startswith(_MARKS):
        wide = "utf-16"
    elif b"\0" in data[:2]:
        wide = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
    else:
        wide = ""
    try:
        text = data.decode(wide) if wide else data.decode("utf-8-sig", "surrogateescape")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UserError(f"The list {file} is no text: write one image path per line.")
    return text


def _lines(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        if line.strip() and not line.startswith("#"):
            yield Row(line, "", "train", number)


def _table(file: Path, text: str) -> Table:
    csv.field_size_limit(_LONGEST)
    lines = io.StringIO(text, newline="")
    start = lines.tell()
    while (line := lines.readline()) and (not line.strip() or line.startswith(("#", "sep="))):
        start = lines.tell()
    lines.seek(start)
    delimiter = _delimiter(line)
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    header = [title.strip() for title in next(reader, [])]
    columns = {title.lower(): position for position, title in reversed(list(enumerate(header)))}
    if "path" not in columns:
        found = f"the columns {named(map(repr, header), 8)}" if any(header) else "nothing"
        raise UserError(
            f"The first line of {file} has no column 'path' but {found}: begin it with path,label,split."
        )
    before = text[:start].count("\n")
    has_several = "labels" in columns
    label, split = columns.get("labels", columns.get("label")), columns.get("split")
    rows = []
    for cells in reader:
        number = before + reader.line_num
        cells = [cell.strip() for cell in cells]
        if not any(cells):
            continue
        if len(cells) > len(header) and any(cells[len(header) :]):
            raise UserError(
                f"Line {number} of {file} has {len(cells)} cells and the first line {len(header)}: put "
                f"quotation marks around what holds a {delimiter!r}."
            )
        cells += [""] * (len(header) - len(cells))
        path, written = cells[columns["path"]], "train" if split is None else cells[split]
        meant = split_of(written)
        if not path or meant is None:
            raise UserError(
                f"Line {number} of {file} has path '{path}' and split '{written}':"
                " it needs a path, and a split out of train, val and test."
            )
        rows.append(Row(path, "" if label is None else cells[label], meant, number))
    return Table(rows, has_several, is_table=True)


def _delimiter(header: str) -> str:
    """Return what stands between the cells: that by which the header has a column 'path', or else a comma."""
    for delimiter in _DELIMITERS:
        cells = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])
        if len(cells) > 1 and "path" in [cell.strip().lower() for cell in cells]:
            return delimiter
    return ","

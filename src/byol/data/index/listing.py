"""Which images a list names: a text file with one path per line, or a table with labels and splits."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from byol.data.index.copies import copies
from byol.data.index.naming import ORDER
from byol.data.index.paths import FolderIndex, Found, cache_file, count_classes, load, stamp, write
from byol.data.index.remarks import counted, named, of_classes, of_copies
from byol.data.index.rows import TABLES, Row, Table, read_rows
from byol.errors import UserError

SUFFIXES = (".txt", *TABLES)


def index_list(file: Path, cache: Path) -> dict[str, FolderIndex]:
    """Index the images that a list names.

    Args:
        file: a text file with one path per line, or a `.csv` (or `.tsv`) whose header names the column `path`
            and perhaps `split` (train, val or test) and either `label` (name of the class) or `labels` (names
            of any number of classes with | between them, or nothing). Cells stand between commas, semicolons,
            tabs or bars; blanks around them do not count. Paths are relative to the list's folder; a line
            that begins with # is a comment. An image that is named again in the same way counts once.
        cache: folder for the cache file, valid until the time stamp of the list changes.

    Returns:
        Split -> index, each sorted by path; without a column `split` all is "train".

    Raises:
        UserError: the list is missing or empty, a row is wrong, an image has two labels, or files it names
            are missing.
    """
    file = file.resolve()
    if not file.is_file():
        raise UserError(f"there is no list at {file}.")
    cached = cache_file(cache, "list", file)
    if (kept := load(cached)) is not None:
        return kept
    stamps = {str(file): stamp(file.stat())}
    table = read_rows(file)
    if not table.rows:
        raise UserError(f"The list {file} is empty: write one image path per line.")
    rows = _present(file, table)
    once = _once(file, rows, has_several=table.has_several)
    found = {}
    for split in sorted({row.split for row in once}, key=ORDER.index):
        names, labels = zip(*sorted((row.name, row.label) for row in once if row.split == split), strict=True)
        if any(labels) and not all(labels) and not table.has_several:
            raise UserError(
                f"{labels.count('')} of the {len(labels)} rows of split '{split}' in {file} have no label:"
                " give one to all of them or to none."
            )
        found[split] = Found(names, labels if table.has_several or all(labels) else None, table.has_several)
    return write(cached, file.parent, stamps, found, _notes(file, found, len(rows) - len(once)))


def _notes(file: Path, found: dict[str, Found], repeated: int) -> list[str]:
    counts = count_classes(found)
    notes = of_classes(sorted(counts), counts)
    if list(found) != ["train"]:
        parts = (f"{split} ({counted(len(part.names), 'image')})" for split, part in found.items())
        notes.append(f"{counted(len(found), 'split')}: {', '.join(parts)}.")
    if repeated:
        notes.append(f"{counted(repeated, 'row names', 'rows name')} an image again, which counts once.")
    for names, labels, has_several in found.values():
        if labels is not None and not has_several:
            notes += of_copies(copies(file.parent, names, labels), "in two classes")
    return notes


def _present(file: Path, table: Table) -> list[Row]:
    """Return the rows with the names by which their files are found.

    Raises:
        UserError: some are missing, are folders, or are no files of another kind.
    """
    folder = str(file.parent)
    rows: list[Row] = []
    missing: list[str] = []
    folders: list[str] = []
    odd: list[str] = []
    for row in table.rows:
        name, kind = next(_tried(folder, row.name, is_table=table.is_table), (row.name, 0))
        if stat.S_ISREG(kind):
            rows.append(row if name == row.name else row._replace(name=name))
        else:
            (folders if stat.S_ISDIR(kind) else odd if kind else missing).append(row.name.strip())
    if missing:
        raise UserError(
            f"The list {file} names {counted(len(missing), 'file that does', 'files that do')} not exist, "
            f"the first of them {named(missing)}: its paths are relative to {file.parent}"
            f"{_hint(folder, missing[0], table)}."
        )
    if folders:
        raise UserError(
            f"The list {file} names {counted(len(folders), 'folder')}, the first of them {named(folders)}: "
            "name the images in them, or give a folder as the data."
        )
    if odd:
        raise UserError(
            f"The list {file} names {len(odd)} that are no files but pipes or devices: {named(odd)}."
        )
    return rows


def _tried(folder: str, name: str, *, is_table: bool) -> Iterator[tuple[str, int]]:
    """Yield name and mode of files that are there: as it is written, or as it can have been meant."""
    bare = name.strip()
    forms = [bare] if is_table else [bare, name]
    if len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "'\"":
        forms.append(bare[1:-1])
    forms += [form.replace("\\", "/") for form in forms if "\\" in form]
    forms += [os.path.expanduser(form) for form in forms if form.startswith("~")]  # noqa: PTH111 - never raises
    for form in forms:
        try:
            yield form, os.stat(os.path.join(folder, form)).st_mode  # noqa: PTH116, PTH118 - a million of them
        except (OSError, ValueError):
            continue


def _hint(folder: str, name: str, table: Table) -> str:
    """Return what else is to be said of a missing file of a text list whose lines hold more than paths."""
    if table.is_table:
        return ""
    for mark in ("\t", ";", ",", " "):
        path, _, label = name.partition(mark) if mark != " " else name.rpartition(mark)
        if label.strip() and next(_tried(folder, path, is_table=False), None):
            return (
                f"; {label.strip()!r} behind a path is read in a table alone, whose name ends in .csv and "
                "whose first line is path,label"
            )
    return ""


def _once(file: Path, rows: list[Row], *, has_several: bool) -> list[Row]:
    """Return each image of a split once.

    Raises:
        UserError: one has two labels.
    """
    folder, first, once = str(file.parent), dict[str, Row](), dict[tuple[str, str], Row]()
    doubtful = []
    for row in rows:
        is_plain = row.name[0] not in "./" and "/." not in row.name and "//" not in row.name
        place = f"{folder}/{row.name}"
        if not is_plain:
            place = os.path.normpath(os.path.join(folder, row.name))  # noqa: PTH118 - a million of them
        before = first.setdefault(place, row)
        if before.label != row.label and ((before.label and row.label) or before.split == row.split):
            doubtful.append((before, row))
        once.setdefault((row.split, place), row)
    if doubtful:
        one, two = doubtful[0]
        remedy = (
            "write one row an image"
            if has_several
            else f"keep one of them, or write one row an image with the column 'labels', here "
            f"'{one.label}|{two.label}', if images may have several labels"
        )
        raise UserError(
            f"The list {file} gives {counted(len(doubtful), 'image')} two labels, the first of them "
            f"{one.name} in the lines {one.line} ('{one.label}') and {two.line} ('{two.label}'): {remedy}."
        )
    return list(once.values())

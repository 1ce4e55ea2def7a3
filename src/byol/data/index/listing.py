"""Which images a list names: a text file with one path per line, or a CSV with labels and splits."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from byol.data.index.naming import ORDER, split_of
from byol.data.index.paths import FolderIndex, Found, cache_file, load, stamp, write
from byol.errors import UserError


def index_list(file: Path, cache: Path) -> dict[str, FolderIndex]:
    """Index the images that a list names.

    Args:
        file: a text file with one path per line, or a `.csv` whose header names the column `path` and perhaps
            `split` (train, val or test) and either `label` (name of the class) or `labels` (names of any
            number of classes with | between them, or nothing). Paths are relative to its folder.
        cache: folder for the cache file, valid until the time stamp of the list changes.

    Returns:
        Split -> index, each sorted by path; without a column `split` all is "train".

    Raises:
        UserError: the list is missing or empty, a row is wrong, or files it names are missing.
    """
    file = file.resolve()
    if not file.is_file():
        raise UserError(f"there is no list at {file}.")
    cached = cache_file(cache, "list", file)
    if (kept := load(cached)) is not None:
        return kept
    stamps = {str(file): stamp(file.stat())}
    is_csv = file.suffix.lower() == ".csv"
    has_several = is_csv and "labels" in _header(file)
    rows = sorted(_read_csv(file) if is_csv else _read_text(file))
    if not rows:
        raise UserError(f"The list {file} is empty: write one image path per line.")
    missing = [row.name for row in rows if not Path(file.parent, row.name).is_file()]
    if missing:
        raise UserError(
            f"The list {file} names {len(missing)} files that do not exist, the first of them {missing[0]}:"
            f" its paths are relative to {file.parent}."
        )
    found = {}
    for split in sorted({row.split for row in rows}, key=ORDER.index):
        names, labels = zip(*((row.name, row.label) for row in rows if row.split == split), strict=True)
        if any(labels) and not all(labels) and not has_several:
            raise UserError(
                f"{labels.count('')} of the {len(labels)} rows of split '{split}' in {file} have no label:"
                " give one to all of them or to none."
            )
        found[split] = Found(names, labels if has_several or all(labels) else None, has_several)
    return write(cached, file.parent, stamps, found)


class _Row(NamedTuple):
    name: str
    label: str
    split: str


def _read_text(file: Path) -> Iterator[_Row]:
    with file.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
        for line in lines:
            if name := line.strip():
                yield _Row(name, "", "train")


def _read_csv(file: Path) -> Iterator[_Row]:
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        reader = csv.DictReader(lines, restval="", skipinitialspace=True)
        if "path" not in (reader.fieldnames or ()):
            raise UserError(f"The first line of {file} has no column 'path': begin it with path,label,split.")
        for row in reader:
            split = row.get("split", "train")
            meant = split_of(split)
            if not row["path"] or meant is None:
                raise UserError(
                    f"Line {reader.line_num} of {file} has path '{row['path']}' and split '{split}':"
                    " it needs a path, and a split out of train, val and test."
                )
            yield _Row(row["path"], row.get("labels", row.get("label", "")), meant)


def _header(file: Path) -> Sequence[str]:
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        return csv.DictReader(lines, skipinitialspace=True).fieldnames or ()

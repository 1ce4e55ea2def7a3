"""Which images a folder or a list names, in one fixed order.

An index is kept in a cache file that every process maps into memory: loader workers share its pages, and a
list of a million strings lives no longer than it takes to write the file. A split has N images.
"""

import csv
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from byol.data.image.decode import Decoded, Jpeg, UndecodableImage, opened
from byol.data.index.mapped import Names, map_array
from byol.errors import UserError
from byol.system.files import whole_file

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

_ORDER = ("train", "val", "test")
_FORMAT = 2  # raise it whenever the layout of the cache file changes
_CLOCK_NS = 2_000_000_000  # tick of the coarsest file system clock (FAT)
_UNKNOWN = -1  # a stamp that no file has


@dataclass(frozen=True, eq=False)
class Index:
    """The images of one split: paths in a mapped cache file, and their classes where the folders name them.

    Pickled, it is the name of its cache file and no more, so it costs nothing to send to a worker.

    Args:
        root: the folder that names are relative to.
        labels: (N,) int64, numbers of `classes`; (N, C) int64 of 0 and 1 where a list gives an image any
            number of labels; None for images without classes.
        classes: names of the C classes, sorted, the same for every labelled split; empty without labels.
        fingerprint: hex digest of the root, the names and the labels.
    """

    root: str
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    fingerprint: str
    _file: Path
    _split: str
    _names: Names

    def __len__(self) -> int:
        return len(self._names)

    def name(self, i: int) -> str:
        """Return the path of image i relative to the root."""
        return self._names[i]

    def path(self, i: int) -> str:
        """Return the absolute path of image i."""
        return os.path.join(self.root, self.name(i))  # noqa: PTH118 - a Path takes three times as long

    def bytes(self, i: int) -> bytes:
        """Return what the file of image i holds."""
        return Path(self.path(i)).read_bytes()

    def open(self, i: int) -> Decoded | Jpeg:
        """Return image i with its size known.

        Raises:
            UndecodableImage: the file is missing or no image.
        """
        try:
            data = self.bytes(i)
        except OSError as error:
            raise UndecodableImage(f"the file cannot be read: {error}") from error
        return opened(data)

    def stamps(self) -> NDArray[np.int64]:
        """Return size and time stamp of each file (N, 2), which change when it does; -1 if there is none."""
        stamps = np.full((len(self), 2), -1, np.int64)
        for i in range(len(self)):
            with suppress(OSError):
                status = os.stat(self.path(i))  # noqa: PTH116 - a Path takes twice as long
                stamps[i] = status.st_size, status.st_mtime_ns
        return stamps

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._file, self._split, self.fingerprint)


def index_folder(root: Path, cache: Path) -> Index:
    """Index all images below a folder as one set.

    Sub-folders directly below it are classes if every image lies in one and there are at least two of them.

    Args:
        root: the folder, flat or nested. Hidden names and `__MACOSX` are ignored.
        cache: folder for the cache file, valid until the time stamp of a directory below the root changes.

    Returns:
        The images sorted by relative path.

    Raises:
        UserError: there is no such folder, or no image in it.
    """
    return _index(root, cache, by_split=False)["train"]


def index_splits(root: Path, cache: Path) -> dict[str, Index]:
    """Index the images below a folder by its splits: `train`, `val` (`valid`, `validation`) and `test`.

    Folders of these names are splits when there are two of them, or one that holds every image; other folders
    beside them are then ignored. A folder without splits is all "train". Classes are found in each split as
    by `index_folder`, and a class has the same number in all of them.

    Args:
        root: the folder.
        cache: folder for the cache file, as for `index_folder`.

    Returns:
        Split -> index. Splits without images are left out.

    Raises:
        UserError: there is no such folder, no image in it, or two folders for one split.
    """
    return _index(root, cache, by_split=True)


def index_list(file: Path, cache: Path) -> dict[str, Index]:
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
        raise UserError(f"There is no list at {file}.")
    cache_file = _cache_file(cache, "list", file)
    if (kept := _load(cache_file)) is not None:
        return kept
    stamps = {str(file): _stamp(file.stat())}
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
    for split in sorted({row.split for row in rows}, key=_ORDER.index):
        names, labels = zip(*((row.name, row.label) for row in rows if row.split == split), strict=True)
        if any(labels) and not all(labels) and not has_several:
            raise UserError(
                f"{labels.count('')} of the {len(labels)} rows of split '{split}' in {file} have no label:"
                " give one to all of them or to none."
            )
        found[split] = _Found(names, labels if has_several or all(labels) else None, has_several)
    return _write(cache_file, file.parent, stamps, found)


class _Found(NamedTuple):
    """The images of one split, sorted, and the class of each, or classes with | between them."""

    names: Sequence[str]
    labels: Sequence[str] | None
    has_several: bool = False


class _Row(NamedTuple):
    name: str
    label: str
    split: str


def _index(root: Path, cache: Path, by_split: bool) -> dict[str, Index]:
    root = root.resolve()
    if not root.is_dir():
        raise UserError(f"There is no folder at {root}.")
    cache_file = _cache_file(cache, "splits" if by_split else "folder", root)
    if (kept := _load(cache_file)) is not None:
        return kept
    names, stamps = _walk(root)
    if not names:
        raise UserError(f"The folder {root} holds no image: their names end in {', '.join(SUFFIXES)}.")
    found = {}
    for split, folder in (_split_folders(root, names) if by_split else {"train": ""}).items():
        inside = [name for name in names if name.startswith(folder)]
        found[split] = _Found(inside, _labels(inside, len(folder)))
    return _write(cache_file, root, stamps, found)


def _walk(root: Path) -> tuple[list[str], dict[str, int]]:
    """Return the sorted names of all images below a folder, and the time stamp of every directory."""
    names: list[str] = []
    stamps: dict[str, int] = {}
    visited = set()
    pending = [""]  # relative directories, each ending in a slash
    while pending:
        folder = pending.pop()
        path = f"{root}/{folder}"
        status = Path(path).stat()
        if (status.st_dev, status.st_ino) in visited:
            continue  # a link back up would lead round for ever
        visited.add((status.st_dev, status.st_ino))
        stamps[path] = _stamp(status)
        below = []
        with os.scandir(path) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith(".") or name == "__MACOSX":
                    continue
                if entry.is_dir():
                    below.append(f"{folder}{name}/")
                elif name[name.rfind(".") :].lower() in SUFFIXES:
                    names.append(folder + name)
        pending += sorted(below, reverse=True)
    return sorted(names), stamps


def _split_folders(root: Path, names: list[str]) -> dict[str, str]:
    """Return split -> its folder, ending in a slash; the folders at the top may be no splits."""
    tops = dict.fromkeys(name[: name.find("/") + 1] for name in names)  # "" for an image at the top
    folders = [top for top in tops if top[:-1].lower() in SPLITS]
    if len(folders) < 2 and folders != list(tops):
        return {"train": ""}
    splits: dict[str, str] = {}
    for folder in folders:
        split = SPLITS[folder[:-1].lower()]
        if split in splits:
            raise UserError(
                f"The folder {root} has {splits[split]} and {folder} for one split, '{split}':"
                " keep one of them."
            )
        splits[split] = folder
    return {split: splits[split] for split in _ORDER if split in splits}


def _labels(names: list[str], start: int) -> list[str] | None:
    """Return the folder that each name lies in, read from position `start` on, where these are classes."""
    labels = [name[start : max(name.find("/", start), start)] for name in names]
    return labels if len(set(labels)) > 1 and "" not in labels else None


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
            if not row["path"] or split.lower() not in SPLITS:
                raise UserError(
                    f"Line {reader.line_num} of {file} has path '{row['path']}' and split '{split}':"
                    " it needs a path, and a split out of train, val and test."
                )
            yield _Row(row["path"], row.get("labels", row.get("label", "")), SPLITS[split.lower()])


def _header(file: Path) -> Sequence[str]:
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        return csv.DictReader(lines, skipinitialspace=True).fieldnames or ()


def _several(label: str) -> list[str]:
    """Return the names that stand between the bars."""
    return [name.strip() for name in label.split("|") if name.strip()]


def _stamp(status: os.stat_result) -> int:
    # What changed a moment ago can change again without its time stamp moving, so that one is not trusted.
    return status.st_mtime_ns if time.time_ns() - status.st_mtime_ns > _CLOCK_NS else _UNKNOWN


def _cache_file(cache: Path, kind: str, source: Path) -> Path:
    key = hashlib.sha256(os.fsencode(f"{_FORMAT}\0{kind}\0{source}")).hexdigest()[:16]
    return cache.expanduser().resolve() / f"{source.name}-{key}.index"


def _write(file: Path, root: Path, stamps: dict[str, int], found: dict[str, _Found]) -> dict[str, Index]:
    classes = sorted(
        {
            name
            for split in found.values()
            for label in split.labels or ()
            for name in (_several(label) if split.has_several else [label])
        }
    )
    number = {label: i for i, label in enumerate(classes)}
    header: dict[str, Any] = {"root": str(root), "stamps": stamps, "classes": classes, "splits": {}}
    arrays: list[NDArray[Any]] = []
    for split, (names, labels, has_several) in found.items():
        mapped = Names.of(names)
        parts: list[NDArray[Any]] = [mapped.offsets, mapped.letters]
        if labels is not None and has_several:
            among = np.zeros((len(labels), len(classes)), np.int64)
            for row, label in zip(among, labels, strict=True):
                row[[number[name] for name in _several(label)]] = 1
            parts.append(among)
        elif labels is not None:
            parts.append(np.array([number[label] for label in labels], np.int64))
        digest = hashlib.sha256(json.dumps([str(root), classes]).encode())
        for part in parts:
            digest.update(part.data)
        header["splits"][split] = (digest.hexdigest(), labels is not None)
        arrays += parts
    with whole_file(file) as stream:
        np.save(stream, np.frombuffer(json.dumps(header).encode(), np.uint8))
        for array in arrays:
            np.save(stream, array)
    return _read(file)[1]


def _read(file: Path) -> tuple[dict[str, int], dict[str, Index]]:
    """Map a cache file: the time stamps it rests on, and split -> index."""
    with file.open("rb") as stream:
        header = json.loads(map_array(stream).tobytes())
        splits = {}
        for split, (fingerprint, labelled) in header["splits"].items():
            names = Names(map_array(stream), map_array(stream))
            labels, classes = (map_array(stream), tuple(header["classes"])) if labelled else (None, ())
            splits[split] = Index(header["root"], labels, classes, fingerprint, file, split, names)
    return header["stamps"], splits


def _load(file: Path) -> dict[str, Index] | None:
    """Return what a cache file holds; None where there is none, or something has changed since."""
    try:
        stamps, splits = _read(file)
        is_fresh = all(Path(path).stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    except (OSError, ValueError):  # no such file, one cut short, or a directory that has gone
        return None
    return splits if is_fresh else None


def _reopen(file: Path, split: str, fingerprint: str) -> Index:
    index = _read(file)[1].get(split)
    if index is None or index.fingerprint != fingerprint:
        raise UserError(f"The images below {file.stem} changed while they were being read: start again.")
    return index

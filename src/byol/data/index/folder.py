"""Which images lie below a folder, in one fixed order: splits and classes by the names of its folders."""

import os
from pathlib import Path

from byol.data.index.paths import ORDER, SPLITS, FolderIndex, Found, cache_file, load, stamp, write
from byol.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def index_folder(root: Path, cache: Path) -> FolderIndex:
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


def index_splits(root: Path, cache: Path) -> dict[str, FolderIndex]:
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


def _index(root: Path, cache: Path, by_split: bool) -> dict[str, FolderIndex]:
    root = root.resolve()
    if not root.is_dir():
        raise UserError(f"there is no folder at {root}.")
    cached = cache_file(cache, "splits" if by_split else "folder", root)
    if (kept := load(cached)) is not None:
        return kept
    names, stamps = _walk(root)
    if not names:
        raise UserError(f"The folder {root} holds no image: their names end in {', '.join(SUFFIXES)}.")
    found = {}
    for split, folder in (_split_folders(root, names) if by_split else {"train": ""}).items():
        inside = [name for name in names if name.startswith(folder)]
        found[split] = Found(inside, _labels(inside, len(folder)))
    return write(cached, root, stamps, found)


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
        stamps[path] = stamp(status)
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
    return {split: splits[split] for split in ORDER if split in splits}


def _labels(names: list[str], start: int) -> list[str] | None:
    """Return the folder that each name lies in, read from position `start` on, where these are classes."""
    labels = [name[start : max(name.find("/", start), start)] for name in names]
    return labels if len(set(labels)) > 1 and "" not in labels else None

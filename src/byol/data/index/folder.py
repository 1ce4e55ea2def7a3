"""Which images lie below a folder, in one fixed order: splits and classes by the names of its folders."""

from collections import Counter
from pathlib import Path

from byol.data.index.copies import copies
from byol.data.index.naming import ORDER, split_of
from byol.data.index.paths import UNKNOWN, FolderIndex, Found, cache_file, count_classes, load, write
from byol.data.index.remarks import of_classes, of_copies, of_labels, of_splits, of_walk
from byol.data.index.walking import SUFFIXES, Walked, walk
from byol.errors import UserError


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
    """Index the images below a folder by its splits: train, val and test.

    Folders of these names, or of others that mean the same (see `split_of`), are splits when there are two of
    them, or one that holds every image; other folders beside them are then left out. A folder without splits
    is all "train". Classes are found in each split as by `index_folder`, and a class has the same number in
    all of them.

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
    kind = "splits" if by_split else "folder"
    cached = cache_file(cache, f"{kind} {' '.join(SUFFIXES)}", root)  # an extra reads more
    if (kept := load(cached)) is not None:
        return kept
    walked = walk(root)
    names = walked.names
    if not names:
        raise UserError(_no_image(root, walked))
    splits = _split_folders(root, names) if by_split else {"train": ""}
    found = {}
    for split, folder in splits.items():
        inside = [name for name in names if name.startswith(folder)] if folder else names
        found[split] = Found(inside, _labels(inside, len(folder)))
    # What cannot be read may become readable without a change of any time stamp, so it is looked for again.
    stamps = walked.stamps if not (walked.closed or walked.broken) else {**walked.stamps, str(root): UNKNOWN}
    return write(cached, root, stamps, found, _notes(root, walked, splits, found))


def _no_image(root: Path, walked: Walked) -> str:
    """Return the sentence that is said where there is nothing to learn from."""
    why = " ".join(of_walk(walked)) or "it is empty."
    return f"The folder {root} holds no image (their names end in {', '.join(SUFFIXES)}): {why}"


def _notes(root: Path, walked: Walked, splits: dict[str, str], found: dict[str, Found]) -> list[str]:
    """Return what a person has to know of what was found."""
    counts = count_classes(found)
    notes = of_classes(sorted(counts), counts) + of_splits(splits, found, _left_out(walked.names, splits))
    for split, (names, labels, _) in found.items():
        notes += of_labels(splits[split], names, labels is not None, walked.folders)
        if labels is not None:
            notes += of_copies(copies(root, names, labels), "in two classes")
        else:
            notes += of_copies(
                copies(root, names, [name[: name.rfind("/") + 1] for name in names]), "there twice"
            )
    return notes + of_walk(walked)


def _left_out(names: list[str], splits: dict[str, str]) -> Counter[str]:
    """Return how many images each folder at the top holds that is no split; "" holds those at the top."""
    folders = tuple(splits.values())
    if "" in folders:
        return Counter()
    return Counter(name[: name.find("/") + 1] for name in names if not name.startswith(folders))


def _split_folders(root: Path, names: list[str]) -> dict[str, str]:
    """Return split -> its folder, ending in a slash; the folders at the top may be no splits."""
    tops = dict.fromkeys(name[: name.find("/") + 1] for name in names)  # "" for an image at the top
    folders = [top for top in tops if split_of(top[:-1])]
    if len(folders) < 2 and folders != list(tops):
        return {"train": ""}
    splits: dict[str, str] = {}
    for folder in folders:
        split = split_of(folder[:-1])
        assert split is not None
        if split in splits:
            raise UserError(
                f"The folder {root} has {splits[split]} and {folder} for one split, '{split}':"
                " keep one of them, or put both into a folder of another name."
            )
        splits[split] = folder
    return {split: splits[split] for split in ORDER if split in splits}


def _labels(names: list[str], start: int) -> list[str] | None:
    """Return the folder that each name lies in, read from position `start` on, where these are classes."""
    labels = [name[start : max(name.find("/", start), start)] for name in names]
    return labels if len(set(labels)) > 1 and "" not in labels else None

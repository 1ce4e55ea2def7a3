"""What a person has to know of how a set was found: classes, splits, what was left out, likely mistakes."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from byol.data.index.naming import is_of_masks, is_of_pictures, split_of
from byol.data.index.paths import Found
from byol.data.index.walking import HEIC, READS_HEIC, Walked

NO_LABELS = "there are no labels"  # how the sentence that names the cause begins

_MANY = 8  # names that are written out
_FEW = 3
_LONGEST = 60  # characters of a name that are written out
_PAIRS = 24  # most folders that are compared with each other


def named(names: Iterable[str], at_most: int = _FEW) -> str:
    """Return some names in a sentence: "a, b and 4 others", long ones shortened."""
    every = list(names)
    shown = [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 3]}..." for name in every[:at_most]]
    rest = len(every) - at_most
    return ", ".join(shown) + (f" and {rest:,} {'other' if rest == 1 else 'others'}" if rest > 0 else "")


def counted(count: int, one: str, several: str = "") -> str:
    """Return a number and what it is of: "1 file", "12 files"."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def of_classes(classes: Sequence[str], counts: Mapping[str, int]) -> list[str]:
    """Return what is to be said of the classes of a set.

    Args:
        classes: their names, sorted.
        counts: images of each, in all splits together.
    """
    if not classes:
        return []
    notes = [f"{counted(len(classes), 'class', 'classes')}: {named(classes, _MANY)}."]
    if single := [name for name in classes if counts[name] == 1]:
        notes.append(f"{counted(len(single), 'class has', 'classes have')} one image alone: {named(single)}.")
    folded: defaultdict[str, list[str]] = defaultdict(list)
    for name in classes:
        folded[" ".join(name.casefold().split())].append(name)
    for same in [same for same in folded.values() if len(same) > 1][:_FEW]:
        notes.append(
            f"the classes {' and '.join(map(repr, same))} differ by case or blanks alone: are they the same?"
        )
    return notes


def of_splits(
    splits: Mapping[str, str], found: Mapping[str, Found], left_out: Mapping[str, int]
) -> list[str]:
    """Return what is to be said of the splits of a folder.

    Args:
        splits: split -> its folder, ending in a slash; "" is the whole.
        found: split -> images.
        left_out: folder beside them -> number of images in it that belong to no split.
    """
    if list(splits.values()) == [""]:
        return []
    parts = [f"{split} ({counted(len(found[split].names), 'image')} in {splits[split]})" for split in splits]
    notes = [f"{counted(len(parts), 'split')}: {', '.join(parts)}."]
    if left_out:
        count = sum(left_out.values())
        beside = named(folder or "files beside them" for folder in left_out)
        notes.append(f"{counted(count, 'image')} outside of these splits {_are(count)} left out: {beside}.")
    return notes


def of_walk(walked: Walked) -> list[str]:
    """Return what was left out on the way through a folder."""
    notes = []
    if walked.passed_over:
        notes.append(passed_over_of(walked.passed_over))
    for names, one, several in (
        (walked.broken, "link leads nowhere", "links lead nowhere"),
        (
            walked.special,
            "entry is no file but a pipe or a device",
            "entries are no files but pipes or devices",
        ),
        (walked.closed, "folder cannot be read", "folders cannot be read"),
        (walked.again, "folder is a link to one that was read", "folders are links to ones that were read"),
    ):
        if names:
            notes.append(f"{counted(len(names), one, several)}: {named(sorted(names))}.")
    return notes


def passed_over_of(suffixes: Mapping[str, int]) -> str:
    """Return how many files are no images by their names: suffix -> number."""
    most = sorted(suffixes.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{count:,} {name or 'without a suffix'}" for name, count in most[:_MANY]]
    if rest := sum(count for _, count in most[_MANY:]):
        shown.append(f"{rest:,} others")
    how = "" if READS_HEIC or not HEIC & suffixes.keys() else "; HEIC is read after pip install 'byol[heic]'"
    return f"{counted(sum(suffixes.values()), 'file')} passed over: {', '.join(shown)}{how}."


def of_copies(pairs: Sequence[tuple[str, str]], where: str) -> list[str]:
    """Return what is to be said of images that are in two classes, or in two folders."""
    return [
        f"{counted(len(pairs), 'image is', 'images are')} {where}, byte for byte: {one} is {two}, for one."
        for one, two in pairs[:1]
    ]


def of_labels(folder: str, names: Sequence[str], has_labels: bool, folders: Sequence[str]) -> list[str]:
    """Return why images of a split have no labels, or what is odd about their classes.

    Args:
        folder: of the split, ending in a slash; "" is the whole.
        names: of its images, sorted.
        has_labels: whether the folders below it are classes.
        folders: all that there are, whether they hold images or not.
    """
    start = len(folder)
    where = f" in {folder}" if folder else ""
    inside: defaultdict[str, list[str]] = defaultdict(list)  # class, or "" for loose ones -> names in it
    for name in names:
        slash = name.find("/", start)
        inside[name[start:slash] if slash >= 0 else ""].append(name[slash + 1 if slash >= 0 else start :])
    loose, classes = inside.pop("", []), sorted(inside)
    if not has_labels:
        return _no_labels(folder, where, loose, classes, inside)
    notes = []
    depth = folder.count("/") + 1
    tops = {one[start:-1] for one in folders if one.startswith(folder) and one.count("/") == depth}
    if empty := sorted(tops - set(classes)):
        notes.append(
            f"{counted(len(empty), 'folder holds', 'folders hold')} no image{where}: {named(empty)}."
        )
    return notes + _mistakes(where, classes, inside)


def _no_labels(
    folder: str, where: str, loose: list[str], classes: list[str], inside: Mapping[str, list[str]]
) -> list[str]:
    if loose and classes:
        them, lie = ("it", "lies") if len(loose) == 1 else ("them", "lie")
        return [
            f"{NO_LABELS}{where}, as {named(folder + name for name in loose)} {lie} beside the folders "
            f"{named(classes)}: move {them} into one of these or elsewhere."
        ]
    if len(classes) == 1:
        deeper = {name.split("/")[0] for name in inside[classes[0]] if "/" in name}
        only = f"{folder}{classes[0]}"
        remedy = (
            f"; if the folders in it are the classes or splits, give {only} as the data" if deeper else ""
        )
        return [f"{NO_LABELS}{where}, as all images lie in the one folder {only}{remedy}."]
    return []


def _mistakes(where: str, classes: list[str], inside: Mapping[str, list[str]]) -> list[str]:
    """Return what looks like folders that are no classes."""
    nested = {one: {name.split("/")[0] for name in inside[one] if "/" in name} for one in classes}
    deep = [one for one in classes if nested[one]]
    first = nested[classes[0]]
    if len(first) > 1 and all(nested[one] == first for one in classes):
        return [
            f"the folders {named(classes)}{where} are taken for classes, and each holds folders of the same "
            f"names, {named(sorted(first))}: if these are the classes, call the others train, val or test."
        ]
    notes = []
    if deep:
        some = f"{deep[0]}/{min(nested[deep[0]])}"
        notes.append(f"folders inside of classes{where}, such as {some}, are no classes of their own.")
    masks = [one for one in classes if is_of_masks(one)]
    pictures = [one for one in classes if is_of_pictures(one)]
    stems = {one: {_stem(name) for name in inside[one]} for one in classes} if len(classes) <= _PAIRS else {}
    if masks and (pictures or any(_share(stems, one, two) for one in masks for two in stems if two != one)):
        notes.append(
            f"{' and '.join(masks)}{where} {'seems' if len(masks) == 1 else 'seem'} to hold masks of the "
            f"pictures in {named(pictures or [one for one in classes if one not in masks])}, and "
            f"{'is' if len(masks) == 1 else 'are'} taken for a class of pictures: give the folder of the "
            "pictures alone."
        )
    elif len(classes) == 2 and _share(stems, *classes) and _suffixes(inside, *classes):
        notes.append(
            f"the images in {classes[0]} and {classes[1]}{where} have the same names and other suffixes: if "
            "one are masks of the other, give the folder of the pictures alone."
        )
    if splits := [one for one in classes if split_of(one)]:
        others = named(one for one in classes if one not in splits)
        how = (
            "a class and no split, as it stands"
            if len(splits) == 1
            else "classes and no splits, as they stand"
        )
        notes.append(f"{named(splits)}{where} {_are(len(splits))} taken for {how} beside {others}.")
    return notes


def _share(stems: Mapping[str, set[str]], one: str, two: str) -> bool:
    """Return whether nearly all images of the smaller of two folders have their like in the other."""
    if one not in stems or two not in stems:
        return False
    return len(stems[one] & stems[two]) >= 0.9 * min(len(stems[one]), len(stems[two])) > 0


def _suffixes(inside: Mapping[str, list[str]], one: str, two: str) -> bool:
    ours, theirs = (Counter(name[name.rfind(".") :].lower() for name in inside[side]) for side in (one, two))
    return not ours.keys() & theirs.keys()


def _stem(name: str) -> str:
    """Return a name without its suffix, and without "_mask" and the like behind it."""
    stem = name[: name.rfind(".")]
    head, _, tail = stem.rpartition("_")
    return head if head and is_of_masks(tail) else stem


def _are(count: int) -> str:
    return "is" if count == 1 else "are"

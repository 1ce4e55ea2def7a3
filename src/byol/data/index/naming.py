"""What the names of folders and columns say: which split they mean, and what looks like a mistake."""

import re

ORDER = ("train", "val", "test")

_WORDS = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "validate", "dev", "development", "eval", "evaluation"),
    "test": ("test", "tests", "testing", "tst", "holdout", "heldout"),
}
_SPLITS = {word: split for split, words in _WORDS.items() for word in words}
_ENDING = re.compile(r"(sets?|split|data|images?|imgs?|pictures|photos)$")
_YEAR = re.compile(r"(19|20)\d\d$")
_BETWEEN = re.compile(r"[\s_.()-]+")

_MASKS = {"mask", "label", "annotation", "segmentation", "seg", "gt", "groundtruth", "trimap", "depth"}
_MASKS |= {"edge", "contour", "outline", "heatmap", "saliency", "instance", "semantic", "target"}
_PICTURES = {"image", "img", "picture", "photo", "input", "original", "rgb", "jpegimage", "frame", "raw"}


def split_of(name: str) -> str | None:
    """Return the split that a name means, train, val or test; None if it means none.

    Case, blanks and dashes do not count, nor do a year and words such as "set" and "images" behind it.
    """
    word = _YEAR.sub("", _BETWEEN.sub("", name.casefold()))
    return _SPLITS.get(word) or _SPLITS.get(_ENDING.sub("", word))


def is_of_masks(name: str) -> bool:
    """Return whether a folder seems to hold masks or other labels in the form of images."""
    return _word(name) in _MASKS or _word(name).endswith(("mask", "annotation", "groundtruth"))


def is_of_pictures(name: str) -> bool:
    """Return whether a folder seems to hold pictures of all kinds, and not those of a class."""
    return _word(name) in _PICTURES


def _word(name: str) -> str:
    word = _BETWEEN.sub("", name.casefold())
    return word if len(word) < 5 else word.removesuffix("s")

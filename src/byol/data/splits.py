"""The splits of a set: which of them is learned from, and what is known of them all."""

from collections.abc import Mapping, Sized
from typing import Protocol, TypeVar

from byol.errors import UserError
from byol.system.progress import Progress

Set = TypeVar("Set", bound=Sized)


class Noted(Sized, Protocol):
    """What was found with notes of how it was found: images, or an index of them."""

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence each, in all splits alike."""
        ...


def to_learn_from(sets: Mapping[str, Set]) -> tuple[str, Set]:
    """Return the name and the images of the split to learn from: train, or else the only one there is.

    Args:
        sets: split -> images, one split or more.

    Raises:
        UserError: there are several splits, and none of them is train; or there is one image.
    """
    if "train" not in sets and len(sets) > 1:
        raise UserError(
            f"the images have the splits {' and '.join(sets)}, and none to learn from: call one of them "
            "train, or give the folder or the list of one of them alone."
        )
    split = "train" if "train" in sets else next(iter(sets))
    if len(sets[split]) < 2:
        raise UserError(
            f"there is {len(sets[split])} image to learn from, and 2 are needed: give a folder, a list or an "
            "archive of 2 images or more."
        )
    return split, sets[split]


def known_of(sets: Mapping[str, Noted], *, learns: bool = False) -> list[str]:
    """Return what a person has to know of a set before the first step, each sentence once.

    Args:
        sets: split -> images.
        learns: images are going to be learned from, so it is said if these are not those of train.
    """
    notes = list(dict.fromkeys(note for images in sets.values() for note in images.notes))
    if learns and (split := to_learn_from(sets)[0]) != "train":
        notes.append(f"there is no split train, so the images of {split}, the only one, are learned from.")
    return notes


def say_notes(sets: Mapping[str, Noted], progress: Progress, *, learns: bool = False) -> None:
    """Say what `known_of` returns."""
    for note in known_of(sets, learns=learns):
        progress.say(f"note: {note}")

"""What an encoder is judged on: labelled images to learn from, labelled images to be judged by."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from byol.data.image.depth import PixelRange
from byol.data.images import Images
from byol.data.index.remarks import NO_LABELS
from byol.data.opening import Data, open_data
from byol.data.splits import known_of
from byol.errors import UserError
from byol.evaluate.metrics import Metric, Scores
from byol.evaluate.scoring import OneLabel, Scoring, SeveralLabels
from byol.evaluate.statistics import Indices
from byol.system.digest import digest


@dataclass(frozen=True, eq=False)
class Labelled:
    """Some images of a set, with their labels.

    Args:
        images: the set.
        index: (N,) which of its images.
        labels: (N,) int64, numbers of the task's classes; (N, C) of 0 and 1 where an image has any number of
            labels.
    """

    images: Images
    index: Indices
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.index)

    def take(self, positions: Indices) -> "Labelled":
        """Return those at some positions (M,) in [0, N)."""
        return Labelled(self.images, self.index[positions], self.labels[positions])


@dataclass(frozen=True, eq=False)
class Task:
    """A labelled set with the split that came with it: images to learn from, images to be judged by.

    Args:
        name: what the person called it.
        classes: names of the classes.
        train: labelled images to learn from; nothing else may be looked at before the end.
        test: labelled images to be judged by, once; None where there is one set alone.
        scoring: which metrics scores of the images have, and which of them encoders are compared by.
        fingerprint: of images and labels.
        warnings: what the reader of a score has to know.
        notes: what a person has to know of how the images were found.
    """

    name: str
    classes: tuple[str, ...]
    train: Labelled
    test: Labelled | None
    scoring: Scoring
    fingerprint: str
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def judged(self) -> Labelled:
        """The images that are judged: the test images, or all where there is one set alone."""
        return self.train if self.test is None else self.test

    def separate_test(self, protocol: str) -> Labelled:
        """Return the test images, which a protocol that learns needs.

        Raises:
            UserError: there is one set alone.
        """
        if self.test is None:
            raise UserError(
                f"{self.name} is one set, and {protocol} needs another to be judged by: put images into "
                "train/ and test/, or give --test PATH (knn can judge each image by all others)."
            )
        return self.test

    @property
    def metric(self) -> str:
        """Name of the one metric by which encoders are compared."""
        return self.scoring.headline

    def metrics(self, scores: list[Scores], labels: NDArray[np.int64]) -> dict[str, Metric]:
        """Return the metrics of scores, under their names.

        Args:
            scores: (N, C) of each draw; a metric is the mean over draws.
            labels: of the same N images, as in `Labelled`.
        """
        return {metric.name: metric for metric in self.scoring.metrics(scores, labels)}

    def score(self, scores: Scores, labels: NDArray[np.int64]) -> float:
        """Return the metric by which encoders are compared, of scores (N, C), in percent."""
        return self.metrics([scores], labels)[self.metric].of(np.arange(len(labels)))


def open_task(data: Data, test: Data | None = None, pixel_range: PixelRange | None = None) -> Task:
    """Open a labelled set.

    Args:
        data: as for `open_data`: the train split is learned from, test (or val, without test) judged.
        test: images to be judged that lie elsewhere; of splits, test is taken.
        pixel_range: as of `open_data`; images that lie elsewhere are read by the same one.

    Raises:
        UserError: there are no labels, or fewer than two classes, or the judged images have a class that the
            others do not have, or labels of another kind.
    """
    name, sets = data_name(data), open_data(data, pixel_range=pixel_range)
    notes = known_of(sets)
    train = _labelled(sets["train"] if "train" in sets else _only(sets, name), name)
    source, judged_name = sets.get("test", sets.get("val")) if "train" in sets else None, name
    if test is not None:
        judged_name = data_name(test)
        others = open_data(test, pixel_range=train.images.pixel_range or pixel_range)
        source, notes = _only(others, judged_name), [*notes, *known_of(others)]
    classes = train.images.classes
    named = _named(train.labels, classes)
    judged = None if source is None else _renumbered(_labelled(source, judged_name), classes, judged_name)
    if len(named) < 2:
        raise UserError(
            f"{name} has {'the one class ' + named[0] if named else 'no class'} to learn from; "
            "a classifier needs images of 2 classes or more, each in a folder of its own."
        )
    digests, warnings = [train.images.digest()], []
    if judged is None:
        warnings = _own_copies(train)
    else:
        _refuse_unlike(train, judged, name, judged_name)
        warnings = _warnings(train, judged)
        digests.append(judged.images.digest())
    return Task(
        name=name if test is None else f"{name} and {judged_name}",
        classes=classes,
        train=train,
        test=judged,
        scoring=_scoring(train if judged is None else judged),
        fingerprint=digest(*digests),
        warnings=tuple(warnings),
        notes=tuple(dict.fromkeys(notes)),
    )


def data_name(data: Data) -> str:
    """Return what a person calls a set: the path as it was given, or what kind of thing was given."""
    return os.fspath(data) if isinstance(data, (str, os.PathLike)) else f"the {type(data).__name__}"


def _refuse_unlike(train: Labelled, judged: Labelled, name: str, judged_name: str) -> None:
    """Stop at images to be judged that have no labels, labels of another kind, or classes of their own."""
    if judged.labels.ndim != train.labels.ndim:
        one, several = (name, judged_name) if train.labels.ndim == 1 else (judged_name, name)
        raise UserError(
            f"{one} has one label an image and {several} any number of them; use labels of one kind."
        )
    classes = train.images.classes
    named, judged_named = _named(train.labels, classes), _named(judged.labels, classes)
    if not judged_named:
        raise UserError(f"none of the {len(judged):,} images to be judged has a label.")
    if unknown := [one for one in judged_named if one not in named]:
        raise UserError(
            f"the images to be judged have {len(unknown)} classes that no image to learn from has: "
            f"{_some(unknown)}; use the same classes in both."
        )


def _warnings(train: Labelled, judged: Labelled) -> list[str]:
    """Return what the reader of a score has to know."""
    warnings, classes = [], train.images.classes
    named, judged_named = _named(train.labels, classes), _named(judged.labels, classes)
    if absent := [one for one in named if one not in judged_named]:
        warnings.append(f"{len(absent)} of {len(named)} classes have no image to be judged: {_some(absent)}.")
    if shared := _shared(train.images, judged.images):
        warnings.append(
            f"{shared:,} of the {len(judged):,} images to be judged are also among those to learn from, "
            "byte for byte; scores are too good by as much."
        )
    return warnings


def _labelled(images: Images, data: str) -> Labelled:
    if images.labels is None:
        if cause := next((note for note in images.notes if note.startswith(NO_LABELS)), ""):
            raise UserError(f"{data} cannot be judged: {cause}")
        raise UserError(
            f"{data} has no labels; put the images of each class into a folder of its own, or "
            "give a data set whose items are (image, number)."
        )
    return Labelled(images, np.arange(len(images)), np.asarray(images.labels))


def _only(sets: dict[str, Images], data: str) -> Images:
    if "test" in sets:
        return sets["test"]
    if len(sets) > 1:
        raise UserError(f"{data} has the splits {', '.join(sets)}; name the folder of one of them.")
    return next(iter(sets.values()))


def _renumbered(part: Labelled, classes: tuple[str, ...], data: str) -> Labelled:
    """Return the same images with labels that count in another set's classes."""
    theirs = part.images.classes
    if theirs == classes:
        return part
    unknown = sorted(set(theirs) - set(classes))
    if unknown:
        raise UserError(
            f"{data} has {len(unknown)} classes that the images to learn from do not have: {_some(unknown)}; "
            "use the same classes in both."
        )
    numbers = np.array([classes.index(name) for name in theirs], np.int64)
    if part.labels.ndim == 1:
        return Labelled(part.images, part.index, numbers[part.labels])
    among = np.zeros((len(part), len(classes)), np.int64)
    among[:, numbers] = part.labels
    return Labelled(part.images, part.index, among)


def _named(labels: NDArray[np.int64], classes: tuple[str, ...]) -> list[str]:
    """Return the names of the classes that have an image."""
    present = np.unique(labels) if labels.ndim == 1 else np.flatnonzero(labels.any(axis=0))
    return [classes[i] for i in present]


def _scoring(judged: Labelled) -> Scoring:
    if judged.labels.ndim > 1:
        return SeveralLabels()
    counts = np.bincount(judged.labels)
    return OneLabel(is_balanced=len(set(counts[counts > 0].tolist())) == 1)


def _shared(train: Images, judged: Images) -> int:
    """Return how many of the judged images are among the others, byte for byte."""
    ours, theirs = train.num_bytes(), judged.num_bytes()
    suspects = np.intersect1d(ours[ours >= 0], theirs)  # images of other sizes need not be read
    known = {train.digest_of(int(i)) for i in np.flatnonzero(np.isin(ours, suspects))}
    return sum(judged.digest_of(int(i)) in known for i in np.flatnonzero(np.isin(theirs, suspects)))


def _own_copies(part: Labelled) -> list[str]:
    """Return what is to be said where images that judge each other have copies among them, byte for byte."""
    sizes = part.images.num_bytes()
    _, which, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    suspects = np.flatnonzero((counts[which] > 1) & (sizes >= 0))  # images of other sizes need not be read
    known = Counter(part.images.digest_of(int(i)) for i in suspects)
    if not (copied := sum(count for count in known.values() if count > 1)):
        return []
    return [
        f"{copied:,} of the {len(part):,} images have a copy among the others, byte for byte; where each is "
        "judged by all others, scores are too good by as much."
    ]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")

"""What an encoder is judged on: labelled images to learn from, labelled images to be judged by."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from byol.data.images import Images
from byol.data.opening import open_data
from byol.errors import UserError

Metric = Literal["top1", "mean_per_class", "voc_map"]
Indices = NDArray[np.int64]


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

    def take(self, places: Indices) -> "Labelled":
        """Return those at some places (M,) in [0, N)."""
        return Labelled(self.images, self.index[places], self.labels[places])


@dataclass(frozen=True, eq=False)
class Task:
    """A labelled set, divided by whoever made it.

    Args:
        name: what the person called it.
        classes: names of the classes.
        train: labelled images to learn from; nothing else may be looked at before the end.
        test: labelled images to be judged by, once; None where there is one set alone.
        metric: the one figure by which encoders are compared: "voc_map" (11 points) for images with any
            number of labels, "mean_per_class" where the classes of the judged images differ in size, else
            "top1" (BYOL, appendix D.1).
        fingerprint: of images and labels.
        warnings: what the reader of a figure has to know.
    """

    name: str
    classes: tuple[str, ...]
    train: Labelled
    test: Labelled | None
    metric: Metric
    fingerprint: str
    warnings: tuple[str, ...] = ()

    @property
    def judged(self) -> Labelled:
        """The images that are judged: the test images, or all where there is one set alone."""
        return self.train if self.test is None else self.test


def open_task(data: str, test: str | None = None) -> Task:
    """Open a labelled set.

    Args:
        data: as for `open_data`: the train split is learnt from, test (or val, without test) judged.
        test: images to be judged that lie elsewhere; of splits, test is taken.

    Raises:
        UserError: there are no labels, or fewer than two classes, or the judged images have a class that the
            others do not have, or labels of another kind.
    """
    sets = open_data(data)
    train = _labelled(sets["train"] if "train" in sets else _only(sets, data), data)
    source = sets.get("test", sets.get("val")) if "train" in sets else None
    if test is not None:
        source = _only(open_data(test), test)
    classes = train.images.classes
    judged = None if source is None else _renumbered(_labelled(source, test or data), classes, test or data)
    named = _named(train.labels, classes)
    if len(named) < 2:
        raise UserError(
            f"{data} has {'the one class ' + named[0] if named else 'no class'} to learn from; "
            "a classifier needs images of 2 classes or more, each in a folder of its own."
        )
    warnings = []
    if judged is not None:
        if judged.labels.ndim != train.labels.ndim:
            one, several = (data, test) if train.labels.ndim == 1 else (test, data)
            raise UserError(
                f"{one or data} has one label an image and {several or data} any number of them; "
                "use labels of one kind."
            )
        if not len(_named(judged.labels, classes)):
            raise UserError(f"none of the {len(judged):,} images to be judged has a label.")
        unknown = [name for name in _named(judged.labels, classes) if name not in named]
        if unknown:
            raise UserError(
                f"the images to be judged have {len(unknown)} classes that no image to learn from has: "
                f"{_some(unknown)}; use the same classes in both."
            )
        absent = [name for name in named if name not in _named(judged.labels, classes)]
        if absent:
            warnings.append(
                f"{len(absent)} of {len(named)} classes have no image to be judged: {_some(absent)}."
            )
        if shared := _shared(train.images, judged.images):
            warnings.append(
                f"{shared:,} of the {len(judged):,} images to be judged are also among those to learn from, "
                "byte for byte; figures are too good by as much."
            )
    digest = hashlib.sha256(train.images.digest().encode())
    if judged is not None:
        digest.update(judged.images.digest().encode())
    return Task(
        name=data if test is None else f"{data} and {test}",
        classes=classes,
        train=train,
        test=judged,
        metric=_metric(train if judged is None else judged),
        fingerprint=digest.hexdigest()[:32],
        warnings=tuple(warnings),
    )


def hold_out(part: Labelled, share: float, seed: int) -> tuple[Labelled, Labelled]:
    """Divide labelled images at random, the same share of each class (of all, with several labels an image).

    Args:
        part: the images.
        share: of them to hold out, in (0, 1); at least one image of each class that has two.
        seed: of the draw.

    Returns:
        Those to learn from and those held out.

    Raises:
        UserError: no class has two images, or, with several labels an image, one part has no label at all.
    """
    groups = part.labels if part.labels.ndim == 1 else np.zeros(len(part), np.int64)
    random = np.random.default_rng((seed, 1))
    held = []
    for label in np.unique(groups):
        members = random.permutation(np.flatnonzero(groups == label))
        count = min(max(1, round(share * len(members))), len(members) - 1)
        held.append(members[:count])
    mask = np.zeros(len(part), np.bool_)
    mask[np.concatenate(held)] = True
    if not mask.any():
        raise UserError(
            f"the {len(part)} labelled images are of as many classes; one to learn from and one to choose by "
            "are needed of a class."
        )
    parts = part.take(np.flatnonzero(~mask)), part.take(np.flatnonzero(mask))
    if part.labels.ndim > 1 and not all(one.labels.any() for one in parts):
        raise UserError(
            f"of {len(part)} images {len(parts[1])} are held out to choose by, but a part has no label at "
            "all; label more images, or hold out another share."
        )
    return parts


def draw_few(part: Labelled, share: float, seed: int, classes: Sequence[str]) -> Labelled:
    """Draw a share of the labelled images, the same share of each class.

    Args:
        part: the images.
        share: in (0, 1].
        seed: of the draw.
        classes: their names.

    Raises:
        UserError: images have several labels, or a class would have fewer than two images, of which one is
            learnt from and one held out to choose by.
    """
    if part.labels.ndim > 1:
        raise UserError("a share of the labels cannot be drawn where an image has several; give --lists.")
    random = np.random.default_rng((seed, 2))
    drawn, counts = [], np.bincount(part.labels, minlength=len(classes))
    present = np.flatnonzero(counts)
    smallest = present[counts[present].argmin()]
    if round(share * int(counts[smallest])) < 2:
        count, enough = int(counts[smallest]), math.ceil(2000 / counts[smallest]) / 1000
        if count < 3:
            raise UserError(f"class {classes[smallest]} has {count} images, too few to draw a share of them.")
        raise UserError(
            f"{share:.3g} of the labels leaves class {classes[smallest]} with {round(share * count)} of its "
            f"{count} images, but every class needs 2; use --share {enough:.3g} or more."
        )
    for label in present:
        members = random.permutation(np.flatnonzero(part.labels == label))
        drawn.append(members[: round(share * len(members))])
    return part.take(np.sort(np.concatenate(drawn)))


def listed(part: Labelled, file: Path) -> Labelled:
    """Return the images that a list names, one a line: paths as in the set, or as much of their end as tells.

    Raises:
        UserError: there is no such list, it names images that the set does not have or images of one class
            alone, or a name fits several.
    """
    if not file.is_file():
        raise UserError(f"there is no list at {file}.")
    names = [f"/{part.images.name(int(i))}" for i in part.index]
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name.rsplit("/", 1)[1], []).append(place)
    wanted = [line.strip() for line in file.read_text().splitlines() if line.strip()]
    found = {
        name: [
            place for place in places.get(name.rsplit("/", 1)[-1], []) if names[place].endswith(f"/{name}")
        ]
        for name in wanted
    }
    if not wanted:
        raise UserError(f"{file} is empty: write one image path per line.")
    if missing := [name for name, fitting in found.items() if not fitting]:
        raise UserError(
            f"{file} names {len(missing)} images that are not in the training set, such as {missing[0]}."
        )
    if several := [name for name, fitting in found.items() if len(fitting) > 1]:
        raise UserError(
            f"{file} names {several[0]}, as {len(found[several[0]])} images are called; write its whole path."
        )
    few = part.take(np.unique([place for fitting in found.values() for place in fitting]))
    if few.labels.ndim == 1 and len(np.unique(few.labels)) < 2:
        raise UserError(f"{file} names images of one class alone; a classifier needs images of 2 or more.")
    return few


def _labelled(images: Images, data: str) -> Labelled:
    if images.labels is None:
        raise UserError(f"{data} has no labels; put the images of each class into a folder of its own.")
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


def _metric(judged: Labelled) -> Metric:
    if judged.labels.ndim > 1:
        return "voc_map"
    counts = np.bincount(judged.labels)
    return "top1" if len(set(counts[counts > 0].tolist())) == 1 else "mean_per_class"


def _shared(train: Images, judged: Images) -> int:
    """Return how many of the judged images are among the others, byte for byte."""
    ours, theirs = train.num_bytes(), judged.num_bytes()
    suspects = np.intersect1d(ours[ours >= 0], theirs)  # images of other sizes need not be read
    known = {train.digest_of(int(i)) for i in np.flatnonzero(np.isin(ours, suspects))}
    return sum(judged.digest_of(int(i)) in known for i in np.flatnonzero(np.isin(theirs, suspects)))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")

"""Parts of labelled images: held out to choose by, few labels, and lists of them."""

import math
import os
from collections.abc import Sequence

import numpy as np

from byol.errors import UserError
from byol.evaluate.task import Labelled
from byol.system.home import expanded


def hold_out(part: Labelled, fraction: float, seed: int) -> tuple[Labelled, Labelled]:
    """Hold out a fraction of labelled images, the same of each class (of all, with several labels an image).

    Args:
        part: the images.
        fraction: of them to hold out, in (0, 1); at least one image of each class that has two.
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
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
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
            "all; label more images, or hold out another fraction."
        )
    return parts


def draw_few(part: Labelled, fraction: float, seed: int, classes: Sequence[str]) -> Labelled:
    """Draw the same fraction of the images of each class.

    Args:
        part: the images.
        fraction: in (0, 1].
        seed: of the draw.
        classes: their names.

    Raises:
        UserError: images have several labels, or a class would have fewer than two images, of which one is
            learned from and one held out to choose by.
    """
    if part.labels.ndim > 1:
        raise UserError("a fraction of the labels cannot be drawn where an image has several; give --lists.")
    random = np.random.default_rng((seed, 2))
    drawn, counts = [], np.bincount(part.labels, minlength=len(classes))
    present = np.flatnonzero(counts)
    smallest = present[counts[present].argmin()]
    if round(fraction * int(counts[smallest])) < 2:
        count, enough = int(counts[smallest]), math.ceil(2000 / counts[smallest]) / 1000
        if count < 3:
            raise UserError(
                f"class {classes[smallest]} has {count} images, too few to draw a fraction of them."
            )
        raise UserError(
            f"{fraction:.3g} of the labels leaves class {classes[smallest]} with {round(fraction * count)} "
            f"of its {count} images, but every class needs 2; use --fraction {enough:.3g} or more."
        )
    for label in present:
        members = random.permutation(np.flatnonzero(part.labels == label))
        drawn.append(members[: round(fraction * len(members))])
    return part.take(np.sort(np.concatenate(drawn)))


def listed(part: Labelled, list_path: str | os.PathLike[str]) -> Labelled:
    """Return the images that a list names, one a line: paths as in the set, or a unique end of them.

    Args:
        part: the images.
        list_path: of the list; `~` is home.

    Raises:
        UserError: there is no such list, it names images that the set does not have or images of one class
            alone, or a name fits several.
    """
    file = expanded(list_path)
    if not file.is_file():
        raise UserError(f"there is no list at {file}.")
    names = [f"/{part.images.name(int(i))}" for i in part.index]
    positions: dict[str, list[int]] = {}  # of the images whose path ends in this file name
    for position, name in enumerate(names):
        positions.setdefault(name.rsplit("/", 1)[1], []).append(position)
    wanted = [
        line.strip() for line in file.read_text("utf-8", "surrogateescape").splitlines() if line.strip()
    ]
    found = {
        name: [i for i in positions.get(name.rsplit("/", 1)[-1], []) if names[i].endswith(f"/{name}")]
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
    few = part.take(np.unique([position for fitting in found.values() for position in fitting]))
    if few.labels.ndim == 1 and len(np.unique(few.labels)) < 2:
        raise UserError(f"{file} names images of one class alone; a classifier needs images of 2 or more.")
    return few

"""Which metrics scores of classes (N, C) have, by the kind of labels: one an image, or any number.

N judged images, C classes.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from byol.evaluate.metrics import ClassMeanMetric, Labels, MeanMetric, Metric, Scores, VocMap


class Scoring(Protocol):
    """What a task makes of scores of its images."""

    @property
    def headline(self) -> str:
        """Name of the one metric by which encoders are compared."""
        ...

    def metrics(self, scores: list[Scores], labels: Labels) -> tuple[Metric, ...]:
        """Return the metrics of one or several classifiers that judged the same images.

        Args:
            scores: of each classifier, (N, C); a metric is the mean over the classifiers.
            labels: of the images.
        """
        ...

    def confusion(self, scores: Scores, labels: Labels) -> tuple[tuple[int, ...], ...] | None:
        """Return how many images of each class (row) were taken for each class (column); None without one."""
        ...


@dataclass(frozen=True)
class OneLabel:
    """One label an image, (N,) numbers of classes: top-1, top-5 (with more than 5 classes), mean per class.

    Args:
        is_balanced: the judged images are as many of each class. Then encoders are compared by top-1, which
            is the mean per class too, else by the mean per class (BYOL, appendix D.1).
    """

    is_balanced: bool

    @property
    def headline(self) -> str:
        """top1 or mean_per_class."""
        return "top1" if self.is_balanced else "mean_per_class"

    def metrics(self, scores: list[Scores], labels: Labels) -> tuple[Metric, ...]:
        """Return top1, top5 and mean_per_class."""
        # The same class as argmax finds, so that a tie is no half of a success.
        correct = np.mean([s.argmax(axis=1) == labels for s in scores], axis=0)
        found: list[Metric] = [MeanMetric("top1", "top-1", correct)]
        if scores[0].shape[1] > 5:
            among_5 = np.mean([ranks(s, labels) < 5 for s in scores], axis=0)
            found.append(MeanMetric("top5", "top-5", among_5))
        title = "" if self.is_balanced else "mean per class"
        return *found, ClassMeanMetric("mean_per_class", title, correct, labels)

    def confusion(self, scores: Scores, labels: Labels) -> tuple[tuple[int, ...], ...]:
        """Return the confusion matrix (C, C)."""
        classes = scores.shape[1]
        pairs = np.bincount(labels * classes + scores.argmax(axis=1), minlength=classes * classes)
        return tuple(map(tuple, pairs.reshape(classes, classes).tolist()))


@dataclass(frozen=True)
class SeveralLabels:
    """Any number of labels an image, (N, C) of 0 and 1: VOC mean average precision."""

    headline: str = "voc_map"

    def metrics(self, scores: list[Scores], labels: Labels) -> tuple[Metric, ...]:
        """Return voc_map."""
        return (VocMap(scores, labels),)

    def confusion(self, scores: Scores, labels: Labels) -> None:
        """Return None: no image is taken for one class."""
        return


def ranks(scores: Scores, labels: Labels) -> Labels:
    """Return how many classes score higher than the image's own, (N,); ties count for half, rounded down.

    Args:
        scores: (N, C).
        labels: (N,).
    """
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    ahead: Labels = (scores > own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) // 2
    return ahead

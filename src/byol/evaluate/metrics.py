"""Metrics as values, the interval of any of them, and the paired difference of any two.

A `Metric` is one number of one encoder's answers, which can be asked of any of the judged images. Whoever
knows what the answers are makes it (`scoring` does for scores of classes); nothing here asks which it is.
N judged images.
"""

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from byol.evaluate.statistics import RESAMPLES, Indices, beyond_zero, bootstrap, interval, swap_test

Scores = NDArray[np.float32]
Labels = NDArray[np.int64]


class Metric(Protocol):
    """How good the answers of one encoder are, in percent: what tables, intervals and paired tests ask."""

    @property
    def name(self) -> str:
        """Under which it stands in JSON."""
        ...

    @property
    def title(self) -> str:
        """Above its column in tables; empty where tables leave it out."""
        ...

    @property
    def per_image(self) -> NDArray[np.float64] | None:
        """What each image adds, (N,): the metric of all images is proportional to their sum.

        With it two encoders are compared by swapping their sides image by image (`swap_test`, which is
        McNemar's exact test where every image adds all or nothing). None where a number depends on all images
        at once, such as an average precision: there the bootstrap decides.
        """
        ...

    def of(self, indices: Indices) -> float:
        """Return it of the images at these indices, which may repeat; NaN where it is not defined of them."""
        ...


@dataclass(frozen=True, eq=False)
class MeanMetric:
    """The mean of one value per image, such as whether the answer is right.

    Args:
        name: in JSON.
        title: in tables.
        per_image: (N,) in [0, 1].
    """

    name: str
    title: str
    per_image: NDArray[np.float64] = field(repr=False)

    def of(self, indices: Indices) -> float:
        """Return the mean over images."""
        return 100 * float(self.per_image[indices].mean())


@dataclass(frozen=True, eq=False)
class ClassMeanMetric:
    """The mean over classes of the mean over their images, so that every class counts alike.

    Args:
        name: in JSON.
        title: in tables.
        values: (N,) in [0, 1], one of each image.
        labels: (N,) classes of the images.
    """

    name: str
    title: str
    values: NDArray[np.float64] = field(repr=False)
    labels: Labels = field(repr=False)

    @property
    def per_image(self) -> NDArray[np.float64]:
        """The values, each divided by the number of images of its class."""
        return self.values * (1 / np.bincount(self.labels)[self.labels])

    def of(self, indices: Indices) -> float:
        """Return the mean over the classes that have an image."""
        drawn = self.labels[indices]
        counts = np.bincount(drawn)
        hits = np.bincount(drawn, weights=self.values[indices])
        return 100 * float((hits[counts > 0] / counts[counts > 0]).mean())


@dataclass(frozen=True, eq=False)
class VocMap:
    """The mean over classes of the 11-point average precision of PASCAL VOC 2007, mean over draws.

    Args:
        scores: (N, C) of each draw.
        labels: (N, C) of 0 and 1.
    """

    scores: list[Scores] = field(repr=False)
    labels: Labels = field(repr=False)
    name: str = "voc_map"
    title: str = "VOC mAP (11 points)"
    per_image: None = None

    def of(self, indices: Indices) -> float:
        """Return `voc_map` of the images."""
        return float(np.mean([100 * voc_map(s[indices], self.labels[indices]) for s in self.scores]))


def average_precision(scores: NDArray[np.float32], is_positive: NDArray[np.bool_]) -> float:
    """Return the average precision of a ranking by the 11 points of PASCAL VOC 2007, in [0, 1].

    The mean over recall 0, 0.1, ..., 1 of the highest precision at that recall or above. Images of one score
    are found together, so that nothing depends on their order.

    Args:
        scores: (N,).
        is_positive: (N,), at least one of them.

    Source: Everingham et al. 2010, "The PASCAL Visual Object Classes Challenge", section 4.2.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # of the images of one score
    hits = np.cumsum(is_positive[order])[last]
    precision = hits / np.flatnonzero(np.append(False, last))
    # Recall in tenths, as whole numbers: 0.1 * 3 is a little more than 0.3.
    return float(np.mean([precision[10 * hits >= tenths * hits[-1]].max() for tenths in range(11)]))


def voc_map(scores: Scores, labels: Labels) -> float:
    """Return the mean over classes of the 11-point average precision, in [0, 1].

    Args:
        scores: (N, C).
        labels: (N, C) of 0 and 1; classes without an image are left out.

    Returns:
        NaN where no class has an image.
    """
    precisions = [
        average_precision(column, positive)
        for column, positive in zip(scores.T, labels.T == 1, strict=True)
        if positive.any()
    ]
    return float(np.mean(precisions)) if precisions else math.nan


@dataclass(frozen=True)
class Estimate:
    """A metric in percent, with its bootstrap 95 % interval over the judged images.

    Args:
        value: of all images.
        low: 2.5 % of the resampled sets have less.
        high: 2.5 % have more.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.1f} [{self.low:.1f}, {self.high:.1f}]"


def estimate(metric: Metric, count: int, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """Return a metric with its percentile bootstrap 95 % interval.

    Below some 30 images, or at 0 and 100 %, the interval is too narrow.

    Args:
        metric: of any kind.
        count: N, of the judged images.
        seed: of the resamples.
        resamples: number of resampled sets.
    """
    low, high = interval(bootstrap(metric.of, count, seed, resamples))
    return Estimate(metric.of(np.arange(count)), low, high)


@dataclass(frozen=True)
class Difference:
    """How much better one encoder is than another on the same images, in points of a metric.

    Args:
        value: of all images.
        low: of the paired bootstrap 95 % interval.
        high: likewise.
        p: probability of a difference as large, either way, if both were equally good.
    """

    value: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        p = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"
        return f"{self.value:+.1f} [{self.low:+.1f}, {self.high:+.1f}], {p}"

    @property
    def verdict(self) -> str:
        """ "better", "worse" or "undecided" at the 5 % level, by interval and test alike."""
        if self.p < 0.05 and self.low > 0:
            return "better"
        return "worse" if self.p < 0.05 and self.high < 0 else "undecided"


def difference(ours: Metric, theirs: Metric, count: int, seed: int = 0) -> Difference:
    """Compare two encoders on the same images by one metric.

    The test swaps the two at random, image by image (a paired permutation test); where every image adds all
    or nothing, as to the top-1 of one classifier each, that is McNemar's exact test. Of a metric that depends
    on all images at once, p is the fraction of resampled differences beyond 0, twice.

    Args:
        ours: of the first.
        theirs: the same of the second.
        count: N, of the judged images.
        seed: of the draws.
    """
    assert ours.name == theirs.name
    resampled = bootstrap(lambda i: ours.of(i) - theirs.of(i), count, seed)
    low, high = interval(resampled)
    if ours.per_image is None or theirs.per_image is None:
        p = beyond_zero(resampled)
    else:
        p = swap_test(ours.per_image - theirs.per_image, seed)
    everything = np.arange(count)
    return Difference(ours.of(everything) - theirs.of(everything), low, high, p)

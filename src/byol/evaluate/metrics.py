"""Figures of merit of scores (N, C), each with its uncertainty over the judged images.

N images, C classes. Every figure is in percent.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]
Labels = NDArray[np.int64]
Indices = NDArray[np.int64]
Figure = Callable[[Indices], float]  # of the images with these numbers, which may repeat

RESAMPLES = 2_000


@dataclass(frozen=True)
class Estimate:
    """A figure in percent, with its bootstrap 95 % interval over the judged images.

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


def ranks(scores: Scores, labels: Labels) -> Labels:
    """Return how many classes score higher than the image's own, (N,); ties count for half, rounded down.

    Args:
        scores: (N, C).
        labels: (N,).
    """
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    ahead: Labels = (scores > own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) // 2
    return ahead


def figures(scores: list[Scores], labels: Labels) -> dict[str, Figure]:
    """Return the figures of one or several classifiers that judged the same images.

    Args:
        scores: of each classifier, (N, C); a figure is the mean over the classifiers.
        labels: (N,) numbers of classes, or (N, C) of 0 and 1.

    Returns:
        Name -> figure: top1, top5 (with more than 5 classes) and mean_per_class; or voc_map.
    """
    if labels.ndim > 1:
        return {"voc_map": lambda i: float(np.mean([100 * voc_map(s[i], labels[i]) for s in scores]))}
    # The same class as argmax finds, so that a tie is no half of a success.
    correct = np.mean([s.argmax(axis=1) == labels for s in scores], axis=0)
    among_5 = np.mean([ranks(s, labels) < 5 for s in scores], axis=0)
    found = {"top1": _mean(correct)}
    if scores[0].shape[1] > 5:
        found["top5"] = _mean(among_5)
    found["mean_per_class"] = _mean_per_class(correct, labels)
    return found


def confusion(scores: Scores, labels: Labels) -> Labels:
    """Return how many images of each class (row) were taken for each class (column), (C, C)."""
    classes = scores.shape[1]
    pairs = np.bincount(labels * classes + scores.argmax(axis=1), minlength=classes * classes)
    return pairs.reshape(classes, classes)


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


def resampled(figure: Figure, count: int, seed: int = 0, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """Return a figure of sets drawn with replacement from the judged images, (resamples,) or fewer.

    Sets of which there is no figure, because none of their images has a label, are left out.

    Args:
        figure: of the images with given numbers.
        count: N, of the judged images.
        seed: of the draws; figures of the same images with the same seed see the same draws.
        resamples: number of sets.

    Source: Efron and Tibshirani 1993, the nonparametric bootstrap.
    """
    random = np.random.default_rng((seed, 3))
    values = (figure(random.integers(0, count, count)) for _ in range(resamples))
    return np.array([value for value in values if not math.isnan(value)])


def estimate(figure: Figure, count: int, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """Return a figure with its percentile bootstrap 95 % interval.

    Below some 30 images, or at 0 and 100 %, the interval is too narrow.
    """
    low, high = np.percentile(resampled(figure, count, seed, resamples), [2.5, 97.5])
    return Estimate(figure(np.arange(count)), float(low), float(high))


@dataclass(frozen=True)
class Difference:
    """How much better one encoder is than another on the same images, in points of the task's metric.

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


def difference(
    ours: list[Scores], theirs: list[Scores], labels: Labels, metric: str, seed: int = 0
) -> Difference:
    """Compare two encoders on the same images.

    The test swaps the two at random, image by image (a paired permutation test); for top-1 of one classifier
    each it is McNemar's exact one. The average precision depends on all images at once, so its p is the share
    of resampled differences beyond 0, twice.

    Args:
        ours: scores of the first, as for `figures`.
        theirs: scores of the second.
        labels: of the judged images.
        metric: name of the figure.
        seed: of the draws.
    """
    first, second = figures(ours, labels)[metric], figures(theirs, labels)[metric]
    count = len(labels)
    drawn = resampled(lambda i: first(i) - second(i), count, seed)
    low, high = np.percentile(drawn, [2.5, 97.5])
    if labels.ndim > 1:
        p = min(1.0, 2 * (min((drawn <= 0).sum(), (drawn >= 0).sum()) + 1) / (len(drawn) + 1))
    else:
        gained = np.mean([s.argmax(1) == labels for s in ours], axis=0) - np.mean(
            [s.argmax(1) == labels for s in theirs], axis=0
        )
        weights = 1 / np.bincount(labels)[labels] if metric == "mean_per_class" else np.ones(count)
        p = swap_test(gained * weights, seed)
    everything = np.arange(count)
    return Difference(first(everything) - second(everything), float(low), float(high), float(p))


def swap_test(gained: NDArray[np.float64], seed: int = 0, swaps: int = 10_000) -> float:
    """Return the two-sided p of a mean of paired differences, by swapping the sides of each pair at random.

    Args:
        gained: (N,) what the first has more than the second, per image.
        seed: of the swaps.
        swaps: number of random swaps; none are drawn where all differences have one size, because the
            binomial distribution is exact there (McNemar's test).
    """
    gained = gained[np.abs(gained) > 1e-12]
    if len(gained) == 0:
        return 1.0
    if np.ptp(np.abs(gained)) < 1e-12:
        return _binomial_p(int((gained > 0).sum()), len(gained))
    random = np.random.default_rng((seed, 4))
    observed, beyond = abs(gained.sum()), 0
    for start in range(0, swaps, 1_000):
        signs = random.integers(0, 2, (min(1_000, swaps - start), len(gained)), dtype=np.int8)
        beyond += int((np.abs((2.0 * signs - 1) @ gained) >= observed - 1e-12).sum())
    return (beyond + 1) / (swaps + 1)


def _binomial_p(successes: int, trials: int) -> float:
    """Return the two-sided p of so many successes with probability one half."""
    tail = max(successes, trials - successes)
    logs = [
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) - trials * math.log(2)
        for k in range(tail, trials + 1)
    ]
    return min(1.0, 2 * math.fsum(math.exp(log) for log in logs))


def _mean(values: NDArray[np.float64]) -> Figure:
    return lambda i: 100 * float(values[i].mean())


def _mean_per_class(correct: NDArray[np.float64], labels: Labels) -> Figure:
    def figure(i: Indices) -> float:
        drawn = labels[i]
        counts = np.bincount(drawn)
        hits = np.bincount(drawn, weights=correct[i])
        return 100 * float((hits[counts > 0] / counts[counts > 0]).mean())

    return figure

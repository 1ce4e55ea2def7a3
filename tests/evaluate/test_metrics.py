"""Metrics by hand and by simulation, and that any metric gets its interval, its test and its verdict."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from byol.evaluate.metrics import (
    ClassMeanMetric,
    MeanMetric,
    Metric,
    VocMap,
    average_precision,
    difference,
    estimate,
    voc_map,
)
from byol.evaluate.statistics import bootstrap, swap_test


def random_scores(seed: int, count: int = 400, classes: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Scores that know something of the labels, whose classes differ in size."""
    random = np.random.default_rng(seed)
    labels = random.choice(classes, count, p=np.arange(1, classes + 1) / (classes * (classes + 1) / 2))
    scores = random.normal(size=(count, classes)) + 1.5 * np.eye(classes)[labels]
    return scores.astype(np.float32), labels.astype(np.int64)


def all_of(labels: np.ndarray) -> np.ndarray:
    return np.arange(len(labels))


def top1(scores: np.ndarray, labels: np.ndarray) -> MeanMetric:
    return MeanMetric("top1", "top-1", (scores.argmax(1) == labels).astype(float))


def per_class(scores: np.ndarray, labels: np.ndarray) -> ClassMeanMetric:
    return ClassMeanMetric("mean_per_class", "", (scores.argmax(1) == labels).astype(float), labels)


def test_average_precision_by_hand() -> None:
    # Ranked: yes, no, yes, no, no, yes. Precision at recall 1/3, 2/3, 1: 1, 2/3, 1/2.
    scores = np.array([6, 5, 4, 3, 2, 1], np.float32)
    positive = np.array([True, False, True, False, False, True])
    # Recall 0 to 0.3 (4 points) at 1, 0.4 to 0.6 (3 points) at 2/3, 0.7 to 1 (4 points) at 1/2.
    assert average_precision(scores, positive) == pytest.approx((4 * 1 + 3 * 2 / 3 + 4 / 2) / 11)


def test_average_precision_reads_a_tenth_of_recall_exactly() -> None:
    # Ten positives ranked first: recall 0.3 is met by the third of them, although 3 * 0.1 > 0.3 in float64.
    scores = np.arange(20, 0, -1).astype(np.float32)
    positive = np.arange(20) < 10
    assert average_precision(scores, positive) == 1.0


def slow_voc(scores: np.ndarray, positive: np.ndarray) -> float:
    """The definition in loops: at each of 11 recalls the best precision at that recall or above."""
    points = []
    for tenths in range(11):
        best = 0.0
        for threshold in scores:
            taken = scores >= threshold
            hits = (taken & positive).sum()
            if 10 * hits >= tenths * positive.sum():
                best = max(best, hits / taken.sum())
        points.append(best)
    return float(np.mean(points))


def test_mean_average_precision_equals_the_slow_one_and_leaves_empty_classes_out() -> None:
    random = np.random.default_rng(0)
    labels = (random.random((60, 5)) < 0.3).astype(np.int64)
    labels[:, 3] = 0
    scores = (random.normal(size=(60, 5)) + labels).astype(np.float32)
    expected = np.mean([slow_voc(scores[:, c], labels[:, c] == 1) for c in (0, 1, 2, 4)])
    assert voc_map(scores, labels) == pytest.approx(expected, abs=1e-12)
    assert VocMap([scores], labels).of(all_of(labels)) == pytest.approx(100 * expected)


@pytest.mark.slow
def test_the_interval_covers_the_truth_in_95_of_100_samples() -> None:
    """A thousand samples of 500 images from a world in which 70 % are right."""
    random = np.random.default_rng(0)
    labels, covered = np.zeros(500, np.int64), 0
    for _ in range(1_000):
        scores = np.zeros((500, 2), np.float32)
        scores[:, 1] = np.where(random.random(500) < 0.7, -1, 1)
        interval = estimate(top1(scores, labels), 500, seed=int(random.integers(2**31)), resamples=500)
        covered += interval.low <= 70 <= interval.high
    # The share of 1,000 has a standard error of 0.7 points; asked for are 2.
    assert 930 <= covered <= 970


@pytest.mark.slow
def test_the_interval_of_a_mean_per_class_covers_too() -> None:
    """Two classes of unequal size, 90 % and 50 % right: 70 % on the average of the classes."""
    random = np.random.default_rng(1)
    labels, covered = (np.arange(400) < 80).astype(np.int64), 0
    for _ in range(1_000):
        is_right = random.random(400) < np.where(labels == 1, 0.5, 0.9)
        scores = np.eye(2, dtype=np.float32)[np.where(is_right, labels, 1 - labels)]
        interval = estimate(per_class(scores, labels), 400, seed=int(random.integers(2**31)), resamples=300)
        covered += interval.low <= 70 <= interval.high
    assert 930 <= covered <= 970


def test_the_paired_test_is_wrong_as_often_as_it_says() -> None:
    """Two encoders that are equally good: at most 5 of 100 samples may say otherwise."""
    random, wrong = np.random.default_rng(2), 0
    labels = np.zeros(300, np.int64)
    for _ in range(400):
        ours, theirs = (
            np.stack([np.zeros(300), np.where(random.random(300) < 0.6, -1, 1)], 1).astype(np.float32)
            for _ in range(2)
        )
        first, second = (top1(one, labels).of(all_of(labels)) for one in (ours, theirs))
        gained = (ours.argmax(1) == 0).astype(float) - (theirs.argmax(1) == 0)
        wrong += swap_test(gained) < 0.05
        assert gained.mean() * 100 == pytest.approx(first - second)
    # Of 400 with probability 0.05 or less: more than 32 has a probability below 0.4 %.
    assert wrong <= 32


@pytest.mark.parametrize("metric", [top1, per_class])
def test_a_difference_is_zero_with_itself_and_turns_with_the_order(
    metric: Callable[[np.ndarray, np.ndarray], Metric],
) -> None:
    scores, labels = random_scores(0)
    noise = np.random.default_rng(3).normal(size=scores.shape).astype(np.float32)
    same = difference(metric(scores, labels), metric(scores, labels), len(labels))
    assert (same.value, same.low, same.high, same.p, same.verdict) == (0, 0, 0, 1, "undecided")
    forth, back = (
        difference(metric(a, labels), metric(b, labels), len(labels))
        for a, b in ((scores, scores + noise), (scores + noise, scores))
    )
    assert forth.verdict == "better"
    assert back.verdict == "worse"
    assert (forth.value, forth.low, forth.high) == pytest.approx((-back.value, -back.high, -back.low))


def test_a_difference_of_average_precisions() -> None:
    random = np.random.default_rng(0)
    labels = (random.random((300, 3)) < 0.3).astype(np.int64)
    good = (labels + 0.5 * random.normal(size=labels.shape)).astype(np.float32)
    bad = random.normal(size=labels.shape).astype(np.float32)
    assert difference(VocMap([good], labels), VocMap([bad], labels), 300).verdict == "better"
    assert difference(VocMap([bad], labels), VocMap([good], labels), 300).verdict == "worse"
    assert difference(VocMap([good], labels), VocMap([good], labels), 300).p == 1.0


@pytest.mark.parametrize("turn", [1, -1])
def test_images_of_one_score_are_found_together_whatever_their_order(turn: int) -> None:
    positive = np.arange(40)[::turn] < 10
    assert average_precision(np.zeros(40, np.float32), positive) == 0.25  # the share of the positive
    scores = np.repeat(np.array([2, 1], np.float32), 20)[::turn]
    assert average_precision(scores, positive) == 0.5  # all of them among the first twenty


def test_a_resample_without_any_label_has_no_score_and_is_left_out() -> None:
    labels = np.zeros((20, 2), np.int64)
    labels[3, 0] = 1
    scores = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    metric = VocMap([scores], labels)
    drawn = bootstrap(metric.of, 20)
    assert len(drawn) == pytest.approx(2000 * (1 - (19 / 20) ** 20), rel=0.06)  # 3 sigma are 0.05
    found = estimate(metric, 20)
    assert np.isfinite([found.value, found.low, found.high]).all()


@dataclass(frozen=True, eq=False)
class LargestGap:
    """A metric that nobody in the package knows, of all images at once: the range of their values."""

    values: np.ndarray
    name: str = "gap"
    title: str = "largest gap"
    per_image: None = None

    def of(self, indices: np.ndarray) -> float:
        return float(np.ptp(self.values[indices]))


@dataclass(frozen=True, eq=False)
class Found:
    """Another, that adds up over images: how many of an image's objects were found."""

    per_image: np.ndarray
    name: str = "found"
    title: str = "found"

    def of(self, indices: np.ndarray) -> float:
        return 100 * float(self.per_image[indices].mean())


def test_a_metric_of_all_images_at_once_has_interval_and_verdict_by_the_bootstrap() -> None:
    random = np.random.default_rng(0)
    wide, narrow = LargestGap(random.uniform(0, 90, 200)), LargestGap(random.uniform(0, 50, 200))
    found = estimate(wide, 200)
    assert found.value == wide.of(np.arange(200))
    assert found.low < found.high <= found.value  # no resample has a larger range than all
    assert difference(wide, narrow, 200).verdict == "better"
    assert difference(narrow, wide, 200).verdict == "worse"
    same = difference(wide, wide, 200)
    assert (same.value, same.p, same.verdict) == (0.0, 1.0, "undecided")


def test_a_metric_that_adds_up_over_images_gets_the_paired_test() -> None:
    random = np.random.default_rng(0)
    theirs = random.uniform(0, 0.5, 300)
    ours = theirs + random.uniform(-0.1, 0.2, 300)
    better = difference(Found(ours), Found(theirs), 300, seed=5)
    assert better.verdict == "better"
    assert better.p == swap_test(ours - theirs, seed=5)
    counted = difference(Found((ours > 0.2).astype(float)), Found((theirs > 0.2).astype(float)), 300)
    assert counted.p == swap_test((ours > 0.2).astype(float) - (theirs > 0.2))  # McNemar's

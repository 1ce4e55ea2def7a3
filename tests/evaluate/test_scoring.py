"""Metrics of scores of classes against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, top_k_accuracy_score

from byol.evaluate.metrics import Metric
from byol.evaluate.scoring import OneLabel, Scoring, SeveralLabels


def random_scores(seed: int, count: int = 400, classes: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Scores that know something of the labels, whose classes differ in size."""
    random = np.random.default_rng(seed)
    labels = random.choice(classes, count, p=np.arange(1, classes + 1) / (classes * (classes + 1) / 2))
    scores = random.normal(size=(count, classes)) + 1.5 * np.eye(classes)[labels]
    return scores.astype(np.float32), labels.astype(np.int64)


def all_of(labels: np.ndarray) -> np.ndarray:
    return np.arange(len(labels))


def named(scores: list[np.ndarray], labels: np.ndarray, is_balanced: bool = True) -> dict[str, Metric]:
    return {metric.name: metric for metric in OneLabel(is_balanced).metrics(scores, labels)}


def test_metrics_equal_those_of_scikit_learn() -> None:
    scores, labels = random_scores(0)
    found = {name: metric.of(all_of(labels)) for name, metric in named([scores], labels).items()}
    answers = scores.argmax(axis=1)
    # Both count and divide: equal up to the rounding of float64.
    assert found["top1"] == pytest.approx(100 * accuracy_score(labels, answers), abs=1e-9)
    assert found["top5"] == pytest.approx(100 * top_k_accuracy_score(labels, scores, k=5), abs=1e-9)
    assert found["mean_per_class"] == pytest.approx(100 * balanced_accuracy_score(labels, answers), abs=1e-9)
    confusion = OneLabel(is_balanced=False).confusion(scores, labels)
    assert (np.array(confusion) == confusion_matrix(labels, answers)).all()


def test_a_metric_of_several_draws_is_their_mean() -> None:
    first, labels = random_scores(0)
    second = np.random.default_rng(1).normal(size=first.shape).astype(np.float32)
    for name, metric in named([first, second], labels).items():
        alone = [named([one], labels)[name].of(all_of(labels)) for one in (first, second)]
        assert metric.of(all_of(labels)) == pytest.approx(np.mean(alone), abs=1e-9)


def test_top5_is_no_metric_of_five_classes() -> None:
    scores, labels = random_scores(0, classes=5)
    assert "top5" not in named([scores], labels)


def test_what_an_image_adds_is_its_part_of_the_metric() -> None:
    scores, labels = random_scores(0)
    for name, metric in named([scores, -scores], labels).items():
        assert metric.per_image is not None
        parts = len(np.unique(labels)) if name == "mean_per_class" else len(labels)
        # Sums of 400 numbers in float64, in another order.
        assert metric.of(all_of(labels)) == pytest.approx(100 * metric.per_image.sum() / parts, abs=1e-9)


def test_the_headline_is_one_of_the_metrics_and_has_a_title() -> None:
    scores, labels = random_scores(0)
    several = np.eye(8, dtype=np.int64)[labels]
    cases: list[tuple[Scoring, np.ndarray]] = [(OneLabel(balanced), labels) for balanced in (True, False)]
    for scoring, known in [*cases, (SeveralLabels(), several)]:
        titles = {metric.name: metric.title for metric in scoring.metrics([scores], known)}
        assert titles[scoring.headline]
        assert (scoring.confusion(scores, known) is None) == (known is several)

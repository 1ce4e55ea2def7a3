"""Logistic regression against scikit-learn, and its gradient against automatic differentiation."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from byol.errors import UserError
from byol.evaluate.logistic import STRENGTHS, _binary, _multinomial, _sum_over, fit_path

PATH = (1e-4, 1e-2, 1.0, 100.0, 1e5)


def random_set(seed: int, classes: int, count: int = 300, dim: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of very different sizes, off center, of which three dimensions tell the class."""
    random = torch.Generator().manual_seed(seed)
    features = torch.randn(count, dim, generator=random, dtype=torch.float64)
    told = features @ torch.randn(dim, classes, generator=random, dtype=torch.float64)
    labels = (told + 2 * torch.randn(count, classes, generator=random, dtype=torch.float64)).argmax(dim=1)
    return features * torch.logspace(0, -2, dim, dtype=torch.float64) + 3, labels


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_probabilities_equal_those_of_scikit_learn(classes: int) -> None:
    features, labels = random_set(classes, classes)
    queries, _ = random_set(classes + 1, classes)
    for fit in fit_path(features, labels, PATH, num_classes=classes, tolerance=1e-10):
        oracle = LogisticRegression(C=1 / fit.strength, tol=1e-14, max_iter=10_000, solver="newton-cholesky")
        expected = oracle.fit(features.numpy(), labels.numpy()).predict_proba(queries.numpy())
        ours = torch.softmax(fit.scores(queries), dim=1).numpy()
        if classes == 2:
            # Two classes with a weight vector each: at the minimum they are opposite, so the penalty on the
            # difference is half of that on scikit-learn's single vector.
            oracle = LogisticRegression(
                C=2 / fit.strength, tol=1e-14, max_iter=10_000, solver="newton-cholesky"
            )
            expected = oracle.fit(features.numpy(), labels.numpy()).predict_proba(queries.numpy())
        # As the issue asks; the two minimizers stop within 1e-7 of each other.
        np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_several_labels_are_as_many_regressions_of_scikit_learn() -> None:
    features, _ = random_set(0, 3)
    random = torch.Generator().manual_seed(1)
    labels = (features[:, :4] - 3 + torch.randn(300, 4, generator=random) > 0).long()
    for fit in fit_path(features, labels, PATH, num_classes=4, tolerance=1e-10):
        for column in range(4):
            oracle = LogisticRegression(
                C=1 / fit.strength, tol=1e-14, max_iter=10_000, solver="newton-cholesky"
            ).fit(features.numpy(), labels[:, column].numpy())
            ours = torch.sigmoid(fit.scores(features)[:, column]).numpy()
            np.testing.assert_allclose(ours, oracle.predict_proba(features.numpy())[:, 1], atol=1e-6)


def test_float32_gives_the_same_answers() -> None:
    features, labels = random_set(0, 3)
    exact = list(fit_path(features, labels, PATH, num_classes=3, tolerance=1e-10))
    quick = list(fit_path(features.float(), labels, PATH, num_classes=3))
    for one, other in zip(exact, quick, strict=True):
        answers = one.scores(features).argmax(1), other.scores(features.float()).argmax(1)
        # The default tolerance moves probabilities by some 1e-3; of 300 images few lie on the edge.
        assert (answers[0] != answers[1]).sum() <= 3


@pytest.mark.parametrize("value_and_gradient", [_multinomial, _binary])
def test_the_gradient_is_that_of_automatic_differentiation(value_and_gradient: object) -> None:
    random = torch.Generator().manual_seed(0)
    features = torch.randn(50, 4, generator=random, dtype=torch.float64)
    labels = torch.randint(3, (50,), generator=random)
    if value_and_gradient is _binary:
        labels = F.one_hot(labels, 3)
    plain = torch.randn(5, 3, generator=random, dtype=torch.float64, requires_grad=True)
    mean = features.mean(dim=0)
    logits = (features - mean) @ plain[:-1] + plain[-1]
    if value_and_gradient is _binary:
        expected = F.binary_cross_entropy_with_logits(logits, labels.double(), reduction="sum")
    else:
        expected = F.cross_entropy(logits, labels, reduction="sum")
    torch.autograd.backward(expected)
    with torch.no_grad():
        loss, gradient = _sum_over(features, labels, plain.detach(), mean, value_and_gradient)  # type: ignore[arg-type]
    # Both in float64; sums of 50 terms.
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, plain.grad, rtol=1e-10, atol=1e-10)


def test_the_path_is_the_published_one_and_begins_with_the_strongest() -> None:
    assert len(STRENGTHS) == 45
    assert (STRENGTHS[0], STRENGTHS[-1]) == pytest.approx((1e-6, 1e5))
    assert np.ptp(np.diff(np.log(STRENGTHS))) < 1e-9
    features, labels = random_set(0, 3, count=60)
    fits = list(fit_path(features, labels, num_classes=3))
    assert [fit.strength for fit in fits] == sorted(STRENGTHS, reverse=True)
    norms = [fit.weight.norm().item() for fit in fits]
    assert all(stronger <= weaker * (1 + 1e-3) for stronger, weaker in itertools.pairwise(norms))


def test_more_features_than_images_is_no_obstacle() -> None:
    random = torch.Generator().manual_seed(0)
    features, labels = torch.randn(30, 100, generator=random), torch.arange(30) % 3
    weakest = list(fit_path(features, labels, (1e-3, 1.0), num_classes=3))[-1]
    assert (weakest.scores(features).argmax(1) == labels).all()


def test_what_cannot_be_fitted_is_refused() -> None:
    features, labels = torch.randn(10, 3), torch.arange(10) % 2
    broken = features.clone()
    broken[[2, 5], 1] = torch.nan
    with pytest.raises(UserError, match="features of 2 of 10 images are not finite"):
        next(fit_path(broken, labels, num_classes=2))
    with pytest.raises(UserError, match="one class"):
        next(fit_path(features, torch.zeros(10, dtype=torch.int64), num_classes=2))
    with pytest.raises(UserError, match="-1"):
        next(fit_path(features, labels, (1.0, -1.0), num_classes=2))

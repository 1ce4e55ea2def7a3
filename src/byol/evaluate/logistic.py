"""Logistic regression with an L2 penalty on frozen features, for a whole path of strengths.

N images, D features, C classes. The objective is that of scikit-learn with C = 1 / strength: the sum of the
images' losses plus strength / 2 times the squared norm of the weights; the intercept is not penalized.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from byol.errors import UserError

# The published range: 45 strengths, evenly spaced in their logarithm (BYOL, appendix D.2).
STRENGTHS = tuple(float(strength) for strength in np.logspace(-6, 5, 45))

_ROWS = 16_384  # images at once, so that features may be mapped from disk
_ITERATIONS = 1_000


@dataclass(frozen=True, eq=False)
class Regression:
    """A fitted classifier of features.

    Args:
        weight: (C, D).
        intercept: (C,).
        strength: of the penalty.
    """

    weight: Tensor
    intercept: Tensor
    strength: float

    def scores(self, features: Tensor) -> Tensor:
        """Return the logits (N, C) of features (N, D)."""
        return torch.cat(
            [F.linear(rows, self.weight, self.intercept) for rows in torch.split(features, _ROWS)]
        )


def fit_path(
    features: Tensor,
    labels: Tensor,
    strengths: Sequence[float] = STRENGTHS,
    *,
    num_classes: int,
    tolerance: float = 1e-4,
) -> Iterator[Regression]:
    """Yield the fit of every strength, the strongest first; each begins where the one before ended.

    L-BFGS in coordinates in which the loss is nearly round. For logits Xw the second derivative is never
    more than X'X/4 for one label of two and X'X/2 for one of many (Boehning 1992), so we rotate to the
    eigenvectors of the centered X'X and divide each direction by the root of its bound plus the strength. It
    turns thousands of iterations into dozens where the penalty is weak, and changes nothing at the minimum.

    Args:
        features: (N, D) of the dtype to compute in.
        labels: (N,) int64 in [0, C) for one label an image, (N, C) of 0 and 1 for any number of them.
        strengths: of the penalty, above 0, in any order.
        num_classes: C.
        tolerance: a fit ends when no entry of the gradient, in those coordinates and divided by the root of
            N, is larger. 1e-4 leaves the mean loss some 1e-6 above its minimum.

    Raises:
        UserError: features are not finite, a strength is not above 0, or there is one class alone.
    """
    if not all(strength > 0 for strength in strengths):
        raise UserError(f"a strength of the penalty is {min(strengths)}; choose values above 0.")
    if not torch.isfinite(features).all():
        broken = int((~torch.isfinite(features).all(dim=1)).sum())
        raise UserError(f"the features of {broken} of {len(features)} images are not finite.")
    if labels.ndim == 1 and (labels == labels[0]).all():
        raise UserError("all labels are of one class; a classifier needs 2 or more.")
    whitening = _Whitening(features, bound=0.25 if labels.ndim > 1 else 0.5)
    start = torch.zeros(features.shape[1] + 1, num_classes, dtype=features.dtype)
    for strength in sorted(strengths, reverse=True):
        start = _fit(features, labels, strength, start, whitening, tolerance)
        weight, intercept = start[:-1], start[-1]
        yield Regression(weight.T.contiguous(), intercept - whitening.mean @ weight, float(strength))


class _Whitening:
    """The coordinates in which L-BFGS works: rotated to the eigenvectors of the centered features, scaled."""

    def __init__(self, features: Tensor, bound: float) -> None:
        self.mean = features.mean(dim=0)
        gram = torch.zeros(features.shape[1], features.shape[1], dtype=features.dtype)
        for rows in torch.split(features, _ROWS):
            gram.addmm_((rows - self.mean).T, rows - self.mean)
        values, self.rotation = torch.linalg.eigh(gram)
        self.curvature: Tensor = bound * torch.cat(
            [values.clamp_min(0), values.new_tensor([float(len(features))])]
        )

    def scale(self, strength: float) -> Tensor:
        """Return the scale of each coordinate, (D + 1,); the last is that of the intercept."""
        penalty = torch.full_like(self.curvature, strength)
        penalty[-1] = 0.0
        return (self.curvature + penalty).rsqrt()

    def to_plain(self, inner: Tensor, strength: float) -> Tensor:
        """Return weights of centered features (D + 1, C) for inner coordinates (D + 1, C)."""
        scaled = inner * self.scale(strength)[:, None]
        return torch.cat([self.rotation @ scaled[:-1], scaled[-1:]])

    def to_inner(self, plain: Tensor, strength: float) -> Tensor:
        """Undo `to_plain`."""
        rotated = torch.cat([self.rotation.T @ plain[:-1], plain[-1:]])
        return rotated / self.scale(strength)[:, None]

    def pull_back(self, gradient: Tensor, strength: float) -> Tensor:
        """Return the gradient in inner coordinates, given that in plain ones."""
        rotated = torch.cat([self.rotation.T @ gradient[:-1], gradient[-1:]])
        return rotated * self.scale(strength)[:, None]


def _fit(
    features: Tensor, labels: Tensor, strength: float, start: Tensor, whitening: _Whitening, tolerance: float
) -> Tensor:
    inner = whitening.to_inner(start, strength).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [inner],
        max_iter=_ITERATIONS,
        max_eval=2 * _ITERATIONS,
        tolerance_grad=tolerance * len(features) ** 0.5,
        tolerance_change=0.0,
        history_size=20,
        line_search_fn="strong_wolfe",
    )
    value_and_gradient = _multinomial if labels.ndim == 1 else _binary

    def objective() -> Tensor:
        plain = whitening.to_plain(inner.detach(), strength)
        total, gradient = _sum_over(features, labels, plain, whitening.mean, value_and_gradient)
        total = total + strength / 2 * plain[:-1].square().sum()
        gradient[:-1] += strength * plain[:-1]
        inner.grad = whitening.pull_back(gradient, strength)
        return total

    with torch.no_grad():
        optimizer.step(objective)  # type: ignore[no-untyped-call]
    return whitening.to_plain(inner.detach(), strength)


_Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _sum_over(
    features: Tensor, labels: Tensor, plain: Tensor, mean: Tensor, value_and_gradient: _Loss
) -> tuple[Tensor, Tensor]:
    """Return the loss of all images and its gradient with regard to `plain`, (D + 1, C)."""
    weight = plain[:-1]
    intercept = plain[-1] - mean @ weight
    total, gradient = plain.new_zeros(()), torch.zeros_like(plain)
    for rows, known in zip(torch.split(features, _ROWS), torch.split(labels, _ROWS), strict=True):
        loss, residual = value_and_gradient(torch.addmm(intercept, rows, weight), known)
        total += loss
        gradient[:-1].addmm_(rows.T, residual)
        gradient[-1] += residual.sum(dim=0)
    # Of the centered features, whose intercept this is.
    gradient[:-1] -= torch.outer(mean, gradient[-1])
    return total, gradient


def _multinomial(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy (in place of the logits its gradient): one label an image."""
    log_probabilities = torch.log_softmax(logits, dim=1)
    loss = -log_probabilities.gather(1, labels[:, None]).sum()
    residual = log_probabilities.exp_()
    residual[torch.arange(len(labels)), labels] -= 1
    return loss, residual


def _binary(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of C binary cross-entropies and its gradient: any number of labels an image."""
    loss = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="sum")
    return loss, torch.sigmoid(logits) - labels

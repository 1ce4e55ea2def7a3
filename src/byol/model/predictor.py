"""Predictors q beside the paper's `Mlp`: learned linear ones, none, and those in closed form.

Each spec's `build(P)` returns a module (B, P) to (B, P) with a method `fit`, the slot `algorithm.Predictor`.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from byol.errors import UserError, refuse_below, refuse_no_number
from byol.model.head import Head
from byol.objective import unit
from byol.system.collective import mean_over_ranks


@dataclass(frozen=True, kw_only=True)
class NoPredictor:
    """No predictor, q(z) = z: a control, which collapses unless the target stays fixed."""

    kind: Literal["none"] = "none"

    def build(self, inputs: int) -> Head:
        """Return the identity."""
        return Head()


@dataclass(frozen=True, kw_only=True)
class LinearPredictor:
    """One matrix, learned, without bias.

    Source: BYOL (2006.07733), Table 14 (one layer); DirectPred (2102.06810), Table 3.
    """

    kind: Literal["linear"] = "linear"

    def build(self, inputs: int) -> Head:
        """Return the layer for projections (B, inputs)."""
        return Head(nn.Linear(inputs, inputs, bias=False))


@dataclass(frozen=True, kw_only=True)
class SymmetricLinear:
    """One symmetric matrix, learned: (A + A^T) / 2.

    Source: DirectPred (2102.06810), Table 3.
    """

    kind: Literal["symmetric"] = "symmetric"

    def build(self, inputs: int) -> Head:
        """Return the layer for projections (B, inputs)."""
        return Head(_Symmetric(inputs))


@dataclass(frozen=True, kw_only=True)
class SimSiamPredictor:
    """SimSiam's predictor, a bottleneck: Linear without bias, batch norm, ReLU, Linear with bias.

    Args:
        hidden: width of the bottleneck; a quarter of P as published.

    Source: SimSiam (2011.10566), section 3; `simsiam/builder.py:39-42`.
    """

    kind: Literal["simsiam"] = "simsiam"
    hidden: int = 512

    def __post_init__(self) -> None:
        refuse_below("predictor.hidden", self.hidden, 1)

    def build(self, inputs: int) -> Head:
        """Return the head for projections (B, inputs)."""
        return Head(
            nn.Linear(inputs, self.hidden, bias=False),
            nn.BatchNorm1d(self.hidden),
            nn.ReLU(inplace=True),
            nn.Linear(self.hidden, inputs),
        )


@dataclass(frozen=True, kw_only=True)
class DirectPred:
    """DirectPred: a matrix that is set from the eigenvalues of the projections' correlation, not learned.

    W = U diag(p) U^T with F = U diag(s) U^T and p_j = sqrt(s_j / max s) + epsilon, at least 1e-4. This is the
    authors' code; Eq. 18 adds epsilon * max s to sqrt(s_j) instead. The loss does not see the scale of W, so
    the two differ in the floor under small eigenvalues alone: epsilon here, epsilon * sqrt(max s) there.

    Args:
        rho: fraction of the old average kept, F <- rho F + (1 - rho) mean z z^T, in [0, 1), per micro-batch.
        epsilon: the floor, >= 0.
        every: batches from one setting of W to the next; in between it is learned by gradient.

    Source: DirectPred (2102.06810), Eq. 18 and 19; luckmatters `byol_trainer.py:57-98, 265-275, 592-674`.
    """

    kind: Literal["directpred"] = "directpred"
    rho: float = 0.3
    epsilon: float = 0.1
    every: int = 1

    def __post_init__(self) -> None:
        _check(self.rho, self.epsilon)
        refuse_below("predictor.every", self.every, 1)

    def build(self, inputs: int) -> "DirectPredictor":
        """Return the predictor for projections (B, inputs)."""
        return DirectPredictor(inputs, self.rho, self.epsilon, self.every)


@dataclass(frozen=True, kw_only=True)
class DirectCopy:
    """DirectCopy: DirectPred without the eigen-decomposition, W = F / |F| + epsilon I, |F| the spectral norm.

    Args:
        rho: fraction of the old average kept, in [0, 1).
        epsilon: of the identity that is added, >= 0.

    Source: DirectCopy (2110.04947). The text was not at hand: normalization and epsilon follow what others
        quote of it (docs/algorithm.md).
    """

    kind: Literal["directcopy"] = "directcopy"
    rho: float = 0.5
    epsilon: float = 0.3

    def __post_init__(self) -> None:
        _check(self.rho, self.epsilon)

    def build(self, inputs: int) -> "DirectCopyPredictor":
        """Return the predictor for projections (B, inputs)."""
        return DirectCopyPredictor(inputs, self.rho, self.epsilon)


@dataclass(frozen=True, kw_only=True)
class OptimalLinear:
    """The exact optimum of a linear predictor: least squares from projections to unit targets in the batch.

    Wants batches much larger than P: with two views, up to P / 2 images are fitted without error and nothing
    is left to learn. With micro-batches each is fitted on its own.

    Source: BYOL (2006.07733), section 5, "near-optimal predictor" (52.5 % without a moving average).
    """

    kind: Literal["optimal"] = "optimal"

    def build(self, inputs: int) -> "OptimalPredictor":
        """Return the predictor for projections (B, inputs)."""
        return OptimalPredictor(inputs)


class DirectPredictor(nn.Module):
    """See `DirectPred`. The matrix of a batch comes from the batches before it, as in the authors' order.

    It starts as the identity, for one batch.
    """

    def __init__(self, size: int, rho: float, epsilon: float, every: int = 1) -> None:
        super().__init__()
        self.rho, self.epsilon, self.every = rho, epsilon, every
        self.weight = nn.Parameter(torch.eye(size), requires_grad=every > 1)
        self.correlation: Tensor
        self.register_buffer("correlation", torch.zeros(size, size))
        self.batches = 0

    def forward(self, projection: Tensor) -> Tensor:
        """Return W z (B, P)."""
        return F.linear(projection, self.weight)

    @torch.no_grad()
    def fit(self, tasks: Iterable[tuple[Tensor, Sequence[Tensor]]]) -> None:
        """Set W from the average so far, then add these projections (B, P) to the average."""
        rows = torch.cat([z for z, _ in tasks]).to(self.correlation.dtype)
        with _full_precision(rows):
            if self.batches > 0 and self.batches % self.every == 0:
                self.weight.copy_(self.closed_form())
            new = mean_over_ranks(rows.T @ rows / len(rows))
            self.correlation.lerp_(new, 1.0 - self.rho if self.batches else 1.0)
        self.batches += 1

    def closed_form(self) -> Tensor:
        """Return W (P, P) of the average so far."""
        values, vectors = torch.linalg.eigh(_finite(self.correlation))
        fractions = values.clamp_min(0) / values[-1].clamp_min(torch.finfo(values.dtype).tiny)
        floored = (fractions.sqrt() + self.epsilon).clamp_min(1e-4)
        w: Tensor = (vectors * floored) @ vectors.T
        return w

    def get_extra_state(self) -> dict[str, Any]:
        """Return what no tensor holds: the number of batches in the average."""
        return {"batches": self.batches}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_extra_state` returned."""
        self.batches = state["batches"]


class DirectCopyPredictor(DirectPredictor):
    """See `DirectCopy`."""

    def closed_form(self) -> Tensor:
        """Return W (P, P) of the average so far."""
        identity = torch.eye(
            len(self.correlation), dtype=self.correlation.dtype, device=self.correlation.device
        )
        norm = spectral_norm(self.correlation).clamp_min(torch.finfo(self.correlation.dtype).tiny)
        return self.correlation / norm + self.epsilon * identity


class OptimalPredictor(nn.Module):
    """See `OptimalLinear`."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight: Tensor
        self.register_buffer("weight", torch.eye(size))

    def forward(self, projection: Tensor) -> Tensor:
        """Return W z (B, P)."""
        return F.linear(projection, self.weight)

    @torch.no_grad()
    def fit(self, tasks: Iterable[tuple[Tensor, Sequence[Tensor]]]) -> None:
        """Set W to the least-squares solution over all predictions of this batch."""
        pairs = [(z, target) for z, targets in tasks for target in targets]
        inputs = torch.cat([z for z, _ in pairs]).to(self.weight.dtype)
        outputs = torch.cat([unit(target) for _, target in pairs]).to(self.weight.dtype)
        with _full_precision(inputs):
            gram = mean_over_ranks(inputs.T @ inputs / len(inputs))
            cross = mean_over_ranks(outputs.T @ inputs / len(inputs))
            self.weight.copy_(cross @ torch.linalg.pinv(_finite(gram), hermitian=True))


class _Symmetric(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.Linear(size, size, bias=False).weight.detach().clone())

    def forward(self, projection: Tensor) -> Tensor:
        return F.linear(projection, (self.weight + self.weight.T) / 2)


def spectral_norm(matrix: Tensor, squarings: int = 5) -> Tensor:
    """Return the largest eigenvalue () of a symmetric positive semi-definite matrix (P, P), by products.

    The row of matrix^32 with the largest diagonal entry points along the leading eigenvector; the norm is its
    Rayleigh quotient, from below: with a second eigenvalue of 0.8 times the first it lacks about 0.8^64.
    """
    tiny = torch.finfo(matrix.dtype).tiny
    power = matrix
    for _ in range(squarings):
        power = power / power.trace().clamp_min(tiny)
        power = power @ power
    vector = F.normalize(power[power.diagonal().argmax()], dim=0)
    return vector @ matrix @ vector


def _full_precision(like: Tensor) -> AbstractContextManager[object]:
    """Context for the closed forms inside somebody's mixed precision: they would not survive bfloat16."""
    return torch.autocast(like.device.type, enabled=False)


def _finite(matrix: Tensor) -> Tensor:
    """Return a matrix that can be decomposed even in a run that diverged; its loss says that it did."""
    return matrix.nan_to_num(0.0, 0.0, 0.0)


def _check(rho: float, epsilon: float) -> None:
    refuse_no_number("predictor.rho", rho)
    if not 0.0 <= rho < 1.0:
        raise UserError(f"predictor.rho is {rho}; it must lie in [0, 1).")
    refuse_below("predictor.epsilon", epsilon, 0)

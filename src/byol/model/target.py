"""Targets: what the prediction of one view is compared with. The slot is `algorithm.Target`."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from byol.algorithm import Branch, Online
from byol.errors import UserError, refuse_no_number
from byol.schedule import cosine_tau


@dataclass(frozen=True, kw_only=True)
class Ema:
    """The paper's target: an exponential moving average of the online network, tau rising to 1.

    Args:
        tau_base: fraction of the target kept at the first step, in [0, 1].

    Raises:
        UserError: tau_base lies outside [0, 1].
    """

    kind: Literal["ema"] = "ema"
    tau_base: float = 0.996

    def __post_init__(self) -> None:
        refuse_no_number("target.tau_base", self.tau_base)
        if not 0.0 <= self.tau_base <= 1.0:
            raise UserError(f"target.tau_base is {self.tau_base}; it must lie in [0, 1].")

    def build(self, online: Online) -> "EmaTarget":
        """Return the target network, a copy of the online one."""
        return EmaTarget(online)

    def tau(self, step: int, total_steps: int) -> float:
        """Return tau of a step, see `schedule.cosine_tau`."""
        return cosine_tau(step, total_steps, self.tau_base)


@dataclass(frozen=True, kw_only=True)
class ConstantEma:
    """A moving average with one tau from beginning to end (BYOL, Table 5a; DirectPred, 2102.06810).

    Args:
        value: fraction of the target kept at every step, in [0, 1].

    Raises:
        UserError: the value lies outside [0, 1].
    """

    kind: Literal["constant-ema"] = "constant-ema"
    value: float = 0.996

    def __post_init__(self) -> None:
        refuse_no_number("target.value", self.value)
        if not 0.0 <= self.value <= 1.0:
            raise UserError(f"target.value is {self.value}; tau must lie in [0, 1].")

    def build(self, online: Online) -> "EmaTarget":
        """Return the target network, a copy of the online one."""
        return EmaTarget(online)

    def tau(self, step: int, total_steps: int) -> float:
        """Return the constant."""
        return self.value


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """The target keeps its random initial weights: tau = 1 (BYOL, Table 5a: 18.8 %)."""

    kind: Literal["fixed"] = "fixed"

    def build(self, online: Online) -> "FixedTarget":
        """Return the target network, a copy of the online one at this moment."""
        return FixedTarget(online)

    def tau(self, step: int, total_steps: int) -> float:
        """Return 1: the target is kept whole."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Shared:
    """The online network is its own target, with its gradient stopped (SimSiam, 2011.10566; tau = 0)."""

    kind: Literal["shared"] = "shared"

    def build(self, online: Online) -> "SharedTarget":
        """Return the target, which has no parameters of its own."""
        return SharedTarget()

    def tau(self, step: int, total_steps: int) -> float:
        """Return 0: nothing of the old target is kept."""
        return 0.0


class EmaTarget(nn.Module):
    """Encoder and projector with parameters xi, which follow theta.

    Runs in train mode, with the batch statistics of its own input: only parameters are averaged,
    buffers (running statistics) are its own and never read.

    Source: official `byol_experiment.py:232-236` (train mode), `:342-350` (parameters only).
    """

    def __init__(self, online: Online) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(online.encoder)
        self.projector = copy.deepcopy(online.projector)
        self.requires_grad_(False)

    def forward(self, view: Tensor, branch: Callable[[], Branch]) -> Tensor:
        """Return the target projection z' (B, P) of a view; the online branch is not asked for."""
        return self.projector(self.encoder(view))  # type: ignore[no-any-return]

    @torch.no_grad()
    def update(self, online: Online, tau: float) -> None:
        """Move xi <- tau xi + (1 - tau) theta."""
        xi: list[Tensor] = list(self.parameters())
        theta: list[Tensor] = [*online.encoder.parameters(), *online.projector.parameters()]
        torch._foreach_lerp_(xi, theta, 1.0 - tau)


class FixedTarget(EmaTarget):
    """An `EmaTarget` that does not follow."""

    def update(self, online: Online, tau: float) -> None:
        """Do nothing: xi stays."""


class SharedTarget(nn.Module):
    """The online projection itself, detached from the graph."""

    def forward(self, view: Tensor, branch: Callable[[], Branch]) -> Tensor:
        """Return z (B, P) of the same view's online branch, detached."""
        return branch().projection.detach()

    def update(self, online: Online, tau: float) -> None:
        """Do nothing: the target is the online network."""


TargetNetwork = EmaTarget | SharedTarget  # what a spec builds: a module that is an `algorithm.Target`

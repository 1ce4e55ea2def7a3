"""What changes with time, as pure functions of the step: there is nothing to restore on resume."""

import math
from dataclasses import dataclass
from typing import Literal


def learning_rate(step: int, total_steps: int, warmup_steps: int, peak: float) -> float:
    """Learning rate of a step: linear from 0 to `peak`, then a cosine to 0.

    Args:
        step: optimizer steps done so far, in [0, total_steps).
        total_steps: optimizer steps of the whole run.
        warmup_steps: steps of the linear part; 0 starts at the peak.
        peak: the highest learning rate, base_lr * global batch size / 256.

    Returns:
        The learning rate in [0, peak].

    Source: official `utils/schedules.py:27-43`.
    """
    if step < warmup_steps:
        return peak * step / warmup_steps
    progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return peak * 0.5 * (1.0 + math.cos(math.pi * progress))


def cosine_tau(step: int, total_steps: int, tau_base: float) -> float:
    """Fraction of the target kept at a step: from `tau_base` at step 0 to exactly 1 at `total_steps`.

    Args:
        step: optimizer steps done before this one (k of the paper), in [0, total_steps].
        total_steps: K of the paper.
        tau_base: the value at step 0, in [0, 1].

    Returns:
        tau_k = 1 - (1 - tau_base) (cos(pi k / K) + 1) / 2.

    Source: BYOL (2006.07733), section 3.2; official `utils/schedules.py:20-24`.
    """
    return 1.0 - (1.0 - tau_base) * (math.cos(math.pi * step / total_steps) + 1.0) / 2.0


@dataclass(frozen=True, kw_only=True)
class FollowingRate:
    """The predictor's learning rate follows the schedule of the others, times a factor.

    Args:
        factor: 1 as published; 10 stands in for the moving average (BYOL, Table 21).
    """

    kind: Literal["following"] = "following"
    factor: float = 1.0

    def at(self, lr: float, peak: float) -> float:
        """Return the predictor's learning rate, given the others' and their highest."""
        return lr * self.factor


@dataclass(frozen=True, kw_only=True)
class ConstantRate:
    """The predictor's learning rate stays at the highest of the others (SimSiam, 2011.10566, section 4.2)."""

    kind: Literal["constant"] = "constant"

    def at(self, lr: float, peak: float) -> float:
        """Return the highest learning rate."""
        return peak

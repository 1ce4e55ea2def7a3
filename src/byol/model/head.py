"""Projector g and predictor q: (B, D) to (B, P), and (B, P) to (B, P)."""

from dataclasses import dataclass
from typing import Literal

from torch import nn


@dataclass(frozen=True, kw_only=True)
class Mlp:
    """Linear, batch norm, ReLU, Linear: the paper's projector and predictor alike.

    The last layer has no bias and no batch norm, as in the official code (the paper's appendix J
    shows a bias there; the code has none).

    Args:
        hidden: width of the hidden layer.
        out: P, the size of a projection.

    Source: official `utils/networks.py:40-45`, `configs/byol.py:40-42`.
    """

    kind: Literal["mlp"] = "mlp"
    hidden: int = 4096
    out: int = 256

    def build(self, inputs: int) -> nn.Module:
        """Return the head for inputs (B, inputs)."""
        return nn.Sequential(
            nn.Linear(inputs, self.hidden),
            nn.BatchNorm1d(self.hidden),
            nn.ReLU(inplace=True),
            nn.Linear(self.hidden, self.out, bias=False),
        )


@dataclass(frozen=True, kw_only=True)
class NoPredictor:
    """The predictor left out: p = z. Collapses unless the target is held fast; for controls."""

    kind: Literal["none"] = "none"

    def build(self, inputs: int) -> nn.Module:
        """Return the identity."""
        return nn.Identity()

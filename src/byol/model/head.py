"""Heads: the projector g, (B, D) to (B, P), and the paper's predictor q, which has the same form."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from byol.errors import refuse_below
from byol.model.norm import BatchNorm, Norm


@dataclass(frozen=True, kw_only=True)
class Mlp:
    """Linear, norm, ReLU, Linear: the paper's projector and predictor alike.

    The last layer has no bias and no batch norm, as in the official code (the paper's appendix J
    shows a bias there; the code has none).

    Args:
        hidden: width of the hidden layer.
        out: P, the size of a projection.
        norm: of the hidden layer.

    Source: official `utils/networks.py:40-45`, `configs/byol.py:40-42`.
    """

    kind: Literal["mlp"] = "mlp"
    hidden: int = 4096
    out: int = 256
    norm: Norm = BatchNorm()

    def __post_init__(self) -> None:
        refuse_below("hidden of a head", self.hidden, 1)
        refuse_below("out of a head", self.out, 1)

    def build(self, inputs: int) -> "Head":
        """Return the head for inputs (B, inputs)."""
        return Head(
            self.norm.linear(inputs, self.hidden),
            self.norm.after_linear(self.hidden),
            nn.ReLU(inplace=True),
            self.norm.linear(self.hidden, self.out, bias=False),
        )


@dataclass(frozen=True, kw_only=True)
class SimSiamProjector:
    """SimSiam's projector: batch norm after every layer, the last one without scale and shift.

    Args:
        layers: 3 as published for ImageNet, 2 for CIFAR-10.
        out: P, and the width of the hidden layers.

    Source: SimSiam (2011.10566), section 3; `simsiam/builder.py:28-36`.
    """

    kind: Literal["simsiam"] = "simsiam"
    layers: int = 3
    out: int = 2048

    def __post_init__(self) -> None:
        refuse_below("projector.layers", self.layers, 1)
        refuse_below("projector.out", self.out, 1)

    def build(self, inputs: int) -> "Head":
        """Return the head for inputs (B, inputs); as published, hidden layers are as wide as the inputs."""
        hidden = [
            layer
            for _ in range(self.layers - 1)
            for layer in (
                nn.Linear(inputs, inputs, bias=False),
                nn.BatchNorm1d(inputs),
                nn.ReLU(inplace=True),
            )
        ]
        return Head(
            *hidden,
            nn.Linear(inputs, self.out, bias=False),
            nn.BatchNorm1d(self.out, affine=False),
        )


class Head(nn.Sequential):
    """Layers that are learned by gradient alone."""

    def fit(self, tasks: Iterable[tuple[Tensor, Sequence[Tensor]]]) -> None:
        """Do nothing: the optimizer learns it."""

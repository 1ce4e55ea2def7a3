"""The online classifier: a linear layer that watches the representations while they are learned.

It is the official code's way to see how training goes. Labels reach this layer and nothing else: it is fed
the first view's representation with its gradient stopped, so the encoder is the same with and without it.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from byol.model.initialization import truncated_normal


class BuildsOptimizer(Protocol):
    """A spec of an optimizer, such as `optim.Lars`."""

    def build(self, network: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer over the parameters of a network."""


class OnlineClassifier(nn.Module):
    """One linear layer with an optimizer of its own, made by the same spec as the online network's.

    The official code adds the cross-entropy to the loss and lets one optimizer move both. No gradient passes
    between them and every update is per parameter, so to move them apart gives the same weights
    (tests/test_reference.py).

    Args:
        dim: D of the representations.
        num_classes: number of classes.
        optimizer: spec of the optimizer.

    Source: official `byol_experiment.py:163, 175, 256-276`.
    """

    def __init__(self, dim: int, num_classes: int, optimizer: BuildsOptimizer) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, num_classes)
        truncated_normal(self)
        self.optimizer = optimizer.build(self)

    def forward(self, representation: Tensor) -> Tensor:
        """Return the scores (B, classes) of representations (B, D), in float32 at least."""
        return self.linear(representation.to(self.linear.weight.dtype))  # type: ignore[no-any-return]

    def step(self, representation: Tensor, labels: Tensor, lr: float) -> Tensor:
        """Take one step on representations (B, D) and labels (B,); return the loss () before it."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(self(representation.detach()), labels)
        torch.autograd.backward(loss)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        return loss.detach()

    def state(self) -> dict[str, Any]:
        """Return weights and optimizer as plain values."""
        return {"classifier": self.state_dict(), "classifier_optimizer": self.optimizer.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""
        self.load_state_dict(state["classifier"])
        self.optimizer.load_state_dict(state["classifier_optimizer"])

"""A last layer that lets every direction of a representation count alike; estimated on images, not learned.

Neighbors are found by the cosine, in which a few directions of large variance decide. A network learns with
this layer as the identity; what it means to whiten is known when the network is.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_FLOOR = 0.03  # of the mean variance, added to the variance of every direction (docs/log.md, 2026-11-27)


class Whitening(nn.Module):
    """Map (B, D) to (B, D): the identity until `whiten` is called, then centered and uncorrelated.

    Args:
        size: D.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.matrix: Tensor
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("matrix", torch.eye(size))

    def reset_parameters(self) -> None:
        """Become the identity again."""
        self.mean.zero_()
        nn.init.eye_(self.matrix)

    def forward(self, representation: Tensor) -> Tensor:
        """Return (representation - mean) @ matrix, in the precision of the matrix whatever the autocast."""
        with torch.autocast(representation.device.type, enabled=False):
            return (representation.to(self.matrix.dtype) - self.mean) @ self.matrix


def has_whitening(network: nn.Module) -> bool:
    """Return whether a network has layers that `whiten` sets."""
    return any(isinstance(layer, Whitening) for layer in network.modules())


def unwhiten(network: nn.Module) -> None:
    """Make the whitening layers of a network the identity, as which it learns."""
    for layer in network.modules():
        if isinstance(layer, Whitening):
            layer.reset_parameters()


@torch.no_grad()
def whiten(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the whitening layers of a network by what reaches them of a population; without any, do nothing.

    With the covariance C = U diag(s) U^T the matrix is U diag(s + 0.03 mean(s))^(-1/2) U^T, the symmetric
    root, which moves representations least. The floor keeps directions apart that images did not fill.

    Args:
        network: in eval mode; its batch norms have their statistics.
        batches: (B, ...) each, as the network takes them, on its device.

    Source: "Whitening Sentence Representations" (2103.15316), section 3; the floor is ours.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, Whitening)]
    if not layers:
        return
    assert not network.training, "the network has to be in eval mode"
    moments = [_Moments() for _ in layers]
    hooks = [layer.register_forward_pre_hook(own.look) for layer, own in zip(layers, moments, strict=True)]
    try:
        for batch in batches:
            network(batch)
    finally:
        for hook in hooks:
            hook.remove()
    for layer, own in zip(layers, moments, strict=True):
        own.give(layer)


class _Moments:
    """What the rows that reach a layer sum to, and their products."""

    def __init__(self) -> None:
        self.count = 0
        self.first: Tensor | float = 0.0
        self.second: Tensor | float = 0.0

    def look(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Take in a batch (B, D); a hook."""
        rows = inputs[0].double()
        self.first = self.first + rows.sum(dim=0)
        self.second = self.second + rows.T @ rows
        self.count += len(rows)

    def give(self, layer: Whitening) -> None:
        """Write mean and matrix into a layer; one that too few rows reached keeps its own."""
        if self.count < 2:
            return
        assert isinstance(self.first, Tensor)
        assert isinstance(self.second, Tensor)
        mean = self.first / self.count
        covariance = self.second / self.count - torch.outer(mean, mean)
        variances, directions = torch.linalg.eigh(covariance)
        variances = variances.clamp_min(0.0)
        floored = variances + _FLOOR * variances.mean()
        if not floored[0] > 0:  # all images look the same to the network
            return
        layer.mean.copy_(mean)
        layer.matrix.copy_((directions * floored.rsqrt()) @ directions.T)

"""Mean and variance of every batch norm, estimated on images: what a network at random has not gathered.

A network whose running statistics are still 0 and 1 is judged far below what its random weights are worth.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle


@torch.no_grad()
def estimate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the running statistics of a network to those of a population, without any gradient.

    Each batch is normalized by its own mean and variance, as in training. Those of the population are put
    together from the batches' moments, a batch weighing as much as it has values of a channel. Layers without
    running statistics, weights and modes stay as they are.

    Args:
        network: in eval mode; its batch norms may be of any kind, those over several processes too.
        batches: (B, ...) each, as the network takes them, on its device; at least one where there is a batch
            norm. Each should be drawn from the whole population.

    Source: "Rethinking Batch in BatchNorm" (2105.07576), section 3.1, "precise BatchNorm".
    """
    layers = [
        layer
        for layer in network.modules()
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None
    ]
    if not layers:
        return
    assert not any(layer.training for layer in layers), "the network has to be in eval mode"
    moments = [_Moments() for _ in layers]
    hooks: list[RemovableHandle] = []
    try:
        for layer, own in zip(layers, moments, strict=True):
            hooks.append(layer.register_forward_pre_hook(_normalized_by_its_own(own)))
        for batch in batches:
            network(batch)
    finally:
        for hook in hooks:
            hook.remove()
    for layer, own in zip(layers, moments, strict=True):
        own.give(layer)


class _Moments:
    """What the batches of one layer sum to, weighted by their values of a channel."""

    def __init__(self) -> None:
        self.total = 0
        self.first: Tensor | float = 0.0
        self.second: Tensor | float = 0.0

    def add(self, count: int, mean: Tensor, variance: Tensor) -> None:
        """Take in a batch of so many values of a channel."""
        self.first = self.first + count * mean.double()
        self.second = self.second + count * (variance.double() + mean.double().square())
        self.total += count

    def give(self, layer: _BatchNorm) -> None:
        """Write the population's statistics into a layer; one that no batch went through keeps its own."""
        if not self.total:
            return
        assert isinstance(self.first, Tensor)
        assert isinstance(self.second, Tensor)
        mean = self.first / self.total
        _write(layer, mean, self.second / self.total - mean.square())


def _normalized_by_its_own(moments: _Moments) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    """Return a hook that lets a layer in eval mode normalize a batch by the batch's statistics."""

    def look(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, _BatchNorm)
        wide = inputs[0].to(torch.promote_types(inputs[0].dtype, torch.float32))
        variance, mean = torch.var_mean(wide, [0, *range(2, wide.ndim)], correction=0)
        moments.add(wide.numel() // wide.shape[1], mean, variance)
        _write(layer, mean, variance)

    return look


def _write(layer: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    layer.running_mean.copy_(mean)
    layer.running_var.copy_(variance.clamp_min(0.0))

"""Which parameters of a classifier learn how fast: the groups of its optimizer."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def head_groups(
    heads: Iterable[nn.Module], lrs: Sequence[float], weight_decay: float
) -> list[dict[str, Any]]:
    """Return the groups of linear classifiers side by side, each with its own learning rate.

    Args:
        heads: the H classifiers; their biases do not decay.
        lrs: of each.
        weight_decay: of their weights.
    """
    groups: list[dict[str, Any]] = []
    for head, lr in zip(heads, lrs, strict=True):
        assert isinstance(head, nn.Linear)
        groups.append({"params": [head.weight], "weight_decay": weight_decay, "lr": lr})
        groups.append({"params": [head.bias], "weight_decay": 0.0, "lr": lr})
    return groups


def encoder_groups(
    encoder: nn.Module, lr: float, weight_decay: float, layer_decay: float
) -> list[dict[str, Any]]:
    """Return the groups of an encoder, one or two a layer.

    Args:
        encoder: whose biases and norms do not decay.
        lr: what the layers' learning rates fall from.
        weight_decay: of all other weights.
        layer_decay: the learning rate of each layer is this times that of the layer above it.
    """
    groups: list[dict[str, Any]] = []
    layers = layers_of(encoder)
    for depth, layer in enumerate(layers):
        layer_lr = lr * layer_decay ** (len(layers) - depth)
        for decays in (True, False):
            members = [p for p in layer if (p.ndim > 1) == decays]
            if members:
                groups.append({"params": members, "weight_decay": weight_decay * decays, "lr": layer_lr})
    return groups


def slow_statistics(network: nn.Module, steps_per_epoch: float) -> None:
    """Let batch-norm statistics keep the fraction max(1 - 10 / s, 0.9) in a step, s the steps of an epoch.

    Source: BYOL (2006.07733), appendix D.3.
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = min(10 / steps_per_epoch, 0.1)


def layers_of(encoder: nn.Module) -> list[list[nn.Parameter]]:
    """Return the parameters of each layer from the images up; one layer, two words of a name."""
    layers: dict[tuple[str, ...], list[nn.Parameter]] = {}
    for name, parameter in encoder.named_parameters():
        words = name.split(".")
        layers.setdefault(tuple(words[:2] if len(words) > 2 else words[:1]), []).append(parameter)
    return list(layers.values())

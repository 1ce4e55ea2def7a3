"""How all weights of a network are drawn before the first step."""

import math
from collections.abc import Callable
from typing import Literal

from torch import nn

Initialization = Literal["torch", "truncated-normal"]


def initialize(network: nn.Module, how: Initialization) -> None:
    """Draw the weights of a network again, or leave them as its layers drew them ("torch")."""
    _WAYS[how](network)


def truncated_normal(network: nn.Module) -> None:
    """Draw weights of convolutions and linear layers from N(0, 1 / fan_in) cut off at 2 sigma; biases are 0.

    The cut makes the standard deviation 0.88 of 1 / sqrt(fan_in), as it does in the official code, which does
    not correct for it.

    Source: Haiku's default, `hk/_src/basic.py:176`, `conv.py:205`, which the official code keeps.
    """
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            sigma = 1.0 / math.sqrt(layer.weight[0].numel())
            nn.init.trunc_normal_(layer.weight, std=sigma, a=-2.0 * sigma, b=2.0 * sigma)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def he_normal(network: nn.Module) -> None:
    """Draw weights of convolutions from He's normal distribution over the fan-out, as torchvision does.

    A recipe can have the official code's instead (`truncated_normal`). Reproductions work with either
    (method notes 1.3).

    Source: He et al. 2015 (1502.01852).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _as_drawn(network: nn.Module) -> None:
    """Leave each layer's own initialization."""


_WAYS: dict[str, Callable[[nn.Module], None]] = {"torch": _as_drawn, "truncated-normal": truncated_normal}

"""The normalization slot: the layer after a convolution or a linear one, and how these hold their weights.

A name alone (`BatchNorm`, `GroupNorm`, `LayerNorm`, `NoNorm`) is a spec, plain frozen data that encoders
and heads hold. `after_conv` and `after_linear` make the normalizing layer, `conv` and `linear` the one
before it.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from byol.errors import UserError, refuse_not_whole


class _PlainLayers:
    has_shift: ClassVar[bool] = True  # the layer before the norm then needs no bias

    def conv(self, *args: Any, **kwargs: Any) -> nn.Conv2d:
        """Return a convolution."""
        return nn.Conv2d(*args, **kwargs)

    def linear(self, inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
        """Return a linear layer."""
        return nn.Linear(inputs, outputs, bias)


@dataclass(frozen=True, kw_only=True)
class BatchNorm(_PlainLayers):
    """Batch normalization, the paper's: momentum 0.1 (the official decay of 0.9) and epsilon 1e-5.

    Source: official `configs/byol.py:47-56`.
    """

    kind: Literal["batch"] = "batch"

    def after_conv(self, channels: int) -> nn.Module:
        """Return the layer for (B, channels, H, W)."""
        return nn.BatchNorm2d(channels)

    def after_linear(self, channels: int) -> nn.Module:
        """Return the layer for (B, channels)."""
        return nn.BatchNorm1d(channels)


@dataclass(frozen=True, kw_only=True)
class GroupNorm(_PlainLayers):
    """Group normalization, with weight standardization of every convolution and linear layer or without.

    No statistic of the batch is used: what comes out for an image does not depend on the others.

    Args:
        groups: of channels; each is normalized on its own.
        standardize: every filter has its mean removed and is scaled to variance 1, see `standardize`.

    Source: BYOL works even without batch statistics (2010.10241), section 3.3; WS is 1903.10520. The text
        was not at hand when this was written: 16 groups are quoted from memory.
    """

    kind: Literal["group"] = "group"
    groups: int = 16
    standardize: bool = True

    def __post_init__(self) -> None:
        refuse_not_whole("norm.groups", self.groups, 1)

    def conv(self, *args: Any, **kwargs: Any) -> nn.Conv2d:
        """Return a convolution."""
        return (StandardizedConv2d if self.standardize else nn.Conv2d)(*args, **kwargs)

    def linear(self, inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
        """Return a linear layer."""
        return (StandardizedLinear if self.standardize else nn.Linear)(inputs, outputs, bias)

    def after_conv(self, channels: int) -> nn.Module:
        """Return the layer for (B, channels, H, W).

        Raises:
            UserError: the channels cannot be cut into equal groups.
        """
        return self.after_linear(channels)

    def after_linear(self, channels: int) -> nn.Module:
        """Return the layer for (B, channels).

        Raises:
            UserError: the channels cannot be cut into equal groups.
        """
        if channels % self.groups:
            raise UserError(
                f"norm.groups is {self.groups}, which does not divide the {channels} channels of a layer."
            )
        return nn.GroupNorm(self.groups, channels)


@dataclass(frozen=True, kw_only=True)
class LayerNorm(_PlainLayers):
    """Layer normalization: over all channels (and positions) of one image; the same as one group."""

    kind: Literal["layer"] = "layer"

    def after_conv(self, channels: int) -> nn.Module:
        """Return the layer for (B, channels, H, W)."""
        return nn.GroupNorm(1, channels)

    def after_linear(self, channels: int) -> nn.Module:
        """Return the layer for (B, channels)."""
        return nn.GroupNorm(1, channels)


@dataclass(frozen=True, kw_only=True)
class NoNorm(_PlainLayers):
    """No normalization; the layer before keeps a bias instead."""

    kind: Literal["none"] = "none"
    has_shift: ClassVar[bool] = False

    def after_conv(self, channels: int) -> nn.Module:
        """Return the identity."""
        return nn.Identity()

    def after_linear(self, channels: int) -> nn.Module:
        """Return the identity."""
        return nn.Identity()


Norm = Annotated[BatchNorm | GroupNorm | LayerNorm | NoNorm, Field(discriminator="kind")]


def standardize(weight: Tensor) -> Tensor:
    """Return a weight (outputs, ...) with filters of mean 0 and variance 1, in float32 at least.

    sigma is sqrt(variance + 1e-4), with the biased variance over the filter: a filter of zeros stays zero.

    Source: weight standardization (1903.10520).
    """
    wide = weight.to(torch.promote_types(weight.dtype, torch.float32))
    dims = tuple(range(1, wide.ndim))
    variance, mean = torch.var_mean(wide, dim=dims, correction=0, keepdim=True)
    return (wide - mean) * torch.rsqrt(variance + 1e-4)


class StandardizedConv2d(nn.Conv2d):
    """A convolution whose filters are standardized in every forward pass, see `standardize`."""

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, standardize(self.weight), self.bias)  # type: ignore[no-any-return]


class StandardizedLinear(nn.Linear):
    """A linear layer whose rows are standardized in every forward pass, see `standardize`."""

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, standardize(self.weight), self.bias)

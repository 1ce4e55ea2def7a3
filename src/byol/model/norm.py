"""The normalisation slot: which layer stands after a convolution or a linear one, and how these hold weights.

A name alone (`BatchNorm`, `GroupNorm`, `LayerNorm`, `NoNorm`) is a spec, plain frozen data that encoders
and heads hold. `after_conv` and `after_linear` make the normalising layer, `conv` and `linear` the one
before it.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from byol.run.errors import UserError
from byol.run.processes import gathered


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
    """Batch normalisation, the paper's: momentum 0.1 (the official decay of 0.9) and epsilon 1e-5.

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
    """Group normalisation, with weight standardisation of every convolution and linear layer or without.

    No statistic of the batch is used: what comes out for an image does not depend on the others.

    Args:
        groups: of channels; each is normalised on its own.
        standardize: every filter has its mean removed and is scaled to variance 1, see `standardize`.

    Source: BYOL works even without batch statistics (2010.10241), section 3.3; WS is 1903.10520. The text
        was not at hand when this was written: 16 groups are quoted from memory of it.
    """

    kind: Literal["group"] = "group"
    groups: int = 16
    standardize: bool = True

    def __post_init__(self) -> None:
        if self.groups < 1:
            raise UserError(f"norm.groups is {self.groups}; use 1 or more.")

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
    """Layer normalisation: over all channels (and places) of one image; the same as one group."""

    kind: Literal["layer"] = "layer"

    def after_conv(self, channels: int) -> nn.Module:
        """Return the layer for (B, channels, H, W)."""
        return nn.GroupNorm(1, channels)

    def after_linear(self, channels: int) -> nn.Module:
        """Return the layer for (B, channels)."""
        return nn.GroupNorm(1, channels)


@dataclass(frozen=True, kw_only=True)
class NoNorm(_PlainLayers):
    """No normalisation; the layer before keeps a bias instead."""

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

    Source: weight standardisation (1903.10520).
    """
    wide = weight.to(torch.promote_types(weight.dtype, torch.float32))
    dims = tuple(range(1, wide.ndim))
    variance, mean = torch.var_mean(wide, dim=dims, correction=0, keepdim=True)
    return (wide - mean) * torch.rsqrt(variance + 1e-4)


class StandardizedConv2d(nn.Conv2d):
    """A convolution whose filters are standardised in every forward pass, see `standardize`."""

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, standardize(self.weight), self.bias)  # type: ignore[no-any-return]


class StandardizedLinear(nn.Linear):
    """A linear layer whose rows are standardised in every forward pass, see `standardize`."""

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, standardize(self.weight), self.bias)


def synchronize(network: nn.Module) -> None:
    """Put a `SyncedBatchNorm` with the same parameters and buffers into the place of every batch norm.

    Raises:
        UserError: a layer is a batch norm of another kind, such as timm's with an activation inside.
    """
    for name, module in network.named_children():
        if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
            setattr(network, name, SyncedBatchNorm(module))  # type: ignore[arg-type]
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise UserError(
                f"the network's layer '{name}' is a {type(module).__name__}, whose statistics cannot be "
                "taken over several processes; train it in one process, or use another encoder."
            )
        else:
            synchronize(module)


class SyncedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm with the statistics of all processes' images together, on any device.

    It takes over parameters, buffers and names of the layer it stands for, so that checkpoints go both ways.
    (torch's own SyncBatchNorm refuses to work on a CPU.)

    Args:
        layer: whose place it takes.
    """

    def __init__(self, layer: nn.modules.batchnorm._BatchNorm) -> None:
        super().__init__(
            layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats
        )
        self.weight, self.bias = layer.weight, layer.bias
        for name, buffer in layer.named_buffers():
            self.register_buffer(name, buffer)
        self.train(layer.training)

    def _check_input_dim(self, input: Tensor) -> None:
        assert input.ndim >= 2, input.shape

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        output, average, variance, count = _GlobalNorm.apply(input, self.weight, self.bias, self.eps)
        if self.track_running_stats:
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            share = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
            self.running_mean.lerp_(average.to(self.running_mean.dtype), share)
            self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var.dtype), share)
        return output  # type: ignore[no-any-return]


class _GlobalNorm(torch.autograd.Function):
    """Normalise x (B, C, ...) by mean and variance (C,) over the images of all processes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mine = torch.batch_norm_update_stats(x, None, None, 0.0)  # mean and variance in one pass, of bf16 too
        counted = torch.full_like(mine[0], x.numel() / x.shape[1])
        means, variances, counts = gathered(torch.stack((*mine, counted))).unbind(1)  # (processes, C) each
        count = counts.sum(dim=0)
        average = (counts * means).sum(dim=0) / count
        # Chan, Golub & LeVeque (1983): no difference of large numbers, unlike the mean of squares.
        variance = (counts * (variances + (means - average).square())).sum(dim=0) / count
        ctx.save_for_backward(x, weight, average, variance, count)
        ctx.eps = eps
        ctx.mark_non_differentiable(average, variance, count)
        return (
            F.batch_norm(x, average, variance, weight, bias, training=False, eps=eps),
            average,
            variance,
            count,
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        x, weight, average, variance, count = ctx.saved_tensors
        has_weight = weight is not None
        if not has_weight:
            weight = torch.ones_like(average)
        # With mean and variance held fast, and the sums over dy x_hat and over dy.
        dx, dweight, dbias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], x, weight, average, variance, None, None, False, ctx.eps, [True, True, True]
        )
        # What flows through mean and variance: the same two sums, over the images of all processes.
        per_image = gathered(torch.stack((dweight, dbias))).sum(dim=0) / count
        scale = weight * torch.rsqrt(variance + ctx.eps)
        slope, shift = (scale * per_image).unbind()
        dx -= F.batch_norm(x, average, variance, slope, shift, training=False, eps=ctx.eps)
        return dx, dweight if has_weight else None, dbias if has_weight else None, None

"""Batch norm whose statistics are those of all processes that train together, on GPUs and on the CPU."""

from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from byol.errors import UserError


def synchronize(network: nn.Module, device: torch.device) -> nn.Module:
    """Return a network whose batch norms take their statistics over the batches of all processes.

    Layers are swapped in place; parameters, buffers and the names of both stay what they are. A layer of
    timm's that also activates keeps its activation.

    Args:
        network: any module.
        device: where it runs. CUDA has torch's own layer, the CPU has `SyncedBatchNorm`.

    Raises:
        UserError: it holds a batch norm of a kind whose statistics nobody here can share between processes.
    """
    if device.type == "cuda":
        from timm.layers.norm_act import convert_sync_batchnorm

        # torch's conversion, but one that keeps the activations in timm's layers
        converted: nn.Module = convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return converted
    if isinstance(network, _BatchNorm):
        return _synced(network)
    for name, child in network.named_children():
        setattr(network, name, synchronize(child, device))
    return network


def _synced(layer: _BatchNorm) -> "SyncedBatchNorm":
    is_plain = type(layer) in (
        nn.BatchNorm1d,
        nn.BatchNorm2d,
        nn.BatchNorm3d,
        nn.SyncBatchNorm,
        SyncedBatchNorm,
    )
    rest = {name: getattr(layer, name, None) for name in ("drop", "act")}  # of timm's BatchNormAct2d
    activation = {name: module for name, module in rest.items() if isinstance(module, nn.Module)}
    if not is_plain and not activation:
        raise UserError(
            f"the encoder has a {type(layer).__name__}, a batch norm whose statistics cannot be shared "
            "between processes: use torch's BatchNorm layers, or train in one process."
        )
    synced = SyncedBatchNorm(
        layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats
    )
    synced._parameters, synced._buffers = layer._parameters, layer._buffers
    for name, module in activation.items():
        synced.add_module(name, module)
    return synced.train(layer.training)


class SyncedBatchNorm(_BatchNorm):
    """Batch norm (1d, 2d or 3d) over the batches of all processes, on the CPU, where torch has none.

    In eval mode, and in a process alone, it is torch's ordinary layer. A state dict of either fits the other.
    Sizes of the batch may differ from process to process; all must go through forward and backward.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.drop: nn.Module = nn.Identity()  # a layer of timm's brings its own
        self.act: nn.Module = nn.Identity()

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalized input (B, C, ...)."""
        out = self._over_all(input) if self.training and _is_together() else super().forward(input)
        return self.act(self.drop(out))  # type: ignore[no-any-return]

    def _over_all(self, input: Tensor) -> Tensor:
        wide = torch.promote_types(input.dtype, torch.float32)
        mean, variance, count = _statistics_over_all(input, wide)
        if count < 2:
            raise ValueError(f"Expected more than 1 value per channel when training, got {input.shape}")
        if self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            fraction = 1.0 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), fraction)
                unbiased = variance * (count / (count - 1))
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), fraction)
        out: Tensor = _Normalize.apply(input, self.weight, self.bias, mean, variance, count, self.eps)
        return out

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected an input of 2 dimensions or more (got {input.ndim})")


def _is_together() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


@torch.no_grad()
def _statistics_over_all(input: Tensor, wide: torch.dtype) -> tuple[Tensor, Tensor, float]:
    """Return mean (C,), biased variance (C,) and number of values per channel over all processes.

    Each sends its own mean and variance; they are put together by Chan's formula, in which no large numbers
    cancel, in float64 and in the order of the ranks, so that all processes have the same bits.

    Source: Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance", Eq. 2.1.
    """
    channels = input.shape[1]
    # One fused pass; the running statistics that it wants are not ours, and momentum 0 leaves them.
    unused = torch.zeros(channels, dtype=wide), torch.ones(channels, dtype=wide)
    own = torch.batch_norm_update_stats(input, *unused, 0.0)
    count = torch.full((1,), input.numel() / channels, dtype=torch.float64)
    sent = torch.cat([*(statistic.double() for statistic in own), count])
    received = [torch.empty_like(sent) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(received, sent)
    table = torch.stack(received)
    means, variances, counts = table[:, :channels], table[:, channels:-1], table[:, -1:]
    fractions = counts / counts.sum()
    mean = (fractions * means).sum(dim=0)
    variance = (fractions * (variances + (means - mean).square())).sum(dim=0)
    return mean.to(wide), variance.to(wide), counts.sum().item()


class _Normalize(torch.autograd.Function):
    """(x - mean) / sigma * weight + bias, differentiated through mean and sigma over all processes."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        count: float,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(input, weight, mean, variance)
        ctx.count, ctx.eps = count, eps
        return F.batch_norm(input, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """With s = weight / sigma and n values in all: dx = s (dy - sum(dy) / n - x^ sum(dy x^) / n).

        The parts that the sums bring in are an affine function of x in each channel, so the fused forward
        computes them. A process returns what its own images add to the gradients of weight and bias.
        """
        input, weight, mean, variance = ctx.saved_tensors
        sigma_inverse = torch.rsqrt(variance + ctx.eps)
        scaled, dot, total = torch.ops.aten.native_batch_norm_backward(
            gradient, input, weight, mean, variance, mean, sigma_inverse, False, ctx.eps, [True, True, True]
        )
        sums = torch.stack([dot, total]).to(mean.dtype)
        torch.distributed.all_reduce(sums)
        scale = sigma_inverse if weight is None else sigma_inverse * weight
        slope, shift = (-scale * sums / ctx.count).unbind()
        correction = F.batch_norm(input, mean, variance, slope, shift, training=False, eps=ctx.eps)
        dot, total = (None, None) if weight is None else (dot, total)
        return scaled.add_(correction), dot, total, None, None, None, None

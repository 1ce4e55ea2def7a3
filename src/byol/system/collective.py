"""What processes that train together compute together: means, gradients, equal weights.

All of it travels over torch's default group (nccl on GPUs, gloo on the CPU). In a process of its own each
function leaves its argument as it is.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

_BUCKET_BYTES = 32 << 20  # large enough that a message's latency does not count


def mean_over_ranks(value: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes that train together.

    Args:
        value: of one shape and dtype in all of them; where there are several it is overwritten.

    Returns:
        The mean; `value` itself in a process of its own.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(value)
        value = value / torch.distributed.get_world_size()
    return value


@torch.no_grad()
def broadcast(*networks: nn.Module) -> None:
    """Give networks the parameters and buffers of rank 0."""
    for network in networks:
        for tensor in (*network.parameters(), *network.buffers()):
            whole = tensor.contiguous()
            torch.distributed.broadcast(whole, 0)
            tensor.copy_(whole)


def average_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Make an optimizer replace the gradients by their means over all processes before each of its steps.

    However many backward passes a step has, its gradients travel once (docs/decisions/0012).
    """
    optimizer.register_step_pre_hook(_average)


@torch.no_grad()
def _average(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    pending = []
    for bucket in _buckets(gradients):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        pending.append((bucket, flat, torch.distributed.all_reduce(flat, async_op=True)))
    for bucket, flat, work in pending:
        assert work is not None
        work.wait()
        flat /= torch.distributed.get_world_size()
        parts = torch.split(flat, [gradient.numel() for gradient in bucket])
        torch._foreach_copy_(bucket, [part.view_as(g) for part, g in zip(parts, bucket, strict=True)])


def _buckets(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """Yield tensors of one dtype together, up to `_BUCKET_BYTES`."""
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        bucket: list[Tensor] = []
        for tensor in (tensor for tensor in tensors if tensor.dtype == dtype):
            if bucket and sum(t.nbytes for t in (*bucket, tensor)) > _BUCKET_BYTES:
                yield bucket
                bucket = []
            bucket.append(tensor)
        yield bucket

"""The processes that train together: joining them, and what they have to agree upon.

`torchrun` starts the processes and numbers them. Every one holds the same weights, takes its share of each
batch and averages gradients with the others before the optimiser's step; the first one alone writes.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from byol.run.errors import UserError

_PATIENCE = timedelta(hours=2)  # the others wait while the first judges the encoder on all images
_BUCKET = 8 << 20  # numbers that are averaged at a time: 32 MiB in float32


@contextmanager
def joined() -> Iterator[None]:
    """Join the other processes, if torchrun started this one among several, and leave them at the end.

    On a CPU they talk by gloo; with CUDA, each takes the GPU of its local number, tensors there travel by
    NCCL and numbers on the host still by gloo, which waits for no GPU.

    Raises:
        UserError: there are more processes on this machine than GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    local_rank, backend = int(os.environ["LOCAL_RANK"]), "gloo"
    if torch.cuda.is_available():
        if local_rank >= torch.cuda.device_count():
            raise UserError(
                f"process {local_rank} of this machine finds {torch.cuda.device_count()} GPUs; "
                f"use --nproc-per-node {torch.cuda.device_count()} or fewer."
            )
        torch.cuda.set_device(local_rank)
        backend = "cpu:gloo,cuda:nccl"
    else:
        torch.set_num_threads(usable_cores())
    dist.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank_and_size() -> tuple[int, int]:
    """Return the number of this process, from 0, and how many train together."""
    return (dist.get_rank(), dist.get_world_size()) if _are_several() else (0, 1)


def usable_cores() -> int:
    """Return how many cores this process may use: its share of them where several run on one machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def mean(value: Tensor) -> Tensor:
    """Return the mean of a tensor of any shape over all processes; the tensor itself where there is one."""
    if not _are_several():
        return value
    value = value.clone()
    dist.all_reduce(value)
    return value.div_(dist.get_world_size())


def gathered(value: Tensor) -> Tensor:
    """Return the tensors (...) of all processes, (processes, ...), in their order."""
    if not _are_several():
        return value[None]
    everyone = [torch.empty_like(value) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, value.contiguous())
    return torch.stack(everyone)


def highest(*numbers: int) -> tuple[int, ...]:
    """Return the highest of each of these numbers over all processes. Does not wait for a GPU."""
    if not _are_several():
        return numbers
    found = torch.tensor(numbers)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return tuple(found.tolist())


def union(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names that any process holds, sorted. Does not wait for a GPU."""
    everyone: list[Any] = [list(names)]
    if _are_several():
        everyone = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, list(names))
    return tuple(sorted({name for some in everyone for name in some}))


@contextmanager
def first_alone() -> Iterator[None]:
    """Let the first process through before the others, which then find in the caches what it put there."""
    rank, _ = rank_and_size()
    if rank > 0:
        highest(0)
    yield
    if rank == 0:
        highest(0)


def average_gradients_before(optimizer: torch.optim.Optimizer) -> None:
    """Have an optimiser average its gradients over all processes before each of its steps.

    Once per step, however many backward passes there were. All processes then make the same step.
    """

    def average(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for bucket in _buckets([p.grad for p in parameters if p.grad is not None]):
            flat = mean(torch.cat([gradient.flatten() for gradient in bucket]))
            parts = torch.split(flat, [gradient.numel() for gradient in bucket])
            shaped = [part.view(gradient.shape) for part, gradient in zip(parts, bucket, strict=True)]
            torch._foreach_copy_(bucket, shaped)

    optimizer.register_step_pre_hook(average)


def _buckets(gradients: list[Tensor]) -> Iterator[list[Tensor]]:
    """Cut a list into parts of about `_BUCKET` numbers each."""
    bucket: list[Tensor] = []
    for gradient in gradients:
        bucket.append(gradient)
        if sum(one.numel() for one in bucket) >= _BUCKET:
            yield bucket
            bucket = []
    if bucket:
        yield bucket


def _are_several() -> bool:
    return dist.is_available() and dist.is_initialized()

"""Processes that train together, as `torchrun` starts them: joining, agreeing, and waiting for each other.

What the network computes travels over the default group (nccl on GPUs, gloo on the CPU). Signals, names and
errors travel over a second one on the hosts, so that agreeing never waits for a GPU.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

import torch
import torch.distributed
from torch import Tensor

from byol.errors import UserError
from byol.system.device import Device, PrecisionName, pick_device, usable_cores
from byol.system.launched import launch, missing
from byol.system.sent import from_rank_zero, gather
from byol.system.terminal import tell

P = ParamSpec("P")
T = TypeVar("T")

_PATIENCE = timedelta(days=1)  # rank 0 may judge for long; a process that dies is noticed at once


@dataclass(frozen=True)
class Processes:
    """This process among those that train together; by default it is the only one.

    Every method but `device` is called by all of them, in the same order.

    Args:
        rank: of this process, in [0, world_size).
        world_size: how many there are.
        local_rank: of this process on its machine.
        local_world_size: how many there are on this machine.
        host: the group over which they agree; None for a single process.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    host: torch.distributed.ProcessGroup | None = None

    @property
    def is_rank_zero(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def device(self, precision: PrecisionName) -> Device:
        """Return where this process computes: a GPU of its own, or the CPU."""
        if self.host is None:
            return pick_device(precision)
        return replace(pick_device(precision, self.local_rank), rank=self.rank, world_size=self.world_size)

    def max_over_ranks(self, *values: int) -> tuple[int, ...]:
        """Return the largest of each value over all processes."""
        if self.host is None:
            return values
        numbers = torch.tensor(values, dtype=torch.int64)
        torch.distributed.all_reduce(numbers, torch.distributed.ReduceOp.MAX, self.host)
        return tuple(numbers.tolist())

    def gathered(self, value: T) -> list[T]:
        """Return the values of all processes in the order of their ranks: JSON values, tuples, tensors."""
        return [value] if self.host is None else gather(value, self.host)

    def rows(self, rows: Tensor) -> Tensor:
        """Return the rows (B', ...) of all processes below each other, on the device of this one's."""
        if self.host is None:
            return rows
        return torch.cat(self.gathered(rows.cpu())).to(rows.device)

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """Context in which what stops one process stops all of them.

        Raises:
            UserError: in every process, what one of them raised.
            OSError: in the process whose system said so; a `UserError` in the others.
        """
        if self.host is None:
            yield
            return
        mine: UserError | OSError | None = None
        try:
            yield
        except (UserError, OSError) as error:
            mine = error
        if self.max_over_ranks(mine is not None) == (1,):
            sentences = [sentence for sentence in self.gathered(mine and str(mine)) if sentence]
            raise mine or UserError(sentences[0])

    def on_rank_zero(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Let rank 0 do something while the others wait; return to all what it returned (see `gathered`)."""
        result: Any = None
        with self.agreed():
            if self.is_rank_zero:
                result = work(*args, **kwargs)
        if self.host is not None:
            result = from_rank_zero(result, self.host)
        return result  # type: ignore[no-any-return]

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Context that one process of each machine enters first, the others after it (for caches)."""
        if self.local_rank > 0:
            self.max_over_ranks(0)
        try:
            yield
        finally:
            if self.local_rank == 0:
                self.max_over_ranks(0)


@contextmanager
def joined() -> Iterator[Processes]:
    """Join the processes that `torchrun` started, and leave them in the end, also after an error.

    Without torchrun, or with one process, there is nothing to join. Half an environment, left over from
    something else, counts as none and is told of. A group that exists already is used and left as it is. On
    the CPU the processes of a machine share its cores.

    Raises:
        UserError: the environment is not torchrun's, or there are fewer GPUs than processes on this machine.
    """
    launched = launch()
    if launched.world_size == 1:
        if os.environ.get("WORLD_SIZE", "").strip() not in ("", "1"):
            left_over = (
                f"note: WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {', '.join(missing())} is not set"
            )
            tell(sys.stderr, f"{left_over}: this process trains alone; torchrun starts several.")
        yield Processes()
        return
    local_rank, local_world_size = launched.local_rank, launched.local_world_size
    has_gpus = torch.cuda.is_available()
    if has_gpus and local_world_size > torch.cuda.device_count():
        raise UserError(
            f"torchrun started {local_world_size} processes on this machine, which has "
            f"{torch.cuda.device_count()} GPUs: use --nproc-per-node {torch.cuda.device_count()}."
        )
    threads, is_ours = torch.get_num_threads(), not torch.distributed.is_initialized()
    try:
        if has_gpus:
            torch.cuda.set_device(local_rank)
        else:
            torch.set_num_threads(max(1, usable_cores() // local_world_size))
        if is_ours:
            torch.distributed.init_process_group("nccl" if has_gpus else "gloo")
        host = torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)
        assert isinstance(host, torch.distributed.ProcessGroup)
        yield Processes(
            rank=torch.distributed.get_rank(),
            world_size=torch.distributed.get_world_size(),
            local_rank=local_rank,
            local_world_size=local_world_size,
            host=host,
        )
    finally:
        torch.set_num_threads(threads)
        if is_ours and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

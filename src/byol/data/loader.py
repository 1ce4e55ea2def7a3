"""Batches of views in an order that depends on the seed and the step alone; no pixel in it.

There is no state to save: to resume is to start at a later step. The batch of a process has B items of a set;
what they are and what a view of them is, set and views know.
"""

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from byol.data.order import Order
from byol.data.unreadable import Bad, refuse_many_bad, unexpected
from byol.data.views import Crops, Items, Views
from byol.data.workers import in_workers
from byol.errors import UserError
from byol.system.processes import Processes

# A step, and the items of it that are this process's, by the number under which their views are drawn.
_Shard = tuple[int, tuple[tuple[int, NDArray[np.int64]], ...]]
Cut = list[tuple[int, Crops]]
_Made = tuple[int, Cut | UserError]  # a step, and what came of it
S = TypeVar("S", bound=Items)


@dataclass(frozen=True, eq=False)
class Batch:
    """What one process gets for one step.

    Args:
        step: number of the step, from 0.
        index: (B,) int64, positions of the images in their set.
        views: (B, ...) each, finished, on the device of the networks; of images (B, C, S, S) float32.
        labels: (B,) int64, classes of the images, for the online classifier, which watches and teaches the
            encoder nothing; None if the set has none.
        bad: images of this batch that cannot be decoded; they are left out of all the above.
    """

    step: int
    index: NDArray[np.int64]
    views: tuple[Tensor, ...]
    labels: NDArray[np.int64] | None = None
    bad: tuple[Bad, ...] = ()


class BrokenOff(UserError):  # noqa: N818 - what has happened
    """There are no more batches, though there should be; the sentence says why."""


def batches(
    images: S,
    views: Views[S],
    *,
    batch_size: int,
    seed: int,
    first_step: int,
    total_steps: int,
    workers: int,
    device: torch.device,
    rank: int = 0,
    world_size: int = 1,
    among: NDArray[np.int64] | None = None,
    is_asked_to_stop: Callable[[], bool] = lambda: False,
) -> Generator[Batch, None, None]:
    """Yield the batches of steps first_step, ..., total_steps - 1.

    Batches are cut from the orders of the epochs, one after the other, and no image is dropped; see `Order`.
    What a batch holds depends on seed and step alone, not on where one began or on the number of workers.

    Args:
        images: the set.
        views: which there are, and how they are cut out and finished.
        batch_size: images per step over all processes.
        seed: of the order and of the views.
        first_step: where to begin, >= 0.
        total_steps: where to end.
        workers: processes that cut views out of what they read, >= 0, and finish them if the device is the
            CPU. A set in memory has one at most: on a CPU, where two or more are asked for.
        device: where the views go.
        rank: number of this process.
        world_size: processes that share each batch, in equal and contiguous parts.
        among: (N,) the images to take, all by default; every length above is then theirs.
        is_asked_to_stop: whether it is time to give up a batch that does not come.

    Raises:
        UserError: the batch is larger than the set or cannot be shared equally, too many images are bad, or
            they leave fewer than 2 of a batch; something unexpected was raised, or a worker has ended.
    """
    among = np.arange(len(images)) if among is None else among
    if batch_size > len(among):
        raise UserError(
            f"batch_size is {batch_size} but there are only {len(among)} images: make it smaller."
        )
    if batch_size % world_size:
        raise UserError(f"batch_size is {batch_size}: make it a multiple of the {world_size} processes.")
    order = Order(seed, len(among), batch_size)
    steps = (
        _shard(step, among, *order.batch(step, rank, world_size)) for step in range(first_step, total_steps)
    )
    cutter = _Cutter(images.near(device), views, seed, device)
    if images.in_memory:  # views that are made beside the step fill what it leaves of the cores (docs/log.md)
        workers = 1 if device.type == "cpu" and workers > 1 else 0
    if not workers:
        return _finished(cutter, (cutter.cut(step) for step in steps))
    values = batch_size // world_size * sum(map(math.prod, views.shapes))
    made = in_workers(
        cutter.cut,
        steps,
        workers=workers,
        num_bytes=4 * values,  # float32; of what is finished elsewhere there are fewer
        niceness=10 if device.type == "cpu" else 0,
        is_pinned=device.type == "cuda",
        is_asked_to_stop=is_asked_to_stop,
    )
    return _finished(cutter, made)


def in_step(
    stream: Generator[Batch, None, None], processes: Processes, at_least: int = 1
) -> Generator[Batch, None, None]:
    """Yield the batches of a process in step with the others: what stops one stream stops all.

    Args:
        stream: of this process, as `batches` gives it; closed in the end.
        processes: which all have one.
        at_least: images that each of several needs, so that all take the same number of micro-batches.

    Returns:
        The same batches, whose `bad` names those of all processes.

    Raises:
        BrokenOff: what one of the streams raised, or a batch has fewer images than `at_least`.
    """
    with closing(stream):
        while True:
            batch = None
            with as_broken_off(), processes.agreed():
                batch = next(stream, None)
                if batch is not None and processes.world_size > 1 and len(batch.index) < at_least:
                    raise UserError(
                        f"a process has {len(batch.index)} images of step {batch.step}, but its micro-"
                        f"batches need {at_least}: make batch_size larger, or micro_batches smaller."
                    )
            if batch is None:
                return
            if processes.max_over_ranks(bool(batch.bad)) == (1,):
                found = processes.gathered(batch.bad)
                batch = replace(batch, bad=tuple(Bad(*one) for bad in found for one in bad))
            yield batch


@contextmanager
def as_broken_off() -> Iterator[None]:
    """Context that raises a `UserError` as `BrokenOff`."""
    try:
        yield
    except UserError as error:
        raise BrokenOff(str(error)) from error


def _shard(
    step: int, among: NDArray[np.int64], rows: NDArray[np.int64], numbers: NDArray[np.int64]
) -> _Shard:
    """Return a step and its images: those of one epoch together, as an image may stand in a batch twice."""
    return step, tuple((number, among[rows[numbers == number]]) for number in np.unique(numbers).tolist())


class _Cutter(Generic[S]):
    """Cut out the views of a step, here or in a worker, and finish them where no GPU is there to do it."""

    def __init__(self, images: S, views: Views[S], seed: int, device: torch.device) -> None:
        self.images, self.views, self.seed, self.device = images, views, seed, device

    def cut(self, shard: _Shard) -> _Made:
        """Return what comes of the images of a step, or the reason why nothing does."""
        step, parts = shard
        made = []
        for number, index in parts:
            try:
                made.append((number, self.views.cut(self.images, self.seed, number, index)))
            except UserError as error:
                return step, error
            except Exception as error:  # a set or a decoder of the user's may raise anything
                return step, self._unexpected(error, number, index)
        # A process for each core makes views twice as fast as one whose operations are shared by the cores.
        return step, self.finish(made) if self.device.type == "cpu" else made

    def _unexpected(self, error: Exception, number: int, index: NDArray[np.int64]) -> UserError:
        """Return a sentence on what reading raised; it names the item that raises it again."""
        where = f"one of {len(index)} images"
        for i in index.tolist():
            try:
                self.views.cut(self.images, self.seed, number, np.array([i]))
            except Exception as again:
                where, error = self.images.name(i), again
                break
        return unexpected(where, error)

    def finish(self, cut: Cut) -> Cut:
        """Return the same with the views in place of what was cut out."""
        return [(number, replace(one, tensors=self._views(one, number))) for number, one in cut]

    def _views(self, crops: Crops, number: int) -> tuple[Tensor, ...]:
        return self.views.finish(crops.tensors, self.seed, number, crops.index, self.device)


def _finished(cutter: _Cutter[S], steps: Generator[_Made, None, None]) -> Generator[Batch, None, None]:
    """Yield the batches that are made of what was cut."""
    images, bad_so_far = cutter.images, dict[str, Bad]()
    with closing(steps):
        for step, made in steps:
            if isinstance(made, UserError):
                raise made
            made = made if cutter.device.type == "cpu" else cutter.finish(made)
            joined = _joined([crops for _, crops in made])
            index, bad = joined.index, joined.bad
            bad_so_far.update((one.name, one) for one in bad)
            refuse_many_bad(bad_so_far.values(), len(images))
            if bad and len(index) < 2:
                raise UserError(
                    f"only {len(index)} of step {step}'s images can be decoded, but batch norm needs 2: "
                    f"repair or remove {', '.join(map(str, bad[:3]))}, or make batch_size larger."
                )
            labels = None if images.labels is None else images.labels[index]
            yield Batch(step, index, joined.tensors, labels, bad)


def _joined(parts: list[Crops]) -> Crops:
    """Return the images of one epoch and, behind them, those of the next."""
    if len(parts) == 1:
        return parts[0]
    return Crops(
        np.concatenate([part.index for part in parts]),
        tuple(map(torch.cat, zip(*(part.tensors for part in parts), strict=True))),
        tuple(bad for part in parts for bad in part.bad),
    )

"""Batches of views in an order that depends on the seed and the step alone.

There is no state to save: to resume is to start at a later step. The batch of a process has B images, a crop
has S x S pixels, and S may differ from view to view.
"""

import os
import signal
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from byol.data.image.decode import Decoded, Jpeg, UndecodableImage
from byol.data.image.resample import crop_resize, crop_resize_view, needed_share
from byol.data.image.views import MultiCrop, OneView, TwoViews
from byol.data.images import Files, Images, InMemory, refuse_many_bad
from byol.data.order import permutation
from byol.errors import UserError
from byol.system.processes import Processes

# Images opened before their boxes are drawn. Drawing for one at a time takes a third as long as decoding, and
# a PNG is decoded as soon as it is opened: a whole batch of photographs may not fit into memory.
_GROUP = 8

# A step and its images; what a worker makes of them: step, images kept, each view (B, 3, S, S) as a uint8
# crop or finished, and bad names.
_Share = tuple[int, NDArray[np.int64]]
_Cut = tuple[int, NDArray[np.int64], tuple[Tensor, ...], tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class Batch:
    """What one process gets for one step.

    Args:
        step: number of the step, from 0.
        index: (B,) int64, places of the images in their set.
        views: (B, 3, S, S) float32 each, distorted and normalised, on the device of the networks.
        labels: (B,) int64, classes of the images, for the online classifier, which watches and teaches the
            encoder nothing; None if the set has none.
        bad: names of images of this batch that cannot be decoded; they are left out of all the above.
    """

    step: int
    index: NDArray[np.int64]
    views: tuple[Tensor, ...]
    labels: NDArray[np.int64] | None = None
    bad: tuple[str, ...] = ()


def batches(
    images: Images,
    views: TwoViews | MultiCrop | OneView,
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
) -> Generator[Batch, None, None]:
    """Yield the batches of steps first_step, ..., total_steps - 1.

    An epoch is len(images) // batch_size steps, and the few images left over in its order are dropped. What a
    batch holds depends on seed and step alone, not on where one began or on the number of workers.

    Args:
        images: the set.
        views: which there are, where they are cut out and how they are distorted.
        batch_size: images per step over all processes.
        seed: of the order and of the views.
        first_step: where to begin, >= 0.
        total_steps: where to end.
        workers: processes that decode files, >= 0, and distort what they cut out if the device is the CPU; a
            packed set needs none.
        device: where the views go.
        rank: number of this process.
        world_size: processes that share each batch, in equal and contiguous parts.
        among: (N,) the images to take, all by default; every length above is then theirs.

    Raises:
        UserError: the batch is larger than the set or cannot be shared equally, too many images are bad, or
            they leave fewer than 2 of a batch.
    """
    among = np.arange(len(images)) if among is None else among
    if batch_size > len(among):
        raise UserError(
            f"batch_size is {batch_size} but there are only {len(among)} images: make it smaller."
        )
    if batch_size % world_size:
        raise UserError(f"batch_size is {batch_size}: make it a multiple of the {world_size} processes.")
    steps = _steps(among, batch_size, seed, first_step, total_steps, rank, world_size)
    if isinstance(images, InMemory):
        return _from_memory(images, views, seed, steps, device)
    return _from_files(images, views, seed, steps, device, workers)


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
        UserError: what one of the streams raised, or a batch has fewer images than `at_least`.
    """
    with closing(stream):
        while True:
            batch = None
            with processes.agreed():
                batch = next(stream, None)
                if batch is not None and processes.world_size > 1 and len(batch.index) < at_least:
                    raise UserError(
                        f"a process has {len(batch.index)} images of step {batch.step}, but its micro-"
                        f"batches need {at_least}: make batch_size larger, or micro_batches smaller."
                    )
            if batch is None:
                return
            if processes.max_over_ranks(bool(batch.bad)) == (1,):
                batch = replace(
                    batch, bad=tuple(name for bad in processes.gathered(batch.bad) for name in bad)
                )
            yield batch


def _steps(
    among: NDArray[np.int64],
    batch_size: int,
    seed: int,
    first_step: int,
    total_steps: int,
    rank: int,
    world_size: int,
) -> Iterator[_Share]:
    """Yield each step and the images of this process's share of its batch."""
    steps_per_epoch, share = len(among) // batch_size, batch_size // world_size
    order_epoch = None
    for step in range(first_step, total_steps):
        epoch, position = divmod(step, steps_per_epoch)
        if epoch != order_epoch:
            order, order_epoch = among[permutation(seed, epoch, len(among))], epoch
        start = position * batch_size + rank * share
        yield step, order[start : start + share]


def _from_memory(
    images: InMemory,
    views: TwoViews | MultiCrop | OneView,
    seed: int,
    steps: Iterator[_Share],
    device: torch.device,
) -> Generator[Batch, None, None]:
    height, width = images.images.shape[2:]
    for step, index in steps:
        sizes = np.full(len(index), height), np.full(len(index), width)
        boxes = views.boxes(seed, step, index, *sizes)
        rows = torch.from_numpy(index).to(images.images.device, non_blocking=True)
        pixels = images.images.index_select(0, rows).to(device, non_blocking=True)
        crops = [crop_resize(pixels, box, size) for box, size in zip(boxes, views.sizes, strict=True)]
        yield Batch(step, index, views.distort(crops, seed, step, index), _labels(images, index))


def _from_files(
    images: Files,
    views: TwoViews | MultiCrop | OneView,
    seed: int,
    steps: Iterator[_Share],
    device: torch.device,
    workers: int,
) -> Generator[Batch, None, None]:
    reader: Dataset[_Cut] = _CropReader(images, views, seed)
    is_cpu = device.type == "cpu"
    if is_cpu:
        # A process for each core makes views twice as fast as one whose operations are shared by the cores.
        reader = _ViewReader(reader, views, seed)
    loader = DataLoader(
        reader,
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        collate_fn=_unchanged,
        worker_init_fn=partial(_start_worker, niceness=10 if is_cpu else 0),
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # it draws a number, which must not come from the global generator
    )
    bad_so_far: set[str] = set()
    for step, index, cut, bad in loader:
        bad_so_far.update(bad)
        refuse_many_bad(bad_so_far, len(images))
        if bad and len(index) < 2:
            raise UserError(
                f"only {len(index)} of step {step}'s images can be decoded, but batch norm needs 2: "
                f"repair or remove {', '.join(bad[:3])}, or make batch_size larger."
            )
        made = cut if is_cpu else _finished(cut, views, seed, step, index, device)
        yield Batch(step, index, made, _labels(images, index), tuple(bad))


def _finished(
    cut: tuple[Tensor, ...],
    views: TwoViews | MultiCrop | OneView,
    seed: int,
    step: int,
    index: NDArray[np.int64],
    device: torch.device,
) -> tuple[Tensor, ...]:
    return views.distort([pixels.to(device, non_blocking=True) for pixels in cut], seed, step, index)


def _labels(images: Images, index: NDArray[np.int64]) -> NDArray[np.int64] | None:
    return None if images.labels is None else images.labels[index]


class _CropReader(Dataset[_Cut]):
    """Decode each image of a step once, as finely as its crops need, and cut them out, in a worker."""

    def __init__(self, images: Files, views: TwoViews | MultiCrop | OneView, seed: int) -> None:
        self.images, self.views, self.seed = images, views, seed

    def __getitem__(self, item: _Share) -> _Cut:
        step, index = item
        sizes = self.views.sizes
        crops = [np.empty((len(index), 3, size, size), np.uint8) for size in sizes]
        kept: list[int] = []
        bad: list[str] = []
        for start in range(0, len(index), _GROUP):
            group: dict[int, Decoded | Jpeg] = {}
            for i in index[start : start + _GROUP].tolist():
                try:
                    group[i] = self.images.open(i)
                except UndecodableImage:
                    bad.append(self.images.name(i))
            heights, widths = (
                np.array([(image.height, image.width) for image in group.values()], np.int64).reshape(-1, 2).T
            )
            boxes = self.views.boxes(self.seed, step, np.array(list(group), np.int64), heights, widths)
            for i, image, *each in zip(group, group.values(), *boxes, strict=True):
                try:
                    pixels, eighths = image.read(needed_share(each, sizes))
                except UndecodableImage:
                    bad.append(self.images.name(i))
                    continue
                for crop, box, size in zip(crops, each, sizes, strict=True):
                    crop[len(kept)] = crop_resize_view(pixels, box.tolist(), size, eighths)
                kept.append(i)
        cut = tuple(torch.from_numpy(crop[: len(kept)]) for crop in crops)
        return step, np.array(kept, np.int64), cut, tuple(bad)


class _ViewReader(Dataset[_Cut]):
    """Finish the views that another reader cuts out, in a worker."""

    def __init__(self, reader: Dataset[_Cut], views: TwoViews | MultiCrop | OneView, seed: int) -> None:
        self.reader, self.views, self.seed = reader, views, seed

    def __getitem__(self, item: _Share) -> _Cut:
        step, index, cut, bad = self.reader[item]
        return step, index, _finished(cut, self.views, self.seed, step, index, torch.device("cpu")), bad


def _unchanged(cut: Any) -> Any:
    return cut


def _start_worker(worker: int, niceness: int) -> None:
    # Ctrl-C, and a scheduler's SIGTERM, reach every process of the group. The main one finishes its step with
    # what the workers give it and then ends them; should it be killed, they notice within seconds.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    # The threads of a step on the CPU wait for each other, so a core that a worker takes stops them all: a
    # tenth more images a second where workers give way (docs/decisions/0015).
    os.nice(niceness)

"""A few steps that are taken and forgotten: how long a step takes here, with reading and views."""

import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any, NamedTuple

import torch
from torch import nn

from byol.algorithm import bootstrap_step
from byol.data.images import Images
from byol.data.loader import batches
from byol.recipe.spec import Recipe
from byol.system.device import Device, usable_cores
from byol.training.learner import build
from byol.training.side_by_side import sharing_cores

_AT_LEAST = 6  # timed steps
_SECONDS = 3.0


class Rehearsal(NamedTuple):
    """What the steps were like.

    Args:
        seconds_per_step: as fast as views come.
        state_bytes: of all that a checkpoint holds.
    """

    seconds_per_step: float
    state_bytes: int


def rehearse(
    recipe: Recipe,
    images: Images,
    device: Device,
    encoder: nn.Module | None = None,
    workers: int | None = None,
) -> Rehearsal:
    """Take a few steps of a recipe on images, as fast as they come; nothing is left of them.

    What workers have made ahead while the first steps were taken does not count.

    Args:
        recipe: of the steps.
        images: the set, of a batch or more.
        device: where the steps are taken, by this process alone.
        encoder: a module in place of the recipe's; it is trained.
        workers: processes that decode files, None for one per core.
    """
    workers = usable_cores() if workers is None else workers
    ahead = 5 if images.in_memory else 2 * workers + 1
    taken: list[float] = []
    with torch.random.fork_rng():
        learner = build(recipe, device, encoder)
        stream = batches(
            images,
            recipe.views,
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            first_step=0,
            total_steps=2**31,  # as long as it is asked
            workers=workers,
            device=device.device,
        )
        with closing(stream), sharing_cores(learner.passes):
            while len(taken) < ahead + _AT_LEAST or sum(taken[ahead:]) < _SECONDS:
                started = time.perf_counter()
                bootstrap_step(
                    learner.online,
                    learner.target,
                    learner.optimizer,
                    [view.contiguous(memory_format=device.memory_format) for view in next(stream).views],
                    lr=0.0,
                    tau=1.0,
                    pairs=recipe.views.pairs,
                    micro_batches=recipe.micro_batches,
                    autocast=device.autocast,
                    passes=learner.passes,
                )
                if device.device.type == "cuda":
                    torch.cuda.synchronize()
                taken.append(time.perf_counter() - started)
    state_bytes = sum(one.numel() * one.element_size() for one in _tensors(learner.state()))
    return Rehearsal(statistics.fmean(taken[ahead:]), state_bytes)


def _tensors(state: Any) -> Iterator[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, Mapping):
        for value in state.values():
            yield from _tensors(value)
    elif isinstance(state, list | tuple):
        for value in state:
            yield from _tensors(value)

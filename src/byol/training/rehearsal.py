"""A few steps that are taken and forgotten: how long a step takes here, with reading and views."""

import statistics
import time
from collections.abc import Generator, Mapping
from contextlib import closing
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from byol.algorithm import bootstrap_step
from byol.data.images import Images
from byol.data.loader import Batch, batches
from byol.recipe.spec import Recipe
from byol.system.device import Device, usable_cores
from byol.training.learner import Learner, build
from byol.training.side_by_side import sharing_cores

_AT_LEAST = 6  # timed steps
_SECONDS = 3.0


class Rehearsal(NamedTuple):
    """What the steps were like.

    Args:
        seconds_per_step: as fast as views come.
        state_bytes: of all that a checkpoint holds.
        encoder_bytes: of the encoder alone.
    """

    seconds_per_step: float
    state_bytes: int
    encoder_bytes: int


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
        with closing(endless(recipe, images, device, workers)) as stream:
            while len(taken) < ahead + _AT_LEAST or sum(taken[ahead:]) < _SECONDS:
                started = time.perf_counter()
                try_step(recipe, learner, on_device(next(stream), device), device)
                if device.device.type == "cuda":
                    torch.cuda.synchronize()
                taken.append(time.perf_counter() - started)
    return Rehearsal(
        seconds_per_step=statistics.fmean(taken[ahead:]),
        state_bytes=_num_bytes(learner.state()),
        encoder_bytes=_num_bytes(learner.online.encoder.state_dict()),
    )


def endless(recipe: Recipe, images: Images, device: Device, workers: int) -> Generator[Batch, None, None]:
    """Return the batches of a recipe on images, from its first step on, as long as they are asked for."""
    return batches(
        images,
        recipe.views,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        first_step=0,
        total_steps=2**31,
        workers=workers,
        device=device.device,
    )


def on_device(batch: Batch, device: Device) -> list[Tensor]:
    """Return the views (B, C, S, S) of a batch in the memory format of the device, as a step takes them."""
    return [view.contiguous(memory_format=device.memory_format) for view in batch.views]


def try_step(recipe: Recipe, learner: Learner, views: list[Tensor], device: Device) -> None:
    """Take a step for its time alone, as the loop takes it."""
    with sharing_cores(learner.passes):
        bootstrap_step(
            learner.online,
            learner.target,
            learner.optimizer,
            views,
            lr=1e-3 * recipe.peak_lr,  # so small that the weights hardly change, whatever the number of steps
            tau=recipe.target.tau(0, 1),
            pairs=recipe.views.pairs,
            loss_weight=recipe.loss_weight,
            micro_batches=recipe.micro_batches,
            autocast=device.autocast,
            passes=learner.passes,
        )


def _num_bytes(state: Any) -> int:
    """Return what the tensors of a state take."""
    if isinstance(state, Tensor):
        return state.nbytes
    if isinstance(state, Mapping):
        return sum(map(_num_bytes, state.values()))
    return sum(map(_num_bytes, state)) if isinstance(state, list | tuple) else 0

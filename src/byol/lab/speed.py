"""How fast is a recipe here? The parts of a step measured in turn, beside what the machine can do at most.

Step, distortions and limit are timed once a round, one after the other, so that what disturbs the machine
disturbs them alike; then the views as they come, and then the whole.
The machine's limit is the time of the network's convolutions and matrix products alone, at the shapes and in
the precision of the step: forward and backward for every view of the online network, forward for the target.
"""

import os
import statistics
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import torch
from torch import Tensor

from byol.data.images import Images, InMemory
from byol.data.opening import Data, open_data
from byol.data.splits import say_notes, to_learn_from
from byol.errors import refuse_not_whole
from byol.lab.machine import machine, peak_bytes
from byol.lab.products import Products, timed
from byol.recipe.names import open_recipe
from byol.recipe.spec import Recipe, refuse_wrong_types
from byol.system.device import Device, keep_freed_memory, pick_device, usable_cores
from byol.system.progress import Progress
from byol.training.learner import build
from byol.training.rehearsal import endless, on_device, try_step


@dataclass(frozen=True)
class Timing:
    """Seconds of one batch over the rounds.

    Args:
        median: of the rounds.
        low: the shortest.
        high: the longest.
    """

    median: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What was measured.

    Args:
        recipe: its name.
        batch_size: images of a batch.
        precision: "bf16" or "float32".
        parts: "step" on ready views; "distort", from crops to views in this process; "views", from
            images in memory or in files to views, as fast as they come while nothing else is done; "whole",
            views and step as the loop has them; "limit", the step's products alone.
        peak_bytes: most memory that the first step takes beyond weights and views: activations, gradients and
            what the optimizer keeps; None where the system does not tell.
        machine: processor, cores, threads, GPU, versions.
        rounds: timed ones, after one to warm up.
        date: in UTC.
    """

    recipe: str
    batch_size: int
    precision: str
    parts: dict[str, Timing]
    peak_bytes: int | None
    machine: dict[str, Any]
    rounds: int
    date: str

    @property
    def value(self) -> float:
        """Images per second of the whole, views and step: what `byol.pretrain` reaches on this machine."""
        return self.rate("whole")

    @property
    def fraction_of_limit(self) -> float:
        """The step's speed as a fraction of the machine's limit, in (0, 1]."""
        return self.parts["limit"].median / self.parts["step"].median

    def rate(self, part: str) -> float:
        """Return the images per second of a part."""
        return self.batch_size / self.parts[part].median

    def table(self) -> list[list[str]]:
        """Return the parts as rows of strings; the first row is the header."""
        rows = [["part", "ms a batch", "range", "images/s"]]
        for name, timing in self.parts.items():
            low, median, high = (f"{1000 * value:.1f}" for value in (timing.low, timing.median, timing.high))
            rows.append([name, median, f"{low} to {high}", f"{self.rate(name):,.0f}"])
        return rows

    def sentence(self) -> str:
        """Return what the numbers come to."""
        peak = "unknown" if self.peak_bytes is None else f"{self.peak_bytes / 2**20:,.0f} MiB"
        return (
            f"{self.recipe}, batch {self.batch_size}, {self.precision}: the step runs at "
            f"{self.fraction_of_limit:.0%} of the machine's limit; its peak memory is {peak}."
        )

    def to_json(self) -> dict[str, Any]:
        """Return all numbers as JSON values; "low" and "high" are the range of "value" over the rounds."""
        rates = {f"{name}_images_per_second": self.rate(name) for name in self.parts}
        whole = self.parts["whole"]
        headline = {
            "value": self.value,
            "low": self.batch_size / whole.high,
            "high": self.batch_size / whole.low,
        }
        return {**asdict(self), **rates, "fraction_of_limit": self.fraction_of_limit, **headline}


def bench(
    recipe: Recipe | str | os.PathLike[str] = "builtin", *, data: Data | None = None, rounds: int = 5
) -> Speed:
    """Measure how fast a recipe is on this machine, and how near to the machine's limit.

    Args:
        recipe: what is run: a recipe, its name, or the path of a recipe.json.
        data: images, given as to `pretrain`; None for the recipe's own, or random ones of its views' size
            where it has none.
        rounds: times that every part is timed, >= 1.

    Raises:
        UserError: the data cannot be opened, or hold less than a batch.
    """
    recipe = open_recipe(recipe)
    refuse_wrong_types(recipe)
    refuse_not_whole("rounds", rounds, 1)
    keep_freed_memory()
    device = pick_device(recipe.precision)
    data = recipe.data if data is None else data
    is_random = isinstance(data, str) and not data
    sets: dict[str, Images] = {"train": _random_images(recipe)} if is_random else open_data(data)
    images = to_learn_from(sets)[1]
    recipe.steps(1, len(images))  # says so where they do not fill a batch
    images = images.near(device.device)
    learner = build(recipe, device)
    with closing(endless(recipe, images, device, usable_cores())) as stream:
        batch = next(stream)
    views = on_device(batch, device)
    crops = [torch.rand_like(view, memory_format=torch.contiguous_format) for view in views]

    def step() -> None:
        try_step(recipe, learner, views, device)

    def distort() -> None:
        recipe.views.finish(crops, recipe.seed, batch.step, batch.index)

    peak = peak_bytes(step, device.device)
    products = Products(learner, views, device, recipe.views.pairs)
    seconds: dict[str, list[float]] = {name: [] for name in ("step", "distort", "views", "whole", "limit")}
    with Progress() as progress:
        say_notes(sets, progress, learns=True)
        for number in range(rounds + 1):
            seconds["step"].append(timed(step, device.device))
            seconds["distort"].append(timed(distort, device.device))
            seconds["limit"].append(products.seconds())
            progress.show(f"round {number} of {rounds}", last=number == rounds)
        seconds["views"] = _streamed(recipe, images, device, rounds, lambda views: None)
        seconds["whole"] = _streamed(
            recipe, images, device, rounds, lambda views: try_step(recipe, learner, views, device)
        )
    return Speed(
        recipe=recipe.name,
        batch_size=recipe.batch_size,
        precision=device.precision,
        parts={name: _timing(each[1:]) for name, each in seconds.items()},
        peak_bytes=peak,
        machine=machine(device.device),
        rounds=rounds,
        date=datetime.now(UTC).date().isoformat(),
    )


def _streamed(
    recipe: Recipe,
    images: Images,
    device: Device,
    rounds: int,
    use: Callable[[list[Tensor]], None],
) -> list[float]:
    """Return the seconds that a batch takes in each round where batches are used as they come.

    Several workers finish at about the same time, so a round is a batch of each. The first round uses up what
    they have made ahead and warms up.
    """
    workers = 1 if images.in_memory else usable_cores()
    with closing(endless(recipe, images, device, usable_cores())) as stream:

        def run(count: int) -> None:
            for _ in range(count):
                use(on_device(next(stream), device))

        seconds = [timed(partial(run, 2 * workers + 1), device.device) / (2 * workers + 1)]
        return seconds + [timed(partial(run, workers), device.device) / workers for _ in range(rounds)]


def _random_images(recipe: Recipe) -> InMemory:
    preprocessing = recipe.views.preprocessing(max(recipe.views.size, recipe.evaluation_size))
    return preprocessing.noise(2 * recipe.batch_size)


def _timing(seconds: list[float]) -> Timing:
    return Timing(statistics.median(seconds), min(seconds), max(seconds))

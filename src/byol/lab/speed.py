"""How fast is a recipe here? The parts of a step measured in turn, beside what the machine can do at most.

Step, distortions and limit are timed once a round, one after the other, so that what disturbs the machine
disturbs them alike; then the views as they come, and then the whole.
The machine's limit is the time of the network's convolutions and matrix products alone, at the shapes and in
the precision of the step: forward and backward for every view of the online network, forward for the target.
"""

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from byol.algorithm import bootstrap_step
from byol.data.images import Images, InMemory, near
from byol.data.loader import Batch, batches
from byol.data.opening import open_data
from byol.recipe.spec import Recipe
from byol.system.device import Device, keep_freed_memory, pick_device, usable_cores
from byol.system.progress import Progress
from byol.training.learner import Learner, build

_PRODUCTS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


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
            what the optimiser keeps; None where the system does not tell.
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
    def share_of_limit(self) -> float:
        """The step's share of the machine's limit, in (0, 1]."""
        return self.parts["limit"].median / self.parts["step"].median

    def to_json(self) -> dict[str, Any]:
        """Return all figures as JSON values."""
        rates = {f"{name}_images_per_second": self.rate(name) for name in self.parts}
        return {**asdict(self), **rates, "share_of_limit": self.share_of_limit}

    def rate(self, part: str) -> float:
        """Return the images per second of a part."""
        return self.batch_size / self.parts[part].median

    def table(self) -> list[list[str]]:
        """Return lines of words, the first of them the titles."""
        lines = [["part", "ms a batch", "range", "images/s"]]
        for name, timing in self.parts.items():
            low, median, high = (f"{1000 * value:.1f}" for value in (timing.low, timing.median, timing.high))
            lines.append([name, median, f"{low} to {high}", f"{self.rate(name):,.0f}"])
        return lines

    def sentence(self) -> str:
        """Return what the figures come to."""
        peak = "unknown" if self.peak_bytes is None else f"{self.peak_bytes / 2**20:,.0f} MiB"
        return (
            f"{self.recipe}, batch {self.batch_size}, {self.precision}: the step runs at "
            f"{self.share_of_limit:.0%} of the machine's limit; its peak memory is {peak}."
        )


def bench(recipe: Recipe, *, rounds: int = 5) -> Speed:
    """Measure a recipe on this machine.

    Args:
        recipe: what is run. Without data, random images of the size of its views stand in for them.
        rounds: times that every part is timed.

    Raises:
        UserError: the data cannot be opened, or hold less than a batch.
    """
    keep_freed_memory()
    device = pick_device(recipe.precision)
    images = open_data(recipe.data)["train"] if recipe.data else _random_images(recipe)
    recipe.steps_per_epoch(len(images))  # says so where they do not fill a batch
    images = near(images, device.device)
    learner = build(recipe, device)
    with closing(_stream(recipe, images, device)) as stream:
        batch = next(stream)
    views = _views(batch, device)
    crops = [torch.rand_like(view, memory_format=torch.contiguous_format) for view in views]

    def step() -> None:
        _step(recipe, learner, views, device)

    def distort() -> None:
        recipe.views.distort(crops, recipe.seed, batch.step, batch.index)

    peak = peak_bytes(step, device.device)
    products = Products(learner, views, device)
    seconds: dict[str, list[float]] = {name: [] for name in ("step", "distort", "views", "whole", "limit")}
    with Progress() as progress:
        for number in range(rounds + 1):
            seconds["step"].append(_timed(step, device.device))
            seconds["distort"].append(_timed(distort, device.device))
            seconds["limit"].append(products.seconds())
            progress.show(f"round {number} of {rounds}", last=number == rounds)
        seconds["views"] = _streamed(recipe, images, device, rounds, lambda views: None)
        seconds["whole"] = _streamed(
            recipe, images, device, rounds, lambda views: _step(recipe, learner, views, device)
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


class Products:
    """The convolutions and matrix products of a step, found by watching a forward pass.

    Args:
        learner: whose networks are watched; their running statistics see one batch more.
        views: ready ones.
        device: in whose precision and memory format the products are.
    """

    def __init__(self, learner: Learner, views: list[Tensor], device: Device) -> None:
        self.device, self.found = device, list[tuple[nn.Module, Tensor, int, int]]()
        seen: list[tuple[nn.Module, Tensor]] = []
        hooks = [
            module.register_forward_hook(lambda module, inputs, _: seen.append((module, inputs[0].detach())))
            for module in learner.online.modules()
            if isinstance(module, _PRODUCTS)
        ]
        targets = learner.target.parameters()
        num_targets = 2 if next(targets, None) is not None else 0  # a shared target computes nothing
        for number, view in enumerate(views):
            del seen[:]
            with torch.no_grad(), device.autocast():
                branch = learner.online(view)
                in_trunk = len(seen)
                learner.online.predictor(branch.projection)
            for place, (module, inputs) in enumerate(seen):
                forward_only = int(number < num_targets and place < in_trunk)
                like = next((at for at, one in enumerate(self.found) if _alike(one, module, inputs)), None)
                if like is None:
                    self.found.append((module, inputs, 1, forward_only))
                else:
                    module, inputs, learnt, forward = self.found[like]
                    self.found[like] = module, inputs, learnt + 1, forward + forward_only
        for hook in hooks:
            hook.remove()

    def seconds(self) -> float:
        """Return how long they take, each at the number of times that a step needs it."""
        total = 0.0
        for module, inputs, learnt, forward_only in self.found:
            needs_input = module is not self.found[0][0]  # nothing learns from the gradient of the pixels
            run = _product(module, inputs, self.device, needs_input)
            forward, both = (_timed(each, self.device.device) for each in run)
            total += forward_only * forward + learnt * both
        return total


def _alike(one: tuple[nn.Module, Tensor, int, int], module: nn.Module, inputs: Tensor) -> bool:
    return one[0] is module and one[1].shape == inputs.shape


def _product(
    module: nn.Module, inputs: Tensor, device: Device, needs_input: bool
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return the forward pass of one product, and its forward and backward pass."""
    dtype = torch.bfloat16 if device.precision == "bf16" else inputs.dtype
    inputs = inputs.to(dtype)  # keeps the memory format
    weight = module.get_parameter("weight").detach().to(dtype)
    if isinstance(module, nn.Linear):

        def forward(x: Tensor, w: Tensor) -> Tensor:
            return F.linear(x, w)
    else:
        assert isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
        conv = getattr(F, f"conv{weight.ndim - 2}d")
        settings = module.stride, module.padding, module.dilation, module.groups

        def forward(x: Tensor, w: Tensor) -> Tensor:
            return conv(x, w, None, *settings)  # type: ignore[no-any-return]

    def both() -> None:
        x, w = inputs.detach().requires_grad_(needs_input), weight.detach().requires_grad_()
        output = forward(x, w)
        torch.autograd.backward(output, torch.ones_like(output))

    return lambda: forward(inputs, weight), both


def _step(recipe: Recipe, learner: Learner, views: list[Tensor], device: Device) -> None:
    bootstrap_step(
        learner.online,
        learner.target,
        learner.optimizer,
        views,
        lr=1e-3 * recipe.peak_lr,  # so small that the weights hardly change, whatever the number of rounds
        tau=recipe.target.tau(0, 1),
        pairs=recipe.views.pairs,
        loss_weight=recipe.loss_weight,
        micro_batches=recipe.micro_batches,
        autocast=device.autocast,
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
    workers = 1 if isinstance(images, InMemory) else usable_cores()
    with closing(_stream(recipe, images, device)) as stream:

        def run(count: int) -> None:
            for _ in range(count):
                use(_views(next(stream), device))

        seconds = [_timed(partial(run, 2 * workers + 1), device.device) / (2 * workers + 1)]
        return seconds + [_timed(partial(run, workers), device.device) / workers for _ in range(rounds)]


def _views(batch: Batch, device: Device) -> list[Tensor]:
    return [view.contiguous(memory_format=device.memory_format) for view in batch.views]


def _stream(recipe: Recipe, images: Images, device: Device) -> Generator[Batch, None, None]:
    return batches(
        images,
        recipe.views,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        first_step=0,
        total_steps=2**31,  # as long as it is asked
        workers=0 if isinstance(images, InMemory) else usable_cores(),
        device=device.device,
    )


def _random_images(recipe: Recipe) -> InMemory:
    random = np.random.default_rng(0)
    size = max(recipe.views.size, recipe.evaluation_size)
    shape = (2 * recipe.batch_size, 3, size, size)
    return InMemory(torch.from_numpy(random.integers(0, 256, shape, np.uint8)))


def peak_bytes(run: Callable[[], object], device: torch.device) -> int | None:
    """Return the most memory that a call takes beyond what is taken before it.

    On CUDA it is what tensors take. On Linux it is the growth of the process, so this has to come before
    other calls have left memory behind that could be taken again.
    """
    if device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    gc.collect()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
        before = _status("VmRSS")
        run()
        return _status("VmHWM") - before
    except OSError:
        return None


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status does not tell {name}")


def machine(device: torch.device) -> dict[str, Any]:
    """Return what a figure depends on beside the code."""
    facts = {
        "processor": platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    if names:
        facts["processor"] = names[0].split(":")[1].strip()
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def _timed(run: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _timing(seconds: list[float]) -> Timing:
    return Timing(statistics.median(seconds), min(seconds), max(seconds))

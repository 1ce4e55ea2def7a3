"""One training step and its memory: byol, lightly and byol-pytorch, alternating in one run.

    peers/bin/python benchmarks/peers.py --batch 256 --rounds 3

The environment is one of its own (`make bench-peers` builds it). All train the same network, byol's
ResNet-18 with the 3x3 stem, with heads of 4096 and 256, on the same random views of 32 px, and with SGD. What
differs is how:

- `byol`: `bootstrap_step`, as `byol pretrain` calls it.
- `lightly`: the step of its documented example (examples/pytorch/byol.py), with its heads, loss and momentum
  update; float32 as it stands there, and the same with torch.autocast.
- `byol-pytorch`: its learner, with augmentations switched off, as the views are ready.

Each measurement is a process of its own, as byol sets the memory allocator and the others do not: one step
to warm up, one that is timed. Memory is the growth of that process over its first step, beyond weights and
views; `joint` is byol with one backward pass for both views. `benchmarks/views.py` measures the views.
One JSON object on stdout; seconds are the median, lowest and highest of the rounds.
"""

import argparse
import copy
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version

import torch
from torch import Tensor, nn

from byol.algorithm import bootstrap_losses, bootstrap_step
from byol.bench import machine, peak_bytes
from byol.learner import build
from byol.optim import Sgd
from byol.recipes import named
from byol.run.device import Device, keep_freed_memory

CPU = torch.device("cpu")
Step = Callable[[], None]


def ours(batch: int, precision: str, *, joint: bool = False) -> Step:
    keep_freed_memory()
    device = Device(CPU, precision)  # type: ignore[arg-type]
    learner = build(replace(named("cifar10"), optimizer=Sgd(weight_decay=0.0, momentum=0.0)), device)
    pair = [view.contiguous(memory_format=device.memory_format) for view in ready_views(batch)]
    parts = learner.online, learner.target, learner.optimizer

    def step() -> None:
        bootstrap_step(*parts, pair, lr=1e-4, tau=0.99, autocast=device.autocast)

    def jointly() -> None:
        parts[2].zero_grad(set_to_none=True)
        losses = [loss for loss, _ in bootstrap_losses(parts[0], parts[1], pair, device.autocast)]
        torch.autograd.backward(torch.stack(losses).sum(dim=0).mean())
        parts[2].step()
        parts[1].update(parts[0], 0.99)

    return jointly if joint else step


def lightly(batch: int, precision: str) -> Step:
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum

    backbone, head = named("cifar10").encoder.build(), BYOLProjectionHead(512, 4096, 256)
    prediction_head = BYOLPredictionHead(256, 4096, 256)
    backbone_momentum, head_momentum = copy.deepcopy(backbone), copy.deepcopy(head)
    deactivate_requires_grad(backbone_momentum)
    deactivate_requires_grad(head_momentum)
    criterion = NegativeCosineSimilarity()
    learnt = [*backbone.parameters(), *head.parameters(), *prediction_head.parameters()]
    optimizer = torch.optim.SGD(learnt, lr=1e-4)
    x0, x1 = ready_views(batch)
    context = Device(CPU, precision).autocast  # type: ignore[arg-type]

    def online(x: Tensor) -> Tensor:
        return prediction_head(head(backbone(x).flatten(start_dim=1)))  # type: ignore[no-any-return]

    def momentum(x: Tensor) -> Tensor:
        return head_momentum(backbone_momentum(x).flatten(start_dim=1)).detach()  # type: ignore[no-any-return]

    def step() -> None:
        update_momentum(backbone, backbone_momentum, m=0.99)
        update_momentum(head, head_momentum, m=0.99)
        with context():
            p0, z0 = online(x0), momentum(x0)
            p1, z1 = online(x1), momentum(x1)
            loss = 0.5 * (criterion(p0, z1) + criterion(p1, z0))
        loss.item()  # the example adds it up
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def byol_pytorch(batch: int, precision: str) -> Step:
    from byol_pytorch import BYOL

    network, (images, _) = named("cifar10").encoder.build(), ready_views(batch)
    learner = BYOL(network, image_size=32, augment_fn=nn.Identity(), augment_fn2=nn.Identity())
    optimizer = torch.optim.SGD(learner.parameters(), lr=1e-4)
    context = Device(CPU, precision).autocast  # type: ignore[arg-type]

    def step() -> None:
        with context():
            loss = learner(images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        learner.update_moving_average()

    return step


STEPS: dict[str, Callable[[int], Step]] = {
    "byol float32": lambda batch: ours(batch, "float32"),
    "byol bf16": lambda batch: ours(batch, "bf16"),
    "lightly float32": lambda batch: lightly(batch, "float32"),
    "lightly bf16": lambda batch: lightly(batch, "bf16"),
    "byol-pytorch float32": lambda batch: byol_pytorch(batch, "float32"),
    "joint float32": lambda batch: ours(batch, "float32", joint=True),
    "joint bf16": lambda batch: ours(batch, "bf16", joint=True),
}


def ready_views(batch: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, batch, 3, 32, 32, generator=random)
    return first, second


def timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def spread(values: list[float]) -> list[float]:
    """Return median, lowest and highest."""
    return [statistics.median(values), min(values), max(values)]


def measured(name: str, batch: int) -> tuple[float, int]:
    """Return the seconds of the second step and the peak bytes of the first, in a process of their own."""
    done = subprocess.run(
        [sys.executable, __file__, "--measure", name, "--batch", str(batch)],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, peak = json.loads(done.stdout)
    return seconds, peak


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        step = STEPS[args.measure](args.batch)
        peak = peak_bytes(step, CPU)
        print(json.dumps([timed(step), peak]))
        return
    seconds: dict[str, list[float]] = {name: [] for name in STEPS}
    peaks: dict[str, list[float]] = {name: [] for name in STEPS}
    for number in range(args.rounds):
        for name in STEPS:
            took, peak = measured(name, args.batch)
            seconds[name].append(took)
            peaks[name].append(peak)
            print(f"round {number}: {name} {took:.2f} s, {peak / 2**20:,.0f} MiB", file=sys.stderr)
    report = {
        "batch": args.batch,
        "rounds": args.rounds,
        "step_seconds": {name: spread(each) for name, each in seconds.items()},
        "peak_bytes": {name: spread(each) for name, each in peaks.items()},
        "versions": {name: version(name) for name in ("lightly", "byol-pytorch", "torch")},
        "machine": machine(CPU),
        "date": datetime.now(UTC).date().isoformat(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()

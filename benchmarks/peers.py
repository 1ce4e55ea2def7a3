"""One training step and its memory: byol, lightly and byol-pytorch, alternating in one run.

    peers/bin/python benchmarks/peers.py --batch 256 --rounds 3

The environment is one of its own (`make bench-peers` builds it). All train the same network, byol's
ResNet-18 with the 3x3 stem, with heads of 4096 and 256, on the same random views of 32 px. What differs is
how:

- `byol`: `bootstrap_step`, as `byol pretrain` calls it, with SGD; `byol, joint` has one backward pass for
  both views, and `byol, lars` the published optimiser and the online classifier.
- `lightly`: the step of its documented example (examples/pytorch/byol.py), with its heads, loss, momentum
  update and SGD.
- `lightly, recipe`: the step of its benchmark (benchmarks/imagenet/resnet50/byol.py), with LARS and an online
  classifier. Beside it stands `byol, lars`.
- `byol-pytorch`: its learner, with augmentations switched off, as the views are ready, and SGD.

float32 is the default of all peers; bf16 is the same under torch.autocast. Each measurement is a process of
its own, as byol sets the memory allocator and the others do not: one step to warm up, one that is timed.
Memory is the growth of that process over its first step, beyond weights and views. `limit` is the time of the
convolutions and matrix products of the step alone, in one more process (see `byol.lab.products`).

`benchmarks/views.py` measures the views, `benchmarks/end_to_end.py` whole training from JPEG files. One JSON
object on stdout; seconds and bytes are the median, lowest and highest of the rounds.
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
from functools import partial
from importlib.metadata import version
from typing import Literal

import torch
from torch import Tensor, nn

from byol.algorithm import bootstrap_losses, bootstrap_step
from byol.lab.machine import machine, peak_bytes
from byol.lab.products import Products
from byol.model.encoder import ConvNet, ResNet, representation_dim
from byol.optim import Lars, Sgd
from byol.recipe.names import named
from byol.system.device import Device, keep_freed_memory
from byol.training.learner import build

CPU = torch.device("cpu")
CLASSES = 10
PLAIN_SGD = Sgd(weight_decay=0.0, momentum=0.0)
Precision = Literal["float32", "bf16"]
Encoder = ResNet | ConvNet
Learn = Callable[[Tensor, Tensor], None]  # one step on two views


def ours(
    encoder: Encoder,
    precision: Precision,
    *,
    joint: bool = False,
    optimizer: Sgd | Lars = PLAIN_SGD,
    classes: int = 0,
) -> Learn:
    keep_freed_memory()
    device = Device(CPU, precision)
    learner = build(
        replace(named("cifar10"), encoder=encoder, optimizer=optimizer), device, num_classes=classes
    )
    online, target, optimizer_ = learner.online, learner.target, learner.optimizer

    def learn(*views: Tensor) -> None:
        pair = [view.contiguous(memory_format=device.memory_format) for view in views]
        if joint:
            optimizer_.zero_grad(set_to_none=True)
            losses = [loss for loss, _ in bootstrap_losses(online, target, pair, autocast=device.autocast)]
            torch.autograd.backward(torch.stack(losses).sum(dim=0).mean())
            optimizer_.step()
            target.update(online, 0.99)
            return
        done = bootstrap_step(online, target, optimizer_, pair, lr=1e-4, tau=0.99, autocast=device.autocast)
        if learner.classifier is not None:
            learner.classifier.step(done.branch.representation, labels_of(pair[0]), 1e-4)

    return learn


def lightly(encoder: Encoder, precision: Precision) -> Learn:
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum

    backbone = encoder.build()
    head = BYOLProjectionHead(representation_dim(backbone, (3, 32, 32)), 4096, 256)
    prediction_head = BYOLPredictionHead(256, 4096, 256)
    backbone_momentum, head_momentum = copy.deepcopy(backbone), copy.deepcopy(head)
    deactivate_requires_grad(backbone_momentum)
    deactivate_requires_grad(head_momentum)
    criterion = NegativeCosineSimilarity()
    learnt = [*backbone.parameters(), *head.parameters(), *prediction_head.parameters()]
    optimizer = torch.optim.SGD(learnt, lr=1e-4)
    context = Device(CPU, precision).autocast

    def online(x: Tensor) -> Tensor:
        return prediction_head(head(backbone(x).flatten(start_dim=1)))  # type: ignore[no-any-return]

    def momentum(x: Tensor) -> Tensor:
        return head_momentum(backbone_momentum(x).flatten(start_dim=1)).detach()  # type: ignore[no-any-return]

    def learn(x0: Tensor, x1: Tensor) -> None:
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

    return learn


def lightly_recipe(encoder: Encoder, precision: Precision) -> Learn:
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
    from lightly.models.utils import get_weight_decay_parameters, update_momentum
    from lightly.utils.benchmarking import OnlineLinearClassifier
    from lightly.utils.lars import LARS

    backbone = encoder.build()
    dim = representation_dim(backbone, (3, 32, 32))
    head, prediction_head = BYOLProjectionHead(dim, 4096, 256), BYOLPredictionHead(256, 4096, 256)
    teacher, teacher_head = copy.deepcopy(backbone), BYOLProjectionHead(dim, 4096, 256)
    criterion = NegativeCosineSimilarity()
    classifier = OnlineLinearClassifier(feature_dim=dim, num_classes=CLASSES, topk=(1, 5))
    decayed, others = get_weight_decay_parameters([backbone, head, prediction_head])
    others = [*others, *classifier.parameters()]
    optimizer = LARS(
        [{"params": decayed}, {"params": others, "weight_decay": 0.0}],
        lr=1e-4,
        momentum=0.9,
        weight_decay=1e-6,
    )
    context = Device(CPU, precision).autocast

    def student(x: Tensor) -> tuple[Tensor, Tensor]:
        features = backbone(x).flatten(start_dim=1)
        return features, prediction_head(head(features))

    @torch.no_grad()
    def taught(x: Tensor) -> Tensor:
        return teacher_head(teacher(x).flatten(start_dim=1))  # type: ignore[no-any-return]

    def learn(x0: Tensor, x1: Tensor) -> None:
        update_momentum(backbone, teacher, m=0.99)
        update_momentum(head, teacher_head, m=0.99)
        with context():
            z0, z1 = taught(x0), taught(x1)
            (y0, p0), (_, p1) = student(x0), student(x1)
            loss = 2 * criterion(z0, p1) + 2 * criterion(z1, p0)
            watched, _ = classifier.training_step((y0.detach(), labels_of(x0)), 0)
        optimizer.zero_grad()
        (loss + watched).backward()
        optimizer.step()

    return learn


def byol_pytorch(encoder: Encoder, precision: Precision) -> Learn:
    from byol_pytorch import BYOL

    learner = BYOL(encoder.build(), image_size=32, augment_fn=nn.Identity(), augment_fn2=nn.Identity())
    optimizer = torch.optim.SGD(learner.parameters(), lr=1e-4)
    context = Device(CPU, precision).autocast

    def learn(images: Tensor, _: Tensor) -> None:  # it makes both views itself
        with context():
            loss = learner(images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        learner.update_moving_average()

    return learn


def labels_of(images: Tensor) -> Tensor:
    return torch.arange(len(images)) % CLASSES


def ready_views(batch: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, batch, 3, 32, 32, generator=random)
    return first, second


LEARNERS: dict[str, Callable[[Encoder, Precision], Learn]] = {
    "byol": ours,
    "lightly": lightly,
    "byol-pytorch": byol_pytorch,
    "byol, lars": partial(ours, optimizer=Lars(), classes=CLASSES),
    "lightly, recipe": lightly_recipe,
    "byol, joint": partial(ours, joint=True),
}
PRECISIONS: tuple[Precision, ...] = ("float32", "bf16")


def measure(name: str, precision: Precision, batch: int) -> list[float]:
    """Return the seconds of the second step and the peak bytes of the first; of `limit` the seconds."""
    encoder = named("cifar10").encoder
    assert isinstance(encoder, ResNet)
    views = [view.contiguous(memory_format=Device.memory_format) for view in ready_views(batch)]
    if name == "limit":
        keep_freed_memory()
        device = Device(CPU, precision)
        products = Products(build(named("cifar10"), device), views, device)
        return [products.seconds() for _ in range(2)][1:]
    learn = LEARNERS[name](encoder, precision)
    if not name.startswith("byol,") and name != "byol":
        views = list(ready_views(batch))  # in the order of memory that they come in from a DataLoader
    peak = peak_bytes(lambda: learn(*views), CPU)
    assert peak is not None
    started = time.perf_counter()
    learn(*views)
    return [time.perf_counter() - started, peak]


def in_its_own_process(file: str, *words: str) -> list[float]:
    """Return the numbers that a benchmark prints when it is started with these words."""
    done = subprocess.run([sys.executable, file, *words], capture_output=True, text=True, check=True)
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def spread(values: list[float]) -> list[float]:
    """Return median, lowest and highest."""
    return [statistics.median(values), min(values), max(values)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(*args.measure, args.batch)))
        return
    seconds: dict[str, list[float]] = {}
    peaks: dict[str, list[float]] = {}
    for number in range(args.rounds):
        for precision in PRECISIONS:
            for name in (*LEARNERS, "limit"):
                key = f"{name}, {precision}"
                words = "--measure", name, precision, "--batch", str(args.batch)
                took, *peak = in_its_own_process(__file__, *words)
                seconds.setdefault(key, []).append(took)
                if peak:
                    peaks.setdefault(key, []).extend(peak)
                said = "".join(f", {each / 2**20:,.0f} MiB" for each in peak)
                print(f"round {number}: {key}: {took:.2f} s{said}", file=sys.stderr)
    report = {
        "what": "step",
        "batch": args.batch,
        "rounds": args.rounds,
        "step_seconds": {name: spread(each) for name, each in seconds.items()},
        "peak_bytes": {name: spread(each) for name, each in peaks.items()},
        "versions": {name: version(name) for name in ("lightly", "byol-pytorch", "torch", "torchvision")},
        "machine": machine(CPU),
        "date": datetime.now(UTC).date().isoformat(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()

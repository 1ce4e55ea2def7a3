"""Whole training from a folder of JPEG files: byol and lightly, alternating in one run.

    peers/bin/python benchmarks/end_to_end.py --data FOLDER --rounds 3

The environment is that of `benchmarks/peers.py`. Both read the files below FOLDER/train with as many worker
processes as there are cores, draw BYOL's two views of 224 px, and train the same small network (a `ConvNet`
of 32, 64, 128 and 256 channels, heads of 4096 and 256) by SGD, in batches of 64:

- `byol`: the batches, views and steps of `byol pretrain`, from the folder; and from a pack of it
  (`byol pack`), made beforehand.
- `lightly`: `LightlyDataset` and `BYOLTransform` in a `DataLoader`, with the step of its documented example.

Each measurement is a process of its own: more batches to start with than the workers make ahead, then 16
that are timed, in a stream of images that does not end at the set's. One JSON object on stdout; images per
second are the median, lowest and highest of the rounds; "views alone" is the same without the step.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from peers import CPU, Precision, in_its_own_process, lightly, ours, spread
from torch import Tensor

import byol
from byol.data.loader import batches
from byol.data.opening import open_data
from byol.lab.machine import machine
from byol.model.encoder import ConvNet
from byol.recipe.names import named
from byol.system.device import usable_cores

ENCODER = ConvNet(widths=(32, 64, 128, 256))
SIZE, BATCH, TIMED = 224, 64, 16
STARTING = 2 * usable_cores() + 4  # batches; each worker makes two ahead
CONTENDERS: list[tuple[str, str, Precision]] = [
    ("byol", "folder", "bf16"),
    ("byol", "pack", "bf16"),
    ("byol", "folder", "float32"),
    ("lightly", "folder", "float32"),
    ("lightly", "folder", "bf16"),
]


def our_pairs(data: str) -> Iterator[tuple[Tensor, Tensor]]:
    recipe = named("photos")
    views = replace(recipe.views, size=SIZE)
    stream = batches(
        open_data(data)["train"],
        views,
        batch_size=BATCH,
        seed=0,
        first_step=0,
        total_steps=2**31,
        workers=usable_cores(),
        device=CPU,
    )
    for batch in stream:
        first, second = batch.views
        yield first, second


def lightly_pairs(data: str) -> Iterator[tuple[Tensor, Tensor]]:
    from lightly.data import LightlyDataset
    from lightly.transforms import BYOLTransform

    torch.manual_seed(0)
    images = LightlyDataset(str(Path(data) / "train"), transform=BYOLTransform())
    endless = torch.utils.data.RandomSampler(images, num_samples=BATCH * (STARTING + 2 * TIMED))
    loader = torch.utils.data.DataLoader(
        images, batch_size=BATCH, sampler=endless, drop_last=True, num_workers=usable_cores()
    )
    for batch in loader:
        first, second = batch[0]
        yield first, second


def measure(name: str, precision: Precision, data: str, learns: bool) -> float:
    """Return images per second."""
    pairs = our_pairs(data) if name == "byol" else lightly_pairs(data)
    learn = (ours if name == "byol" else lightly)(ENCODER, precision) if learns else None
    for number, pair in enumerate(pairs):
        if number == STARTING:
            started = time.perf_counter()
        if number == STARTING + TIMED:
            break
        if learn is not None:
            learn(*pair)
    return TIMED * BATCH / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data", required=True, help="folder with train/ below it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        name, precision, learns = args.measure
        print(json.dumps([measure(name, precision, args.data, learns == "learns")]))
        return
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        pack = str(byol.pack(args.data, Path(folder) / "images.byolpack"))
        for number in range(args.rounds):
            for name, origin, precision in CONTENDERS:
                for learns in (
                    ("learns", "looks") if precision == "bf16" or name == "lightly" else ("learns",)
                ):
                    data = args.data if origin == "folder" else pack
                    words = "--measure", name, precision, learns, "--data", data
                    (rate,) = in_its_own_process(__file__, *words)
                    key = f"{name}, {origin}, {precision if learns == 'learns' else 'views alone'}"
                    rates.setdefault(key, []).append(rate)
                    print(f"round {number}: {key}: {rate:.0f} images/s", file=sys.stderr)
    report = {
        "what": "end to end",
        "size": SIZE,
        "batch": BATCH,
        "rounds": args.rounds,
        "images_per_second": {name: spread(each) for name, each in rates.items()},
        "machine": machine(CPU),
        "date": datetime.now(UTC).date().isoformat(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()

"""What grows with the work: images of a batch, pixels of an image, images of a set, processes.

    python benchmarks/growth.py --rounds 3
    python benchmarks/growth.py --only images

- `batch`: `bootstrap_step` of `cifar10` (ResNet-18, 3x3 stem, 32 px) on ready views, and its peak memory.
- `size`: the same of the ResNet-18 of `photos` (7x7 stem) at batch 32, and what distorting the crops takes.
- `images`: .jpg files (empty ones) in folders of a thousand: to index them, to open the index again from its
  file, and to draw the order of an epoch. To make the files is not counted, and the file system has just seen
  them, so its caches are warm.
- `processes`: whole steps as `benchmarks/ranks.py` measures them, N processes of one thread, and one process
  of N threads, up to the number of cores (on CUDA, N processes with a GPU each).

A step is in the precision that is fast on the machine. Every measurement is a process of its own; a round
takes each once, so that what disturbs the machine disturbs them alike. A peak is that of the first step, as
`byol bench` counts it; the seconds are those of the steps after it, of 32 images or more together.
One JSON object on stdout: median, lowest and highest of the rounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from byol.algorithm import bootstrap_step
from byol.data.image.views import TwoViews
from byol.data.index.folder import index_splits
from byol.data.order import permutation
from byol.lab.machine import machine, peak_bytes
from byol.recipe.names import named
from byol.system.device import keep_freed_memory, pick_device, usable_cores
from byol.training.learner import build
from ranks import run as run_ranks

BATCHES = (16, 32, 64, 128, 256, 512)
SIZES = (32, 64, 96, 128, 160, 224)
SIZES_BATCH = 32
IMAGES = (60, 1_000, 10_000, 100_000, 1_000_000)
FOLDER = 1000  # images in one
TIMED_IMAGES = 32  # of the timed steps together, at least
DISTORTIONS = 10  # of a batch
SETTLED = 2.5  # seconds after which byol trusts a folder's time stamp
RANKS = ["--recipe", "cifar10", "--batch", "64", "--steps", "2"]
Figures = dict[str, float | None]


def of_batch(count: str) -> Figures:
    return of_step("cifar10", 32, int(count))


def of_size(size: str) -> Figures:
    return of_step("photos", int(size), SIZES_BATCH) | {"distort_ms_per_image": distorted(int(size))}


def of_step(recipe: str, size: int, batch: int) -> Figures:
    """Measure the step of a recipe's network on ready views."""
    keep_freed_memory()
    device = pick_device()
    learner = build(replace(named(recipe), batch_size=batch), device)
    generator = torch.Generator().manual_seed(0)
    views = [
        view.to(device.device).contiguous(memory_format=device.memory_format)
        for view in torch.randn(2, batch, 3, size, size, generator=generator)
    ]

    def step() -> None:
        bootstrap_step(
            learner.online,
            learner.target,
            learner.optimizer,
            views,
            lr=1e-4,
            tau=0.99,
            autocast=device.autocast,
        )

    peak = peak_bytes(step, device.device)
    times = max(1, TIMED_IMAGES // batch)
    return {"ms_per_image": 1000 * timed(step, times) / (times * batch), "peak_bytes": peak}


def distorted(size: int) -> float:
    """Return the milliseconds that both views of an image take, from crops to what the network sees."""
    device, views = pick_device(), TwoViews(size=size)
    crops = list(torch.rand(2, SIZES_BATCH, 3, size, size, device=device.device))
    index = permutation(0, 0, SIZES_BATCH)

    def distort() -> None:
        views.finish(crops, 0, 0, index)

    distort()
    return 1000 * timed(distort, DISTORTIONS) / (DISTORTIONS * SIZES_BATCH)


def of_index(root: str, cache: str) -> Figures:
    """Measure how the images below a folder are found and written to an index."""
    seconds: list[float] = []
    peak = peak_bytes(lambda: seconds.append(timed(lambda: index_splits(Path(root), Path(cache)))), CPU)
    (file,) = Path(cache).iterdir()
    return {"index_seconds": seconds[0], "index_peak_bytes": peak, "file_bytes": file.stat().st_size}


def of_opening(root: str, cache: str) -> Figures:
    """Measure how a written index is opened, and how the images are shuffled."""
    seconds: list[float] = []
    growth = peak_bytes(lambda: seconds.append(timed(lambda: index_splits(Path(root), Path(cache)))), CPU)
    (index,) = index_splits(Path(root), Path(cache)).values()
    permutation(0, 0, 1)  # loads numpy's generators
    order = timed(lambda: permutation(0, 0, len(index)))
    return {"open_seconds": seconds[0], "open_bytes": growth, "order_seconds": order}


CPU = torch.device("cpu")
MEASURES: dict[str, Callable[..., Figures]] = {
    "batch": of_batch,
    "size": of_size,
    "index": of_index,
    "open": of_opening,
}


def timed(run: Callable[[], object], times: int = 1) -> float:
    """Return the seconds of so many calls."""
    started = time.perf_counter()
    for _ in range(times):
        run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def apart(*words: str) -> Figures:
    """Measure in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--measure", *words], stdout=subprocess.PIPE, text=True, check=True
    )
    figures: Figures = json.loads(done.stdout)
    print(" ".join(words[:2]), figures, file=sys.stderr)
    return figures


def images_apart(roots: dict[int, Path], count: int) -> Figures:
    with tempfile.TemporaryDirectory() as cache:
        root = str(roots[count])
        return apart("index", root, cache) | apart("open", root, cache)


def make_files(root: Path, count: int) -> Path:
    """Make so many empty .jpg files; those of a folder are links to one, which are made and removed fast."""
    for start in range(0, count, FOLDER):
        folder = root / f"folder-{start // FOLDER:05}"
        folder.mkdir(parents=True)
        names = [f"{folder}/image-{number:07}.jpg" for number in range(start, min(start + FOLDER, count))]
        Path(names[0]).touch()
        for name in names[1:]:
            os.link(names[0], name)
    return root


def processes_apart(count: int) -> Figures:
    rates: Figures = {"images_per_second": run_ranks(1, count, RANKS)}
    if count > 1 and not torch.cuda.is_available():
        rates["threads_images_per_second"] = run_ranks(count, 1, RANKS)
    print(f"processes {count} {rates}", file=sys.stderr)
    return rates


def rounds_of(points: list[int], measure: Callable[[int], Figures], rounds: int) -> dict[str, Any]:
    """Measure every point once a round; return median, lowest and highest of what can be had."""
    found = [{point: measure(point) for point in points} for _ in range(rounds)]
    report: dict[str, Any] = {}
    for point in points:
        report[str(point)] = {}
        for name in found[0][point]:
            values = [value for each in found if (value := each[point][name]) is not None]
            if values:
                report[str(point)][name] = [statistics.median(values), min(values), max(values)]
    return report


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("batch", "size", "images", "processes"))
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        kind, *words = args.measure
        print(json.dumps(MEASURES[kind](*words)))
        return

    def wanted(kind: str) -> bool:
        return args.only in (None, kind)

    report: dict[str, Any] = {}
    if wanted("batch"):
        report["batch"] = rounds_of(list(BATCHES), lambda count: apart("batch", str(count)), args.rounds)
    if wanted("size"):
        report["size"] = rounds_of(list(SIZES), lambda size: apart("size", str(size)), args.rounds)
    if wanted("images"):
        with tempfile.TemporaryDirectory() as parent:
            roots = {count: make_files(Path(parent, str(count)), count) for count in IMAGES}
            time.sleep(SETTLED)
            report["images"] = rounds_of(list(IMAGES), lambda count: images_apart(roots, count), args.rounds)
    if wanted("processes"):
        limit = torch.cuda.device_count() if torch.cuda.is_available() else usable_cores()
        counts = [2**power for power in range(limit.bit_length())]
        report["processes"] = rounds_of(counts, processes_apart, args.rounds)
    device = pick_device()
    report |= {
        "rounds": args.rounds,
        "precision": device.precision,
        "machine": machine(device.device),
        "date": datetime.now(UTC).date().isoformat(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()

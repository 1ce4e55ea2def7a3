"""Whole training steps of N processes with one thread each against one process with N threads, alternating.

    python benchmarks/ranks.py --recipe cifar10 --batch 128 --rounds 3

The step is `bootstrap_step` on ready views of the recipe's size, in the precision that is fast on the
machine; the batch is the same for both, so N processes take an N-th of it each. One JSON object on stdout;
images per second are over all processes, median and range of the rounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime

import torch

from byol.algorithm import bootstrap_step
from byol.recipe.names import named
from byol.system.device import keep_freed_memory, usable_cores
from byol.system.processes import Processes, joined
from byol.training.learner import build


def measure(processes: Processes, recipe_name: str, batch: int, steps: int) -> None:
    """Print the images per second of this many steps, after one to warm up."""
    keep_freed_memory()
    device = processes.device("auto")
    recipe = replace(named(recipe_name), batch_size=batch)
    learner = build(recipe, device)
    views = [
        torch.randn(batch // device.world_size, 3, size, size).contiguous(memory_format=device.memory_format)
        for size in recipe.views.sizes
    ]
    for step in range(steps + 1):
        if step == 1:
            processes.max_over_ranks(0)
            started = time.perf_counter()
        bootstrap_step(
            learner.online,
            learner.target,
            learner.optimizer,
            views,
            lr=0.1,
            tau=0.99,
            autocast=device.autocast,
        )
    if processes.is_rank_zero:
        print(steps * batch / (time.perf_counter() - started))


def run(threads: int, count: int, words: list[str]) -> float:
    """Start a measurement in `count` processes; return its images per second."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    done = subprocess.run(
        [sys.executable, *(launcher if count > 1 else []), __file__, "--measure", *words],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--recipe", default="cifar10")
    parser.add_argument("--batch", type=int, default=128, help="images per step over all processes")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=usable_cores())
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        with joined() as processes:
            measure(processes, args.recipe, args.batch, args.steps)
        return
    words = ["--recipe", args.recipe, "--batch", str(args.batch), "--steps", str(args.steps)]
    rates: dict[str, list[float]] = {"one": [], "several": []}
    for _ in range(args.rounds):
        rates["one"].append(run(args.processes, 1, words))
        rates["several"].append(run(1, args.processes, words))
    report = {
        "recipe": args.recipe,
        "batch": args.batch,
        "processes": args.processes,
        **{
            name: {"images_per_second": statistics.median(found), "range": [min(found), max(found)]}
            for name, found in rates.items()
        },
        "ratio": statistics.median(rates["several"]) / statistics.median(rates["one"]),
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()

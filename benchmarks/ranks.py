"""How much do two processes of one thread each lose against one process of two threads?

    python benchmarks/ranks.py [--rounds 3] [--steps 3]

Whole steps (distortions, forward, backward, LARS, moving average) of BYOL with ResNet-18 for CIFAR-10, 128
images of 32 px a step in all, bf16. Both sides alternate; each measurement starts its processes anew and
leaves out the first step. Prints JSON with the machine and the date.
"""

import argparse
import json
import os
import socket
import time
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.multiprocessing

from byol.algorithm import bootstrap_step
from byol.learner import build
from byol.model.encoder import ResNet
from byol.recipes import builtin
from byol.run.device import keep_freed_memory
from byol.run.folder import provenance
from byol.run.processes import joined

BATCH, SIDE, THREADS = 128, 32, 2


def main() -> None:
    """Measure both sides and print what was found."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--steps", type=int, default=3)
    given = asked.parse_args()
    found: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(given.rounds):
        for world_size, rates in found.items():
            rates.append(_measure(world_size, given.steps))
    sides = {
        f"{world_size} processes of {THREADS // world_size} threads": {
            "median": median(rates),
            "range": [min(rates), max(rates)],
            "all": rates,
        }
        for world_size, rates in found.items()
    }
    print(
        json.dumps(
            {
                "images per second": sides,
                "two processes over one, of medians": round(median(found[2]) / median(found[1]), 3),
                "provenance": provenance(device="cpu", precision="bf16"),
            },
            indent=1,
        )
    )


def _measure(world_size: int, steps: int) -> float:
    """Return images per second over all processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    answers: Any = torch.multiprocessing.get_context("spawn").SimpleQueue()
    torch.multiprocessing.spawn(_train, (world_size, port, steps, answers), nprocs=world_size)
    return float(answers.get())


def _train(rank: int, world_size: int, port: int, steps: int, answers: Any) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    keep_freed_memory()
    torch.set_num_threads(THREADS)  # several processes share the cores when they join
    recipe = replace(builtin(), encoder=ResNet(depth=18, stem="cifar"), batch_size=BATCH)
    with joined() as processes:
        device = processes.device("bf16")
        learner = build(recipe, device)
        share = BATCH // world_size
        index = np.arange(rank * share, (rank + 1) * share)
        crops = [torch.rand(share, 3, SIDE, SIDE) for _ in range(2)]
        for step in range(steps + 1):
            if step == 1:
                processes.most(0)
                began = time.perf_counter()
            views = recipe.views.distort(crops, recipe.seed, step, index)
            bootstrap_step(
                learner.online,
                learner.target,
                learner.optimizer,
                [view.contiguous(memory_format=device.memory_format) for view in views],
                0.1,
                0.99,
                autocast=device.autocast,
            )
        processes.most(0)
        if processes.is_first:
            answers.put(round(steps * BATCH / (time.perf_counter() - began), 2))


if __name__ == "__main__":
    main()

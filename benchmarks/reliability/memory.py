"""Does memory grow while a run goes on for an hour?

    python benchmarks/reliability/memory.py --minutes 60 --out docs/reliability/memory.json

A small network learns from files with two workers. Every two seconds the memory that the main process and
its workers hold (resident, in MiB), their open files, and what lies in /dev/shm are noted. After the first
fifth of the time each has to be flat: the slope of its medians over twelve parts of the rest, with its 95 %
interval, has to stay below 1 MiB a minute (for open files, 0.1 a minute). At the end the run is stopped by
SIGTERM, saves itself, and leaves no process and nothing in /dev/shm behind.
"""

import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from harness import Process, Tally, command, options, resident, tiny_recipe, write_pictures

EVERY = 2.0  # seconds
PARTS = 12
T_95 = 2.228  # Student's, two-sided, 10 degrees of freedom
MIB = 2**20
LIMITS = {"main_mib": 1.0, "workers_mib": 1.0, "shm_mib": 1.0, "open_files": 0.1}  # a minute


def sample(process: Process) -> dict[str, float]:
    """Return what a run holds at this moment."""
    workers = process.descendants()
    return {
        "main_mib": resident(process.id) / MIB,
        "workers_mib": sum(map(resident, workers)) / MIB,
        "shm_mib": shared_bytes() / MIB,
        "open_files": sum(map(open_files, [process.id, *workers])),
    }


def shared_bytes() -> int:
    """Return the bytes that are taken of /dev/shm."""
    status = os.statvfs("/dev/shm")
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def open_files(process: int) -> int:
    """Return how many files a process has open; 0 where it is gone."""
    try:
        return len(os.listdir(f"/proc/{process}/fd"))  # noqa: PTH208 - counted, not used
    except OSError:
        return 0


def slope(minutes: list[float], values: list[float]) -> tuple[float, float]:
    """Return the slope a minute of the medians of PARTS parts, and half of its 95 % interval."""
    parts = np.array_split(np.arange(len(values)), PARTS)
    x = np.array([np.mean([minutes[i] for i in part]) for part in parts])
    y = np.array([median(values[i] for i in part) for part in parts])
    x = x - x.mean()
    found = float(x @ y / (x @ x))
    rest = y - y.mean() - found * x
    error = float(np.sqrt(rest @ rest / (PARTS - 2) / (x @ x)))
    return found, T_95 * error


def main() -> int:
    """Train, sample, stop, and say whether the curves are flat."""
    asked = options(__doc__, 1)
    asked.add_argument("--minutes", type=float, default=60.0, help="how long to train [60]")
    given = asked.parse_args()
    tally = Tally("memory", given, ("samples", "grows", "hang", "orphan", "traceback", "crash", "exit code"))
    minutes: list[float] = []
    samples: list[dict[str, float]] = []
    before = shared_bytes()
    with tempfile.TemporaryDirectory(prefix="memory-") as name:
        work = Path(name)
        from byol.data.image.views import TwoViews
        from byol.model.encoder import ConvNet

        recipe = tiny_recipe(
            work / "recipe.json",
            views=TwoViews(size=48),
            evaluation_size=48,
            encoder=ConvNet(widths=(16, 32, 64)),
            batch_size=32,
            epochs=1_000_000,
        )
        data = write_pictures(work / "files", 600, sizes=(60, 400), suffix="jpg", seed=given.seed)
        words = ("pretrain", recipe, "--data", data, "--out", work / "run", "--workers", "2")
        surroundings = {"BYOL_CACHE": str(work / "cache")}
        process = Process(
            command(*words, "--checkpoint-seconds", str(min(120.0, 6 * given.minutes))),
            environment=surroundings,
        )
        while process.is_running and (passed := time.monotonic() - process.started) < 60 * given.minutes:
            minutes.append(passed / 60)
            samples.append(sample(process))
            tally.progress(len(samples), -1, 60)
            time.sleep(EVERY)
        was_running = process.is_running
        process.signal(signal.SIGTERM)
        ended = process.ended(120.0)
        if not was_running:
            tally.fail("crash", "it ended by itself", str(ended))
        elif trouble := ended.trouble(128 + signal.SIGTERM):
            tally.fail(trouble, "at the end", str(ended))
        tally.facts["steps"] = ended.sentence
    tally.counts["samples"] = len(samples)
    first = len(samples) // 5
    if len(samples) - first >= 2 * PARTS:
        for what, limit in LIMITS.items():
            values = [one[what] for one in samples]
            found, half = slope(minutes[first:], values[first:])
            tally.facts[what] = {
                "after_a_fifth": round(values[first], 1),
                "at_the_end": round(values[-1], 1),
                "highest": round(max(values), 1),
                "slope_a_minute": round(found, 4),
                "interval": [round(found - half, 4), round(found + half, 4)],
            }
            if found + half > limit:
                tally.fail("grows", what, f"{found:.3f} +- {half:.3f} a minute, above {limit}")
    else:
        tally.fail("crash", "samples", f"there are only {len(samples)}: give it more --minutes")
    if (left := shared_bytes() - before) > MIB:
        tally.fail("orphan", "/dev/shm", f"{left} bytes are left")
    tally.facts["minutes"] = given.minutes
    return tally.report()


if __name__ == "__main__":
    sys.exit(main())

"""Do 200 runs that are killed at random moments end as if nothing had happened?

    python benchmarks/reliability/kills.py --count 200 --out docs/reliability/kills.json

A tiny run of a second or two, from files with two workers or from a set in memory, is killed: by SIGKILL,
SIGTERM, SIGINT, or SIGINT twice; the main process, one of its workers, or all of them; at a moment drawn from
its whole life, from its last seconds, or right after a change of its folder. Then the same command is given
again, or the run is resumed, in either order, until one of them ends well; a fourth of these are killed once
more. At the end the run has to equal an undisturbed one to the last bit. Each process has to end in time,
without a traceback, and without leaving another one behind.
"""

import os
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import (
    Ended,
    Process,
    Tally,
    command,
    numbers,
    options,
    random_of,
    same_run,
    tiny_recipe,
    write_pictures,
)

LIMIT = 90.0  # seconds that a process may take on a busy machine; a few are usual
POLL = 0.001  # seconds between two looks at the folder of a run
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGINT twice")
TARGETS = ("main", "worker", "group")
MOMENTS = ("any", "last seconds", "change")
WORKERS = {"files": "2", "memory": "0"}
ENDS = (0, 2, 128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGKILL, -signal.SIGINT, -signal.SIGTERM)


@dataclass(frozen=True)
class Reference:
    """An undisturbed run.

    Args:
        path: its folder.
        seconds: how long it took.
        changes: of its folder that were seen.
        last: name of its last checkpoint.
    """

    path: Path
    seconds: float
    changes: int
    last: str


@dataclass(frozen=True)
class Kill:
    """What is done to a run.

    Args:
        kind: of its images: "files" or "memory".
        signal: one of SIGNALS.
        target: one of TARGETS; where there is no worker, the main process.
        moment: one of MOMENTS.
        at: seconds after the start, or after the last checkpoint, or the number of the change of the folder.
        between: seconds between two signals.
    """

    kind: str
    signal: str
    target: str
    moment: str
    at: float
    between: float

    def __str__(self) -> str:
        when = {"change": f"change {self.at:.0f}", "any": f"{self.at:.2f} s"}.get(
            self.moment, f"{self.at:.2f} s after the last checkpoint"
        )
        return f"{self.kind}, {self.signal} to {self.target} at {when}"


def drawn(number: int, random: np.random.Generator, references: dict[str, Reference]) -> Kill:
    """Return what is done to run `number`: all kinds come up in turn, the moments are drawn."""
    kind = ("files", "memory")[number % 2]
    moment = MOMENTS[number // 2 % len(MOMENTS)]
    target = "main" if kind == "memory" else str(random.choice(TARGETS, p=[0.4, 0.3, 0.3]))
    one = SIGNALS[number // 6 % len(SIGNALS)]
    reference = references[kind]
    if moment == "change":
        at = float(random.integers(1, reference.changes + 1))
    elif moment == "last seconds":
        at = 2 * random.random()
    else:
        at = 0.1 + random.random() * reference.seconds
    return Kill(kind, one, target, moment, at, float(random.choice([0.0, 0.05, 0.3])))


def standing(folder: Path) -> list[tuple[str, int, int]]:
    """Return name, size and time of all that lies in a folder."""
    found = []
    for inner, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.lstat(f"{inner}/{name}")
            except FileNotFoundError:
                continue
            found.append((f"{inner}/{name}", status.st_size, status.st_mtime_ns))
    return sorted(found)


def watch(process: Process, folder: Path, change: float) -> int:
    """Wait until a folder has changed so many times, or the process has ended; return how often it did."""
    changes, before = 0, standing(folder)
    while changes < change and process.is_running:
        now = standing(folder)
        changes += now != before
        before = now
        if time.monotonic() - process.started > LIMIT:
            break
        time.sleep(POLL)
    return changes


def harm(process: Process, kill: Kill, folder: Path, last: str, random: np.random.Generator) -> None:
    """Wait for the moment, and send the signal.

    Args:
        process: the run.
        kill: what is done to it.
        folder: of the run.
        last: the name of its last checkpoint.
        random: which of the workers.
    """
    if kill.moment == "change":
        watch(process, folder, kill.at)
    elif kill.moment == "last seconds":
        is_there = (folder / "checkpoints" / last).exists
        while process.is_running and not is_there() and time.monotonic() - process.started < LIMIT:
            time.sleep(POLL)
        time.sleep(kill.at)
    else:
        time.sleep(max(0.0, process.started + kill.at - time.monotonic()))
    number = signal.Signals[kill.signal.split()[0]]
    for _ in range(2 if "twice" in kill.signal else 1):
        workers = process.descendants() if kill.target == "worker" else []
        if workers:
            with suppress(ProcessLookupError):  # it has ended by itself
                os.kill(int(random.choice(workers)), number)
        else:
            process.signal(number, group=kill.target == "group")
        time.sleep(kill.between)


class Campaign:
    """The references, and what is done to one run after the other."""

    def __init__(self, work: Path, tally: Tally) -> None:
        self.work, self.tally = work, tally
        self.recipe = tiny_recipe(work / "tiny.json")
        self.data = {
            "files": write_pictures(work / "files", 26, sizes=(14, 40), suffix="jpg"),
            "memory": write_pictures(work / "memory", 26, sizes=(16, 16), suffix="png"),
        }
        self.references: dict[str, Reference] = {}
        for kind in self.data:
            path = work / f"reference-{kind}"
            self.start(kind, path).ended(LIMIT)  # once, so that all is in the page cache
            process = self.start(kind, path, "--overwrite")
            changes = watch(process, path, 1e9)
            ended = process.ended(LIMIT)
            print(
                f"undisturbed, {kind}: {ended.seconds:.1f} s, {changes} changes", file=sys.stderr, flush=True
            )
            if trouble := ended.trouble(0):
                raise SystemExit(f"an undisturbed run fails ({trouble}): {ended}")
            last = max((path / "checkpoints").iterdir())
            self.references[kind] = Reference(path, ended.seconds, changes, last.name)

    def start(self, kind: str, out: Path, *words: str) -> Process:
        """Begin a run."""
        pretrain = ("pretrain", self.recipe, "--data", self.data[kind], "--out", out)
        return self._process(kind, *pretrain, *words)

    def resume(self, kind: str, out: Path) -> Process:
        """Continue a run."""
        return self._process(kind, "resume", out)

    def _process(self, kind: str, *words: str | Path) -> Process:
        surroundings = {"BYOL_CACHE": str(self.work / "cache"), "OMP_NUM_THREADS": "1"}
        settings = ("--workers", WORKERS[kind], "--checkpoint-seconds", "0.1")
        return Process(command(*words, *settings), environment=surroundings)

    def one(self, number: int, random: np.random.Generator) -> None:
        """Kill a run, bring it to its end, and compare it."""
        kill = drawn(number, random, self.references)
        out = self.work / f"run-{number}"
        case = f"{number} ({kill})"
        process = self.start(kill.kind, out)
        harm(process, kill, out, self.references[kill.kind].last, random)
        ended = process.ended(LIMIT)
        if not self._is_well(ended, case, "killed"):
            return
        self.tally.counts["ended by itself before" if ended.code == 0 else "stopped"] += 1
        ways = [self.start, self.resume] if random.random() < 0.5 else [self.resume, self.start]
        if random.random() < 0.25:
            process = ways[-1](kill.kind, out)
            at = random.random() * self.references[kill.kind].seconds
            again = Kill(kill.kind, "SIGKILL", "main", "any", at, 0.0)
            harm(process, again, out, self.references[kill.kind].last, random)
            if not self._is_well(process.ended(LIMIT), case, "killed again"):
                return
        said = []
        for way in [*ways, *ways[:1]]:  # the second may be what makes the first possible
            ended = way(kill.kind, out).ended(LIMIT)
            said.append(f"{way.__name__}: {ended.code} {ended.sentence}")
            if not self._is_well(ended, case, way.__name__):
                return
            if ended.code == 0:
                break
            if ended.code != 2 or not ended.sentence:
                self.tally.fail("stuck", case, f"{way.__name__}: {ended}")
                return
        else:
            self.tally.fail("stuck", case, " | ".join(said))
            return
        if difference := same_run(self.references[kill.kind].path, out):
            self.tally.fail("differs", case, f"{difference}; {' | '.join(said)}")
        if left := [path.name for path in out.rglob("*") if path.name.endswith(".tmp")]:
            self.tally.fail("left over", case, ", ".join(left))

    def _is_well(self, ended: Ended, case: str, which: str) -> bool:
        trouble = ended.trouble(*ENDS)
        if trouble:
            self.tally.fail(trouble, case, f"{which}: {ended}")
        return not trouble


def main() -> int:
    """Kill the runs and count what came of it."""
    asked = options(__doc__, 200)
    asked.add_argument("--jobs", type=int, default=2, help="runs at a time [2]")
    given = asked.parse_args()
    outcomes = ("runs", "stopped", "ended by itself before", "differs", "stuck", "hang", "orphan")
    tally = Tally("kills", given, (*outcomes, "traceback", "crash", "exit code", "left over"))
    with tempfile.TemporaryDirectory(prefix="kills-") as work:
        campaign = Campaign(Path(work), tally)
        tally.facts["undisturbed_seconds"] = {
            kind: round(reference.seconds, 1) for kind, reference in campaign.references.items()
        }
        with ThreadPoolExecutor(given.jobs) as pool:
            done = pool.map(lambda number: campaign.one(number, random_of(given, number)), numbers(given))
            for _ in done:
                tally.counts["runs"] += 1
                tally.progress(tally.counts["runs"], len(numbers(given)), 10)
    return tally.report()


if __name__ == "__main__":
    sys.exit(main())

"""What the campaigns of this folder share: seeds, limits, and telling how a process ended.

A campaign does one kind of harm many times and counts what came of it. Each takes `--seed`, `--count`,
`--only` and `--out FILE`, prints one JSON object at its end (and writes it to FILE), and exits with 1 if
anything failed:

    {"name": ..., "counts": {...}, "seconds": ..., "seed": ..., "date": ..., "machine": {...},
     "failed": [{"outcome": ..., "case": ..., "detail": ...}, ...]}

`counts` holds how often each outcome came up, 0 where it was looked for and never did. `failed` says of each
failure what it was, and how the campaign makes the same case again (`--seed`, and its number with `--only`).

- `in_children` calls a function on many cases in forked processes with limits of time and memory.
- `byol` runs the command line in a process of its own; `Ended.trouble` says what is wrong with how it ended.
"""

import argparse
import json
import mmap
import os
import platform
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

Case = TypeVar("Case")
GIB = 2**30
MARK = "BYOL_CAMPAIGN"  # in the environment of a process and of all that it starts
PATIENCE = 10.0  # seconds in which what a process left behind has to be gone
_POLL = 0.01  # seconds
_NOW = struct.Struct("=qd")  # the case that a child works on, and since when


# ---- asking and reporting -----------------------------------------------------------------------


def options(description: str | None, count: int) -> argparse.ArgumentParser:
    """Return the options that every campaign has; a campaign adds its own.

    Args:
        description: the docstring of the campaign.
        count: how many cases the whole campaign has.
    """
    # A shell that starts a campaign in the background lets it ignore Ctrl-C, and so whatever it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    asked = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    asked.add_argument("--seed", type=int, default=0, help="of everything that is drawn [0]")
    asked.add_argument("--count", type=int, default=count, help=f"cases [{count}]")
    asked.add_argument("--only", type=int, help="the number of one case, to repeat it alone")
    asked.add_argument("--out", type=Path, help="a file for the JSON object too")
    return asked


def numbers(given: argparse.Namespace) -> Sequence[int]:
    """Return the numbers of the cases that are asked for."""
    return range(given.count) if given.only is None else [given.only]


def random_of(given: argparse.Namespace, number: int) -> np.random.Generator:
    """Return the random numbers of a case: those of the seed and its number, whatever came before."""
    return np.random.default_rng([given.seed, number])


@dataclass
class Tally:
    """What came of a campaign.

    Args:
        name: of the campaign.
        given: its options.
        outcomes: what is looked for; each is counted, from 0.
    """

    name: str
    given: argparse.Namespace
    outcomes: Iterable[str] = ()
    counts: Counter[str] = field(default_factory=Counter)
    failed: list[dict[str, Any]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.counts.update(dict.fromkeys(self.outcomes, 0))

    def fail(self, outcome: str, case: object, detail: str) -> None:
        """Count a failure, and keep what it takes to see it again."""
        self.counts[outcome] += 1
        self.failed.append({"outcome": outcome, "case": str(case), "detail": detail[-1500:]})
        print(f"{self.name}: {outcome}: {case}: {detail[-300:]}", file=sys.stderr, flush=True)

    def progress(self, done: int, whole: int, every: int) -> None:
        """Tell now and then how far the campaign is."""
        if done % every == 0 or done == whole:
            seconds = time.monotonic() - self.started
            text = f"{self.name}: {done} of {whole} in {seconds:.0f} s, {len(self.failed)} failed"
            print(text, file=sys.stderr, flush=True)

    def report(self) -> int:
        """Print and write the JSON object; return the exit code."""
        found = {
            "name": self.name,
            "counts": dict(self.counts),
            **self.facts,
            "seconds": round(time.monotonic() - self.started, 1),
            "seed": self.given.seed,
            "date": datetime.now(UTC).date().isoformat(),
            "machine": machine(),
            "failed": self.failed,
        }
        text = json.dumps(found, indent=2)
        print(text)
        if self.given.out is not None:
            self.given.out.parent.mkdir(parents=True, exist_ok=True)
            self.given.out.write_text(text + "\n")
        return int(bool(self.failed))


def machine() -> dict[str, Any]:
    """Return where and with what a campaign ran."""
    import torch

    from byol.lab.machine import machine as measured

    return {**measured(torch.device("cpu")), "system": f"{platform.system()} {platform.release()}"}


# ---- many cases in forked processes -------------------------------------------------------------


class Outcome(NamedTuple):
    """What came of a case in a child.

    Args:
        kind: "done", or what went wrong: "crash", "hang", "memory", "exception" or "noise" on standard error.
        detail: what the function returned, or how it went wrong.
        seconds: how long it took.
        peak: bytes of memory that it took beyond what was taken before.
    """

    kind: str
    detail: str
    seconds: float
    peak: int


def in_children(
    work: Callable[[Case], str],
    cases: Sequence[Case],
    *,
    seconds: float = 20.0,
    memory: int = GIB,
    batch: int = 200,
) -> Iterator[tuple[Case, Outcome]]:
    """Call a function on every case, in forked processes that may die.

    Args:
        work: returns a word for what it found; anything that it raises is a failure.
        cases: they may be made by the parent or hold what it takes to make them.
        seconds: a case that takes longer hangs.
        memory: bytes that a case may take; it can have half as many again before it is refused them.
        batch: cases of one child.
    """
    first = 0
    while first < len(cases):
        last = min(first + batch, len(cases))
        outcomes = _child(work, cases, first, last, seconds, memory)
        yield from zip(cases[first:], outcomes, strict=False)
        first += len(outcomes)


def _child(
    work: Callable[[Case], str], cases: Sequence[Case], first: int, last: int, seconds: float, memory: int
) -> list[Outcome]:
    """Run cases until all are done or one ends the child; return the outcomes so far, one at least."""
    now = mmap.mmap(-1, _NOW.size)
    now[:] = _NOW.pack(first, time.monotonic())
    with tempfile.TemporaryFile("w+") as results, tempfile.TemporaryFile() as noise:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.setpgid(0, 0)
                os.dup2(noise.fileno(), 2)
                os.dup2(noise.fileno(), 1)
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                room = _status("VmSize") + memory * 3 // 2
                resource.setrlimit(resource.RLIMIT_AS, (room, room))
                for number in range(first, last):
                    now[:] = _NOW.pack(number, time.monotonic())
                    outcome = _one(work, cases[number], noise.fileno(), memory)
                    results.write(json.dumps(outcome) + "\n")
                    results.flush()
                code = 0
            finally:
                os._exit(code)
        is_hung, status = False, 0
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            if time.monotonic() - _NOW.unpack(now[:])[1] > seconds:
                is_hung = True
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                break
            time.sleep(_POLL)
        results.seek(0)
        outcomes = [Outcome(*json.loads(line)) for line in results if line.endswith("\n")]
        if len(outcomes) < last - first:
            took = time.monotonic() - _NOW.unpack(now[:])[1]
            noise.seek(0)
            said = noise.read().decode(errors="replace")[-1000:]
            detail = "it took too long" if is_hung else f"{os.waitstatus_to_exitcode(status)}: {said}"
            outcomes.append(Outcome("hang" if is_hung else "crash", detail, took, 0))
        return outcomes


def _one(work: Callable[[Case], str], case: Case, noise: int, memory: int) -> Outcome:
    started, before, said = time.monotonic(), _forget_peak(), os.lseek(noise, 0, os.SEEK_END)
    try:
        kind, detail = "done", work(case)
    except MemoryError as error:
        kind, detail = "memory", f"MemoryError: {error}"
    except BaseException as error:
        kind, detail = "exception", f"{type(error).__module__}.{type(error).__name__}: {error}"
    sys.stdout.flush()
    sys.stderr.flush()
    peak = _status("VmHWM") - before
    if kind == "done" and peak > memory:
        kind, detail = "memory", f"{peak / GIB:.2f} GiB ({detail})"
    if kind == "done" and (more := os.lseek(noise, 0, os.SEEK_END) - said):
        kind, detail = "noise", os.pread(noise, min(more, 500), said).decode(errors="replace")
    return Outcome(kind, detail, time.monotonic() - started, peak)


def _forget_peak() -> int:
    """Begin to look for the highest use of memory again; return the use in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str, process: int | str = "self") -> int:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    return 0


def resident(process: int) -> int:
    """Return the bytes of memory that a process holds; 0 where it is gone."""
    try:
        return _status("VmRSS", process)
    except OSError:
        return 0


# ---- the command line in a process ---------------------------------------------------------------


class Ended(NamedTuple):
    """How a process ended.

    Args:
        words: what was asked.
        code: its exit code; minus the signal that ended it.
        out: standard output.
        err: standard error.
        seconds: how long it ran.
        is_hung: it had to be killed.
        orphans: processes that it started and that were there too long after it.
    """

    words: Sequence[str]
    code: int
    out: str
    err: str
    seconds: float
    is_hung: bool
    orphans: int

    def trouble(self, *codes: int) -> str | None:
        """Return "hang", "orphan", "traceback", "crash" or "exit code", or None if all is well.

        Args:
            codes: the exit codes that are right; none for any but a crash.
        """
        if self.is_hung:
            return "hang"
        if self.orphans:
            return "orphan"
        if "Traceback (most recent call last)" in self.err + self.out or "Exception ignored" in self.err:
            return "traceback"
        if self.code < 0 and -self.code not in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
            return "crash"
        if codes and self.code not in codes:
            return "exit code"
        return None

    @property
    def sentence(self) -> str:
        """The line that begins with "byol:", the last of them; "" where there is none."""
        lines = [line for line in self.err.splitlines() if line.startswith("byol: ")]
        return lines[-1] if lines else ""

    def __str__(self) -> str:
        return f"exit code {self.code} after {self.seconds:.1f} s: {self.err[-1000:]}"


class Process:
    """A command in a process group of its own, whose descendants can be found wherever they go.

    Args:
        words: the command.
        folder: its working folder.
        environment: what is added to this process's environment; None takes a variable away.
    """

    def __init__(
        self,
        words: Sequence[str | os.PathLike[str]],
        folder: Path | None = None,
        environment: Mapping[str, str | None] | None = None,
    ) -> None:
        self.words = [os.fspath(word) for word in words]
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"
        added = {MARK: self.mark, "PYTHONFAULTHANDLER": "1", **(environment or {})}
        whole = {name: value for name, value in {**os.environ, **added}.items() if value is not None}
        self._out, self._err = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115 - `ended` closes them
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            self.words,
            cwd=folder,
            env=whole,
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            start_new_session=True,
        )

    @property
    def id(self) -> int:
        """The process's id, and its group's."""
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """It has not ended yet."""
        return self.process.poll() is None

    def descendants(self) -> list[int]:
        """Return the ids of all living processes that it started, directly or not, oldest first."""
        wanted = f"{MARK}={self.mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) not in (self.id, os.getpid()):
                try:
                    if wanted in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
                except OSError:
                    continue  # it ended, or is another person's
        return sorted(found)

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal to the process, or to its group; nothing happens where it has ended."""
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.id, number)

    def ended(self, seconds: float) -> Ended:
        """Wait for the end, kill the process where it takes too long, and wait for what it started."""
        is_hung = False
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            is_hung = True
            self.signal(signal.SIGKILL, group=True)
            self.process.wait()
        took = time.monotonic() - self.started
        until = time.monotonic() + PATIENCE
        while (left := self.descendants()) and time.monotonic() < until and not is_hung:
            time.sleep(5 * _POLL)
        for one in left:
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        texts = []
        for stream in (self._out, self._err):
            stream.seek(0)
            texts.append(stream.read().decode(errors="replace"))
            stream.close()
        return Ended(self.words, self.process.returncode, *texts, took, is_hung, 0 if is_hung else len(left))


def command(*words: str | os.PathLike[str]) -> list[str]:
    """Return the words that run `byol` with this interpreter."""
    return [sys.executable, "-m", "byol", *map(os.fspath, words)]


def byol(
    *words: str | os.PathLike[str],
    seconds: float = 120.0,
    folder: Path | None = None,
    environment: Mapping[str, str | None] | None = None,
) -> Ended:
    """Run `byol` with these words to its end, and kill it if it takes more than some seconds."""
    return Process(command(*words), folder, environment).ended(seconds)


# ---- small things to train on --------------------------------------------------------------------


def tiny_recipe(path: Path, **fields: Any) -> Path:
    """Write a recipe that learns some hundred short steps: what surrounds a step takes longer than it.

    Args:
        path: the file.
        fields: of the recipe, in place of these.
    """
    from dataclasses import replace

    from byol.data.image.augmentation import View
    from byol.data.image.views import TwoViews
    from byol.model.encoder import ConvNet
    from byol.model.head import Mlp
    from byol.recipe.small import builtin

    tiny: dict[str, Any] = {
        "name": "tiny",
        "data": "",
        "views": TwoViews(size=12, first=View(blur=0.5), second=View(blur=0.5, solarize=0.2)),
        "evaluation_size": 12,
        "encoder": ConvNet(widths=(4, 8)),
        "projector": Mlp(hidden=8, out=4),
        "predictor": Mlp(hidden=8, out=4),
        "batch_size": 8,
        "epochs": 40,
        "warmup_epochs": 1.0,
    }
    recipe = replace(builtin(), **{**tiny, **fields})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(recipe.to_json()))
    return path


def write_pictures(folder: Path, count: int, *, sizes: tuple[int, int], suffix: str, seed: int = 0) -> Path:
    """Write pictures of two classes.

    Args:
        folder: where; each class has a folder of its own.
        count: how many.
        sizes: the smallest and the largest side in pixels. One size of few pixels is kept in memory.
        suffix: of their names, which says the format.
        seed: of what they show.
    """
    from PIL import Image

    random = np.random.default_rng(seed)
    for i in range(count):
        height, width = random.integers(sizes[0], sizes[1] + 1, 2)
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        path = folder / ("cat" if i % 2 else "dog") / f"{i:03d}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


def same_run(left: Path, right: Path) -> str | None:
    """Return what differs between two finished runs, to the last bit, or None.

    The encoders and all of the newest checkpoints are compared, but for the seconds that the runs took.
    """
    import torch
    from safetensors.numpy import load_file

    from byol.errors import UserError
    from byol.run import checkpoint
    from byol.run.folder import RunFolder

    if not (right / "encoder.safetensors").is_file():
        return "there is no encoder"
    found = [load_file(run / "encoder.safetensors") for run in (left, right)]
    if found[0].keys() != found[1].keys():
        return "the encoders have other tensors"
    for name, array in found[0].items():
        if array.tobytes() != found[1][name].tobytes():
            return f"{name} of the encoder"
    states = []
    for run in (left, right):
        newest = checkpoint.newest(RunFolder(run).checkpoints)
        if newest is None:
            return f"{run} has no checkpoint"
        try:
            states.append(checkpoint.load(newest, torch.device("cpu")))
        except UserError as error:
            return str(error)
    return _difference(states[0], states[1], "")


def _difference(left: Any, right: Any, where: str) -> str | None:
    import torch

    if type(left) is not type(right):
        return where
    if isinstance(left, torch.Tensor):
        return None if torch.equal(left, right) else where
    if isinstance(left, dict):
        if left.keys() != right.keys():
            return where
        inner = [(left[key], right[key], f"{where}.{key}") for key in left.keys() - {"seconds"}]
    elif isinstance(left, list | tuple):
        if len(left) != len(right):
            return where
        inner = [(a, b, f"{where}[{i}]") for i, (a, b) in enumerate(zip(left, right, strict=True))]
    else:
        return None if left == right else where
    return next((found for pair in inner if (found := _difference(*pair))), None)

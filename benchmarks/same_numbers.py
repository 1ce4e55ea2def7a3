"""Did a computed number change from one git revision to another? Both are run and compared bit for bit.

    python benchmarks/same_numbers.py BASE              # against the working tree
    python benchmarks/same_numbers.py BASE HEAD --only convnet knn --out same.json

For whoever moves or renames code and means to leave every result as it is. Each revision gets a git worktree
and a cache of its own, and each scenario runs in BASE, then in HEAD, on the same images and recipe files and
through the command line alone, as the names of modules and functions may differ. The scenarios are small: a
few dozen steps of tiny networks on generated images, every slot of a recipe, every protocol. Compared are:

- of a run: the tensors of `encoder.safetensors` with its settings, all tensors and numbers of the newest
  checkpoint, `metrics.jsonl`, `summary.json`, the precision that was picked;
- of an evaluation: all numbers of its JSON, such as figures, intervals, p-values, choices and confusion;
- of a pack: its bytes; of the named recipes: their numbers.

Times, dates, paths, fingerprints (they hold names of modules) and wording are not compared. Keys that HEAD
renamed stand in `RENAMED`, flags in `SPELLINGS`. A key that only HEAD has is counted as added, which is no
difference; one that HEAD has lost is one, unless it stands nearer to the top there.

A scenario runs on one thread, as many scenarios side by side as there are cores, unless it says otherwise.
One line a scenario; exit code 0 where all is the same, 1 where something differs or fails. Not compared:
`byol ablate`, `byol import`, `byol bench`, GPUs.
"""

import argparse
import copy
import csv
import json
import math
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import product
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor
from torchvision import models

# Keys that were renamed: the older name, the newer one. Parts of the names of tensors are keys too.
RENAMED = {
    "figures": "metrics",
    "learnt_from": "learned_from",
    "share": "fraction",
    "spread": "std",
    "behind": "ahead",
}
# Words of a command line that were respelled; they are tried in this order.
SPELLINGS = {
    "--share": ("--share", "--fraction"),
}
# Keys whose values are not computed from images and recipe.
IGNORED = {
    "seconds",
    "wall_seconds",
    "images_per_second",
    "provenance",
    "fingerprint",
    "data_fingerprint",
    "warnings",
    "format",
}
# Keys whose words are results; other words may be put differently.
WORDS = {"kind", "metric", "verdict", "precision", "bad_files", "optimizer"}

CLASSES = ("ash", "birch", "cedar", "elm", "fir", "oak")
# A multiple of every batch size: batches run across the ends of epochs now, and were cut off there before.
PER_CLASS = {"train": 16, "test": 6}
PATIENCE = 300.0  # seconds that a command may take
POLL = 0.01  # seconds between looks at a run that is to be stopped

Place = tuple[str, ...]  # of a value inside nested dictionaries and lists
Found = dict[str, Any]  # what a scenario found: nested dictionaries and lists of tensors, numbers and words


class FailedError(Exception):
    """A command did not end as it has to; in words for the person."""


@dataclass(frozen=True)
class Slot:
    """A field of a recipe, taken from a named one.

    Args:
        recipe: its name.
    """

    recipe: str


@dataclass(frozen=True)
class Run:
    """How a run of a scenario is started.

    Args:
        recipe: a named one, which `changes` make a JSON file of.
        changes: dotted field -> value, in this order; None for the named recipe as it stands, with flags.
        data: of the images, see `make_images`.
        words: flags.
        threads: of the process.
        processes: that train together.
    """

    recipe: str = "builtin"
    changes: Mapping[str, Any] | None = field(default_factory=dict)
    data: str = "photos"
    words: tuple[str, ...] = ("--workers", "1")
    threads: int = 1
    processes: int = 1


SMALL: dict[str, Any] = {
    "precision": "float32",  # in which no difference is rounded away
    "evaluation_size": 32,
    "encoder.widths": [16, 32, 64],
    "projector.hidden": 32,
    "projector.out": 16,
    "predictor.hidden": 32,
    "predictor.out": 16,
    "batch_size": 16,
    "epochs": 4,
}
SMALL_FLAGS = ("--projector.hidden", "64", "--predictor.hidden", "64", "--seed", "1")
RESNET = {
    "encoder": Slot("photos"),
    "optimizer": Slot("photos"),
    "epochs": 1,
    "batch_size": 32,
    "encoder.stem": "cifar",
    "encoder.padding": "same",
    "encoder.zero_gamma": True,
}
MULTICROP = {"views": Slot("imagenet-multicrop"), "views.size": 32, "views.small_size": 16}
GROUPS = {"kind": "group", "groups": 8, "standardize": True}
LAYERS, PLAIN = {"kind": "layer"}, {"kind": "none"}

RUNS: dict[str, Run] = {
    "convnet": Run(),
    "builtin": Run(
        changes=None,
        data="builtin",
        words=(*SMALL_FLAGS, "--encoder.widths", "16", "32", "64", "--epochs", "1", "--batch-size", "250"),
    ),
    "photos": Run(
        recipe="photos",
        changes=None,
        words=(
            *(*SMALL_FLAGS, "--views.size", "32", "--evaluation-size", "48", "--batch-size", "24"),
            *("--epochs", "3", "--warmup-epochs", "1", "--workers", "2"),
        ),
    ),
    "list-csv": Run(data="list.csv"),
    "list-txt": Run(data="list.txt"),
    "archive": Run(data="tiny.zip"),
    "resnet18": Run(changes={**RESNET, "encoder.first_shortcut": "projection"}),
    "resnet50": Run(changes={**RESNET, "encoder.depth": 50, "encoder.stem": "imagenet"}),
    "timm": Run(changes={"encoder": {"kind": "timm", "name": "resnet10t"}, "epochs": 1}),
    "directpred": Run(changes={"predictor": Slot("cifar10-small-directpred")}),
    "directpred-every-3": Run(
        changes={"predictor": Slot("cifar10-small-directpred"), "predictor.every": 3, "loss_weight": 0.5}
    ),
    "directcopy": Run(changes={"predictor": Slot("imagenet-directcopy")}),
    "optimal": Run(changes={"predictor": Slot("imagenet-optimal-predictor"), "target": {"kind": "shared"}}),
    "simsiam": Run(
        changes={
            name: Slot("cifar10-small-simsiam")
            for name in ("projector", "predictor", "target", "predictor_lr")
        }
    ),
    "two-timescale": Run(
        changes={name: Slot("imagenet-two-timescale") for name in ("target", "predictor_lr")}
    ),
    "multicrop": Run(changes={**MULTICROP, "views.num_small": 2}),
    "group-norm": Run(
        changes={f"{name}.norm": GROUPS for name in ("encoder", "projector", "predictor")}
        | {"predictor.out": 16}
    ),
    "layer-norm": Run(
        changes={"encoder.norm": LAYERS, "projector.norm": LAYERS}
        | {"predictor": {"kind": "symmetric"}, "target": {"kind": "constant-ema", "value": 0.9}}
    ),
    "no-norm": Run(
        changes={"encoder.norm": PLAIN, "projector.norm": PLAIN}
        | {"predictor": {"kind": "linear"}, "target": {"kind": "fixed"}}
    ),
    "micro-batches": Run(changes={"micro_batches": 2}),
    "loss-weight": Run(changes={"loss_weight": 0.25}),
    "lars": Run(changes={"optimizer": Slot("imagenet-300")}),
    "sgd": Run(changes={"optimizer": Slot("photos"), "optimizer.decay_all": True}),
    "truncated-normal": Run(changes={"initialization": "truncated-normal"}),
    "bf16": Run(changes={"precision": "bf16"}),
    "auto": Run(changes={"precision": "auto", "seed": 7}),
    "two-threads": Run(changes={"batch_size": 32}, threads=2),
    "two-processes": Run(processes=2),
    "resumed": Run(changes={"epochs": 40}),
    "packed": Run(data="photos.pack", changes={"batch_size": 19}),  # without the damaged one
}


@dataclass
class Side:
    """One of the two revisions.

    Args:
        name: "base" or "head".
        root: of its source tree.
        folder: of what it writes.
        data: the images that both see.
        base: the older one; None where this is it.
    """

    name: str
    root: Path
    folder: Path
    data: Path
    base: "Side | None" = None
    _lock: Any = field(default_factory=Lock)
    _locks: dict[str, Any] = field(default_factory=dict)
    _made: dict[str, Any] = field(default_factory=dict)

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        """Return what is made, which is made by whoever asks first while the others wait."""
        with self._lock:
            own = self._locks.setdefault(key, Lock())
        with own:
            if key not in self._made:
                self._made[key] = make()
            return self._made[key]

    def environment(self, threads: int = 1) -> dict[str, str]:
        """Return the environment of a command."""
        own = {"PYTHONPATH": str(self.root / "src"), "BYOL_CACHE": str(self.folder / "cache")}
        return {**os.environ, **own, "OMP_NUM_THREADS": str(threads)}

    def byol(self, *words: str, threads: int = 1, processes: int = 1, codes: Sequence[int] = (0,)) -> Any:
        """Run a command of this revision.

        Returns:
            What it did, as `subprocess.run` says it.

        Raises:
            FailedError: its exit code is none of `codes`.
        """
        several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        start = [sys.executable, *(several if processes > 1 else []), "-m", "byol"]
        said = ""
        for spelled in product(*(SPELLINGS.get(word, (word,)) for word in words)):
            done = subprocess.run(
                [*start, *spelled],
                cwd=self.folder,
                env=self.environment(threads),
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
            if done.returncode in codes:
                return done
            said += f"byol {' '.join(spelled)}: exit code {done.returncode}: {done.stderr.strip()[-600:]}\n"
            if done.returncode != 2:
                break
        raise FailedError(f"{self.name}: {said.strip()}")

    def recipe(self, name: str) -> Any:
        """Return a named recipe as JSON."""
        return self.once(f"recipe {name}", lambda: json.loads(self.byol("recipes", name).stdout))

    def started(self, name: str) -> list[str]:
        """Return the words that start a run. Of recipe files there is one for both, the older revision's."""
        run, older = RUNS[name], self.base or self
        recipe = run.recipe
        if run.changes is not None:
            recipe = str(older.once(f"file {name}", partial(_write_recipe, older, name, run)))
        data = run.data if run.data == "builtin" else str(self.data / run.data)
        if name == "packed":
            data = str(self.pack())
        return [
            "pretrain",
            recipe,
            "--data",
            data,
            "--out",
            str(self.folder / name),
            "--overwrite",
            *run.words,
        ]

    def run(self, name: str) -> Path:
        """Return the folder of a finished run, which is run when it is asked for first."""

        def make() -> Path:
            words, run = self.started(name), RUNS[name]
            self.byol(*words, threads=run.threads, processes=run.processes)
            return self.folder / name

        path: Path = self.once(f"run {name}", make)
        return path

    def pack(self, *words: str) -> Path:
        """Return a pack of the photographs."""

        def make() -> Path:
            file = self.folder / f"photos{''.join(words)}.pack"
            self.byol("pack", str(self.data / "photos"), "--out", str(file), "--short-side", "64", *words)
            return file

        path: Path = self.once(f"pack {words}", make)
        return path

    def judged(self, protocol: str, encoder: str | Path, *words: str | Path) -> Found:
        """Return the JSON of an evaluation."""
        done = self.byol("eval", protocol, str(encoder), *map(str, words), "--seed", "3", "--json")
        found: Found = json.loads(done.stdout)
        return found


def _write_recipe(side: Side, name: str, run: Run) -> Path:
    """Write the recipe file of a run."""
    recipe = copy.deepcopy(side.recipe(run.recipe))
    for path, value in {**SMALL, **(run.changes or {})}.items():
        *parents, last = path.split(".")
        place = recipe
        for parent in parents:
            place = place[parent]
        place[last] = copy.deepcopy(side.recipe(value.recipe)[last] if isinstance(value, Slot) else value)
    file = side.folder / f"{name}.json"
    file.write_text(json.dumps(recipe))
    return file


# ---- the scenarios ---------------------------------------------------------------------------------------


def left_behind(run: Path) -> Found:
    """Return all that is compared of a finished run."""
    with safe_open(run / "encoder.safetensors", "pt") as file:
        metadata = file.metadata()
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    newest = max((run / "checkpoints").glob("step-*.pt"))
    return {
        "encoder": weights,
        "encoder file": {name: json.loads(metadata[name]) for name in ("architecture", "preprocessing")},
        "checkpoint": torch.load(newest, map_location="cpu", weights_only=True),
        "metrics.jsonl": [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()],
        "summary": json.loads((run / "summary.json").read_text()),
        "machine": {"precision": json.loads((run / "provenance.json").read_text())["precision"]},
    }


def pretrained(name: str, side: Side) -> Found:
    return left_behind(side.run(name))


def resumed(side: Side) -> Found:
    """Stop a run with SIGTERM after its first records and finish it; where it was stopped must not matter."""

    def make() -> Path:
        out = side.folder / "resumed"
        words = [sys.executable, "-m", "byol", *side.started("resumed")]
        with subprocess.Popen(
            words, cwd=side.folder, env=side.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            try:
                deadline = time.monotonic() + PATIENCE
                while process.poll() is None and time.monotonic() < deadline and lines_of(out) < 3:
                    time.sleep(POLL)
                process.send_signal(signal.SIGTERM)
                said, _ = process.communicate(timeout=PATIENCE)
            finally:
                process.kill()
        if process.returncode != 128 + signal.SIGTERM:
            said_last = said.decode(errors="replace").strip()[-600:]
            raise FailedError(f"{side.name}: SIGTERM led to exit code {process.returncode}: {said_last}")
        side.byol("pretrain", "--resume", str(out), "--workers", "1")
        return out

    return left_behind(side.once("run resumed", make))


def lines_of(run: Path) -> int:
    file = run / "metrics.jsonl"
    return file.read_text().count("\n") if file.exists() else 0


def packs(side: Side) -> Found:
    """Compare packs byte for byte, and a run on one."""
    files = {"jpeg": side.pack(), "raw": side.pack("--raw")}
    sizes = {name: torch.from_numpy(np.fromfile(file, np.uint8)) for name, file in files.items()}
    return {"pack": sizes, **left_behind(side.run("packed"))}


def recipes(side: Side) -> Found:
    """Compare all named recipes of the older revision."""
    older = side.base or side
    listed: str = older.once("recipes", lambda: older.byol("recipes").stdout)
    names = [line.split()[0] for line in listed.splitlines()[1:] if line[:1].strip()]
    return {name: side.recipe(name) for name in names}


def knn(side: Side) -> Found:
    """Judge by neighbours: with splits, with two folders, of one set alone, of another set, of raw pixels."""
    run, photos = side.run("convnet"), side.data / "photos"
    return {
        "splits": side.judged("knn", run, "--data", photos),
        "folders": side.judged("knn", run, "--data", photos / "train", "--test", photos / "test"),
        "alone": side.judged("knn", run, "--data", photos / "test", "--k", "5"),
        "uneven": side.judged("knn", run / "encoder.safetensors", "--data", side.data / "list.csv"),
    }


def linear(side: Side) -> Found:
    run, photos = side.run("convnet"), side.data / "photos"
    few = ("--strengths", "1e-4", "1e-2", "1", "--flip")
    return {
        "whole path": side.judged("linear", run, "--data", photos),
        "mirrored": side.judged("linear", run, "--data", side.data / "list.csv", *few),
    }


def linear_paper(side: Side) -> Found:
    settings = ("--epochs", "3", "--lrs", "0.4", "0.1")
    return {
        "sgd": side.judged("linear-paper", side.run("convnet"), "--data", side.data / "photos", *settings)
    }


def finetune(side: Side) -> Found:
    run, photos = side.run("convnet"), side.data / "photos"
    brief = ("--data", photos, "--epochs", "3", "--at-least", "0")
    adamw = ("--optimizer", "adamw", "--lrs", "1e-3", "--layer-decay", "0.7", "--weight-decay", "0.01")
    return {
        "sgd": side.judged("finetune", run, *brief, "--lrs", "0.1", "0.3", "--runs", "2"),
        "adamw": side.judged("finetune", run, *brief, *adamw),
    }


def fewlabel_linear(side: Side) -> Found:
    few = ("--share", "0.4", "--draws", "2", "--by.strengths", "1e-3", "0.1")
    return {
        "draws": side.judged("fewlabel-linear", side.run("convnet"), "--data", side.data / "photos", *few)
    }


def fewlabel_finetune(side: Side) -> Found:
    few = ("--share", "0.5", "--draws", "2", "--by.lrs", "0.1", "0.02", "--by.epochs", "2", "4")
    run, data = side.run("convnet"), side.data / "photos"
    return {"draws": side.judged("fewlabel-finetune", run, "--data", data, *few)}


def transfer(side: Side) -> Found:
    settings = (
        *("--linear.strengths", "1e-3", "0.1", "--finetune.lrs", "0.1"),
        *("--finetune.epochs", "2", "--finetune.at-least", "0"),
    )
    sets = side.data / "photos", side.data / "several.csv"
    return {"sets": side.judged("transfer", side.run("convnet"), "--data", *sets, *settings)}


def unlabelled(side: Side) -> Found:
    run = side.run("convnet")
    return {
        "splits": side.judged("unlabelled", run, "--data", side.data / "photos"),
        "list": side.judged("unlabelled", run, "--data", side.data / "list.txt"),
    }


def several_labels(side: Side) -> Found:
    """Judge where an image has any number of labels, by VOC's mean average precision."""
    run, data = side.run("convnet"), side.data / "several.csv"
    brief = ("--epochs", "2", "--at-least", "0", "--lrs", "0.1")
    return {
        "knn": side.judged("knn", run, "--data", data),
        "linear": side.judged("linear", run, "--data", data, "--strengths", "1e-2", "1"),
        "finetune": side.judged("finetune", run, "--data", data, *brief),
    }


def against(side: Side) -> Found:
    others = [f"{name}@{side.data / file}" for name, file in CHECKPOINTS.items()]
    words = ("--data", side.data / "photos", "--against", *others)
    return {
        "knn": side.judged("knn", side.run("convnet"), *words),
        "unlabelled": side.judged("unlabelled", side.run("convnet"), *words),
    }


def compare(side: Side) -> Found:
    found = {}
    for protocol in ("knn", "linear"):
        a, b, data = side.run("convnet"), side.run("simsiam"), side.data / "photos"
        settings = ("--protocol", protocol, "--seed", "3", "--json")
        done = side.byol("compare", str(a), str(b), "--data", str(data), *settings, codes=(0, 3, 4))
        found[protocol] = {**json.loads(done.stdout), "ended with": done.returncode}
    return found


def old_files(side: Side) -> Found:
    """Judge an encoder file that the older revision wrote, on a pack that it wrote."""
    older = side.base or side
    encoders = {name: older.run(name) / "encoder.safetensors" for name in ("convnet", "photos", "timm")}
    data = older.pack()
    return {name: side.judged("knn", encoder, "--data", data) for name, encoder in encoders.items()}


SCENARIOS: dict[str, Callable[[Side], Found]] = {
    **{name: partial(pretrained, name) for name in RUNS if name not in ("packed", "resumed")},
    "resumed": resumed,
    "packs": packs,
    "recipes": recipes,
    "knn": knn,
    "linear": linear,
    "linear-paper": linear_paper,
    "finetune": finetune,
    "fewlabel-linear": fewlabel_linear,
    "fewlabel-finetune": fewlabel_finetune,
    "transfer": transfer,
    "unlabelled": unlabelled,
    "several-labels": several_labels,
    "against": against,
    "compare": compare,
    "old-files": old_files,
}


# ---- what they look at -----------------------------------------------------------------------------------

CHECKPOINTS = {"torchvision:resnet18": "torchvision.pth", "timm:resnet10t": "timm.pth"}


def make_images(folder: Path) -> None:
    """Write the images and lists of all scenarios.

    - `photos`: JPEG files of 40 to 200 px with splits and classes, one of them damaged.
    - `list.csv`, `list.txt`: the same, with classes of different sizes, and without labels.
    - `several.csv`: the same with any number of labels an image.
    - `tiny.zip`: PNG files of 32 px, which are kept in memory.
    """
    random = np.random.default_rng(0)
    rows = []
    for split, count in PER_CLASS.items():
        for label, name in enumerate(CLASSES):
            for number in range(count):
                path = Path(split, name, f"{number:02}.jpg")
                height, width = (int(side) for side in random.integers(40, 201, 2))
                save(draw(random, label, height, width), folder / "photos" / path)
                save(draw(random, label, 32, 32), (folder / "tiny" / path).with_suffix(".png"))
                others = random.permutation(len(CLASSES))[: random.integers(0, 3)]
                several = {name, *(CLASSES[i] for i in others)} if number else set()
                rows.append((f"photos/{path}", name, "|".join(sorted(several)), split, number))
    last = folder / "photos" / "train" / CLASSES[0] / f"{PER_CLASS['train'] - 1:02}.jpg"
    rows = [row for row in rows if folder / row[0] != last]
    last.rename(last.with_name("damaged.jpg")).write_bytes(b"\xff\xd8\xff\xe0 and no more")
    few = {"train": 1, "test": 4}
    uneven = [row for row in rows if row[4] < few[row[3]] or row[1] != CLASSES[-1]]
    write_list(folder / "list.csv", ("path", "label", "split"), [(row[0], row[1], row[3]) for row in uneven])
    write_list(
        folder / "several.csv", ("path", "labels", "split"), [(row[0], row[2], row[3]) for row in rows]
    )
    (folder / "list.txt").write_text("".join(f"{row[0]}\n" for row in rows[:128]))
    with zipfile.ZipFile(folder / "tiny.zip", "w") as file:
        for image in sorted((folder / "tiny").rglob("*.png")):
            file.write(image, image.relative_to(folder / "tiny"))


def draw(random: np.random.Generator, label: int, height: int, width: int) -> Image.Image:
    """Return stripes, whose direction is the class, in random colours and with noise."""
    y, x = np.mgrid[:height, :width] / 40.0
    angle = math.pi * label / len(CLASSES)
    wave = np.sin(2 * math.pi * (3 * (x * math.cos(angle) + y * math.sin(angle)) + random.uniform()))
    colours = random.uniform(0, 255, (2, 3))
    pixels = colours[0] + (0.5 + 0.5 * wave[..., None]) * (colours[1] - colours[0])
    return Image.fromarray((pixels + random.normal(0, 10, pixels.shape)).clip(0, 255).astype(np.uint8))


def save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write_list(file: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


def make_checkpoints(folder: Path) -> None:
    """Write weights of other libraries' networks, drawn at random, as their checkpoints are written."""
    torch.manual_seed(0)
    networks = models.resnet18(weights=None), timm.create_model("resnet10t", pretrained=False)
    for file, network in zip(CHECKPOINTS.values(), networks, strict=True):
        torch.save({"state_dict": network.state_dict()}, folder / file)


# ---- comparing -------------------------------------------------------------------------------------------


@dataclass
class Verdict:
    """What came of a scenario.

    Args:
        name: of the scenario.
        tensors: that were compared.
        numbers: that were compared, beside those in tensors.
        differences: in words; none where all is the same.
        added: what HEAD alone has.
        moved: what stands elsewhere in HEAD.
        seconds: of both revisions.
    """

    name: str
    tensors: int = 0
    numbers: int = 0
    differences: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    seconds: tuple[float, float] = (0.0, 0.0)


def leaves(value: Any, path: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Yield the tensors, numbers and words of nested dictionaries and lists, under their newer names."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in IGNORED:
                yield from leaves(inner, (*path, *(RENAMED.get(word, word) for word in str(key).split("."))))
    elif isinstance(value, (list, tuple)):
        yield (*path, "how many"), len(value)
        for i, inner in enumerate(value):
            yield from leaves(inner, (*path, str(i)))
    elif not isinstance(value, str) or any(word in WORDS for word in path[-2:]):
        yield path, value


def by_path(found: Found) -> dict[Place, Any]:
    """Return path -> leaf.

    Raises:
        FailedError: two have one name, so `RENAMED` is wrong.
    """
    paths: dict[Place, Any] = {}
    for path, value in leaves(found):
        if path in paths:
            raise FailedError(f"{'/'.join(path)} is there twice: once under its older name, see RENAMED")
        paths[path] = value
    return paths


def difference(base: Any, head: Any) -> str | None:
    """Return how two leaves differ; None where every bit is the same."""
    if isinstance(base, Tensor) and isinstance(head, Tensor):
        if (base.shape, base.dtype) != (head.shape, head.dtype):
            return f"{tuple(base.shape)} {base.dtype} became {tuple(head.shape)} {head.dtype}"
        a, b = (value.detach().contiguous().view(-1) for value in (base, head))
        if torch.equal(a.view(torch.uint8), b.view(torch.uint8)):
            return None
        apart = (a.double() - b.double()).abs()
        return f"{int((a != b).sum())} of {a.numel()} numbers, by {apart.max().item():.3g} at most"
    if isinstance(base, Tensor) or isinstance(head, Tensor):
        return f"a {type(base).__name__} became a {type(head).__name__}"
    if _bits(base) == _bits(head):
        return None
    return f"{base!r} became {RENAMED.get(head, head) if isinstance(head, str) else head!r}"


def _bits(value: Any) -> Any:
    """Return something that is equal where all bits are; a whole number may be an int or a float."""
    if isinstance(value, str):
        return RENAMED.get(value, value)
    return value if isinstance(value, bool) or value is None else float(value).hex()


def compared(name: str, base: Found, head: Found) -> Verdict:
    """Compare what a scenario found in both revisions."""
    verdict, ours, theirs = Verdict(name), by_path(base), by_path(head)
    met = set()
    for path, value in ours.items():
        # The first word says which file or call it is; of the rest, words above it may have gone.
        places = [path, *((path[0], *path[start:]) for start in range(2, len(path)))]
        place = next((place for place in places if place in theirs), None)
        if place is None:
            verdict.differences.append(f"{'/'.join(path)} is not there any more")
            continue
        met.add(place)
        if place != path:
            verdict.moved.append(f"{'/'.join(path)} to {'/'.join(place)}")
        verdict.tensors += isinstance(value, Tensor)
        verdict.numbers += isinstance(value, (bool, int, float)) and path[-1] != "how many"
        if (words := difference(value, theirs[place])) is not None:
            verdict.differences.append(f"{'/'.join(path)}: {words}")
    verdict.added = ["/".join(path) for path in theirs if path not in met]
    return verdict


def tried(name: str, base: Side, head: Side) -> Verdict:
    """Run a scenario in both revisions, one after the other, and compare."""
    found, seconds = [], []
    try:
        for side in (base, head):
            started = time.perf_counter()
            found.append(SCENARIOS[name](side))
            seconds.append(time.perf_counter() - started)
        verdict = compared(name, *found)
        verdict.seconds = seconds[0], seconds[1]
    except (FailedError, subprocess.TimeoutExpired, OSError, ValueError, LookupError, RuntimeError) as error:
        verdict = Verdict(name, differences=[f"failed: {type(error).__name__}: {error}"])
    return verdict


def line(verdict: Verdict) -> str:
    counted = (len(verdict.added), "added"), (len(verdict.moved), "moved")
    apart = ", ".join(f"{count:,} {word}" for count, word in counted if count)
    words = f"same ({apart})" if apart else "same"
    if verdict.differences:
        words = f"{len(verdict.differences):,} DIFFER, first {verdict.differences[0]}"
    counts = f"{verdict.tensors:>6,} tensors {verdict.numbers:>7,} numbers"
    return f"{verdict.name:<20}{counts}  {verdict.seconds[0]:5.1f} s {verdict.seconds[1]:5.1f} s  {words}"


# ---- the two revisions -----------------------------------------------------------------------------------

ROOT = Path(__file__).resolve().parent.parent


def git(*words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True
    ).stdout.strip()


@contextmanager
def tree(revision: str, folder: Path) -> Iterator[Path]:
    """Context with the source tree of a revision; "." is the working tree itself."""
    if revision == ".":
        yield ROOT
        return
    git("worktree", "add", "--quiet", "--detach", str(folder), revision)
    try:
        yield folder
    finally:
        git("worktree", "remove", "--force", str(folder))


@contextmanager
def workplace(keep: Path | None) -> Iterator[Path]:
    """Context with an empty folder, which stays where the person named it."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="same-numbers-") as folder:
            yield Path(folder)
        return
    if keep.exists() and any(keep.iterdir()):
        sys.exit(f"{keep} is not empty; choose another folder.")
    keep.mkdir(parents=True, exist_ok=True)
    yield keep.resolve()


def opened(name: str, revision: str, root: Path, work: Path, base: Side | None) -> Side:
    """Return a revision that is ready to run, after making sure that it is this one which runs."""
    side = Side(name, root, work / name, work / "data", base)
    side.folder.mkdir()
    words = [sys.executable, "-c", "import byol; print(byol.__file__)"]
    environment = side.environment()
    done = subprocess.run(words, cwd=side.folder, env=environment, capture_output=True, text=True, check=True)
    if not Path(done.stdout.strip()).is_relative_to(root / "src"):
        sys.exit(f"{revision}: Python imports {done.stdout.strip()}, not what is below {root / 'src'}.")
    return side


def described(revision: str) -> dict[str, Any]:
    """Return which commit a revision is."""
    is_tree = revision == "."
    return {
        "revision": revision,
        "commit": git("rev-parse", "HEAD" if is_tree else f"{revision}^{{commit}}"),
        "uncommitted_changes": bool(is_tree and git("status", "--porcelain")),
    }


def processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("base", help="the older revision")
    parser.add_argument("head", nargs="?", default=".", help="the newer one; the working tree by default")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where to leave runs and images")
    parser.add_argument("--out", type=Path, metavar="FILE", help="of a summary as JSON")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="scenarios at a time")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that worktrees go away
    revisions = {"base": described(args.base), "head": described(args.head)}
    started, verdicts = time.perf_counter(), []
    with (
        workplace(args.keep) as work,
        tree(args.base, work / "base-tree") as base_root,
        tree(args.head, work / "head-tree") as head_root,
    ):
        (work / "data").mkdir()
        make_images(work / "data")
        make_checkpoints(work / "data")
        base = opened("base", args.base, base_root, work, None)
        head = opened("head", args.head, head_root, work, base)
        with ThreadPoolExecutor(args.jobs) as pool:
            try:
                for verdict in pool.map(lambda name: tried(name, base, head), args.only or SCENARIOS):
                    verdicts.append(verdict)
                    print(line(verdict), flush=True)
            finally:
                pool.shutdown(cancel_futures=True)
    different = [verdict.name for verdict in verdicts if verdict.differences]
    seconds = time.perf_counter() - started
    print(
        f"{len(verdicts)} scenarios, {sum(verdict.tensors for verdict in verdicts):,} tensors and "
        f"{sum(verdict.numbers for verdict in verdicts):,} numbers in {seconds:.0f} s: "
        + (f"DIFFERENT in {', '.join(different)}" if different else "all the same, bit for bit")
    )
    if args.out is not None:
        report = {
            **revisions,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "processor": processor(),
            "torch": torch.__version__,
            "seconds": seconds,
            "is_same": not different,
            "scenarios": [vars(verdict) for verdict in verdicts],
        }
        args.out.write_text(json.dumps(report, indent=2) + "\n")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())

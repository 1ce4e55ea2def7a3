"""Each remedy that a message names is tried: provoke the message, do what it says, see that it works.

`ROWS` holds a piece of each such message and how it is tried. A message of the source that names a flag, a
command, a function or a variable, and has no row, fails the first test.
"""

import ast
import json
import os
import re
import shlex
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import byol
from byol.cli import main
from byol.model.encoder import ConvNet
from byol.run import checkpoint
from byol.run.folder import _BEGUN, RunFolder

pytestmark = pytest.mark.usefixtures("two_cells")
SOURCE = Path(byol.__file__).parent
REMEDY = re.compile(r"(?<![\w-])--[a-z][\w.-]*|\bbyol [a-z]+|\bbyol\.\w+\(|\bBYOL_\w+|torchrun")
# Help, examples, completion and reports are no messages; tests of their own hold them.
NO_MESSAGES = {"cli/pages.py", "cli/shells.py", "cli/completion.py", "evaluate/protocol/table.py"}
NO_MESSAGES |= {"lab/findings.py", "lab/tables.py", "recipe/names.py", "weights/formats.py:reader"}


def templates() -> Iterator[tuple[str, str]]:
    """Yield the texts in which a remedy stands: where, and the text with {} for what is filled in."""
    for path in sorted(SOURCE.rglob("*.py")):
        place = str(path.relative_to(SOURCE))
        if place in NO_MESSAGES:
            continue
        tree, inner = ast.parse(path.read_text()), set[int]()
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):  # docstrings
                inner.add(id(node.value))
            if isinstance(node, ast.JoinedStr):
                inner |= {id(part) for part in node.values}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Constant | ast.JoinedStr) or id(node) in inner:
                continue
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            text = "".join(str(one.value) if isinstance(one, ast.Constant) else "{}" for one in parts)
            if isinstance(node, ast.Constant) and not isinstance(node.value, str):
                continue
            is_example = place == "cli/verbs.py" and re.match(r"byol |\[?[A-Z]|pets|--", text)
            if REMEDY.search(text) and " " in text and not is_example and not text.startswith("Flags"):
                yield f"{place}:{node.lineno}", text


class Place:
    """What a try has at hand: the things of `made`, and room for new ones."""

    def __init__(self, made: Path, room: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.made, self.room, self._capsys = made, room, capsys
        self.images, self.recipe, self.run = made / "images", made / "recipe.json", made / "run"
        self.new = room / "new"

    def refused(self, words: str) -> str:
        """Run a command that is refused, and return the sentence."""
        assert main(shlex.split(words.format(at=self))) == 2
        return self._capsys.readouterr().err

    def works(self, words: str) -> str:
        """Run a command that works, and return all that it said."""
        code = main(shlex.split(words.format(at=self)))
        said = self._capsys.readouterr()
        assert code == 0, said.err
        return said.out + said.err

    def own_run(self) -> Path:
        """Return a copy of a finished run."""
        return Path(shutil.copytree(self.run, self.room / "run"))

    @contextmanager
    def stopped(self, number: signal.Signals) -> Iterator[None]:
        """Context in which a run is asked to stop at its first step."""
        with mock.patch("byol.training.loop.StopRequest") as stop:
            stop.return_value.__enter__.return_value.received = number
            yield

    def begun_run(self) -> Path:
        """Return a run that was stopped after a step."""
        out = self.room / "begun"
        with self.stopped(signal.SIGTERM), pytest.raises(byol.Interrupted):
            byol.pretrain(self.images, out, recipe=self.recipe, workers=0)
        return out


Try = Callable[[Place], None]
ROWS: dict[str, Try] = {}
PRETRAIN = "pretrain {at.recipe} --data {at.images} --workers 0"
NOT_TRIED = {  # pieces of messages, and why no test here can do what they say
    "GPUs: use --nproc-per-node": "it needs several GPUs",
    "which the Pillow that is installed does not read": "it installs packages",
    "Check that predictor and moving average are in place": "a choice of method: tests/test_paper.py",
    "the loss became {} at step {}": "advice on a method: tests/training/test_guard.py provokes it",
    "is not a byol checkpoint of format": "it names no remedy",
    "is not an encoder that byol wrote": "it names no remedy",
    "as the system does when memory runs out": "tests/training/test_broken_off.py kills workers and goes on",
    "in code that reads files; try --workers 0": "tests/data/test_workers.py provokes it",
    "a process that reads files ended with exit code": "tests/data/test_workers.py provokes it",
    "this process may start no others": "tests/data/test_workers.py provokes its kind",
    "processes that read files could be started": "it needs a machine without room for processes",
    "try --workers 0": "tests/data/test_workers.py provokes it",
}


def remedy(*pieces: str) -> Callable[[Try], Try]:
    """Enter a try of what messages say in which these pieces stand."""

    def enter(tried: Try) -> Try:
        for piece in pieces:
            assert piece not in ROWS
            ROWS[piece] = tried
        return tried

    return enter


@remedy(
    "continue: --resume RUN",
    "say which run to continue: --resume RUN",
    "--resume RUN continues in RUN itself",
)
def which_run(at: Place) -> None:
    run = at.own_run()
    assert "--resume RUN" in at.refused("resume") + at.refused("pretrain --resume")
    assert "leave --out away" in at.refused(f"pretrain --resume {run} --out x")
    at.works(f"pretrain --resume {run}")


@remedy("say which protocol: byol eval", "say which protocol before")
def which_protocol(at: Place) -> None:
    assert "byol eval PROTOCOL RUN" in at.refused("eval {at.run} --data {at.images}")
    at.refused("eval --data {at.images}")
    at.works("eval knn {at.run} --data {at.images} --k 3")


@remedy(
    "; begin with: byol pretrain --data {} --out RUN",
    "teach nothing; give it {} or more: --fit-in",
    "every process of torchrun would make a plan of its own",
    "byol plan finds a network for the time",
    "say where to write the recipe: --out FILE.json",
)
def plans(at: Place) -> None:
    assert "or more: --fit-in." in at.refused("plan --data {at.images} --fit-in 1s")
    assert "begin with: byol pretrain --data" in at.works(
        "plan --data {at.images} --fit-in 90s --out {at.new}.json"
    )
    at.works("pretrain {at.new}.json --epochs 1 --warmup-epochs 0 --out {at.new}")


@remedy(
    "writes them small, once, and FILE is data like any other",
    "ones show as much and cost less (--views.size)",
)
def views_for_the_images(at: Place) -> None:
    assert "(--views.size)" in at.works(
        "pretrain {at.recipe} --views.size 64 --data {at.images} --out {at.new}"
    )
    at.works("pretrain {at.recipe} --views.size 8 --data {at.images} --out {at.new} --overwrite")
    at.works("pack {at.images} --out {at.new}.pack --short-side 8")
    at.works("pretrain {at.recipe} --data {at.new}.pack --out {at.new} --overwrite")


@remedy("byol {} --help-all lists the flags")
def which_flag(at: Place) -> None:
    assert "byol bench --help-all lists the flags" in at.refused("bench --zzz 3")
    assert "--rounds" in at.works("bench --help-all")


@remedy("a run is continued as it was begun; for more epochs", "all else stays as the run has it")
def another_run(at: Place) -> None:
    run = at.own_run()
    said = at.refused(f"resume {run} --epochs 3")
    assert "byol pretrain --extend RUN --epochs N --out NEW" in said
    at.works(f"pretrain --extend {run} --epochs 3 --out {at.new} --workers 0")
    assert "byol pretrain --from RUN --out NEW" in said
    words = f"pretrain --from {run} --data {{at.images}} --epochs 1 --workers 0 --out {{at.room}}/"
    at.works(words + "on")
    said = at.refused(f"extend {run} --epochs 3 --out {at.room}/longer --batch-size 4")
    assert "byol pretrain --from RUN --out NEW" in said
    at.works(words + "smaller --batch-size 4")


@remedy("extend: --extend RUN", "say which run to extend: --extend RUN", "--resume continues a run")
def which_run_to_extend(at: Place) -> None:
    run = at.own_run()
    words = f"--epochs 3 --out {at.new} --workers 0"
    assert "--extend RUN" in at.refused(f"pretrain --extend {words}") + at.refused(f"extend {words}")
    assert "give one of the two" in at.refused(f"pretrain --extend {run} --resume {run} {words}")
    with pytest.raises(byol.UserError, match="--extend RUN"):
        byol.extend("", 3, at.new)
    at.works(f"pretrain --extend {run} {words}")


@remedy("say where to write the longer run: --out NEW")
def where_to_extend(at: Place) -> None:
    run = at.own_run()
    with pytest.raises(byol.UserError, match="--out NEW"):
        byol.extend(run, 3, "")
    at.works(f"extend {run} --epochs 3 --out {at.new} --workers 0")


@remedy("say what to start from: --from RUN")
def what_to_start_from(at: Place) -> None:
    with pytest.raises(byol.UserError, match="--from RUN"):
        byol.pretrain(at.images, at.new, from_="")
    at.works(PRETRAIN + " --from {at.run} --out {at.new}")


@remedy("{} belongs to a network that no recipe names", "is another network than the one to be trained")
def whose_network(at: Place) -> None:
    recipe = replace(byol.read_recipe(at.recipe), data=str(at.images))
    run = byol.pretrain(None, at.room / "own", recipe=recipe, encoder=Net(), workers=0)
    file = run.path / "encoder.safetensors"
    words = f"--from {file} --data {{at.images}} --workers 0 --out {{at.new}}"
    assert "byol.pretrain(data, out, recipe='photos', from_=..., encoder=module)" in at.refused(
        f"pretrain {words}"
    )
    assert "encoder=module" in at.refused(f"pretrain {{at.recipe}} {words}")
    byol.pretrain(at.images, at.new, recipe=recipe, from_=file, encoder=Net(), workers=0)
    wider = replace(recipe, encoder=ConvNet(widths=(4, 9)))
    (at.room / "wider.json").write_text(json.dumps(wider.to_json()))
    words = "--from {at.run} --data {at.images} --workers 0 --out {at.room}/next"
    assert "Leave the recipe away" in at.refused(f"pretrain {at.room}/wider.json {words}")
    at.works(f"pretrain {words}")


@remedy("there are no images at {}: give a folder")
def which_images(at: Place) -> None:
    assert "byol pack" in at.refused("pack {at.room}/none --out {at.new}")
    at.works("pack {at.images} --out {at.new} --short-side 8")
    at.works("eval knn {at.run} --data {at.new} --k 3")


@remedy("say where to write the pack", "{} exists; choose another name, or replace it with --overwrite")
def which_pack(at: Place) -> None:
    assert "--out FILE" in at.refused("pack {at.images}")
    at.works("pack {at.images} --out {at.new}")
    assert "--overwrite" in at.refused("pack {at.images} --out {at.new}")
    at.works("pack {at.images} --out {at.new} --overwrite")


@remedy("say which sets to transfer to", "protocols is empty", "protocol is {}; give one with its settings")
def which_sets(at: Place) -> None:
    assert "--data PATH PATH" in at.refused("eval transfer {at.run}")
    linear = byol.LinearProbe(strengths=(1.0,))
    with pytest.raises(byol.UserError, match=r"byol\.LinearProbe\(\)"):
        byol.transfer(at.run, [at.images], protocols=[])
    byol.transfer(at.run, [at.images], protocols=[linear])
    with pytest.raises(byol.UserError, match=r"byol\.Knn\(k=20\)"):
        byol.judge(at.run, at.images, protocol="knn")  # type: ignore[arg-type]
    byol.judge(at.run, at.images, protocol=byol.Knn(k=20))


@remedy("{} of the labels leaves class {} with {}")
def more_labels(at: Place) -> None:
    words = "eval fewlabel-linear {at.run} --data {at.images} --draws 1 --by.strengths 1 --fraction "
    said = at.refused(words + "0.01")
    at.works(words + re.findall(r"use --fraction (\S+) or more", said)[0])


@remedy("a fraction of the labels cannot be drawn where an image has several; give --lists")
def lists_of_labels(at: Place) -> None:
    rows = [f"{at.images}/train/{k}/{i:02}.png,{k} {k}er" for i in range(60) if i % 3 for k in _kinds(i)]
    table, names = at.room / "several.csv", at.room / "names.txt"
    table.write_text("path,labels\n" + "\n".join(rows) + "\n")
    names.write_text("".join(row.split(",")[0] + "\n" for row in rows[:30]))
    words = f"eval fewlabel-linear {{at.run}} --data {table} --test {table} --by.strengths 1"
    assert "give --lists" in at.refused(f"{words} --fraction 0.5 --draws 1")
    at.works(f"{words} --lists {names}")


def _kinds(number: int) -> list[str]:
    return [("dark", "light")[number % 2]]


@remedy("{} is one set, and {} needs another to be judged by")
def another_set(at: Place) -> None:
    words = "eval linear {at.run} --data {at.images}/train --strengths 1"
    assert "--test PATH" in at.refused(words)
    at.works(words + " --test {at.images}/test")
    at.works("eval knn {at.run} --data {at.images}/train --k 3")


@remedy(
    "say where to write the table and its runs",
    "give a folder for the table and its runs",
    "(labelled ones, or 'builtin')",
)
def which_table(at: Place) -> None:
    words = "ablate two --recipe {at.recipe} --seeds 1 --budget 1 --jobs 1"
    assert "--out DIR" in at.refused(words + " --data {at.images}")
    assert "give a folder" in at.refused(words + " --data {at.images} --out {at.recipe}")
    assert "--data PATH" in at.refused(words + " --out {at.new}")
    with mock.patch("byol.lab.laboratory.carry_out", side_effect=byol.UserError("the table begins")) as begun:
        assert "the table begins" in at.refused(words + " --data {at.images} --out {at.new}")
    begun.assert_called_once()  # tests/cli/test_agreement.py goes on from here


@remedy("batch_size is {}, but there are only {} images; use --batch-size")
def smaller_batch(at: Place) -> None:
    words = PRETRAIN + " --out {at.new} --batch-size "
    said = at.refused(words + "41")
    at.works(words + re.findall(r"use --batch-size (\d+) or fewer", said)[0])


@remedy("diff takes two recipes")
def open_recipes(at: Place) -> None:
    with pytest.raises(byol.UserError, match=r"byol\.named"):
        byol.diff("builtin", byol.named("photos"))  # type: ignore[arg-type]
    assert byol.diff(byol.named("builtin"), byol.named("photos"))


def fails_to_write(at: Place, name: str) -> Any:
    """Return a context in which the disk is full for the files of one name."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if name in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(28, "No space left on device")
        real(descriptor)

    return mock.patch("os.fsync", fsync)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks up open files")
@remedy("could not write {}: {}; {}. Make room, then use --resume")
def room_for_a_checkpoint(at: Place) -> None:
    with fails_to_write(at, "step-000000010"):
        said = at.refused(PRETRAIN + " --out {at.new}")
    assert "Make room, then use --resume" in said
    at.works("pretrain --resume {at.new} --workers 0")


@remedy("start again with --overwrite")
def damaged_checkpoint(at: Place) -> None:
    run = at.own_run()
    for file in sorted((run / "checkpoints").glob("*.pt"))[:-1]:
        file.unlink()
    newest = checkpoint.newest(run / "checkpoints")
    assert newest is not None
    newest.write_bytes(newest.read_bytes()[:1000])
    assert "--overwrite" in at.refused(f"resume {run}")
    at.works(f"{PRETRAIN} --out {run} --overwrite")


@remedy("a run is going on in {} (process")
def going_on(at: Place) -> None:
    child = os.fork()
    reached = at.room / "reached"
    if not child:  # another process, which writes there
        with RunFolder(at.new).in_use():
            reached.touch()
            while reached.exists():
                time.sleep(0.01)
        os._exit(0)
    while not reached.exists():
        time.sleep(0.01)
    assert "choose another --out" in at.refused(PRETRAIN + " --out {at.new}")
    at.works(PRETRAIN + " --out {at.room}/other")
    reached.unlink()
    os.waitpid(child, 0)
    at.works(PRETRAIN + " --out {at.new}")


@remedy("{} already holds a run; continue it with --resume", "{} exists and is not a run folder")
def occupied(at: Place) -> None:
    run = at.own_run()
    said = at.refused(f"{PRETRAIN} --out {run}")
    assert f"--resume {run}" in said
    at.works(f"pretrain --resume {run}")
    at.works(f"{PRETRAIN} --out {run} --overwrite")
    (at.room / "mine").mkdir()
    (at.room / "mine" / "letter.txt").touch()
    assert "choose another --out" in at.refused(PRETRAIN + " --out {at.room}/mine")


@remedy("the records of the run in {} cannot be written")
def room_for_records(at: Place) -> None:
    run = at.begun_run()
    board = run / "tensorboard"
    shutil.rmtree(board)
    board.write_text("in the way")
    assert f"use --resume {run}" in at.refused(f"pretrain --resume {run} --workers 0")
    board.unlink()
    at.works(f"pretrain --resume {run} --workers 0")


@remedy("set BYOL_CACHE to a folder of your own")
def own_cache(at: Place) -> None:
    cache = at.room / "cache"
    cache.mkdir(mode=0o700)
    cache.chmod(0o777)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("BYOL_CACHE", str(cache))
        assert "BYOL_CACHE" in at.refused("eval knn {at.run} --data {at.images} --k 3")
        patched.setenv("BYOL_CACHE", str(at.room / "mine"))
        at.works("eval knn {at.run} --data {at.images} --k 3")


@remedy(
    "{}, which do not fit: start with torchrun",
    "where torchrun sets a whole number",
    "this process trains alone; torchrun starts several",
)
def no_launcher(at: Place) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("WORLD_SIZE", "two")
        assert "unset WORLD_SIZE" in at.refused(PRETRAIN + " --out {at.new}")
        patched.setenv("WORLD_SIZE", "2")
        assert "trains alone" in at.works(PRETRAIN + " --out {at.new}")
        for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "LOCAL_WORLD_SIZE"):
            patched.setenv(name, "7")
        assert "do not fit" in at.refused(PRETRAIN + " --out {at.room}/other")
        patched.delenv("WORLD_SIZE")
        at.works(PRETRAIN + " --out {at.room}/other")


class Net(nn.Module):
    """A module of somebody's own."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, width, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images).mean((2, 3))  # type: ignore[no-any-return]


@remedy("the checkpoint is of another network", "byol.resume({}, {})")
def own_module(at: Place) -> None:
    with at.stopped(signal.SIGINT), pytest.raises(byol.Interrupted) as stopped:
        byol.pretrain(at.images, at.new, recipe=at.recipe, encoder=Net(), workers=0)
    assert f"byol.resume('{at.new}', encoder=module)" in str(stopped.value)
    with pytest.raises(byol.UserError, match=r"byol\.resume\(RUN, encoder=module\)"):
        byol.resume(at.new, workers=0)
    with pytest.raises(byol.UserError, match=r"byol\.resume\(RUN, encoder=module\)"):
        byol.resume(at.new, encoder=Net(5), workers=0)
    byol.resume(at.new, encoder=Net(), workers=0)


@remedy("byol.resume({}, data=images)", "byol.extend({}, {}, OUT, data=images)")
def images_of_python(at: Place) -> None:
    images = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8)
    byol.pretrain(images, at.new, recipe=at.recipe)
    assert f"byol.resume('{at.new}', data=images)" in at.refused("resume {at.new}")
    byol.resume(at.new, data=images)
    words = f"extend {at.new} --epochs 3 --out {at.room}/longer"
    assert f"byol.extend('{at.new}', 3, OUT, data=images)" in at.refused(words)
    byol.extend(at.new, 3, at.room / "longer", data=images)


@remedy("say where to write the run: --out RUN", "(a folder, a list, an archive, a pack, or 'builtin')")
def which_out(at: Place) -> None:
    assert "--out RUN" in at.refused(PRETRAIN)
    assert "--data PATH" in at.refused("pretrain {at.recipe} --out {at.new}")
    at.works(PRETRAIN + " --out {at.new}")


@remedy("{} holds no run to {}; begin one: byol pretrain --out {}")
def no_run(at: Place) -> None:
    assert "holds no run to extend" in at.refused("extend {at.new} --epochs 3 --out x")
    said = at.refused("resume {at.new}")
    out = re.findall(r"--out (\S+)\.$", said.strip())[0]
    at.works(f"{PRETRAIN} --out {out}")


@remedy("lie in the run folder {}; choose another --out", "lies among the images at {}; choose an --out")
def nested(at: Place) -> None:
    images = Path(shutil.copytree(at.images, at.room / "new" / "images"))
    words = f"pretrain {{at.recipe}} --data {images} --workers 0 --out "
    at.refused(words + str(at.new))
    at.refused(words + f"{images}/run")
    at.works(words + f"{at.room}/outside")


@remedy("is of another recipe: {}. Resume with its own, or choose another --out")
def another_recipe(at: Place) -> None:
    run = at.own_run()
    recipe = at.room / "other.json"
    recipe.write_text(json.dumps(replace(byol.read_recipe(at.recipe), epochs=3).to_json()))
    at.refused(f"resume {run} --recipe {recipe}")
    at.works(f"resume {run}")
    at.works(f"pretrain {recipe} --data {{at.images}} --out {{at.new}} --workers 0")


@remedy("the images of {} are no longer at {}; say where they are now", "byol pretrain --resume {}")
def moved_images(at: Place) -> None:
    images = Path(shutil.copytree(at.images, at.room / "there"))
    at.works(f"pretrain {{at.recipe}} --data {images} --workers 0 --out {{at.new}}")
    images.rename(at.room / "here")
    said = at.refused("resume {at.new}")
    assert f"byol pretrain --resume {at.new} --data NEW" in said
    at.works("pretrain --resume {at.new} --data {at.room}/here")


@remedy("give the images that it began with (--resume {} --data PATH)")
def other_images(at: Place) -> None:
    images = Path(shutil.copytree(at.images, at.room / "more"))
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(images / "train" / "dark" / "new.png")
    run = at.begun_run()
    said = at.refused(f"resume {run} --data {images}")
    assert f"byol pretrain --from {run} --data PATH --out NEW" in said
    at.works(f"pretrain --resume {run} --data {{at.images}} --workers 0")
    at.works(f"pretrain --from {run} --data {images} --out {{at.new}} --workers 0")


@remedy("{} is not finished; continue it with: byol pretrain --resume {}")
def unfinished(at: Place) -> None:
    run = byol.Run(at.begun_run())
    with pytest.raises(byol.UserError, match="byol pretrain --resume") as refused:
        run.summary  # noqa: B018
    at.works(str(refused.value).split("with: byol ")[1].rstrip(".") + " --workers 0")


@remedy("{} was stopped before its first step; start it again")
def before_the_first_step(at: Place) -> None:
    run = at.begun_run()
    for file in (run / "checkpoints").iterdir():  # as if it had been killed before the first was there
        file.unlink()
    (run / _BEGUN).touch()
    said = at.refused(f"resume {run}")
    at.works(said.split("again: byol ")[1].strip().rstrip(".") + " --workers 0")


@remedy(
    "say where to write the encoder: --out FILE",
    "{} exists already; replace it with --overwrite",
)
def which_file(at: Place) -> None:
    assert "--out FILE" in at.refused("export {at.run}")
    at.works("export {at.run} --out {at.new}.pth")
    assert "--overwrite" in at.refused("export {at.run} --out {at.new}.pth")
    at.works("export {at.run} --out {at.new}.pth --overwrite")


@remedy("cannot be written as one program")
def no_program(at: Place) -> None:
    failing = mock.patch("torch.export.export", side_effect=RuntimeError("it depends on its input"))
    with failing:
        assert "give --format torch" in at.refused("export {at.run} --out {at.new}.pt2 --format torch-export")
    at.works("export {at.run} --out {at.new}.pth --format torch")


@remedy(
    "say which checkpoint: byol import FILE.pkl --out RUN",
    "say where to write the encoder: --out RUN",
    "{} is a file; choose another --out",
    "{} is not empty; choose another --out, or write into it by --overwrite",
)
def which_official(at: Place) -> None:
    assert "byol import FILE.pkl --out RUN" in at.refused("import --out {at.new}")
    words = "import {at.made}/official.pkl"
    assert "--out RUN" in at.refused(words)
    assert "choose another" in at.refused(words + " --out {at.recipe}")
    at.works(words + " --out {at.new}")
    assert "--overwrite" in at.refused(words + " --out {at.new}")
    at.works(words + " --out {at.new} --overwrite")


@remedy("{} is a checkpoint of a run and no encoder; give the folder of the run")
def checkpoint_of_a_run(at: Place) -> None:
    run = at.begun_run()
    newest = checkpoint.newest(run / "checkpoints")
    assert "byol pretrain --resume RUN" in at.refused(f"export {newest} --out {{at.new}}.pth")
    at.works(f"pretrain --resume {run} --workers 0")
    at.works(f"export {run} --out {{at.new}}.pth")


@remedy("an encoder cannot be loaded from a {}")
def from_a_module(at: Place) -> None:
    with pytest.raises(byol.UserError, match=r"byol\.Pretrained\(module, preprocessing\)"):
        byol.load(Net())  # type: ignore[arg-type]
    preprocessing = byol.load(at.run).preprocessing
    assert len(byol.Pretrained(Net(), preprocessing).embed([at.images / "train" / "dark" / "02.png"])) == 1


def test_every_message_that_names_a_remedy_has_its_row() -> None:
    found = list(templates())
    assert len(found) > 40
    pieces = [*ROWS, *NOT_TRIED]
    assert [f"{place}: {text}" for place, text in found if not any(p in text for p in pieces)] == []
    texts = [text for _, text in found]
    assert [piece for piece in pieces if not any(piece in text for text in texts)] == []


@pytest.mark.parametrize("tried", dict.fromkeys(ROWS.values()), ids=lambda tried: tried.__name__)
def test_what_a_message_says_works(
    tried: Try, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tried(Place(made, tmp_path, capsys))

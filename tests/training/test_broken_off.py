"""Runs whose images stop coming: a sentence, exit code 2, a checkpoint, and the same run when it goes on."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.ranks import workers
from tests.test_resume import assert_same_bits, final_state
from torch.utils.data import Dataset

import byol.training.loop
from byol.data.loader import Batch, batches
from byol.errors import Interrupted, UserError
from byol.recipe.spec import Recipe
from byol.run import checkpoint
from byol.run.folder import RunFolder
from byol.training.runs import pretrain, resume

MakeRecipe = Callable[[Path | str], Recipe]


class Pictures(Dataset[Any]):
    """26 pictures, of which number 7 cannot be read while a file exists."""

    def __init__(self, breaks: Path) -> None:
        self.targets = list(range(26))
        self.breaks = breaks
        self.pixels = np.random.default_rng(0).integers(0, 256, (26, 140, 16, 3), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, i: int) -> Any:
        return self.pixels[i] if i != 7 or not self.breaks.exists() else 1 // 0


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, do: Callable[[], Any]) -> None:
    """Do something when the batch of a step has come."""

    def stream(*args: Any, **kwargs: Any) -> Iterator[Batch]:
        with closing(batches(*args, **kwargs)) as made:
            for batch in made:
                if batch.step == step:
                    do()
                yield batch

    monkeypatch.setattr(byol.training.loop, "batches", stream)


def signal_workers(number: signal.Signals) -> None:
    for child in workers():
        assert child.pid is not None
        os.kill(child.pid, number)


def step_of(out: Path) -> int:
    newest = checkpoint.newest(RunFolder(out).checkpoints)
    assert newest is not None
    return int(checkpoint.load(newest, torch.device("cpu"))["step"])


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_whose_workers_are_killed_saves_itself_and_goes_on_exactly(
    workers: int, photographs: Path, tiny: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, out = tiny(photographs), tmp_path / "killed"
    pretrain(None, tmp_path / "whole", recipe=recipe, workers=0)
    with monkeypatch.context() as patched:
        at_step(patched, 4, lambda: signal_workers(signal.SIGKILL))
        start = time.monotonic()
        with pytest.raises(UserError) as told:
            pretrain(None, out, recipe=recipe, workers=workers)
        assert time.monotonic() - start < 20
    said = str(told.value)
    assert "a process that reads files was ended by SIGKILL" in said
    assert said.endswith(f" of 13 and saved; continue with: byol pretrain --resume {out}")
    assert told.value.exit_code == 2
    assert f"; stopped at step {step_of(out)} of 13" in said
    assert 5 <= step_of(out) < 13
    resume(out, workers=0)
    assert_same_bits(final_state(tmp_path / "whole"), final_state(out))


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_set_of_ones_own_raises_is_a_sentence_that_names_the_item(
    workers: int, tiny: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, recipe = Pictures(tmp_path / "breaks"), replace(tiny(""), epochs=20)
    at_step(monkeypatch, 2, images.breaks.touch)
    with pytest.raises(UserError) as told:
        pretrain(images, tmp_path / "run", recipe=recipe, workers=workers)
    said = str(told.value)
    assert said.startswith("reading 7 raised ZeroDivisionError: integer division or modulo by zero (test_br")
    assert "saved; continue with: byol.resume(" in said
    assert "\n" not in said
    assert step_of(tmp_path / "run") >= 3
    images.breaks.unlink()
    assert resume(tmp_path / "run", data=images, workers=workers).summary["steps"] == 65


def test_what_a_set_raises_while_it_is_judged_does_not_lose_the_steps_before(
    tiny: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, recipe = Pictures(tmp_path / "breaks"), tiny("")
    scores = byol.training.watch.Judge.scores

    def broken(*args: Any, **kwargs: Any) -> Any:
        images.breaks.touch()
        return scores(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr("byol.training.watch.Judge.scores", broken)
        with pytest.raises(
            UserError, match=r"^reading 7 raised ZeroDivisionError.* saved; continue with: byol"
        ):
            pretrain(images, tmp_path / "run", recipe=recipe, workers=0)
    assert step_of(tmp_path / "run") == 1  # of 13, which are all judged
    images.breaks.unlink()
    assert resume(tmp_path / "run", data=images, workers=0).summary["steps"] == 13


def test_a_run_that_ends_before_it_has_learned_anything_says_why(
    tiny: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = Pictures(tmp_path / "breaks")
    recipe = replace(tiny(""), batch_size=26)

    def broken(*args: Any, **kwargs: Any) -> Iterator[Batch]:
        images.breaks.touch()
        return batches(*args, **kwargs)

    monkeypatch.setattr(byol.training.loop, "batches", broken)
    with pytest.raises(UserError, match=r"^reading 7 raised ZeroDivisionError.*leave the image out\.$"):
        pretrain(images, tmp_path / "run", recipe=recipe, workers=1)


def test_ctrl_c_ends_a_run_whose_workers_are_stopped(
    photographs: Path, tiny: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byol.data.workers._GRACE", 0.5)

    def stop() -> None:
        signal_workers(signal.SIGSTOP)
        signal.setitimer(signal.ITIMER_REAL, 1.0)

    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    at_step(monkeypatch, 3, stop)
    with pytest.raises(Interrupted, match=r"stopped at step \d+ of 1,300 and saved") as told:
        pretrain(None, tmp_path / "run", recipe=replace(tiny(photographs), epochs=400), workers=2)
    assert told.value.exit_code == 130
    assert step_of(tmp_path / "run") >= 4
    assert not workers()

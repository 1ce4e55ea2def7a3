"""Killed anywhere, a run continues as if nothing had happened: bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import byol.training.loop
from byol.data.image.views import MultiCrop
from byol.data.loader import Batch, batches
from byol.errors import Interrupted, UserError
from byol.lab.changes import Change, put, put_norm
from byol.model.head import SimSiamProjector
from byol.model.norm import GroupNorm, LayerNorm
from byol.model.predictor import (
    DirectCopy,
    DirectPred,
    LinearPredictor,
    OptimalLinear,
    SimSiamPredictor,
    SymmetricLinear,
)
from byol.model.target import ConstantEma, Fixed, Shared
from byol.recipe.spec import Recipe, read_recipe
from byol.run import checkpoint
from byol.run.folder import RunFolder
from byol.run.record import read
from byol.schedule import ConstantRate, FollowingRate
from byol.training.runs import pretrain, resume
from byol.training.timeline import Timeline

MakeRecipe = Callable[[Path | str], Recipe]


def final_state(out: Path) -> dict[str, Any]:
    newest = checkpoint.newest(RunFolder(out).checkpoints)
    assert newest is not None
    return checkpoint.load(newest, torch.device("cpu"))


def assert_same_bits(left: Any, right: Any, where: str = "") -> None:
    assert type(left) is type(right), where
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right), where
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left.keys() - {"seconds"}:
            assert_same_bits(left[key], right[key], f"{where}.{key}")
    elif isinstance(left, list):
        for i, (a, b) in enumerate(zip(left, right, strict=True)):
            assert_same_bits(a, b, f"{where}.{i}")
    else:
        assert left == right, where


def numbers(out: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in event.items() if name != "images_per_second"}
        for event in read(RunFolder(out).metrics)
    ]


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Send this process a SIGTERM while the batch of a step is being made."""

    def stream(*args: Any, **kwargs: Any) -> Iterator[Batch]:
        for batch in batches(*args, **kwargs):
            if batch.step == step:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    monkeypatch.setattr(byol.training.loop, "batches", stream)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_run_stopped_in_mid_epoch_equals_one_that_was_not(
    workers: int, photographs: Path, tiny: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny(photographs)
    pretrain(None, tmp_path / "whole", recipe=recipe, workers=0)
    stop_after(monkeypatch, 4)
    with pytest.raises(Interrupted, match=r"stopped at step 5 of 13 and saved.*--resume") as stopped:
        pretrain(None, tmp_path / "stopped", recipe=recipe, workers=workers)
    assert stopped.value.signal == signal.SIGTERM
    resume(tmp_path / "stopped", workers=workers)
    assert_same_bits(final_state(tmp_path / "whole"), final_state(tmp_path / "stopped"))
    assert numbers(tmp_path / "whole") == numbers(tmp_path / "stopped")
    # Tensors and not bytes of the file: safetensors writes its metadata in no particular order.
    whole, resumed = (load_file(RunFolder(tmp_path / name).encoder) for name in ("whole", "stopped"))
    assert_same_bits(whole, resumed)


def test_a_run_on_a_raw_pack_is_resumed_and_equals_one_on_the_folder(
    photographs: Path, tiny: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Crops of 24 px need every pixel of images below 48, so that the folder's are decoded whole, too.
    recipe = replace(tiny(photographs), views=replace(tiny(photographs).views, size=24))
    packed = replace(recipe, data=str(byol.pack(photographs, tmp_path / "photographs.pack", raw=True).path))
    pretrain(None, tmp_path / "folder", recipe=recipe, workers=0)
    stop_after(monkeypatch, 4)
    with pytest.raises(Interrupted):
        pretrain(None, tmp_path / "packed", recipe=packed, workers=2)
    resume(tmp_path / "packed", recipe=packed, workers=1)
    folder, packed_too = (load_file(RunFolder(tmp_path / name).encoder) for name in ("folder", "packed"))
    assert_same_bits(folder, packed_too)
    assert numbers(tmp_path / "folder") == numbers(tmp_path / "packed")


RELATIVES: dict[str, Change] = {
    "simsiam": put(
        projector=SimSiamProjector(layers=2, out=4),
        predictor=SimSiamPredictor(hidden=2),
        target=Shared(),
        predictor_lr=ConstantRate(),
        loss_weight=0.25,
    ),
    "directpred": put(predictor=DirectPred(), target=ConstantEma(value=0.9)),
    "directpred-every-3": put(predictor=DirectPred(every=3)),
    "directcopy": put(predictor=DirectCopy()),
    "optimal": put(predictor=OptimalLinear(), target=Shared()),
    "two-timescale": put(
        predictor=SymmetricLinear(), target=Shared(), predictor_lr=FollowingRate(factor=10.0)
    ),
    "fixed": put(predictor=LinearPredictor(), target=Fixed()),
    "micro-batches": put(micro_batches=2, initialization="truncated-normal"),
    "group-norm": put_norm(GroupNorm(groups=2)),
    "layer-norm": put_norm(LayerNorm()),
    "multi-crop": put(views=MultiCrop(size=12, small_size=8, num_small=2)),
}


@pytest.mark.parametrize("relative", RELATIVES)
def test_every_relative_runs_and_resumes_alike(
    relative: str, thumbnails: Path, tiny: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = RELATIVES[relative](tiny(thumbnails))
    whole = pretrain(None, tmp_path / "whole", recipe=recipe).summary
    stop_after(monkeypatch, 4)
    with pytest.raises(Interrupted):
        pretrain(None, tmp_path / "stopped", recipe=recipe)
    assert read_recipe(tmp_path / "stopped" / "recipe.json") == recipe
    resume(tmp_path / "stopped")
    assert_same_bits(final_state(tmp_path / "whole"), final_state(tmp_path / "stopped"))
    assert 0.0 <= whole["loss"] <= 8.0
    assert 0.0 <= whole["online_classifier_top1"] <= 100.0


def test_images_in_memory_resume_alike(
    thumbnails: Path, tiny: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny(thumbnails)
    pretrain(None, tmp_path / "whole", recipe=recipe)
    stop_after(monkeypatch, 2)
    with pytest.raises(Interrupted):
        pretrain(None, tmp_path / "stopped", recipe=recipe)
    stop_after(monkeypatch, 7)
    with pytest.raises(Interrupted):
        resume(tmp_path / "stopped")
    resume(tmp_path / "stopped")
    assert_same_bits(final_state(tmp_path / "whole"), final_state(tmp_path / "stopped"))


class Dropping(nn.Module):
    """An encoder of one's own whose forward pass draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3 * 12 * 12, 6))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)  # type: ignore[no-any-return]


def own_encoder() -> nn.Module:
    torch.manual_seed(5)
    return Dropping()


def test_dropout_in_an_encoder_of_ones_own_resumes_alike(
    thumbnails: Path, tiny: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny(thumbnails)
    pretrain(None, tmp_path / "whole", recipe=recipe, encoder=own_encoder())
    stop_after(monkeypatch, 3)
    with pytest.raises(Interrupted):
        pretrain(None, tmp_path / "stopped", recipe=recipe, encoder=own_encoder())
    resume(tmp_path / "stopped", encoder=own_encoder())
    assert_same_bits(final_state(tmp_path / "whole"), final_state(tmp_path / "stopped"))
    assert json.loads(RunFolder(tmp_path / "whole").summary.read_text())["steps"] == 13


def test_after_kill_minus_nine_it_continues_from_the_last_checkpoint(
    photographs: Path, tiny: MakeRecipe, tmp_path: Path
) -> None:
    recipe = replace(tiny(photographs), epochs=12)
    pretrain(None, tmp_path / "whole", recipe=recipe, workers=0)
    program = (
        "import sys, torch; torch.set_num_threads(1);"
        "from byol.training.runs import pretrain;"
        "pretrain(None, sys.argv[2], recipe=sys.argv[1], workers=2, checkpoint_seconds=1e-6)"
    )
    out = tmp_path / "killed"
    words = [sys.executable, "-c", program, str(RunFolder(tmp_path / "whole").recipe), str(out)]
    running = subprocess.Popen(words, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(RunFolder(out).checkpoints.glob("step-*[3-9].pt")):
        assert running.poll() is None, running.communicate()[1].decode()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    running.kill()
    running.communicate()
    assert not RunFolder(out).summary.exists()
    resume(out, workers=0)
    assert_same_bits(final_state(tmp_path / "whole"), final_state(out))
    assert numbers(tmp_path / "whole") == numbers(out)


@pytest.mark.slow
def test_a_signal_to_the_whole_process_group_saves_the_run(
    photographs: Path, tiny: MakeRecipe, tmp_path: Path
) -> None:
    """As schedulers and `timeout` send it: the workers get it too, and must not die under the step."""
    recipe = replace(tiny(photographs), epochs=400)
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(recipe.to_json()))
    out = tmp_path / "run"
    words = [sys.executable, "-m", "byol", "pretrain", str(file), "--out", str(out), "--workers", "2"]
    running = subprocess.Popen(words, stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 120
    while not RunFolder(out).metrics.exists() or not RunFolder(out).metrics.read_text():
        assert running.poll() is None, running.communicate()[1].decode()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGTERM)
    said = running.communicate()[1].decode()
    assert running.returncode == 128 + signal.SIGTERM, said
    assert "Traceback" not in said
    assert 0 < final_state(out)["step"] < 1200


def test_a_run_stopped_between_two_records_records_the_same(
    thumbnails: Path, tiny: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record is the mean loss of the steps since the one before, those of before the stop too."""
    monkeypatch.setattr(Timeline, "is_recorded", lambda _, step: step % 6 == 0)
    recipe = tiny(thumbnails)
    pretrain(None, tmp_path / "whole", recipe=recipe)
    stop_after(monkeypatch, 7)
    with pytest.raises(Interrupted):
        pretrain(None, tmp_path / "stopped", recipe=recipe)
    assert len(final_state(tmp_path / "stopped")["losses"]) == 2
    resume(tmp_path / "stopped")
    assert numbers(tmp_path / "whole") == numbers(tmp_path / "stopped")


def test_the_same_seed_gives_the_same_run_and_another_another(
    thumbnails: Path, tiny: MakeRecipe, tmp_path: Path
) -> None:
    recipe = tiny(thumbnails)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        pretrain(None, tmp_path / name, recipe=replace(recipe, seed=seed))
    a, b, c = (numbers(tmp_path / name) for name in "abc")
    assert a == b
    assert a != c


def test_repeating_a_runs_recipe_file_repeats_the_run(
    thumbnails: Path, tiny: MakeRecipe, tmp_path: Path
) -> None:
    pretrain(None, tmp_path / "a", recipe=tiny(thumbnails))
    pretrain(None, tmp_path / "b", recipe=read_recipe(RunFolder(tmp_path / "a").recipe))
    assert numbers(tmp_path / "a") == numbers(tmp_path / "b")


def test_another_recipe_is_refused_with_both_sides(
    thumbnails: Path, tiny: MakeRecipe, tmp_path: Path
) -> None:
    recipe = tiny(thumbnails)
    pretrain(None, tmp_path / "run", recipe=recipe)
    with pytest.raises(UserError, match="seed is 0 there and 3 here"):
        resume(tmp_path / "run", recipe=replace(recipe, seed=3))


def test_a_folder_that_holds_a_run_is_refused_unless_told_otherwise(
    thumbnails: Path, tiny: MakeRecipe, tmp_path: Path
) -> None:
    recipe = tiny(thumbnails)
    pretrain(None, tmp_path / "run", recipe=recipe)
    before = RunFolder(tmp_path / "run").metrics.read_text()
    with pytest.raises(UserError, match=r"already holds a run.*--resume.*--overwrite"):
        pretrain(None, tmp_path / "run", recipe=recipe)
    assert RunFolder(tmp_path / "run").metrics.read_text() == before
    pretrain(None, tmp_path / "run", recipe=recipe, overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="not a run folder"):
        pretrain(None, tmp_path / "mine", recipe=recipe, overwrite=True)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "precious"


def test_nothing_to_resume_is_told(thumbnails: Path, tiny: MakeRecipe, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run to resume"):
        resume(tmp_path / "none", recipe=tiny(thumbnails))

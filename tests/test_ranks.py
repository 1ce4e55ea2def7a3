"""Two processes are one: the same weights from the same batch, and a run goes on with either number."""

import json
import os
import signal
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from tests.ranks import Ranks
from torch import Tensor

import byol.training.learner
import byol.training.loop
from byol.algorithm import bootstrap_step
from byol.data.loader import batches
from byol.errors import Interrupted, UserError
from byol.model.encoder import ConvNet
from byol.model.head import Mlp
from byol.model.predictor import DirectPred
from byol.optim import AdamW, Lars, Sgd
from byol.recipe.small import builtin
from byol.recipe.spec import Recipe
from byol.run import checkpoint
from byol.run.folder import RunFolder
from byol.run.record import read
from byol.system.device import Device
from byol.training.runs import pretrain, resume

MakeRecipe = Callable[[Path | str], Recipe]
STEPS, BATCH, CLASSES = 4, 64, 3
RECIPE = replace(
    builtin(),
    encoder=ConvNet(widths=(4, 8)),
    projector=Mlp(hidden=16, out=6),
    predictor=Mlp(hidden=16, out=6),
    optimizer=Lars(base_lr=0.2),
    batch_size=BATCH,
    precision="float32",
)
VARIANTS = {
    "byol": RECIPE,
    "directpred": replace(RECIPE, predictor=DirectPred(), optimizer=Sgd()),
    "adamw": replace(RECIPE, optimizer=AdamW()),
}


def weights_after_steps(recipe: Recipe, world_size: int, broken: str = "") -> dict[str, Tensor]:
    """Return weights, momenta and running statistics after some steps in float64, in one of the processes."""
    rank = torch.distributed.get_rank() if world_size > 1 else 0
    device = Device(torch.device("cpu"), "float32", rank, world_size)
    breaking = mock.patch.object(byol.training.learner, broken) if broken else nullcontext()
    torch.set_default_dtype(torch.float64)
    try:
        with breaking:
            learner = byol.training.learner.build(recipe, device, num_classes=CLASSES)
        random = torch.Generator().manual_seed(1)
        share = slice(rank * BATCH // world_size, (rank + 1) * BATCH // world_size)
        for _ in range(STEPS):
            views = [torch.randn(BATCH, 3, 12, 12, generator=random)[share] for _ in range(2)]
            labels = torch.randint(CLASSES, (BATCH,), generator=random)[share]
            done = bootstrap_step(learner.online, learner.target, learner.optimizer, views, 0.3, 0.9)
            assert learner.classifier is not None
            learner.classifier.step(done.branch.representation, labels, 0.3)
    finally:
        torch.set_default_dtype(torch.float32)
    state = learner.state()
    momenta = {
        f"momentum.{i}.{name}": value
        for i, slots in state["optimizer"]["state"].items()
        for name, value in slots.items()
        if isinstance(value, Tensor)
    }
    networks = {
        f"{part}.{name}": value
        for part in ("online", "target", "classifier")
        for name, value in state[part].items()
        if isinstance(value, Tensor)
    }
    return {**networks, **momenta}


def distance(left: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    assert left.keys() == right.keys()
    return max((left[name] - right[name]).abs().max().item() for name in left)


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_processes_of_32_are_one_of_64(variant: str, ranks: Ranks) -> None:
    one = weights_after_steps(VARIANTS[variant], 1)
    first, second = ranks(weights_after_steps, VARIANTS[variant], 2)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name  # bit for bit
    # Sums of float64 in another order, 1e-16 each, which normalization and four steps enlarge. A bias before
    # batch norm has a gradient of 0 but for rounding; AdamW divides it by its own size and 1e-8.
    assert distance(first, one) < (1e-6 if variant == "adamw" else 1e-11)


@pytest.mark.parametrize("broken", ["synchronize", "average_gradients"])
def test_what_is_left_out_is_noticed(broken: str, ranks: Ranks) -> None:
    one = weights_after_steps(RECIPE, 1)
    assert distance(ranks(weights_after_steps, RECIPE, 2, broken)[0], one) > 1e-4


def run(
    recipe: Recipe, out: Path, stop_at: int = -1, rank: int = 1, is_resumed: bool = False
) -> tuple[str, list[Any]]:
    """Pretrain; say what it ended in and which images it saw. One rank gets a SIGTERM at a step."""
    seen: list[Any] = []

    def stream(*args: Any, **kwargs: Any) -> Any:
        for batch in batches(*args, **kwargs):
            if batch.step == stop_at and kwargs["rank"] == rank:
                os.kill(os.getpid(), signal.SIGTERM)
            seen.append((batch.step, batch.index.tolist()))
            yield batch

    with mock.patch.object(byol.training.loop, "batches", stream):
        try:
            if is_resumed:
                resume(out, recipe=recipe, workers=0)
            else:
                pretrain(None, out, recipe=recipe, workers=0)
        except (Interrupted, UserError) as error:
            return str(error), seen
    return "done", seen


def images_of(*parts: list[Any]) -> dict[int, list[int]]:
    """Return step -> images, those of the first process first."""
    found: dict[int, list[int]] = {}
    for part in parts:
        for step, index in part:
            found.setdefault(step, []).extend(index)
    return found


def final(out: Path) -> dict[str, Tensor]:
    newest = checkpoint.newest(RunFolder(out).checkpoints)
    assert newest is not None
    return checkpoint.load(newest, torch.device("cpu"))["online"]  # type: ignore[no-any-return]


def test_another_number_of_processes_goes_on_with_the_same_images(
    photographs: Path, tiny: MakeRecipe, tmp_path: Path, ranks: Ranks
) -> None:
    recipe = replace(tiny(photographs), precision="float32")
    _, whole = run(recipe, tmp_path / "whole")
    # One process stops and two go on; then the reverse, where only the second one gets the signal.
    told, begun = run(recipe, tmp_path / "one-two", 4, rank=0)
    assert "stopped at step 5 of 13" in told
    (end, first), (other_end, second) = ranks(_resumed, recipe, tmp_path / "one-two")
    assert (end, other_end) == ("done", "done")
    assert images_of(begun, first, second) == images_of(whole)
    (told, first), (other_told, second) = ranks(run, recipe, tmp_path / "two-one", 6)
    assert told == other_told
    assert "stopped at step 7 of 13" in told
    end, rest = run(recipe, tmp_path / "two-one", is_resumed=True)
    assert images_of(first, second, rest) == images_of(whole)
    for name in ("one-two", "two-one"):
        events = [read(RunFolder(tmp_path / of).metrics) for of in (name, "whole")]
        assert len(events[0]) == len(events[1])
        for ours, theirs in zip(*events, strict=True):
            # float32 sums in another order (6e-8 each), enlarged by normalization over 8 images and 13 steps
            assert ours.get("loss", 0.0) == pytest.approx(theirs.get("loss", 0.0), abs=2e-3)
        left, right = (final(tmp_path / of) for of in (name, "whole"))
        for key in (key for key in left if key.endswith("weight")):
            torch.testing.assert_close(left[key], right[key], atol=2e-3, rtol=0)


def _resumed(recipe: Recipe, out: Path) -> tuple[str, list[Any]]:
    return run(recipe, out, is_resumed=True)


def test_broken_files_of_every_process_are_named(
    photographs: Path, tiny: MakeRecipe, tmp_path: Path, ranks: Ranks
) -> None:
    (photographs / "cat" / "01.jpg").write_bytes(b"\xff\xd8 not a photograph")
    assert [told for told, _ in ranks(run, tiny(photographs), tmp_path / "run")] == ["done", "done"]
    assert json.loads(RunFolder(tmp_path / "run").summary.read_text())["bad_files"] == ["cat/01.jpg"]
    # Two are too many. Each process may have met but one of them: what stops one stops both.
    (photographs / "dog" / "02.jpg").write_bytes(b"\xff\xd8 neither")
    (photographs / "cat" / "03.jpg").write_bytes(b"\xff\xd8 nor this")
    told, other = (told for told, _ in ranks(run, tiny(photographs), tmp_path / "bad"))
    assert "cannot be used" in told
    assert told == other


def test_what_the_first_process_refuses_stops_the_others(
    thumbnails: Path, tiny: MakeRecipe, tmp_path: Path, ranks: Ranks
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    told, other = (told for told, _ in ranks(run, tiny(thumbnails), tmp_path / "mine"))
    assert "is not a run folder" in told
    assert told == other
    odd = replace(tiny(thumbnails), batch_size=9)
    assert "make it a multiple of the 2 processes" in ranks(run, odd, tmp_path / "odd")[0][0]


def _diverging(recipe: Recipe, out: Path) -> str:
    """The second process alone gets a picture that is not a number."""

    def stream(*args: Any, **kwargs: Any) -> Any:
        for batch in batches(*args, **kwargs):
            if batch.step == 3 and kwargs["rank"] == 1:
                batch.views[0].fill_(float("nan"))
            yield batch

    with mock.patch.object(byol.training.loop, "batches", stream), pytest.raises(UserError) as error:
        pretrain(None, out, recipe=recipe, workers=0)
    return str(error.value)


def test_a_loss_that_is_not_finite_in_one_process_stops_all(
    thumbnails: Path, tiny: MakeRecipe, tmp_path: Path, ranks: Ranks
) -> None:
    told, other = ranks(_diverging, tiny(thumbnails), tmp_path / "run")
    assert told == other
    assert "the loss became nan at step 4" in told

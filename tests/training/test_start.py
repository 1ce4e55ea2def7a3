"""What a run begins with: the weights of an encoder that exists, or all that a run had learned."""

import copy
import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

import byol
from byol.errors import Interrupted, UserError
from byol.model.encoder import ConvNet, ResNet, Timm, Torchvision
from byol.model.head import Mlp
from byol.model.predictor import DirectPred
from byol.model.target import Fixed, Shared
from byol.recipe.spec import Recipe
from byol.run import checkpoint
from byol.run.folder import RunFolder
from byol.training.run_files import save
from byol.training.start import From
from byol.training.timeline import Timeline

MakeRecipe = Callable[[Path | str], Recipe]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures in two classes."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(1)
    for number in range(24):
        path = folder / ("dark", "light")[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 100 + 100 * (number % 2), (12, 12, 3), np.uint8)).save(path)
    return folder


@pytest.fixture
def first(tiny: MakeRecipe, images: Path, tmp_path: Path) -> byol.Run:
    """A run of 12 steps."""
    return byol.pretrain(images, tmp_path / "first", recipe=tiny(""), workers=0)


def newest(run: byol.Run) -> dict[str, Any]:
    """Return what the newest checkpoint of a run holds."""
    path = checkpoint.newest(RunFolder(run.path).checkpoints)
    assert path is not None
    return checkpoint.load(path, torch.device("cpu"))


def begun(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """Return a list that gets online and target weights, copied, of each checkpoint of step 0."""
    states: list[dict[str, Tensor]] = []

    def saved(asked: Any, learner: Any, images: Any) -> None:
        if learner.step == 0:
            parts = {"online": learner.online, "target": learner.target}
            states.append(
                {
                    f"{name}.{key}": copy.deepcopy(value)
                    for name, part in parts.items()
                    for key, value in part.state_dict().items()
                }
            )
        save(asked, learner, images)

    monkeypatch.setattr("byol.training.loop.save", saved)
    return states


def test_from_a_run_all_of_its_weights_are_taken_and_its_recipe(
    first: byol.Run,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    states, end = begun(monkeypatch), newest(first)
    run = byol.pretrain(images, tmp_path / "next", from_=first, workers=0)
    (state,) = states
    for part in ("online", "target"):
        assert end[part].keys() == {
            key.removeprefix(f"{part}.") for key in state if key.startswith(f"{part}.")
        }
        for key, value in end[part].items():
            assert torch.equal(state[f"{part}.{key}"], value), key
    assert run.recipe == replace(first.recipe, data=str(images))
    assert f"starts from {first.path}: its encoder, heads and target" in capsys.readouterr().err
    assert "knn_top1_start" in run.summary
    assert run.summary["knn_top1_start"] == first.summary["knn_top1"]
    assert run.summary["knn_top1_random"] == first.summary["knn_top1_random"]
    told = json.loads((run.path / "provenance.json").read_text())["from"]
    assert told["name"] == str(first.path)
    assert len(told["digest"]) == 32


@pytest.mark.parametrize("given_as", ["run", "file", "open"])
def test_a_whitened_encoder_begins_again_as_one_that_learns(
    given_as: str,
    tiny: MakeRecipe,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    as_planned = replace(
        tiny(""), encoder=ConvNet(widths=(4, 8), representation="whitened"), predictor=DirectPred()
    )
    run = byol.pretrain(images, tmp_path / "planned", recipe=as_planned, workers=0)
    assert not torch.equal(run.load().encoder.get_buffer("last.matrix"), torch.eye(8))
    states = begun(monkeypatch)
    start: Any = {"run": run, "file": run.path / "encoder.safetensors", "open": run.load()}[given_as]
    again = byol.pretrain(images, tmp_path / "next", recipe=as_planned, from_=start, workers=0)
    (state,) = states
    assert torch.equal(state["online.encoder.last.matrix"], torch.eye(8))
    for key, value in run.load().encoder.named_parameters():
        assert torch.equal(state[f"online.encoder.{key}"], value), key
    assert again.summary["knn_top1_start"] == run.summary["knn_top1"]
    said = "encoder, heads and target" if given_as == "run" else "encoder; the heads are drawn"
    assert f"its {said}" in capsys.readouterr().err


@pytest.mark.parametrize("given_as", ["file", "open", "run with other heads"])
def test_else_the_encoder_alone_is_taken_and_the_target_is_its_copy(
    given_as: str,
    first: byol.Run,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    states = begun(monkeypatch)
    recipe = first.recipe
    start: Any = {"file": first.path / "encoder.safetensors", "open": first.load()}.get(given_as, first)
    if given_as == "run with other heads":
        recipe = replace(recipe, projector=Mlp(hidden=6, out=4), predictor=Mlp(hidden=6, out=4))
    byol.pretrain(images, tmp_path / "next", recipe=recipe, from_=start, workers=0)
    (state,) = states
    for key, value in newest(first)["online"].items():
        if key.startswith("encoder."):
            assert torch.equal(state[f"online.{key}"], value), key
    for key, value in state.items():
        if key.startswith("target.") and "running_" not in key and "num_batches" not in key:
            assert torch.equal(value, state[key.replace("target.", "online.", 1)]), key
    assert not torch.equal(
        state["online.projector.0.weight"][:4, :4], newest(first)["online"]["projector.0.weight"][:4, :4]
    )
    assert "its encoder; the heads are drawn" in capsys.readouterr().err


def test_an_encoder_that_is_open_is_not_trained_itself(first: byol.Run, images: Path, tmp_path: Path) -> None:
    opened = first.load()
    before = {key: value.clone() for key, value in opened.state_dict().items()}
    byol.pretrain(images, tmp_path / "next", recipe=first.recipe, from_=opened, workers=0)
    for key, value in opened.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("target", [Shared(), Fixed()])
def test_targets_that_do_not_follow_stay_what_they_are(
    target: Shared | Fixed, first: byol.Run, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = begun(monkeypatch)
    byol.pretrain(
        images, tmp_path / "next", recipe=replace(first.recipe, target=target), from_=first, workers=0
    )
    assert any(key.startswith("target.") for key in states[0]) == isinstance(target, Fixed)


@pytest.mark.parametrize("library", ["torchvision", pytest.param("timm", marks=pytest.mark.slow)])
def test_networks_of_other_libraries_are_named_with_a_file(
    library: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = torchvision.models.resnet18(num_classes=7)
    torch.save({"model": network.state_dict()}, tmp_path / "weights.pth")
    states = begun(monkeypatch)
    name = f"{library}:resnet18@{tmp_path / 'weights.pth'}"
    suggested = From.opened(name).suggested_recipe()
    spec = {"torchvision": Torchvision(name="resnet18"), "timm": Timm(name="resnet18")}[library]
    assert suggested.encoder == spec
    assert suggested.views.size == suggested.evaluation_size == 224
    small = replace(
        suggested,
        views=replace(suggested.views, size=32),
        evaluation_size=32,
        batch_size=8,
        epochs=1,
        warmup_epochs=0.0,
        projector=Mlp(hidden=8, out=4),
        predictor=Mlp(hidden=8, out=4),
    )
    run = byol.pretrain(images, tmp_path / "run", recipe=small, from_=name, workers=0)
    assert torch.equal(states[0]["online.encoder.layer1.0.conv1.weight"], network.layer1[0].conv1.weight)
    assert byol.load(run).encoder.state_dict().keys() == spec.build().state_dict().keys()
    assert byol.resume(run).is_finished  # which needs neither the file nor the module
    ours = replace(small, encoder=ResNet(depth=18))  # the same keys and shapes
    byol.pretrain(images, tmp_path / "ours", recipe=ours, from_=name, workers=0)


def test_other_networks_are_refused_with_the_counts_and_nothing_is_lost(
    first: byol.Run, tiny: MakeRecipe, images: Path, tmp_path: Path
) -> None:
    wider = replace(tiny(""), encoder=ConvNet(widths=(4, 9)))
    before = {path: path.read_bytes() for path in first.path.rglob("*") if path.is_file()}
    with pytest.raises(UserError) as refused:
        byol.pretrain(images, first.path, recipe=wider, from_=first, overwrite=True, workers=0)
    assert "5 of its 10 tensors fit into the 10 of this one" in str(refused.value)
    assert "(8, 4, 3, 3) there and (9, 4, 3, 3) here" in str(refused.value)
    assert {path: path.read_bytes() for path in before} == before
    # All tensors of a network that is a part of the other one would fit.
    deeper, part = torchvision.models.resnet34(), replace(tiny(""), encoder=ResNet(depth=18))
    torch.save(deeper.state_dict(), tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"100 of its 180 tensors fit into the 100 of this one"):
        byol.pretrain(
            images, tmp_path / "out", recipe=part, from_=f"torchvision:resnet34@{tmp_path / 'weights.pth'}"
        )


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("nowhere", "there is no encoder at nowhere"),
        ("", "say what to start from"),
        ("timm:resnet18@nowhere.pth", r"there is no checkpoint at nowhere\.pth"),
        ("timm:resnet1@nowhere.pth", "no network named 'resnet1'"),
        ("torchvision:resnet1@nowhere.pth", "no classifier of images named 'resnet1'"),
        (3, "a path is wanted, not a int"),
    ],
)
def test_what_cannot_be_started_from_is_one_sentence(
    start: Any, message: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        byol.pretrain(images, tmp_path / "out", from_=start)
    assert list(tmp_path.iterdir()) == []


class Own(nn.Module):
    """A module of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 6))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)  # type: ignore[no-any-return]


def test_modules_of_ones_own_are_given_again(tiny: MakeRecipe, images: Path, tmp_path: Path) -> None:
    run = byol.pretrain(images, tmp_path / "own", recipe=tiny(""), encoder=Own(), workers=0)
    file = run.path / "encoder.safetensors"
    with pytest.raises(UserError, match="belongs to a network that no recipe names"):
        byol.pretrain(images, tmp_path / "next", from_=file)
    with pytest.raises(UserError, match="another network than the one to be trained"):
        byol.pretrain(images, tmp_path / "next", from_=run, workers=0)
    starts: tuple[Any, ...] = (run, file)
    for number, start in enumerate(starts):
        module = Own()
        byol.pretrain(images, tmp_path / f"{number}", recipe=tiny(""), from_=start, encoder=module, workers=0)
    longer = byol.extend(run, 5, tmp_path / "longer", encoder=Own(), workers=0)
    assert longer.is_finished


def test_the_range_of_the_pixels_is_that_of_the_weights(
    tiny: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, highest in (("first", 4000), ("second", 1000)):
        (tmp_path / folder).mkdir()
        for number in range(16):
            values = np.random.default_rng(number).integers(0, highest, (12, 12)).astype(np.uint16)
            values[0, :2] = 0, highest
            Image.fromarray(values).save(tmp_path / folder / f"{number}.png")
    run = byol.pretrain(tmp_path / "first", tmp_path / "run", recipe=tiny(""), workers=0)
    there = run.load().preprocessing.pixel_range
    assert there is not None
    later = byol.pretrain(tmp_path / "second", tmp_path / "later", from_=run, workers=0)
    assert later.load().preprocessing.pixel_range == there
    alone = byol.pretrain(tmp_path / "second", tmp_path / "alone", recipe=tiny(""), workers=0)
    assert alone.load().preprocessing.pixel_range != there


def test_another_mean_is_said(
    first: byol.Run, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = replace(first.recipe, views=replace(first.recipe.views, mean=(0.0, 0.0, 0.0)))
    byol.pretrain(images, tmp_path / "next", recipe=recipe, from_=first, workers=0)
    assert "set views.mean and views.std" in capsys.readouterr().err


# ---- a longer schedule ---------------------------------------------------------------------------


def test_a_run_is_extended_and_both_schedules_are_said(
    first: byol.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in first.path.rglob("*") if path.is_file()}
    capsys.readouterr()
    longer = byol.extend(first, 8, tmp_path / "longer", workers=0)
    old, new = Timeline(first.recipe, 24), Timeline(longer.recipe, 24)
    said = (
        f"extends {first.path} from 4 to 8 epochs, at step 12 of 24: lr was {old.lr(11):.4f} and is "
        f"{new.lr(12):.4f}, tau was {old.tau(11):.4f} and is {new.tau(12):.4f}"
    )
    assert said in capsys.readouterr().err
    assert new.lr(12) > old.lr(11)
    assert new.tau(12) < old.tau(11)
    assert longer.recipe == replace(first.recipe, epochs=8)
    assert longer.summary["steps"] == 24
    assert next(event["step"] for event in longer.records if event["kind"] == "train") == 13
    assert longer.summary["knn_top1_random"] == first.summary["knn_top1_random"]
    assert {path: path.read_bytes() for path in before} == before


def test_an_extension_of_a_run_that_was_stopped_equals_one_with_another_schedule_from_there(
    tiny: MakeRecipe, images: Path, tmp_path: Path
) -> None:
    """Step 5 on is that of a run of 8 epochs, whichever way the state of step 5 was reached."""
    short = tiny("")

    def stopped_at_5(asked: Any, learner: Any, identity: Any) -> None:
        save(asked, learner, identity)
        if learner.step == 5:
            raise Interrupted("stopped", signal.SIGTERM)

    with (
        mock.patch("byol.training.loop.save", stopped_at_5),
        mock.patch("byol.training.loop.time.monotonic", iter(range(0, 10**6, 10**3)).__next__),
        pytest.raises(Interrupted),
    ):
        byol.pretrain(images, tmp_path / "short", recipe=short, workers=0)
    copy = shutil.copytree(tmp_path / "short", tmp_path / "edited")
    longer = byol.extend(tmp_path / "short", 8, tmp_path / "longer", workers=0)
    # The same by hand: a checkpoint that says that its recipe had 8 epochs all along.
    path = checkpoint.newest(RunFolder(copy).checkpoints)
    assert path is not None
    state = checkpoint.load(path, torch.device("cpu"))
    step = state.pop("step")
    del state["format"]
    recipe = replace(short, epochs=8, data=str(images)).to_json()
    checkpoint.save(RunFolder(copy).checkpoints, step, {**state, "recipe": recipe})
    (copy / "recipe.json").write_text(json.dumps(recipe))
    by_hand = byol.resume(copy, workers=0)
    for part in ("online", "target"):
        for key, value in newest(longer)[part].items():
            assert torch.equal(value, newest(by_hand)[part][key]), key


def test_an_extension_that_is_stopped_is_resumed_bit_for_bit(
    first: byol.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = byol.extend(first, 8, tmp_path / "whole", workers=0)
    killed = mock.patch("byol.training.loop.bootstrap_step", side_effect=ZeroDivisionError)
    with killed, pytest.raises(ZeroDivisionError):
        byol.extend(first, 8, tmp_path / "cut", workers=0)
    cut = byol.resume(tmp_path / "cut", workers=0)
    for part in ("online", "target"):
        for key, value in newest(whole)[part].items():
            assert torch.equal(value, newest(cut)[part][key]), key


@pytest.mark.parametrize(
    ("epochs", "message"),
    [
        (4, "epochs is 4, and .* has 4 already; give more"),
        (2, "epochs is 2"),
        (8.0, r"epochs is 8\.0; give a whole number"),
        ("8", "epochs is '8'; give a whole number"),
    ],
)
def test_epochs_that_a_run_has_already_are_refused(
    epochs: Any, message: str, first: byol.Run, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        byol.extend(first, epochs, tmp_path / "longer")
    assert not (tmp_path / "longer").exists()


def test_a_run_is_extended_with_its_own_images_alone(first: byol.Run, images: Path, tmp_path: Path) -> None:
    other = shutil.copytree(images, tmp_path / "other")
    (other / "dark" / "0.png").unlink()
    with pytest.raises(UserError, match="began with 24 images, and there are 23 now"):
        byol.extend(first, 8, tmp_path / "longer", data=other)
    assert not (tmp_path / "longer" / "recipe.json").exists()
    moved = shutil.copytree(images, tmp_path / "moved")
    assert byol.extend(first, 8, tmp_path / "longer", data=moved, workers=0).is_finished


def test_what_is_no_run_is_not_extended(images: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run to extend"):
        byol.extend(images, 8, tmp_path / "longer")

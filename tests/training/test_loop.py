import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn

import byol
from byol.errors import UserError
from byol.model.encoder import ConvNet
from byol.model.head import Mlp
from byol.model.predictor import DirectCopy, DirectPred, NoPredictor, OptimalLinear
from byol.model.target import Ema, Shared
from byol.optim import Sgd
from byol.recipe.spec import Recipe
from byol.run import checkpoint
from byol.run.folder import RunFolder
from byol.run.record import read
from byol.system.device import pick_device
from byol.training.learner import build
from byol.training.loop import pretrain
from byol.training.monitor import refuse_nan

MakeRecipe = Callable[[Path | str], Recipe]


def test_a_run_leaves_what_the_contract_names(photographs: Path, tiny: MakeRecipe, tmp_path: Path) -> None:
    summary = pretrain(tiny(photographs), tmp_path / "run", workers=0)
    folder = RunFolder(tmp_path / "run")
    assert json.loads(folder.summary.read_text()) == summary
    for name in ("steps", "epochs", "wall_seconds", "images_per_second", "loss", "feature_spread"):
        assert isinstance(summary[name], (int, float)), name
    for name in ("effective_rank", "knn_top1", "knn_top1_random", "knn_top1_pixels"):
        assert isinstance(summary[name], float), name
    assert (summary["steps"], summary["epochs"]) == (12, 4)
    assert json.loads(folder.recipe.read_text())["name"] == "tiny"
    assert json.loads(folder.provenance.read_text())["cores"] >= 1
    with safe_open(folder.encoder, "pt") as file:
        assert json.loads(file.metadata()["preprocessing"])["size"] == 12
        assert json.loads(file.metadata()["architecture"])["kind"] == "convnet"
    events = read(folder.metrics)
    wanted = {"loss", "lr", "tau", "feature_spread", "effective_rank", "gradient_norm", "images_per_second"}
    assert all(wanted <= event.keys() for event in events if event["kind"] == "train")
    assert any({"knn_top1", "knn_top1_random", "knn_top1_pixels"} <= event.keys() for event in events)


def test_the_loaded_encoder_is_the_trained_one_and_judges_as_the_run_did(
    photographs: Path, tiny: MakeRecipe, tmp_path: Path
) -> None:
    summary = pretrain(tiny(photographs), tmp_path / "run", workers=0)
    encoder = byol.load(tmp_path / "run")
    newest = checkpoint.newest(RunFolder(tmp_path / "run").checkpoints)
    assert newest is not None
    online = checkpoint.load(newest, torch.device("cpu"))["online"]
    for name, tensor in encoder.encoder.state_dict().items():
        assert torch.equal(tensor, online[f"encoder.{name}"]), name
    judged = byol.judge(tmp_path / "run", str(photographs)).value
    assert judged == pytest.approx(summary["knn_top1"], rel=1e-6)  # a mean of float32
    pictures = sorted(photographs.rglob("*.jpg"))[:3]
    assert encoder.embed(pictures).shape == (3, 8)


def test_without_labels_nothing_is_judged(tiny: MakeRecipe, photographs: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in photographs.rglob("*.jpg"):
        path.rename(flat / path.name)
    summary = pretrain(tiny(flat), tmp_path / "run", workers=0)
    assert not [name for name in summary if "knn" in name]


def test_a_broken_file_is_named_counted_and_skipped(
    tiny: MakeRecipe, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photographs / "cat" / "01.jpg").write_bytes(b"\xff\xd8 not a photograph")
    summary = pretrain(tiny(photographs), tmp_path / "run", workers=0)
    assert summary["bad_files"] == ["cat/01.jpg"]
    assert capsys.readouterr().err.count("skipped cat/01.jpg: it cannot be decoded") == 1
    (photographs / "dog" / "02.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"01\.jpg"):
        pretrain(tiny(photographs), tmp_path / "second", workers=0)


def test_a_collapse_is_said_in_words(
    tiny: MakeRecipe, thumbnails: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without predictor and moving average; the run goes on, and a person can read why it is lost."""
    recipe = replace(
        tiny(thumbnails),
        predictor=NoPredictor(),
        target=Shared(),
        optimizer=Sgd(base_lr=30.0),
        epochs=60,
    )
    summary = pretrain(recipe, tmp_path / "run")
    assert summary["feature_spread"] < 0.1
    said = capsys.readouterr().err
    assert said.count("COLLAPSED at step") == 1
    assert "feature spread" in said


@pytest.mark.parametrize(
    "predictor", [Mlp(hidden=8, out=4), DirectPred(), DirectCopy(), OptimalLinear()], ids=lambda p: p.kind
)
def test_a_loss_that_is_not_finite_stops_the_run_before_it_is_saved(
    predictor: Any, tiny: MakeRecipe, thumbnails: Path, tmp_path: Path
) -> None:
    recipe = replace(
        tiny(thumbnails),
        optimizer=Sgd(base_lr=1e30),
        predictor=predictor,
        warmup_epochs=0,
        precision="float32",
    )
    with pytest.raises(UserError, match=r"the loss became nan at step \d+.*--optimizer\.base-lr"):
        pretrain(recipe, tmp_path / "run", checkpoint_seconds=0)
    newest = checkpoint.newest(RunFolder(tmp_path / "run").checkpoints)
    if newest is not None:
        state = checkpoint.load(newest, torch.device("cpu"))
        tensors = [value for value in state["online"].values() if isinstance(value, torch.Tensor)]
        assert all(tensor.isfinite().all() for tensor in tensors if tensor.is_floating_point())


def test_the_first_step_that_is_not_finite_is_named(tiny: MakeRecipe) -> None:
    learner = build(tiny("builtin"), pick_device("float32"))
    learner.step = 10
    learner.losses = [torch.tensor(loss) for loss in (1.0, 2.0, math.inf, math.nan)]
    with pytest.raises(UserError, match="the loss became inf at step 9"):
        refuse_nan(learner)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 64}, "64.*26 images"),
        ({"data": "/nowhere/at/all"}, "no images at /nowhere"),
        ({"encoder": ConvNet(widths=(4,) * 8)}, "cannot take an input of shape .3, 12, 12."),
        ({"evaluation_size": 1}, "cannot take an input of shape .3, 1, 1."),
    ],
)
def test_what_cannot_work_is_one_sentence_and_leaves_no_run_behind(
    change: dict[str, Any], message: str, tiny: MakeRecipe, photographs: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        pretrain(replace(tiny(photographs), **change), tmp_path / "run", workers=0)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_judging_leaves_the_learning_network_untouched(tiny: MakeRecipe, thumbnails: Path) -> None:
    from byol.data.opening import open_data
    from byol.system.device import pick_device
    from byol.training.learner import build
    from byol.training.monitor import Judge

    recipe, device = tiny(thumbnails), pick_device("float32")
    learner = build(recipe, device)
    before = {name: tensor.clone() for name, tensor in learner.online.state_dict().items()}
    judge = Judge(open_data(recipe.data), recipe, device)
    judge.accuracy(judge.encode(learner.online.encoder), quick=True)
    assert learner.online.training
    for name, tensor in learner.online.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_an_encoder_of_ones_own_keeps_its_weights(tiny: MakeRecipe) -> None:
    recipe = replace(tiny("builtin"), initialization="truncated-normal")
    own = recipe.encoder.build()
    before = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    learner = build(recipe, pick_device("float32"), own)
    assert all(torch.equal(tensor, before[name]) for name, tensor in own.state_dict().items())
    first = learner.online.projector.get_parameter("0.weight")  # drawn, as the recipe says
    assert first.abs().max() <= 2.0 / math.sqrt(first.shape[1])


def test_an_encoder_of_ones_own_learns(tiny: MakeRecipe, thumbnails: Path, tmp_path: Path) -> None:
    layer = nn.Linear(3 * 12 * 12, 6)
    before = layer.weight.detach().clone()
    pretrain(tiny(thumbnails), tmp_path / "run", encoder=nn.Sequential(nn.Flatten(), layer))
    assert not torch.equal(layer.weight, before)


def test_tau_of_every_record_follows_the_target(tiny: MakeRecipe, thumbnails: Path, tmp_path: Path) -> None:
    pretrain(replace(tiny(thumbnails), target=Ema(tau_base=0.5)), tmp_path / "run")
    taus = [event["tau"] for event in read(RunFolder(tmp_path / "run").metrics) if event["kind"] == "train"]
    assert taus == [Ema(tau_base=0.5).tau(step, 12) for step in range(12)]

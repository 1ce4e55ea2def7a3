import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn

import byol
from byol.errors import Diverged, UserError
from byol.model.encoder import ConvNet
from byol.model.head import Mlp
from byol.model.predictor import DirectCopy, DirectPred, NoPredictor, OptimalLinear
from byol.model.target import Shared
from byol.optim import Sgd
from byol.recipe.spec import Recipe
from byol.run import checkpoint
from byol.run.folder import RunFolder
from byol.run.record import read
from byol.training.runs import pretrain

MakeRecipe = Callable[[Path | str], Recipe]


def test_a_run_leaves_what_the_contract_names(photographs: Path, tiny: MakeRecipe, tmp_path: Path) -> None:
    summary = pretrain(None, tmp_path / "run", recipe=tiny(photographs), workers=0).summary
    folder = RunFolder(tmp_path / "run")
    assert json.loads(folder.summary.read_text()) == summary
    for name in ("steps", "epochs", "wall_seconds", "images_per_second", "loss", "feature_spread"):
        assert isinstance(summary[name], (int, float)), name
    for name in ("effective_rank", "knn_top1", "knn_top1_random", "knn_top1_pixels"):
        assert isinstance(summary[name], float), name
    assert (summary["steps"], summary["epochs"]) == (13, 4)
    assert json.loads(folder.recipe.read_text())["name"] == "tiny"
    assert json.loads(folder.provenance.read_text())["cores"] >= 1
    with safe_open(folder.encoder, "pt") as file:
        assert json.loads(file.metadata()["preprocessing"])["size"] == 12
        assert json.loads(file.metadata()["architecture"])["kind"] == "convnet"
    events = read(folder.metrics)
    wanted = {"loss", "lr", "tau", "feature_spread", "effective_rank", "gradient_norm", "images_per_second"}
    assert all(wanted <= event.keys() for event in events if event["kind"] == "train")
    assert any({"knn_top1", "knn_top1_random", "knn_top1_pixels"} <= event.keys() for event in events)


def test_the_only_split_is_learned_from_whatever_it_is_called(
    photographs: Path, tiny: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "val").symlink_to(photographs)
    summary = pretrain(None, tmp_path / "run", recipe=tiny(tmp_path / "set"), workers=0).summary
    assert summary["online_classifier_judged_on"] == "training images, which it has seen"
    assert "no split train, so the images of val" in capsys.readouterr().err


def test_the_loaded_encoder_is_the_trained_one_and_judges_as_the_run_did(
    photographs: Path, tiny: MakeRecipe, tmp_path: Path
) -> None:
    summary = pretrain(None, tmp_path / "run", recipe=tiny(photographs), workers=0).summary
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
    summary = pretrain(None, tmp_path / "run", recipe=tiny(flat), workers=0).summary
    assert not [name for name in summary if "knn" in name]


def test_a_broken_file_is_named_counted_and_skipped(
    tiny: MakeRecipe, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photographs / "cat" / "01.jpg").write_bytes(b"\xff\xd8 not a photograph")
    summary = pretrain(None, tmp_path / "run", recipe=tiny(photographs), workers=0).summary
    assert summary["bad_files"] == ["cat/01.jpg"]
    assert capsys.readouterr().err.count("skipped cat/01.jpg: it is damaged") == 1
    (photographs / "dog" / "02.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"01\.jpg"):
        pretrain(None, tmp_path / "second", recipe=tiny(photographs), workers=0)


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
    summary = pretrain(None, tmp_path / "run", recipe=recipe).summary
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
    with pytest.raises(Diverged, match=r"the loss became nan at step \d+.*--optimizer\.base-lr"):
        pretrain(None, tmp_path / "run", recipe=recipe, checkpoint_seconds=1e-6)
    newest = checkpoint.newest(RunFolder(tmp_path / "run").checkpoints)
    if newest is not None:
        state = checkpoint.load(newest, torch.device("cpu"))
        tensors = [value for value in state["online"].values() if isinstance(value, torch.Tensor)]
        assert all(tensor.isfinite().all() for tensor in tensors if tensor.is_floating_point())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 64}, "64.*26 images"),
        ({"data": "/nowhere/at/all"}, "no images at /nowhere"),
        ({"encoder": ConvNet(widths=(4,) * 8)}, r"cannot take an input of shape \(3, 12, 12\)"),
        ({"evaluation_size": 1}, r"cannot take an input of shape \(3, 1, 1\)"),
    ],
)
def test_what_cannot_work_is_one_sentence_and_leaves_no_run_behind(
    change: dict[str, Any], message: str, tiny: MakeRecipe, photographs: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        pretrain(None, tmp_path / "run", recipe=replace(tiny(photographs), **change), workers=0)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_an_encoder_of_ones_own_learns(tiny: MakeRecipe, thumbnails: Path, tmp_path: Path) -> None:
    layer = nn.Linear(3 * 12 * 12, 6)
    before = layer.weight.detach().clone()
    pretrain(None, tmp_path / "run", recipe=tiny(thumbnails), encoder=nn.Sequential(nn.Flatten(), layer))
    assert not torch.equal(layer.weight.cpu(), before)

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import byol
from byol.data.opening import open_data
from byol.model.encoder import ConvNet
from byol.recipe.spec import Recipe
from byol.system.device import pick_device
from byol.training.learner import build
from byol.training.watch import Judge, live_line

MakeRecipe = Callable[[Path | str], Recipe]


def test_judging_leaves_the_learning_network_untouched(tiny: MakeRecipe, thumbnails: Path) -> None:

    recipe, device = tiny(thumbnails), pick_device("float32")
    learner = build(recipe, device)
    before = {name: tensor.clone() for name, tensor in learner.online.state_dict().items()}
    judge = Judge(open_data(recipe.data), recipe, device)
    judge.accuracy(judge.encode(learner.online.encoder), quick=True)
    assert learner.online.training
    for name, tensor in learner.online.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_run_leaves_a_whitened_encoder_behind_and_learns_as_without(
    tiny: MakeRecipe, thumbnails: Path, tmp_path: Path
) -> None:
    whitened = ConvNet(widths=(4, 8), representation="whitened")
    run = byol.pretrain(thumbnails, tmp_path / "run", recipe=replace(tiny(thumbnails), encoder=whitened))
    encoder = byol.load(run)
    rows = encoder.embed(sorted(thumbnails.rglob("*.png")))
    assert len(rows) == 26
    # The images are those that it was whitened on: float32, of numbers near 1 that a matrix near 10 makes.
    torch.testing.assert_close(rows.mean(dim=0), torch.zeros(8), rtol=0, atol=1e-4)
    assert torch.linalg.eigvalsh(rows.T @ rows / len(rows)).max() == pytest.approx(1, abs=0.03)
    plain = byol.pretrain(thumbnails, tmp_path / "plain", recipe=tiny(thumbnails))
    for name, weights in byol.load(plain).encoder.named_parameters():
        assert torch.equal(encoder.encoder.get_parameter(name), weights), name


def test_what_has_no_layer_to_whiten_is_not_copied(tiny: MakeRecipe, thumbnails: Path) -> None:
    recipe, device = tiny(thumbnails), pick_device("float32")
    encoder = build(recipe, device).online.encoder
    assert Judge(open_data(recipe.data), recipe, device).finished(encoder) is encoder


def test_the_live_line_shows_accuracies_once_there_are_some() -> None:
    record = {
        "epoch": 1.5,
        "images_per_second": 1234.5,
        "loss": 3.25,
        "lr": 0.1,
        "tau": 0.99,
        "feature_spread": 0.8,
    }
    plain = live_line(15, 20, record, "0:05", {})
    assert plain == (
        "step 15/20  epoch 1.50  1,234 images/s  ETA 0:05  loss 3.250  lr 0.1000  tau 0.9900  spread 0.80"
    )
    names = ("knn_top1", "knn_top1_random", "knn_top1_pixels", "online_classifier_top1")
    judged = live_line(15, 20, record, "0:05", dict(zip(names, (50.0, 40.0, 30.0, 20.0), strict=True)))
    assert judged == f"{plain}  kNN 50.0 (random 40.0, pixels 30.0)  online classifier 20.0"

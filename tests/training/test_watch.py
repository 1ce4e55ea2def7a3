from collections.abc import Callable
from pathlib import Path

import torch

from byol.data.opening import open_data
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

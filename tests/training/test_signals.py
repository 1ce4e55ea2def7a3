import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from byol.algorithm import Branch
from byol.recipe.spec import Recipe
from byol.system.device import pick_device
from byol.training import signals
from byol.training.learner import build
from byol.training.runs import pretrain
from byol.training.signals import SIGNALS, Moment, Signal, measure

MakeRecipe = Callable[[Path | str], Recipe]


def moment(tiny: MakeRecipe) -> Moment:
    learner = build(tiny("builtin"), pick_device("float32"))
    images = torch.randn(8, 3, 12, 12).to(next(learner.online.parameters()).device)
    branch = learner.online(images)
    branch.projection.sum().backward()
    return Moment(torch.tensor([1.0, 2.0]), Branch(*(rows.detach() for rows in branch)), learner.online)


def test_the_signals_are_what_they_say(tiny: MakeRecipe) -> None:
    at = moment(tiny)
    found = measure(at)
    assert list(found) == ["loss", "feature_spread", "effective_rank", "gradient_norm"]
    assert found["loss"] == 1.5
    squares = [p.grad.square().sum().item() for p in at.online.parameters() if p.grad is not None]
    assert found["gradient_norm"] == pytest.approx(math.sqrt(sum(squares)), rel=1e-5)  # float32 sums
    assert 0.0 < found["feature_spread"] <= 1.0
    assert 1.0 <= found["effective_rank"] <= 7.0  # of 8 images
    assert all(signal.unit for signal in SIGNALS)


def test_a_signal_that_a_newcomer_adds_is_recorded(
    tiny: MakeRecipe, thumbnails: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = Signal(
        "largest_weight", "absolute", lambda at: max(p.abs().max().item() for p in at.online.parameters())
    )
    monkeypatch.setattr(signals.measure, "__defaults__", ((*SIGNALS, toy),))
    run = pretrain(None, tmp_path / "run", recipe=tiny(thumbnails))
    assert all(record["largest_weight"] > 0 for record in run.records if record["kind"] == "train")

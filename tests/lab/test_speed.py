"""The benchmark measures what it says: its products are those of a step, and its figures are consistent."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

import byol.lab.speed
from byol.answer import Answer
from byol.cli import main
from byol.data.image.views import MultiCrop
from byol.data.loader import Batch
from byol.data.opening import open_data
from byol.errors import UserError
from byol.lab.products import Products
from byol.lab.speed import bench
from byol.model.target import Ema, Shared
from byol.recipe.spec import Recipe
from byol.system.device import Device, usable_cores
from byol.training.learner import build

MakeRecipe = Callable[[Path | str], Recipe]
CPU = Device(torch.device("cpu"), "float32")


def counted(recipe: Recipe) -> list[tuple[str, tuple[int, ...], int, int]]:
    """Return each product: kind, input shape, how often it is learned from, how often forward alone."""
    views = [torch.randn(8, 3, size, size) for size in recipe.views.sizes]
    found = Products(build(recipe, CPU), views, CPU, recipe.views.pairs).found
    return [(type(one[0]).__name__, tuple(one[1].shape), *one[2:]) for one in found]


def test_the_products_are_those_of_a_step_counted_by_hand(tiny: MakeRecipe) -> None:
    # ConvNet (4, 8) on 12 px: 12 -> 6, pooled to 3; heads 8 -> 8 -> 4 and 4 -> 8 -> 4. Two views online, and
    # two forward passes of the target, which has no predictor.
    assert counted(replace(tiny("builtin"), target=Ema())) == [
        ("Conv2d", (8, 3, 12, 12), 2, 2),
        ("Conv2d", (8, 4, 3, 3), 2, 2),
        ("Linear", (8, 8), 2, 2),
        ("Linear", (8, 8), 2, 2),
        ("Linear", (8, 4), 2, 0),
        ("Linear", (8, 8), 2, 0),
    ]


def test_a_shared_target_computes_nothing_of_its_own(tiny: MakeRecipe) -> None:
    assert {forward for *_, forward in counted(replace(tiny("builtin"), target=Shared()))} == {0}


def test_small_views_go_through_the_online_network_alone(tiny: MakeRecipe) -> None:
    found = counted(replace(tiny("builtin"), views=MultiCrop(size=12, small_size=8, num_small=2)))
    assert ("Conv2d", (8, 3, 12, 12), 2, 2) in found
    assert ("Conv2d", (8, 3, 8, 8), 2, 0) in found
    assert ("Linear", (8, 4), 4, 0) in found  # the predictor sees four projections of one shape


def test_figures_are_consistent(tiny: MakeRecipe, photographs: Path) -> None:
    for data in (None, photographs):
        speed = bench(tiny(""), data=data, rounds=5)
        assert list(speed.parts) == ["step", "distort", "views", "whole", "limit"]
        for timing in speed.parts.values():
            assert 0 < timing.low <= timing.median <= timing.high
        answer: Answer = speed
        assert answer.value == speed.rate("whole")
        found = answer.to_json()
        assert found["low"] <= found["value"] == answer.value <= found["high"]
        assert speed.rate("step") == pytest.approx(8 / speed.parts["step"].median)
        assert 0 < speed.fraction_of_limit < 1  # a network of a few channels is all overhead
        assert json.loads(json.dumps(speed.to_json()))["machine"]["cores"] >= 1


def test_what_is_asked_wrongly_is_one_sentence(tiny: MakeRecipe) -> None:
    with pytest.raises(UserError, match="rounds is 0; use 1 or more"):
        bench(tiny(""), rounds=0)
    with pytest.raises(UserError, match="did you mean photos"):
        bench("photo")
    with pytest.raises(UserError, match="no images at /nowhere"):
        bench(tiny(""), data="/nowhere")


@pytest.mark.slow
def test_the_peak_of_a_call_is_what_it_holds_at_once() -> None:
    # In a process of its own: what earlier calls have freed here would be taken again, and is no growth.
    size = 200 << 20
    code = (
        "import torch; from byol.lab.machine import peak_bytes;"
        f"print(peak_bytes(lambda: bytearray(b'1') * {size}, torch.device('cpu')))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    if told.strip() == "None":
        pytest.skip("this system does not tell the peak of a process")
    assert int(told) == pytest.approx(size, rel=0.05)


def test_the_command_prints_a_table_or_json(
    tmp_path: Path, tiny: MakeRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tiny.json"
    file.write_text(json.dumps(tiny("").to_json()))
    assert main(["bench", str(file), "--rounds", "1"]) == 0
    assert "of the machine's limit" in capsys.readouterr().out
    assert main(["bench", str(file), "--rounds", "1", "--json", "--batch-size", "4"]) == 0
    assert json.loads(capsys.readouterr().out)["batch_size"] == 4
    assert main(["bench", str(file), "--rounds", "0"]) == 2
    assert "rounds is 0; use 1 or more." in capsys.readouterr().err


def test_watching_leaves_no_hooks(tiny: MakeRecipe) -> None:
    learner = build(tiny(""), CPU)
    Products(learner, [torch.randn(8, 3, 12, 12)] * 2, CPU)
    assert not any(module._forward_hooks for module in learner.online.modules())


def test_batches_that_were_made_ahead_do_not_count(
    tiny: MakeRecipe, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = open_data(str(photographs))["train"]
    ahead = 2 * usable_cores()

    def stream(*args: object) -> Generator[Batch, None, None]:
        for number in count():
            time.sleep(0.02 if number >= ahead else 0.0)
            yield Batch(number, np.arange(0), ())

    monkeypatch.setattr(byol.lab.speed, "endless", stream)
    warming_up, *rounds = byol.lab.speed._streamed(tiny(photographs), images, CPU, 3, lambda views: None)
    assert warming_up < 0.02 <= min(rounds)  # what a batch takes to make, of which the queue had hidden most


@pytest.mark.slow
def test_the_only_split_is_measured_whatever_it_is_called(
    photographs: Path, tiny: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "test").symlink_to(photographs)
    assert bench(tiny(tmp_path / "set"), rounds=1).value > 0
    assert "no split train, so the images of test" in capsys.readouterr().err

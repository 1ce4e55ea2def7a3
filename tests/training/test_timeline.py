from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from byol.model.target import Ema
from byol.recipe.imagenet import imagenet_40, imagenet_1000, imagenette
from byol.recipe.spec import Recipe
from byol.run.folder import RunFolder
from byol.run.record import read
from byol.training.runs import pretrain
from byol.training.timeline import Timeline

MakeRecipe = Callable[[Path | str], Recipe]


def test_tau_of_every_record_follows_the_target(tiny: MakeRecipe, thumbnails: Path, tmp_path: Path) -> None:
    pretrain(None, tmp_path / "run", recipe=replace(tiny(thumbnails), target=Ema(tau_base=0.5)))
    taus = [event["tau"] for event in read(RunFolder(tmp_path / "run").metrics) if event["kind"] == "train"]
    assert taus == [Ema(tau_base=0.5).tau(step, 13) for step in range(13)]


def test_steps_are_those_of_all_images_of_all_epochs(tiny: MakeRecipe) -> None:
    timeline = Timeline(tiny("builtin"), 26)  # batches of 8: 3.25 an epoch, of which there are four
    assert (timeline.steps_per_epoch, timeline.total_steps, timeline.warmup_steps) == (3.25, 13, 3)


@pytest.mark.parametrize(
    ("recipe", "num_images", "total", "warmup"),
    [
        (imagenet_40(), 1_281_167, 12_511, 3_127),
        (imagenet_1000(), 1_281_167, 312_784, 3_127),
        (imagenette(), 9_469, 36_988, 369),
    ],
)
def test_the_published_recipes_have_the_official_numbers_of_steps(
    recipe: Recipe, num_images: int, total: int, warmup: int
) -> None:
    timeline = Timeline(recipe, num_images)
    assert (timeline.total_steps, timeline.warmup_steps) == (total, warmup)


def test_a_run_has_a_hundred_records_or_more_and_ten_judgements(tiny: MakeRecipe) -> None:
    for epochs, records, judgements in ((4, 13, 13), (100, 109, 10), (10_000, 650, 10)):
        timeline = Timeline(replace(tiny("builtin"), epochs=epochs), 26)
        steps = range(1, timeline.total_steps + 1)
        assert sum(map(timeline.is_recorded, steps)) == records
        assert sum(map(timeline.is_judged, steps)) == judgements
        assert timeline.is_recorded(timeline.total_steps)


def test_the_rate_rises_through_the_warm_up_and_ends_near_zero(tiny: MakeRecipe) -> None:
    timeline = Timeline(tiny("builtin"), 26)  # one of four epochs is warm-up
    rates = [timeline.lr(step) for step in range(13)]
    assert rates[0] == 0.0
    assert max(rates) == rates[3] == timeline.recipe.peak_lr
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert timeline.predictor_lr(5) == timeline.lr(5)

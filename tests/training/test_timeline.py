from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from byol.model.target import Ema
from byol.recipe.spec import Recipe
from byol.run.folder import RunFolder
from byol.run.record import read
from byol.training.loop import pretrain
from byol.training.timeline import Timeline

MakeRecipe = Callable[[Path | str], Recipe]


def test_tau_of_every_record_follows_the_target(tiny: MakeRecipe, thumbnails: Path, tmp_path: Path) -> None:
    pretrain(None, tmp_path / "run", recipe=replace(tiny(thumbnails), target=Ema(tau_base=0.5)))
    taus = [event["tau"] for event in read(RunFolder(tmp_path / "run").metrics) if event["kind"] == "train"]
    assert taus == [Ema(tau_base=0.5).tau(step, 12) for step in range(12)]


def test_steps_are_those_of_whole_batches(tiny: MakeRecipe) -> None:
    timeline = Timeline(tiny("builtin"), 26)  # batches of 8: three an epoch, two images left over
    assert (timeline.steps_per_epoch, timeline.total_steps) == (3, 12)


def test_a_run_has_a_hundred_records_or_more_and_ten_judgements(tiny: MakeRecipe) -> None:
    for epochs, records, judgements in ((4, 12, 12), (100, 100, 10), (10_000, 600, 10)):
        timeline = Timeline(replace(tiny("builtin"), epochs=epochs), 26)
        steps = range(1, timeline.total_steps + 1)
        assert sum(map(timeline.is_recorded, steps)) == records
        assert sum(map(timeline.is_judged, steps)) == judgements
        assert timeline.is_recorded(timeline.total_steps)


def test_the_rate_rises_through_the_warm_up_and_ends_near_zero(tiny: MakeRecipe) -> None:
    timeline = Timeline(tiny("builtin"), 26)  # one of four epochs is warm-up
    rates = [timeline.lr(step) for step in range(12)]
    assert rates[0] == 0.0
    assert max(rates) == rates[3] == timeline.recipe.peak_lr
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert timeline.predictor_lr(5) == timeline.lr(5)

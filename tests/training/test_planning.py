import copy
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import byol
from byol.cli import main
from byol.errors import UserError
from byol.model.encoder import ConvNet, ResNet
from byol.recipe.spec import from_json
from byol.training import planning, request
from byol.training.planning import plan, seconds_of
from byol.training.rehearsal import Rehearsal
from byol.training.watch import Judge

CUBES = torch.randint(0, 256, (400, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def steps_take(monkeypatch: pytest.MonkeyPatch) -> "Clock":
    clock = Clock()
    monkeypatch.setattr(planning, "rehearse", clock)
    return clock


class Clock:
    """A machine whose steps take as long as it is told; a ResNet's take three times as long."""

    def __init__(self) -> None:
        self.seconds = 0.01

    def __call__(self, recipe: byol.Recipe, *others: object) -> Rehearsal:
        return Rehearsal(
            self.seconds * (3 if isinstance(recipe.encoder, ResNet) else 1), state_bytes=0, encoder_bytes=0
        )


@given(
    days=st.integers(0, 9), hours=st.integers(0, 30), minutes=st.integers(0, 90), seconds=st.integers(1, 99)
)
def test_times_are_read_as_they_are_written(days: int, hours: int, minutes: int, seconds: int) -> None:
    assert (
        seconds_of(f"{days}d{hours}h{minutes}m{seconds}s")
        == ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    )


@pytest.mark.parametrize(
    "time", ["", "20", "soon", "20 m", "m", "-5m", "5m!", "1h 5m", "0s", 20, None, "1e3s"]
)
def test_what_is_no_time_is_refused(time: object) -> None:
    with pytest.raises(UserError, match=r"^fit_in is .*; give a time"):
        seconds_of(time)  # type: ignore[arg-type]


def test_a_plan_fits_into_the_time_and_says_why(steps_take: Clock) -> None:
    found = plan(CUBES, fit_in="1m")
    assert 0.9 * 60 < found.seconds <= 60
    assert found.seconds_per_step == steps_take.seconds
    steps = found.recipe.steps(found.recipe.epochs, 400)
    assert steps * 0.01 <= 0.9 * 60
    assert [reason.split(":")[0] for reason in found.recipe.why] == [
        "views",
        "network",
        "batch",
        "predictor",
        "epochs",
    ]
    assert f"{steps:,} steps of 10 ms" in found.recipe.why[-1]
    assert (found.recipe.views.size, found.recipe.evaluation_size) == (24, 32)
    assert found.recipe.encoder == ConvNet(widths=(64, 128, 256), representation="whitened")


def test_the_time_to_judge_is_taken_off(
    steps_take: Clock, thumbnails: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Judge, "look", lambda self, network: 3.0)
    found = plan(thumbnails, fit_in="1m")
    steps = found.recipe.steps(found.recipe.epochs, 26)
    assert 0.8 * 27 < steps * 0.01 <= 27  # 0.9 of the half that ten looks leave
    assert found.seconds <= 60
    assert "in the 1:00 that there are, 0:30 to judge it" in found.recipe.why[-1]
    monkeypatch.setattr(Judge, "look", lambda self, network: 60.0)
    with pytest.raises(UserError, match=r"takes 0 steps of .* give it 10:02 or more: --fit-in"):
        plan(thumbnails, fit_in="1m")


def test_a_plan_is_an_ordinary_recipe_that_a_file_holds(steps_take: Clock, tmp_path: Path) -> None:
    found = plan(CUBES, fit_in="1m", out=tmp_path / "plan.json", seed=3)
    assert byol.read_recipe(tmp_path / "plan.json") == found.recipe
    assert from_json(json.dumps(found.recipe.to_json()), "it") == found.recipe
    assert found.recipe.seed == 3
    assert byol.diff(found.recipe, replace(found.recipe, why=())) == [("why", list(found.recipe.why), [])]


def test_larger_images_are_seen_larger(steps_take: Clock) -> None:
    found = plan(torch.zeros(100, 3, 90, 200, dtype=torch.uint8), fit_in="1m").recipe
    assert (found.views.size, found.evaluation_size) == (48, 64)
    assert found.encoder == ConvNet(widths=(64, 128, 256, 512), representation="whitened")
    assert found.batch_size == 25
    assert "a quarter of the 100" in found.why[2]


def test_a_fast_machine_or_a_long_night_gets_a_deep_network(steps_take: Clock) -> None:
    steps_take.seconds = 1e-3
    assert isinstance(plan(CUBES, fit_in="1m").recipe.encoder, ConvNet)
    found = plan(CUBES, fit_in="5m")
    assert found.recipe.encoder == ResNet(depth=18, stem="cifar")
    assert found.seconds_per_step == 3e-3
    assert "time for 90,000 steps of it" in found.recipe.why[1]


def test_epochs_have_an_end(steps_take: Clock) -> None:
    steps_take.seconds = 1e-4
    assert plan(CUBES, fit_in="3h").recipe.epochs == 2_000


def test_a_time_that_is_too_short_is_refused_with_one_that_suffices(steps_take: Clock) -> None:
    steps_take.seconds = 2.0
    with pytest.raises(
        UserError, match=r"in 1:00 this machine takes 27 steps of 64 images, .* give it 3:43 or"
    ):
        plan(CUBES, fit_in="1m")
    assert plan(CUBES, fit_in="3m43s").recipe.steps(1, 400) > 0


def test_a_module_of_ones_own_is_planned_for_and_left_as_it_is() -> None:
    torch.manual_seed(0)
    own = ConvNet(widths=(4, 8)).build()
    before = copy.deepcopy(own.state_dict())
    state = torch.get_rng_state()
    found = plan(CUBES, fit_in="60s", encoder=own)
    assert torch.equal(torch.get_rng_state(), state)
    assert "network: the ConvNetEncoder that was given" in found.recipe.why
    assert found.seconds_per_step > 0
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())


def test_processes_of_torchrun_do_not_plan_each_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "speaker", lambda: SimpleNamespace(world_size=2))
    with pytest.raises(UserError, match=r"byol plan --data PATH --out plan\.json"):
        plan(CUBES)


def test_images_that_cannot_be_read_are_not_planned_for(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(b"\xff\xd8\xff no picture")
    with pytest.raises(UserError, match=r"No file sampled below .* can be decoded, \d\.jpg for one"):
        plan(tmp_path)


def test_a_run_without_a_recipe_is_planned_and_keeps_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "_FEWEST_STEPS", 2)
    monkeypatch.setattr("byol.training.rehearsal._SECONDS", 0.1)
    run = byol.pretrain(CUBES[:40], tmp_path / "run", fit_in="2s")
    assert run.recipe.name == "planned"
    assert len(run.recipe.why) == 5
    again = byol.pretrain(CUBES[:40], tmp_path / "again", recipe=tmp_path / "run" / "recipe.json")
    assert again.recipe == run.recipe
    assert again.load().fingerprint() == run.load().fingerprint()


@pytest.mark.parametrize(
    ("out", "settings", "flags", "message"),
    [
        ("taken", {}, (), "is not a run folder; choose another --out"),
        ("images/run", {}, (), "lies among the images at"),
        (".", {"overwrite": True}, ("--overwrite",), "lie in the run folder"),
        ("run", {"workers": -1}, ("--workers", "-1"), "workers is -1; use 0 or more"),
        ("run", {"checkpoint_seconds": 0}, ("--checkpoint-seconds", "0"), "give a number above 0"),
    ],
)
def test_what_cannot_be_is_refused_before_a_plan_is_made(
    out: str,
    settings: dict[str, Any],
    flags: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(request, "plan", lambda *_, **__: pytest.fail("planned already"))
    for name in ("taken/mine.txt", "images/1.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    images, run = tmp_path / "images", tmp_path / out
    with pytest.raises(UserError, match=message):
        byol.pretrain(images, run, **settings)
    assert main(["pretrain", "--data", str(images), "--out", str(run), *flags]) == 2
    assert message in capsys.readouterr().err


def test_a_plan_is_made_with_the_processes_that_the_run_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse(*_: object, workers: int | None, **others: object) -> None:
        asked.append(workers)
        raise UserError("no plan is made here.")

    monkeypatch.setattr(request, "plan", refuse)
    with pytest.raises(UserError, match="no plan"):
        byol.pretrain(CUBES, tmp_path / "run", workers=3)
    assert main(["pretrain", "--data", "builtin", "--out", str(tmp_path / "run"), "--workers", "2"]) == 2
    assert asked == [3, 2]


@pytest.mark.parametrize(
    ("flags", "epochs", "warmup"),
    [
        ((), 2000, 160.0),
        (("--epochs", "3"), 3, 0.3),
        (("--epochs=3000",), 3000, 160.0),
        (("--epochs", "3", "--warmup-epochs", "2"), 3, 2.0),
        (("--warmup-epochs", "2"), 2000, 2.0),
    ],
)
def test_epochs_beside_a_plan_have_a_warm_up_that_fits(
    flags: tuple[str, ...],
    epochs: int,
    warmup: float,
    steps_take: Clock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps_take.seconds = 1e-6
    monkeypatch.setattr(planning, "_DEEP", 10**12)
    asked: list[byol.Recipe] = []

    def keep(one: request.Request) -> None:
        asked.append(one.recipe)
        raise UserError("nothing is learned here.")

    monkeypatch.setattr("byol.training.runs.train", keep)
    for number in range(40):
        Image.new("RGB", (40, 40), (number % 256, 0, 0)).save(tmp_path / f"{number}.png")
    run = tmp_path.parent / f"{tmp_path.name}-run"
    main(["pretrain", "--data", str(tmp_path), "--out", str(run), *flags])
    assert (asked[0].epochs, asked[0].warmup_epochs) == (epochs, warmup)
    assert asked[0].why[-1].startswith(f"epochs: {epochs}, ")

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import byol
from byol.data.opening import open_data
from byol.run.folder import RunFolder
from byol.system.device import pick_device
from byol.training.forecast import Forecast, advice, errors, foreseen
from byol.training.rehearsal import Rehearsal, rehearse

IMAGES = torch.randint(0, 256, (80, 3, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_a_forecast_is_steps_and_looks_and_what_is_kept() -> None:
    found = foreseen(Rehearsal(0.5, state_bytes=1000, encoder_bytes=10), steps=100, judging_seconds=2.0)
    assert found.seconds == 100 * 0.5 + 10 * 2.0
    assert found.disk_bytes == 2 * 1000 + 10 + 2**18
    assert found.memory_bytes is None or found.memory_bytes > 2**20
    assert Forecast(61, 2**20, 2**21).sentence() == "forecast: 1:01, 1 MiB of memory, 2 MiB of disk"
    assert Forecast(61, None, 2**21).sentence() == "forecast: 1:01, 2 MiB of disk"


def test_errors_are_percent_of_what_came(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(200))
    found = errors(Forecast(150, None, 100)._asdict(), 100.0, RunFolder(tmp_path))
    assert found == {"seconds": pytest.approx(50), "memory_bytes": None, "disk_bytes": pytest.approx(-50)}


def test_a_deep_network_in_few_steps_and_views_larger_than_images_are_advised_against() -> None:
    photos = byol.named("photos")
    assert "ResNet-18 in 950 steps" in advice(photos, None, 950, 200)[0]
    assert advice(photos, None, 20_000, 64) == advice(byol.named("builtin"), None, 950, 64) == []
    assert advice(photos, torch.nn.Identity(), 950, 200) == []  # another network than the recipe's
    assert (
        "byol pack PATH --out FILE --short-side 192 writes them small"
        in advice(photos, None, 20_000, 1_000)[0]
    )
    assert "views of 64 px are larger than the images, of about 32 px" in advice(photos, None, 20_000, 32)[0]


def test_a_rehearsal_leaves_nothing_behind_but_its_time() -> None:
    recipe = replace(byol.named("builtin"), batch_size=8)
    images, device = open_data(IMAGES)["train"], pick_device("float32")
    state = torch.get_rng_state()
    found = rehearse(recipe, images, device)
    assert torch.equal(torch.get_rng_state(), state)
    assert 0 < found.seconds_per_step < 10
    model = byol.Byol.of(recipe)
    weights = sum(
        tensor.nbytes for tensor in [*model.online.state_dict().values(), *model.target.state_dict().values()]
    )
    # AdamW keeps two numbers and a step for every weight.
    adam = sum(2 * parameter.nbytes + 4 for parameter in model.online.parameters())
    assert found.state_bytes == weights + adam
    assert found.encoder_bytes == sum(tensor.nbytes for tensor in model.encoder.state_dict().values())


def test_a_run_says_its_forecast_first_and_how_far_it_was_off_at_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byol.training.rehearsal._SECONDS", 0.1)
    recipe = replace(byol.named("builtin"), batch_size=4, epochs=10)
    run = byol.pretrain(IMAGES, tmp_path / "run", recipe=recipe)
    said = capsys.readouterr().err
    assert said.index("forecast: 0:") < said.index("steps 0 to 200")
    forecast, off = run.summary["forecast"], run.summary["forecast_error_percent"]
    assert forecast.keys() == off.keys() == {"seconds", "memory_bytes", "disk_bytes"}
    assert forecast["seconds"] == pytest.approx(run.summary["wall_seconds"] * (1 + off["seconds"] / 100))
    # Two whole checkpoints are foreseen; that of step 0, here one of two, has nothing of the optimizer yet.
    assert 0 < off["disk_bytes"] < 60


def test_short_runs_are_not_foreseen(tmp_path: Path) -> None:
    run = byol.pretrain(
        IMAGES, tmp_path / "run", recipe=replace(byol.named("builtin"), batch_size=8, epochs=2)
    )
    assert "forecast" not in run.summary

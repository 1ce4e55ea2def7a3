import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.ranks import Ranks
from torch import nn

from byol.errors import UserError
from byol.recipe.spec import Recipe
from byol.run import checkpoint
from byol.run.folder import RunFolder
from byol.system.collective import broadcast, mean_over_ranks
from byol.system.processes import Processes, joined

MakeRecipe = Callable[[Path | str], Recipe]


def test_a_process_alone_agrees_with_itself() -> None:
    with joined() as alone, alone.agreed(), alone.in_turn():
        assert alone == Processes()
        assert alone.is_rank_zero
        assert alone.max_over_ranks(3, 0) == (3, 0)
        assert alone.gathered("a") == ["a"]
        assert alone.on_rank_zero(max, 1, 2) == 2


def test_half_an_environment_is_left_over_and_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with joined() as alone:
        assert alone == Processes()
    said = capsys.readouterr().err
    assert "note: WORLD_SIZE is 2, but RANK, " in said
    assert "this process trains alone; torchrun starts several" in said


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "3")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with (
        pytest.raises(UserError, match=r"started 3 processes .* has 2 GPUs: use --nproc-per-node 2"),
        joined(),
    ):
        pass


def agreements(folder: Path) -> tuple[object, ...]:
    """What two processes agree on."""
    with joined() as two:
        rank = two.rank
        seen = []
        with two.in_turn():
            seen = sorted(path.name for path in folder.iterdir())
            (folder / str(rank)).touch()
        with pytest.raises(UserError) as error, two.agreed():
            _fail_in_the_second(rank)
        with pytest.raises((UserError, OSError), match="full"):
            two.on_rank_zero(_fail)
        layer = nn.Linear(2, 2) if rank else nn.Linear(2, 2, dtype=torch.float32)
        nn.init.constant_(layer.weight, float(rank + 5))
        broadcast(layer)
        mean = mean_over_ranks(torch.tensor(float(rank)))
        rows = two.rows(torch.full((1 + rank, 2), float(rank)))
        return (
            two.max_over_ranks(rank, 1 - rank),
            two.gathered(rank),
            two.on_rank_zero(os.getpid),
            seen,
            str(error.value),
            layer.weight[0, 0].item(),
            rows[:, 0].tolist(),
            mean.item(),
        )


def _fail_in_the_second(rank: int) -> None:
    if rank == 1:
        raise UserError("the second has no disk")


def _fail() -> None:
    raise OSError(28, "the disk is full")


def test_two_processes_agree(tmp_path: Path, ranks: Ranks) -> None:
    first, second = ranks(agreements, tmp_path)
    assert first[:2] == second[:2] == ((1, 1), [0, 1])
    assert first[2] == second[2]  # what the first one returned
    assert (first[3], second[3]) == ([], ["0"])
    assert first[4] == second[4] == "the second has no disk"
    assert first[5] == second[5] == 5.0
    assert first[6] == second[6] == [0.0, 1.0, 1.0]
    assert first[7] == second[7] == 0.5


@pytest.mark.slow
def test_torchrun_trains_is_stopped_and_goes_on(
    photographs: Path, tiny: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # two processes cannot share one GPU
    recipe = replace(tiny(photographs), epochs=16)
    file, out = tmp_path / "recipe.json", RunFolder(tmp_path / "run")
    file.write_text(json.dumps(recipe.to_json()))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    train = [*torchrun, "-m", "byol", "pretrain"]
    running = subprocess.Popen(
        [*train, str(file), "--out", str(out.path), "--workers", "0"], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not out.metrics.exists() or not out.metrics.read_text():
        assert running.poll() is None, running.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    running.send_signal(signal.SIGTERM)
    said = running.communicate(timeout=120)[1]
    assert said.count("byol: stopped at step") == 1, said
    newest = checkpoint.newest(out.checkpoints)
    assert newest is not None
    step = checkpoint.load(newest, torch.device("cpu"))["step"]
    assert 0 < step < 52
    again = subprocess.run(
        [*train, "--resume", str(out.path), "--workers", "0"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert again.stderr.count(f"steps {step:,} to 52") == 1
    assert json.loads(out.summary.read_text())["steps"] == 52
    assert json.loads(out.provenance.read_text())["processes"] == 2

"""Several processes are one: the same weights to rounding, by torchrun as a user starts it."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from byol.pretrain import pretrain
from byol.recipe import Recipe
from byol.run import checkpoint
from byol.run.device import Device
from byol.run.folder import RunFolder
from byol.run.record import read

SCRIPT = Path(__file__).parent / "two_ranks.py"
ALONE = Device(torch.device("cpu"), "float32")


def torchrun(*words: str | Path) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return [*launcher, *map(str, words)]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("two_ranks", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the two processes found."""
    out = tmp_path_factory.mktemp("ranks")
    done = subprocess.run(torchrun(SCRIPT, out), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [torch.load(out / f"{rank}.pt", weights_only=True) for rank in range(2)]


def differences(found: dict[str, Any], alone: dict[str, Any]) -> dict[str, float]:
    """Return the largest difference of each tensor, relative to its largest entry.

    Means that are zero but for rounding, such as those of what a batch norm gave, count as 1e-3.
    """
    assert found.keys() == alone.keys()
    return {
        name: float((found[name] - value).abs().max() / value.abs().max().clamp_min(1e-3))
        for name, value in alone.items()
        if isinstance(value, Tensor) and value.is_floating_point() and value.numel()
    }


def one_process(script: ModuleType, name: str) -> dict[str, Any]:
    learner, losses = script.learn(script.recipes()[name], ALONE)
    return {"losses": losses, **script.weights(learner)}


@pytest.mark.parametrize("name", ["byol", "directpred", "simsiam", "micro-batches"])
def test_two_processes_of_32_equal_one_of_64(
    name: str, ranks: list[dict[str, Any]], script: ModuleType
) -> None:
    alone = one_process(script, name)
    for found in ranks:
        # float64: sums of 64 to 10,000 numbers in another order, through five steps.
        worst = differences(found[name], alone)
        assert {key: value for key, value in worst.items() if value >= 1e-10} == {}
        torch.testing.assert_close(torch.stack(found[name]["losses"]), torch.stack(alone["losses"]))


@pytest.mark.parametrize("broken", ["synchronize", "average_gradients_before"])
def test_without_either_half_they_do_not(
    broken: str, ranks: list[dict[str, Any]], script: ModuleType
) -> None:
    alone = one_process(script, "byol")
    assert max(differences(ranks[0][f"without {broken}"], alone).values()) > 1e-3


@pytest.mark.parametrize("name", ["byol", "directpred", "simsiam"])
def test_all_processes_hold_the_same_bits(name: str, ranks: list[dict[str, Any]]) -> None:
    first, second = (found[name] for found in ranks)
    for key, value in first.items():
        if isinstance(value, Tensor):
            assert torch.equal(value, second[key]), key


@pytest.mark.parametrize("name", ["1d", "2d", "plain", "cumulative"])
def test_batch_norm_over_unequal_shares_equals_batch_norm_of_all(
    name: str, ranks: list[dict[str, Any]], script: ModuleType
) -> None:
    alone = script.normalise(script.norms()[name], name, slice(0, 16))
    shares = [found[f"norm {name}"] for found in ranks]
    for key, value in alone.items():
        if key in ("output", "gradient"):
            found = torch.cat([share[key] for share in shares])
        elif key.startswith("gradient of"):
            found = sum(share[key] for share in shares)
        else:
            found = shares[0][key]
        # float64; the mean is 100 and the deviation 3, so the variance loses three digits.
        torch.testing.assert_close(found, value, rtol=1e-11, atol=1e-11)


def test_processes_agree_on_numbers_and_names(ranks: list[dict[str, Any]]) -> None:
    assert [found["rank and size"] for found in ranks] == [(0, 2), (1, 2)]
    for found in ranks:
        assert found["highest"] == (1, 5)
        assert found["union"] == ("of 0", "of 1", "of both")


def started(recipe: Recipe, out: Path, *flags: str) -> "subprocess.Popen[str]":
    file = out.parent / f"{out.name}.json"
    file.write_text(json.dumps(recipe.to_json()))
    words = ("--resume", out) if "resume" in flags else (file, "--out", out)
    return subprocess.Popen(
        torchrun("-m", "byol", "pretrain", *words, "--workers", "1"),
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def final(out: Path) -> dict[str, Any]:
    newest = checkpoint.newest(RunFolder(out).checkpoints)
    assert newest is not None
    return checkpoint.load(newest, torch.device("cpu"))


def test_a_run_stopped_in_two_processes_goes_on_in_one(
    photographs: Path, tiny: Callable[[Path | str], Recipe], tmp_path: Path
) -> None:
    recipe = replace(tiny(photographs), precision="float32", epochs=100)
    running = started(recipe, tmp_path / "both")
    metrics = RunFolder(tmp_path / "both").metrics
    while running.poll() is None and not (metrics.exists() and len(read(metrics)) > 10):
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    said = running.communicate(timeout=60)[1]
    assert said.count("and saved; continue with") >= 1, said
    stopped_at = final(tmp_path / "both")["step"]
    assert 0 < stopped_at < 300
    pretrain(recipe, tmp_path / "both", resume=True, workers=0)
    pretrain(recipe, tmp_path / "alone", workers=0)
    both, alone = (
        [e for e in read(RunFolder(tmp_path / n).metrics) if e["kind"] == "train"] for n in ("both", "alone")
    )
    assert [event["step"] for event in both] == [event["step"] for event in alone]
    # The same images in the same views: until rounding errors have grown, the same losses.
    for ours, theirs in zip(both[:5], alone[:5], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)

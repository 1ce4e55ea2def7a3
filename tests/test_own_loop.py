"""The page "your own loop": its blocks are run as they stand, and compute what `byol.pretrain` computes."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import byol
from byol.recipe.names import RECIPES
from byol.recipe.spec import Recipe

PAGE = Path(__file__).parent.parent / "docs" / "guides" / "your-own-loop.md"
BLOCKS = re.findall(r'^```python(?: title="(.*?)")?\n(.*?)^```$', PAGE.read_text(), re.MULTILINE | re.DOTALL)
# float32, where two gradients are added in another order; 32 steps enlarge that. Here it is none at all.
ROUNDING = 1e-5


class Learned(NamedTuple):
    """What a loop leaves behind."""

    losses: list[float]
    state: dict[str, Tensor]  # of both networks, weights and running statistics


@pytest.fixture
def recipe(tiny: Callable[[Path | str], Recipe], monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """What the page's recipe is here: 32 small steps in float32, on the CPU, where the page's loop is."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    short = replace(tiny(""), name="builtin", batch_size=16, epochs=2, precision="float32")
    monkeypatch.setitem(RECIPES, "builtin", lambda: short)
    return short


def run_page(*titles: str) -> dict[str, Any]:
    """Return what is named after the blocks without a title and those with one of these."""
    names: dict[str, Any] = {"__name__": "your_own_loop"}
    torch.manual_seed(0)
    for title, code in BLOCKS:
        if title in ("", *titles):
            exec(compile(code, str(PAGE), "exec"), names)
    return names


def assert_same_as_ours(names: dict[str, Any], recipe: Recipe, out: Path) -> None:
    """Compare a loop of the page with `byol.pretrain` on the same images."""
    run = byol.pretrain(names["images"], out, recipe=recipe)
    losses = [record["loss"] for record in run.records if record["kind"] == "train"]
    assert len(losses) == 32
    assert names["losses"] == pytest.approx(losses, rel=ROUNDING)
    saved = torch.load(max((out / "checkpoints").rglob("*.pt")), weights_only=True)
    state = names["model"].state_dict()
    assert {name.partition(".")[2] for name in state} >= {
        "encoder.layers.0.weight",
        "encoder.layers.1.running_var",
    }
    for part in ("online", "target"):
        for name, value in saved[part].items():
            torch.testing.assert_close(
                state[f"{part}.{name}"], value, rtol=ROUNDING, atol=ROUNDING, msg=f"{part}.{name}"
            )


def test_plain_pytorch_learns_what_we_learn(recipe: Recipe, tmp_path: Path) -> None:
    assert_same_as_ours(run_page(), recipe, tmp_path / "run")


def test_another_schedule_would_be_noticed(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(byol.Byol, "update", lambda self, step, total_steps: None)
    names = run_page()
    monkeypatch.undo()
    with pytest.raises(AssertionError):
        assert_same_as_ours(names, recipe, tmp_path / "run")


@pytest.mark.frameworks
@pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec:FutureWarning")  # Lightning 2.6 beside torch 2.14
@pytest.mark.parametrize("framework", ["lightning", "accelerate"])
def test_a_framework_learns_what_we_learn(
    framework: str, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(framework)
    monkeypatch.chdir(tmp_path)
    assert_same_as_ours(run_page(f"needs {framework}"), recipe, tmp_path / "run")


def after_torchrun(code: str, processes: int, folder: Path) -> dict[str, Tensor]:
    """Return the weights that a file leaves behind."""
    folder.mkdir()
    (folder / "train.py").write_text(code)
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    words = [*start, "--nproc-per-node", str(processes), "train.py"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    state: dict[str, Tensor] = torch.load(folder / "byol.pt", weights_only=True)
    return state


def distance(left: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    assert left.keys() == right.keys()
    return max((left[name].double() - right[name].double()).abs().max().item() for name in left)


@pytest.mark.slow
def test_two_processes_of_16_are_one_of_32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (code,) = (code for title, code in BLOCKS if title == "train.py")
    one, two = (after_torchrun(code, processes, tmp_path / str(processes)) for processes in (1, 2))
    assert distance(one, two) < ROUNDING
    without = re.sub(r"^ *synchronize.*\n", "", code, flags=re.MULTILINE)
    assert without != code
    apart = after_torchrun(without, 2, tmp_path / "apart")
    assert distance(one, apart) > 1000 * ROUNDING  # statistics of half a batch are others

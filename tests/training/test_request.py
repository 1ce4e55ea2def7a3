"""What a person can get wrong at the door of `pretrain` and `resume`: one sentence, nothing written."""

import json
import os
import shlex
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.datasets import ImageFolder

import byol.training.loop
from byol.data.loader import Batch, batches
from byol.errors import Interrupted, UserError
from byol.recipe.spec import Recipe, read_recipe
from byol.run.folder import RunFolder
from byol.training.result import Run
from byol.training.runs import pretrain, resume

MakeRecipe = Callable[[Path | str], Recipe]


class Own(nn.Module):
    """An encoder of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 6))

    def forward(self, images: Any) -> Any:
        return self.layers(images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": None}, "say where the images are: --data PATH"),
        ({"data": ""}, "say where the images are"),
        ({"data": 3}, "images cannot be read from a int"),
        ({"data": "/nowhere/at/all"}, "no images at /nowhere"),
        ({"out": None}, "say where to write the run"),
        ({"out": ""}, "say where to write the run"),
        ({"out": 3}, "a path is wanted, not a int: say where to write the run"),
        ({"recipe": "photo"}, "did you mean photos"),
        ({"recipe": "none.json"}, "none.json cannot be read"),
        ({"recipe": 3}, "recipe is a int"),
        ({"workers": -1}, "workers is -1; use 0 or more"),
        ({"workers": 1.5}, "workers is 1.5; give a whole number"),
        ({"workers": True}, "workers is True; give a whole number"),
        ({"checkpoint_seconds": 0}, "checkpoint_seconds is 0; give a number above 0"),
        ({"checkpoint_seconds": "60"}, "checkpoint_seconds is '60'; give a number above 0"),
        ({"checkpoint_seconds": float("nan")}, "checkpoint_seconds is nan"),
        ({"encoder": Own}, r"encoder is the class Own; give a module that is made of it: Own\(...\)"),
        ({"encoder": "resnet18"}, "encoder is a str; give a torch module"),
    ],
)
def test_what_is_asked_wrongly_is_one_sentence(
    change: dict[str, Any],
    message: str,
    tiny: MakeRecipe,
    thumbnails: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(thumbnails)  # images below the working folder are not meant
    asked: dict[str, Any] = {"data": thumbnails, "out": tmp_path / "run", "recipe": tiny(""), **change}
    with pytest.raises(UserError, match=message) as caught:
        pretrain(asked.pop("data"), asked.pop("out"), **asked)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_the_old_order_of_arguments_is_answered(tiny: MakeRecipe, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"data is a recipe; give it by name: pretrain\(data, out, recipe=recipe\)"
    ):
        pretrain(tiny("builtin"), tmp_path / "run")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 2.0}, "epochs is 2.0; give a whole number"),
        ({"batch_size": 8.0}, "batch_size is 8.0; give a whole number"),
    ],
)
def test_a_recipe_counts_in_whole_numbers(change: dict[str, Any], message: str, tiny: MakeRecipe) -> None:
    with pytest.raises(UserError, match=message):
        replace(tiny("builtin"), **change)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"seed": 1.0}, "seed"),
        ({"loss_weight": "1"}, "loss_weight"),
        ({"precision": "fp16"}, "precision"),
        ({"encoder": nn.Identity()}, "JSON cannot say"),
    ],
)
def test_a_recipe_of_wrong_types_is_refused_with_its_field(
    change: dict[str, Any], field: str, tiny: MakeRecipe, thumbnails: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=field):
        pretrain(thumbnails, tmp_path / "run", recipe=replace(tiny(""), **change))


def test_home_is_a_tilde_everywhere(
    tiny: MakeRecipe, thumbnails: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "tiny.json").write_text(json.dumps(tiny("").to_json()))
    run = pretrain("~/thumbnails", "~/run", recipe="~/tiny.json")
    assert run.path == tmp_path / "run"
    assert run.recipe.data == str(thumbnails)
    assert resume("~/run").summary == run.summary | {
        name: value for name, value in resume(run).summary.items() if "seconds" in name or "second" in name
    }


def test_data_is_named_so_that_it_is_found_from_anywhere(
    tiny: MakeRecipe, thumbnails: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = pretrain(Path("thumbnails"), "run", recipe=tiny(""))
    assert run.recipe.data == str(thumbnails)
    assert pretrain(None, "again", recipe=run.path / "recipe.json").recipe.data == str(thumbnails)
    with pytest.raises(UserError, match=r"lie in the run folder|lies among the images"):
        resume(run, data=tmp_path)


def test_another_number_of_images_is_refused(tiny: MakeRecipe, thumbnails: Path, tmp_path: Path) -> None:
    run = pretrain(thumbnails, tmp_path / "run", recipe=tiny(""))
    (thumbnails / "cat" / "01.png").unlink()
    with pytest.raises(UserError, match=r"began with 26 images, and there are 25 now; .*--out NEW"):
        resume(run)


def stopped_at_two(monkeypatch: pytest.MonkeyPatch, *args: Any, **how: Any) -> str:
    """Return the sentence that a run leaves behind which gets a SIGTERM in its third step."""

    def stream(*args: Any, **kwargs: Any) -> Iterator[Batch]:
        for batch in batches(*args, **kwargs):
            if batch.step == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    with monkeypatch.context() as patched:
        patched.setattr(byol.training.loop, "batches", stream)
        with pytest.raises(Interrupted) as stopped:
            pretrain(*args, **how)
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    return str(stopped.value)


def test_the_remedy_of_a_run_with_a_module_of_ones_own_works(
    tiny: MakeRecipe, thumbnails: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    out = tmp_path / "run"
    said = stopped_at_two(monkeypatch, thumbnails, out, recipe=tiny(""), encoder=Own())
    assert said.endswith(f"continue with: byol.resume({str(out)!r}, encoder=module)")
    from byol.cli import main

    assert main(["pretrain", "--resume", str(out)]) == 2  # the shell has no module to give
    told = capsys.readouterr().err.splitlines()[-1]
    assert "give the module that the run was begun with: byol.resume(RUN, encoder=module)" in told
    assert resume(out, encoder=Own()).summary["steps"] == 13


def test_the_remedy_names_a_folder_as_a_shell_reads_it(
    tiny: MakeRecipe, thumbnails: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "my run"
    said = stopped_at_two(monkeypatch, thumbnails, out, recipe=tiny(""))
    words = shlex.split(said.split("continue with: ")[1])
    assert words == ["byol", "pretrain", "--resume", str(out)]
    with pytest.raises(
        UserError, match=r"is not finished; continue it with: byol pretrain --resume '.*run'$"
    ):
        _ = Run(out).summary


def test_a_place_that_is_taken_is_told_before_the_images_are_opened(
    tiny: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byol.training.loop.open_data", lambda *_: pytest.fail("opened already"))
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UserError, match="is not a run folder; choose another --out"):
        pretrain("builtin", tmp_path, recipe=tiny(""))


def test_images_given_in_python_are_learned_from_and_asked_for_again(
    tiny: MakeRecipe, thumbnails: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    pictures = [Image.open(path) for path in sorted(thumbnails.rglob("*.png"))]
    images = torch.stack([torch.from_numpy(np.array(one)).permute(2, 0, 1) for one in pictures])
    whole = pretrain(images, tmp_path / "whole", recipe=tiny(""))
    assert whole.recipe.data == ""
    out = tmp_path / "run"
    said = stopped_at_two(monkeypatch, images, out, recipe=tiny(""))
    assert said.endswith(f"continue with: byol.resume({str(out)!r}, data=images)")
    from byol.cli import main

    assert main(["pretrain", "--resume", str(out)]) == 2  # the shell has no images to give
    assert "given in Python; give them again" in capsys.readouterr().err.splitlines()[-1]
    with pytest.raises(UserError, match="began with 26 images, and there are 25 now"):
        resume(out, data=images[1:])
    resumed = resume(out, data=images)
    for left, right in zip(whole.records, resumed.records, strict=True):
        assert {**left, "images_per_second": 0} == {**right, "images_per_second": 0}


def test_a_data_set_of_torch_is_learned_from(tiny: MakeRecipe, thumbnails: Path, tmp_path: Path) -> None:
    run = pretrain(ImageFolder(str(thumbnails)), tmp_path / "run", recipe=tiny(""), workers=0)
    assert run.value is not None  # its labels judge


def test_the_file_of_a_recipe_says_what_its_run_needs(tiny: MakeRecipe, tmp_path: Path) -> None:
    """A run that was given its images in Python names none, and asks for them again."""
    folder = RunFolder(tmp_path / "run")
    folder.create(overwrite=False)
    folder.recipe.write_text(json.dumps(tiny("").to_json()))
    assert read_recipe(folder.recipe).data == ""
    with pytest.raises(UserError, match="a path is wanted, not a int: say which run to continue"):
        resume(3)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"given in Python; give them again: byol\.resume\(.*, data=images\)"):
        resume(folder.path)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_among_its_images_and_images_in_their_run_are_refused(
    overwrite: bool, photographs: Path, tiny: MakeRecipe, tmp_path: Path
) -> None:
    before = set(tmp_path.rglob("*"))
    recipe = tiny("")
    with pytest.raises(UserError, match=r"lies among the images at .*choose an --out outside of it"):
        pretrain(photographs, photographs / "run", recipe=recipe, overwrite=overwrite)
    with pytest.raises(UserError, match=r"lie in the run folder .*choose another --out"):
        pretrain(photographs, tmp_path, recipe=recipe, overwrite=overwrite)
    with pytest.raises(UserError, match="lie in the run folder"):
        pretrain(photographs, photographs, recipe=recipe, overwrite=overwrite)
    assert set(tmp_path.rglob("*")) == before

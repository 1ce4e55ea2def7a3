"""A run goes on with its own images wherever they lie, and whenever it was stopped or killed."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.training.test_request import stopped_at_two

import byol.training.loop
import byol.training.run_files
from byol.cli import main
from byol.errors import UserError
from byol.recipe.spec import Recipe, read_recipe
from byol.run.folder import RunFolder
from byol.system.files import write_json
from byol.training.runs import pretrain, resume

MakeRecipe = Callable[[Path | str], Recipe]


class Killed(BaseException):
    """What nothing catches, as nothing catches SIGKILL."""


def test_a_moved_folder_goes_on_to_the_same_weights(
    tiny: MakeRecipe, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pretrain(photographs, tmp_path / "whole", recipe=tiny(""), workers=0)
    stopped_at_two(monkeypatch, photographs, tmp_path / "run", recipe=tiny(""), workers=0)
    moved = photographs.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"no longer at .*photographs; say .*--resume .*run --data NEW"):
        resume(tmp_path / "run", workers=0)
    assert main(["pretrain", "--resume", str(tmp_path / "run"), "--data", str(moved), "--workers", "0"]) == 0
    run = RunFolder(tmp_path / "run")
    assert run.encoder.read_bytes() == RunFolder(whole.path).encoder.read_bytes()
    assert read_recipe(run.recipe).data == str(moved)
    resume(tmp_path / "run", workers=0)  # it knows the new place


def test_what_came_out_is_said_where_it_cannot_be_kept(
    tiny: MakeRecipe,
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full_at_the_end(path: Path, value: object, *, is_synced: bool = False) -> None:
        if path.name == "summary.json":
            raise OSError(28, "No space left on device", str(path))
        write_json(path, value, is_synced=is_synced)

    whole = pretrain(photographs, tmp_path / "whole", recipe=tiny(""), workers=0)
    with monkeypatch.context() as patch:
        patch.setattr(byol.training.run_files, "write_json", full_at_the_end)
        capsys.readouterr()
        with pytest.raises((OSError, UserError), match="No space left"):
            pretrain(photographs, tmp_path / "run", recipe=tiny(""), workers=0)
        said = capsys.readouterr().err
    assert f"at the end, on all images: kNN {whole.value:.1f} (random " in said
    assert resume(tmp_path / "run", workers=0).value == whole.value


def add(folder: Path) -> None:
    shutil.copy(folder / "cat" / "01.jpg", folder / "cat" / "99.jpg")


def remove_a_class(folder: Path) -> None:
    shutil.rmtree(folder / "cat")


def rename(folder: Path) -> None:
    (folder / "cat" / "01.jpg").rename(folder / "cat" / "1.jpg")


def relabel(folder: Path) -> None:
    (folder / "cat" / "01.jpg").rename(folder / "dog" / "01.jpg")


def replace_a_picture(folder: Path) -> None:
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(folder / "cat" / "01.jpg")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (add, "began with 26 images, and there are 27 now"),
        (remove_a_class, "began with 26 images, and there are 13 now"),
        (rename, "began with 26 images and there are as many now, but of other names"),
        (relabel, "but of other names, labels or contents"),
        (replace_a_picture, "but of other names, labels or contents"),
    ],
)
def test_other_images_are_refused_and_nothing_is_lost(
    change: Callable[[Path], None],
    said: str,
    tiny: MakeRecipe,
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopped_at_two(monkeypatch, photographs, tmp_path / "run", recipe=tiny(""), workers=0)
    shutil.copytree(photographs, tmp_path / "kept")
    change(photographs)
    with pytest.raises(UserError, match=rf"{said}.*--data PATH.*--out NEW"):
        resume(tmp_path / "run", workers=0)
    assert resume(tmp_path / "run", data=tmp_path / "kept", workers=0).summary["steps"] == 13


class Writes:
    """Counts the writes below a folder that become visible, and is killed at one of them."""

    def __init__(self, below: Path, last: int) -> None:
        self.below, self.last, self.count = below, last, 0

    def __call__(self, act: Callable[..., object]) -> Callable[..., object]:
        def counted(path: Path, *rest: object, **more: object) -> object:
            if path.is_relative_to(self.below):
                self.count += 1
                if self.count > self.last:
                    raise Killed
            return act(path, *rest, **more)

        return counted


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_between_any_two_writes_goes_on_or_is_begun_again(
    every: int, tiny: MakeRecipe, thumbnails: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(tiny(""), epochs=1, warmup_epochs=0)
    whole = RunFolder(pretrain(thumbnails, tmp_path / "whole", recipe=recipe).path).encoder.read_bytes()
    out, ways = tmp_path / "run", []
    for last in range(0, 100, every):
        writes = Writes(out, last)
        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", writes(Path.replace))
            patched.setattr(Path, "unlink", writes(Path.unlink))
            try:
                pretrain(thumbnails, out, recipe=recipe)
            except Killed:
                pass
            else:
                break
        if RunFolder(out).is_begun or not RunFolder(out).recipe.exists():
            pretrain(thumbnails, out, recipe=recipe)
            ways.append("the same command")
        else:
            with pytest.raises(UserError, match="already holds a run; continue it with --resume"):
                pretrain(thumbnails, out, recipe=recipe)
            resume(out)
            ways.append("resume")
        assert RunFolder(out).encoder.read_bytes() == whole, last
        assert list(out.rglob("*.tmp")) == [], last
        shutil.rmtree(out)
    assert len(set(ways)) == 2, ways


def test_a_run_that_is_done_goes_on_without_its_records(
    tiny: MakeRecipe, thumbnails: Path, tmp_path: Path
) -> None:
    run = pretrain(thumbnails, tmp_path / "run", recipe=tiny(""))
    for name in ("metrics.jsonl", "summary.json", "encoder.safetensors", "provenance.json"):
        (run.path / name).unlink()
    assert resume(run).summary["steps"] == 13
    assert (run.path / "encoder.safetensors").is_file()


def test_what_was_begun_and_cannot_be_resumed_says_how_to_begin_again(
    tiny: MakeRecipe, thumbnails: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(byol.training.loop, "save", killed)
        with pytest.raises(Killed):
            pretrain(thumbnails, tmp_path / "run", recipe=tiny(""))
    with pytest.raises(
        UserError, match="stopped before its first step; start it again: byol pretrain "
    ) as told:
        resume(tmp_path / "run")
    assert main(str(told.value).split("again: byol ")[1].rstrip(".").split()) == 0

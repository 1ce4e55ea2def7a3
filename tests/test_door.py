"""The front door: every public function takes text, paths and `~`, and refuses wrong ones in one sentence."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

import byol

pytestmark = pytest.mark.usefixtures("two_cells")
KNN, PHOTOS = byol.Knn(k=3), byol.named("photos")


class Places:
    """Paths by name, each given as a test wants it given."""

    def __init__(self, places: dict[str, Path], given_as: Callable[[Path], Any]) -> None:
        self._places, self._given_as = places, given_as

    def __getattr__(self, name: str) -> Any:
        return self._given_as(self._places[name])


CALLS: dict[str, Callable[[Places], Any]] = {
    "pretrain": lambda at: byol.pretrain(at.images, at.out, recipe=at.recipe, workers=0),
    "plan": lambda at: byol.plan(at.images, fit_in="60s", out=type(at.out)(f"{at.out}.json"), workers=0),
    "extend": lambda at: byol.extend(at.run, 3, at.out, workers=0),
    "from_": lambda at: byol.pretrain(at.images, at.out, from_=at.encoder, recipe=at.recipe, workers=0),
    "resume": lambda at: byol.resume(at.run, workers=0),
    "judge": lambda at: byol.judge(at.run, at.images, test=at.test, against=[at.encoder], protocol=KNN),
    "compare": lambda at: byol.compare(at.run, at.encoder, at.images, test=at.test, protocol=KNN),
    "transfer": lambda at: byol.transfer(at.run, [at.images], protocols=[KNN], against=[at.encoder]),
    "measure": lambda at: byol.measure(at.run, at.images, against=[at.encoder]),
    "pack": lambda at: byol.pack(at.images, at.out, short_side=8),
    "bench": lambda at: byol.bench(at.recipe, data=at.images, rounds=1),
    "ablate": lambda at: byol.ablate(
        "two", at.tables, recipe=at.recipe, data=at.images, seeds=1, budget=1, jobs=1
    ),
    "import_official": lambda at: byol.import_official(at.official, at.out),
    "export": lambda at: byol.export(at.run, type(at.out)(f"{at.out}.pth")),
    "recipes": lambda at: byol.recipes(at.recipe, at.recipe),
    "load": lambda at: byol.load(at.run),
    "read_recipe": lambda at: byol.read_recipe(at.recipe),
    "Run": lambda at: byol.Run(at.run),
}
USED = {  # the places of each call that have to be there already
    "pretrain": ("images", "recipe"),
    "plan": ("images",),
    "extend": ("run",),
    "from_": ("encoder",),
    "resume": ("run",),
    "judge": ("run", "images", "test", "encoder"),
    "compare": ("run", "encoder", "images", "test"),
    "transfer": ("run", "images", "encoder"),
    "measure": ("run", "images", "encoder"),
    "pack": ("images",),
    "bench": ("recipe", "images"),
    "ablate": ("recipe", "images"),
    "import_official": ("official",),
    "export": ("run",),
    "recipes": ("recipe",),
    "load": ("run",),
    "read_recipe": ("recipe",),
    "Run": ("run",),
}
NO_PATH = {"named", "diff", "stages", "bootstrap_loss", "bootstrap_step"}  # functions that ask for none


@pytest.fixture
def places(made: Path, tmp_path: Path) -> dict[str, Path]:
    """What is there, and where something new may be written."""
    return {
        "images": made / "images",
        "test": made / "images" / "test",
        "recipe": made / "recipe.json",
        "run": made / "run",
        "encoder": made / "run" / "encoder.safetensors",
        "official": made / "official.pkl",
        "tables": made / "tables",
        "out": tmp_path / "new",
    }


def test_every_public_function_is_called_here() -> None:
    functions = {name for name in byol.__all__ if inspect.isfunction(getattr(byol, name))}
    assert functions - NO_PATH == set(CALLS) - {"Run", "from_"}
    assert set(USED) == set(CALLS)


@pytest.mark.parametrize("given_as", ["text", "path", "home"])
@pytest.mark.parametrize("name", CALLS)
def test_paths_are_text_or_paths_and_may_begin_at_home(
    name: str,
    given_as: str,
    places: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = tmp_path_factory.getbasetemp()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(places["out"].parent)
    ways: dict[str, Callable[[Path], Any]] = {
        "text": str,
        "path": lambda path: path,
        "home": lambda path: f"~/{path.relative_to(home)}",
    }
    assert CALLS[name](Places(places, ways[given_as])) is not None
    assert not (places["out"].parent / "~").exists()


@pytest.mark.parametrize(("name", "place"), [(name, place) for name, used in USED.items() for place in used])
@pytest.mark.parametrize("given_as", [str, Path])
def test_what_is_not_there_is_one_sentence_and_leaves_nothing_behind(
    name: str,
    place: str,
    given_as: Callable[[Path], Any],
    places: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = tmp_path / ("nowhere.json" if place == "recipe" else "nowhere")
    before = standing(places)
    with pytest.raises(byol.UserError) as refused:
        CALLS[name](Places({**places, place: wrong}, given_as))
    assert_one_sentence(refused.value)
    assert "nowhere" in str(refused.value)
    assert standing(places) == before
    assert list(tmp_path.iterdir()) == []


WRITERS = ["pretrain", "extend", "pack", "import_official", "export"]


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_in_the_way_is_one_sentence(name: str, places: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(byol.UserError) as refused:
        CALLS[name](Places({**places, "out": tmp_path / "file" / "new"}, str))
    assert_one_sentence(refused.value)
    assert [path.name for path in tmp_path.rglob("*")] == ["file"]


def standing(places: dict[str, Path]) -> set[Path]:
    return set(places["run"].parent.rglob("*"))


def assert_one_sentence(error: Exception) -> None:
    assert "\n" not in str(error)
    assert str(error).endswith((".", "?"))


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("workers", lambda at: byol.pretrain(at.images, at.out, recipe=at.recipe, workers=-1)),
        ("checkpoint_seconds", lambda at: byol.pretrain(at.images, at.out, checkpoint_seconds=-1)),
        ("recipe", lambda at: byol.pretrain(at.images, at.out, recipe="photo")),
        ("fit_in", lambda at: byol.pretrain(at.images, at.out, fit_in="soon")),
        ("fit_in", lambda at: byol.pretrain(at.images, at.out, recipe=at.recipe, fit_in="20m")),
        ("fit_in", lambda at: byol.plan(at.images, fit_in="0s")),
        ("seed", lambda at: byol.plan(at.images, seed=-1)),
        ("recipe", lambda at: byol.pretrain(at.images, at.out, recipe=3)),  # type: ignore[arg-type]
        ("epochs", lambda at: byol.pretrain(at.images, at.out, recipe=replace(PHOTOS, epochs=2.0))),  # type: ignore[arg-type]
        ("data", lambda at: byol.pretrain(None, at.out, recipe="photos")),
        ("int", lambda at: byol.pretrain(3, at.out, recipe=at.recipe)),  # type: ignore[arg-type]
        ("seed", lambda at: byol.judge(at.run, at.images, seed=-1)),
        ("seed", lambda at: byol.judge(at.run, at.images, seed=0.5)),  # type: ignore[arg-type]
        ("seed", lambda at: byol.measure(at.run, at.images, seed="0")),  # type: ignore[arg-type]
        ("NoneType", lambda at: byol.judge(None, at.images)),  # type: ignore[arg-type]
        ("Linear", lambda at: byol.judge(torch.nn.Linear(2, 2), at.images)),  # type: ignore[arg-type]
        ("which encoder", lambda at: byol.judge("", at.images)),
        ("NoneType", lambda at: byol.compare(at.run, None, at.images)),  # type: ignore[arg-type]
        ("int", lambda at: byol.measure(3, at.images)),  # type: ignore[arg-type]
        ("k is", lambda at: byol.judge(at.run, at.images, protocol=byol.Knn(k=2.5))),  # type: ignore[arg-type]
        ("epochs", lambda at: byol.LinearSgd(epochs="9")),  # type: ignore[arg-type]
        ("Tensor", lambda at: byol.transfer(at.run, torch.zeros(8, 3, 8, 8))),  # type: ignore[arg-type]
        ("int", lambda at: byol.named(3)),  # type: ignore[arg-type]
        ("int", lambda at: byol.recipes(3)),  # type: ignore[arg-type]
        ("str", lambda at: byol.diff(PHOTOS, "photos")),  # type: ignore[arg-type]
        ("int", lambda at: byol.ablate(3, at.out)),  # type: ignore[arg-type]
        ("is a file", lambda at: byol.ablate("two", __file__, recipe=at.recipe, data=at.images)),
        ("short_side", lambda at: byol.pack(at.images, at.out, short_side=None)),  # type: ignore[arg-type]
        ("k is", lambda at: byol.judge(at.run, at.images, protocol=byol.Knn(k=400))),
        ("data", lambda at: byol.transfer(at.run, [])),
        ("short_side", lambda at: byol.pack(at.images, at.out, short_side=0)),
        ("rounds", lambda at: byol.bench(at.recipe, rounds=0)),
        ("table", lambda at: byol.ablate("taw", at.out)),
        ("seeds", lambda at: byol.ablate("two", at.out, recipe=at.recipe, data=at.images, seeds=0)),
        ("format", lambda at: byol.export(at.run, at.out, format="torh")),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_one_sentence_and_leaves_nothing_behind(
    name: str, call: Callable[[Places], Any], places: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(byol.UserError) as refused:
        call(Places(places, str))
    assert name in str(refused.value)
    assert_one_sentence(refused.value)
    assert list(tmp_path.iterdir()) == []


class Pictures(Dataset[Any]):
    """A data set of torch, as a person may have one."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.rglob("*.png"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Any:
        file = self.files[index]
        return Image.open(file).convert("RGB"), int(file.parent.name == "light")


def tensor_of(pictures: Pictures) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image, _ in map(pictures.__getitem__, range(len(pictures)))])  # fmt: skip  # noqa: E501


@pytest.mark.parametrize("kind", ["tensor", "data set"])
@pytest.mark.parametrize("name", ["pretrain", "measure", "pack", "bench"])
def test_images_may_be_a_tensor_or_a_data_set(name: str, kind: str, places: dict[str, Path]) -> None:
    pictures = Pictures(places["images"] / "train")
    data: Any = pictures if kind == "data set" else tensor_of(pictures)
    given = Places(places, lambda path: data if path == places["images"] else path)
    assert CALLS[name](given) is not None


def test_a_data_set_with_labels_is_judged_on_as_its_folder_is(places: dict[str, Path]) -> None:
    train, test = (Pictures(places["images"] / split) for split in ("train", "test"))
    run: Any = places["run"]
    result = byol.judge(run, train, test=test, protocol=KNN)
    assert result.value == byol.judge(run, places["images"], protocol=KNN).value
    with pytest.raises(byol.UserError, match="label"):
        byol.judge(run, tensor_of(train), protocol=KNN)

"""What the tests share: small recipes, small image folders, and a cache of their own."""

import json
import pickle
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tests.ranks import Ranks
from tests.weights.test_official import random_trees

import byol
from byol.data.image.augmentation import View
from byol.data.image.views import TwoViews
from byol.lab.tables import TABLES
from byol.lab.trials import Trial
from byol.model.encoder import ConvNet
from byol.model.head import Mlp
from byol.recipe.small import builtin
from byol.recipe.spec import Recipe

# A shell that starts the tests in the background lets them ignore Ctrl-C, and so whatever they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests that need `ranks` in one process of pytest, so that there are two ranks and not four."""
    for item in items:
        if "ranks" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("ranks"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYOL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def few_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a test does not say how many processes read its files, as few do as can be.

    To start one takes longer than to read the few files of a test, and what is read does not depend on them.
    """
    monkeypatch.setattr("byol.training.loop.usable_cores", lambda: 1)
    monkeypatch.setattr("byol.evaluate.supervised.usable_cores", lambda: 0)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Networks here are tiny: more threads than one only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    """Two processes that train together."""
    two = Ranks(tmp_path_factory.mktemp("ranks"))
    yield two
    two.close()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the public functions ask for, made once: images, recipe.json, run, official.pkl.

    40 training and 20 test images of 8 px, light or dark; the run takes a second.
    """
    folder, random = tmp_path_factory.mktemp("made"), np.random.default_rng(0)
    for number in range(60):
        split, kind = ("test", "train")[number % 3 > 0], ("dark", "light")[number % 2]
        path = folder / "images" / split / kind / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.clip(random.normal(90 + 60 * (number % 2), 40, (8, 8, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    recipe = replace(
        builtin(),
        name="tiny",
        data="",
        views=TwoViews(size=8),
        evaluation_size=8,
        encoder=ConvNet(widths=(4, 8)),
        projector=Mlp(hidden=8, out=4),
        predictor=Mlp(hidden=8, out=4),
        batch_size=8,
        epochs=2,
    )
    (folder / "recipe.json").write_text(json.dumps(recipe.to_json()))
    params, state = random_trees(18, 1)
    (folder / "official.pkl").write_bytes(pickle.dumps({"online_params": params, "online_state": state}))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("BYOL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        byol.pretrain(folder / "images", folder / "run", recipe=recipe, workers=0)
    return folder


@pytest.fixture
def two_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table named "two" with two cells, whose runs are made in this process: a laboratory of seconds."""

    def start(run: Trial, threads: int) -> SimpleNamespace:
        byol.pretrain(None, run.path, recipe=run.recipe, workers=0)
        return SimpleNamespace(poll=lambda: 0, returncode=0)

    monkeypatch.setattr("byol.lab.laboratory.start", start)
    monkeypatch.setitem(
        TABLES,
        "two",
        lambda: replace(TABLES["tau"](), name="two", cells=TABLES["tau"]().cells[:2], findings=()),
    )


@pytest.fixture
def tiny() -> Callable[[Path | str], Recipe]:
    """A recipe that learns 12 steps of 8 images of 12 px in about a second."""

    def recipe(data: Path | str) -> Recipe:
        return replace(
            builtin(),
            name="tiny",
            data=str(data),
            views=TwoViews(size=12, first=View(blur=0.5), second=View(blur=0.5, solarize=0.2)),
            evaluation_size=12,
            encoder=ConvNet(widths=(4, 8)),
            projector=Mlp(hidden=8, out=4),
            predictor=Mlp(hidden=8, out=4),
            batch_size=8,
            epochs=4,
            warmup_epochs=1.0,  # as it is read again from recipe.json
        )

    return recipe


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """26 pictures of mixed sizes in two classes: three batches of 8 an epoch, two left over."""
    folder, random = tmp_path / "photographs", np.random.default_rng(0)
    for i in range(26):
        height, width = random.integers(14, 40, 2)
        picture = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        path = folder / ("cat" if i % 2 else "dog") / f"{i:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    return folder


@pytest.fixture
def thumbnails(tmp_path: Path) -> Path:
    """The same of one small size, so that they are packed into memory."""
    folder, random = tmp_path / "thumbnails", np.random.default_rng(0)
    for i in range(26):
        path = folder / ("cat" if i % 2 else "dog") / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return folder

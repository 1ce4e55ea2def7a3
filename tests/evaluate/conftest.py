"""Small labelled sets that a tiny encoder can tell apart, and the encoder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from byol.data.image.preprocessing import Preprocessing
from byol.model.encoder import ConvNet
from byol.system.device import Device, pick_device
from byol.system.progress import Progress
from byol.weights.pretrained import Pretrained

COLORS = {"blue": (70, 90, 160), "green": (70, 160, 90), "red": (160, 90, 70)}
MakeSet = Callable[..., Path]


def write_pictures(folder: Path, color: tuple[int, int, int], count: int, seed: int) -> None:
    folder.mkdir(parents=True)
    random = np.random.default_rng((seed, *color))
    for i in range(count):
        width = 16 if i else 18  # of more than one size, so that they stay files
        noise = random.normal(0, 55, (16, width, 3)) + random.normal(0, 25, 3)
        Image.fromarray(np.clip(noise + color, 0, 255).astype(np.uint8)).save(folder / f"{i:02}.png")


@pytest.fixture
def make_set(tmp_path: Path) -> MakeSet:
    """Write pictures of three noisy colors: train/CLASS/*.png and, unless there are none, test/CLASS."""

    def write(
        name: str = "set", train: int = 20, test: int = 10, classes: tuple[str, ...] = tuple(COLORS)
    ) -> Path:
        folder = tmp_path / name
        for number, one in enumerate(classes):
            if test:
                write_pictures(folder / "train" / one, COLORS[one], train, number)
                write_pictures(folder / "test" / one, COLORS[one], test, 100 + number)
            else:
                write_pictures(folder / one, COLORS[one], train, number)
        return folder

    return write


@pytest.fixture
def encoder() -> Pretrained:
    """A convolutional network of 8 numbers, with batch norm that has seen something."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        spec = ConvNet(widths=(4, 8))
        network = spec.build().train()
        with torch.no_grad():
            network(torch.randn(32, 3, 12, 12))
    how = Preprocessing(size=12, mean=(0.4, 0.4, 0.4), std=(0.3, 0.3, 0.3))
    return Pretrained(network, how, name="tiny", rebuild=spec.build).eval()


@pytest.fixture
def device() -> Device:
    return pick_device()


@pytest.fixture
def quiet() -> Progress:
    return Progress()

"""What the tests of sets share: a folder of small images, and how it is opened."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from byol.data.images import Images
from byol.data.opening import open_data


def write_images(root: Path, count: int, size: tuple[int, int] = (12, 10)) -> NDArray[np.uint8]:
    """Write half of the images into root/a, half into root/b; return all, (count, H, W, 3), in that order."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    for i in range(count):
        path = root / "ab"[i * 2 // count] / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[i]).save(path)
    return pixels


def opened(root: Path, cache: Path) -> Images:
    return open_data(str(root), cache)["train"]

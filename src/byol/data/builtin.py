"""The built-in set, drawn by code from a seed: ten shapes that only invariance can tell apart.

An image is a scatter of one shape. Every copy has its own colour, place, scale and rotation, on a
background of two blended colours with a shallow wave: what the copies share, and so what two crops
of one image share, is the shape. Pixels say next to nothing about it.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from byol.data.images import Packed

Field = NDArray[np.float32]

COPIES = 7
SIDE = 32


def _disc(x: Field, y: Field) -> Field:
    return np.hypot(x, y) - 0.75


def _ring(x: Field, y: Field) -> Field:
    return np.abs(np.hypot(x, y) - 0.7) - 0.2


def _square(x: Field, y: Field) -> Field:
    return np.maximum(np.abs(x), np.abs(y)) - 0.68


def _triangle(x: Field, y: Field) -> Field:
    slope = math.sqrt(3.0) / 2.0
    return np.maximum(slope * np.abs(x) + 0.5 * y, -y) - 0.5


def _plus(x: Field, y: Field) -> Field:
    long, short = np.maximum(np.abs(x), np.abs(y)), np.minimum(np.abs(x), np.abs(y))
    return np.maximum(long - 0.95, short - 0.24)


def _bar(x: Field, y: Field) -> Field:
    return np.maximum(np.abs(x) - 1.1, np.abs(y) - 0.26)


def _star(x: Field, y: Field) -> Field:
    return np.hypot(x, y) - 0.62 - 0.34 * np.cos(5.0 * np.arctan2(y, x))


def _crescent(x: Field, y: Field) -> Field:
    return np.maximum(np.hypot(x, y) - 0.9, 0.75 - np.hypot(x - 0.5, y))


def _corner(x: Field, y: Field) -> Field:
    upright = np.maximum(np.abs(x + 0.55) - 0.25, np.abs(y) - 0.8)
    lying = np.maximum(np.abs(x) - 0.8, np.abs(y - 0.55) - 0.25)
    return np.minimum(upright, lying)


def _pair(x: Field, y: Field) -> Field:
    return np.hypot(np.abs(x) - 0.6, y) - 0.4


SHAPES: dict[str, Callable[[Field, Field], Field]] = {
    "bar": _bar,
    "corner": _corner,
    "crescent": _crescent,
    "disc": _disc,
    "pair": _pair,
    "plus": _plus,
    "ring": _ring,
    "square": _square,
    "star": _star,
    "triangle": _triangle,
}


def open_builtin() -> dict[str, Packed]:
    """Return the built-in set: 10,000 images to learn from and 2,000 others to be judged on."""
    return {
        split: Packed(torch.from_numpy(images), labels, tuple(SHAPES))
        for split, (images, labels) in {"train": draw(10_000, seed=0), "test": draw(2_000, seed=1)}.items()
    }


def draw(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw a balanced set of images.

    Args:
        count: images; class i % 10 for image i.
        seed: of everything that varies.

    Returns:
        Images (count, 3, 32, 32) uint8 and labels (count,) in [0, 10), by the order of `SHAPES`.
    """
    random = np.random.default_rng(seed)
    labels = np.arange(count) % len(SHAPES)
    images = _backgrounds(random, count)
    for _ in range(COPIES):
        # One copy in every image. Radii, places and colours are drawn for all images at once, in
        # this order, so that the set depends on the seed and the count alone.
        radius = random.uniform(3.2, 6.0, count)
        angle = random.uniform(0.0, 2.0 * math.pi, count)
        place = random.uniform(0.0, SIDE, (2, count))
        colour = random.uniform(0.0, 1.0, (count, 3))
        for label, shape in enumerate(SHAPES.values()):
            mine = labels == label
            cover = _cover(shape, radius[mine], angle[mine], place[:, mine])
            images[mine] += cover[:, None] * (colour[mine, :, None, None] - images[mine])
    return (images * 255.0).round().astype(np.uint8), labels.astype(np.int64)


def _cover(
    shape: Callable[[Field, Field], Field],
    radius: NDArray[np.float64],
    angle: NDArray[np.float64],
    place: NDArray[np.float64],
) -> Field:
    """Return how much of each pixel (count, 32, 32) a copy covers, in [0, 1]: edges one pixel soft."""
    grid = np.arange(SIDE, dtype=np.float32) + 0.5
    dx = grid[None, None, :] - place[0].astype(np.float32)[:, None, None]
    dy = grid[None, :, None] - place[1].astype(np.float32)[:, None, None]
    scale = radius.astype(np.float32)[:, None, None]
    cos, sin = (f(angle).astype(np.float32)[:, None, None] / scale for f in (np.cos, np.sin))
    distance = shape(cos * dx + sin * dy, cos * dy - sin * dx) * scale  # in pixels, near the edge
    return np.clip(0.5 - distance, 0.0, 1.0)


def _backgrounds(random: np.random.Generator, count: int) -> Field:
    """Return images (count, 3, 32, 32) in [0, 1]: two colours blended along a wave of any direction."""
    ends = random.uniform(0.0, 1.0, (2, count, 3, 1, 1)).astype(np.float32)
    direction, phase = random.uniform(0.0, 2.0 * math.pi, (2, count, 1, 1)).astype(np.float32)
    length = random.uniform(24.0, 96.0, (count, 1, 1)).astype(np.float32)
    grid = np.arange(SIDE, dtype=np.float32)
    along = np.cos(direction) * grid[None, None, :] + np.sin(direction) * grid[None, :, None]
    blend = 0.5 + 0.5 * np.sin(2.0 * math.pi * along / length + phase)
    mixed: Field = ends[0] + blend[:, None] * (ends[1] - ends[0])
    return mixed

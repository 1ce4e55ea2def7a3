"""The built-in set, drawn by code from a seed: ten wallpapers in two colors each.

The class is the motif that is repeated. Colors, place, scale and rotation vary freely, so that
raw pixels say little about it and a random network not much more. What two crops of a wallpaper
share, once color is jittered away, is the motif.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from byol.data.images import InMemory

Field = NDArray[Any]  # float32 (count, 32, 32): a number per pixel

SIDE = 32
PERIOD = (7.0, 9.0)  # pixels from one motif to the next
CONTRAST = (0.5, 0.8)  # between the two colors, in luminance
NOISE = 0.02  # standard deviation, in units of [0, 1]
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)

# A motif maps coordinates (u, v), in periods, to the distance from its edge, in periods: negative inside.


def _bars(u: Field, v: Field) -> Field:
    return np.abs(_cell(u)) - 0.25


def _checks(u: Field, v: Field) -> Field:
    x, y = _cell(u), _cell(v)
    distance: Field = -np.sign(x * y) * np.minimum(np.abs(x), np.abs(y))
    return distance


def _dots(u: Field, v: Field) -> Field:
    return np.hypot(_cell(u), _cell(v)) - 0.3


def _rings(u: Field, v: Field) -> Field:
    return np.abs(np.hypot(_cell(u), _cell(v)) - 0.32) - 0.09


def _grid(u: Field, v: Field) -> Field:
    return np.minimum(np.abs(_cell(u)), np.abs(_cell(v))) - 0.1


def _zigzag(u: Field, v: Field) -> Field:
    return np.abs(_cell(v + 1.4 * np.abs(_cell(u)))) - 0.22


def _dashes(u: Field, v: Field) -> Field:
    return np.maximum(np.abs(_cell(u)) - 0.12, np.abs(_cell(v)) - 0.36)


def _crosses(u: Field, v: Field) -> Field:
    x, y = np.abs(_cell(u)), np.abs(_cell(v))
    return np.maximum(np.maximum(x, y) - 0.4, np.minimum(x, y) - 0.12)


def _triangles(u: Field, v: Field) -> Field:
    x, y = _cell(u), _cell(v)
    return np.maximum(0.87 * np.abs(x) + 0.5 * y, -y) - 0.2


def _ripples(u: Field, v: Field) -> Field:
    return np.abs(_cell(np.hypot(3.0 * _cell(u / 3.0), 3.0 * _cell(v / 3.0)))) - 0.22


MOTIFS: dict[str, Callable[[Field, Field], Field]] = {
    "bars": _bars,
    "checks": _checks,
    "crosses": _crosses,
    "dashes": _dashes,
    "dots": _dots,
    "grid": _grid,
    "rings": _rings,
    "ripples": _ripples,
    "triangles": _triangles,
    "zigzag": _zigzag,
}


def open_builtin() -> dict[str, InMemory]:
    """Return the built-in set: 10,000 images to learn from and 2,000 others to be judged on."""
    return {
        split: InMemory(torch.from_numpy(images), labels, tuple(MOTIFS))
        for split, (images, labels) in {"train": draw(10_000, seed=0), "test": draw(2_000, seed=1)}.items()
    }


def draw(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw a balanced set of images.

    Args:
        count: images; class i % 10 for image i.
        seed: of everything that varies.

    Returns:
        Images (count, 3, 32, 32) uint8 and labels (count,) in [0, 10), in the order of `MOTIFS`.
    """
    random = np.random.default_rng(seed)
    labels = np.arange(count) % len(MOTIFS)
    u, v, period = _coordinates(random, count)
    cover = np.empty((count, SIDE, SIDE), np.float32)
    for label, motif in enumerate(MOTIFS.values()):
        mine = labels == label
        distance = motif(u[mine], v[mine]) * period[mine]  # in pixels, near the edge
        cover[mine] = np.clip(0.5 - distance, 0.0, 1.0)  # edges one pixel soft
    paper, ink = _colors(random, count)
    images = paper + cover[:, None] * (ink - paper)
    images += random.normal(0.0, NOISE, images.shape).astype(np.float32)
    return (images.clip(0.0, 1.0) * 255.0).round().astype(np.uint8), labels.astype(np.int64)


def _cell(x: Field) -> Field:
    """Return x modulo 1, in [-0.5, 0.5): the place inside a cell, from its middle."""
    return x - np.floor(x) - 0.5


def _coordinates(random: np.random.Generator, count: int) -> tuple[Field, Field, Field]:
    """Return u and v of every pixel, in periods, and the period in pixels (count, 1, 1)."""
    angle = random.uniform(0.0, 2.0 * math.pi, (count, 1, 1)).astype(np.float32)
    period = random.uniform(*PERIOD, (count, 1, 1)).astype(np.float32)
    shift = random.uniform(0.0, 1.0, (2, count, 1, 1)).astype(np.float32)
    pixel = np.arange(SIDE, dtype=np.float32) + 0.5
    x, y = pixel[None, None, :], pixel[None, :, None]
    u = (np.cos(angle) * x + np.sin(angle) * y) / period + shift[0]
    v = (np.cos(angle) * y - np.sin(angle) * x) / period + shift[1]
    return u, v, period


def _colors(random: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Return paper and ink (2, count, 3, 1, 1) in [0, 1]: any two colors, moved apart to a contrast."""
    colors = random.uniform(0.0, 1.0, (2, count, 3)).astype(np.float32)
    difference = (colors[1] - colors[0]) @ _LUMINANCE
    wanted = np.sign(difference) * random.uniform(*CONTRAST, count).astype(np.float32)
    move = np.stack([difference - wanted, wanted - difference])[..., None] / 2.0
    apart: NDArray[np.float32] = (colors + move).clip(0.0, 1.0)[..., None, None]
    return apart

import math

import numpy as np
import torch
from numpy.typing import NDArray

from byol.data.image.histograms import Histograms


def slowly(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same for one image (C, S, S), pixel by pixel; S is a multiple of 4."""
    channels, size, _ = image.shape
    colors = np.zeros((channels, 8, 2, 2))
    edges = np.zeros((8, 4, 4))
    gray = image.mean(axis=0)
    for y in range(size):
        for x in range(size):
            for c in range(channels):
                colors[c, min(7, int(image[c, y, x] * 8)), 2 * y // size, 2 * x // size] += 4 / size**2
            dx = gray[y, min(size - 1, x + 1)] - gray[y, max(0, x - 1)]
            dy = gray[min(size - 1, y + 1), x] - gray[max(0, y - 1), x]
            direction = (math.atan2(dy, dx) % math.tau) / math.tau * 8
            low, part = int(direction) % 8, direction - int(direction)
            for number, share in ((low, 1 - part), ((low + 1) % 8, part)):
                edges[number, 4 * y // size, 4 * x // size] += share * math.hypot(dx, dy) * 16 / size**2
    edges = np.sqrt(edges / (edges.sum(axis=0) + 1e-2)).ravel()
    by_bin = np.sqrt(colors.transpose(1, 0, 2, 3)).ravel()
    return np.concatenate([by_bin / np.linalg.norm(by_bin), edges / np.linalg.norm(edges)])


def test_histograms_equal_a_count_of_each_pixel() -> None:
    random = np.random.default_rng(0)
    images = random.random((3, 2, 12, 12))
    found = Histograms()(torch.from_numpy(images)).numpy()
    assert found.shape == (3, 32 * 2 + 128)
    for row, image in zip(found, images, strict=True):
        np.testing.assert_allclose(row, slowly(image), rtol=0, atol=1e-12)  # float64, sums of 36 numbers


def test_an_image_without_an_edge_has_a_finite_row() -> None:
    rows = Histograms()(torch.full((1, 3, 5, 5), 1.0))
    assert rows.shape == (1, 224)
    assert torch.isfinite(rows).all()
    assert rows[:, 96:].eq(0).all()

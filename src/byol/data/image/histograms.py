"""What colors and edges an image has and roughly where: as far as one gets without learning anything."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_COLORS, _COLOR_CELLS = 8, 2
_DIRECTIONS, _EDGE_CELLS = 8, 4


class Histograms(nn.Module):
    """An encoder that learns nothing: histograms of colors and of gradients, in cells of the image.

    Of every channel how often each of 8 brightnesses occurs, in 2 x 2 cells; of the gradient of the mean
    channel how much of it points into each of 8 directions, in 4 x 4 cells. Square roots are taken, so that a
    cosine of two images is the likeness of their histograms (Bhattacharyya); colors and gradients weigh the
    same.

    Source: a choice, after color histograms (Swain and Ballard 1991) and histograms of oriented gradients
    (Dalal and Triggs 2005).
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, 32 C + 128) of images (B, C, S, S) in [0, 1]."""
        return torch.cat([_unit(_colors(images)), _unit(_gradients(images))], dim=1)


def _colors(images: Tensor) -> Tensor:
    bins = (images * _COLORS).long().clamp(0, _COLORS - 1)
    each = [(bins == number).to(images.dtype) for number in range(_COLORS)]
    return F.adaptive_avg_pool2d(torch.cat(each, dim=1), _COLOR_CELLS).flatten(1).sqrt()


def _gradients(images: Tensor) -> Tensor:
    gray = F.pad(images.mean(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    x = gray[:, :, 1:-1, 2:] - gray[:, :, 1:-1, :-2]
    y = gray[:, :, 2:, 1:-1] - gray[:, :, :-2, 1:-1]
    size, direction = torch.hypot(x, y), torch.atan2(y, x) * (_DIRECTIONS / math.tau)
    # A gradient between two directions is shared by both.
    numbers = torch.arange(_DIRECTIONS, dtype=images.dtype, device=images.device).view(1, -1, 1, 1)
    away = (direction - numbers).remainder(_DIRECTIONS)
    shares = (1 - torch.minimum(away, _DIRECTIONS - away)).clamp_min(0.0)
    cells = F.adaptive_avg_pool2d(size * shares, _EDGE_CELLS)
    return (cells / (cells.sum(dim=1, keepdim=True) + 1e-2)).flatten(1).sqrt()


def _unit(rows: Tensor) -> Tensor:
    return F.normalize(rows, dim=1)

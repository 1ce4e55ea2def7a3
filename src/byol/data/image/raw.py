"""What images say by themselves, which every encoder of images has to beat."""

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F


class Unlearned(NamedTuple):
    """An encoder that learns nothing.

    Args:
        name: what a person calls it.
        key: what its scores are filed under.
        encoder: maps images (B, C, S, S) in [0, 1], not normalized, to (B, D).
    """

    name: str
    key: str
    encoder: nn.Module


class RawPixels(nn.Module):
    """An encoder that learns nothing: images shrunk to 16 x 16 by averaging, each image's mean removed."""

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, 256 C) of images (B, C, S, S) in [0, 1]."""
        flat = F.adaptive_avg_pool2d(images, 16).flatten(1)
        return flat - flat.mean(dim=1, keepdim=True)

"""Features of a whole image set, and the raw pixels that every encoder has to beat."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from byol.data.images import Files, Packed, central

Encode = Callable[[Tensor], Tensor]


@torch.no_grad()
def features(
    encode: Encode,
    images: Packed | Files,
    indices: NDArray[np.int64],
    size: int,
    batch_size: int = 512,
    crop_share: float = 1.0,
) -> tuple[Tensor, NDArray[np.int64]]:
    """Return what an encoder makes of some images of a set.

    Args:
        encode: maps (B, 3, size, size) in [0, 1] on the CPU to (B, D) on any device.
        images: the set.
        indices: which images (N,).
        size: side of the centre crops.
        batch_size: images at once.
        crop_share: of the shorter side that the crops keep, in (0, 1].

    Returns:
        Features float32 (M, D) on the CPU and the indices (M,) they belong to; M < N where files
        could not be decoded.
    """
    rows, kept = [], []
    for start in range(0, len(indices), batch_size):
        crops, readable = central(images, indices[start : start + batch_size], size, crop_share)
        if len(readable):
            rows.append(encode(crops).float().cpu())
            kept.append(readable)
    return torch.cat(rows), np.concatenate(kept)


def pixels(images: Tensor) -> Tensor:
    """Return raw pixels as features: shrunk to 16 x 16 by averaging, each image's mean removed, (B, 768)."""
    flat = F.adaptive_avg_pool2d(images, 16).flatten(1)
    return flat - flat.mean(dim=1, keepdim=True)

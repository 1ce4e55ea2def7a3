"""Is the representation alive? Two numbers that need no labels."""

import math

import torch
from torch import Tensor

from byol.objective import unit


def feature_spread(features: Tensor) -> float:
    """Return how far a batch's directions are spread: 1 in all directions alike, 0 collapsed.

    sqrt(D) times the standard deviation of the unit features, averaged over the D columns. Unit
    vectors of uniformly random direction have a standard deviation of 1 / sqrt(D) in each column.

    Args:
        features: (B, D), B at least 2.

    Source: SimSiam (2011.10566), section 4.1.
    """
    directions = unit(features)
    spread: float = directions.std(dim=0, correction=0).mean().item()
    return spread * math.sqrt(directions.shape[1])


def effective_rank(features: Tensor) -> float:
    """Return the exponential of the entropy of the centered features' normalized singular values.

    Args:
        features: (B, D).

    Returns:
        In [1, min(B - 1, D)]; 1 when the features lie on a line, or on a point.

    Source: Roy and Vetterli 2007, "The effective rank".
    """
    centered = features.double() - features.double().mean(dim=0)
    gram = centered @ centered.T if len(centered) < centered.shape[1] else centered.T @ centered
    singular = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
    fractions = singular / singular.sum().clamp_min(1e-30)
    return float(torch.special.entr(fractions).sum().exp())

"""Equation 2 of the paper and nothing else."""

import torch
from torch import Tensor


def regression_loss(prediction: Tensor, target_projection: Tensor) -> Tensor:
    """Squared distance of the unit prediction and the unit target projection, 2 - 2cos, per image.

    Computed in float32 at least: in half precision the norm's square underflows long before the
    vector does. A vector of zeros counts as orthogonal to everything (loss 1 for a zero vector
    against a unit one, as in the official code) instead of dividing by zero.

    Args:
        prediction: q(z), (B, P), any floating type.
        target_projection: z' of the other view, (B, P); the caller stops its gradient.

    Returns:
        (B,) in [0, 4], float32 or float64.

    Source: BYOL (2006.07733), Eq. 2; official `utils/helpers.py:74-82, 109-112`, whose
        normalization is x * rsqrt(max(sum(x^2), 1e-12)).
    """
    return (unit(prediction) - unit(target_projection)).square().sum(dim=-1)


def unit(x: Tensor) -> Tensor:
    """Scale the rows of x (..., D) to length 1, in float32 at least; rows near zero stay near zero."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return x * x.square().sum(dim=-1, keepdim=True).clamp_min(1e-12).rsqrt()

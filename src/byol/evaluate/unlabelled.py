"""How good a representation is, as far as features show it without labels.

Measures of a matrix of features (N, D): none of them sees a class. docs/unlabelled.md says how well each of
them agrees with kNN in our own runs. `feature_spread` and `effective_rank` stand in `spread`.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from byol.data.image.preprocessing import Preprocessing
from byol.data.image.views import TwoViews
from byol.data.images import Images
from byol.data.loader import batches
from byol.data.order import permutation
from byol.errors import UserError
from byol.evaluate.features import Encode, features
from byol.evaluate.spread import effective_rank, feature_spread
from byol.objective import unit

# Ranks whose eigenvalues alpha_req fits. A choice, as are its weights: the first few eigenvalues follow no
# law, and the last ones are noise of the sample.
_FIRST_RANK, _LAST_RANK = 4, 100

_CHUNK = 1024  # rows whose distances to all others are in memory at once
_BATCH = 512  # images whose views are in memory at once


@dataclass(frozen=True, kw_only=True)
class Unlabelled:
    """Measures of a representation that need no labels.

    Args:
        feature_spread: of the directions, 1 spread evenly, 0 collapsed.
        effective_rank: of the centered features, in [1, D].
        rankme: of the features as they are, in [1, D].
        alpha_req: how fast the covariance's eigenvalues fall, 0 not at all.
        alignment: mean squared distance of two views of an image, in [0, 4]; lower is closer.
        uniformity: in [-8, 0]; lower is more uniform.
        num_images: whose features were measured.
    """

    feature_spread: float
    effective_rank: float
    rankme: float
    alpha_req: float
    alignment: float
    uniformity: float
    num_images: int


def unlabelled(
    encode: Encode,
    images: Images,
    preprocessing: Preprocessing,
    *,
    views: TwoViews | None = None,
    at_most: int = 10_000,
    seed: int = 0,
) -> Unlabelled:
    """Measure an encoder on images without their labels.

    Alignment is that of two random views, over whole batches of 512; everything else is measured on center
    crops. The same seed gives the same images and views to every encoder.

    Args:
        encode: maps prepared images (B, C, S, S) on the CPU to (B, D) on any device.
        images: the set.
        preprocessing: how they are prepared; the views have its size, mean and std.
        views: how the two views are drawn, by default as in the paper; size, mean and std are not used.
        at_most: images that are used, drawn at random; at least 2.
        seed: of the images and of the views.

    Raises:
        UserError: there are fewer than 2 images, or features are not finite.
    """
    chosen = permutation(seed, 0, len(images))[:at_most]
    if len(chosen) < 2:
        raise UserError(f"there are {len(chosen)} images to measure; give at least 2.")
    rows, _ = features(encode, images, np.sort(chosen), preprocessing)
    _refuse(rows)
    drawn = replace(
        views or TwoViews(),
        size=preprocessing.size,
        mean=preprocessing.mean,
        std=preprocessing.std,
    )
    batch_size = min(_BATCH, len(chosen))
    epoch = batches(
        images,
        drawn,
        batch_size=batch_size,
        seed=seed,
        first_step=0,
        total_steps=len(chosen) // batch_size,
        workers=0,
        device=torch.device("cpu"),
        among=chosen,
    )
    pairs = []
    with torch.no_grad():
        for batch in epoch:
            pairs.append([encode(view).float().cpu() for view in batch.views])
    first, second = (torch.cat(view) for view in zip(*pairs, strict=True))
    return Unlabelled(
        feature_spread=feature_spread(rows),
        effective_rank=effective_rank(rows),
        rankme=rankme(rows),
        alpha_req=alpha_req(rows),
        alignment=alignment(first, second),
        uniformity=uniformity(rows),
        num_images=len(rows),
    )


def rankme(features: Tensor) -> float:
    """Return the exponential of the entropy of the features' normalized singular values, not centered.

    Args:
        features: (N, D), N at least 2.

    Returns:
        In [1, min(N, D)] but for the paper's epsilon of 1e-7, which adds less than 0.2 % per 1,000 columns.

    Raises:
        UserError: there are fewer than 2 rows, or some are not finite.

    Source: RankMe (2210.02885), Eq. 1 and 2 of section 3.
    """
    _refuse(features)
    singular = _squared_singular_values(features.double()).sqrt()
    fractions = singular / singular.sum().clamp_min(1e-300) + 1e-7
    return float(torch.special.entr(fractions).sum().exp())


def alpha_req(features: Tensor) -> float:
    """Return alpha of the power law that the covariance's eigenvalues follow: rank to the power of -alpha.

    A line is fitted to log eigenvalue over log rank by least squares, weighted by 1 / rank so that every
    octave counts alike, over the ranks 4 to 100, as far as there are eigenvalues above rounding. Ranks and
    weights are a choice: the official code was not at hand.

    Args:
        features: (N, D), N at least 2.

    Returns:
        0 when all directions vary alike, about 1 in the paper's best encoders, more when few directions
        matter; inf when there are fewer than two eigenvalues to fit.

    Raises:
        UserError: there are fewer than 2 rows, or some are not finite.

    Source: alpha-ReQ, Agrawal et al. 2022; the weights are those of Stringer et al. 2019.
    """
    _refuse(features)
    centered = features.double() - features.double().mean(dim=0)
    eigenvalues = _squared_singular_values(centered)
    rounding = eigenvalues[0] * max(features.shape) * torch.finfo(torch.float64).eps
    fitted = eigenvalues[eigenvalues > rounding][_FIRST_RANK - 1 : _LAST_RANK]
    if len(fitted) < 2:
        return math.inf
    ranks = torch.arange(_FIRST_RANK, _FIRST_RANK + len(fitted), device=fitted.device).double()
    weights = ranks.reciprocal() / ranks.reciprocal().sum()
    x, y = ranks.log(), fitted.log()
    x = x - (weights * x).sum()
    return -float((weights * x * y).sum() / (weights * x * x).sum())


def alignment(a: Tensor, b: Tensor) -> float:
    """Return the mean squared distance of the unit features of two views of the same images.

    Args:
        a: features of one view (N, D), N at least 2.
        b: features of the other view (N, D).

    Returns:
        In [0, 4]: 0 where both views are one, 2 where they are orthogonal.

    Raises:
        UserError: there are fewer than 2 rows, or some are not finite.

    Source: Wang and Isola (2005.10242), section 4.2, with their alpha = 2.
    """
    _refuse(a)
    _refuse(b)
    return float((unit(a.double()) - unit(b.double())).square().sum(dim=1).mean())


def uniformity(features: Tensor, t: float = 2.0) -> float:
    """Return the logarithm of the mean of exp(-t distance^2) over all pairs of unit features.

    Every pair counts; 1024 rows at a time are compared with all others, so memory grows with N alone.

    Args:
        features: (N, D), N at least 2.
        t: above 0.

    Returns:
        In [-4 t, 0]: 0 when all directions are one, about -2 t when they are spread evenly over many columns.

    Raises:
        UserError: there are fewer than 2 rows, or some are not finite.

    Source: Wang and Isola (2005.10242), section 4.2.
    """
    _refuse(features)
    rows = unit(features.double())
    squared = rows.square().sum(dim=1)  # 1, or 0 for a row of zeros
    total = rows.new_zeros(())
    for start in range(0, len(rows), _CHUNK):
        stop = start + _CHUNK
        distances = squared[start:stop, None] + squared[start:] - 2 * rows[start:stop] @ rows[start:].T
        total += distances.mul_(-t).exp_().triu_(diagonal=1).sum()
    return float((total / (len(rows) * (len(rows) - 1) / 2)).log())


def _squared_singular_values(x: Tensor) -> Tensor:
    """Return the squared singular values of x (N, D), the largest first, (min(N, D),)."""
    gram = x @ x.T if len(x) < x.shape[1] else x.T @ x
    eigenvalues: Tensor = torch.linalg.eigvalsh(gram)
    return eigenvalues.clamp_min(0).flip(0)


def _refuse(features: Tensor) -> None:
    """Stop at features (N, D) that nothing can be measured of."""
    if len(features) < 2:
        raise UserError(f"there are {len(features)} rows of features; give those of at least 2 images.")
    num_bad = int((~features.isfinite()).any(dim=1).sum())
    if num_bad:
        raise UserError(
            f"{num_bad} of {len(features)} rows of features are not finite: look at these images' features, "
            "or at the encoder's weights."
        )

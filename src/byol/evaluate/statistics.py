"""How sure a number is: resampled images, and the tests of a paired difference.

N images. Nothing here knows what the number is: it is a function of the indices of some images, and is not a
number (NaN) where it is not defined of them.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]

RESAMPLES = 2_000


def bootstrap(
    of: Callable[[Indices], float], count: int, seed: int = 0, resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """Return a number of sets drawn with replacement from N images, (resamples,) or fewer.

    Sets of which the number is not defined are left out.

    Args:
        of: the number of the images with given indices, which may repeat.
        count: N.
        seed: of the draws; numbers of the same images with the same seed see the same draws.
        resamples: number of sets.

    Source: Efron and Tibshirani 1993, the nonparametric bootstrap.
    """
    random = np.random.default_rng((seed, 3))
    values = (of(random.integers(0, count, count)) for _ in range(resamples))
    return np.array([value for value in values if not math.isnan(value)])


def interval(resampled: NDArray[np.float64]) -> tuple[float, float]:
    """Return the percentile 95 % interval of resampled numbers: 2.5 % lie below it and 2.5 % above."""
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(low), float(high)


def beyond_zero(resampled: NDArray[np.float64]) -> float:
    """Return the two-sided p of a difference: twice the fraction of resamples on the rarer side of 0."""
    rarer = min((resampled <= 0).sum(), (resampled >= 0).sum())
    return float(min(1.0, 2 * (rarer + 1) / (len(resampled) + 1)))


def swap_test(gains: NDArray[np.float64], seed: int = 0, swaps: int = 10_000) -> float:
    """Return the two-sided p of a sum of paired differences, by swapping the sides of each pair at random.

    Args:
        gains: (N,) what the first has more than the second, per image.
        seed: of the swaps.
        swaps: number of random swaps; none are drawn where all differences have one size, because the
            binomial distribution is exact there (McNemar's test).
    """
    gains = gains[np.abs(gains) > 1e-12]
    if len(gains) == 0:
        return 1.0
    if np.ptp(np.abs(gains)) < 1e-12:
        return _binomial_p(int((gains > 0).sum()), len(gains))
    random = np.random.default_rng((seed, 4))
    observed, beyond = abs(gains.sum()), 0
    for start in range(0, swaps, 1_000):
        signs = random.integers(0, 2, (min(1_000, swaps - start), len(gains)), dtype=np.int8)
        beyond += int((np.abs((2.0 * signs - 1) @ gains) >= observed - 1e-12).sum())
    return (beyond + 1) / (swaps + 1)


def sample_std(values: list[float]) -> float | None:
    """Return the standard deviation of a sample (divided by one less than its size); None below two."""
    if len(values) < 2:
        return None
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return float(variance**0.5)


def _binomial_p(successes: int, trials: int) -> float:
    """Return the two-sided p of a number of successes whose probability is one half."""
    tail = max(successes, trials - successes)
    logs = [
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) - trials * math.log(2)
        for k in range(tail, trials + 1)
    ]
    return min(1.0, 2 * math.fsum(math.exp(log) for log in logs))

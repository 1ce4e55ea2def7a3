"""Random numbers that are a function of what they are for: (seed, step, image, view, column).

A generator hands out numbers in order, so an image's augmentation would depend on the images before it, on
the number of workers and on what was drawn before a restart. Here a number is a hash of its coordinates, and
none of this matters. B is the batch size.
"""

import numpy as np
from numpy.typing import NDArray

# SplitMix64: the increment of its counter, then the two multipliers of its finalizer.
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIER_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLIER_2 = np.uint64(0x94D049BB133111EB)


Steps = int | NDArray[np.int64]  # of a batch, or (B,) one for each of its rows


def uniforms(seed: int, step: Steps, index: NDArray[np.int64], view: int, count: int) -> NDArray[np.float32]:
    """Return `count` numbers, uniform in [0, 1), for each image of a batch.

    The first columns do not depend on `count`, and a row depends on its own index alone.

    Args:
        seed: the run's seed; any integer, taken modulo 2**64.
        step: the optimizer step, >= 0; or (B,) int64, a number for each image (see `order.Order`).
        index: (B,) int64, each image's position in its data set.
        view: which of the image's views, 0, 1, ....
        count: how many numbers each image needs.

    Returns:
        (B, count) float32, multiples of 2**-24 in [0, 1).

    Source: Steele, Lea & Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014 (SplitMix64).
    """
    assert index.ndim == 1, index.shape
    state = _mix(_word(seed))  # (1,)
    state = _mix(
        state ^ (step.astype(np.uint64) if isinstance(step, np.ndarray) else _word(step))
    )  # (1,) or (B,)
    state = _mix(state ^ index.astype(np.uint64))  # (B,)
    state = _mix(state ^ _word(view))
    bits = _mix(state[:, None] ^ np.arange(count, dtype=np.uint64))  # (B, count)
    # float32 holds 24 bits exactly; more would round the largest ones up to 1.
    return (bits >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)


def _word(number: int) -> NDArray[np.uint64]:
    # An array and not a scalar: numpy warns of overflow in scalars, and wrapping round is what we are after.
    return np.array([number % 2**64], dtype=np.uint64)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = z + _GAMMA
    z = (z ^ (z >> np.uint64(30))) * _MULTIPLIER_1
    z = (z ^ (z >> np.uint64(27))) * _MULTIPLIER_2
    return z ^ (z >> np.uint64(31))

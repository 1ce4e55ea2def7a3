"""The order of images: a function of seed and epoch alone, so there is nothing to save."""

import numpy as np
from numpy.typing import NDArray


def permutation(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    """Return the order of `length` images in an epoch, (length,) int64, a function of its arguments alone."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, epoch))))
    return generator.permutation(length)

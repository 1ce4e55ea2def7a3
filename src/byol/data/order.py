"""Which images a step shows: the orders of the epochs laid one after the other, cut into batches.

All of it is a function of seed, step and sizes, so there is nothing to save. B is the batch size, N the
number of images.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_NEXT_EPOCH = 1 << 32  # more than any number of steps


def permutation(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    """Return the order of `length` images in an epoch, (length,) int64, a function of its arguments alone."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, epoch))))
    return generator.permutation(length)


def num_steps(epochs: float, num_images: int, batch_size: int) -> int:
    """Return the steps of some epochs, rounded down, as the official code counts those of run and warm-up.

    Source: deepmind-research `byol/configs/byol.py:36, 64`.
    """
    if isinstance(epochs, int):
        return epochs * num_images // batch_size
    return int(round(epochs * num_images, 6) // batch_size)  # 0.29 * 100 is a hair below 29


@dataclass(frozen=True, eq=False)
class Order:
    """The batches of a run. No image is dropped: a batch may begin in one epoch and end in the next.

    An image can therefore stand in a batch twice, and each row has a number under which its views are drawn:
    the step, or another one that is no step's for rows of the epoch that begins within the batch.

    Args:
        seed: of the run.
        length: N.
        batch_size: B, in [1, N].

    Source: deepmind-research `byol/utils/dataset.py:99`, which repeats the set before it cuts batches.
    """

    seed: int
    length: int
    batch_size: int
    _drawn: dict[int, NDArray[np.int64]] = field(default_factory=dict, init=False, repr=False)

    def batch(
        self, step: int, rank: int = 0, world_size: int = 1
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return a process's part of a batch: positions of the images and numbers to draw by.

        Args:
            step: of the optimizer, from 0.
            rank: number of the process.
            world_size: processes that share the batch, in equal and contiguous parts.

        Returns:
            Positions (B / world_size,) int64 in [0, N); and as many numbers, which are `step` in the `epoch`.
        """
        assert 1 <= self.batch_size <= self.length, (self.batch_size, self.length)
        count = self.batch_size // world_size
        first = step * self.batch_size
        epochs, positions = np.divmod(first + rank * count + np.arange(count), self.length)
        index = np.concatenate(
            [self._epoch(epoch)[positions[epochs == epoch]] for epoch in np.unique(epochs).tolist()]
        )
        return index, step + _NEXT_EPOCH * (epochs - first // self.length)

    def _epoch(self, epoch: int) -> NDArray[np.int64]:
        """Return the order of an epoch, drawn once where steps follow each other."""
        if epoch not in self._drawn:
            while len(self._drawn) > 1:
                del self._drawn[min(self._drawn)]
            self._drawn[epoch] = permutation(self.seed, epoch, self.length)
        return self._drawn[epoch]

"""What the loader asks of a set and of its views; no pixel in it.

A set has N items, a batch B. Whatever is random in a view is a function of (seed, step, index), so there is
nothing to save and nothing depends on who cuts it out or beside what. For images of an epoch that begins
within a batch, `step` is another number than the step's: see `order.Order`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from byol.data.identity import Identity
from byol.data.unreadable import Bad

Indices = NDArray[np.int64]


class Items(Protocol):
    """A set of things to learn from, whatever they are."""

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """(N,) int64, numbers of `classes`; (N, C) of 0 and 1 for any number of labels an item; or None."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the C classes; empty without labels."""
        ...

    @property
    def bad(self) -> tuple[Bad, ...]:
        """Items that were found unreadable when the set was opened, and are not in it."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person has to know of how the set was found: a sentence each."""
        ...

    @property
    def in_memory(self) -> bool:
        """Whether all items are in memory, so that no worker has to read them ahead."""
        ...

    def __len__(self) -> int: ...

    def name(self, i: int) -> str:
        """Return what item i is called."""
        ...

    def digest(self) -> str:
        """Return a hex digest of items and labels, the same wherever the set lies."""
        ...

    def identity(self) -> Identity:
        """Return which items these are, wherever the set lies and whether in memory or in files."""
        ...

    def near(self, device: torch.device) -> Self:
        """Return the same set, made ready to be cut on a device where that helps."""
        ...


@dataclass(frozen=True, eq=False)
class Crops:
    """What is cut out of the items of a batch, before it is finished.

    Args:
        index: (B,) int64, positions in the set of the items that could be read.
        tensors: of each view, (B, ...).
        bad: the items that could not be read; nothing of them is in the others.
    """

    index: Indices
    tensors: tuple[Tensor, ...]
    bad: tuple[Bad, ...] = ()


ItemsT = TypeVar("ItemsT", bound=Items, contravariant=True)


class Views(Protocol[ItemsT]):
    """Which views of an item there are, and how they are made in two parts.

    Cutting reads items and happens where they are, in a worker if they are not in memory. Finishing works on
    a batch, and happens on the device of the networks or, where that is the CPU, in the worker too.
    """

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each view of one item, such as (C, S, S)."""
        ...

    @property
    def channels(self) -> int:
        """C, the first side of every view."""
        ...

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Which view predicts which: (predicting, target) each."""
        ...

    def cut(self, images: ItemsT, seed: int, step: int, index: Indices) -> Crops:
        """Read items and cut their views out.

        Args:
            images: the set.
            seed: the run's seed.
            step: the optimizer step.
            index: (B,) which items.
        """
        ...

    def finish(
        self,
        crops: Sequence[Tensor],
        seed: int,
        step: int,
        index: Indices,
        device: torch.device | None = None,
    ) -> tuple[Tensor, ...]:
        """Make views out of what was cut; an item's do not depend on the batch around it.

        Args:
            crops: of each view, (B, ...), as `cut` gives them.
            seed: the run's seed.
            step: the optimizer step.
            index: (B,) positions of the items in their set.
            device: where the views are made; by default where the crops are.

        Returns:
            Of each view (B, *shape).
        """
        ...

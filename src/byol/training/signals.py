"""What a run measures of itself while it learns. A new signal is a function and a line of `SIGNALS`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from byol.algorithm import Branch, Online
from byol.evaluate.spread import effective_rank, feature_spread


@dataclass(frozen=True, eq=False)
class Moment:
    """A step that is recorded, as a signal sees it.

    Args:
        losses: (n,) of the n steps since the last record, means over all processes.
        branch: of the newest step's first view, the rows of all processes: representation (B, D) and
            projection (B, P).
        online: the network, with the gradients of the newest step.
    """

    losses: Tensor
    branch: Branch
    online: Online


@dataclass(frozen=True)
class Signal:
    """A number that is recorded along a run.

    Args:
        name: under which it is recorded.
        unit: in which it is, in words, with its range.
        of: measures it. It may wait for the device, draws no random number and changes nothing.
    """

    name: str
    unit: str
    of: Callable[[Moment], float]


def loss(moment: Moment) -> float:
    """Return the mean loss since the last record."""
    return moment.losses.mean().item()


def gradient_norm(moment: Moment) -> float:
    """Return the Euclidean norm of all gradients of the online network."""
    gradients = [p.grad for p in moment.online.parameters() if p.grad is not None]
    norm: float = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))).item()
    return norm


SIGNALS = (
    Signal("loss", "in [0, 8], 4 for unrelated directions", loss),
    Signal(
        "feature_spread",
        "of the projections: 1 in all directions alike, 0 collapsed",
        lambda moment: feature_spread(moment.branch.projection),
    ),
    Signal(
        "effective_rank",
        "of the representations, in dimensions",
        lambda moment: effective_rank(moment.branch.representation),
    ),
    Signal("gradient_norm", "of the newest step, over all weights that learn", gradient_norm),
)


def measure(moment: Moment, signals: Iterable[Signal] = SIGNALS) -> dict[str, float]:
    """Return what the signals say of a moment, name -> number."""
    return {signal.name: signal.of(moment) for signal in signals}

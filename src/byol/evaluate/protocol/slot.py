"""What a protocol is: an encoder and a task in, scores of the judged images out.

A protocol is a frozen dataclass with its settings as fields. All that it chooses, it chooses on a part of the
training images that is held out for it; the judged images are looked at once, at the end. N training images,
M judged ones, C classes.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from byol.evaluate.metrics import Scores
from byol.evaluate.task import Task
from byol.system.device import Device
from byol.system.progress import Progress
from byol.weights.pretrained import Pretrained


@dataclass(frozen=True)
class Context:
    """Where and with which seed an evaluation runs.

    Args:
        device: of the encoder.
        progress: shows how far it is.
        seed: of all draws.
    """

    device: Device
    progress: Progress
    seed: int


@dataclass(frozen=True, eq=False)
class Outcome:
    """The scores that a protocol gives the judged images with one encoder.

    Args:
        positions: (M,) which of the task's judged images have scores; the others cannot be decoded.
        scores: (M, C) of each draw of the protocol.
        chosen: what was chosen on held-out images, for each draw.
        learned_from: number of labelled images that were used, those held out included.
    """

    positions: NDArray[np.int64]
    scores: list[Scores]
    chosen: list[dict[str, Any]]
    learned_from: int


class EvaluationProtocol(Protocol):
    """What `byol.judge` asks of a protocol; each of them is a frozen dataclass."""

    @property
    def name(self) -> str:
        """Under which the result is filed."""
        ...

    def judge(self, encoder: Pretrained, task: Task, context: Context) -> Outcome:
        """Return scores of the task's judged images.

        Raises:
            UserError: the protocol cannot be used on the task.
        """
        ...

    def baselines(self, encoder: Pretrained, task: Task, context: Context) -> list[Pretrained]:
        """Return what the encoder has to beat, the same network with random weights first."""
        ...

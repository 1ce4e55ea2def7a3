"""Few labels: another protocol on several small draws of the training images."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from byol.errors import refuse_not_whole
from byol.evaluate.protocol.linear import LinearProbe
from byol.evaluate.protocol.retrain import Retrain
from byol.evaluate.protocol.settings import refuse_no_fraction
from byol.evaluate.protocol.slot import Context, EvaluationProtocol, Outcome
from byol.evaluate.splitting import draw_few, listed
from byol.evaluate.task import Labelled, Task
from byol.weights.pretrained import Pretrained


@dataclass(frozen=True, kw_only=True)
class FewLabels:
    """A fraction of the training labels is all there is: several draws of it, each learned from by itself.

    Args:
        fraction: of the labels, the same of each class.
        draws: number of draws, each with a seed of its own: that of the evaluation and those after it.
        lists: files that name the images, one a line, in place of draws.
        by: the protocol that learns from each draw, such as `LinearProbe(held_out=0.2)` or `Retrain()`.

    Source: BYOL (2006.07733), section 4.2 and appendix C.1.
    """

    fraction: float = 0.01
    draws: int = 3
    lists: tuple[str | Path, ...] = ()
    by: EvaluationProtocol = field(default_factory=lambda: LinearProbe(held_out=0.2))

    @property
    def name(self) -> str:
        """fewlabel- and the name of the protocol that learns, such as fewlabel-linear."""
        return f"fewlabel-{self.by.name}"

    def __post_init__(self) -> None:
        refuse_no_fraction("fraction", self.fraction)
        refuse_not_whole("draws", self.draws, 1)

    def judge(self, encoder: Pretrained, task: Task, context: Context) -> Outcome:
        """Return scores of each draw."""
        outcomes = [
            self.by.judge(encoder, replace(task, train=part), replace(context, seed=context.seed + number))
            for number, part in enumerate(self._parts(task, context))
        ]
        return Outcome(
            outcomes[0].positions,
            [scores for one in outcomes for scores in one.scores],
            [{"labels": one.learned_from, **choice} for one in outcomes for choice in one.chosen],
            outcomes[0].learned_from,
        )

    def baselines(self, encoder: Pretrained, task: Task, context: Context) -> list[Pretrained]:
        """Return those of the protocol that learns."""
        return self.by.baselines(encoder, task, context)

    def _parts(self, task: Task, context: Context) -> list[Labelled]:
        if not self.lists:
            seeds = range(context.seed, context.seed + self.draws)
            return [draw_few(task.train, self.fraction, seed, task.classes) for seed in seeds]
        parts = [listed(task.train, file) for file in self.lists]
        for file, part in zip(self.lists, parts, strict=True):
            if absent := len(np.unique(task.train.labels)) - len(np.unique(part.labels)):
                context.progress.say(f"note: {file} names no image of {absent} classes.")
        return parts


def few_labels_linear() -> FewLabels:
    """A fraction of the labels: logistic regression on frozen features, three draws."""
    return FewLabels(by=LinearProbe(held_out=0.2))


def few_labels_finetune() -> FewLabels:
    """A fraction of the labels: the whole network learns, three draws."""
    return FewLabels(by=Retrain())

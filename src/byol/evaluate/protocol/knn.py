"""Nearest neighbors as a protocol."""

from dataclasses import dataclass
from typing import ClassVar

from byol.errors import UserError, refuse_not_whole
from byol.evaluate.baselines import AgainstFeatures
from byol.evaluate.knn import knn_scores, refuse_too_many
from byol.evaluate.protocol.rows import labelled_rows
from byol.evaluate.protocol.slot import Context, Outcome
from byol.evaluate.task import Task
from byol.weights.pretrained import Pretrained


@dataclass(frozen=True, kw_only=True)
class Knn(AgainstFeatures):
    """Weighted nearest neighbors by cosine, without any training; also of one labelled set alone.

    Args:
        k: neighbors that vote.
        temperature: of their weights, exp(cosine / temperature).

    Source: Wu et al. 2018 (1805.01978), section 3.4.
    """

    name: ClassVar[str] = "knn"
    k: int = 20
    temperature: float = 0.07

    def __post_init__(self) -> None:
        refuse_not_whole("k", self.k, 1)
        if not self.temperature > 0:
            raise UserError(f"temperature is {self.temperature}; choose a value above 0.")

    def judge(self, encoder: Pretrained, task: Task, context: Context) -> Outcome:
        """Return votes; with one set alone each image is judged by all others."""
        refuse_too_many(self.k, len(task.train) - int(task.test is None))  # before features are computed
        bank, labels, positions = labelled_rows(encoder, task.train, context)
        queries = bank
        if task.test is not None:
            queries, _, positions = labelled_rows(encoder, task.test, context)
        votes = knn_scores(
            bank,
            labels,
            queries,
            len(task.classes),
            k=self.k,
            temperature=self.temperature,
            leave_one_out=task.test is None,
            device=context.device.device,
        )
        return Outcome(positions, [votes.numpy()], [{}], len(bank))

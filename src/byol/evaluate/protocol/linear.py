"""The linear probe: logistic regression on frozen features."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from byol.evaluate.baselines import AgainstFeatures
from byol.evaluate.logistic import STRENGTHS, fit_path
from byol.evaluate.protocol.rows import labelled_rows
from byol.evaluate.protocol.settings import refuse_no_fraction, refuse_no_rates
from byol.evaluate.protocol.slot import Context, Outcome
from byol.evaluate.splitting import hold_out
from byol.evaluate.task import Labelled, Task
from byol.weights.pretrained import Pretrained


@dataclass(frozen=True, kw_only=True)
class LinearProbe(AgainstFeatures):
    """Logistic regression on frozen features of center crops, by L-BFGS, over 45 strengths.

    The strength of the L2 penalty is the best of the path on held-out training images, the stronger of equal
    ones; the classifier is then fitted to all training images.

    Args:
        flip: learn from the mirrored images too.
        held_out: fraction of the training images by which the strength is chosen.
        strengths: of the penalty; scikit-learn's C is 1 / strength.

    Source: BYOL (2006.07733), appendix D.2.
    """

    name: ClassVar[str] = "linear"
    flip: bool = False
    held_out: float = 0.1
    strengths: tuple[float, ...] = STRENGTHS

    def __post_init__(self) -> None:
        refuse_no_fraction("held_out", self.held_out)
        refuse_no_rates("strengths", self.strengths)

    def judge(self, encoder: Pretrained, task: Task, context: Context) -> Outcome:
        """Return logits of the classifier."""
        test, classes = task.separate_test(self.name), len(task.classes)
        fit, held = hold_out(task.train, self.held_out, context.seed)
        rows, labels = self._learned_from(encoder, fit, context)
        held_rows, held_labels, _ = labelled_rows(encoder, held, context)
        best, strength = -1.0, 0.0
        for number, model in enumerate(fit_path(rows, labels, self.strengths, num_classes=classes)):
            score = task.score(model.scores(held_rows).numpy(), held_labels.numpy())
            context.progress.show(
                f"{encoder.name}: strength {number + 1} of {len(self.strengths)}, {model.strength:.1e}: "
                f"{score:.1f} held out"
            )
            if score > best:
                best, strength = score, model.strength
        rows, labels = self._learned_from(encoder, task.train, context)
        (model,) = fit_path(rows, labels, (strength,), num_classes=classes)
        test_rows, _, positions = labelled_rows(encoder, test, context)
        chosen = {"strength": strength, "held_out": best}
        return Outcome(positions, [model.scores(test_rows).numpy()], [chosen], len(task.train))

    def _learned_from(self, encoder: Pretrained, part: Labelled, context: Context) -> tuple[Tensor, Tensor]:
        rows, labels, _ = labelled_rows(encoder, part, context)
        if not self.flip:
            return rows, labels
        mirrored, _, _ = labelled_rows(encoder, part, context, flip=True)
        return torch.cat([rows, mirrored]), torch.cat([labels, labels])

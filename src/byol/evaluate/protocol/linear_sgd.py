"""The published linear evaluation."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from byol.errors import refuse_not_whole
from byol.evaluate.baselines import AgainstRandom
from byol.evaluate.protocol.settings import refuse_no_fraction, refuse_no_rates
from byol.evaluate.protocol.slot import Context, Outcome
from byol.evaluate.protocol.sweep import fit, fitting_batch, held_out_score, refuse_diverged
from byol.evaluate.splitting import hold_out
from byol.evaluate.supervised import Training, logits_of
from byol.evaluate.task import Task
from byol.weights.pretrained import Pretrained


@dataclass(frozen=True, kw_only=True)
class LinearSgd(AgainstRandom):
    """A linear classifier on the frozen encoder by SGD on random crops, as published.

    SGD with Nesterov momentum, cosine, no weight decay, crops and mirroring. The learning rate is the best
    of the sweep on held-out training images, after the last epoch; then all training images are learned from.
    All learning rates of the sweep see the same crops, and the encoder looks at each once.

    Args:
        epochs: passes over the training images.
        batch_size: images a step, 2 or more; fewer where there are fewer than 16 steps an epoch.
        lrs: learning rates of the sweep, per 256 images.
        held_out: fraction of the training images by which the learning rate is chosen.

    Source: BYOL (2006.07733), appendix C.1; official `configs/eval.py`.
    """

    name: ClassVar[str] = "linear-paper"
    epochs: int = 80
    batch_size: int = 1024
    lrs: tuple[float, ...] = (0.4, 0.3, 0.2, 0.1, 0.05)
    held_out: float = 0.1

    def __post_init__(self) -> None:
        refuse_no_fraction("held_out", self.held_out)
        refuse_no_rates("lrs", self.lrs)
        refuse_not_whole("epochs", self.epochs, 1)
        refuse_not_whole("batch_size", self.batch_size, 2)

    def judge(self, encoder: Pretrained, task: Task, context: Context) -> Outcome:
        """Return logits of the classifier."""
        test = task.separate_test(self.name)
        part, held = hold_out(task.train, self.held_out, context.seed)
        batch_size = fitting_batch(self.batch_size, len(part))
        sweep = Training(
            lrs=tuple(lr * batch_size / 256 for lr in self.lrs),
            epochs=self.epochs,
            batch_size=batch_size,
            is_frozen=True,
        )
        swept = fit(encoder, part, task, sweep, context, f"{encoder.name}: learning rates")
        scores = [held_out_score(swept.network, head, held, task, context) for head in range(len(self.lrs))]
        best = int(np.argmax(scores))
        refuse_diverged(scores[best], encoder, self.lrs)
        final = replace(sweep, lrs=(sweep.lrs[best],))
        trained = fit(encoder, task.train, task, final, context, f"{encoder.name}: all images")
        logits, positions = logits_of(trained.network, test, 0, context.device)
        chosen = {"lr": self.lrs[best], "held_out": scores[best]}
        return Outcome(positions.numpy(), [logits.numpy()], [chosen], len(task.train))

"""Fine-tuning of few labels, as published."""

from dataclasses import dataclass
from itertools import product
from typing import ClassVar

from byol.errors import refuse_not_whole
from byol.evaluate.baselines import AgainstRandom
from byol.evaluate.protocol.settings import refuse_no_fraction, refuse_no_rates
from byol.evaluate.protocol.slot import Context, Outcome
from byol.evaluate.protocol.sweep import fit, fitting_batch, held_out_score, refuse_diverged
from byol.evaluate.splitting import hold_out
from byol.evaluate.supervised import Training, logits_of
from byol.evaluate.task import Labelled, Task
from byol.weights.pretrained import Pretrained


@dataclass(frozen=True, kw_only=True)
class Retrain(AgainstRandom):
    """Fine-tuning of few labels: learning rate and epochs are chosen, then all images are learned from.

    Args:
        lrs: peak learning rates of the sweep, per 256 images.
        epochs: passes of the sweep.
        batch_size: images a step; fewer where there are fewer than 16 steps an epoch.
        held_out: fraction of the images by which both are chosen.

    Source: BYOL (2006.07733), appendix C.1, semi-supervised: SGD with Nesterov momentum, no weight decay,
    five learning rates times 30 or 50 epochs.
    """

    name: ClassVar[str] = "finetune"
    lrs: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.005)
    epochs: tuple[int, ...] = (30, 50)
    batch_size: int = 1024
    held_out: float = 0.2

    def __post_init__(self) -> None:
        refuse_no_fraction("held_out", self.held_out)
        refuse_no_rates("lrs", self.lrs)
        refuse_no_rates("epochs", self.epochs)
        refuse_not_whole("batch_size", self.batch_size, 2)

    def judge(self, encoder: Pretrained, task: Task, context: Context) -> Outcome:
        """Return logits of the network."""
        test = task.separate_test(self.name)
        part, held = hold_out(task.train, self.held_out, context.seed)
        tried = []
        for lr, epochs in product(self.lrs, self.epochs):
            title = f"{encoder.name}: lr {lr:g}, {epochs} epochs"
            trained = fit(encoder, part, task, self._training(lr, epochs, part), context, title)
            tried.append((held_out_score(trained.network, 0, held, task, context), lr, epochs))
        score, lr, epochs = max(tried, key=lambda one: one[0])
        refuse_diverged(score, encoder, self.lrs)
        title = f"{encoder.name}: lr {lr:g}, all {len(task.train):,} labels"
        trained = fit(encoder, task.train, task, self._training(lr, epochs, task.train), context, title)
        logits, positions = logits_of(trained.network, test, 0, context.device)
        chosen = {"lr": lr, "epochs": epochs, "held_out": score}
        return Outcome(positions.numpy(), [logits.numpy()], [chosen], len(task.train))

    def _training(self, lr: float, epochs: int, part: Labelled) -> Training:
        batch_size = fitting_batch(self.batch_size, len(part))
        return Training(lrs=(lr * batch_size / 256,), epochs=epochs, batch_size=batch_size)

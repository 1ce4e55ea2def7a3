"""Fine-tuning of the whole network."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from byol.errors import UserError, refuse_below, refuse_not_whole
from byol.evaluate.baselines import AgainstRandom
from byol.evaluate.metrics import Scores
from byol.evaluate.protocol.settings import refuse_no_fraction, refuse_no_rates
from byol.evaluate.protocol.slot import Context, Outcome
from byol.evaluate.protocol.sweep import fit, fitting_batch, held_out_score, refuse_diverged
from byol.evaluate.splitting import hold_out
from byol.evaluate.supervised import Classifier, Training, logits_of
from byol.evaluate.task import Labelled, Task
from byol.weights.pretrained import Pretrained

_LRS = {"sgd": (1e-2, 1e-1, 3e-1), "adamw": (1e-4, 3e-4, 1e-3)}


@dataclass(frozen=True, kw_only=True)
class FineTune(AgainstRandom):
    """The whole network learns, from every learning rate of a sweep.

    What is reported is fixed beforehand: of all learning rates and epochs, the network that was best on the
    held-out training images is tested, once; on ties the first wins. It does not see the held-out images.

    Args:
        optimizer: "sgd" with Nesterov momentum 0.9, or "adamw".
        lrs: peak learning rates of the sweep, per 256 images; by default those of the optimizer.
        epochs: passes at most, over which the learning rate falls by a cosine.
        at_least: steps, below which a small set gets more epochs; the paper has 20,000 for every set.
        patience: fraction of the epochs without improvement on the held-out images before the end.
        batch_size: images a step; fewer where there are fewer than 16 steps an epoch.
        weight_decay: of all weights but biases and norms.
        layer_decay: the learning rate of a layer is this times that of the layer above; 1 is none.
        held_out: fraction of the training images by which it is chosen.
        runs: repetitions with seeds of their own: that of the evaluation and those after it.

    Source: BYOL (2006.07733), appendix D.3: SGD, batches of 256, seven learning rates from 1e-4 to 1e-1, and
    statistics of batch norm that keep max(1 - 10 / steps per epoch, 0.9). The three learning rates are a
    choice: encoders that saw few images wanted 0.1 or more (docs/log.md).
    """

    name: ClassVar[str] = "finetune"
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lrs: tuple[float, ...] = ()
    epochs: int = 30
    at_least: int = 3000
    patience: float = 0.5
    batch_size: int = 256
    weight_decay: float = 0.0
    layer_decay: float = 1.0
    held_out: float = 0.1
    runs: int = 1

    def __post_init__(self) -> None:
        refuse_no_fraction("held_out", self.held_out)
        for name in ("layer_decay", "patience"):
            if not 0 < getattr(self, name) <= 1:
                raise UserError(f"{name} is {getattr(self, name)}; choose a value in (0, 1].")
        refuse_no_rates("lrs", self._lrs)
        refuse_below("weight_decay", self.weight_decay, 0)
        for name, least in (("epochs", 1), ("at_least", 0), ("batch_size", 2), ("runs", 1)):
            refuse_not_whole(name, getattr(self, name), least)

    @property
    def _lrs(self) -> tuple[float, ...]:
        if self.optimizer not in _LRS:
            raise UserError(f"optimizer is {self.optimizer}; choose {' or '.join(_LRS)}.")
        return self.lrs or _LRS[self.optimizer]

    def judge(self, encoder: Pretrained, task: Task, context: Context) -> Outcome:
        """Return logits of the network of each run."""
        test = task.separate_test(self.name)
        scores: list[Scores] = []
        chosen, positions = [], np.zeros(0, np.int64)
        for run in range(self.runs):
            own = replace(context, seed=context.seed + run)
            logits, positions, choice = self._run(encoder, task, test, own, f"run {run + 1} of {self.runs}")
            scores.append(logits)
            chosen.append(choice)
        return Outcome(positions, scores, chosen, len(task.train))

    def _run(
        self, encoder: Pretrained, task: Task, test: Labelled, context: Context, title: str
    ) -> tuple[Scores, NDArray[np.int64], dict[str, float]]:
        """Return logits (M, C) of the best network, positions (M,) of their images, and what was chosen."""
        part, held = hold_out(task.train, self.held_out, context.seed)
        batch_size = fitting_batch(self.batch_size, len(part))
        epochs = max(self.epochs, math.ceil(self.at_least * batch_size / len(part)))

        def held_score(network: Classifier) -> list[float]:
            return [held_out_score(network, 0, held, task, context)]

        tried = []
        for lr in self._lrs:
            training = Training(
                lrs=(lr * batch_size / 256,),
                epochs=epochs,
                batch_size=batch_size,
                optimizer=self.optimizer,
                weight_decay=self.weight_decay,
                layer_decay=self.layer_decay,
                patience=math.ceil(self.patience * epochs),
            )
            trained = fit(
                encoder, part, task, training, context, f"{encoder.name}: lr {lr:g}, {title}", held_score
            )
            tried.append((max(scores[0] for scores in trained.held_out), lr, trained))
        score, lr, trained = max(tried, key=lambda one: one[0])
        refuse_diverged(score, encoder, self._lrs)
        logits, positions = logits_of(trained.network, test, 0, context.device)
        return logits.numpy(), positions.numpy(), {"lr": lr, "epoch": trained.epochs, "held_out": score}

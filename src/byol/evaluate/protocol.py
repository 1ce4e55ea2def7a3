"""The protocols: what it means for an encoder to be good at a task.

Each is a class with the settings as its fields and one method, `judge`, from an encoder and a task to
scores of the judged images. All that is chosen is chosen on a part of the training images that is held out
for it; the judged images are looked at once, at the end. N training images, M judged ones, C classes.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from byol.errors import UserError, refuse_below
from byol.evaluate import metrics
from byol.evaluate.features import RawPixels, kept_features
from byol.evaluate.knn import knn_scores
from byol.evaluate.logistic import STRENGTHS, Regression, fit_path
from byol.evaluate.supervised import Classifier, Trained, Training, logits_of, train
from byol.evaluate.task import Labelled, Task, draw_few, hold_out, listed
from byol.system.device import Device
from byol.system.progress import Progress
from byol.weights.pretrained import Pretrained


@dataclass(frozen=True)
class Bench:
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
    """What came of one encoder.

    Args:
        places: (M,) which of the task's judged images have scores; the others cannot be decoded.
        scores: (M, C) of each draw of the protocol.
        chosen: what was chosen on held-out images, for each draw.
        learnt_from: number of labelled images that were used, those held out included.
    """

    places: NDArray[np.int64]
    scores: list[metrics.Scores]
    chosen: list[dict[str, Any]]
    learnt_from: int


class EvaluationProtocol(Protocol):
    """What `judge` asks of a protocol; each of them is a frozen dataclass."""

    @property
    def name(self) -> str:
        """What the result is filed under."""
        ...

    def judge(self, encoder: Pretrained, task: Task, bench: Bench) -> Outcome:
        """Return scores of the task's judged images.

        Raises:
            UserError: the protocol cannot be used on the task.
        """
        ...

    def baselines(self, encoder: Pretrained, seed: int) -> list[Pretrained]:
        """Return what the encoder has to beat."""
        ...


class _AgainstRandom:
    def baselines(self, encoder: Pretrained, seed: int) -> list[Pretrained]:
        """Return the same network with random weights."""
        return [encoder.fresh(seed)]


@dataclass(frozen=True, kw_only=True)
class Knn:
    """Weighted nearest neighbours by cosine, without any training.

    Args:
        k: neighbours that vote.
        temperature: of their weights, exp(cosine / temperature).

    Source: Wu et al. 2018 (1805.01978), section 3.4.
    """

    name: ClassVar[str] = "knn"
    k: int = 20
    temperature: float = 0.07

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise UserError(f"temperature is {self.temperature}; choose a value above 0.")

    def judge(self, encoder: Pretrained, task: Task, bench: Bench) -> Outcome:
        """Return votes; with one set alone each image is judged by all others."""
        bank, labels, places = _rows(encoder, task.train, bench)
        queries = bank
        if task.test is not None:
            queries, _, places = _rows(encoder, task.test, bench)
        votes = knn_scores(
            bank,
            labels,
            queries,
            len(task.classes),
            k=self.k,
            temperature=self.temperature,
            leave_one_out=task.test is None,
            device=bench.device.device,
        )
        return Outcome(places, [votes.numpy()], [{}], len(bank))

    def baselines(self, encoder: Pretrained, seed: int) -> list[Pretrained]:
        """Return the same network with random weights, and raw pixels."""
        plain = encoder.preprocessing.unnormalized()
        blank = Pretrained(RawPixels(), plain, name="raw pixels")
        return [encoder.fresh(seed), blank]


@dataclass(frozen=True, kw_only=True)
class Linear(_AgainstRandom):
    """Logistic regression on frozen features of centre crops, by L-BFGS.

    The strength of the L2 penalty is the best of the path on held-out training images, the stronger of equal
    ones; the classifier is then fitted to all training images.

    Args:
        flip: learn from the mirrored images too.
        held_out: share of the training images by which the strength is chosen.
        strengths: of the penalty; scikit-learn's C is 1 / strength.

    Source: BYOL (2006.07733), appendix D.2.
    """

    name: ClassVar[str] = "linear"
    flip: bool = False
    held_out: float = 0.1
    strengths: tuple[float, ...] = STRENGTHS

    def __post_init__(self) -> None:
        _check_share("held_out", self.held_out)
        _check_rates("strengths", self.strengths)

    def judge(self, encoder: Pretrained, task: Task, bench: Bench) -> Outcome:
        """Return logits of the classifier."""
        test = _needs_test(task, self.name)
        fit, held = hold_out(task.train, self.held_out, bench.seed)
        rows, labels = self._learnt_from(encoder, fit, bench)
        held_rows, held_labels, _ = _rows(encoder, held, bench)
        best, strength = -1.0, 0.0
        for number, model in enumerate(_path(rows, labels, self.strengths, task)):
            figure = _figure(model.scores(held_rows), held_labels, task)
            bench.progress.show(
                f"{encoder.name}: strength {number + 1} of {len(self.strengths)}, {model.strength:.1e}: "
                f"{figure:.1f} held out"
            )
            if figure > best:
                best, strength = figure, model.strength
        rows, labels = self._learnt_from(encoder, task.train, bench)
        (model,) = _path(rows, labels, (strength,), task)
        test_rows, _, places = _rows(encoder, test, bench)
        chosen = {"strength": strength, "held_out": best}
        return Outcome(places, [model.scores(test_rows).numpy()], [chosen], len(task.train))

    def _learnt_from(self, encoder: Pretrained, part: Labelled, bench: Bench) -> tuple[Tensor, Tensor]:
        rows, labels, _ = _rows(encoder, part, bench)
        if not self.flip:
            return rows, labels
        return torch.cat([rows, _rows(encoder, part, bench, flip=True)[0]]), torch.cat([labels, labels])


@dataclass(frozen=True, kw_only=True)
class LinearSgd(_AgainstRandom):
    """The published linear evaluation: a classifier on the frozen encoder, by SGD on random crops.

    SGD with Nesterov momentum, cosine, no weight decay, crops and mirroring. The learning rate is the best
    of the sweep on held-out training images, after the last epoch; then all training images are learnt from.
    All learning rates of the sweep see the same crops, and the encoder looks at each once.

    Args:
        epochs: passes over the training images.
        batch_size: images a step, 2 or more; fewer where there are fewer than 16 steps an epoch.
        lrs: learning rates of the sweep, per 256 images.
        held_out: share of the training images by which the learning rate is chosen.

    Source: BYOL (2006.07733), appendix C.1; official `configs/eval.py`.
    """

    name: ClassVar[str] = "linear-paper"
    epochs: int = 80
    batch_size: int = 1024
    lrs: tuple[float, ...] = (0.4, 0.3, 0.2, 0.1, 0.05)
    held_out: float = 0.1

    def __post_init__(self) -> None:
        _check_share("held_out", self.held_out)
        _check_rates("lrs", self.lrs)
        refuse_below("epochs", self.epochs, 1)
        refuse_below("batch_size", self.batch_size, 2)

    def judge(self, encoder: Pretrained, task: Task, bench: Bench) -> Outcome:
        """Return logits of the classifier."""
        test = _needs_test(task, self.name)
        fit, held = hold_out(task.train, self.held_out, bench.seed)
        batch_size = _fitting(self.batch_size, len(fit))
        sweep = Training(
            lrs=tuple(lr * batch_size / 256 for lr in self.lrs),
            epochs=self.epochs,
            batch_size=batch_size,
            is_frozen=True,
        )
        title = f"{encoder.name}: learning rates"
        swept = _train(encoder, fit, task, sweep, bench, title)
        heads = range(len(self.lrs))
        held_figures = [_held_figure(swept.network, head, held, task, bench) for head in heads]
        best = int(np.argmax(held_figures))
        _check_learnt(held_figures[best], encoder, self.lrs)
        final = replace(sweep, lrs=(sweep.lrs[best],))
        trained = _train(encoder, task.train, task, final, bench, f"{encoder.name}: all images")
        logits, places = logits_of(trained.network, test, 0, bench.device)
        chosen = {"lr": self.lrs[best], "held_out": held_figures[best]}
        return Outcome(places.numpy(), [logits.numpy()], [chosen], len(task.train))


@dataclass(frozen=True, kw_only=True)
class FineTune(_AgainstRandom):
    """The whole network learns, from every learning rate of a sweep.

    What is reported is fixed beforehand: of all learning rates and epochs, the network that was best on the
    held-out training images (the first of equal ones) is tested, once. It does not see the held-out images.

    Args:
        optimizer: "sgd" with Nesterov momentum 0.9, or "adamw".
        lrs: peak learning rates of the sweep, per 256 images; by default those of the optimiser.
        epochs: passes at most, over which the learning rate falls by a cosine.
        at_least: steps, below which a small set gets more epochs; the paper has 20,000 for every set.
        patience: share of the epochs without improvement on the held-out images before the end.
        batch_size: images a step; fewer where there are fewer than 16 steps an epoch.
        weight_decay: of all weights but biases and norms.
        layer_decay: the learning rate of a layer is this times that of the layer above; 1 is none.
        held_out: share of the training images by which it is chosen.
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
        _check_share("held_out", self.held_out)
        for name in ("layer_decay", "patience"):
            if not 0 < getattr(self, name) <= 1:
                raise UserError(f"{name} is {getattr(self, name)}; choose a value in (0, 1].")
        _check_rates("lrs", self._lrs)
        refuse_below("weight_decay", self.weight_decay, 0)
        for name, least in (("epochs", 1), ("at_least", 0), ("batch_size", 2), ("runs", 1)):
            refuse_below(name, getattr(self, name), least)

    @property
    def _lrs(self) -> tuple[float, ...]:
        if self.optimizer not in _FINETUNE_LRS:
            raise UserError(f"optimizer is {self.optimizer}; choose {' or '.join(_FINETUNE_LRS)}.")
        return self.lrs or _FINETUNE_LRS[self.optimizer]

    def judge(self, encoder: Pretrained, task: Task, bench: Bench) -> Outcome:
        """Return logits of the network."""
        test = _needs_test(task, self.name)
        scores, chosen, places = [], [], np.zeros(0, np.int64)
        for run in range(self.runs):
            own = replace(bench, seed=bench.seed + run)
            fit, held = hold_out(task.train, self.held_out, own.seed)
            batch_size = _fitting(self.batch_size, len(fit))
            epochs = max(self.epochs, math.ceil(self.at_least / (len(fit) // batch_size)))

            def held_figure(network: Classifier, held: Labelled = held, own: Bench = own) -> list[float]:
                return [_held_figure(network, 0, held, task, own)]

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
                title = f"{encoder.name}: lr {lr:g}, run {run + 1} of {self.runs}"
                trained = _train(encoder, fit, task, training, own, title, held_figure)
                tried.append((max(figures[0] for figures in trained.held_out), lr, trained))
            figure, lr, trained = max(tried, key=lambda one: one[0])
            _check_learnt(figure, encoder, self._lrs)
            logits, kept = logits_of(trained.network, test, 0, bench.device)
            scores.append(logits.numpy())
            chosen.append({"lr": lr, "epoch": trained.epochs, "held_out": figure})
            places = kept.numpy()
        return Outcome(places, scores, chosen, len(task.train))


@dataclass(frozen=True, kw_only=True)
class Retrain(_AgainstRandom):
    """Fine-tuning of few labels: learning rate and epochs are chosen, then all images are learnt from.

    Args:
        lrs: peak learning rates of the sweep, per 256 images.
        epochs: passes of the sweep.
        batch_size: images a step; fewer where there are fewer than 16 steps an epoch.
        held_out: share of the images by which both are chosen.

    Source: BYOL (2006.07733), appendix C.1, semi-supervised: SGD with Nesterov momentum, no weight decay,
    five learning rates times 30 or 50 epochs.
    """

    name: ClassVar[str] = "finetune"
    lrs: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.005)
    epochs: tuple[int, ...] = (30, 50)
    batch_size: int = 1024
    held_out: float = 0.2

    def __post_init__(self) -> None:
        _check_share("held_out", self.held_out)
        _check_rates("lrs", self.lrs)
        _check_rates("epochs", self.epochs)
        refuse_below("batch_size", self.batch_size, 2)

    def judge(self, encoder: Pretrained, task: Task, bench: Bench) -> Outcome:
        """Return logits of the network."""
        test = _needs_test(task, self.name)
        fit, held = hold_out(task.train, self.held_out, bench.seed)

        def training(lr: float, epochs: int, part: Labelled) -> Training:
            batch_size = _fitting(self.batch_size, len(part))
            return Training(lrs=(lr * batch_size / 256,), epochs=epochs, batch_size=batch_size)

        tried = []
        for lr, epochs in product(self.lrs, self.epochs):
            title = f"{encoder.name}: lr {lr:g}, {epochs} epochs"
            trained = _train(encoder, fit, task, training(lr, epochs, fit), bench, title)
            tried.append((_held_figure(trained.network, 0, held, task, bench), lr, epochs))
        figure, lr, epochs = max(tried, key=lambda one: one[0])
        _check_learnt(figure, encoder, self.lrs)
        title = f"{encoder.name}: lr {lr:g}, all {len(task.train):,} labels"
        trained = _train(encoder, task.train, task, training(lr, epochs, task.train), bench, title)
        logits, places = logits_of(trained.network, test, 0, bench.device)
        chosen = {"lr": lr, "epochs": epochs, "held_out": figure}
        return Outcome(places.numpy(), [logits.numpy()], [chosen], len(task.train))


@dataclass(frozen=True, kw_only=True)
class FewLabels(_AgainstRandom):
    """A share of the training labels is all there is: several draws of it, each learnt from by itself.

    Args:
        share: of the labels, the same of each class.
        draws: number of draws, each with a seed of its own: that of the evaluation and those after it.
        lists: files that name the images, one a line, in place of draws.
        by: what learns: logistic regression on frozen features, or fine-tuning of the whole network.

    Source: BYOL (2006.07733), section 4.2 and appendix C.1.
    """

    share: float = 0.01
    draws: int = 3
    lists: tuple[Path, ...] = ()
    by: Linear | Retrain = field(default_factory=lambda: Linear(held_out=0.2))

    @property
    def name(self) -> str:
        """fewlabel-linear or fewlabel-finetune."""
        return f"fewlabel-{self.by.name}"

    def __post_init__(self) -> None:
        _check_share("share", self.share)
        refuse_below("draws", self.draws, 1)

    def judge(self, encoder: Pretrained, task: Task, bench: Bench) -> Outcome:
        """Return scores of each draw."""
        if self.lists:
            parts = [listed(task.train, file) for file in self.lists]
            for file, part in zip(self.lists, parts, strict=True):
                if absent := len(np.unique(task.train.labels)) - len(np.unique(part.labels)):
                    bench.progress.say(f"note: {file} names no image of {absent} classes.")
        else:
            seeds = range(bench.seed, bench.seed + self.draws)
            parts = [draw_few(task.train, self.share, seed, task.classes) for seed in seeds]
        outcomes = [
            self.by.judge(encoder, replace(task, train=part), replace(bench, seed=bench.seed + number))
            for number, part in enumerate(parts)
        ]
        return Outcome(
            outcomes[0].places,
            [one.scores[0] for one in outcomes],
            [{"labels": one.learnt_from, **one.chosen[0]} for one in outcomes],
            outcomes[0].learnt_from,
        )


_FINETUNE_LRS = {"sgd": (1e-2, 1e-1, 3e-1), "adamw": (1e-4, 3e-4, 1e-3)}


def _rows(
    encoder: Pretrained, part: Labelled, bench: Bench, *, flip: bool = False
) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
    """Return features, labels and places of the labelled images that can be decoded."""
    rows = kept_features(encoder, part.images, bench.device, bench.progress, flip=flip)
    if len(part) < len(rows):
        rows = rows[torch.from_numpy(part.index)]
    is_readable = ~rows[:, 0].isnan()
    labels = torch.from_numpy(part.labels)
    if not is_readable.all():
        rows, labels = rows[is_readable], labels[is_readable]
    return rows, labels, np.flatnonzero(is_readable.numpy())


def _path(rows: Tensor, labels: Tensor, strengths: tuple[float, ...], task: Task) -> Iterator[Regression]:
    return fit_path(rows, labels, strengths, num_classes=len(task.classes))


def _train(
    encoder: Pretrained,
    part: Labelled,
    task: Task,
    training: Training,
    bench: Bench,
    title: str,
    figure: Callable[[Classifier], list[float]] | None = None,
) -> Trained:
    return train(
        encoder,
        part,
        len(task.classes),
        training,
        seed=bench.seed,
        device=bench.device,
        progress=bench.progress,
        title=title,
        data=task.fingerprint,
        score=figure,
    )


def _held_figure(network: Classifier, head: int, held: Labelled, task: Task, bench: Bench) -> float:
    """Return the task's metric on held-out images, in percent; minus infinity where training diverged."""
    logits, places = logits_of(network, held, head, bench.device)
    if not logits.isfinite().all():
        return -math.inf
    return _figure(logits, torch.from_numpy(held.labels)[places], task)


def _figure(scores: Tensor, labels: Tensor, task: Task) -> float:
    """Return the task's metric of scores, in percent."""
    found = metrics.figures([scores.numpy()], labels.numpy())
    return found[task.metric](np.arange(len(labels)))


def _check_learnt(figure: float, encoder: Pretrained, lrs: tuple[float, ...]) -> None:
    if figure == -math.inf:
        raise UserError(
            f"training of {encoder.name} diverged at every learning rate ({', '.join(map(str, lrs))}); "
            "choose lower ones, or if they are low, other weights: these are damaged."
        )


def _needs_test(task: Task, protocol: str) -> Labelled:
    if task.test is None:
        raise UserError(
            f"{task.name} is one set, and {protocol} needs another to be judged by: put images into train/ "
            "and test/, or give --test PATH (knn can judge each image by all others)."
        )
    return task.test


def _fitting(batch_size: int, count: int) -> int:
    """Return the batch size, or the largest power of two that makes 16 steps an epoch; at least 2."""
    largest = 1 << max(0, (count // 16).bit_length() - 1)
    return max(2, min(batch_size, largest))


def _check_rates(name: str, values: tuple[float, ...]) -> None:
    if not values:
        raise UserError(f"{name} is empty; give one value or more.")
    for value in values:
        if not 0 < value < math.inf:
            raise UserError(f"one of {name} is {value}; choose finite values above 0.")


def _check_share(name: str, share: float) -> None:
    if not 0 < share < 1:
        raise UserError(f"{name} is {share}; choose a share in (0, 1).")

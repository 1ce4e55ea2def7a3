"""Training a classifier for every setting of a sweep, and how good each is on held-out images."""

import math
from collections.abc import Callable

import torch

from byol.errors import UserError
from byol.evaluate.protocol.slot import Context
from byol.evaluate.supervised import Classifier, Trained, Training, logits_of, train
from byol.evaluate.task import Labelled, Task
from byol.weights.pretrained import Pretrained


def fit(
    encoder: Pretrained,
    part: Labelled,
    task: Task,
    training: Training,
    context: Context,
    title: str,
    held_score: Callable[[Classifier], list[float]] | None = None,
) -> Trained:
    """Train a classifier on a part of a task's images.

    Args:
        encoder: where it begins.
        part: the images.
        task: whose classes it tells apart.
        training: how.
        context: of the evaluation.
        title: what the person sees beside the epoch.
        held_score: what the classifier achieves on held-out images after each epoch; more is better.
    """
    return train(
        encoder,
        part,
        len(task.classes),
        training,
        seed=context.seed,
        device=context.device,
        progress=context.progress,
        title=title,
        data=task.fingerprint,
        figure=held_score,
    )


def held_out_score(network: Classifier, head: int, held: Labelled, task: Task, context: Context) -> float:
    """Return the task's metric on held-out images, in percent; minus infinity where training diverged.

    Args:
        network: with its classifiers.
        head: which of them.
        held: the images.
        task: whose metric it is.
        context: of the evaluation.
    """
    logits, positions = logits_of(network, held, head, context.device)
    if not logits.isfinite().all():
        return -math.inf
    return task.score(logits.numpy(), torch.from_numpy(held.labels)[positions].numpy())


def refuse_diverged(score: float, encoder: Pretrained, lrs: tuple[float, ...]) -> None:
    """Raise a UserError where the best held-out score of a sweep says that training diverged everywhere."""
    if score == -math.inf:
        raise UserError(
            f"training of {encoder.name} diverged at every learning rate ({', '.join(map(str, lrs))}); "
            "choose lower ones, or if they are low, other weights: these are damaged."
        )


def fitting_batch(batch_size: int, count: int) -> int:
    """Return the batch size, or the largest power of two that makes 16 steps an epoch; at least 2."""
    largest = 1 << max(0, (count // 16).bit_length() - 1)
    return max(2, min(batch_size, largest))

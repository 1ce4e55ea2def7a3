"""The one loop that trains with labels: a linear classifier on an encoder, frozen or not.

B images a batch, D numbers a representation, C classes, H classifiers side by side.
"""

import copy
import json
import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from byol.data.image.views import OneView
from byol.data.loader import batches
from byol.data.order import num_steps
from byol.errors import UserError
from byol.evaluate.features import encode_with, features
from byol.evaluate.parameter_groups import encoder_groups, head_groups, slow_statistics
from byol.evaluate.saved_training import SavedTraining
from byol.evaluate.task import Labelled
from byol.system.cache import cache_folder
from byol.system.device import Device, usable_cores
from byol.system.digest import digest
from byol.system.lock import exclusive_lock
from byol.system.progress import Progress
from byol.weights.pretrained import Pretrained

_FORMAT = 4  # raise it whenever the same settings give another classifier


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a classifier is trained.

    Args:
        lrs: peak learning rate of each of the H classifiers; an encoder that learns follows the first.
        epochs: passes over the images.
        batch_size: images a step.
        optimizer: "sgd" with Nesterov momentum 0.9, or "adamw".
        weight_decay: of all weights but biases and norms.
        layer_decay: the learning rate of each layer is this times that of the layer above it; 1 is none.
        is_frozen: the encoder stays as it is, in eval mode.
        patience: epochs without a better score on the held-out images before the end; None goes to the end.
    """

    lrs: tuple[float, ...]
    epochs: int
    batch_size: int
    optimizer: Literal["sgd", "adamw"] = "sgd"
    weight_decay: float = 0.0
    layer_decay: float = 1.0
    is_frozen: bool = False
    patience: int | None = None


class Classifier(nn.Module):
    """An encoder with H linear classifiers of its representation, which begin at zero.

    Args:
        encoder: with its preprocessing; it is copied.
        dim: D.
        num_classes: C.
        num_heads: H.
        is_frozen: the encoder stays in eval mode and gets no gradient.
    """

    def __init__(
        self, encoder: Pretrained, dim: int, num_classes: int, num_heads: int, *, is_frozen: bool
    ) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        self.heads = nn.ModuleList(nn.Linear(dim, num_classes) for _ in range(num_heads))
        for parameter in self.heads.parameters():
            nn.init.zeros_(parameter)
        self.is_frozen = is_frozen
        self.encoder.requires_grad_(not is_frozen)

    def train(self, mode: bool = True) -> "Classifier":
        """Change the mode of all but a frozen encoder."""
        super().train(mode)
        if self.is_frozen:
            self.encoder.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (H, B, C) of prepared images."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            representation = self.encoder(images)
        return torch.stack([head(representation) for head in self.heads])


@dataclass(frozen=True, eq=False)
class Trained:
    """A classifier and how it came about.

    Args:
        network: as it stood when its held-out score was best, or at the end where nothing was held out.
        held_out: the score of each classifier after each epoch, (epochs, H); empty without held-out images.
        epochs: that the network had trained.
    """

    network: Classifier
    held_out: list[list[float]]
    epochs: int


def train(
    encoder: Pretrained,
    part: Labelled,
    num_classes: int,
    training: Training,
    *,
    seed: int,
    device: Device,
    progress: Progress,
    title: str,
    data: str,
    score: Callable[[Classifier], list[float]] | None = None,
) -> Trained:
    """Train a classifier on labelled images, cropped at random (area 8 to 100 %) and mirrored.

    The learning rate falls by a cosine from its peak to 0. Steps are counted as in a run, and an epoch ends
    with the last batch that reaches no further. It saves itself after each epoch and, when it was stopped,
    goes on there; the same call gives the same classifier, stopped or not.

    Args:
        encoder: where it begins; its weights and buffers are left as they are.
        part: images to learn from.
        num_classes: C.
        training: how.
        seed: of the order and the crops.
        device: where it computes, and in which precision.
        progress: shows how far it is.
        title: what the person sees beside the epoch.
        data: fingerprint of the set, part of the name under which the training saves itself.
        score: what each of the H classifiers achieves on held-out images, more is better.

    Raises:
        UserError: there are fewer images than a batch has.

    Source: official `configs/eval.py` for the number of steps.
    """
    if len(part) < training.batch_size:
        raise UserError(
            f"{len(part)} labelled images are left to learn from; {training.batch_size} are needed."
        )
    folder = cache_folder() / "training" / _key(encoder, part, training, seed, device, data, score)
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(folder.with_suffix(".lock")), torch.random.fork_rng():
        torch.manual_seed(seed)
        network = _network(encoder, num_classes, training, device)
        ends = [num_steps(epoch, len(part), training.batch_size) for epoch in range(training.epochs + 1)]
        steps_per_epoch, total_steps = len(part) / training.batch_size, ends[-1]
        optimizer = _optimizer(network, training, steps_per_epoch)
        peaks = [group["lr"] for group in optimizer.param_groups]
        state = SavedTraining(folder, network, optimizer, device)
        state.restore()
        how = encoder.preprocessing
        view = OneView(size=how.size, mean=how.mean, std=how.std)
        loss_of = F.cross_entropy if part.labels.ndim == 1 else F.binary_cross_entropy_with_logits
        labels = torch.zeros((len(part.images), *part.labels.shape[1:]), dtype=torch.int64)
        labels[torch.from_numpy(part.index)] = torch.from_numpy(part.labels)
        stream = batches(
            part.images,
            view,
            batch_size=training.batch_size,
            seed=seed,
            first_step=ends[min(state.epoch, training.epochs)],
            total_steps=total_steps,
            workers=usable_cores(),
            device=device.device,
            among=part.index,
        )
        network.train()
        with closing(stream):
            for batch in () if state.is_over(training.patience) else stream:
                torch.manual_seed((seed << 32) + batch.step)  # for dropout and its like
                for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                    group["lr"] = peak * 0.5 * (1 + math.cos(math.pi * batch.step / total_steps))
                (images,) = batch.views
                known = labels[torch.from_numpy(batch.index)].to(device.device)
                with device.autocast():
                    logits = network(images.contiguous(memory_format=device.memory_format))
                if part.labels.ndim > 1:
                    known = known.float()
                loss = torch.stack([loss_of(one.float(), known) for one in logits]).sum()
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                optimizer.step()
                progress.show(f"{title}  epoch {(batch.step + 1) / steps_per_epoch:.1f}/{training.epochs}")
                if batch.step + 1 == ends[state.epoch + 1]:
                    network.eval()
                    state.end_epoch(score(network) if score is not None else None)
                    network.train()
                    if state.is_over(training.patience):
                        break
        state.finish()
        return Trained(network.eval(), state.held_out, state.best_epoch)


def logits_of(network: Classifier, part: Labelled, head: int, device: Device) -> tuple[Tensor, Tensor]:
    """Return a classifier's logits (M, C) of center crops of labelled images, and positions (M,) in `part`.

    M < N where files cannot be decoded.
    """
    network.to(device.device).eval()
    encode = encode_with(network.encoder, device)
    rows, kept = features(
        lambda images: network.heads[head](encode(images)),
        part.images,
        part.index,
        network.encoder.preprocessing,
    )
    return rows, torch.from_numpy(np.flatnonzero(np.isin(part.index, kept)))


def _network(encoder: Pretrained, num_classes: int, training: Training, device: Device) -> Classifier:
    with torch.no_grad():
        encoder.to(device.device).eval()
        dim = encoder(encoder.preprocessing.sample().to(device.device)).shape[1]
    network = Classifier(encoder, dim, num_classes, len(training.lrs), is_frozen=training.is_frozen)
    return network.to(device.device).to(memory_format=device.memory_format)


def _optimizer(network: Classifier, training: Training, steps_per_epoch: float) -> torch.optim.Optimizer:
    """Return the optimizer, each of whose groups has its peak learning rate."""
    groups = head_groups(network.heads, training.lrs, training.weight_decay)
    if not training.is_frozen:
        slow_statistics(network, steps_per_epoch)
        encoder = network.encoder.encoder
        groups += encoder_groups(encoder, training.lrs[0], training.weight_decay, training.layer_decay)
    if training.optimizer == "adamw":
        return torch.optim.AdamW(groups)
    return torch.optim.SGD(groups, momentum=0.9, nesterov=True)


def _key(
    encoder: Pretrained,
    part: Labelled,
    training: Training,
    seed: int,
    device: Device,
    data: str,
    score: object,
) -> str:
    words = [
        _FORMAT,
        encoder.fingerprint(),
        asdict(training),
        seed,
        str(device.device),
        device.precision,
        data,
    ]
    words.append(score is not None)
    return digest(part.index, part.labels, json.dumps(words))

"""What an encoder has to beat: its own network at random, and what one gets of images without any learning.

Batch-norm statistics are those of the training images, in the encoder as in the random network: the one
gathered them while it learned, for the other they are estimated, without a gradient (decision 0022).
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from byol.data.image.preprocessing import Preprocessing
from byol.data.images import Images
from byol.data.order import permutation
from byol.data.views import Indices
from byol.evaluate.protocol.slot import Context
from byol.evaluate.task import Task
from byol.model.batch_statistics import estimate
from byol.model.whitening import whiten
from byol.weights.pretrained import Pretrained

AT_MOST = 4_096  # images: a choice
_BATCH = 256


def estimate_statistics(
    network: nn.Module,
    images: Images,
    preprocessing: Preprocessing,
    device: torch.device,
    among: Indices | None = None,
) -> None:
    """Set what a network at random has not gathered: batch-norm statistics, then whitening.

    Args:
        network: in eval mode, on the device.
        images: the set that is learned from.
        preprocessing: how images are prepared.
        device: of the network.
        among: (N,) which of the images; None for all. At most 4,096 are drawn, always the same ones.
    """
    estimate(network, _prepared(images, preprocessing, device, among))
    whiten_on(network, images, preprocessing, device, among)


def whiten_on(
    network: nn.Module,
    images: Images,
    preprocessing: Preprocessing,
    device: torch.device,
    among: Indices | None = None,
    at_most: int = AT_MOST,
) -> None:
    """Set the whitening layers of a network whose batch norms have their statistics, where it has any.

    Arguments as in `estimate_statistics`; `at_most` images are drawn.
    """
    whiten(network, _prepared(images, preprocessing, device, among, at_most))


def _prepared(
    images: Images,
    preprocessing: Preprocessing,
    device: torch.device,
    among: Indices | None,
    at_most: int = AT_MOST,
) -> Iterator[Tensor]:
    among = np.arange(len(images)) if among is None else among
    chosen = among[permutation(0, 0, len(among))[:at_most]]
    for part in np.array_split(chosen, max(1, round(len(chosen) / _BATCH))):
        batch, kept = preprocessing.read(images, part)
        if len(kept):
            yield batch.to(device)


def at_random(
    encoder: Pretrained, images: Images, context: Context, among: Indices | None = None
) -> Pretrained:
    """Return the encoder's network with random weights and the statistics that these give it.

    Args:
        encoder: which is not changed.
        images: the set that is learned from.
        context: of the evaluation; its seed draws the weights.
        among: (N,) which of the images; None for all.
    """
    random, device = encoder.fresh(context.seed), context.device.device
    estimate_statistics(random.to(device).encoder, images, encoder.preprocessing, device, among)
    return random


class AgainstRandom:
    """The baselines of protocols by which the network learns, or sees random crops."""

    def baselines(self, encoder: Pretrained, task: Task, context: Context) -> list[Pretrained]:
        """Return the same network with random weights."""
        return [at_random(encoder, task.train.images, context, task.train.index)]


class AgainstFeatures(AgainstRandom):
    """The baselines of protocols that judge features of images as they are."""

    def baselines(self, encoder: Pretrained, task: Task, context: Context) -> list[Pretrained]:
        """Return the same network with random weights, raw pixels, and histograms."""
        return [*super().baselines(encoder, task, context), *unlearned(encoder)]


def unlearned(encoder: Pretrained) -> list[Pretrained]:
    """Return what makes features of images without having learned: raw pixels, and histograms."""
    plain = encoder.preprocessing.unnormalized()
    return [Pretrained(one.encoder, plain, name=one.name) for one in plain.unlearned()]

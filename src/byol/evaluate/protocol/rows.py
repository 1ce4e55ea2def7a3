"""Features of a task's labelled images, as protocols on frozen encoders use them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from byol.evaluate.features import kept_features
from byol.evaluate.protocol.slot import Context
from byol.evaluate.task import Labelled
from byol.weights.pretrained import Pretrained


def labelled_rows(
    encoder: Pretrained, part: Labelled, context: Context, *, flip: bool = False
) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
    """Return features of labelled images, from the cache where they are known.

    Args:
        encoder: frozen.
        part: N labelled images.
        context: of the evaluation.
        flip: mirror the images first.

    Returns:
        Features (M, D), labels (M,) or (M, C), and positions (M,) in `part`; M < N where files cannot be
        decoded.
    """
    rows = kept_features(encoder, part.images, context.device, context.progress, flip=flip)
    if len(part) < len(rows):
        rows = rows[torch.from_numpy(part.index)]
    is_readable = ~rows[:, 0].isnan()
    labels = torch.from_numpy(part.labels)
    if not is_readable.all():
        rows, labels = rows[is_readable], labels[is_readable]
    return rows, labels, np.flatnonzero(is_readable.numpy())

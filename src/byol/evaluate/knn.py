"""Weighted nearest neighbours: what a representation knows of the labels without any training."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from byol.data.images import Files, Packed
from byol.evaluate.features import Encode, features
from byol.run.errors import UserError


def knn_scores(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    num_classes: int,
    *,
    k: int = 20,
    temperature: float = 0.07,
    leave_one_out: bool = False,
    chunk: int = 1024,
) -> Tensor:
    """Return the votes of each query's k nearest neighbours, weighted by exp(cosine / temperature).

    Args:
        bank: features with labels (N, D).
        bank_labels: int64 (N,) in [0, num_classes).
        queries: features to be judged (M, D).
        num_classes: number of columns of the result.
        k: neighbours that vote, in [1, N].
        temperature: of the weights; above 0.
        leave_one_out: the queries are the bank, and none may vote for itself.
        chunk: queries compared at once, which bounds the memory to chunk * N numbers.

    Returns:
        (M, num_classes); the largest is the answer.

    Raises:
        UserError: k is larger than the bank allows.

    Source: Wu et al. 2018 (1805.01978), section 3.4.
    """
    limit = len(bank) - int(leave_one_out)
    if not 1 <= k <= limit:
        raise UserError(f"k is {k}, but {limit} labelled images can vote; choose k in [1, {limit}].")
    bank, queries = F.normalize(bank.float(), dim=1), F.normalize(queries.float(), dim=1)
    scores = []
    for start in range(0, len(queries), chunk):
        similarity = queries[start : start + chunk] @ bank.T
        if leave_one_out:
            similarity[torch.arange(len(similarity)), start + torch.arange(len(similarity))] = -torch.inf
        nearest, where = similarity.topk(k, dim=1)
        # The weights relative to the nearest neighbour's: the same votes, and no overflow.
        weights = ((nearest - nearest[:, :1]) / temperature).exp()
        votes = torch.zeros(len(weights), num_classes, device=weights.device)
        scores.append(votes.scatter_add_(1, bank_labels[where], weights))
    return torch.cat(scores)


def top1(scores: Tensor, labels: Tensor) -> float:
    """Return the share of rows of scores (M, classes) whose largest entry is the label, in percent."""
    return 100.0 * (scores.argmax(dim=1) == labels).float().mean().item()


def knn_top1(
    encode: Encode,
    bank: Packed | Files,
    queries: Packed | Files | None,
    size: int,
    *,
    k: int = 20,
    temperature: float = 0.07,
    crop_share: float = 1.0,
    at_most: tuple[int, int] | None = None,
) -> float:
    """Return the top-1 accuracy of weighted nearest neighbours, in percent.

    Args:
        encode: maps (B, 3, size, size) in [0, 1] to features (B, D).
        bank: labelled images that vote.
        queries: labelled images that are judged; None judges the bank, each image by all others.
        size: side of the centre crops.
        k: neighbours that vote; fewer when the bank is smaller.
        temperature: of the votes' weights.
        crop_share: of the shorter side that the crops keep, in (0, 1].
        at_most: images of the bank and of the queries that are used, evenly spaced; None uses all.

    Raises:
        UserError: one of the sets has no labels.
    """
    if bank.labels is None or (queries is not None and queries.labels is None):
        raise UserError("kNN needs labels: put the images of each class into a folder of its own.")
    limits = at_most or (len(bank), len(queries) if queries is not None else 0)
    chosen = evenly(len(bank), limits[0])
    rows, kept = features(encode, bank, chosen, size, crop_share=crop_share)
    labels = torch.from_numpy(bank.labels[kept])
    if queries is None:
        judged, judged_labels = rows, labels
    else:
        judged, kept = features(encode, queries, evenly(len(queries), limits[1]), size, crop_share=crop_share)
        assert queries.labels is not None
        judged_labels = torch.from_numpy(queries.labels[kept])
    k = min(k, len(rows) - int(queries is None))
    scores = knn_scores(
        rows, labels, judged, len(bank.classes), k=k, temperature=temperature, leave_one_out=queries is None
    )
    return top1(scores, judged_labels)


def evenly(length: int, limit: int) -> NDArray[np.int64]:
    """Return the indices of at most `limit` things out of `length`, evenly spaced."""
    return np.linspace(0, length - 1, min(length, limit)).round().astype(np.int64)

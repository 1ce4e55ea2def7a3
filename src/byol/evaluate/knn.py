"""Weighted nearest neighbors: what a representation knows of the labels without any training."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from byol.data.image.preprocessing import Preprocessing
from byol.data.images import Images
from byol.errors import UserError
from byol.evaluate.features import Encode, features


def knn_scores(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    num_classes: int,
    *,
    k: int = 20,
    temperature: float = 0.07,
    leave_one_out: bool = False,
    device: torch.device | None = None,
) -> Tensor:
    """Return the votes of each query's k nearest neighbors, weighted by exp(cosine / temperature).

    Args:
        bank: features with labels (N, D).
        bank_labels: int64 (N,) in [0, num_classes), or (N, num_classes) of 0 and 1.
        queries: features to be judged (M, D).
        num_classes: number of columns of the result.
        k: neighbors that vote, in [1, N].
        temperature: of the weights; above 0.
        leave_one_out: the queries are the bank, and none may vote for itself.
        device: where neighbors are looked for; by default the CPU.

    Returns:
        (M, num_classes); the largest is the answer.

    Raises:
        UserError: k is larger than the bank allows.

    Source: Wu et al. 2018 (1805.01978), section 3.4.
    """
    similarity, where = nearest(bank, queries, k, leave_one_out=leave_one_out, device=device)
    # The weights relative to the nearest neighbor's: the same votes, and no overflow.
    weights = ((similarity - similarity[:, :1]) / temperature).exp()
    votes = torch.zeros(len(weights), num_classes, dtype=weights.dtype)
    if bank_labels.ndim == 1:
        return votes.scatter_add_(1, bank_labels[where], weights)
    for rank in range(k):  # an image votes for each of its labels
        votes += weights[:, rank, None] * bank_labels[where[:, rank]]
    return votes


def nearest(
    bank: Tensor,
    queries: Tensor,
    k: int,
    *,
    leave_one_out: bool = False,
    device: torch.device | None = None,
    rows: int = 4096,
    columns: int = 8192,
) -> tuple[Tensor, Tensor]:
    """Return the k largest cosines of each query with the bank, and their positions in it, the largest first.

    Exact, in blocks: neither the bank, which may be mapped from disk, nor its similarities to the queries
    need to fit into memory.

    Args:
        bank: (N, D).
        queries: (M, D).
        k: in [1, N], or N - 1 where each is left out.
        leave_one_out: the queries are the bank, and none finds itself.
        device: where it is computed; by default the CPU.
        rows: queries of a block.
        columns: images of the bank in a block.

    Returns:
        Cosines (M, k) and int64 (M, k), on the CPU; float64 for float64 features, else float32.

    Raises:
        UserError: k is larger than the bank allows.
    """
    refuse_too_many(k, len(bank) - int(leave_one_out))
    found = []
    for top in range(0, len(queries), rows):
        block = _directions(queries[top : top + rows], device)
        best: tuple[Tensor, Tensor] | None = None
        for left in range(0, len(bank), columns):
            similarity = block @ _directions(bank[left : left + columns], device).T
            if leave_one_out:
                itself = torch.arange(top, top + len(block)) - left
                inside = (itself >= 0) & (itself < similarity.shape[1])
                similarity[torch.arange(len(block))[inside], itself[inside]] = -torch.inf
            here, where = similarity.topk(min(k, similarity.shape[1]), dim=1)
            if best is not None:
                both = torch.cat([best[0], here], dim=1)
                here, chosen = both.topk(min(k, both.shape[1]), dim=1)
                where = torch.cat([best[1], where + left], dim=1).gather(1, chosen)
            best = here, where
        assert best is not None
        found.append((best[0].cpu(), best[1].cpu()))
    cosines, positions = zip(*found, strict=True)
    return torch.cat(cosines), torch.cat(positions)


def refuse_too_many(k: int, limit: int) -> None:
    """Raise a UserError where fewer than k labelled images can vote."""
    if not 1 <= k <= limit:
        raise UserError(f"k is {k}, but {limit} labelled images can vote; choose k in [1, {limit}].")


def _directions(features: Tensor, device: torch.device | None) -> Tensor:
    floats = features if features.dtype == torch.float64 else features.float()
    return F.normalize(floats.to(device), dim=1)


def top1(scores: Tensor, labels: Tensor) -> float:
    """Return how many rows of scores (M, classes) have their largest entry at the label, in percent."""
    return 100.0 * (scores.argmax(dim=1) == labels).float().mean().item()


def knn_top1(
    encode: Encode,
    bank: Images,
    queries: Images | None,
    preprocessing: Preprocessing,
    *,
    k: int = 20,
    temperature: float = 0.07,
    at_most: tuple[int, int] | None = None,
) -> float:
    """Return the top-1 accuracy of weighted nearest neighbors, in percent.

    Args:
        encode: maps prepared images (B, C, S, S) to features (B, D).
        bank: labelled images that vote.
        queries: labelled images that are judged; None judges the bank, each image by all others.
        preprocessing: how images are prepared.
        k: neighbors that vote; fewer when the bank is smaller.
        temperature: of the votes' weights.
        at_most: images of the bank and of the queries that are used, evenly spaced; None uses all.

    Raises:
        UserError: one of the sets has no labels.
    """
    if bank.labels is None or (queries is not None and queries.labels is None):
        raise UserError("kNN needs labels: put the images of each class into a folder of its own.")
    limits = at_most or (len(bank), len(queries) if queries is not None else 0)
    chosen = evenly(len(bank), limits[0])
    rows, kept = features(encode, bank, chosen, preprocessing)
    labels = torch.from_numpy(bank.labels[kept])
    if queries is None:
        judged, judged_labels = rows, labels
    else:
        judged, kept = features(encode, queries, evenly(len(queries), limits[1]), preprocessing)
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

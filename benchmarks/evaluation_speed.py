"""How fast are nearest neighbors and logistic regression, beside scikit-learn on the same features?

    python benchmarks/evaluation_speed.py --out evaluation_speed.json [--encoder RUN --data LABELLED]

50,000 features of 512 dimensions in 10 classes to learn from, 10,000 to be judged: rectified Gaussians around
a mean for each class, or those of an encoder. Both sides alternate in one process. In logistic regression
both fit 45 strengths, the strongest first, each from where the last ended; how much higher scikit-learn's
objective ends is in nats an image. The floor of neighbors is the similarity matrix alone, as products of
matrices in float32.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor
from torch.nn import functional as F

import byol
from byol.evaluate.features import kept_features
from byol.evaluate.knn import knn_scores
from byol.evaluate.logistic import STRENGTHS, fit_path
from byol.evaluate.task import open_task
from byol.run.provenance import provenance
from byol.system.device import pick_device
from byol.system.progress import Progress

BANK, QUERIES, DIM, CLASSES, K, TEMPERATURE = 50_000, 10_000, 512, 10, 20, 0.07
PATH = sorted(STRENGTHS, reverse=True)


def main() -> None:
    """Time both sides and write what was found."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--out", type=Path, required=True)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--encoder")
    asked.add_argument("--data")
    given = asked.parse_args()
    bank, labels, queries = _real(given.encoder, given.data) if given.encoder else _drawn()
    answers: dict[str, Any] = {}

    def ours() -> None:
        answers["ours"] = knn_scores(bank, labels, queries, CLASSES, k=K, temperature=TEMPERATURE).argmax(1)

    def theirs() -> None:
        judge = KNeighborsClassifier(K, metric="cosine", algorithm="brute", weights=_weights)
        answers["theirs"] = judge.fit(bank.numpy(), labels.numpy()).predict(queries.numpy())

    def product() -> None:
        for rows in torch.split(queries, 1_000):
            rows @ bank.T

    def our_path() -> None:
        path = fit_path(bank, labels, PATH, num_classes=CLASSES)
        answers["our path"] = [(model.weight, model.intercept) for model in path]

    def their_path() -> None:
        model, found = LogisticRegression(warm_start=True, max_iter=10_000), []
        for strength in PATH:
            model.set_params(C=1 / strength).fit(bank.numpy(), labels.numpy())
            found.append((torch.tensor(model.coef_), torch.tensor(model.intercept_)))
        answers["their path"] = found

    seconds = _alternate({"knn": ours, "scikit-learn knn": theirs, "product alone": product}, given.rounds)
    seconds |= _alternate({"logistic": our_path, "scikit-learn logistic": their_path}, given.rounds)
    excess = [
        _objective(bank, labels, other, strength) - _objective(bank, labels, own, strength)
        for own, other, strength in zip(answers["our path"], answers["their path"], PATH, strict=True)
    ]
    found = {
        "features": list(bank.shape),
        "seconds": {name: {"median": median(all_), "all": all_} for name, all_ in seconds.items()},
        "same neighbors' answers": float((answers["ours"].numpy() == answers["theirs"]).mean()),
        "their objective above ours": {"least": min(excess), "most": max(excess)},
        "provenance": provenance(device=f"cpu, {torch.get_num_threads()} threads"),
    }
    given.out.write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))


def _drawn() -> tuple[Tensor, Tensor, Tensor]:
    """Return features to learn from, their labels, and features to be judged."""
    random = torch.Generator().manual_seed(0)
    means = torch.randn(CLASSES, DIM, generator=random)
    labels, truth = (torch.randint(CLASSES, (count,), generator=random) for count in (BANK, QUERIES))
    bank, queries = (
        (means[of] + 3 * torch.randn(len(of), DIM, generator=random)).relu() for of in (labels, truth)
    )
    return bank, labels, queries


def _real(run: str, data: str) -> tuple[Tensor, Tensor, Tensor]:
    encoder, task = byol.load(run), open_task(data)
    with Progress() as progress:
        bank, queries = (
            kept_features(encoder, part.images, pick_device(), progress).clone()
            for part in (task.train, task.judged)
        )
    return bank, torch.from_numpy(task.train.labels), queries


def _objective(rows: Tensor, labels: Tensor, fitted: tuple[Tensor, Tensor], strength: float) -> float:
    weight, intercept = (tensor.double() for tensor in fitted)
    loss = F.cross_entropy(rows.double() @ weight.T + intercept, labels, reduction="sum")
    return float(loss + strength / 2 * weight.square().sum()) / len(rows)


def _weights(distances: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    similarity = 1 - distances
    return np.exp((similarity - similarity.max(axis=1, keepdims=True)) / TEMPERATURE)


def _alternate(sides: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            began = time.perf_counter()
            side()
            seconds[name].append(round(time.perf_counter() - began, 3))
    return seconds


if __name__ == "__main__":
    main()

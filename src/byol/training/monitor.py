"""Is it working? Numbers of a step, kNN beside its baselines, and a word when something is wrong."""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from byol.algorithm import Step
from byol.data.image.preprocessing import Preprocessing
from byol.data.images import Images
from byol.errors import UserError
from byol.evaluate.features import Encode, features, pixels
from byol.evaluate.knn import evenly, knn_top1, top1
from byol.evaluate.spread import effective_rank, feature_spread
from byol.recipe.spec import Recipe
from byol.system.device import Device
from byol.system.processes import Processes
from byol.training.classifier import OnlineClassifier
from byol.training.learner import Learner

# While training, kNN looks at a part of the images (bank, queries); all are judged before and after.
QUICK = (5_000, 1_000)
# Healthy projections spread over 0.5 and more; without predictor and moving average the spread falls
# below this within some dozen steps (tests/test_paper.py).
COLLAPSED_SPREAD = 0.1


def measure(result: Step, learner: Learner, processes: Processes) -> dict[str, float]:
    """Return the numbers of a record. This is the one place in the loop that waits for the device.

    Args:
        result: of the newest step.
        learner: whose gradients are still those of the newest step, with the losses since the last record.
        processes: whose branches are looked at together.

    Raises:
        UserError: a loss is not finite.
    """
    refuse_nan(learner)
    gradients = [p.grad for p in learner.online.parameters() if p.grad is not None]
    return {
        "loss": torch.stack(learner.losses).mean().item(),
        "feature_spread": feature_spread(processes.rows(result.branch.projection)),
        "effective_rank": effective_rank(processes.rows(result.branch.representation)),
        "gradient_norm": torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))).item(),
    }


def refuse_nan(learner: Learner) -> None:
    """Stop when one of the newest losses is not finite, before anything of it is saved.

    Raises:
        UserError: naming the first such step.
    """
    losses = torch.stack(learner.losses).tolist() if learner.losses else []
    for step, loss in enumerate(losses, learner.step - len(losses) + 1):
        if not math.isfinite(loss):
            raise UserError(
                f"the loss became {loss} at step {step}; the last checkpoint is from before. "
                "Lower --optimizer.base-lr, lengthen --warmup-epochs, or try --precision float32."
            )


def collapse_sentence(spread: float, step: int) -> str:
    """Return what to tell the person when the projections have collapsed."""
    return (
        f"COLLAPSED at step {step}: feature spread {spread:.3f} (1 is spread, 0 is collapsed), so all images "
        "look alike to the network and a falling loss means nothing. Check that predictor and moving average "
        "are in place, lower --optimizer.base-lr, or raise --target.tau-base."
    )


class Judge:
    """Weighted kNN of an encoder on labelled images, beside random initialisation and raw pixels.

    The bank is the training images; the test images (or val, or, without either, each training
    image against all others) are judged. Without labels there is nothing to judge.

    Args:
        sets: split name to images.
        recipe: whose evaluation size and normalisation the encoder expects.
        device: where the encoder runs.
    """

    def __init__(self, sets: dict[str, Images], recipe: Recipe, device: Device) -> None:
        self._bank, self._queries = sets["train"], sets.get("test", sets.get("val"))
        self._preprocessing, self._device = recipe.views.preprocessing(recipe.evaluation_size), device
        judged = [self._bank] if self._queries is None else [self._bank, self._queries]
        self.judged = "training images, which it has seen" if self._queries is None else "held-out images"
        self.has_labels = len(self._bank.classes) > 1 and all(
            images.labels is not None and images.labels.ndim == 1 for images in judged
        )

    def accuracy(self, encode: Encode, *, quick: bool, preprocessing: Preprocessing | None = None) -> float:
        """Return kNN top-1 in percent; quick looks at a part of the images."""
        how = self._preprocessing if preprocessing is None else preprocessing
        return knn_top1(encode, self._bank, self._queries, how, at_most=QUICK if quick else None)

    def classifier_top1(self, encode: Encode, classifier: OnlineClassifier, *, quick: bool) -> float:
        """Return the online classifier's top-1 in percent, on the images that kNN judges."""
        images = self._bank if self._queries is None else self._queries
        chosen = evenly(len(images), QUICK[1] if quick else len(images))
        rows, kept = features(encode, images, chosen, self._preprocessing)
        assert images.labels is not None
        with torch.no_grad():
            scores = classifier(rows.to(self._device.device)).cpu()
        return top1(scores, torch.from_numpy(images.labels[kept]))

    def encode(self, encoder: nn.Module) -> Encode:
        """Return the encoder in eval mode, as a function of prepared images (B, C, S, S).

        It is a copy: neither batch-norm statistics nor the mode of the network that learns is touched.
        In float32, so that `byol eval knn` finds the same figure later.
        """
        encoder = copy.deepcopy(encoder).eval()

        def run(images: Tensor) -> Tensor:
            return encoder(images.to(self._device.device))  # type: ignore[no-any-return]

        return run

    def baselines(self, encoder: nn.Module) -> dict[str, dict[str, float]]:
        """Return what an encoder has to beat: itself at random, and raw pixels.

        Returns:
            {"quick": accuracies, "full": accuracies}; empty without labels.
        """
        if not self.has_labels:
            return {}
        random, plain = self.encode(encoder), self._preprocessing.unnormalized()
        return {
            name: {
                "knn_top1_random": self.accuracy(random, quick=quick),
                "knn_top1_pixels": self.accuracy(pixels, quick=quick, preprocessing=plain),
            }
            for name, quick in (("quick", True), ("full", False))
        }


def table(summary: dict[str, Any]) -> str:
    """Return the accuracies of a summary, one per line."""
    rows = {
        "random initialisation": summary["knn_top1_random"],
        "raw pixels": summary["knn_top1_pixels"],
        "this encoder": summary["knn_top1"],
    }
    return "\n".join(
        [
            "kNN top-1 of all images",
            *(f"  {name:<22}{top1:6.2f} %" for name, top1 in rows.items()),
            f"online classifier (labels reach it alone), on {summary['online_classifier_judged_on']}",
            f"  {'top-1':<22}{summary['online_classifier_top1']:6.2f} %",
        ]
    )


def line(step: int, total_steps: int, record: dict[str, Any], left: str, scores: dict[str, float]) -> str:
    """Return the live line."""
    words = [
        f"step {step:,}/{total_steps:,}",
        f"epoch {record['epoch']:.2f}",
        f"{record['images_per_second']:,.0f} images/s",
        f"ETA {left}",
        f"loss {record['loss']:.3f}",
        f"lr {record['lr']:.4f}",
        f"tau {record['tau']:.4f}",
        f"spread {record['feature_spread']:.2f}",
    ]
    if scores:
        known = (
            "kNN {knn_top1:.1f} (random {knn_top1_random:.1f}, pixels {knn_top1_pixels:.1f})  "
            "online classifier {online_classifier_top1:.1f}"
        )
        words.append(known.format(**scores))
    return "  ".join(words)

"""What a person sees of a run while it learns: kNN beside what it has to beat, and one live line."""

import copy
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from byol.data.image.preprocessing import Preprocessing
from byol.data.images import Images
from byol.data.splits import to_learn_from
from byol.evaluate.baselines import AT_MOST, estimate_statistics, whiten_on
from byol.evaluate.features import Encode, features
from byol.evaluate.knn import evenly, knn_top1, top1
from byol.model.whitening import has_whitening
from byol.recipe.spec import Recipe
from byol.system.device import Device
from byol.training.classifier import OnlineClassifier
from byol.training.learner import Learner

# While training, kNN looks at a part of the images (bank, queries); all are judged before and after.
QUICK = (5_000, 1_000)
_QUICKLY_WHITENED = 1_000  # on so many images, which for a look are enough: a choice
_BEATEN = "knn_top1_"  # before the names of what an encoder has to beat


class Judge:
    """Weighted kNN of an encoder on labelled images, beside random initialization and raw pixels.

    The bank is the training images; the test images (or val, or, without either, each training
    image against all others) are judged. Without labels there is nothing to judge.

    Args:
        sets: split name to images.
        recipe: whose evaluation size and normalization the encoder expects.
        device: where the encoder runs.
    """

    def __init__(self, sets: Mapping[str, Images], recipe: Recipe, device: Device) -> None:
        split, self._bank = to_learn_from(sets)
        self._queries = sets.get("test", sets.get("val")) if split == "train" else None
        self.preprocessing, self._device = recipe.views.preprocessing(recipe.evaluation_size), device
        judged = [self._bank] if self._queries is None else [self._bank, self._queries]
        self.seconds = 0.0  # that one look at a part of the images takes, once the baselines are measured
        self.judged = "training images, which it has seen" if self._queries is None else "held-out images"
        self.has_labels = len(self._bank.classes) > 1 and all(
            images.labels is not None and images.labels.ndim == 1 for images in judged
        )

    @property
    def num_classes(self) -> int:
        """Of the labels that an online classifier can learn; 0 without labels."""
        return len(self._bank.classes) if self.has_labels else 0

    def scores(self, learner: Learner, *, quick: bool) -> dict[str, float]:
        """Return accuracies of the encoder as it stands, beside what it has to beat, in percent."""
        assert learner.classifier is not None
        encoder = learner.online.encoder
        return {
            "knn_top1": self.accuracy(self.encode(self.finished(encoder, quick=quick)), quick=quick),
            **learner.baselines["quick" if quick else "full"],
            "online_classifier_top1": self.classifier_top1(
                self.encode(encoder), learner.classifier, quick=quick
            ),
        }

    def accuracy(self, encode: Encode, *, quick: bool, preprocessing: Preprocessing | None = None) -> float:
        """Return kNN top-1 in percent; quick looks at a part of the images."""
        how = self.preprocessing if preprocessing is None else preprocessing
        return knn_top1(encode, self._bank, self._queries, how, at_most=QUICK if quick else None)

    def classifier_top1(self, encode: Encode, classifier: OnlineClassifier, *, quick: bool) -> float:
        """Return the online classifier's top-1 in percent, on the images that kNN judges."""
        images = self._bank if self._queries is None else self._queries
        chosen = evenly(len(images), QUICK[1] if quick else len(images))
        rows, kept = features(encode, images, chosen, self.preprocessing)
        assert images.labels is not None
        with torch.no_grad():
            scores = classifier(rows.to(self._device.device)).cpu()
        return top1(scores, torch.from_numpy(images.labels[kept]))

    def finished(self, encoder: nn.Module, *, quick: bool = False) -> nn.Module:
        """Return an encoder as a run leaves it behind: itself, or a whitened copy if it has such layers."""
        if not has_whitening(encoder):
            return encoder
        encoder = copy.deepcopy(encoder).eval()
        at_most = _QUICKLY_WHITENED if quick else AT_MOST
        whiten_on(encoder, self._bank, self.preprocessing, self._device.device, at_most=at_most)
        return encoder

    def encode(self, encoder: nn.Module) -> Encode:
        """Return the encoder in eval mode, as a function of prepared images (B, C, S, S).

        It is a copy: neither batch-norm statistics nor the mode of the network that learns is touched.
        In float32, so that `byol eval knn` finds the same accuracy later.
        """
        encoder = copy.deepcopy(encoder).eval()

        def run(images: Tensor) -> Tensor:
            return encoder(images.to(self._device.device))  # type: ignore[no-any-return]

        return run

    def look(self, encoder: nn.Module) -> float:
        """Return the seconds that one look at a part of the images takes; 0 without labels."""
        if not self.has_labels:
            return 0.0
        started = time.perf_counter()
        self.accuracy(self.encode(self.finished(encoder, quick=True)), quick=True)
        return time.perf_counter() - started

    def baselines(self, encoder: nn.Module) -> dict[str, dict[str, float]]:
        """Return what an encoder has to beat: itself at random, and what has not learned.

        Args:
            encoder: with the weights that were drawn; the random network is judged with the batch-norm
                statistics that they have on the images that are learned from.

        Returns:
            {"quick": accuracies, "full": accuracies}; empty without labels.
        """
        if not self.has_labels:
            return {}
        random, plain = copy.deepcopy(encoder).eval(), self.preprocessing.unnormalized()
        estimate_statistics(random, self._bank, self.preprocessing, self._device.device)
        encode, self.seconds = self.encode(random), self.look(encoder)
        at_random = {name: self.accuracy(encode, quick=name == "quick") for name in ("quick", "full")}
        return {
            name: {
                f"{_BEATEN}random": accuracy,
                **{
                    f"{_BEATEN}{one.key}": self.accuracy(
                        one.encoder, quick=name == "quick", preprocessing=plain
                    )
                    for one in plain.unlearned()
                },
            }
            for name, accuracy in at_random.items()
        }

    def at_start(self, encoder: nn.Module) -> dict[str, dict[str, float]]:
        """Return the accuracy of an encoder that learning goes on from, in the form of `baselines`."""
        if not self.has_labels:
            return {}
        begun = self.encode(self.finished(encoder))
        return {
            name: {f"{_BEATEN}start": self.accuracy(begun, quick=quick)}
            for name, quick in (("quick", True), ("full", False))
        }


def live_line(
    step: int, total_steps: int, record: Mapping[str, Any], left: str, scores: Mapping[str, float]
) -> str:
    """Return the line that is renewed while a run learns.

    Args:
        step: of the record.
        total_steps: of the run.
        record: the newest one of a step.
        left: time that is left, in words.
        scores: the newest ones of `Judge.scores`; may be empty.
    """
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
        words.append(scores_line(scores))
    return "  ".join(words)


def scores_line(scores: Mapping[str, float]) -> str:
    """Return what `Judge.scores` found, in a few words."""
    beaten = (
        f"{key.removeprefix(_BEATEN)} {value:.1f}" for key, value in scores.items() if key.startswith(_BEATEN)
    )
    classifier = f"online classifier {scores['online_classifier_top1']:.1f}"
    return f"kNN {scores['knn_top1']:.1f} ({', '.join(beaten)})  {classifier}"

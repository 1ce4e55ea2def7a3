"""A run as one opens it: what it computed, what it recorded, what came out."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byol.errors import UserError
from byol.recipe.spec import Recipe, read_recipe
from byol.run.folder import RunFolder
from byol.run.record import read
from byol.system.files import given_path, read_json
from byol.system.progress import duration

if TYPE_CHECKING:
    from torch import nn

    from byol.weights.pretrained import Pretrained

_NUMBER = int | float
_ALWAYS = {"recipe": str, "epochs": _NUMBER, "wall_seconds": _NUMBER}  # what a summary holds
_LABELLED = {
    **dict.fromkeys(("knn_top1", "knn_top1_random", "knn_top1_pixels"), _NUMBER),
    **dict.fromkeys(("knn_top1_start", "knn_top1_histograms", "online_classifier_top1"), _NUMBER | None),
    "online_classifier_judged_on": str,
}
_RANDOM = "random initialization"
_BEATEN = {  # what an encoder has to beat -> where its accuracy stands in a summary
    _RANDOM: "knn_top1_random",
    "raw pixels": "knn_top1_pixels",
    "histograms": "knn_top1_histograms",
    "the weights that it started from": "knn_top1_start",
}
_UNLABELLED = dict.fromkeys(("loss", "feature_spread", "effective_rank"), _NUMBER | None)


@dataclass(frozen=True, init=False)
class Run:
    """A run folder, finished or not. It stands for its path wherever a path is asked for.

    Args:
        folder: where the run was written.

    Raises:
        UserError: there is no run.
    """

    path: Path

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        object.__setattr__(self, "path", given_path(folder, "say which run: Run(folder)."))
        if not self._folder.recipe.is_file():
            raise UserError(f"{self.path} holds no run; give a folder that byol.pretrain has written.")

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def _folder(self) -> RunFolder:
        return RunFolder(self.path)

    @property
    def recipe(self) -> Recipe:
        """What it computes."""
        return read_recipe(self._folder.recipe)

    @property
    def is_finished(self) -> bool:
        """Whether it has taken its last step, so that there are a summary and an encoder."""
        return self._folder.summary.is_file()

    @property
    def summary(self) -> dict[str, Any]:
        """What came out, as in `summary.json`.

        Raises:
            UserError: the run is not finished, or its summary is damaged.
        """
        if not self.is_finished:
            raise UserError(
                f"{self.path} is not finished; continue it with: byol pretrain --resume "
                f"{shlex.quote(str(self.path))}"
            )
        found = read_json(self._folder.summary)
        wanted = _ALWAYS | (_LABELLED if "knn_top1" in found else _UNLABELLED)
        for name, kind in wanted.items():
            if not isinstance(value := found.get(name), kind):
                raise UserError(
                    f"{self._folder.summary} is damaged: {name} is {value!r:.80}; write it again with byol "
                    f"pretrain --resume {shlex.quote(str(self.path))}."
                )
        return found

    @property
    def records(self) -> list[dict[str, Any]]:
        """What was recorded so far, in order: kind ("train" or "knn"), step, and numbers by name."""
        return read(self._folder.metrics) if self._folder.metrics.is_file() else []

    def load(self, *, encoder: "nn.Module | None" = None) -> "Pretrained":
        """Return the encoder with its preprocessing, as `byol.load` does.

        Args:
            encoder: the module that the run was given, if it was given one.

        Raises:
            UserError: the run is not finished, or needs its module.
        """
        from byol.weights.pretrained import load

        return load(self.path, encoder=encoder)

    @property
    def value(self) -> float | None:
        """Top-1 accuracy of kNN on all images, in percent; None without labels, or before the end."""
        return self.summary.get("knn_top1") if self.is_finished else None

    def table(self) -> list[list[str]]:
        """Return the accuracies, or without labels what the last record says, as rows of strings."""
        found = self.summary
        if "knn_top1" not in found:
            names = ("loss", "feature_spread", "effective_rank")
            return [
                ["at the end", ""],
                *([name.replace("_", " "), _shown(found.get(name), 3)] for name in names),
            ]
        judged_on = found["online_classifier_judged_on"]
        rows = {
            **_BEATEN,
            "this encoder": "knn_top1",
            f"online classifier (labels reach it alone), on {judged_on}": "online_classifier_top1",
        }
        return [
            ["kNN top-1 of all images", "%"],
            *([name, f"{found[key]:.2f}"] for name, key in rows.items() if key in found),
        ]

    def sentence(self) -> str:
        """Return what came out, in one sentence."""
        if not self.is_finished:
            steps = [event["step"] for event in self.records]
            return f"{self.path} is not finished; its last record is of step {max(steps, default=0):,}."
        found = self.summary
        if self.value is None:
            judged = f"feature spread {_shown(found['feature_spread'], 2)}, and no labels to judge by"
        else:
            beaten = ", ".join(f"{name} {found[key]:.1f}" for name, key in _BEATEN.items() if key in found)
            judged = f"kNN top-1 {self.value:.1f} % ({beaten})"
            if behind := not_beaten(found):
                judged += f", so it is NOT ahead of {' and '.join(behind)}"
                judged += ": this run has not helped" if _RANDOM in behind else ""
        took = duration(found["wall_seconds"])
        return f"{found['recipe']}, {found['epochs']} epochs in {took}: {judged}; {self._folder.encoder}"

    def to_json(self) -> dict[str, Any]:
        """Return the summary, and the headline number under "value"."""
        return {**self.summary, "value": self.value}


def not_beaten(scores: Mapping[str, Any]) -> list[str]:
    """Return the names of what an encoder is not ahead of, as a run without use has it; empty without labels.

    Args:
        scores: as they stand in a summary.
    """
    return [name for name, key in _BEATEN.items() if key in scores and scores["knn_top1"] <= scores[key]]


def _shown(value: float | None, digits: int) -> str:
    """Return a number, or "-" where the records that it was taken from had been deleted."""
    return "-" if value is None else f"{value:.{digits}f}"

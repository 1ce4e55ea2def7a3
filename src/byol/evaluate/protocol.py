"""Evaluation of an encoder on labelled images, as a person asks for it."""

import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from byol.data.images import open_data
from byol.evaluate.knn import knn_top1
from byol.pretrained import Pretrained, load
from byol.run.errors import UserError
from byol.run.folder import write_json


@dataclass(frozen=True, kw_only=True)
class KnnResult:
    """What weighted nearest neighbours found.

    Args:
        top1: accuracy in percent.
        k: neighbours that voted, as asked for.
        temperature: of the votes' weights.
        bank: number of labelled images that voted.
        judged: number of images that were judged; equal to the bank and each left out of its own vote
            where there is no test or val split.
        data: the images.
        encoder: the run or file.
        seconds: of the evaluation.
        date: of the evaluation, UTC.
    """

    top1: float
    k: int
    temperature: float
    bank: int
    judged: int
    data: str
    encoder: str
    seconds: float
    date: str

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    def sentence(self) -> str:
        """Return the result in words."""
        return (
            f"kNN top-1 {self.top1:.2f} % of {self.judged:,} images, {self.k} neighbours among {self.bank:,} "
            f"({self.encoder} on {self.data}, {self.seconds:.0f} s)"
        )


def knn(
    run: str | Path, data: str, *, k: int = 20, temperature: float = 0.07, encoder: nn.Module | None = None
) -> KnnResult:
    """Judge a run's encoder by weighted nearest neighbours; the result also goes to RUN/results/knn.json.

    Args:
        run: run folder or `encoder.safetensors`.
        data: labelled images; the train split votes, test (or val) is judged, and with one split alone
            each image is judged by all others.
        k: neighbours that vote.
        temperature: of the votes' weights.
        encoder: the module the run was given, when it was not built from a recipe.

    Raises:
        UserError: there is no encoder, or no labels.
    """
    started = time.perf_counter()
    pretrained = load(run, encoder)
    sets = open_data(data)
    bank, queries = sets["train"], sets.get("test", sets.get("val"))
    if bank.labels is None or (queries is not None and queries.labels is None):
        raise UserError(f"{data} has no labels; put the images of each class into a folder of its own.")
    result = KnnResult(
        top1=knn_top1(
            _encode(pretrained),
            bank,
            queries,
            pretrained.size,
            k=k,
            temperature=temperature,
            crop_share=pretrained.crop_share,
        ),
        k=k,
        temperature=temperature,
        bank=len(bank),
        judged=len(bank if queries is None else queries),
        data=data,
        encoder=str(run),
        seconds=time.perf_counter() - started,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if Path(run).is_dir():
        write_json(Path(run) / "results" / "knn.json", result.to_json())
    return result


def _encode(pretrained: Pretrained) -> Any:
    def run(images: Tensor) -> Tensor:
        return pretrained(pretrained.normalize(images))  # type: ignore[no-any-return]

    return run

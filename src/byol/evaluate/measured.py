"""What an evaluation without labels found, in the form of all results (see `result`)."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from byol.evaluate.unlabelled import Unlabelled


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How good several encoders are, by measures that need no labels, on the same images.

    Args:
        data: the set, as the person named it.
        data_fingerprint: of the images.
        encoders: their names, the one that was asked for first.
        rows: measures of each.
        seed: of images and views.
        provenance: command, commit, versions, machine, date.
        seconds: of all of it.
    """

    data: str
    data_fingerprint: str
    encoders: tuple[str, ...]
    rows: tuple[Unlabelled, ...]
    seed: int
    provenance: dict[str, Any]
    seconds: float

    @property
    def value(self) -> float:
        """RankMe of the encoder, the measure that ranks most nearly as kNN does (docs/unlabelled.md)."""
        return self.rows[0].rankme

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, with value and each measure of the encoder."""
        return {"protocol": "unlabelled", **asdict(self), **asdict(self.rows[0]), "value": self.value}

    def table(self) -> list[list[str]]:
        """Return the measures of each encoder as rows of strings; the first row is the header."""
        names = [field.name for field in fields(Unlabelled)]
        return [
            ["encoder", *(name.replace("_", " ") for name in names)],
            *(
                [encoder, *(f"{getattr(row, name):.4g}" for name in names)]
                for encoder, row in zip(self.encoders, self.rows, strict=True)
            ),
        ]

    def sentence(self) -> str:
        """Return RankMe of the encoder and of where it began."""
        return (
            f"{self.encoders[0]} has a RankMe of {self.value:.4g} against {self.rows[1].rankme:.4g} of "
            f"{self.encoders[1]}, on {self.rows[0].num_images:,} images of {self.data}."
        )

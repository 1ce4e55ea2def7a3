"""What an evaluation found, as frozen data: in Python, as JSON, and as a table to read."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from byol.evaluate.metrics import Difference, Estimate
from byol.evaluate.unlabelled import Unlabelled

NAMES = {
    "top1": "top-1",
    "top5": "top-5",
    "mean_per_class": "mean per class",
    "voc_map": "VOC mAP (11 points)",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One encoder under one protocol on one set. Figures are in percent.

    Args:
        encoder: what was judged.
        fingerprint: of its weights and preprocessing.
        figures: top1, top5 (with more than 5 classes) and mean_per_class, or voc_map; with several draws or
            runs the mean over them. The intervals are over the judged images.
        draws: the task's metric of each draw or run of a protocol that has several.
        spread: standard deviation of `draws`; None for one alone.
        confusion: how many images of each class (row) were taken for each class (column), of the first draw;
            None where an image has any number of labels.
        chosen: what was chosen on held-out training images, for each draw.
        behind: how much better the first encoder is than this one, in points of the task's metric, on the
            same images; None for the first itself.
        seconds: of its evaluation; little where features lay on disk.
    """

    encoder: str
    fingerprint: str
    figures: dict[str, Estimate]
    draws: tuple[float, ...]
    spread: float | None
    confusion: tuple[tuple[int, ...], ...] | None
    chosen: tuple[dict[str, Any], ...]
    behind: Difference | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one protocol found on one set: the encoder, and beside it what it has to beat.

    Args:
        protocol: its name.
        settings: its fields.
        data: the set, as the person named it.
        data_fingerprint: of images and labels.
        classes: their number.
        learnt_from: number of training images, for kNN of those that can be decoded.
        judged: number of judged images; they are the training images, each judged by all others, where
            `leave_one_out`.
        leave_one_out: there was one set alone.
        metric: the figure by which encoders are compared.
        rows: the encoder first, then random initialisation, raw pixels (kNN) and what was asked for.
        seed: of all draws.
        warnings: what the reader of a figure has to know.
        provenance: command, commit, versions, machine, date; the precision is that of networks that learn
            here, frozen ones see float32.
        seconds: of the evaluation.
    """

    protocol: str
    settings: dict[str, Any]
    data: str
    data_fingerprint: str
    classes: int
    learnt_from: int
    judged: int
    leave_one_out: bool
    metric: str
    rows: tuple[Row, ...]
    seed: int
    warnings: tuple[str, ...]
    provenance: dict[str, Any]
    seconds: float

    @property
    def value(self) -> float:
        """The task's metric of the encoder, in percent."""
        return self.rows[0].figures[self.metric].value

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    def table(self) -> list[list[str]]:
        """Return the figures as lines of words, the first of them the titles."""
        names = list(self.rows[0].figures)
        if self.metric == "top1":
            names.remove("mean_per_class")  # the same figure, where all classes are of one size
        lines = [["encoder", *(NAMES[name] for name in names), "draws", "first is ahead by"]]
        for row in self.rows:
            behind = row.behind
            lines.append(
                [
                    row.encoder,
                    *(str(row.figures[name]) for name in names),
                    "" if row.spread is None else f"{len(row.draws)}, sd {row.spread:.1f}",
                    "" if behind is None else str(behind),
                ]
            )
        used = [column for column, words in enumerate(zip(*lines[1:], strict=True)) if any(words)]
        return [[line[column] for column in used] for line in lines]

    def sentence(self) -> str:
        """Return the outcome in words: better than its start or not, and by how much."""
        first, start = self.rows[0], self.rows[1]
        assert start.behind is not None
        words = {
            "better": "is better than",
            "worse": "is WORSE than",
            "undecided": "cannot be told from",
        }
        how = "each judged by all others" if self.leave_one_out else f"learnt from {self.learnt_from:,}"
        return (
            f"{first.encoder} {words[start.behind.verdict]} {start.encoder}: {self.protocol} "
            f"{NAMES[self.metric]} {first.figures[self.metric]} % against {start.figures[self.metric]} %, of "
            f"{self.judged:,} images of {self.data} ({how})."
        )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Whether one encoder is better than another on the same images.

    Args:
        result: the first encoder, random initialisation, and the second as the last row.
        a: name of the first.
        b: name of the second.
        difference: how much better the first is, in points of the task's metric.
    """

    result: Result
    a: str
    b: str
    difference: Difference

    @property
    def exit_code(self) -> int:
        """0: the first is better; 3: undecided; 4: the second is better."""
        return {"better": 0, "undecided": 3, "worse": 4}[self.difference.verdict]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, with the verdict."""
        return {**asdict(self), "verdict": self.difference.verdict, "exit_code": self.exit_code}

    def sentence(self) -> str:
        """Return the answer in words."""
        words = {
            "better": f"{self.a} is better than {self.b}",
            "worse": f"{self.b} is better than {self.a}",
            "undecided": f"{self.a} and {self.b} cannot be told apart",
        }
        return (
            f"{words[self.difference.verdict]}: {self.difference}, {self.result.protocol} "
            f"{NAMES[self.result.metric]} in % of {self.result.judged:,} images of {self.result.data}."
        )


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """What an encoder is worth on several sets.

    Args:
        results: of each set, one for each protocol.
    """

    results: tuple[Result, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    def table(self) -> list[list[str]]:
        """Return a line for each set and protocol: the encoder and its baselines by the set's own metric."""
        lines = [
            {
                "data": result.data,
                "protocol": result.protocol,
                "metric": NAMES[result.metric],
                **_columns(result),
            }
            for result in self.results
        ]
        titles = list(dict.fromkeys(title for line in lines for title in line))
        return [titles, *([line.get(title, "") for title in titles] for line in lines)]


def _columns(result: Result) -> dict[str, str]:
    """Return the figure of each encoder under its name, which is numbered where it comes again."""
    columns: dict[str, str] = {}
    for row in result.rows:
        name, number = row.encoder, 1
        while name in columns:
            number += 1
            name = f"{row.encoder} ({number})"
        columns[name] = str(row.figures[result.metric])
    return columns


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What several encoders are worth as far as that can be told without labels, on the same images.

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

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {"protocol": "unlabelled", **asdict(self)}

    def table(self) -> list[list[str]]:
        """Return the measures as lines of words, the first of them the titles."""
        names = [field.name for field in fields(Unlabelled)]
        return [
            ["encoder", *(name.replace("_", " ") for name in names)],
            *(
                [encoder, *(f"{getattr(row, name):.4g}" for name in names)]
                for encoder, row in zip(self.encoders, self.rows, strict=True)
            ),
        ]


def spread(values: Sequence[float]) -> float | None:
    """Return the standard deviation of a sample (divided by one less than its size); None below two."""
    if len(values) < 2:
        return None
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return float(variance**0.5)

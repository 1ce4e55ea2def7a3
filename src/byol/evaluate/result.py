"""The results of evaluations, as frozen data: in Python, as JSON, as a table and as a sentence to read.

Every result has `value`, `table()`, `sentence()` and `to_json()`, which always holds "value", and "low" and
"high" where there is an interval.
"""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from byol.evaluate.metrics import Difference, Estimate


@dataclass(frozen=True, kw_only=True)
class Row:
    """One encoder under one protocol on one set. Metrics are in percent.

    Args:
        encoder: what was judged.
        fingerprint: of its weights and preprocessing.
        metrics: name -> estimate, such as top1; with several draws or runs the mean over them. The intervals
            are over the judged images.
        draws: the task's metric of each draw or run of a protocol that has several.
        std: standard deviation of `draws`; None for one alone.
        confusion: how many images of each class (row) were taken for each class (column), in the order of
            the result's `class_names`, of the first draw; None where an image has any number of labels.
        chosen: what was chosen on held-out training images, for each draw.
        behind: how much better the first encoder is than this one, in points of the task's metric, on the
            same images; None for the first itself.
        seconds: of its evaluation; little where features lay on disk.
    """

    encoder: str
    fingerprint: str
    metrics: dict[str, Estimate]
    draws: tuple[float, ...]
    std: float | None
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
        class_names: their names, in the order of labels and confusion matrices.
        learned_from: number of training images, for kNN of those that can be decoded.
        judged: number of judged images; they are the training images, each judged by all others, where
            `leave_one_out`.
        leave_one_out: there was one set alone.
        metric: name of the metric by which encoders are compared.
        titles: of the metrics that tables show, name -> title.
        rows: the encoder first, then random initialization, raw pixels (kNN) and what was asked for.
        seed: of all draws.
        warnings: what the reader of a score has to know.
        provenance: command, commit, versions, machine, date; the precision is that of networks that learn
            here, frozen ones see float32.
        seconds: of the evaluation.
    """

    protocol: str
    settings: dict[str, Any]
    data: str
    data_fingerprint: str
    classes: int
    class_names: tuple[str, ...]
    learned_from: int
    judged: int
    leave_one_out: bool
    metric: str
    titles: dict[str, str]
    rows: tuple[Row, ...]
    seed: int
    warnings: tuple[str, ...]
    provenance: dict[str, Any]
    seconds: float

    @property
    def estimate(self) -> Estimate:
        """The task's metric of the encoder, in percent, with its interval."""
        return self.rows[0].metrics[self.metric]

    @property
    def value(self) -> float:
        """The task's metric of the encoder, in percent."""
        return self.estimate.value

    @property
    def low(self) -> float:
        """Lower end of the value's 95 % interval."""
        return self.estimate.low

    @property
    def high(self) -> float:
        """Upper end of the value's 95 % interval."""
        return self.estimate.high

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, with value, low, high and each metric of the encoder."""
        named = {name: estimate.value for name, estimate in self.rows[0].metrics.items()}
        return {**asdict(self), **asdict(self.estimate), **named}

    def table(self) -> list[list[str]]:
        """Return the metrics of each encoder as rows of strings; the first row is the header."""
        header = ["encoder", *self.titles.values(), "draws", "first is ahead by"]
        body = [
            [
                row.encoder,
                *(str(row.metrics[name]) for name in self.titles),
                "" if row.std is None else f"{len(row.draws)}, std {row.std:.1f}",
                "" if row.behind is None else str(row.behind),
            ]
            for row in self.rows
        ]
        used = [column for column, cells in enumerate(zip(*body, strict=True)) if any(cells)]
        return [[cells[column] for column in used] for cells in (header, *body)]

    @property
    def against_start(self) -> Difference:
        """How much better the encoder is than where it began, with random weights."""
        behind = self.rows[1].behind
        assert behind is not None
        return behind

    def sentence(self) -> str:
        """Return the outcome in words: better than its start or not, and by how much."""
        first, start = self.rows[0], self.rows[1]
        words = {
            "better": "is better than",
            "worse": "is WORSE than",
            "undecided": "is not significantly better or worse than",
        }
        how = "each judged by all others" if self.leave_one_out else f"learned from {self.learned_from:,}"
        return (
            f"{first.encoder} {words[self.against_start.verdict]} {start.encoder}: {self.protocol} "
            f"{self.titles[self.metric]} {self.estimate} % against {start.metrics[self.metric]} %, of "
            f"{self.judged:,} images of {self.data} ({how})."
        )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Whether one encoder is better than another on the same images.

    Args:
        result: the first encoder, random initialization, and the second as the last row.
        a: name of the first.
        b: name of the second.
        difference: how much better the first is, in points of the task's metric.
    """

    result: Result
    a: str
    b: str
    difference: Difference

    @property
    def value(self) -> float:
        """How much better the first is, in points of the task's metric."""
        return self.difference.value

    @property
    def low(self) -> float:
        """Lower end of the value's 95 % interval."""
        return self.difference.low

    @property
    def high(self) -> float:
        """Upper end of the value's 95 % interval."""
        return self.difference.high

    @property
    def exit_code(self) -> int:
        """0: the first is better; 3: undecided; 4: the second is better."""
        return {"better": 0, "undecided": 3, "worse": 4}[self.difference.verdict]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, with value, low, high, p, verdict and exit_code."""
        return {
            **asdict(self),
            "result": self.result.to_json(),
            **asdict(self.difference),
            "verdict": self.difference.verdict,
            "exit_code": self.exit_code,
        }

    def table(self) -> list[list[str]]:
        """Return the table of the result: both encoders, and where the first began."""
        return self.result.table()

    def sentence(self) -> str:
        """Return the answer in words."""
        words = {
            "better": f"{self.a} is better than {self.b}",
            "worse": f"{self.b} is better than {self.a}",
            "undecided": f"{self.a} and {self.b} are undecided",
        }
        return (
            f"{words[self.difference.verdict]}: {self.difference}, {self.result.protocol} "
            f"{self.result.titles[self.result.metric]} in % of {self.result.judged:,} images of "
            f"{self.result.data}."
        )


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """The results of one encoder on several sets.

    Args:
        results: of each set, one for each protocol.
    """

    results: tuple[Result, ...]

    @property
    def value(self) -> float | None:
        """That of a result alone; None for several, as a mean over different metrics would be of none."""
        return self.results[0].value if len(self.results) == 1 else None

    def to_json(self) -> dict[str, Any]:
        """Return all results as JSON values, with value, and low and high where there is one result."""
        interval = asdict(self.results[0].estimate) if len(self.results) == 1 else {"value": None}
        return {"results": [result.to_json() for result in self.results], **interval}

    def table(self) -> list[list[str]]:
        """Return a row for each set and protocol: the encoder and its baselines by the set's own metric."""
        body = [
            {
                "data": result.data,
                "protocol": result.protocol,
                "metric": result.titles[result.metric],
                **_columns(result),
            }
            for result in self.results
        ]
        header = list(dict.fromkeys(title for row in body for title in row))
        return [header, *([row.get(title, "") for title in header] for row in body)]

    def sentence(self) -> str:
        """Return how often the encoder is better than where it began."""
        first, start = self.results[0].rows[:2]
        counts = Counter(result.against_start.verdict for result in self.results)
        return (
            f"{first.encoder} against {start.encoder}, {len(self.results)} evaluations: "
            f"{counts['better']} better, {counts['worse']} worse, {counts['undecided']} undecided."
        )


def _columns(result: Result) -> dict[str, str]:
    """Return the score of each encoder under its name, which is numbered where it comes again."""
    columns: dict[str, str] = {}
    for row in result.rows:
        name, number = row.encoder, 1
        while name in columns:
            number += 1
            name = f"{row.encoder} ({number})"
        columns[name] = str(row.metrics[result.metric])
    return columns

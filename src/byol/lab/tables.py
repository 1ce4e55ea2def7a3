"""What the collapse laboratory can ask: tables of recipes that differ in one or two slots, as data.

A table changes a base recipe cell by cell, holds what was published for each cell, and names the
findings: which cell is better than which, by the papers. `laboratory` runs it and says which hold.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from byol.errors import UserError, nearest
from byol.lab.changes import Change, both, put, put_in_views, put_norm
from byol.model.norm import BatchNorm, GroupNorm, NoNorm
from byol.model.predictor import DirectPred, LinearPredictor, NoPredictor
from byol.model.target import ConstantEma, Fixed, Shared
from byol.optim import AdamW, Lars, Sgd

Position = tuple[str, str]  # (row, column)


@dataclass(frozen=True)
class Cell:
    """One recipe of a table.

    Args:
        row: its row.
        column: its column.
        change: makes the cell's recipe from the base recipe.
        published: the score of the paper, in percent, if there is one.
    """

    row: str
    column: str
    change: Change
    published: float | None = None


@dataclass(frozen=True)
class Finding:
    """What a paper found.

    Args:
        sentence: in words.
        better: (row, column) of the cell that won.
        worse: of the cell that lost.
    """

    sentence: str
    better: Position
    worse: Position


@dataclass(frozen=True)
class Table:
    """A question to the laboratory.

    Args:
        name: on the command line.
        title: what is asked.
        axes: what the rows and the columns are.
        source: where the published scores come from, and what they measure.
        cells: the recipes.
        findings: of the paper.
    """

    name: str
    title: str
    axes: tuple[str, str]
    source: str
    cells: tuple[Cell, ...]
    findings: tuple[Finding, ...]

    @property
    def rows(self) -> list[str]:
        """Names of the rows, in order."""
        return list(dict.fromkeys(cell.row for cell in self.cells))

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order."""
        return list(dict.fromkeys(cell.column for cell in self.cells))


def predictor_and_target() -> Table:
    """Predictor (none, linear, MLP, DirectPred) x target (shared, moving average, fixed)."""
    predictors: dict[str, Change] = {
        "none": put(predictor=NoPredictor()),
        "linear": put(predictor=LinearPredictor()),
        "MLP": put(),
        "DirectPred": put(predictor=DirectPred()),
    }
    targets: dict[str, Change] = {
        "shared": put(target=Shared()),
        "EMA": put(),
        "fixed": put(target=Fixed()),
    }
    published = {
        ("none", "shared"): 0.1,
        ("none", "EMA"): 0.2,
        ("linear", "EMA"): 71.5,
        ("MLP", "shared"): 0.3,
        ("MLP", "EMA"): 72.5,
        ("MLP", "fixed"): 18.8,
        ("DirectPred", "EMA"): 72.4,
    }
    return Table(
        "predictor-target",
        "Which predictor and which target keep the representation from collapsing?",
        ("predictor", "target"),
        "BYOL (2006.07733) Tables 5 and 14, DirectPred (2102.06810) Table 9: ImageNet, ResNet-50, 300 "
        "epochs, linear top-1",
        _cross(predictors, targets, published),
        (
            Finding(
                "a moving average alone collapses, a predictor prevents it", ("MLP", "EMA"), ("none", "EMA")
            ),
            Finding(
                "a predictor alone collapses, a moving average prevents it", ("MLP", "EMA"), ("MLP", "shared")
            ),
            Finding("a fixed random target is better than a shared one", ("MLP", "fixed"), ("MLP", "shared")),
            Finding("a moving average is better than a fixed target", ("MLP", "EMA"), ("MLP", "fixed")),
            Finding("an MLP predicts better than a matrix", ("MLP", "EMA"), ("linear", "EMA")),
            Finding(
                "DirectPred is better than a learned linear one", ("DirectPred", "EMA"), ("linear", "EMA")
            ),
            Finding("a learned MLP is better than DirectPred", ("MLP", "EMA"), ("DirectPred", "EMA")),
        ),
    )


def target_decay() -> Table:
    """Constant tau from 0 to 1, beside the schedule of the base recipe."""
    published = {1.0: 18.8, 0.999: 69.8, 0.99: 72.5, 0.9: 68.4, 0.0: 0.3}
    cells = [
        Cell(f"{tau:g}", "constant", put(target=ConstantEma(value=tau)), score)
        for tau, score in published.items()
    ]
    return Table(
        "tau",
        "How fast should the target follow?",
        ("tau", ""),
        "BYOL (2006.07733) Table 5a: ImageNet, ResNet-50, 300 epochs, linear top-1",
        (*cells, Cell("the recipe's own", "constant", put())),
        (
            Finding("tau = 0 collapses", ("0.99", "constant"), ("0", "constant")),
            Finding("tau = 1 is far worse than a moving average", ("0.99", "constant"), ("1", "constant")),
            Finding("tau = 1 is better than tau = 0", ("1", "constant"), ("0", "constant")),
            Finding("0.9 is too fast", ("0.99", "constant"), ("0.9", "constant")),
            Finding("0.999 is too slow", ("0.99", "constant"), ("0.999", "constant")),
        ),
    )


def normalization() -> Table:
    """Batch norm, group norm with weight standardization, and none, with LARS and with SGD."""
    rows = {"BN": put_norm(BatchNorm()), "GN+WS": put_norm(GroupNorm()), "none": put_norm(NoNorm())}
    columns = {name: _OPTIMIZERS[name] for name in ("LARS", "SGD")}
    published = {("BN", "LARS"): 74.3, ("GN+WS", "LARS"): 73.9, ("none", "LARS"): 0.1}
    return Table(
        "normalization",
        "Is batch normalization what keeps BYOL from collapsing?",
        ("norm", "optimizer"),
        "BYOL works even without batch statistics (2010.10241): ImageNet, ResNet-50, linear top-1; "
        "1000 epochs, the last one 300",
        _cross(rows, columns, published),
        (
            Finding("BN is a little better than GN+WS", ("BN", "LARS"), ("GN+WS", "LARS")),
            Finding("without any norm it collapses", ("GN+WS", "LARS"), ("none", "LARS")),
        ),
    )


def view_ops() -> Table:
    """The view's operations removed one by one."""
    color = {"jitter": 0.0, "grayscale": 0.0}
    without = {
        "all": ({}, 72.5),
        "no flip": ({"flip": 0.0}, 71.9),
        "no blur": ({"blur": 0.0}, 71.2),
        "no solarization": ({"solarize": 0.0}, 72.3),
        "no jitter": ({"jitter": 0.0}, 71.8),
        "no grayscale": ({"grayscale": 0.0}, 70.3),
        "no color": (color, 63.4),
        "crop only": ({**color, "flip": 0.0, "blur": 0.0, "solarize": 0.0}, 59.4),
    }
    cells = tuple(
        Cell(name, "BYOL", put_in_views(**fields), score) for name, (fields, score) in without.items()
    )
    return Table(
        "views",
        "Which operations do the views need?",
        ("views", ""),
        "BYOL (2006.07733) Table 17: ImageNet, ResNet-50, 300 epochs, linear top-1",
        cells,
        (
            Finding("color matters", ("all", "BYOL"), ("no color", "BYOL")),
            Finding("crops alone are worst", ("no color", "BYOL"), ("crop only", "BYOL")),
            Finding("blur helps a little", ("all", "BYOL"), ("no blur", "BYOL")),
            Finding("solarization hardly matters", ("all", "BYOL"), ("no solarization", "BYOL")),
            Finding("grayscale helps", ("all", "BYOL"), ("no grayscale", "BYOL")),
        ),
    )


def batch_size() -> Table:
    """The batch cut into micro-batches, gradients averaged: only batch norm sees the small batch."""
    published = {1: 72.5, 2: 72.4, 4: 72.2, 8: 72.2, 16: 71.8}
    cells = tuple(
        Cell(f"1/{parts}", "BYOL", put(micro_batches=parts), score) for parts, score in published.items()
    )
    return Table(
        "batch-size",
        "How much of the batch does batch norm have to see?",
        ("fraction of the batch", ""),
        "BYOL (2006.07733) Table 16: ImageNet, ResNet-50, 300 epochs, linear top-1, batch 4096 and its parts",
        cells,
        (
            Finding("half of the batch is almost as good", ("1/1", "BYOL"), ("1/2", "BYOL")),
            Finding("a sixteenth is a little worse", ("1/1", "BYOL"), ("1/16", "BYOL")),
        ),
    )


def loss_scale() -> Table:
    """The two directions of the loss summed, as published, or averaged, with three optimizers."""
    rows = {"summed": put(loss_weight=1.0), "averaged": put(loss_weight=0.5)}
    return Table(
        "loss",
        "Does it matter whether the two directions are summed or averaged?",
        ("loss", "optimizer"),
        "lightly pull request 1286: ImageNet, ResNet-50, 100 epochs, linear top-1; BYOL (2006.07733) "
        "appendix F.5 says why: LARS does not adapt biases and norms",
        _cross(rows, _OPTIMIZERS, {("summed", "LARS"): 62.4, ("averaged", "LARS"): 51.4}),
        (Finding("with LARS the sum is better", ("summed", "LARS"), ("averaged", "LARS")),),
    )


# Learning rates were tried on the built-in set with batch norm (docs/log.md): they are those of the small
# recipes and not of ImageNet.
_OPTIMIZERS: dict[str, Change] = {
    "LARS": put(optimizer=Lars(base_lr=8.0, weight_decay=1e-6)),
    "SGD": put(optimizer=Sgd(base_lr=0.4, weight_decay=1e-4)),
    "AdamW": put(optimizer=AdamW(base_lr=4e-3, weight_decay=1e-3)),
}


def _cross(
    rows: dict[str, Change], columns: dict[str, Change], published: dict[Position, float]
) -> tuple[Cell, ...]:
    return tuple(
        Cell(row, column, both(rows[row], columns[column]), published.get((row, column)))
        for row in rows
        for column in columns
    )


TABLES: dict[str, Callable[[], Table]] = {
    "predictor-target": predictor_and_target,
    "tau": target_decay,
    "normalization": normalization,
    "views": view_ops,
    "batch-size": batch_size,
    "loss": loss_scale,
}


def open_table(name: str) -> Table:
    """Return the table of a name.

    Raises:
        UserError: there is none; the nearest name is given.
    """
    if not isinstance(name, str):
        raise UserError(f"table is a {type(name).__name__}; give a name or a Table.")
    if name not in TABLES:
        raise UserError(f"there is no table '{name}'; {nearest(name, TABLES)}")
    return TABLES[name]()


@dataclass(frozen=True)
class TableList:
    """The tables that `byol.ablate` knows by name."""

    @property
    def value(self) -> float:
        """How many there are."""
        return float(len(TABLES))

    def table(self) -> list[list[str]]:
        """Return names and what they compare as rows of strings; the first row is the header."""
        return [["table", "what it compares"], *([name, str(make.__doc__)] for name, make in TABLES.items())]

    def sentence(self) -> str:
        """Return how to run one."""
        return f"{len(TABLES)} tables; byol ablate TABLE --out DIR runs one."

    def to_json(self) -> dict[str, Any]:
        """Return the names with what they compare."""
        return {"tables": dict(self.table()[1:]), "value": self.value}

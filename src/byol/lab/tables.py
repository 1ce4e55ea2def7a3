"""What the collapse laboratory can ask: tables of recipes that differ in one or two slots, as data.

A table changes a base recipe cell by cell, holds what was published for each cell, and names the
findings: which cell is better than which, by the papers. `laboratory` runs it and says which hold.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from byol.model.norm import BatchNorm, GroupNorm, NoNorm, Norm
from byol.model.predictor import DirectPred, LinearPredictor, NoPredictor
from byol.model.target import ConstantEma, Fixed, Shared
from byol.optim import AdamW, Lars, Sgd
from byol.recipe.spec import Recipe

Change = Callable[[Recipe], Recipe]
Place = tuple[str, str]  # (row, column)


@dataclass(frozen=True)
class Cell:
    """One recipe of a table.

    Args:
        row: its row.
        column: its column.
        change: makes the cell's recipe from the base recipe.
        published: the figure of the paper, in percent, if there is one.
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
    better: Place
    worse: Place


@dataclass(frozen=True)
class Table:
    """A question to the laboratory.

    Args:
        name: on the command line.
        title: what is asked.
        axes: what the rows and the columns are.
        source: where the published figures come from, and what they measure.
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
                "DirectPred is better than a learnt linear one", ("DirectPred", "EMA"), ("linear", "EMA")
            ),
            Finding("a learnt MLP is better than DirectPred", ("MLP", "EMA"), ("DirectPred", "EMA")),
        ),
    )


def target_decay() -> Table:
    """Constant tau from 0 to 1, beside the schedule of the base recipe."""
    published = {1.0: 18.8, 0.999: 69.8, 0.99: 72.5, 0.9: 68.4, 0.0: 0.3}
    cells = [
        Cell(f"{tau:g}", "constant", put(target=ConstantEma(value=tau)), figure)
        for tau, figure in published.items()
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
    """Batch norm, group norm with weight standardisation, and none, with LARS and with SGD."""
    rows = {"BN": put_norm(BatchNorm()), "GN+WS": put_norm(GroupNorm()), "none": put_norm(NoNorm())}
    columns = {name: _OPTIMIZERS[name] for name in ("LARS", "SGD")}
    published = {("BN", "LARS"): 74.3, ("GN+WS", "LARS"): 73.9, ("none", "LARS"): 0.1}
    return Table(
        "normalization",
        "Is batch normalisation what keeps BYOL from collapsing?",
        ("norm", "optimiser"),
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
    colour = {"jitter": 0.0, "grayscale": 0.0}
    without = {
        "all": ({}, 72.5),
        "no flip": ({"flip": 0.0}, 71.9),
        "no blur": ({"blur": 0.0}, 71.2),
        "no solarisation": ({"solarize": 0.0}, 72.3),
        "no jitter": ({"jitter": 0.0}, 71.8),
        "no grayscale": ({"grayscale": 0.0}, 70.3),
        "no colour": (colour, 63.4),
        "crop only": ({**colour, "flip": 0.0, "blur": 0.0, "solarize": 0.0}, 59.4),
    }
    cells = tuple(
        Cell(name, "BYOL", put_in_views(**fields), figure) for name, (fields, figure) in without.items()
    )
    return Table(
        "views",
        "Which operations do the views need?",
        ("views", ""),
        "BYOL (2006.07733) Table 17: ImageNet, ResNet-50, 300 epochs, linear top-1",
        cells,
        (
            Finding("colour matters", ("all", "BYOL"), ("no colour", "BYOL")),
            Finding("crops alone are worst", ("no colour", "BYOL"), ("crop only", "BYOL")),
            Finding("blur helps a little", ("all", "BYOL"), ("no blur", "BYOL")),
            Finding("solarisation hardly matters", ("all", "BYOL"), ("no solarisation", "BYOL")),
            Finding("grayscale helps", ("all", "BYOL"), ("no grayscale", "BYOL")),
        ),
    )


def batch_size() -> Table:
    """The batch cut into micro-batches, gradients averaged: only batch norm sees the small batch."""
    published = {1: 72.5, 2: 72.4, 4: 72.2, 8: 72.2, 16: 71.8}
    cells = tuple(
        Cell(f"1/{parts}", "BYOL", put(micro_batches=parts), figure) for parts, figure in published.items()
    )
    return Table(
        "batch-size",
        "How much of the batch does batch norm have to see?",
        ("share of the batch", ""),
        "BYOL (2006.07733) Table 16: ImageNet, ResNet-50, 300 epochs, linear top-1, batch 4096 and its parts",
        cells,
        (
            Finding("half of the batch is almost as good", ("1/1", "BYOL"), ("1/2", "BYOL")),
            Finding("a sixteenth is a little worse", ("1/1", "BYOL"), ("1/16", "BYOL")),
        ),
    )


def loss_scale() -> Table:
    """The two directions of the loss summed, as published, or averaged, with three optimisers."""
    rows = {"summed": put(loss_weight=1.0), "averaged": put(loss_weight=0.5)}
    return Table(
        "loss",
        "Does it matter whether the two directions are summed or averaged?",
        ("loss", "optimiser"),
        "lightly pull request 1286: ImageNet, ResNet-50, 100 epochs, linear top-1; BYOL (2006.07733) "
        "appendix F.5 says why: LARS does not adapt biases and norms",
        _cross(rows, _OPTIMIZERS, {("summed", "LARS"): 62.4, ("averaged", "LARS"): 51.4}),
        (Finding("with LARS the sum is better", ("summed", "LARS"), ("averaged", "LARS")),),
    )


def put(**fields: Any) -> Change:
    """Return the change that puts other values into fields of a recipe."""
    return lambda recipe: replace(recipe, **fields)


def put_norm(norm: Norm) -> Change:
    """Return the change that puts another norm into encoder, projector and predictor, where they have one."""

    def change(recipe: Recipe) -> Recipe:
        parts = {name: getattr(recipe, name) for name in ("encoder", "projector", "predictor")}
        return replace(
            recipe,
            **{name: replace(part, norm=norm) for name, part in parts.items() if hasattr(part, "norm")},
        )

    return change


def put_in_views(**fields: Any) -> Change:
    """Return the change that puts other values into both view distributions."""

    def change(recipe: Recipe) -> Recipe:
        first, second = (replace(view, **fields) for view in (recipe.views.first, recipe.views.second))
        return replace(recipe, views=replace(recipe.views, first=first, second=second))

    return change


# Learning rates were tried on the built-in set with batch norm (docs/log.md): they are those of the small
# recipes and not of ImageNet.
_OPTIMIZERS: dict[str, Change] = {
    "LARS": put(optimizer=Lars(base_lr=8.0, weight_decay=1e-6)),
    "SGD": put(optimizer=Sgd(base_lr=0.4, weight_decay=1e-4)),
    "AdamW": put(optimizer=AdamW(base_lr=4e-3, weight_decay=1e-3)),
}


def _cross(
    rows: dict[str, Change], columns: dict[str, Change], published: dict[Place, float]
) -> tuple[Cell, ...]:
    return tuple(
        Cell(row, column, _both(rows[row], columns[column]), published.get((row, column)))
        for row in rows
        for column in columns
    )


def _both(first: Change, second: Change) -> Change:
    return lambda recipe: second(first(recipe))


TABLES: dict[str, Callable[[], Table]] = {
    make().name: make
    for make in (predictor_and_target, target_decay, normalization, view_ops, batch_size, loss_scale)
}

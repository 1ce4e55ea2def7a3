"""What a table of the laboratory found: mean and standard deviation of each cell, which findings hold."""

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from byol.lab.tables import Finding, Position, Table
from byol.page.plots import draw_baselines, label, new_figure, save_figure


@dataclass(frozen=True)
class Outcome:
    """What the seeds of a cell found.

    Args:
        values: kNN top-1 in percent, one per seed that finished.
        random: that of the random initializations.
        pixels: that of raw pixels.
        failures: sentences of the seeds that did not finish.
        spread: feature spread of the projections at the end, mean; 0 is collapsed.
        minutes: of wall-clock time per run, mean.
    """

    values: tuple[float, ...]
    random: float
    pixels: float
    failures: tuple[str, ...]
    spread: float
    minutes: float

    @property
    def mean(self) -> float:
        """Mean over the seeds; NaN when none finished."""
        return statistics.fmean(self.values) if self.values else math.nan

    @property
    def deviation(self) -> float:
        """Standard deviation over the seeds; 0 for one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0

    def __str__(self) -> str:
        if not self.values:
            return "diverged"
        lost = f", {len(self.failures)} diverged" if self.failures else ""
        return f"{self.mean:.1f} ± {self.deviation:.1f}{lost}"


def verdict(finding: Finding, outcomes: Mapping[Position, Outcome]) -> str:
    """Return whether a finding holds: "holds", "does not hold" or "undecided".

    It is decided where the means differ by more than twice the standard error of their difference, which
    takes two seeds or more of each. A cell that diverged loses against one that did not.
    """
    better, worse = outcomes[finding.better], outcomes[finding.worse]
    if not better.values or not worse.values:
        return "holds" if better.values else "does not hold" if worse.values else "undecided"
    if min(len(better.values), len(worse.values)) < 2:
        return "undecided"
    error = math.sqrt(sum(side.deviation**2 / len(side.values) for side in (better, worse)))
    difference = better.mean - worse.mean
    if abs(difference) <= 2 * error:
        return "undecided"
    return "holds" if difference > 0 else "does not hold"


def report(table: Table, outcomes: Mapping[Position, Outcome], facts: dict[str, Any]) -> str:
    """Return a table as Markdown: what was found, what was published, and which findings hold."""
    published = {(cell.row, cell.column): cell.published for cell in table.cells}
    baselines = [outcome for outcome in outcomes.values() if outcome.values]

    def entry(position: Position) -> str:
        spread = outcomes[position].spread
        return (
            f"**{outcomes[position]}**"
            + ("" if published[position] is None else f" ({published[position]:g})")
            + (f", spread {spread:.2f}" if math.isfinite(spread) else "")
        )

    def against(finding: Finding) -> str:
        scores = published[finding.better], published[finding.worse]
        return " against ".join("?" if score is None else f"{score:g}" for score in scores)

    minutes = sum(one.minutes * len(one.values) for one in baselines)
    corner = " \\ ".join(axis for axis in table.axes if axis)
    lines = [
        f"# {table.title}",
        "",
        f"kNN top-1 in %, mean ± standard deviation of {facts['seeds']} seeds, {facts['budget_epochs']} "
        f"epochs of `{facts['recipe']}` on {facts['data']}; in brackets what was published: {table.source}. "
        "Spread: of the projections' directions at the end, 1 spread evenly, 0 collapsed.",
        "",
        f"| {corner} | " + " | ".join(table.columns) + " |",
        "|---" * (len(table.columns) + 1) + "|",
        *(
            f"| {row} | " + " | ".join(entry((row, column)) for column in table.columns) + " |"
            for row in table.rows
        ),
        "",
    ]
    if baselines:
        lines += [
            f"To be beaten: random initialization {_range(one.random for one in baselines)}, "
            f"raw pixels {_range(one.pixels for one in baselines)}.",
            "",
        ]
    lines += ["| finding of the papers | published | here |", "|---|---|---|"]
    for finding in table.findings:
        sides = f"{outcomes[finding.better]} against {outcomes[finding.worse]}"
        lines.append(
            f"| {finding.sentence} | {against(finding)} | **{verdict(finding, outcomes)}**: {sides} |"
        )
    lines += [
        "",
        "Significant is what differs by more than two standard errors of the difference of the means.",
        "",
        f"`byol ablate {table.name} --recipe {facts['recipe']} --seeds {facts['seeds']} "
        f"--budget {facts['budget_epochs']}`, {facts['date']}, {facts['processor']}, {facts['cores']} cores, "
        f"torch {facts['versions']['torch']}; its runs took {minutes:.0f} minutes of one core each, in all.",
    ]
    return "\n".join(lines) + "\n"


def draw_outcomes(path: Path, table: Table, outcomes: Mapping[Position, Outcome]) -> None:
    """Write a figure: each cell as found, with its standard deviation, beside what was published."""
    names = [
        " / ".join(part for part in (cell.row, cell.column) if len(table.columns) > 1 or part == cell.row)
        for cell in table.cells
    ]
    positions = [(cell.row, cell.column) for cell in table.cells]
    heights = range(len(names))
    figure = new_figure(8.0, 1.4 + 0.28 * len(names))
    here, there = figure.subplots(1, 2, sharey=True)
    here.errorbar(
        [outcomes[position].mean for position in positions],
        heights,
        xerr=[outcomes[position].deviation for position in positions],
        fmt="o",
        markersize=4,
        capsize=3,
    )
    known = [outcome for outcome in outcomes.values() if outcome.values]
    if known:
        pixels, random = (statistics.fmean(getattr(one, of) for one in known) for of in ("pixels", "random"))
        draw_baselines(here.axvline, pixels=pixels, random=random)
    here.legend(fontsize=7, loc="best")
    there.plot(
        [math.nan if cell.published is None else cell.published for cell in table.cells],
        heights,
        "s",
        color="C1",
    )
    there.set_xlim(left=0)
    here.set_yticks(list(heights), names)
    here.invert_yaxis()
    label(here, x="found here: kNN top-1, %")
    label(there, x="published: linear top-1 on ImageNet, %")
    here.tick_params(axis="y", labelsize=8)
    figure.suptitle(table.title, fontsize=9)
    save_figure(figure, path)


def as_json(table: Table, outcomes: Mapping[Position, Outcome]) -> list[dict[str, Any]]:
    """Return the cells of a table as JSON values."""
    return [
        {
            "row": cell.row,
            "column": cell.column,
            "published": cell.published,
            "knn_top1": list(outcomes[cell.row, cell.column].values),
            "failures": list(outcomes[cell.row, cell.column].failures),
            "feature_spread": _number(outcomes[cell.row, cell.column].spread),
            "minutes": _number(outcomes[cell.row, cell.column].minutes),
        }
        for cell in table.cells
    ]


def _range(values: Iterable[float]) -> str:
    values = list(values)
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low} to {high}"


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None

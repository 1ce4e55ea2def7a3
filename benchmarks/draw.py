"""Draw docs/performance.png from what the benchmarks printed.

    python benchmarks/draw.py docs/performance/*.json
    python benchmarks/draw.py peers.json growth.json --out figure.png

Takes the JSON of peers.py, views.py, end_to_end.py, ranks.py and growth.py, in any order and number, told
apart by their keys; a part of the figure that no file speaks of is left out. Left, byol beside others: ratios
of medians, with the range of the rounds. A peer is compared with byol in its own precision. Right, the cost
as the work grows.
"""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

BLUE, ORANGE, GREEN, PURPLE, GRAY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"  # Okabe and Ito's
MIB = 2**20
NAME = re.compile(r"([^ ,]+)[ ,]*(.*)")  # who, and under what conditions
PANEL_HEIGHT = 2.2  # inches
Json = dict[str, Any]


class Ratio(NamedTuple):
    """How many times better byol is than a peer: median, lowest and highest."""

    group: str
    peer: str
    median: float
    low: float
    high: float


class Curve(NamedTuple):
    """A figure of growth.py, in the unit it is shown in."""

    name: str
    label: str
    divisor: float = 1


class Panel(NamedTuple):
    """What is drawn over one kind of growth."""

    kind: str
    over: str
    unit: str
    curves: tuple[Curve, ...]


PANELS = (
    Panel("batch", "images of a batch (ResNet-18, 32 px)", "ms per image", (Curve("ms_per_image", "step"),)),
    Panel("batch", "images of a batch (ResNet-18, 32 px)", "MiB", (Curve("peak_bytes", "step, peak", MIB),)),
    Panel(
        "size",
        "pixels a side (ResNet-18, batch 32)",
        "ms per image",
        (Curve("ms_per_image", "step"), Curve("distort_ms_per_image", "distorting both views")),
    ),
    Panel(
        "size",
        "pixels a side (ResNet-18, batch 32)",
        "MiB",
        (Curve("peak_bytes", "step, peak", MIB),),
    ),
    Panel(
        "images",
        "images of a folder",
        "seconds",
        (
            Curve("index_seconds", "index, once"),
            Curve("open_seconds", "open again"),
            Curve("order_seconds", "order of an epoch"),
        ),
    ),
    Panel(
        "images",
        "images of a folder",
        "MiB",
        (
            Curve("index_peak_bytes", "memory to index, once", MIB),
            Curve("open_bytes", "memory to open again", MIB),
            Curve("file_bytes", "file of the index", MIB),
        ),
    ),
)
STYLES = ((BLUE, "o", "-"), (ORANGE, "s", "--"), (GREEN, "^", "-."))
GROUPS = {"step": BLUE, "memory": ORANGE, "views": GREEN}  # any other: PURPLE


def ratios(report: Json) -> Iterator[Ratio]:
    """Yield the comparisons of a report."""
    for key, values in report.items():
        if not isinstance(values, dict):
            continue
        if key.endswith("_per_second"):
            yield from of_names(report.get("what", "images a second"), values, more_is_better=True)
        elif key.endswith(("_seconds", "_bytes")):
            group = "memory" if key == "peak_bytes" else key.rpartition("_")[0].replace("_", " ")
            yield from of_names(group, values, more_is_better=False)
        for name, value in values.items():
            if name != "byol" and isinstance(value, dict) and isinstance(value.get("ratio"), list):
                yield Ratio("views", f"{name}, {key}", *value["ratio"])
    if isinstance(report.get("several"), dict) and isinstance(report.get("one"), dict):
        count, one, several = report.get("processes", "N"), report["one"], report["several"]
        ours, theirs = ((each["images_per_second"], *each["range"]) for each in (several, one))
        yield Ratio(f"{count} processes", f"one of {count} threads", *divided(ours, theirs))


def of_names(group: str, values: Json, more_is_better: bool) -> Iterator[Ratio]:
    """Compare byol with every peer that did the same, which is what follows the name."""
    named = [(*NAME.fullmatch(name).groups(), each) for name, each in values.items()]
    for peer, theirs, their_value in named:
        for name, ours, our_value in named:
            alike = ours.replace("lars", "recipe")  # that of lightly has LARS; byol's pack stands alone
            if peer in ("byol", "joint", "limit") or name != "byol" or alike != theirs:
                continue
            over, under = (our_value, their_value) if more_is_better else (their_value, our_value)
            words = [peer, theirs.removeprefix("folder, ")]
            yield Ratio(group, ", ".join(word for word in words if word), *divided(over, under))


def divided(over: Any, under: Any) -> tuple[float, float, float]:
    """Return the ratio of two medians, and the least and the most that their ranges allow."""
    return over[0] / under[0], over[1] / under[2], over[2] / under[1]


def draw_ratios(axes: Any, found: list[Ratio]) -> None:
    """Draw a bar for each, from 1 on: to the right byol is better."""
    groups = list(dict.fromkeys(ratio.group for ratio in found))
    found = sorted(found, key=lambda ratio: groups.index(ratio.group))
    places = [row + 0.7 * groups.index(ratio.group) for row, ratio in enumerate(found)]
    lows, highs = [ratio.low for ratio in found], [ratio.high for ratio in found]
    medians = [ratio.median for ratio in found]
    axes.barh(
        places,
        [median - 1 for median in medians],
        left=1,
        color=[GROUPS.get(ratio.group, PURPLE) for ratio in found],
        height=0.72,
        xerr=[
            [middle - low for middle, low in zip(medians, lows, strict=True)],
            [high - middle for middle, high in zip(medians, highs, strict=True)],
        ],
        error_kw={"ecolor": "black", "elinewidth": 0.8, "capsize": 2},
    )
    for place, ratio in zip(places, found, strict=True):
        axes.annotate(
            f"{ratio.median:.{1 if ratio.median >= 2 else 2}f}",
            (max(ratio.high, 1), place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    for group in groups:
        first = min(place for place, ratio in zip(places, found, strict=True) if ratio.group == group)
        axes.annotate(
            group,
            (0, first - 0.52),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 0),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=8,
            fontweight="bold",
            color=GROUPS.get(group, PURPLE),
        )
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlim(0.8 * min(1, *lows), 1.6 * max(1, *highs))
    axes.set_ylim(places[-1] + 0.6, -1.1)
    axes.set_yticks(places, [ratio.peer for ratio in found], fontsize=8)
    axes.tick_params(axis="y", length=0)
    low, high = axes.get_xlim()
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=8)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("times as fast; for memory, times as little", fontsize=8)
    axes.set_title("byol beside others", fontsize=9)
    finish(axes, "x")


def draw_processes(axes: Any, points: Json) -> None:
    """Draw images per second over the number of processes, or of threads of one, beside the ideal."""
    counts = sorted(map(int, points))
    at = {count: points[str(count)] for count in counts}
    draw_curve(axes, counts, [at[count]["images_per_second"] for count in counts], STYLES[0], "processes")
    several = [count for count in counts if count == 1 or "threads_images_per_second" in at[count]]
    threads = [
        at[count].get("threads_images_per_second", at[count]["images_per_second"]) for count in several
    ]
    if len(several) > 1:
        draw_curve(axes, several, threads, STYLES[1], "threads of one process")
    first = at[counts[0]]["images_per_second"][0] / counts[0]
    axes.plot(counts, [first * count for count in counts], ":", color=GRAY, label="in proportion")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_xlim(counts[0] - 0.15, counts[-1] + 0.15)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("cores in use (ResNet-18, 32 px)", fontsize=8)
    axes.set_ylabel("images per second", fontsize=8)
    axes.legend(fontsize=7, loc="lower right")
    axes.tick_params(labelsize=8)
    finish(axes, "both")


def draw_panel(axes: Any, panel: Panel, points: Json) -> None:
    """Draw the curves of a panel on logarithmic axes."""
    drawn = 0
    for curve, style in zip(panel.curves, STYLES, strict=False):
        counts = [count for count in sorted(map(int, points)) if curve.name in points[str(count)]]
        if counts:
            values = [[value / curve.divisor for value in points[str(count)][curve.name]] for count in counts]
            draw_curve(axes, counts, values, style, curve.label)
            drawn += 1
    axes.set_xscale("log")
    axes.set_yscale("log")
    if panel.kind != "images":
        counts = sorted(map(int, points))
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.xaxis.set_minor_locator(NullLocator())
    low, high = axes.get_ylim()
    if high / low < 30:  # powers of ten would be one label or none
        digits = (1, 2, 5) if high / low > 4 else (1, 1.5, 2, 3, 4, 5, 7)
        steps = [digit * 10.0**power for power in range(-6, 7) for digit in digits]
        low, high = max(step for step in steps if step < low), min(step for step in steps if step > high)
        axes.set_ylim(low, high)
        axes.set_yticks([step for step in steps if low <= step <= high])
        axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.set_xlabel(panel.over, fontsize=8)
    axes.set_ylabel(panel.unit, fontsize=8)
    axes.tick_params(labelsize=8)
    if drawn:
        axes.legend(fontsize=7, loc="best")
    finish(axes, "both")


def draw_curve(axes: Any, counts: list[int], values: list[Any], style: tuple[str, ...], label: str) -> None:
    """Draw medians with the range of the rounds about them."""
    color, marker, line = style
    medians, lows, highs = zip(*values, strict=True)
    axes.plot(counts, medians, line, marker=marker, color=color, label=label, markersize=4, linewidth=1.4)
    axes.fill_between(counts, lows, highs, color=color, alpha=0.2, linewidth=0)


def finish(axes: Any, grid: str) -> None:
    axes.grid(axis=grid, alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def described(reports: list[Json]) -> str:
    """Return on what the figures were measured, each machine once."""
    machines = [report["machine"] for report in reports if "machine" in report]
    found = {f"{each['processor']}, {each['cores']} cores in use, torch {each['torch']}" for each in machines}
    steps = {report["precision"] for report in reports if "precision" in report}
    words = [*sorted(found), *(f"growth in {precision}" for precision in sorted(steps))]
    return "; ".join([*words, "medians and ranges of the rounds"])


def draw(reports: list[Json], path: Path) -> None:
    """Write the figure."""
    found = [ratio for report in reports for ratio in ratios(report)]
    growth = {
        kind: values
        for report in reports
        for kind in ("batch", "size", "images", "processes")
        if isinstance(values := report.get(kind), dict)
    }
    panels = [panel for panel in PANELS if panel.kind in growth]
    left = [each for each, is_there in (("ratios", found), ("processes", "processes" in growth)) if is_there]
    assert left or panels, "no file holds what can be drawn"
    bars = 0.8 + 0.22 * (len(found) + len({ratio.group for ratio in found}))
    heights = [bars if each == "ratios" else PANEL_HEIGHT for each in left]
    # Kinds of growth are rows, what they cost in time and in memory are columns.
    height = max(PANEL_HEIGHT * len(panels) / 2, sum(heights))
    figure = Figure(figsize=(10.4 if left and panels else 6.4, 0.3 + height), layout="constrained")
    parts = figure.subfigures(1, 2, width_ratios=(1, 1.55)) if left and panels else (figure, figure)
    if left:
        column = parts[0].subplots(len(left), 1, height_ratios=heights, squeeze=False).flat
        for each, axes in zip(left, column, strict=True):
            if each == "ratios":
                draw_ratios(axes, found)
            else:
                draw_processes(axes, growth["processes"])
    if panels:
        grid = parts[1].subplots(len(panels) // 2, 2, squeeze=False)
        for panel, axes in zip(panels, grid.flat, strict=True):
            draw_panel(axes, panel, growth[panel.kind])
        for axes, title in zip(grid[0], ("time as the work grows", "memory as the work grows"), strict=True):
            axes.set_title(title, fontsize=9)
    figure.supxlabel(described(reports), fontsize=7, color=GRAY)
    figure.savefig(path, dpi=150, metadata={"Software": "byol"})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("files", nargs="+", type=Path, help="JSON of the benchmarks")
    parser.add_argument("--out", type=Path, default=Path("docs/performance.png"))
    args = parser.parse_args()
    draw([json.loads(file.read_text()) for file in args.files], args.out)


if __name__ == "__main__":
    main()

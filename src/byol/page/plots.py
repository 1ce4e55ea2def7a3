"""How pictures with axes look here; matplotlib is imported when the first is drawn."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from byol.system.files import whole_file
from byol.system.terminal import printable


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure of a size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def draw_baselines(
    draw: Callable[..., object], *, pixels: float, random: float, histograms: float | None = None
) -> None:
    """Draw what an encoder has to beat.

    Args:
        draw: `axes.axhline` or `axes.axvline`.
        pixels: score of raw pixels.
        random: score of the random initialization.
        histograms: score of histograms of colors and gradients; None where they were not judged.
    """
    draw(pixels, linestyle="--", color="C1", label="raw pixels")
    draw(random, linestyle=":", color="C2", label="random initialization")
    if histograms is not None:
        draw(histograms, linestyle="-.", color="C3", label="histograms")


def title(axes: Any, text: str) -> None:
    """Write text above axes as it is: what stands between two dollars is no formula here."""
    axes.set_title(printable(text), fontsize=9, parse_math=False)


def label(axes: Any, *, x: str = "", y: str = "") -> None:
    """Name axes, with their units, and put a faint grid behind them."""
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure as PNG; the same figure gives the same file with the same version of matplotlib."""
    with whole_file(path, is_only_writer=True) as stream, warnings.catch_warnings():
        # A letter that the font lacks, as of a name in Chinese, is drawn as a box.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")
        figure.savefig(stream, format="png", dpi=150, metadata={"Software": "byol"})

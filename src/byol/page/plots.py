"""How pictures with axes look here; matplotlib is imported when the first is drawn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure of a size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def draw_baselines(draw: Callable[..., object], *, pixels: float, random: float) -> None:
    """Draw what an encoder has to beat.

    Args:
        draw: `axes.axhline` or `axes.axvline`.
        pixels: score of raw pixels.
        random: score of the random initialization.
    """
    draw(pixels, linestyle="--", color="C1", label="raw pixels")
    draw(random, linestyle=":", color="C2", label="random initialization")


def label(axes: Any, *, x: str = "", y: str = "") -> None:
    """Name axes, with their units, and put a faint grid behind them."""
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure as PNG; the same figure gives the same file with the same version of matplotlib."""
    figure.savefig(path, dpi=150, metadata={"Software": "byol"})

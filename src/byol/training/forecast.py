"""What a run will take of time, memory and disk: foreseen before its first step, compared at its end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from byol.model.encoder import ResNet
from byol.recipe.spec import Recipe
from byol.run import checkpoint
from byol.run.folder import RunFolder
from byol.system.device import peak_memory
from byol.system.progress import duration
from byol.training.rehearsal import Rehearsal

FEWEST_STEPS = 200  # of a run whose end is worth foreseeing
_SHALLOW = 2_000  # twice the steps in which a ResNet-18 was seen to end behind its start (docs/log.md)
_LARGE = (
    10  # times the side of a view: a choice; at 23 times a pack was read five times as fast (docs/log.md)
)
_OTHERS = 2**18  # bytes of records, picture and the like
JUDGEMENTS = 10  # while it learns, see `Timeline.is_judged`


class Forecast(NamedTuple):
    """What a run is going to take.

    Args:
        seconds: until its last step.
        memory_bytes: of the process at its peak; None where the system does not tell.
        disk_bytes: of the run folder at its end.
    """

    seconds: float
    memory_bytes: int | None
    disk_bytes: int

    def sentence(self) -> str:
        """Return it in words."""
        memory = "" if self.memory_bytes is None else f"{self.memory_bytes / 2**20:,.0f} MiB of memory, "
        return f"forecast: {duration(self.seconds)}, {memory}{self.disk_bytes / 2**20:,.0f} MiB of disk"


def foreseen(rehearsed: Rehearsal, steps: int, judging_seconds: float) -> Forecast:
    """Return what a run is going to take, from steps that were tried and a network that was judged.

    Args:
        rehearsed: the steps.
        steps: that are to be taken.
        judging_seconds: of one look at a part of the images; 0 without labels.
    """
    kept = checkpoint.KEEP * rehearsed.state_bytes
    return Forecast(
        seconds=steps * rehearsed.seconds_per_step + JUDGEMENTS * judging_seconds,
        memory_bytes=peak_memory(),
        disk_bytes=kept + rehearsed.encoder_bytes + _OTHERS,
    )


def advice(recipe: Recipe, encoder: nn.Module | None, steps: int, short_side: int) -> list[str]:
    """Return what is unwise about a recipe for these images, a sentence each.

    Args:
        recipe: that is about to be run.
        encoder: a module of one's own in place of the recipe's.
        steps: that it takes.
        short_side: of the images, in pixels, as most of them have it.
    """
    found = []
    if encoder is None and isinstance(recipe.encoder, ResNet) and FEWEST_STEPS <= steps < _SHALLOW:
        found.append(
            f"a ResNet-{recipe.encoder.depth} in {steps:,} steps: in so few it has ended behind where it "
            "began (docs/log.md); byol plan finds a network for the time, or take more epochs"
        )
    if short_side > _LARGE * recipe.views.size:
        found.append(
            f"images of about {short_side:,} px are decoded in every epoch for views of "
            f"{recipe.views.size} px; byol pack PATH --out FILE --short-side {3 * recipe.views.size} writes "
            "them small, once, and FILE is data like any other"
        )
    if recipe.views.size > short_side:
        found.append(
            f"views of {recipe.views.size} px are larger than the images, of about {short_side} px: smaller "
            "ones show as much and cost less (--views.size)"
        )
    return found


def errors(forecast: Mapping[str, Any], seconds: float, folder: RunFolder) -> dict[str, float | None]:
    """Return by how many percent a forecast was too high, or, below 0, too low."""
    found = {"seconds": seconds, "memory_bytes": peak_memory(), "disk_bytes": _size(folder.path)}
    return {
        name: None if not value or forecast[name] is None else 100 * (forecast[name] / value - 1)
        for name, value in found.items()
    }


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

"""One picture of a run: what it was shown, and how it went."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from byol.data.images import Images
from byol.data.loader import batches
from byol.recipe.spec import Recipe
from byol.run.folder import RunFolder
from byol.run.record import read

SHOWN = 6


def draw_figure(folder: RunFolder, recipe: Recipe, images: Images) -> None:
    """Write `figure.png`: some images with their two views, and the run's curves.

    Args:
        folder: of the run, whose records are drawn.
        recipe: whose views are shown, those of step 0.
        images: the set that the run learnt from.
    """
    from matplotlib.figure import Figure

    events = read(folder.metrics)
    figure = Figure(figsize=(9.0, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1.0))
    left.imshow(_sheet(recipe, images), interpolation="nearest")
    left.set_title(f"{recipe.name}: images, view 1, view 2", fontsize=9)
    left.axis("off")
    _curves(right, events)
    figure.savefig(folder.figure, dpi=150, metadata={"Software": "byol"})


def _sheet(recipe: Recipe, images: Images) -> NDArray[np.float32]:
    """Return three rows of pictures, (3 (S + 1), SHOWN (S + 1), 3) in [0, 1]."""
    batch = next(
        batches(
            images,
            recipe.views,
            batch_size=min(SHOWN, recipe.batch_size),
            seed=recipe.seed,
            first_step=0,
            total_steps=1,
            workers=0,
            device=torch.device("cpu"),
        )
    )
    index, views = batch.index, batch.views[:2]
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (recipe.views.mean, recipe.views.std))
    shown, _ = images.squares(index, recipe.views.size)
    rows = [shown.cpu(), *(view * std + mean for view in views)]
    framed = [torch.nn.functional.pad(row.clamp(0, 1), (0, 1, 0, 1), value=1.0) for row in rows]
    sheet: Tensor = torch.cat([torch.cat(list(row), dim=2) for row in framed], dim=1)
    array: NDArray[np.float32] = sheet.permute(1, 2, 0).numpy()
    return array


def _curves(axes: Any, events: list[dict[str, Any]]) -> None:
    """Draw kNN beside its baselines where there are labels, else the loss."""
    judged = [event for event in events if event["kind"] == "knn"]
    if judged:
        steps = [event["step"] for event in judged]
        axes.plot(steps, [event["knn_top1"] for event in judged], marker=".", label="this encoder")
        axes.axhline(judged[-1]["knn_top1_pixels"], linestyle="--", color="C1", label="raw pixels")
        axes.axhline(judged[-1]["knn_top1_random"], linestyle=":", color="C2", label="random initialisation")
        axes.set_ylabel("kNN top-1, % (part of the images)", fontsize=8)
        axes.legend(fontsize=7, loc="lower right")
    else:
        trained = [event for event in events if event["kind"] == "train"]
        axes.plot([event["step"] for event in trained], [event["loss"] for event in trained])
        axes.set_ylabel("loss", fontsize=8)
    axes.set_xlabel("step", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)

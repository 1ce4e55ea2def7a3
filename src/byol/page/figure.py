"""One picture of a run: what it was shown, and how it went."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from byol.data.images import Images
from byol.data.loader import batches
from byol.page.plots import draw_baselines, label, new_figure, save_figure, title
from byol.recipe.spec import Recipe
from byol.run.folder import RunFolder
from byol.run.record import read

SHOWN = 6


def draw_figure(folder: RunFolder, recipe: Recipe, images: Images) -> None:
    """Write `figure.png`: some images with their two views, and the run's curves.

    Args:
        folder: of the run, whose records are drawn.
        recipe: whose views are shown, those of step 0.
        images: the set that the run learned from.
    """
    events = read(folder.metrics)
    figure = new_figure(9.0, 3.0)
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1.0))
    left.imshow(_sheet(recipe, images), interpolation="nearest")
    title(left, f"{recipe.name}: images, view 1, view 2")
    left.axis("off")
    _curves(right, events)
    save_figure(figure, folder.figure)


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
    rows = recipe.views.preprocessing().pictures(images, batch.index, batch.views[:2])
    framed = [torch.nn.functional.pad(row, (0, 1, 0, 1), value=1.0) for row in rows]
    sheet: Tensor = torch.cat([torch.cat(list(row), dim=2) for row in framed], dim=1)
    array: NDArray[np.float32] = sheet.permute(1, 2, 0).numpy()
    return array


def _curves(axes: Any, events: list[dict[str, Any]]) -> None:
    """Draw kNN beside its baselines where there are labels, else the loss."""
    judged = [event for event in events if event["kind"] == "knn"]
    if judged:
        steps = [event["step"] for event in judged]
        axes.plot(steps, [event["knn_top1"] for event in judged], marker=".", label="this encoder")
        last = judged[-1]
        draw_baselines(
            axes.axhline,
            pixels=last["knn_top1_pixels"],
            random=last["knn_top1_random"],
            histograms=last.get("knn_top1_histograms"),
        )
        label(axes, x="step", y="kNN top-1, % (part of the images)")
        axes.legend(fontsize=7, loc="best")
    else:
        trained = [event for event in events if event["kind"] == "train"]
        axes.plot([event["step"] for event in trained], [event["loss"] for event in trained])
        label(axes, x="step", y="loss")

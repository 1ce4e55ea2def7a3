"""Training: begin a run, extend one, continue one. What they do is in `loop`."""

import os

from torch import nn

from byol.data.opening import Data
from byol.recipe.spec import Recipe
from byol.training import request
from byol.training.loop import train
from byol.training.result import Run
from byol.weights.pretrained import Pretrained


def pretrain(
    data: Data | None,
    out: str | os.PathLike[str],
    *,
    recipe: Recipe | str | os.PathLike[str] | None = None,
    fit_in: str | None = None,
    from_: str | os.PathLike[str] | Pretrained | None = None,
    encoder: nn.Module | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    checkpoint_seconds: float = 120.0,
) -> Run:
    """Learn an encoder from images without labels, and write a run folder.

    Ctrl-C and SIGTERM save a checkpoint after the current step. A resumed run continues bit for bit
    on the same machine, wherever it was stopped.

    Started by `torchrun`, the processes share every batch; rank 0 writes, and the others read the same
    run folder and images. All stop after the same step. Another number of processes can resume: the images
    are the same in the same order, and the sums are rounded differently.

    Args:
        data: images: a folder, a list of paths, an archive, a pack or "builtin"; in Python also a tensor
            (N, C, H, W) of uint8 or a map-style `Dataset`; None for the recipe's own.
        out: the run folder to write.
        recipe: what to compute: a recipe, its name, or the path of a recipe.json; None for what fits the
            weights to start from, or else for a plan that fits images, machine and time, see `byol.plan`.
        fit_in: the time that a planned run may take, such as 90s, 20m or 8h; None for 20 minutes.
        from_: weights to start from: a run (heads and target too, where they fit), an encoder.safetensors,
            timm:NAME@FILE or torchvision:NAME@FILE; in Python also an encoder that `byol.load` has opened.
        encoder: any module (B, 3, H, W) -> (B, D) to train in place of the recipe's.
        overwrite: replace a run that `out` already holds.
        workers: processes that decode files; None for one per core. A set in memory has one at most. Where
            several processes train, each has as many, or its part of the cores.
        checkpoint_seconds: seconds between checkpoints, above 0.

    Returns:
        The run.

    Raises:
        UserError: something is missing or cannot work; `Diverged` where the loss is not finite.
        Interrupted: the run was asked to stop and has saved itself.
    """
    return train(
        request.new(
            data,
            out,
            recipe,
            from_,
            fit_in,
            encoder=encoder,
            overwrite=overwrite,
            workers=workers,
            checkpoint_seconds=checkpoint_seconds,
        )
    )


def extend(
    run: str | os.PathLike[str],
    epochs: int,
    out: str | os.PathLike[str],
    *,
    data: Data | None = None,
    encoder: nn.Module | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    checkpoint_seconds: float = 120.0,
) -> Run:
    """Go on from where a run stands with a longer schedule, in a new run folder.

    Weights, target and optimizer go on as they are. Learning rate and tau are from there on those of a run
    of so many epochs: a finished run had lr near 0 and tau near 1, so that lr rises again and tau falls;
    both numbers are said. The run that is extended stays as it is.

    Args:
        run: the folder of the run that is extended, finished or not.
        epochs: of the whole, above those of the run.
        out: the run folder to write.
        data: where the images are now, if they were moved; in Python also the images, if the run was given
            them there and so cannot name them. They have to be those that the run began with.
        encoder: the module, if the run was given one; its weights are replaced.
        overwrite: replace a run that `out` already holds.
        workers: processes that decode files; None for one per core.
        checkpoint_seconds: seconds between checkpoints, above 0.

    Returns:
        The run.

    Raises:
        UserError: there is no such run, or it does not fit what is given.
        Interrupted: the run was asked to stop and has saved itself.
    """
    return train(
        request.extended(
            run,
            epochs,
            out,
            data,
            encoder=encoder,
            overwrite=overwrite,
            workers=workers,
            checkpoint_seconds=checkpoint_seconds,
        )
    )


def resume(
    run: str | os.PathLike[str],
    *,
    data: Data | None = None,
    encoder: nn.Module | None = None,
    recipe: Recipe | str | os.PathLike[str] | None = None,
    workers: int | None = None,
    checkpoint_seconds: float = 120.0,
) -> Run:
    """Continue a run from its newest checkpoint, exactly as if it had never stopped.

    Args:
        run: the run folder.
        data: where the images are now, if they were moved; in Python also the images, if the run was given
            them there and so cannot name them. They have to be those that the run began with.
        encoder: the module, if the run was given one; its weights are replaced.
        recipe: what the run is thought to compute; another one than its own is refused.
        workers: processes that decode files; None for one per core.
        checkpoint_seconds: seconds between checkpoints, above 0.

    Returns:
        The run.

    Raises:
        UserError: there is nothing to continue, or it does not fit what is given.
        Interrupted: the run was asked to stop and has saved itself.
    """
    return train(
        request.resumed(
            run, data, recipe, encoder=encoder, workers=workers, checkpoint_seconds=checkpoint_seconds
        )
    )

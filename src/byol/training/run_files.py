"""What stands in a run folder before the first step of a process and after the last one of the run."""

import json
import shlex
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from byol.data.identity import Identity
from byol.data.images import Images
from byol.errors import UserError
from byol.page.figure import draw_figure
from byol.recipe.spec import from_json, read_recipe
from byol.run import checkpoint
from byol.run.provenance import provenance
from byol.run.record import read
from byol.system.device import Device
from byol.system.files import write_json
from byol.training.bound import refuse_other_images, refuse_other_recipe
from byol.training.forecast import errors
from byol.training.learner import Learner
from byol.training.request import Request
from byol.training.result import not_beaten
from byol.training.watch import Judge, scores_line
from byol.weights.encoder_file import save_encoder


def begin(asked: Request, device: Device, images: Images) -> None:
    """Make the run folder and say in it what is run, and where."""
    asked.folder.create(overwrite=asked.overwrite)
    write_json(asked.folder.recipe, asked.recipe.to_json(), is_synced=True)
    facts = provenance(
        device=str(device.device),
        precision=device.precision,
        processes=device.world_size,
        images=len(images),
        **asked.start.provenance(),
    )
    write_json(asked.folder.provenance, facts)


def save(asked: Request, learner: Learner, images: Identity) -> None:
    """Write a checkpoint: all that the run needs to go on, and which images it goes on with."""
    state = {"recipe": asked.recipe.to_json(), "images": asdict(images), **learner.state()}
    checkpoint.save(asked.folder.checkpoints, learner.step, state)
    asked.folder.has_checkpoint()


def newest_state(asked: Request, device: Device, images: Identity) -> dict[str, Any]:
    """Return the newest checkpoint of a run, after making sure that it is of this recipe and these images.

    Raises:
        UserError: there is no checkpoint, or it is of something else.
    """
    folder = asked.folder
    newest = checkpoint.newest(folder.checkpoints)
    if newest is None:
        raise UserError(
            f"{folder.path} was stopped before its first step; start it again: byol pretrain "
            f"{shlex.quote(str(folder.recipe))} --out {shlex.quote(str(folder.path))}."
        )
    state = checkpoint.load(newest, device.device)
    begun = from_json(json.dumps(state["recipe"]), str(newest))
    refuse_other_recipe(replace(begun, data=asked.recipe.data), asked.recipe, newest)
    refuse_other_images(state["images"], images, folder.path)
    return state


def note_place(asked: Request) -> None:
    """Note where the images of a run are now, if they were moved."""
    if read_recipe(asked.folder.recipe).data != asked.recipe.data:
        write_json(asked.folder.recipe, asked.recipe.to_json(), is_synced=True)


def finish(
    asked: Request, learner: Learner, judge: Judge, images: Images, say: Callable[[str], None]
) -> None:
    """Write what a finished run leaves behind; where that fails, say first what came out."""
    recipe, folder = asked.recipe, asked.folder
    spec = None if asked.encoder is not None else recipe.encoder
    preprocessing = recipe.views.preprocessing(recipe.evaluation_size)
    preprocessing = replace(preprocessing, pixel_range=images.pixel_range)
    save_encoder(folder.encoder, judge.finished(learner.online.encoder), spec, preprocessing)
    records = [event for event in read(folder.metrics) if event["kind"] == "train"]
    last = records[-1] if records else {}  # none where somebody has deleted the file
    summary = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "steps": learner.step,
        "epochs": recipe.epochs,
        "wall_seconds": learner.seconds,
        **{
            name: last.get(name) for name in ("images_per_second", "loss", "feature_spread", "effective_rank")
        },
        "bad_files": sorted(learner.bad_files),
    }
    if learner.forecast:
        off = errors(learner.forecast, learner.seconds, folder)
        summary |= {"forecast": learner.forecast, "forecast_error_percent": off}
    scores = judge.scores(learner, quick=False) if judge.has_labels else {}
    if scores:
        summary |= {**scores, "online_classifier_judged_on": judge.judged, "not_beaten": not_beaten(scores)}
    try:
        write_json(folder.summary, summary)
        draw_figure(folder, recipe, images)
    except OSError:
        if scores:
            say(f"at the end, on all images: {scores_line(scores)}")
        raise

"""The pretraining loop, the only one there is: lines 1 to 4 of Algorithm 1, and what surrounds a step."""

import json
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from byol.algorithm import bootstrap_step
from byol.data.images import Images, InMemory, near
from byol.data.loader import batches, in_step
from byol.data.opening import open_data
from byol.errors import Interrupted, UserError
from byol.page.figure import draw_figure
from byol.recipe.spec import Recipe, diff, from_json
from byol.run import checkpoint
from byol.run.folder import RunFolder
from byol.run.provenance import provenance
from byol.run.record import Recorder, Silence, read
from byol.schedule import learning_rate
from byol.system.device import Device, keep_freed_memory, usable_cores
from byol.system.files import write_json
from byol.system.processes import joined
from byol.system.progress import Progress, duration
from byol.system.stop import StopRequest
from byol.system.stopwatch import Stopwatch
from byol.training.learner import Learner, build
from byol.training.monitor import COLLAPSED_SPREAD, Judge, collapse_sentence, line, measure, refuse_nan, table
from byol.weights.pretrained import save_encoder


@dataclass(frozen=True)
class Timeline:
    """What happens at which step, as a function of the recipe and the number of images alone."""

    recipe: Recipe
    num_images: int

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of one pass over the images."""
        return self.recipe.steps_per_epoch(self.num_images)

    @property
    def total_steps(self) -> int:
        """K of the paper."""
        return self.recipe.epochs * self.steps_per_epoch

    def lr(self, step: int) -> float:
        """Learning rate of a step."""
        warmup_steps = round(self.recipe.warmup_epochs * self.steps_per_epoch)
        return learning_rate(step, self.total_steps, warmup_steps, self.recipe.peak_lr)

    def predictor_lr(self, step: int) -> float:
        """Learning rate of the predictor at a step."""
        return self.recipe.predictor_lr.at(self.lr(step), self.recipe.peak_lr)

    def tau(self, step: int) -> float:
        """Share of the target kept at a step."""
        return self.recipe.target.tau(step, self.total_steps)

    def is_recorded(self, step: int) -> bool:
        """A hundred records or more, one per 50 steps in long runs."""
        return step % max(1, min(50, self.total_steps // 100)) == 0 or step == self.total_steps

    def is_judged(self, step: int) -> bool:
        """Ten kNN judgements, spread evenly."""
        return step % max(1, self.total_steps // 10) == 0


def pretrain(
    recipe: Recipe,
    out: str | Path,
    *,
    encoder: nn.Module | None = None,
    resume: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    checkpoint_seconds: float = 120.0,
) -> dict[str, Any]:
    """Learn an encoder from images without labels, and write a run folder.

    Ctrl-C and SIGTERM save a checkpoint after the current step. A resumed run continues bit for bit
    on the same machine, wherever it was stopped.

    Started by `torchrun`, the processes share every batch; the first one writes, and the others read the same
    run folder and images. All stop after the same step. Another number of processes can resume: the images
    are the same in the same order, and the sums are rounded differently.

    Args:
        recipe: what to compute.
        out: the run folder.
        encoder: any module (B, 3, H, W) -> (B, D) to train in place of the recipe's.
        resume: continue the run in `out` from its newest checkpoint.
        overwrite: replace a run that `out` already holds.
        workers: processes that decode files, None for one per core; sets in memory need none. Where several
            processes train, each has as many, or its share of the cores.
        checkpoint_seconds: time between checkpoints.

    Returns:
        The summary, as in `summary.json`.

    Raises:
        UserError: in one sentence, what the person can mend.
        Interrupted: the run was asked to stop and has saved itself.
    """
    keep_freed_memory()
    folder = RunFolder(Path(out))
    with (
        joined() as processes,
        Progress(silent=not processes.is_first) as progress,
        torch.random.fork_rng(),
    ):
        device = processes.device(recipe.precision)
        with processes.agreed(), processes.in_turn():
            sets = open_data(recipe.data)
        images = sets["train"]
        timeline = Timeline(recipe, len(images))
        total_steps = timeline.total_steps
        judge = Judge(sets, recipe, device)

        learner = build(recipe, device, encoder, len(images.classes) if judge.has_labels else 0)
        if resume:
            with processes.agreed():
                learner.restore(_newest_state(folder, recipe, device))
        else:
            processes.by_first(_begin, folder, recipe, device, overwrite=overwrite)
            learner.baselines = processes.by_first(judge.baselines, learner.online.encoder)
        progress.say(
            f"{recipe.name}: {len(images):,} images, steps {learner.step:,} to {total_steps:,}, "
            f"{_place(device)} in {device.precision}, into {folder.path}"
        )
        _name_bad(images.bad, learner.bad_files, progress)
        own_stream = batches(
            near(images, device.device),
            recipe.views,
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            first_step=learner.step,
            total_steps=total_steps,
            workers=_workers(images, workers, processes.local_world_size),
            device=device.device,
            rank=device.rank,
            world_size=device.world_size,
        )
        stream = in_step(own_stream, processes, at_least=2 * recipe.micro_batches)
        first_step, saved_at, watch = learner.step, time.monotonic(), Stopwatch(learner.seconds)
        scores: dict[str, float] = {}
        has_collapsed = False
        writer = Recorder(folder.metrics, first_step) if processes.is_first else Silence()

        with writer as recorder, StopRequest() as stop, closing(stream):
            for batch in stream:
                # ---- the step ---------------------------------------------------------------
                torch.manual_seed(_chance(recipe.seed, batch.step, device.rank))  # for dropout and its like
                lr, tau = timeline.lr(batch.step), timeline.tau(batch.step)
                result = bootstrap_step(
                    learner.online,
                    learner.target,
                    learner.optimizer,
                    [view.contiguous(memory_format=device.memory_format) for view in batch.views],
                    lr,
                    tau,
                    pairs=recipe.views.pairs,
                    predictor_lr=timeline.predictor_lr(batch.step),
                    loss_weight=recipe.loss_weight,
                    micro_batches=recipe.micro_batches,
                    autocast=device.autocast,
                )
                if learner.classifier is not None:
                    assert batch.labels is not None
                    labels = torch.from_numpy(batch.labels).to(device.device, non_blocking=True)
                    learner.classifier.step(result.branch.representation, labels, lr)
                # -----------------------------------------------------------------------------
                learner.step = step = batch.step + 1
                learner.losses.append(device.mean(result.loss))
                _name_bad(batch.bad, learner.bad_files, progress)

                if timeline.is_recorded(step):
                    rate = watch.rate((step - first_step) * recipe.batch_size)
                    record = {
                        **measure(result, learner, processes),
                        **{
                            "lr": lr,
                            "tau": tau,
                            "epoch": step / timeline.steps_per_epoch,
                            "images_per_second": rate,
                        },
                    }
                    learner.losses.clear()
                    recorder.write("train", step, **record)
                    eta = duration((total_steps - step) * recipe.batch_size / rate)
                    progress.show(line(step, total_steps, record, eta, scores), last=step == total_steps)
                    if record["feature_spread"] < COLLAPSED_SPREAD and not has_collapsed:
                        has_collapsed = True
                        progress.say(collapse_sentence(record["feature_spread"], step))

                if judge.has_labels and timeline.is_judged(step):
                    with watch.aside():
                        scores = processes.by_first(_scores, judge, learner, quick=True)
                    recorder.write("knn", step, **scores)

                is_last = step == total_steps
                is_late = time.monotonic() - saved_at >= checkpoint_seconds
                signal, is_due = processes.most(stop.received or 0, is_last or is_late)
                if signal or is_due:
                    refuse_nan(learner)
                    learner.seconds = watch.seconds
                    state = {"recipe": recipe.to_json(), **learner.state()}
                    processes.by_first(checkpoint.save, folder.checkpoints, step, state)
                    saved_at = time.monotonic()
                if signal and not is_last:
                    raise Interrupted(
                        f"stopped at step {step:,} of {total_steps:,} and saved; continue with: "
                        f"byol pretrain --resume {folder.path}",
                        signal,
                    )

        spec = None if encoder is not None else recipe.encoder
        summary = processes.by_first(_end, folder, recipe, learner, judge, spec, images)
        if judge.has_labels:
            progress.say(table(summary))
        progress.say(f"done in {duration(learner.seconds)}: {folder.encoder}")
    return summary


def _begin(folder: RunFolder, recipe: Recipe, device: Device, *, overwrite: bool) -> None:
    """Make the run folder and say in it what is run, and where."""
    folder.create(overwrite=overwrite)
    write_json(folder.recipe, recipe.to_json())
    facts = {"device": str(device.device), "precision": device.precision, "processes": device.world_size}
    write_json(folder.provenance, provenance(**facts))


def _end(
    folder: RunFolder,
    recipe: Recipe,
    learner: Learner,
    judge: Judge,
    spec: Any,
    images: Images,
) -> dict[str, Any]:
    """Write what a finished run leaves behind, and return its summary."""
    save_encoder(folder.encoder, learner.online.encoder, spec, recipe.evaluation_size, recipe.views)
    summary = _summary(folder, recipe, learner, judge)
    write_json(folder.summary, summary)
    draw_figure(folder, recipe, images)
    return summary


def _summary(folder: RunFolder, recipe: Recipe, learner: Learner, judge: Judge) -> dict[str, Any]:
    last = [event for event in read(folder.metrics) if event["kind"] == "train"][-1]
    summary = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "steps": learner.step,
        "epochs": recipe.epochs,
        "wall_seconds": learner.seconds,
        **{name: last[name] for name in ("images_per_second", "loss", "feature_spread", "effective_rank")},
        "bad_files": sorted(learner.bad_files),
    }
    if judge.has_labels:
        summary |= {**_scores(judge, learner, quick=False), "online_classifier_judged_on": judge.judged}
    return summary


def _scores(judge: Judge, learner: Learner, *, quick: bool) -> dict[str, float]:
    """Return accuracies of the encoder as it stands, beside what it has to beat, in percent."""
    assert learner.classifier is not None
    encode = judge.encode(learner.online.encoder)
    return {
        "knn_top1": judge.accuracy(encode, quick=quick),
        **learner.baselines["quick" if quick else "full"],
        "online_classifier_top1": judge.classifier_top1(encode, learner.classifier, quick=quick),
    }


def _newest_state(folder: RunFolder, recipe: Recipe, device: Device) -> dict[str, Any]:
    """Return the newest checkpoint of the run, after making sure that it is of this recipe."""
    if not folder.recipe.is_file():
        raise UserError(f"{folder.path} holds no run to resume; start one with --out {folder.path}.")
    newest = checkpoint.newest(folder.checkpoints)
    if newest is None:
        raise UserError(
            f"{folder.path} was stopped before its first checkpoint; start anew with --overwrite."
        )
    state = checkpoint.load(newest, device.device)
    differences = diff(from_json(json.dumps(state["recipe"]), str(newest)), recipe)
    if differences:
        sides = "; ".join(
            f"{field} is {there!r} there and {here!r} here" for field, there, here in differences
        )
        raise UserError(
            f"{newest} is of another recipe: {sides}. Resume with its own, or choose another --out."
        )
    return state


def _name_bad(names: Iterable[str], known: set[str], progress: Progress) -> None:
    """Tell of each undecodable file once; the loader stops the run when there are too many."""
    for name in sorted(set(names) - known):
        known.add(name)
        progress.say(f"skipped {name}: it cannot be decoded ({len(known)} so far)")


def _workers(images: Images, asked: int | None, sharing: int) -> int:
    """Return how many processes decode files: one per core that is ours, and none for images in memory."""
    if isinstance(images, InMemory):
        return 0
    return max(1, usable_cores() // sharing) if asked is None else asked


def _place(device: Device) -> str:
    """Return the device in words."""
    return f"{device.device}" if device.world_size == 1 else f"{device.world_size} processes, {device.device}"


def _chance(seed: int, step: int, rank: int) -> int:
    """Return the seed of what a network draws in a step; another rank may have it millions of steps later."""
    return (seed << 32) + (rank << 24) + step

"""The pretraining loop, the only one there is: lines 1 to 4 of Algorithm 1, and what surrounds a step."""

import copy
import time
from collections.abc import Generator, Iterable
from contextlib import ExitStack, closing

import torch

from byol.algorithm import Branch, bootstrap_step
from byol.data.images import Images
from byol.data.loader import Batch, as_broken_off, batches, in_step
from byol.data.opening import open_data
from byol.data.sizes import typical_side
from byol.data.splits import say_notes, to_learn_from
from byol.data.unreadable import Bad
from byol.errors import Interrupted
from byol.run.record import NullRecorder, Recorder
from byol.system.collective import mean_over_ranks
from byol.system.device import Device, keep_freed_memory, usable_cores
from byol.system.processes import Processes, joined
from byol.system.progress import Progress, duration
from byol.system.stop import StopRequest
from byol.system.stopwatch import Stopwatch
from byol.training.broken_off import saved_if_broken_off
from byol.training.forecast import FEWEST_STEPS, advice, foreseen
from byol.training.guard import Guard, refuse_nan
from byol.training.learner import Learner, build
from byol.training.rehearsal import Rehearsal, rehearse
from byol.training.request import Request
from byol.training.result import Run
from byol.training.run_files import begin, finish, newest_state, note_place, save
from byol.training.side_by_side import sharing_cores
from byol.training.signals import Moment, measure
from byol.training.timeline import Timeline
from byol.training.watch import Judge, live_line


def train(asked: Request) -> Run:
    """Take the steps that are left of a run that is begun, extended or continued.

    Args:
        asked: what to do, already checked.

    Raises:
        UserError: something cannot work; `Diverged` where the loss is not finite.
        Interrupted: the run was asked to stop and has saved itself.
    """
    recipe, folder = asked.recipe, asked.folder
    keep_freed_memory()
    with (
        joined() as processes,
        Progress(silent=not processes.is_rank_zero) as progress,
        torch.random.fork_rng(),
        ExitStack() as until_the_end,
    ):
        device = processes.device(recipe.precision)
        with processes.agreed(), processes.in_turn():
            sets = open_data(asked.data, pixel_range=asked.start.pixel_range)
        images, judge = to_learn_from(sets)[1], Judge(sets, recipe, device)
        say_notes(sets, progress, learns=True)
        timeline, guard = Timeline(recipe, len(images)), Guard()
        total_steps, identity = timeline.total_steps, images.identity()

        rehearsed = _rehearsed(asked, images, device, total_steps)  # before what it must not stand beside
        learner = build(recipe, device, asked.encoder, judge.num_classes)
        with processes.agreed():
            if processes.is_rank_zero:
                until_the_end.enter_context(folder.in_use())
        if asked.is_resumed:
            with processes.agreed():
                learner.restore(newest_state(asked, device, identity))
            processes.on_rank_zero(note_place, asked)
        else:
            asked.start.refuse_unfit(learner, identity)
            processes.on_rank_zero(begin, asked, device, images)
            if said := asked.start.give(learner, identity, judge, processes):
                progress.say(said)
            for unwise in advice(recipe, asked.encoder, total_steps, typical_side(images)):
                progress.say(f"note: {unwise}")
            if rehearsed is not None:
                seen = foreseen(rehearsed, total_steps - learner.step, judge.seconds)
                learner.forecast = seen._asdict()
                progress.say(seen.sentence())
            processes.on_rank_zero(save, asked, learner, identity)
        first_step, saved_at, watch = learner.step, time.monotonic(), Stopwatch(learner.seconds)
        scores: dict[str, float] = {}
        progress.say(
            f"{recipe.name}: {len(images):,} images, steps {first_step:,} to {total_steps:,}, "
            f"{_where(device)} in {device.precision}, into {folder.path}"
        )
        _name_bad(images.bad, learner.bad_files, progress)

        def save_now() -> None:
            _finite_losses(learner)
            learner.seconds = watch.seconds
            processes.on_rank_zero(save, asked, learner, identity)

        def ending() -> str:
            return (
                f"at step {learner.step:,} of {total_steps:,} and saved; continue with: {asked.continuation}"
            )

        stop = StopRequest()
        stream = _stream(asked, images, device, processes, first_step, total_steps, stop)
        saved = saved_if_broken_off(learner, save_now, ending, stop, processes)
        with processes.agreed():
            writer = Recorder(folder.metrics, first_step) if processes.is_rank_zero else NullRecorder()
        with writer as recorder, stop, closing(stream), saved, sharing_cores(learner.passes):
            for batch in stream:
                # ---- the step ---------------------------------------------------------------
                torch.manual_seed(_dropout_seed(recipe.seed, batch.step, device.rank))
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
                    passes=learner.passes,
                )
                if learner.classifier is not None:
                    assert batch.labels is not None
                    labels = torch.from_numpy(batch.labels).to(device.device, non_blocking=True)
                    learner.classifier.step(result.branch.representation, labels, lr)
                # -----------------------------------------------------------------------------
                learner.step = step = batch.step + 1
                learner.losses.append(mean_over_ranks(result.loss))
                _name_bad(batch.bad, learner.bad_files, progress)

                if timeline.is_recorded(step):  # the one place that waits for the device
                    losses = _finite_losses(learner)
                    branch = Branch(*map(processes.rows, result.branch))
                    rate = watch.rate((step - first_step) * recipe.batch_size)
                    record = {
                        **measure(Moment(losses, branch, learner.online)),
                        "lr": lr,
                        "tau": tau,
                        "epoch": step / timeline.steps_per_epoch,
                        "images_per_second": rate,
                    }
                    learner.losses.clear()
                    with processes.agreed():
                        recorder.write("train", step, **record)
                    eta = duration((total_steps - step) * recipe.batch_size / rate)
                    progress.show(live_line(step, total_steps, record, eta, scores), last=step == total_steps)
                    for warning in guard.heed(step, record):
                        progress.say(warning)

                if judge.has_labels and timeline.is_judged(step):
                    with watch.aside(), as_broken_off():
                        scores = processes.on_rank_zero(judge.scores, learner, quick=True)
                    with processes.agreed():
                        recorder.write("knn", step, **scores)

                is_last = step == total_steps
                is_late = time.monotonic() - saved_at >= asked.checkpoint_seconds
                signal, is_due = processes.max_over_ranks(stop.received or 0, is_last or is_late)
                if signal or is_due:
                    save_now()
                    saved_at = time.monotonic()
                if signal and not is_last:
                    raise Interrupted(f"stopped {ending()}", signal)

        processes.on_rank_zero(finish, asked, learner, judge, images, progress.say)
        progress.say(f"done in {duration(learner.seconds)}: {folder.encoder}")
    return Run(folder.path)


def _rehearsed(asked: Request, images: Images, device: Device, steps: int) -> Rehearsal | None:
    """Return what a few steps were like; None for short or continued runs, and for several processes."""
    if asked.is_resumed or device.world_size > 1 or steps < FEWEST_STEPS:
        return None
    return rehearse(asked.recipe, images, device, copy.deepcopy(asked.encoder), asked.workers)


def _stream(
    asked: Request,
    images: Images,
    device: Device,
    processes: Processes,
    first_step: int,
    total_steps: int,
    stop: StopRequest,
) -> Generator[Batch, None, None]:
    """Return the batches that are left, on the device, in step with the other processes."""
    workers = max(1, usable_cores() // processes.local_world_size) if asked.workers is None else asked.workers
    stream = batches(
        images,
        asked.recipe.views,
        batch_size=asked.recipe.batch_size,
        seed=asked.recipe.seed,
        first_step=first_step,
        total_steps=total_steps,
        workers=workers,
        device=device.device,
        rank=device.rank,
        world_size=device.world_size,
        is_asked_to_stop=lambda: stop.received is not None,
    )
    return in_step(stream, processes, at_least=2 * asked.recipe.micro_batches)


def _finite_losses(learner: Learner) -> torch.Tensor:
    """Return the losses (n,) since the last record, after making sure that all of them are finite."""
    losses = torch.stack(learner.losses) if learner.losses else torch.empty(0)
    refuse_nan(losses.tolist(), learner.step)
    return losses


def _name_bad(found: Iterable[Bad], known: set[str], progress: Progress) -> None:
    """Tell of each unusable file once; the loader stops the run when there are too many."""
    for name, reason in sorted(set(found)):
        if name not in known:
            known.add(name)
            progress.say(f"skipped {name}: {reason} ({len(known)} so far)")


def _where(device: Device) -> str:
    """Return the device in words."""
    return f"{device.device}" if device.world_size == 1 else f"{device.world_size} processes, {device.device}"


def _dropout_seed(seed: int, step: int, rank: int) -> int:
    """Return the seed of what a network draws in a step; another rank may have it millions of steps later."""
    return (seed << 32) + (rank << 24) + step

"""`judge`, `transfer`, `compare`, `measure`: an encoder, images and a protocol in, a result out."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, TypeVar

import numpy as np

from byol.data.opening import Data, open_data
from byol.data.splits import say_notes
from byol.errors import UserError, refuse_seed
from byol.evaluate.baselines import at_random
from byol.evaluate.features import encode_with
from byol.evaluate.given import Encoder, file_result, opened
from byol.evaluate.measured import Measured
from byol.evaluate.metrics import difference, estimate
from byol.evaluate.protocol.finetune import FineTune
from byol.evaluate.protocol.knn import Knn
from byol.evaluate.protocol.linear import LinearProbe
from byol.evaluate.protocol.slot import Context, EvaluationProtocol, Outcome
from byol.evaluate.result import Comparison, Result, Row, Transfer
from byol.evaluate.statistics import sample_std
from byol.evaluate.task import Task, data_name, open_task
from byol.evaluate.unlabelled import unlabelled
from byol.model.encoder import in_eval_mode
from byol.run.provenance import provenance
from byol.system.device import pick_device
from byol.system.progress import Progress
from byol.weights.pretrained import Pretrained

Value = TypeVar("Value")


def judge(
    encoder: Encoder,
    data: Data,
    *,
    protocol: EvaluationProtocol = Knn(),
    test: Data | None = None,
    against: Sequence[Encoder] = (),
    seed: int = 0,
) -> Result:
    """Judge an encoder by a protocol, beside random initialization and whatever else it has to beat.

    The result also becomes a line of RUN/results/results.jsonl, when the encoder is that of a run.

    Args:
        encoder: a run, its encoder.safetensors, timm:NAME or torchvision:NAME; in Python also what
            `byol.load` has opened, which keeps weights, buffers and mode.
        data: labelled images: the train split is learned from, test (or val, without test) judged.
        protocol: `Knn()`, `LinearProbe()`, `LinearSgd()`, `FineTune()`, `FewLabels()`, or one of your own.
        test: the judged images, if they lie elsewhere.
        against: other encoders to judge by the same rule, such as `timm:resnet50`.
        seed: of all draws and of the random initialization.

    Raises:
        UserError: there is no encoder or no labelled set at these paths, or the protocol cannot be used on
            it.
    """
    started = time.perf_counter()
    refuse_seed(seed)
    settings = _settings(protocol)
    subject, *others = map(opened, (encoder, *_several("against", against)))
    task = open_task(data, test, subject.preprocessing.pixel_range)
    with Progress() as progress, in_eval_mode(subject, *others):
        for warning in (*task.notes, *task.warnings):
            progress.say(f"note: {warning}")
        context = Context(pick_device(), progress, seed)
        encoders = [subject, *protocol.baselines(subject, task, context), *others]
        outcomes, rows = zip(*_judged(protocol, encoders, task, context), strict=True)
        first = outcomes[0]
        metrics = task.metrics(first.scores, task.judged.labels[first.positions])
        result = Result(
            protocol=protocol.name,
            settings=settings,
            data=task.name,
            data_fingerprint=task.fingerprint,
            classes=len(task.classes),
            class_names=task.classes,
            learned_from=first.learned_from,
            judged=len(first.positions),
            leave_one_out=task.test is None,
            metric=task.metric,
            titles={name: metric.title for name, metric in metrics.items() if metric.title},
            rows=rows,
            seed=seed,
            warnings=task.warnings,
            provenance=provenance(device=str(context.device.device), precision=context.device.precision),
            seconds=time.perf_counter() - started,
        )
        file_result(encoder, result.to_json(), progress)
    return result


def transfer(
    encoder: Encoder,
    data: Sequence[Data],
    *,
    protocols: Sequence[EvaluationProtocol] = (LinearProbe(), FineTune()),
    against: Sequence[Encoder] = (),
    seed: int = 0,
) -> Transfer:
    """Judge an encoder on several labelled sets, each by its own metric.

    Args:
        encoder: a run, its encoder.safetensors, timm:NAME or torchvision:NAME; in Python as for `judge`.
        data: the labelled sets, each with splits train and test (or val).
        protocols: by which each is judged.
        against: other encoders to judge by the same rule.
        seed: of all draws.

    Raises:
        UserError: no set or no protocol is named, or one of them cannot be judged, as for `judge`.
    """
    sets, ways = _several("data", data), _several("protocols", protocols)
    if not sets:
        raise UserError("say which sets to transfer to: --data PATH PATH ...")
    if not ways:
        raise UserError("protocols is empty; give one or more, such as byol.LinearProbe().")
    for protocol in ways:
        _settings(protocol)  # refuses what is none before the first is judged
    refuse_seed(seed)
    others = _several("against", against)
    for given in (encoder, *others):  # what is missing is told now, not after an hour of the first set
        opened(given)
    for one in sets:
        open_task(one)
    return Transfer(
        results=tuple(
            judge(encoder, one, protocol=protocol, against=others, seed=seed)
            for one in sets
            for protocol in ways
        )
    )


def compare(
    a: Encoder,
    b: Encoder,
    data: Data,
    *,
    protocol: EvaluationProtocol = Knn(),
    test: Data | None = None,
    seed: int = 0,
) -> Comparison:
    """Decide whether one encoder is better than another, on the same images.

    Args:
        a: a run, its encoder.safetensors, timm:NAME or torchvision:NAME; in Python as for `judge`.
        b: another, given in the same ways.
        data: labelled images: the train split is learned from, test (or val, without test) judged.
        protocol: by which both are judged.
        test: the judged images, if they lie elsewhere.
        seed: of all draws.

    Raises:
        UserError: as for `judge`.
    """
    result = judge(a, data, protocol=protocol, test=test, against=[b], seed=seed)
    last = result.rows[-1]
    assert last.behind is not None
    return Comparison(result=result, a=result.rows[0].encoder, b=last.encoder, difference=last.behind)


def measure(
    encoder: Encoder,
    data: Data,
    *,
    against: Sequence[Encoder] = (),
    seed: int = 0,
) -> Measured:
    """Measure an encoder without labels, beside random initialization.

    Where there are splits the images are those that no encoder should have learned from: test, or else val.

    Args:
        encoder: a run, its encoder.safetensors, timm:NAME or torchvision:NAME; in Python as for `judge`.
        data: images; labels are not looked at.
        against: other encoders to measure on the same images and views.
        seed: of images, views and the random initialization.

    Raises:
        UserError: there is no encoder, or there are no images, at these paths, or features are not finite.
    """
    started = time.perf_counter()
    refuse_seed(seed)
    subject, *others = map(opened, (encoder, *_several("against", against)))
    sets = open_data(data, pixel_range=subject.preprocessing.pixel_range)
    images = next(sets[split] for split in ("test", "val", "train") if split in sets)
    device, rows = pick_device(), []
    with Progress() as progress, in_eval_mode(subject, *others):
        say_notes(sets, progress)
        context = Context(device, progress, seed)
        encoders = [subject, at_random(subject, sets.get("train", images), context), *others]
        for one in encoders:
            progress.say(f"measuring {one.name}")
            encode = encode_with(one, device)
            rows.append(unlabelled(encode, images, one.preprocessing, seed=seed))
        result = Measured(
            data=data_name(data),
            data_fingerprint=images.digest(),
            encoders=tuple(one.name for one in encoders),
            rows=tuple(rows),
            seed=seed,
            provenance=provenance(device=str(device.device), precision=device.precision),
            seconds=time.perf_counter() - started,
        )
        file_result(encoder, result.to_json(), progress)
    return result


def _judged(
    protocol: EvaluationProtocol, encoders: Sequence[Pretrained], task: Task, context: Context
) -> Iterator[tuple[Outcome, Row]]:
    """Judge each encoder, and say how far the first is ahead of the others."""
    first: Outcome | None = None
    for encoder in encoders:
        started = time.perf_counter()
        outcome = protocol.judge(encoder, task, context)
        if not all(np.isfinite(scores).all() for scores in outcome.scores):
            raise UserError(
                f"{encoder.name} ends in scores that are not finite: its weights are damaged, or a learning "
                "rate is too high."
            )
        seconds = time.perf_counter() - started
        row = _row(encoder, outcome, first, task, context.seed, seconds)
        context.progress.say(f"{encoder.name}: {row.metrics[task.metric]} %")
        yield outcome, row
        first = first or outcome


def _row(
    encoder: Pretrained, outcome: Outcome, first: Outcome | None, task: Task, seed: int, seconds: float
) -> Row:
    labels, behind = task.judged.labels[outcome.positions], None
    metrics = task.metrics(outcome.scores, labels)
    if first is not None:
        assert np.array_equal(outcome.positions, first.positions)
        ours = task.metrics(first.scores, labels)[task.metric]
        behind = difference(ours, metrics[task.metric], len(labels), seed)
    draws = [task.score(scores, labels) for scores in outcome.scores]
    return Row(
        encoder=encoder.name,
        fingerprint=encoder.fingerprint(),
        metrics={name: estimate(metric, len(labels), seed) for name, metric in metrics.items()},
        draws=tuple(draws),
        std=sample_std(draws),
        confusion=task.scoring.confusion(outcome.scores[0], labels),
        chosen=tuple(outcome.chosen),
        behind=behind,
        seconds=seconds,
    )


def _settings(protocol: EvaluationProtocol) -> dict[str, Any]:
    """Return the fields of a protocol as JSON values: paths, which JSON does not know, as strings."""
    if isinstance(protocol, type) or not is_dataclass(protocol):
        raise UserError(f"protocol is {protocol!r}; give one with its settings, such as byol.Knn(k=20).")
    settings: dict[str, Any] = json.loads(json.dumps(asdict(protocol), default=str))
    return settings


def _several(name: str, values: Sequence[Value]) -> Sequence[Value]:
    """Return a sequence; refuse one thing alone, which a word would be letter by letter."""
    if isinstance(values, str):
        raise UserError(f"{name} is {values!r} alone; give a list, such as [{values!r}].")
    if not isinstance(values, Sequence):
        raise UserError(f"{name} is a {type(values).__name__} alone; give a list.")
    return values

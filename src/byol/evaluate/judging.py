"""`judge`, `transfer`, `compare`, `measure`: an encoder, a protocol and images in, a result out."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from byol.data.images import fingerprint
from byol.data.opening import open_data
from byol.errors import UserError, refuse_seed
from byol.evaluate import metrics
from byol.evaluate.features import encode_with
from byol.evaluate.protocol import Bench, EvaluationProtocol, FineTune, Knn, Linear, Outcome
from byol.evaluate.result import Comparison, Measured, Result, Row, Transfer, spread
from byol.evaluate.task import Task, open_task
from byol.evaluate.unlabelled import unlabelled
from byol.model.encoder import in_eval_mode, representation_dim
from byol.run.folder import RunFolder
from byol.run.provenance import provenance
from byol.system.device import pick_device
from byol.system.progress import Progress
from byol.weights.pretrained import Pretrained, load

Encoder = str | Path | Pretrained  # what `byol.load` opens, or has opened


def judge(
    protocol: EvaluationProtocol,
    encoder: Encoder,
    data: str,
    *,
    test: str | None = None,
    against: Sequence[Encoder] = (),
    seed: int = 0,
) -> Result:
    """Judge an encoder by a protocol, beside random initialisation and whatever else it has to beat.

    The result also becomes a line of RUN/results/results.jsonl, when the encoder is that of a run.

    Args:
        protocol: `Knn()`, `Linear()`, `LinearSgd()`, `FineTune()` or `FewLabels()`.
        encoder: whatever `byol.load` opens, or has opened; it keeps weights, buffers and mode.
        data: labelled images: the train split is learnt from, test (or val, without test) judged.
        test: the judged images, if they lie elsewhere.
        against: other encoders to judge by the same rule, such as `timm:resnet50`.
        seed: of all draws and of the random initialisation.

    Raises:
        UserError: in one sentence, what the person can mend.
    """
    started = time.perf_counter()
    refuse_seed(seed)
    subject, *others = map(_opened, (encoder, *against))
    task = open_task(data, test)
    with Progress() as progress, in_eval_mode(subject, *others):
        for warning in task.warnings:
            progress.say(f"note: {warning}")
        bench = Bench(pick_device(), progress, seed)
        encoders = [subject, *protocol.baselines(subject, seed), *others]
        outcomes = _outcomes(protocol, encoders, task, bench)
    result = Result(
        protocol=protocol.name,
        settings=_settings(protocol),
        data=task.name,
        data_fingerprint=task.fingerprint,
        classes=len(task.classes),
        learnt_from=outcomes[0][0].learnt_from,
        judged=len(outcomes[0][0].places),
        leave_one_out=task.test is None,
        metric=task.metric,
        rows=tuple(row for _, row in outcomes),
        seed=seed,
        warnings=task.warnings,
        provenance=provenance(device=str(bench.device.device), precision=bench.device.precision),
        seconds=time.perf_counter() - started,
    )
    _file(encoder, result.to_json())
    return result


def transfer(
    encoder: Encoder,
    data: Sequence[str],
    *,
    protocols: Sequence[EvaluationProtocol] = (Linear(), FineTune()),
    against: Sequence[Encoder] = (),
    seed: int = 0,
) -> Transfer:
    """Judge an encoder on several labelled sets, each by its own metric.

    Args:
        encoder: whatever `byol.load` opens, or has opened.
        data: the sets, each with a train and a test (or val) split.
        protocols: by which each is judged.
        against: other encoders to judge by the same rule.
        seed: of all draws.

    Raises:
        UserError: in one sentence, what the person can mend.
    """
    if not data:
        raise UserError("say which sets to transfer to: --data PATH PATH ...")
    return Transfer(
        results=tuple(
            judge(protocol, encoder, one, against=against, seed=seed)
            for one in data
            for protocol in protocols
        )
    )


def compare(
    a: Encoder,
    b: Encoder,
    data: str,
    *,
    protocol: EvaluationProtocol | None = None,
    test: str | None = None,
    seed: int = 0,
) -> Comparison:
    """Tell whether one encoder is better than another, on the same images.

    Args:
        a: whatever `byol.load` opens, or has opened.
        b: likewise.
        data: labelled images, as for `judge`.
        protocol: by which both are judged; nearest neighbours by default.
        test: the judged images, if they lie elsewhere.
        seed: of all draws.

    Raises:
        UserError: in one sentence, what the person can mend.
    """
    result = judge(protocol or Knn(), a, data, test=test, against=[b], seed=seed)
    last = result.rows[-1]
    assert last.behind is not None
    return Comparison(result=result, a=result.rows[0].encoder, b=last.encoder, difference=last.behind)


def measure(
    encoder: Encoder,
    data: str,
    *,
    against: Sequence[Encoder] = (),
    seed: int = 0,
) -> Measured:
    """Measure an encoder without labels, beside random initialisation.

    Where there are splits the images are those that no encoder should have learnt from: test, or else val.

    Args:
        encoder: whatever `byol.load` opens, or has opened.
        data: images; labels are not looked at.
        against: other encoders to measure on the same images and views.
        seed: of images, views and the random initialisation.

    Raises:
        UserError: in one sentence, what the person can mend.
    """
    started = time.perf_counter()
    refuse_seed(seed)
    subject, *others = map(_opened, (encoder, *against))
    encoders = [subject, subject.fresh(seed), *others]
    sets = open_data(data)
    images = next(sets[split] for split in ("test", "val", "train") if split in sets)
    device, rows = pick_device(), []
    with Progress() as progress, in_eval_mode(subject, *others):
        for one in encoders:
            progress.say(f"measuring {one.name}")
            encode = encode_with(one, device)
            rows.append(unlabelled(encode, images, one.size, crop_share=one.crop_share, seed=seed))
    result = Measured(
        data=data,
        data_fingerprint=fingerprint(images),
        encoders=tuple(one.name for one in encoders),
        rows=tuple(rows),
        seed=seed,
        provenance=provenance(device=str(device.device), precision=device.precision),
        seconds=time.perf_counter() - started,
    )
    _file(encoder, result.to_json())
    return result


def _outcomes(
    protocol: EvaluationProtocol, encoders: Sequence[Pretrained], task: Task, bench: Bench
) -> list[tuple[Outcome, Row]]:
    """Judge each encoder, and say how far the first is ahead of the others."""
    found: list[tuple[Outcome, Row]] = []
    for encoder in encoders:
        started = time.perf_counter()
        outcome = protocol.judge(encoder, task, bench)
        if not all(np.isfinite(scores).all() for scores in outcome.scores):
            raise UserError(
                f"{encoder.name} ends in scores that are not finite: its weights are damaged, or a learning "
                "rate is too high."
            )
        seconds = time.perf_counter() - started
        first = found[0][0] if found else None
        row = _row(encoder, outcome, first, task, bench.seed, seconds)
        bench.progress.say(f"{encoder.name}: {row.figures[task.metric]} %")
        found.append((outcome, row))
    return found


def _row(
    encoder: Pretrained, outcome: Outcome, first: Outcome | None, task: Task, seed: int, seconds: float
) -> Row:
    labels = task.judged.labels[outcome.places]
    figures = metrics.figures(outcome.scores, labels)
    draws = [
        metrics.figures([scores], labels)[task.metric](np.arange(len(labels))) for scores in outcome.scores
    ]
    confusion = metrics.confusion(outcome.scores[0], labels).tolist() if labels.ndim == 1 else None
    behind = None
    if first is not None:
        assert np.array_equal(outcome.places, first.places)
        behind = metrics.difference(first.scores, outcome.scores, labels, task.metric, seed)
    return Row(
        encoder=encoder.name,
        fingerprint=encoder.fingerprint(),
        figures={name: metrics.estimate(figure, len(labels), seed) for name, figure in figures.items()},
        draws=tuple(draws),
        spread=spread(draws),
        confusion=None if confusion is None else tuple(map(tuple, confusion)),
        chosen=tuple(outcome.chosen),
        behind=behind,
        seconds=seconds,
    )


def _settings(protocol: EvaluationProtocol) -> dict[str, Any]:
    """Return the fields of a protocol as JSON values."""
    assert is_dataclass(protocol)
    assert not isinstance(protocol, type)
    settings: dict[str, Any] = json.loads(json.dumps(asdict(protocol), default=str))
    return settings


def _opened(encoder: Encoder) -> Pretrained:
    opened = encoder if isinstance(encoder, Pretrained) else load(encoder)
    representation_dim(
        opened.encoder, (3, opened.size, opened.size)
    )  # says so where it gives anything but (B, D)
    return opened


def _file(encoder: Encoder, value: dict[str, Any]) -> None:
    """Add a line to the results of a run, where the encoder is that of one."""
    if isinstance(encoder, Pretrained) or not Path(encoder).is_dir():
        return
    folder = RunFolder(Path(encoder)).results
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "results.jsonl").open("a") as file:
        file.write(json.dumps(value) + "\n")

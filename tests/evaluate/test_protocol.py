from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from tests.evaluate.conftest import MakeSet

from byol.errors import UserError
from byol.evaluate.features import kept_features
from byol.evaluate.protocol import (
    Bench,
    EvaluationProtocol,
    FewLabels,
    FineTune,
    Knn,
    Linear,
    LinearSgd,
    Outcome,
    Retrain,
)
from byol.evaluate.supervised import Trained, Training, train
from byol.evaluate.task import Labelled, Task, hold_out, open_task
from byol.system.device import Device
from byol.system.progress import Progress
from byol.weights.pretrained import Pretrained

QUICK: list[EvaluationProtocol] = [
    Knn(k=5),
    Linear(strengths=(1e-2, 1.0)),
    LinearSgd(epochs=2, lrs=(0.1, 1.0)),
    FineTune(at_least=1, epochs=2, lrs=(0.1, 1.0)),
    FewLabels(share=0.5, draws=2, by=Linear(strengths=(1e-2, 1.0), held_out=0.2)),
    FewLabels(share=0.5, draws=2, by=Retrain(lrs=(0.1, 1.0), epochs=(1, 2))),
]
every_protocol = pytest.mark.parametrize("protocol", QUICK, ids=lambda protocol: protocol.name)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYOL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def task(make_set: MakeSet) -> Task:
    return open_task(str(make_set()))


@pytest.fixture
def bench(device: Device, quiet: Progress) -> Bench:
    return Bench(device, quiet, seed=0)


def relabelled(task: Task) -> Task:
    """Return the task with the labels of the judged images mixed up."""
    assert task.test is not None
    labels = np.random.default_rng(0).permutation(task.test.labels)
    return replace(task, test=replace(task.test, labels=labels))


@every_protocol
def test_buffers_and_weights_of_the_encoder_are_untouched(
    protocol: EvaluationProtocol, encoder: Pretrained, task: Task, bench: Bench
) -> None:
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    assert "encoder.layers.1.running_mean" in before
    protocol.judge(encoder, task, bench)
    after = encoder.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not encoder.training
    assert all(parameter.requires_grad for parameter in encoder.parameters())


@every_protocol
def test_nothing_depends_on_the_labels_of_the_judged_images(
    protocol: EvaluationProtocol,
    encoder: Pretrained,
    task: Task,
    bench: Bench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = protocol.judge(encoder, task, bench)
    monkeypatch.setenv("BYOL_CACHE", str(tmp_path / "another"))
    blind = protocol.judge(encoder, relabelled(task), bench)
    assert honest.chosen == blind.chosen
    for ours, theirs in zip(honest.scores, blind.scores, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@every_protocol
def test_an_encoder_that_knows_the_colour_is_judged_well(
    protocol: EvaluationProtocol, encoder: Pretrained, task: Task, bench: Bench
) -> None:
    class Colour(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(3, affine=False)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.norm(images.mean(dim=(2, 3)))  # type: ignore[no-any-return]

    outcome = protocol.judge(replace_encoder(encoder, Colour()), task, bench)
    assert task.test is not None
    for scores in outcome.scores:
        assert scores.shape == (30, 3)
        accuracy = (scores.argmax(1) == task.test.labels).mean()
        assert accuracy > 0.6  # a third by chance; more than 0.51 in 30 is 95 % sure


def replace_encoder(like: Pretrained, network: torch.nn.Module) -> Pretrained:
    return Pretrained(network, like.preprocessing.unnormalized()).eval()


@pytest.mark.parametrize("protocol", QUICK[1:], ids=lambda protocol: protocol.name)
def test_only_neighbours_judge_one_set_alone(
    protocol: EvaluationProtocol, encoder: Pretrained, make_set: MakeSet, bench: Bench
) -> None:
    task = open_task(str(make_set("alone", test=0)))
    with pytest.raises(UserError, match=r"is one set, and [a-z-]+ needs another"):
        protocol.judge(encoder, task, bench)
    assert Knn(k=5).judge(encoder, task, bench).scores[0].shape == (60, 3)


def test_the_penalty_is_the_best_on_held_out_images_as_scikit_learn_finds_it(
    encoder: Pretrained, task: Task, bench: Bench
) -> None:
    strengths = tuple(10.0 ** np.arange(-4, 3))
    outcome = Linear(strengths=strengths, held_out=0.3).judge(encoder, task, bench)
    fit, held = hold_out(task.train, 0.3, 0)
    rows = kept_features(encoder, task.train.images, bench.device, bench.progress).double().numpy()

    def fitted(part: Labelled, strength: float) -> LogisticRegression:
        return LogisticRegression(C=1 / strength, tol=1e-8, max_iter=10_000).fit(
            rows[part.index], part.labels
        )

    figures = {one: 100 * fitted(fit, one).score(rows[held.index], held.labels) for one in strengths}
    best = max(sorted(strengths, reverse=True), key=lambda one: figures[one])  # the strongest of equal ones
    assert outcome.chosen == [{"strength": best, "held_out": pytest.approx(figures[best])}]
    assert task.test is not None
    test_rows = kept_features(encoder, task.test.images, bench.device, bench.progress).double().numpy()
    oracle = fitted(task.train, best).predict(test_rows)
    assert (outcome.scores[0].argmax(1) == oracle).all()


def test_mirrored_features_are_learnt_from_too(encoder: Pretrained, task: Task, bench: Bench) -> None:
    plain = Linear(strengths=(1.0,)).judge(encoder, task, bench)
    both = Linear(strengths=(1.0,), flip=True).judge(encoder, task, bench)
    assert not np.array_equal(plain.scores[0], both.scores[0])


def test_draws_of_few_labels_differ_and_a_list_is_taken_as_it_is(
    encoder: Pretrained, task: Task, bench: Bench, tmp_path: Path
) -> None:
    by = Linear(strengths=(1.0,), held_out=0.2)
    drawn = FewLabels(share=0.2, draws=3, by=by).judge(encoder, task, bench)
    assert [one["labels"] for one in drawn.chosen] == [12, 12, 12]
    assert drawn.learnt_from == 12
    assert not np.array_equal(drawn.scores[0], drawn.scores[1])
    names = [task.train.images.name(int(i)) for i in task.train.index]
    (tmp_path / "list.txt").write_text("\n".join(names[::4]))
    given = FewLabels(lists=(tmp_path / "list.txt",), by=by).judge(encoder, task, bench)
    assert given.chosen[0]["labels"] == 15


def test_one_label_in_a_hundred_of_a_small_class_is_refused(
    encoder: Pretrained, task: Task, bench: Bench
) -> None:
    with pytest.raises(UserError, match=r"class blue with 0 of its 20 images.*use --share 0.1 or more"):
        FewLabels(share=0.01).judge(encoder, task, bench)


def test_runs_of_fine_tuning_have_seeds_of_their_own(encoder: Pretrained, task: Task, bench: Bench) -> None:
    outcome = FineTune(at_least=1, epochs=1, lrs=(0.1,), runs=2).judge(encoder, task, bench)
    assert len(outcome.scores) == 2
    assert not np.array_equal(outcome.scores[0], outcome.scores[1])


def test_several_labels_an_image_are_learnt_by_every_protocol(
    encoder: Pretrained, make_set: MakeSet, bench: Bench
) -> None:
    folder = make_set()
    lines = ["path,split,labels"]
    for path in sorted(folder.rglob("*.png")):
        one = path.relative_to(folder)
        lines.append(f"{one},{one.parts[0]},{one.parts[1]}|picture" + ("|even" if int(one.stem) % 2 else ""))
    (folder / "list.csv").write_text("\n".join(lines))
    task = open_task(str(folder / "list.csv"))
    judges: list[Callable[[Pretrained, Task, Bench], Outcome]] = [one.judge for one in QUICK[:4]]
    for judge in judges:
        assert judge(encoder, task, bench).scores[0].shape == (30, 5)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match="temperature is 0"):
        Knn(temperature=0)
    with pytest.raises(UserError, match="held_out is 1"):
        Linear(held_out=1)
    with pytest.raises(UserError, match="share is 0"):
        FewLabels(share=0)
    with pytest.raises(UserError, match="layer_decay is 2"):
        FineTune(layer_decay=2)


def test_a_small_set_is_learnt_for_as_many_steps_as_a_large_one(
    encoder: Pretrained, task: Task, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Training] = []

    def watched(*arguments: Any, **named: Any) -> Trained:
        seen.append(arguments[3])
        return train(*arguments, **named)

    monkeypatch.setattr("byol.evaluate.protocol.train", watched)
    FineTune(epochs=2, at_least=50, lrs=(0.1,), patience=0.5).judge(encoder, task, bench)
    (training,) = seen
    steps_an_epoch = 54 // training.batch_size  # a tenth of 60 images is held out
    assert training.batch_size == 2
    assert training.epochs == 2  # of 27 steps
    assert training.epochs * steps_an_epoch >= 50
    FineTune(epochs=2, at_least=100, lrs=(0.1,)).judge(encoder, task, bench)
    assert (seen[1].epochs, seen[1].patience) == (4, 2)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FewLabels(draws=0), "draws is 0; use 1 or more"),
        (lambda: FineTune(runs=0), "runs is 0"),
        (lambda: FineTune(epochs=0), "epochs is 0"),
        (lambda: FineTune(lrs=(0.1, -1.0)), "one of lrs is -1.0; choose finite values above 0"),
        (lambda: FineTune(weight_decay=-1.0), "weight_decay is -1.0"),
        (lambda: FineTune(optimizer="adam"), "optimizer is adam; choose sgd or adamw"),  # type: ignore[arg-type]
        (lambda: LinearSgd(epochs=0), "epochs is 0"),
        (lambda: LinearSgd(lrs=()), "lrs is empty; give one value or more"),
        (lambda: LinearSgd(lrs=(float("nan"),)), "one of lrs is nan"),
        (lambda: LinearSgd(batch_size=0), "batch_size is 0; use 2 or more"),
        (lambda: Retrain(lrs=()), "lrs is empty"),
        (lambda: Retrain(epochs=(0,)), "one of epochs is 0"),
        (lambda: Linear(strengths=()), "strengths is empty"),
        (lambda: Linear(strengths=(float("inf"),)), "one of strengths is inf"),
    ],
)
def test_a_setting_that_would_end_in_no_figure_is_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()


@pytest.mark.parametrize("protocol", QUICK[2:4] + QUICK[5:], ids=lambda protocol: protocol.name)
def test_damaged_weights_end_in_a_sentence_and_in_no_figure(
    protocol: EvaluationProtocol, encoder: Pretrained, task: Task, bench: Bench
) -> None:
    with torch.no_grad():
        next(encoder.encoder.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match=r"training of tiny diverged at every learning rate \(0.1, 1.0\)"):
        protocol.judge(encoder, task, bench)


def test_a_learning_rate_that_diverges_is_not_chosen(encoder: Pretrained, task: Task, bench: Bench) -> None:
    outcome = FineTune(at_least=1, epochs=2, lrs=(1e30, 0.1)).judge(encoder, task, bench)
    assert outcome.chosen[0]["lr"] == 0.1

"""What every protocol promises."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.evaluate.conftest import MakeSet
from tests.evaluate.protocol.conftest import QUICK, every_protocol

from byol.errors import UserError
from byol.evaluate.protocol.knn import Knn
from byol.evaluate.protocol.slot import Context, EvaluationProtocol, Outcome
from byol.evaluate.task import Task, open_task
from byol.weights.pretrained import Pretrained


def relabelled(task: Task) -> Task:
    """Return the task with the labels of the judged images mixed up."""
    assert task.test is not None
    labels = np.random.default_rng(0).permutation(task.test.labels)
    return replace(task, test=replace(task.test, labels=labels))


@every_protocol
def test_buffers_and_weights_of_the_encoder_are_untouched(
    protocol: EvaluationProtocol, encoder: Pretrained, task: Task, context: Context
) -> None:
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    assert "encoder.layers.1.running_mean" in before
    protocol.judge(encoder, task, context)
    after = {name: value.cpu() for name, value in encoder.state_dict().items()}  # it may be on a GPU now
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not encoder.training
    assert all(parameter.requires_grad for parameter in encoder.parameters())


@every_protocol
def test_nothing_depends_on_the_labels_of_the_judged_images(
    protocol: EvaluationProtocol,
    encoder: Pretrained,
    task: Task,
    context: Context,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = protocol.judge(encoder, task, context)
    monkeypatch.setenv("BYOL_CACHE", str(tmp_path / "another"))
    blind = protocol.judge(encoder, relabelled(task), context)
    assert honest.chosen == blind.chosen
    for ours, theirs in zip(honest.scores, blind.scores, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@every_protocol
def test_an_encoder_that_knows_the_color_is_judged_well(
    protocol: EvaluationProtocol, encoder: Pretrained, task: Task, context: Context
) -> None:
    class Color(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(3, affine=False)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.norm(images.mean(dim=(2, 3)))  # type: ignore[no-any-return]

    outcome = protocol.judge(replace_encoder(encoder, Color()), task, context)
    assert task.test is not None
    for scores in outcome.scores:
        assert scores.shape == (30, 3)
        accuracy = (scores.argmax(1) == task.test.labels).mean()
        assert accuracy > 0.6  # a third by chance; more than 0.51 in 30 is 95 % sure


def replace_encoder(like: Pretrained, network: torch.nn.Module) -> Pretrained:
    return Pretrained(network, like.preprocessing.unnormalized()).eval()


@pytest.mark.parametrize("protocol", QUICK[1:], ids=lambda protocol: protocol.name)
def test_only_neighbours_judge_one_set_alone(
    protocol: EvaluationProtocol, encoder: Pretrained, make_set: MakeSet, context: Context
) -> None:
    task = open_task(str(make_set("alone", test=0)))
    with pytest.raises(UserError, match=r"is one set, and [a-z-]+ needs another"):
        protocol.judge(encoder, task, context)
    assert Knn(k=5).judge(encoder, task, context).scores[0].shape == (60, 3)


def test_several_labels_an_image_are_learned_by_every_protocol(
    encoder: Pretrained, make_set: MakeSet, context: Context
) -> None:
    folder = make_set()
    lines = ["path,split,labels"]
    for path in sorted(folder.rglob("*.png")):
        one = path.relative_to(folder)
        lines.append(f"{one},{one.parts[0]},{one.parts[1]}|picture" + ("|even" if int(one.stem) % 2 else ""))
    (folder / "list.csv").write_text("\n".join(lines))
    task = open_task(str(folder / "list.csv"))
    judges: list[Callable[[Pretrained, Task, Context], Outcome]] = [one.judge for one in QUICK[:4]]
    for judge in judges:
        assert judge(encoder, task, context).scores[0].shape == (30, 5)


@pytest.mark.parametrize("protocol", QUICK[2:4] + QUICK[5:], ids=lambda protocol: protocol.name)
def test_damaged_weights_end_in_a_sentence_and_in_no_score(
    protocol: EvaluationProtocol, encoder: Pretrained, task: Task, context: Context
) -> None:
    with torch.no_grad():
        next(encoder.encoder.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match=r"training of tiny diverged at every learning rate \(0.1, 1.0\)"):
        protocol.judge(encoder, task, context)

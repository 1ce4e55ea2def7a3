from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from byol.errors import UserError
from byol.evaluate.protocol.few_labels import FewLabels
from byol.evaluate.protocol.finetune import FineTune
from byol.evaluate.protocol.knn import Knn
from byol.evaluate.protocol.linear import LinearProbe
from byol.evaluate.protocol.slot import Context
from byol.evaluate.task import Task
from byol.weights.pretrained import Pretrained


def test_draws_of_few_labels_differ_and_a_list_is_taken_as_it_is(
    encoder: Pretrained, task: Task, context: Context, tmp_path: Path
) -> None:
    by = LinearProbe(strengths=(1.0,), held_out=0.2)
    drawn = FewLabels(fraction=0.2, draws=3, by=by).judge(encoder, task, context)
    assert [one["labels"] for one in drawn.chosen] == [12, 12, 12]
    assert drawn.learned_from == 12
    assert not np.array_equal(drawn.scores[0], drawn.scores[1])
    names = [task.train.images.name(int(i)) for i in task.train.index]
    (tmp_path / "list.txt").write_text("\n".join(names[::4]))
    given = FewLabels(lists=(tmp_path / "list.txt",), by=by).judge(encoder, task, context)
    assert given.chosen[0]["labels"] == 15


def test_one_label_in_a_hundred_of_a_small_class_is_refused(
    encoder: Pretrained, task: Task, context: Context
) -> None:
    with pytest.raises(UserError, match=r"class blue with 0 of its 20 images.*use --fraction 0.1 or more"):
        FewLabels(fraction=0.01).judge(encoder, task, context)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FewLabels(fraction=0), "fraction is 0"),
        (lambda: FewLabels(draws=0), "draws is 0; use 1 or more"),
    ],
)
def test_settings_that_cannot_work_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()


def test_any_protocol_learns_from_the_draws_and_is_named(
    encoder: Pretrained, task: Task, context: Context
) -> None:
    few = FewLabels(fraction=0.5, draws=2, by=Knn(k=3))
    assert few.name == "fewlabel-knn"
    assert [one.name for one in few.baselines(encoder, task, context)][1] == "raw pixels"
    outcome = few.judge(encoder, task, context)
    assert [scores.shape for scores in outcome.scores] == [(30, 3), (30, 3)]
    assert [one["labels"] for one in outcome.chosen] == [30, 30]
    runs = FewLabels(fraction=0.5, draws=1, by=FineTune(at_least=1, epochs=1, lrs=(0.1,), runs=2))
    assert len(runs.judge(encoder, task, context).scores) == 2

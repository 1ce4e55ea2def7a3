from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from byol.errors import UserError
from byol.evaluate.protocol.finetune import FineTune
from byol.evaluate.protocol.slot import Context
from byol.evaluate.supervised import Trained, Training, train
from byol.evaluate.task import Task
from byol.weights.pretrained import Pretrained


def test_runs_of_fine_tuning_have_seeds_of_their_own(
    encoder: Pretrained, task: Task, context: Context
) -> None:
    outcome = FineTune(at_least=1, epochs=1, lrs=(0.1,), runs=2).judge(encoder, task, context)
    assert len(outcome.scores) == 2
    assert not np.array_equal(outcome.scores[0], outcome.scores[1])


def test_a_small_set_is_learned_for_as_many_steps_as_a_large_one(
    encoder: Pretrained, task: Task, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Training] = []

    def watched(*arguments: Any, **named: Any) -> Trained:
        seen.append(arguments[3])
        return train(*arguments, **named)

    monkeypatch.setattr("byol.evaluate.protocol.sweep.train", watched)
    FineTune(epochs=2, at_least=50, lrs=(0.1,), patience=0.5).judge(encoder, task, context)
    (training,) = seen
    steps_an_epoch = 54 // training.batch_size  # a tenth of 60 images is held out
    assert training.batch_size == 2
    assert training.epochs == 2  # of 27 steps
    assert training.epochs * steps_an_epoch >= 50
    FineTune(epochs=2, at_least=100, lrs=(0.1,)).judge(encoder, task, context)
    assert (seen[1].epochs, seen[1].patience) == (4, 2)


def test_a_learning_rate_that_diverges_is_not_chosen(
    encoder: Pretrained, task: Task, context: Context
) -> None:
    outcome = FineTune(at_least=1, epochs=2, lrs=(1e30, 0.1)).judge(encoder, task, context)
    assert outcome.chosen[0]["lr"] == 0.1


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FineTune(layer_decay=2), "layer_decay is 2"),
        (lambda: FineTune(runs=0), "runs is 0"),
        (lambda: FineTune(epochs=0), "epochs is 0"),
        (lambda: FineTune(lrs=(0.1, -1.0)), "one of lrs is -1.0; choose finite values above 0"),
        (lambda: FineTune(weight_decay=-1.0), "weight_decay is -1.0"),
        (lambda: FineTune(optimizer="adam"), "optimizer is adam; choose sgd or adamw"),  # type: ignore[arg-type]
    ],
)
def test_settings_that_cannot_work_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()

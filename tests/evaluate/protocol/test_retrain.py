from collections.abc import Callable
from typing import Any

import pytest

from byol.errors import UserError
from byol.evaluate.protocol.retrain import Retrain
from byol.evaluate.protocol.slot import Context
from byol.evaluate.supervised import Trained, train
from byol.evaluate.task import Task
from byol.weights.pretrained import Pretrained


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Retrain(lrs=()), "lrs is empty"),
        (lambda: Retrain(epochs=(0,)), "one of epochs is 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()


def test_all_images_are_learned_from_with_what_was_chosen(
    encoder: Pretrained, task: Task, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []

    def watched(*arguments: Any, **named: Any) -> Trained:
        counts.append(len(arguments[1]))
        return train(*arguments, **named)

    monkeypatch.setattr("byol.evaluate.protocol.sweep.train", watched)
    outcome = Retrain(lrs=(0.1, 1.0), epochs=(1, 2)).judge(encoder, task, context)
    assert counts == [48, 48, 48, 48, 60]  # a fifth of 60 images is held out
    assert outcome.learned_from == 60
    assert outcome.chosen[0].keys() == {"lr", "epochs", "held_out"}

from collections.abc import Callable

import pytest

from byol.errors import UserError
from byol.evaluate.protocol.linear_sgd import LinearSgd
from byol.evaluate.protocol.slot import Context
from byol.evaluate.task import Task
from byol.weights.pretrained import Pretrained


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LinearSgd(epochs=0), "epochs is 0"),
        (lambda: LinearSgd(lrs=()), "lrs is empty; give one value or more"),
        (lambda: LinearSgd(lrs=(float("nan"),)), "one of lrs is nan"),
        (lambda: LinearSgd(batch_size=0), "batch_size is 0; use 2 or more"),
    ],
)
def test_settings_that_cannot_work_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()


def test_the_learning_rate_is_one_of_the_sweep_and_its_held_out_score_is_told(
    encoder: Pretrained, task: Task, context: Context
) -> None:
    (chosen,) = LinearSgd(epochs=1, lrs=(0.1, 1.0)).judge(encoder, task, context).chosen
    assert chosen["lr"] in (0.1, 1.0)
    assert 0 <= chosen["held_out"] <= 100

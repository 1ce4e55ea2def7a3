from collections.abc import Callable

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from byol.errors import UserError
from byol.evaluate.features import kept_features
from byol.evaluate.protocol.linear import LinearProbe
from byol.evaluate.protocol.slot import Context
from byol.evaluate.splitting import hold_out
from byol.evaluate.task import Labelled, Task
from byol.weights.pretrained import Pretrained


def test_the_penalty_is_the_best_on_held_out_images_as_scikit_learn_finds_it(
    encoder: Pretrained, task: Task, context: Context
) -> None:
    strengths = tuple(10.0 ** np.arange(-4, 3))
    outcome = LinearProbe(strengths=strengths, held_out=0.3).judge(encoder, task, context)
    fit, held = hold_out(task.train, 0.3, 0)
    rows = kept_features(encoder, task.train.images, context.device, context.progress).double().numpy()

    def fitted(part: Labelled, strength: float) -> LogisticRegression:
        return LogisticRegression(C=1 / strength, tol=1e-8, max_iter=10_000).fit(
            rows[part.index], part.labels
        )

    scores = {one: 100 * fitted(fit, one).score(rows[held.index], held.labels) for one in strengths}
    best = max(sorted(strengths, reverse=True), key=lambda one: scores[one])  # the strongest of equal ones
    assert outcome.chosen == [{"strength": best, "held_out": pytest.approx(scores[best])}]
    assert task.test is not None
    test_rows = kept_features(encoder, task.test.images, context.device, context.progress).double().numpy()
    oracle = fitted(task.train, best).predict(test_rows)
    assert (outcome.scores[0].argmax(1) == oracle).all()


def test_mirrored_features_are_learned_from_too(encoder: Pretrained, task: Task, context: Context) -> None:
    plain = LinearProbe(strengths=(1.0,)).judge(encoder, task, context)
    both = LinearProbe(strengths=(1.0,), flip=True).judge(encoder, task, context)
    assert not np.array_equal(plain.scores[0], both.scores[0])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LinearProbe(held_out=1), "held_out is 1; choose a fraction in"),
        (lambda: LinearProbe(strengths=()), "strengths is empty"),
        (lambda: LinearProbe(strengths=(float("inf"),)), "one of strengths is inf"),
    ],
)
def test_settings_that_cannot_work_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()

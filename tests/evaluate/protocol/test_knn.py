from collections.abc import Callable

import pytest
from tests.evaluate.conftest import MakeSet

from byol.errors import UserError
from byol.evaluate.protocol.knn import Knn
from byol.evaluate.protocol.slot import Context
from byol.evaluate.task import open_task
from byol.weights.pretrained import Pretrained


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Knn(temperature=0), "temperature is 0"),
        (lambda: Knn(k=0), "k is 0; use 1 or more"),
    ],
)
def test_settings_that_cannot_work_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()


def test_an_image_of_one_set_alone_is_judged_by_all_others(
    encoder: Pretrained, make_set: MakeSet, context: Context
) -> None:
    outcome = Knn(k=5).judge(encoder, open_task(str(make_set("alone", test=0))), context)
    assert outcome.scores[0].shape == (60, 3)
    assert outcome.positions.tolist() == list(range(60))
    assert outcome.learned_from == 60


def test_an_image_that_cannot_be_decoded_is_not_judged(
    encoder: Pretrained, make_set: MakeSet, context: Context
) -> None:
    folder = make_set()
    (folder / "test" / "blue" / "03.png").write_bytes(b"no picture")
    outcome = Knn(k=5).judge(encoder, open_task(str(folder)), context)
    assert outcome.positions.tolist() == [i for i in range(30) if i != 3]
    assert outcome.scores[0].shape == (29, 3)

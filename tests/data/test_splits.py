from types import SimpleNamespace
from typing import Any

import pytest

from byol.data.splits import known_of, say_notes, to_learn_from
from byol.errors import UserError
from byol.system.progress import Progress


def noted(*notes: str) -> Any:
    return SimpleNamespace(notes=notes)


def test_train_is_learned_from_or_else_the_only_split() -> None:
    assert to_learn_from({"train": 1, "test": 2}) == ("train", 1)
    assert to_learn_from({"val": 3}) == ("val", 3)
    assert to_learn_from({"test": 4}) == ("test", 4)


def test_several_splits_without_train_are_refused() -> None:
    with pytest.raises(UserError, match=r"the splits val and test, and none to learn from"):
        to_learn_from({"val": 1, "test": 2})


def test_each_note_is_said_once_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    sets = {"train": noted("one.", "two."), "test": noted("one.", "two.")}
    assert known_of(sets, learns=True) == ["one.", "two."]
    say_notes(sets, Progress())
    said = capsys.readouterr()
    assert said.err == "note: one.\nnote: two.\n"
    assert said.out == ""


def test_that_another_split_than_train_is_learned_from_is_said() -> None:
    assert known_of({"val": noted("one.")}) == ["one."]
    (_, last) = known_of({"val": noted("one.")}, learns=True)
    assert last == "there is no split train, so the images of val, the only one, are learned from."

from dataclasses import dataclass

import pytest

from byol.data.splits import known_of, say_notes, to_learn_from
from byol.errors import UserError
from byol.system.progress import Progress


@dataclass(frozen=True)
class Some:
    notes: tuple[str, ...] = ()
    count: int = 2

    def __len__(self) -> int:
        return self.count


def test_train_is_learned_from_or_else_the_only_split() -> None:
    one, two = Some(("one.",)), Some()
    assert to_learn_from({"test": two, "train": one}) == ("train", one)
    assert to_learn_from({"val": one}) == ("val", one)
    assert to_learn_from({"test": two}) == ("test", two)


def test_several_splits_without_train_are_refused() -> None:
    with pytest.raises(UserError, match=r"the splits val and test, and none to learn from"):
        to_learn_from({"val": Some(), "test": Some()})


def test_one_image_is_too_few() -> None:
    with pytest.raises(UserError, match="there is 1 image to learn from, and 2 are needed"):
        to_learn_from({"train": Some(count=1), "test": Some()})


def test_each_note_is_said_once_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    sets = {split: Some(("one.", "two.")) for split in ("train", "test")}
    assert known_of(sets, learns=True) == ["one.", "two."]
    say_notes(sets, Progress())
    said = capsys.readouterr()
    assert said.err == "note: one.\nnote: two.\n"
    assert said.out == ""


def test_that_another_split_than_train_is_learned_from_is_said() -> None:
    assert known_of({"val": Some(("one.",))}) == ["one."]
    (_, last) = known_of({"val": Some(("one.",))}, learns=True)
    assert last == "there is no split train, so the images of val, the only one, are learned from."

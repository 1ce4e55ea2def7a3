import functools
import signal

import pytest

import byol
from byol.cli import main
from byol.errors import (
    Diverged,
    Interrupted,
    UserError,
    nearest,
    refuse_no_number,
    refuse_no_numbers,
    refuse_not_whole,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("what to repair"), 2),
        (Diverged("the loss became nan"), 5),
        (Interrupted("stopped", signal.SIGTERM), 143),
    ],
)
def test_a_command_ends_with_the_code_of_what_stopped_it(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @functools.wraps(byol.bench)
    def bench(*args: object, **settings: object) -> None:
        raise error

    monkeypatch.setattr(byol, "bench", bench)
    assert main(["bench"]) == code
    assert capsys.readouterr().err == f"byol: {error}\n"


@pytest.mark.parametrize("value", [1.0, "1", True, None])
def test_a_count_is_a_whole_number(value: object) -> None:
    with pytest.raises(UserError, match="give a whole number of 1 or more"):
        refuse_not_whole("things", value, 1)
    refuse_not_whole("things", 1, 1)
    with pytest.raises(UserError, match="things is 0; use 1 or more"):
        refuse_not_whole("things", 0, 1)


def test_a_name_that_does_not_exist_is_answered_by_the_nearest_or_by_all() -> None:
    names = {"linear": 1, "linear-paper": 2, "knn": 3}
    assert nearest("liner", names) == "did you mean linear?"
    assert nearest("liner", names, at_most=2) == "did you mean linear or linear-paper?"
    assert nearest("x", names) == "there are linear, linear-paper, knn."


@pytest.mark.parametrize("value", ["1", None, True, [1.0]])
def test_a_number_is_a_number(value: object) -> None:
    refuse_no_number("things", 1, 0.5)
    with pytest.raises(UserError, match=r"things is .*; give a number\."):
        refuse_no_number("things", value)
    with pytest.raises(UserError, match=r"one of things is .*; give a number\."):
        refuse_no_numbers("things", (1.0, value))


@pytest.mark.parametrize("value", ["12", 1.0, None, [1.0, 2.0], (1.0,)])
def test_two_numbers_are_a_tuple_of_two(value: object) -> None:
    refuse_no_numbers("things", (1.0, 2), 2)
    with pytest.raises(UserError, match="give a tuple of 2 numbers"):
        refuse_no_numbers("things", value, 2)

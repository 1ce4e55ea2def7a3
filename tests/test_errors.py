import signal

import pytest

from byol.cli import main
from byol.errors import Diverged, Interrupted, UserError, refuse_not_whole


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("what to mend"), 2),
        (Diverged("the loss became nan"), 5),
        (Interrupted("stopped", signal.SIGTERM), 143),
    ],
)
def test_a_command_ends_with_the_code_of_what_stopped_it(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def bench(recipe: object, **settings: object) -> None:
        raise error

    monkeypatch.setattr("byol.lab.speed.bench", bench)
    monkeypatch.setattr("byol.bench", bench, raising=False)
    assert main(["bench"]) == code
    assert capsys.readouterr().err == f"byol: {error}\n"


@pytest.mark.parametrize("value", [1.0, "1", True, None])
def test_a_count_is_a_whole_number(value: object) -> None:
    with pytest.raises(UserError, match="give a whole number of 1 or more"):
        refuse_not_whole("things", value, 1)
    refuse_not_whole("things", 1, 1)
    with pytest.raises(UserError, match="things is 0; use 1 or more"):
        refuse_not_whole("things", 0, 1)

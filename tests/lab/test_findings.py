import math
from pathlib import Path

import pytest
from PIL import Image

from byol.lab.changes import put
from byol.lab.findings import Outcome, as_json, draw_outcomes, report, verdict
from byol.lab.tables import Cell, Finding, Table

BETTER, WORSE = ("a", "x"), ("b", "x")
CLAIM = Finding("a beats b", BETTER, WORSE)


def found(*values: float, failures: tuple[str, ...] = ()) -> Outcome:
    return Outcome(values, random=40.0, pixels=38.0, failures=failures, spread=0.5, minutes=1.0)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (found(90, 91, 92), found(50, 51, 52), "holds"),
        (found(50, 51, 52), found(90, 91, 92), "does not hold"),
        (found(50, 60, 70), found(52, 61, 69), "undecided"),
        # Standard deviations of 1 and three seeds: twice the standard error is 2 sqrt(2/3) = 1.633.
        (found(50.0, 51.0, 52.0), found(48.4, 49.4, 50.4), "undecided"),
        (found(50.0, 51.0, 52.0), found(48.3, 49.3, 50.3), "holds"),
        (found(90), found(50), "undecided"),  # one seed has no spread to measure a difference by
        (found(90, 91), found(50), "undecided"),
        (found(50), found(failures=("the loss became nan",)), "holds"),
        (found(failures=("the loss became nan",)), found(50), "does not hold"),
        (found(), found(), "undecided"),
    ],
)
def test_a_verdict_is_told_beyond_twice_the_standard_error(
    left: Outcome, right: Outcome, expected: str
) -> None:
    assert verdict(CLAIM, {BETTER: left, WORSE: right}) == expected


def test_an_outcome_in_words() -> None:
    assert str(found(50, 52)) == "51.0 ± 1.4"
    assert str(found(50, failures=("the loss became nan",))) == "50.0 ± 0.0, 1 diverged"
    assert str(found(failures=("the loss became nan",))) == "diverged"
    assert math.isnan(found().mean)


def table() -> Table:
    cells = (Cell("a", "x", put(), 72.5), Cell("b", "x", put(loss_weight=0.5)))
    return Table("t", "Which?", ("letter", ""), "a paper", cells, (CLAIM,))


def test_the_report_names_what_was_found_what_was_published_and_how(tmp_path: Path) -> None:
    outcomes = {BETTER: found(90, 91, 92), WORSE: found(failures=("the loss became nan",))}
    facts = {
        "seeds": 3,
        "budget_epochs": 4,
        "recipe": "builtin",
        "data": "builtin",
        "date": "2026-11-24",
        "processor": "a processor",
        "cores": 2,
        "versions": {"torch": "2"},
    }
    text = report(table(), outcomes, facts)
    assert "| a | **91.0 ± 1.0** (72.5), spread 0.50 |" in text
    assert "| b | **diverged**, spread 0.50 |" in text
    assert "| a beats b | 72.5 against ? | **holds**: 91.0 ± 1.0 against diverged |" in text
    assert "random initialization 40.0, raw pixels 38.0" in text
    draw_outcomes(tmp_path / "t.png", table(), outcomes)
    with Image.open(tmp_path / "t.png") as picture:
        assert picture.size[0] == 1200
    assert as_json(table(), outcomes)[1]["feature_spread"] == 0.5

import math

import pytest

from byol.errors import Diverged
from byol.training.guard import RULES, Guard, Rule, refuse_nan
from byol.training.signals import SIGNALS

TOY = Rule(
    signal="loss",
    bound=(0.0, 8.0),
    patience=2,
    sentence="the loss was {value:.1f} at step {step}.",
    remedy="Look at it.",
)


def test_a_rule_that_a_newcomer_adds_speaks_after_its_patience_and_once() -> None:
    guard = Guard((TOY,))
    said = [guard.heed(step, {"loss": loss}) for step, loss in enumerate((9.0, 1.0, 9.0, 10.0, 11.0))]
    assert said == [[], [], [], ["the loss was 10.0 at step 3. Look at it."], []]


def test_collapse_is_told_when_the_spread_falls_below_a_tenth() -> None:
    guard = Guard()
    assert guard.heed(1, {"feature_spread": 0.1}) == []
    assert guard.heed(2, {"feature_spread": math.nan}) == []
    (said,) = guard.heed(3, {"feature_spread": 0.0999})
    assert said.startswith("COLLAPSED at step 3: feature spread 0.100 (1 is spread, 0 is collapsed)")
    assert said.endswith("or raise --target.tau-base.")
    assert guard.heed(4, {"feature_spread": 0.05}) == []


def test_every_rule_watches_a_signal_that_is_recorded() -> None:
    assert {rule.signal for rule in RULES} <= {signal.name for signal in SIGNALS}


def test_the_first_step_that_is_not_finite_is_named() -> None:
    with pytest.raises(Diverged, match="the loss became inf at step 9") as caught:
        refuse_nan([1.0, 2.0, math.inf, math.nan], 10)
    assert caught.value.exit_code == 5
    refuse_nan([], 0)

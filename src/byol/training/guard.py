"""Is it going wrong? What stops a run, and what a person is told. A new rule is a line of `RULES`."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from byol.errors import Diverged


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A bound on a signal, and what to say where it is crossed. The run goes on.

    Args:
        signal: its name in the records.
        bound: the healthy values, (lowest, highest).
        patience: records in a row outside the bound before it is said, >= 1.
        sentence: what has happened; {step} and {value} stand for those of the newest record.
        remedy: what to do about it.
    """

    signal: str
    bound: tuple[float, float]
    patience: int = 1
    sentence: str
    remedy: str


RULES = (
    Rule(
        signal="feature_spread",
        # Healthy projections spread over 0.5 and more; without predictor and moving average the spread falls
        # below this within some dozen steps (tests/test_paper.py).
        bound=(0.1, math.inf),
        sentence="COLLAPSED at step {step}: feature spread {value:.3f} (1 is spread, 0 is collapsed), so all "
        "images look alike to the network and a falling loss means nothing.",
        remedy="Check that predictor and moving average are in place, lower --optimizer.base-lr, or raise "
        "--target.tau-base.",
    ),
)


class Guard:
    """Watches the records of one run; each rule speaks once.

    Args:
        rules: what it watches for.
    """

    def __init__(self, rules: Iterable[Rule] = RULES) -> None:
        self._outside = dict.fromkeys(rules, 0)  # records in a row, of the rules that have not spoken

    def heed(self, step: int, record: Mapping[str, float]) -> list[str]:
        """Take in a record and return what is to be said about it: a sentence with its remedy, or nothing.

        Args:
            step: of the record.
            record: signals by name; a value that is NaN breaks no rule.
        """
        said = []
        for rule in list(self._outside):
            (lowest, highest), value = rule.bound, record[rule.signal]
            is_outside = value < lowest or value > highest
            self._outside[rule] = self._outside[rule] + 1 if is_outside else 0
            if self._outside[rule] >= rule.patience:
                del self._outside[rule]
                said.append(f"{rule.sentence.format(step=step, value=value)} {rule.remedy}")
        return said


def refuse_nan(losses: Iterable[float], step: int) -> None:
    """Stop a run before anything of a loss that is not finite is saved.

    Args:
        losses: of the newest steps, in order.
        step: number of the last of them, from 1.

    Raises:
        Diverged: one of them is not finite; the first such step is named.
    """
    losses = list(losses)
    for number, loss in enumerate(losses, step - len(losses) + 1):
        if not math.isfinite(loss):
            raise Diverged(
                f"the loss became {loss} at step {number}, and nothing of it was saved. Lower "
                "--optimizer.base-lr, lengthen --warmup-epochs, or try --precision float32, and start again "
                "with --overwrite."
            )

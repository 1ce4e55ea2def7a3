"""What a person did that cannot work, told in one sentence."""


class UserError(ValueError):
    """One clear sentence: the value, the limit, the remedy. The command line exits with code 2."""

    exit_code = 2


def refuse_below(name: str, value: float, least: float) -> None:
    """Raise a UserError where a setting is below its least value, or NaN."""
    if not value >= least:
        raise UserError(f"{name} is {value}; use {least} or more.")


def refuse_seed(seed: int) -> None:
    """Raise a UserError where a seed does not fit beside a step into one number of 64 bits."""
    if not 0 <= seed < 2**31:
        raise UserError(f"seed is {seed}; it must lie in [0, {2**31}).")


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """The run was asked to stop and has saved itself; `signal` is the number it was asked with."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal

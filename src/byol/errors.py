"""What a person did that cannot work, said in one sentence; and how else a command may end."""

from collections.abc import Iterable
from typing import ClassVar


class UserError(ValueError):
    """One clear sentence: the value, the limit, the remedy.

    `exit_code` is what the command line ends with: 2, or that of a subclass.
    """

    exit_code: ClassVar[int] = 2


class Diverged(UserError):  # noqa: N818 - what has happened, as torch and the papers say it
    """The loss is not finite, so nothing that follows would mean anything."""

    exit_code: ClassVar[int] = 5


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """The run was asked to stop and has saved itself; `signal` is the number it was asked with."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal

    @property
    def exit_code(self) -> int:
        """What a shell expects of a process that a signal has ended."""
        return 128 + self.signal


def nearest(name: str, names: Iterable[str], at_most: int = 1) -> str:
    """Return a remedy for a name that does not exist: those it may have meant, or else all there are."""
    import difflib

    known = list(names)
    near = difflib.get_close_matches(name, known, n=at_most, cutoff=0.4)
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}."


def refuse_below(name: str, value: object, least: float) -> None:
    """Raise a UserError where a setting is no number, is below its least value, or is NaN."""
    if not isinstance(value, int | float):
        raise UserError(f"{name} is {value!r}; give a number of {least} or more.")
    if not value >= least:
        raise UserError(f"{name} is {value}; use {least} or more.")


def refuse_seed(seed: object) -> None:
    """Raise a UserError where a seed is no whole number that fits beside a step into one of 64 bits."""
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise UserError(f"seed is {seed!r}; give a whole number in [0, {2**31}).")
    if not 0 <= seed < 2**31:
        raise UserError(f"seed is {seed}; it must lie in [0, {2**31}).")


def refuse_not_whole(name: str, value: object, least: int) -> None:
    """Raise a UserError where a setting is no whole number, or is below its least value."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise UserError(f"{name} is {value!r}; give a whole number of {least} or more.")
    refuse_below(name, value, least)


def refuse_no_number(name: str, *values: object) -> None:
    """Raise a UserError where a setting, or one of the numbers that it has, is no number."""
    for value in values:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise UserError(f"{name} is {value!r}; give a number.")


def refuse_no_numbers(name: str, values: object, count: int | None = None) -> None:
    """Raise a UserError where a setting is not several numbers, or not as many as it has to be."""
    if not isinstance(values, tuple) or (count is not None and len(values) != count):
        wanted = "numbers" if count is None else f"{count} numbers"
        raise UserError(f"{name} is {values!r}; give a tuple of {wanted}.")
    refuse_no_number(f"one of {name}", *values)

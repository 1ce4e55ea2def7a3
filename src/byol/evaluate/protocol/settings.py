"""Checks of settings that protocols share."""

import math

from byol.errors import UserError


def refuse_no_fraction(name: str, value: float) -> None:
    """Raise a UserError where a setting is no fraction in (0, 1)."""
    if not 0 < value < 1:
        raise UserError(f"{name} is {value}; choose a fraction in (0, 1).")


def refuse_no_rates(name: str, values: tuple[float, ...]) -> None:
    """Raise a UserError where there are no values to choose from, or some are not finite and above 0."""
    if not values:
        raise UserError(f"{name} is empty; give one value or more.")
    for value in values:
        if not 0 < value < math.inf:
            raise UserError(f"one of {name} is {value}; choose finite values above 0.")

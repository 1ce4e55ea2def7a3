"""Items that cannot be used: what they are called, why, and how many a set may have."""

import traceback
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from byol.errors import UserError

_BAD_FRACTION = 0.01
_SHOWN = 3


class Bad(NamedTuple):
    """An item that cannot be used.

    Args:
        name: of the item in its set.
        reason: why, as a clause: "it is cut short".
    """

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


def unexpected(name: str, error: Exception) -> UserError:
    """Return a sentence on what reading an item has raised, which nobody expected of it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    told = f"{type(error).__name__}: {error}".rstrip(": ")
    return UserError(
        f"reading {name} raised {told} ({Path(frame.filename).name}, line {frame.lineno}): repair the "
        "image or the code that reads it, or leave the image out."
    )


def refuse_many_bad(bad: Collection[Bad], length: int) -> None:
    """Stop at more than one bad image if they are more than one in a hundred of the set.

    Args:
        bad: the images that cannot be used.
        length: size of the set they belong to.

    Raises:
        UserError: there are more.
    """
    if len(bad) > max(1, _BAD_FRACTION * length):
        some = ", ".join(map(str, sorted(bad)[:_SHOWN]))
        raise UserError(
            f"{len(bad)} of {length} images cannot be used, more than {_BAD_FRACTION:.0%}: "
            f"{some}{' and others' if len(bad) > _SHOWN else ''}; repair or remove them."
        )

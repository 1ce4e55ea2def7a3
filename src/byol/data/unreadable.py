"""Items that cannot be used: what they are called, why, and how many a set may have."""

from collections.abc import Collection
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

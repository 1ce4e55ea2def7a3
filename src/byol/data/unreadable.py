"""How many unreadable items a set may have."""

from collections.abc import Collection

from byol.errors import UserError

_BAD_FRACTION = 0.01


def refuse_many_bad(bad: Collection[str], length: int) -> None:
    """Stop at more than one bad image if they are more than one in a hundred of the set.

    Args:
        bad: names of the images that cannot be decoded.
        length: size of the set they belong to.

    Raises:
        UserError: there are more.
    """
    if len(bad) > max(1, _BAD_FRACTION * length):
        raise UserError(
            f"{len(bad)} of {length} images cannot be decoded, more than {_BAD_FRACTION:.0%}:"
            f" repair or remove {', '.join(sorted(bad)[:3])}{' and the others' if len(bad) > 3 else ''}."
        )

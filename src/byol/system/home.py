"""Paths that begin at a home folder, also where there is none."""

import os
from pathlib import Path

from byol.errors import UserError


def expanded(path: str | os.PathLike[str], remedy: str = "give the whole path") -> Path:
    """Return a path with a leading `~` or `~name` as the home folder of this user or of another.

    Args:
        path: as a person gave it. HOME counts as unset where it is empty.
        remedy: what to do where it cannot be known; setting HOME is named besides.

    Raises:
        UserError: the path begins at a home folder, and the system knows of none.
    """
    given = os.fspath(path)
    whose, _, rest = given.partition("/")
    if os.name == "posix" and whose == "~":
        home = os.environ.get("HOME") or _entered_home()
        if home is None:
            raise UserError(
                f"{given} begins at the home folder, but HOME is not set and the system does not know this "
                f"user: {remedy}, or set HOME."
            )
        return Path(home, rest)
    try:
        return Path(given).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{given} begins at the home folder of {whose.removeprefix('~') or 'this user'}, which the "
            f"system does not know: {remedy}, or write ./{given} for what has this name."
        ) from error


def _entered_home() -> str | None:
    """Return the home folder that the system has entered for this user."""
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_dir
    except (ImportError, KeyError):
        return None

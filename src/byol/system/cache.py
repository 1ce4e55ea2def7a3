"""The folder for what is computed once. It is its owner's alone, since what lies there is trusted."""

import os
import stat
from pathlib import Path

from byol.errors import UserError
from byol.system.home import expanded

_REMEDY = "set BYOL_CACHE to a folder of your own"


def cache_folder() -> Path:
    """Return the folder for what is computed once: $BYOL_CACHE, or else ~/.cache/byol. It is made if missing.

    Raises:
        UserError: it cannot be made or written, or others than this user can change what lies in it.
    """
    named = os.environ.get("BYOL_CACHE")
    folder = expanded(named or "~/.cache/byol", _REMEDY)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        raise UserError(
            f"the cache {folder} cannot be made ({error.strerror or error}); {_REMEDY}."
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"the cache {folder} cannot be written; {_REMEDY}.")
    if hasattr(os, "getuid"):
        if found.st_uid != os.getuid():
            raise UserError(
                f"the cache {folder} belongs to user {found.st_uid}, who could change what lies in it; "
                f"{_REMEDY}."
            )
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise UserError(
                f"the cache {folder} can be changed by others than you; take that away with "
                f"chmod go-w {folder}, or {_REMEDY}."
            )
    return folder

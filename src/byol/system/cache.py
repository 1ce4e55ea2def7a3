"""The folder for what is computed once."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder for what is computed once: $BYOL_CACHE, or else ~/.cache/byol."""
    return Path(os.environ.get("BYOL_CACHE", "~/.cache/byol")).expanduser()

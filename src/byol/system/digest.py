"""Fingerprints of values: what names a cache file, and tells whether two things are the same."""

import hashlib
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray


def digest(*parts: str | bytes | NDArray[Any], length: int = 32) -> str:
    """Return a hex digest (SHA-256) of texts, bytes and the contents of arrays, in their order.

    Args:
        parts: texts count as UTF-8; of an array neither shape nor dtype counts, its values do.
        length: of the result in characters, at most 64.
    """
    hashed = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            hashed.update(np.ascontiguousarray(part).data)
        else:
            hashed.update(part.encode() if isinstance(part, str) else part)
    return hashed.hexdigest()[:length]


def json_digest(value: Any, *, sort_keys: bool = False, length: int = 32) -> str:
    """Return a hex digest of JSON values; `sort_keys` where the order of keys says nothing."""
    return digest(json.dumps(value, sort_keys=sort_keys), length=length)

"""Fingerprints of values: what names a cache file, and tells whether two things are the same."""

import hashlib
import json
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray


def digest(*parts: str | bytes | NDArray[Any], length: int = 32) -> str:
    """Return a hex digest (SHA-256) of texts, bytes and the contents of arrays, in their order.

    Args:
        parts: texts count as UTF-8, and what is no text in a name as Python keeps it; of an array neither
            shape nor dtype counts, its values do.
        length: of the result in characters, at most 64.
    """
    hashed = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            hashed.update(np.ascontiguousarray(part).data)
        else:
            hashed.update(part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part)
    return hashed.hexdigest()[:length]


def file_digest(stream: IO[bytes]) -> str:
    """Return the hex SHA-256 of a file from where it stands to its end, as `sha256sum` prints it."""
    return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


def bytes_digest(data: bytes) -> bytes:
    """Return 16 bytes that tell whether two contents are the same (BLAKE2b)."""
    return hashlib.blake2b(data, digest_size=16).digest()


def number_digest(data: bytes) -> int:
    """Return an int64 that changes when a content does (BLAKE2b), to stand beside sizes in an array."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little", signed=True)


def json_digest(value: Any, *, sort_keys: bool = False, length: int = 32) -> str:
    """Return a hex digest of JSON values; `sort_keys` where the order of keys says nothing."""
    return digest(json.dumps(value, sort_keys=sort_keys), length=length)

"""Files that appear under their name only when they are complete."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a cache file for writing that appears under its name only when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as stream:
        try:
            yield stream
            stream.close()
            Path(stream.name).replace(path)
        finally:
            Path(stream.name).unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file under a temporary name, then rename: a reader never sees half of it."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(json.dumps(value, indent=2) + "\n")
    temporary.replace(path)

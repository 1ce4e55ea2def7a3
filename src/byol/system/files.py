"""Files that appear under their name only when they are complete."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from byol.errors import UserError
from byol.system.home import expanded


def given_path(path: object, missing: str) -> Path:
    """Return a path that a person gave, with `~` as the home folder.

    Args:
        path: what was given, a string or anything that stands for a path.
        missing: what to say where nothing was given.

    Raises:
        UserError: nothing was given, or it is no path.
    """
    if path is None or path == "":
        raise UserError(missing)
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"a path is wanted, not a {type(path).__name__}: {missing}")
    return expanded(path)


def place_to_write(path: object, missing: str) -> Path:
    """Return the path of what is to be written, as `given_path` does, if something can stand there.

    Raises:
        UserError: nothing was given, it is no path, or a file stands where a folder above it would be.
    """
    place = given_path(path, missing)
    above = next(parent for parent in place.absolute().parents if parent.exists())
    if not above.is_dir():
        raise UserError(f"{above} is a file, so nothing can be written below it; choose another place.")
    return place


@contextmanager
def whole_file(path: Path, *, is_only_writer: bool = False, is_synced: bool = False) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears under its name only when it is complete.

    Args:
        path: its name; missing folders above it are made.
        is_only_writer: nobody else writes this file. It then has one temporary name, so that a process that
            was killed leaves no more than one behind, and everybody may read it. By default several processes
            may write it at once (a cache), the last one wins, and only its owner may read it.
        is_synced: have it on the disk, under its name, before this returns.

    Raises:
        OSError: it cannot be written; what stood under the name before is left as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_only_writer:
        stream: Any = path.with_name(f".{path.name}.tmp").open("wb")
    else:
        stream = tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False)  # noqa: SIM115
    temporary = Path(stream.name)
    try:
        with named_errors(path), stream:
            yield stream
            if is_synced:
                stream.flush()
                os.fsync(stream.fileno())
        temporary.replace(path)
        if is_synced:
            _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Context in which an error of the system names a file: that of a full disk does not by itself."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or os.fspath(path)
        raise


def write_all(stream: IO[bytes], data: bytes) -> None:
    """Write all bytes to an unbuffered file, which by itself may take a part of them and say nothing.

    Raises:
        OSError: the system takes no more: the disk is full.
    """
    while data:
        data = data[stream.write(data) :]


def append_line(path: Path, line: str) -> None:
    """Add a line to a text file, or nothing: half a line would spoil the next one.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as stream:
        end = stream.seek(0, os.SEEK_END)
        try:
            write_all(stream, f"{line}\n".encode())
        except OSError:  # the disk is full
            stream.truncate(end)
            raise


def write_text(path: Path, text: str, *, is_synced: bool = False) -> None:
    """Write a text file whole: a reader never sees half of it; `is_synced` as of `whole_file`."""
    with whole_file(path, is_only_writer=True, is_synced=is_synced) as stream:
        stream.write(text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any, *, is_synced: bool = False) -> None:
    """Write a JSON file whole; `is_synced` as of `whole_file`."""
    write_text(path, f"{json.dumps(value, indent=2)}\n", is_synced=is_synced)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        UserError: there is none, or it is damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: it is not JSON.") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} is damaged: it holds a {type(found).__name__} and no JSON object.")
    return found


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

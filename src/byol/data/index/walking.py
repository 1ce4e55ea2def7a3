"""Every image file below a folder, and what else lies there: nothing stops a walk or is lost silently."""

import os
from collections import Counter
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from byol.data.image.kinds import SUFFIXES as KNOWN
from byol.data.index.paths import stamp
from byol.errors import UserError

HEIC = frozenset((".heic", ".heif", ".hif"))  # which an extra of this package reads
READS_HEIC = find_spec("pillow_heif") is not None
SUFFIXES = tuple(ending for ending in KNOWN if READS_HEIC or ending not in HEIC)

# What file managers, cameras and servers leave beside pictures; so do names that begin with a dot.
_LEFT_BEHIND = {
    *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "icon\r", "$recycle.bin"),
    *("system volume information", "lost+found"),
}
_IMAGES = frozenset(SUFFIXES)


@dataclass
class Walked:
    """What lies below a folder. Names are relative to it, those of folders end in a slash.

    Args:
        names: of the image files, sorted.
        stamps: path -> time stamp of every directory.
        folders: names of all of them but the top.
        passed_over: suffix in lower case, or "" -> number of files that are no images by their names.
        broken: links that lead nowhere or in a circle.
        special: pipes, sockets and devices.
        again: folders that were there already, under another name.
        closed: folders that cannot be read.
    """

    names: list[str] = field(default_factory=list)
    stamps: dict[str, int] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)


def is_left_behind(name: str) -> bool:
    """Return whether a file or folder is hidden, or none that a person has put there."""
    return name.startswith(".") or name.lower() in _LEFT_BEHIND


def suffix(name: str) -> str:
    """Return what a name ends in, in lower case with its dot; "" without one."""
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


def walk(root: Path) -> Walked:
    """Walk through all folders below one, links followed; each folder is entered once.

    Raises:
        UserError: the folder itself cannot be read.
    """
    found = Walked()
    visited = set()
    pending = [""]  # relative directories, each ending in a slash
    while pending:
        folder = pending.pop()
        path = f"{root}/{folder}"
        try:
            status = os.stat(path)  # noqa: PTH116 - a Path takes twice as long
            if (status.st_dev, status.st_ino) in visited:
                found.again.append(folder)  # a link back up would lead round for ever
                continue
            visited.add((status.st_dev, status.st_ino))
            below = _look_into(path, folder, found)
        except FileNotFoundError:  # it has gone since its name was read
            if not folder:
                raise UserError(f"there is no folder at {root}.") from None
            continue
        except OSError as error:
            if not folder:
                raise UserError(f"the folder {root} cannot be read: {error.strerror or error}.") from error
            found.closed.append(folder)
            continue
        found.stamps[path] = stamp(status)
        found.folders += below
        pending += sorted(below, reverse=True)
    found.names.sort()
    return found


def _look_into(path: str, folder: str, found: Walked) -> list[str]:
    """Note the files of a folder, and return the folders in it."""
    below, names, images = [], found.names, _IMAGES
    with os.scandir(path) as entries:
        for entry in entries:
            name = entry.name
            if name[0] == ".":
                continue
            try:
                if entry.is_dir():
                    if not is_left_behind(name):
                        below.append(f"{folder}{name}/")
                elif entry.is_file():
                    if name[name.rfind(".") :].lower() in images:
                        names.append(folder + name)
                    elif not is_left_behind(name):
                        found.passed_over[suffix(name)] += 1
                else:
                    (found.broken if _leads_nowhere(entry) else found.special).append(folder + name)
            except OSError:  # links that lead in a circle
                found.broken.append(folder + name)
    return below


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not Path(entry.path).exists()

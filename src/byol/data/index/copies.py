"""Pictures that lie in two classes, or in two folders: in a large set they are looked for in a part of it."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from byol.data.image.kinds import UndecodableImage
from byol.data.index.regular import file_bytes
from byol.system.digest import bytes_digest

_MOST = 20_000  # files whose sizes are asked for
_READ = 2_000  # files of equal size that are read
_BYTES = 256 << 20  # of all that are read


def copies(root: Path, names: Sequence[str], labels: Sequence[str]) -> list[tuple[str, str]]:
    """Return pairs of files that hold the same bytes and have different labels, or lie in different folders.

    Of more than `_MOST` files those are compared that share their name with a file of another folder, up to
    that number, since what was copied keeps its name.

    Args:
        root: the folder that names are relative to.
        names: of the images.
        labels: of each, or their folders.
    """
    chosen: Iterable[int] = range(len(names))
    if len(names) > _MOST:
        chosen = _of_shared_names([name[name.rfind("/") + 1 :] for name in names])
    by_size: defaultdict[int, list[int]] = defaultdict(list)
    for i in chosen:
        with suppress(OSError, ValueError):
            by_size[os.stat(os.path.join(root, names[i])).st_size].append(i)  # noqa: PTH116, PTH118 - many
    pairs: list[tuple[str, str]] = []
    first: dict[bytes, int] = {}
    files, left = _READ, _BYTES
    for size, same in sorted(by_size.items()):
        if size == 0 or len({labels[i] for i in same}) < 2:
            continue
        for i in same:
            files, left = files - 1, left - size
            if files < 0 or left < 0:
                return pairs
            with suppress(UndecodableImage):
                j = first.setdefault(bytes_digest(file_bytes(os.path.join(root, names[i]))), i)  # noqa: PTH118
                if labels[j] != labels[i]:
                    pairs.append((names[j], names[i]))
    return pairs


def _of_shared_names(names: Sequence[str]) -> list[int]:
    """Return the positions of about `_MOST` names that are there more than once, equal ones together."""
    if len(set(names)) == len(names):
        return []
    chosen, total = set[str](), 0
    for name, count in Counter(names).items():
        if count > 1 and total < _MOST:
            chosen.add(name)
            total += count
    return [i for i, name in enumerate(names) if name in chosen]

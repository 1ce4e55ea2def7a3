"""What the tests of indices share: empty files, and what an index says of them."""

import os
from pathlib import Path

from byol.data.index.slot import Index

LONG_AGO = 1_000_000_000


def touch(root: Path, *names: str) -> Path:
    """Make empty files, and directories old enough for their time stamps to be trusted."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    age(root)
    return root


def age(root: Path) -> None:
    for folder, _, _ in os.walk(root):
        os.utime(folder, (LONG_AGO, LONG_AGO))


def names(index: Index) -> list[str]:
    return [index.name(i) for i in range(len(index))]


def labels_of(index: Index) -> list[int] | None:
    return None if index.labels is None else index.labels.tolist()

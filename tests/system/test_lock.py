import fcntl
from pathlib import Path

import pytest

from byol.system.lock import exclusive_lock


def test_nobody_else_comes_in_until_the_first_is_out(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with exclusive_lock(path), path.open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

import os
import socket
from pathlib import Path

import pytest

from byol.data.image.kinds import UndecodableImage
from byol.data.index import regular
from byol.data.index.regular import file_bytes


def test_a_file_is_read_whole_or_as_far_as_is_enough(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(bytes(range(200)))
    (tmp_path / "link.jpg").symlink_to(file)
    assert file_bytes(file) == file_bytes(tmp_path / "link.jpg") == bytes(range(200))
    assert file_bytes(str(file), reach=3) == b"\0\1\2"
    file.write_bytes(b"")
    assert file_bytes(file) == b""


def refused(path: Path | str, why: str) -> None:
    with pytest.raises(UndecodableImage, match=why):
        file_bytes(path)
    with pytest.raises(UndecodableImage, match=why):
        file_bytes(path, reach=8)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    refused(tmp_path / "none.jpg", "it is missing")
    refused(tmp_path, "it is a folder")
    refused(tmp_path / ("n" * 300), "too long")
    refused(str(tmp_path / "a\0b"), "cannot be that of a file")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    refused(tmp_path / "loop.jpg", "leads back to itself")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_pipes_sockets_and_devices_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    refused(tmp_path / "pipe.jpg", "no regular file")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    refused(tmp_path / "zero.jpg", "no regular file")
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(tmp_path / "s"))
        refused(tmp_path / "s", "a socket")


def test_a_file_without_bounds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "sparse.jpg").open("wb") as file:
        file.truncate(regular.LARGEST + 1)
    with pytest.raises(UndecodableImage, match="1,073,741,825 bytes, and a picture may have 1,073,741,824"):
        file_bytes(tmp_path / "sparse.jpg")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "a.jpg").chmod(0)
    refused(tmp_path / "a.jpg", "permissions")

import os
import socket
from pathlib import Path

import pytest
from tests.data.index.touching import touch

from byol.data.index.walking import walk
from byol.errors import UserError


def test_what_is_no_image_is_counted_by_suffix_and_what_is_hidden_is_not(root: Path) -> None:
    touch(root, "1.jpg", "2.JFIF", "a/3.XMP", "a/4.xmp", "5.mov", "README", "a/.b.jpg", ".git/c.mov")
    walked = walk(touch(root, "a/Thumbs.db", "._1.jpg", ".DS_Store", "desktop.ini", "__MACOSX/d.jpg"))
    assert walked.names == ["1.jpg", "2.JFIF"]
    assert walked.passed_over == {".xmp": 2, ".mov": 1, "": 1}
    assert walked.folders == ["a/"]


def test_links_that_lead_nowhere_or_round_are_named(root: Path) -> None:
    touch(root, "a/1.jpg")
    (root / "round.jpg").symlink_to("round.jpg")
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")
    (root / "gone.jpg").symlink_to("nowhere.jpg")
    (root / "a" / "up").symlink_to(root)
    (root / "b").symlink_to("a")
    (root / "good.jpg").symlink_to("a/1.jpg")
    walked = walk(root)
    assert walked.names == ["a/1.jpg", "good.jpg"]
    assert sorted(walked.broken) == ["gone.jpg", "one", "round.jpg", "two"]
    assert sorted(walked.again) == ["a/up/", "b/"]


def test_pipes_sockets_and_devices_are_no_images(root: Path) -> None:
    touch(root, "1.jpg")
    os.mkfifo(root / "pipe.jpg")
    (root / "zero.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(root / "socket.jpg"))
        walked = walk(root)
    assert walked.names == ["1.jpg"]
    assert sorted(walked.special) == ["pipe.jpg", "socket.jpg", "zero.jpg"]


def test_a_folder_that_cannot_be_read_is_named_and_the_walk_goes_on(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(root, "a/1.jpg", "b/1.jpg", "c/1.jpg")
    scan = os.scandir

    def forbidden(path: str) -> object:
        if path.endswith("/b/"):
            raise PermissionError(13, "Permission denied", path)
        if path.endswith("/c/"):
            raise FileNotFoundError(2, "No such file or directory", path)  # it went while others were read
        return scan(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    walked = walk(root)
    assert walked.names == ["a/1.jpg"]
    assert walked.closed == ["b/"]


def test_a_folder_that_cannot_be_read_at_all_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: str) -> object:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", forbidden)
    with pytest.raises(UserError, match="cannot be read: Permission denied"):
        walk(root)
    with pytest.raises(UserError, match="there is no folder"):
        walk(root / "nowhere")


@pytest.mark.parametrize(
    "name", [b"a\nb.jpg", b"a\x1b[31m.jpg", b"caf\xe9.jpg", b" a .jpg", b"n" * 251 + b".jpg", b"[red].jpg"]
)
def test_any_name_is_found(root: Path, name: bytes) -> None:
    (root / os.fsdecode(name)).touch()
    assert [os.fsencode(found) for found in walk(root).names] == [name]

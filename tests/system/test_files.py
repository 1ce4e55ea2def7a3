import errno
import json
import stat
from pathlib import Path
from typing import IO

import pytest

from byol.errors import UserError
from byol.system import files
from byol.system.files import append_line, read_json, whole_file, write_json


def _break(path: Path, **settings: bool) -> None:
    with whole_file(path, **settings) as stream:
        stream.write(b"second")
        raise ValueError("broken")


@pytest.mark.parametrize(
    "settings", [{}, {"is_only_writer": True}, {"is_only_writer": True, "is_synced": True}]
)
def test_a_file_appears_whole_or_not_at_all(settings: dict[str, bool], tmp_path: Path) -> None:
    path = tmp_path / "made" / "file"
    with whole_file(path, **settings) as stream:
        stream.write(b"first")
        assert not path.exists()
    assert path.read_bytes() == b"first"
    with pytest.raises(ValueError, match="broken"):
        _break(path, **settings)
    assert path.read_bytes() == b"first"
    assert list(path.parent.iterdir()) == [path]


def test_what_a_run_writes_can_be_read_by_whom_the_system_allows(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_json(tmp_path / "value.json", {"a": 1})
    assert json.loads((tmp_path / "value.json").read_text()) == {"a": 1}
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "value.json")}
    assert len(modes) == 1


def test_a_line_is_added_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "lines.txt"
    append_line(path, "one")
    append_line(path, "two")
    assert path.read_text() == "one\ntwo\n"

    def full(stream: IO[bytes], data: bytes) -> None:
        stream.write(data[:3])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_all", full)
        with pytest.raises(OSError, match="No space"):
            append_line(path, "three")
    append_line(path, "four")
    assert path.read_text() == "one\ntwo\nfour\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is not JSON"),
        (b'{"a": ', "it is not JSON"),
        (b"\xff\xfe\x00", "it is not JSON"),
        (b"[" * 100_000, "it is not JSON"),
        (b'{"a":' * 100_000, "it is not JSON"),
        (b"[1, 2]", "it holds a list and no JSON object"),
        (b"null", "it holds a NoneType"),
    ],
)
def test_a_damaged_json_file_is_one_sentence(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_json(path)


def test_a_json_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"summary\.json cannot be read: No such file"):
        read_json(tmp_path / "summary.json")


def test_an_error_of_the_system_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as error, whole_file(tmp_path / "new"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert error.value.filename == str(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []

from pathlib import Path

import pytest

from byol.data.index.copies import copies


def write(root: Path, contents: dict[str, bytes]) -> tuple[list[str], list[str]]:
    for name, content in contents.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content)
    return sorted(contents), [name.split("/")[0] for name in sorted(contents)]


def test_the_same_bytes_in_two_classes_are_found_under_whatever_name(root: Path) -> None:
    files = {
        "a/1.jpg": b"same",
        "a/2.jpg": b"same",
        "b/copy.jpg": b"same",
        "b/2.jpg": b"also",
        "b/3.jpg": b"longer",
    }
    assert copies(root, *write(root, files)) == [("a/1.jpg", "b/copy.jpg")]


def test_copies_in_one_class_and_empty_files_are_none(root: Path) -> None:
    files = {"a/1.jpg": b"one", "a/2.jpg": b"one", "b/1.jpg": b"", "a/3.jpg": b""}
    assert copies(root, *write(root, files)) == []


def test_files_that_have_gone_are_passed_over(root: Path) -> None:
    names, labels = write(root, {"a/1.jpg": b"one", "b/1.jpg": b"one"})
    (root / "a/1.jpg").unlink()
    assert copies(root, names, labels) == []


def test_of_very_many_files_those_of_the_same_name_are_compared(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byol.data.index.copies._MOST", 3)
    files = {"a/1.jpg": b"one", "b/1.jpg": b"one", "a/2.jpg": b"two", "b/other.jpg": b"two"}
    assert copies(root, *write(root, files)) == [("a/1.jpg", "b/1.jpg")]


def test_no_more_is_read_than_was_allowed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names, labels = write(root, {f"{side}/{i}.jpg": b"%05d" % i for side in "ab" for i in range(20)})
    monkeypatch.setattr("byol.data.index.copies._READ", 25)
    assert len(copies(root, names, labels)) == 5
    monkeypatch.setattr("byol.data.index.copies._BYTES", 5 * 21)
    assert len(copies(root, names, labels)) == 1

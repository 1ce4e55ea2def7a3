import os
from pathlib import Path

import pytest
from tests.data.index.touching import LONG_AGO, labels_of, names, touch

from byol.data.index.listing import index_list
from byol.data.index.paths import FolderIndex
from byol.errors import UserError


def test_text_list_names_images_relative_to_itself(root: Path, cache: Path) -> None:
    touch(root, "a/1.jpg", "b/2.jpg", "b/3.jpg")
    (root / "lists").mkdir()
    (root / "lists" / "some.txt").write_text(f"../b/2.jpg\n\n../a/1.jpg\r\n{root}/b/3.jpg\n")
    splits = index_list(root / "lists" / "some.txt", cache)
    assert list(splits) == ["train"]
    index = splits["train"]
    assert names(index) == ["../a/1.jpg", "../b/2.jpg", f"{root}/b/3.jpg"]
    assert [Path(index.path(i)).resolve() for i in range(3)] == [
        root / "a/1.jpg",
        root / "b/2.jpg",
        root / "b/3.jpg",
    ]
    assert index.labels is None


def test_csv_list_gives_labels_and_splits(root: Path, cache: Path) -> None:
    touch(root, "1.jpg", "2.jpg", "3.jpg", "4, and more.jpg")
    rows = [
        "path,label,split",
        "3.jpg,dog,train",
        "1.jpg,cat,train",
        '"4, and more.jpg",ant,validation',
        "2.jpg,,test",
    ]
    (root / "list.csv").write_text("\ufeff" + "\n".join(rows))
    splits = index_list(root / "list.csv", cache)
    assert list(splits) == ["train", "val", "test"]
    assert names(splits["train"]) == ["1.jpg", "3.jpg"]
    assert splits["train"].classes == ("ant", "cat", "dog")
    assert [labels_of(index) for index in splits.values()] == [[1, 2], [0], None]


def test_order_of_a_list_does_not_matter(root: Path, cache: Path) -> None:
    touch(root, "1.jpg", "2.jpg", "3.jpg")
    (root / "list.csv").write_text("path,label\n2.jpg,b\n1.jpg,a\n3.jpg,b\n")
    (root / "reversed.csv").write_text("label,path\nb,3.jpg\na,1.jpg\nb,2.jpg\n")
    first, second = (index_list(root / file, cache)["train"] for file in ("list.csv", "reversed.csv"))
    assert names(first) == names(second)
    assert first.fingerprint == second.fingerprint


def test_changed_list_is_read_again(root: Path, cache: Path) -> None:
    touch(root, "1.jpg", "2.jpg")
    (root / "list.txt").write_text("1.jpg\n")
    os.utime(root / "list.txt", (LONG_AGO, LONG_AGO))
    assert len(index_list(root / "list.txt", cache)["train"]) == 1
    (root / "list.txt").write_text("1.jpg\n2.jpg\n")
    assert len(index_list(root / "list.txt", cache)["train"]) == 2


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list.txt", "\n\n", "is empty"),
        ("list.txt", "1.jpg\n8.jpg\n9.jpg\n", r"names 2 files that do not exist, the first of them 8\.jpg"),
        ("list.csv", "file,label\n1.jpg,a\n", "has no column 'path'"),
        ("list.csv", "", "has no column 'path'"),
        ("list.csv", "path,split\n1.jpg,train\n1.jpg,odd\n", "Line 3 .* split 'odd'"),
        ("list.csv", "path,label\n,a\n", "Line 2 .* path ''"),
        ("list.csv", "path,label\n1.jpg,a\n2.jpg\n", "1 of the 2 rows of split 'train'"),
    ],
)
def test_faulty_list_is_told_in_one_sentence(
    root: Path, cache: Path, name: str, text: str, message: str
) -> None:
    touch(root, "1.jpg", "2.jpg")
    (root / name).write_text(text)
    with pytest.raises(UserError, match=message):
        index_list(root / name, cache)


def test_missing_list_is_told(root: Path, cache: Path) -> None:
    with pytest.raises(UserError, match="there is no list at"):
        index_list(root / "list.txt", cache)


def said(index_of: dict[str, FolderIndex]) -> tuple[str, ...]:
    return next(iter(index_of.values())).notes


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_tables_of_every_program_are_read(
    root: Path, cache: Path, delimiter: str, encoding: str, ending: str
) -> None:
    touch(root, "1.jpg", "ä, b; c.jpg")
    rows = [["Path ", "label", " SPLIT"], ["1.jpg", " cat ", "Training"], ['"ä, b; c.jpg"', '"dog"', "dev"]]
    text = ending.join(f"{delimiter} ".join(row) for row in rows) + ending * 2
    (root / "list.csv").write_bytes(text.encode(encoding))
    splits = index_list(root / "list.csv", cache)
    assert [names(index) for index in splits.values()] == [["1.jpg"], ["ä, b; c.jpg"]]
    assert splits["train"].classes == ("cat", "dog")
    assert said(splits)[:1] == ("2 classes: cat, dog.",)


def test_blanks_around_labels_do_not_count(root: Path, cache: Path) -> None:
    touch(root, "1.jpg", "2.jpg", "3.jpg", "4.jpg")
    (root / "list.csv").write_text("path,label\n1.jpg,a\n2.jpg,a \n3.jpg , b\n4.jpg,b\t\n")
    assert labels_of(index_list(root / "list.csv", cache)["train"]) == [0, 0, 1, 1]


def test_comments_blank_lines_and_empty_rows_are_no_images(root: Path, cache: Path) -> None:
    touch(root, "1.jpg", "2.jpg")
    (root / "list.csv").write_text("# made by hand\n\nsep=;\npath;label\n1.jpg;a\n;\n2.jpg;b;;\n")
    assert names(index_list(root / "list.csv", cache)["train"]) == ["1.jpg", "2.jpg"]
    (root / "list.txt").write_text("# made by hand\n\n  \n1.jpg\n2.jpg")
    assert names(index_list(root / "list.txt", cache)["train"]) == ["1.jpg", "2.jpg"]


def test_paths_are_found_as_they_can_have_been_meant(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(root))
    touch(root, "a/1.jpg", "a/2.jpg", "3.jpg", "4.jpg ", "back\\slash.jpg")
    (root / "list.txt").write_text('a\\1.jpg\n"a/2.jpg"\n~/3.jpg\n4.jpg \nback\\slash.jpg\n')
    index = index_list(root / "list.txt", cache)["train"]
    assert names(index) == sorted(["a/1.jpg", "a/2.jpg", f"{root}/3.jpg", "4.jpg ", "back\\slash.jpg"])
    assert all(Path(index.path(i)).is_file() for i in range(5))


def test_a_list_of_names_that_are_no_text_is_read(root: Path, cache: Path) -> None:
    (root / os.fsdecode(b"caf\xe9.jpg")).touch()
    (root / "list.txt").write_bytes(b"caf\xe9.jpg\n")
    (root / "list.csv").write_bytes(b"path,label\ncaf\xe9.jpg,caf\xe9\n")
    index = index_list(root / "list.csv", cache)["train"]
    assert (
        names(index) == names(index_list(root / "list.txt", cache)["train"]) == [os.fsdecode(b"caf\xe9.jpg")]
    )
    assert index.classes == (os.fsdecode(b"caf\xe9"),)


def test_an_image_that_is_named_again_counts_once(root: Path, cache: Path) -> None:
    touch(root, "1.jpg", "2.jpg")
    (root / "list.csv").write_text(f"path,label\n1.jpg,a\n./1.jpg,a\n{root}/1.jpg,a\n2.jpg,b\n")
    splits = index_list(root / "list.csv", cache)
    assert names(splits["train"]) == ["1.jpg", "2.jpg"]
    assert "2 rows name an image again, which counts once." in said(splits)


@pytest.mark.parametrize("second", ["1.jpg,b,train", "./1.jpg,b,train", "1.jpg,b,test", "1.jpg,,train"])
def test_an_image_of_two_labels_is_refused_with_a_remedy_that_works(
    root: Path, cache: Path, second: str
) -> None:
    touch(root, "1.jpg", "2.jpg")
    (root / "list.csv").write_text(f"path,label,split\n1.jpg,a,train\n2.jpg,b,train\n{second}\n")
    with pytest.raises(UserError, match=r"1 image two labels, the first of them 1\.jpg .* column 'labels'"):
        index_list(root / "list.csv", cache)
    (root / "several.csv").write_text("path,labels,split\n1.jpg,a|b,train\n2.jpg,b,train\n")
    labels = index_list(root / "several.csv", cache)["train"].labels
    assert labels is not None
    assert labels.tolist() == [[1, 1], [0, 1]]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list.csv", "file;class\n1.jpg;a\n", r"no column 'path' but the columns 'file;class'"),
        ("list.csv", "1.jpg,a\n2.jpg,b\n", r"no column 'path' but the columns '1\.jpg', 'a'"),
        (
            "list.csv",
            "path,label\n1.jpg,a,b\n",
            "Line 2 .* 3 cells and the first line 2: put quotation marks",
        ),
        ("list.csv", "# one\n\npath,label\n1.jpg,a\n,b\n", "Line 5 .* path ''"),
        ("list.csv", "path\n", "is empty"),
        ("list.txt", "# nothing\n", "is empty"),
        ("list.txt", "1.jpg\nfolder\n", "names 1 folder, the first of them folder: name the images"),
        ("list.txt", "1.jpg\nzero.jpg\n", "no files but pipes or devices: zero.jpg"),
        ("list.txt", "1.jpg\nround.jpg\n", "1 file that does not exist"),
        ("list.txt", "1.jpg\n" + "n" * 5000, r"1 file that does not exist, the first of them n{57}\.\.\.:"),
        ("list.txt", "1.jpg\0\n", "is no text"),
        ("list.txt", "1.jpg 0\n2.jpg 1\n", r"2 files .*; '0' behind a path is read in a table alone.*\.csv"),
        ("list.txt", "1.jpg,cat\n", r"'cat' behind a path is read in a table alone"),
        ("list.csv", 'path,label\n"' + "n" * 200_000, "is no table of cells"),
    ],
)
def test_what_is_wrong_with_a_list_is_shown(
    root: Path, cache: Path, name: str, text: str, message: str
) -> None:
    touch(root, "1.jpg", "2.jpg", "folder/1.jpg")
    (root / "zero.jpg").symlink_to("/dev/zero")
    (root / "round.jpg").symlink_to("round.jpg")
    (root / name).write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        index_list(root / name, cache)
    assert "\n" not in str(caught.value)


def test_pictures_given_as_a_list_are_told(root: Path, cache: Path) -> None:
    (root / "list.txt").write_bytes(bytes(range(256)) * 10)
    with pytest.raises(UserError, match="is no text"):
        index_list(root / "list.txt", cache)


def test_one_picture_with_two_labels_under_two_names_is_told(root: Path, cache: Path) -> None:
    (root / "1.jpg").write_bytes(b"one")
    (root / "2.jpg").write_bytes(b"one")
    (root / "list.csv").write_text("path,label\n1.jpg,a\n2.jpg,b\n")
    assert "1 image is in two classes, byte for byte: 1.jpg is 2.jpg, for one." in said(
        index_list(root / "list.csv", cache)
    )

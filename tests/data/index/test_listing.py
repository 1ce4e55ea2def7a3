import os
from pathlib import Path

import pytest
from tests.data.index.touching import LONG_AGO, labels_of, names, touch

from byol.data.index.listing import index_list
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

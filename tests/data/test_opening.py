import shutil
from pathlib import Path

import pytest
from tests.data.writing import write_images

from byol.data.opening import open_data
from byol.errors import UserError


def test_splits_of_an_archive_are_opened(root: Path, cache: Path, tmp_path: Path) -> None:
    write_images(root / "train", 8)
    write_images(root / "test", 4)
    archive = shutil.make_archive(str(tmp_path / "set"), "zip", tmp_path, "root")
    splits = open_data(archive, cache)
    assert {split: len(images) for split, images in splits.items()} == {"train": 8, "test": 4}
    assert splits["test"].classes == ("a", "b")


def test_list_is_opened(root: Path, cache: Path) -> None:
    write_images(root, 4)
    (root / "list.csv").write_text("path,label\na/000.png,x\nb/003.png,y\n")
    images = open_data(str(root / "list.csv"), cache)["train"]
    assert [images.name(i) for i in range(len(images))] == ["a/000.png", "b/003.png"]


def test_cache_lies_where_the_environment_says(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(root, 4)
    monkeypatch.setenv("BYOL_CACHE", str(tmp_path / "elsewhere"))
    open_data(str(root))
    assert {path.name for path in (tmp_path / "elsewhere").iterdir()} == {"indices", "packed"}


@pytest.mark.parametrize("name", ["nowhere", "picture.jpg", "nowhere.zip"])
def test_what_is_no_data_is_told(tmp_path: Path, cache: Path, name: str) -> None:
    (tmp_path / "picture.jpg").touch()
    with pytest.raises(UserError, match=f"no images at .*{name}"):
        open_data(str(tmp_path / name), cache)

import os
import pickle
import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest
from tests.data.index.touching import age, labels_of, names, touch

from byol.data.index.folder import index_folder, index_splits
from byol.data.index.mapped import map_array
from byol.errors import UserError


def test_images_are_sorted_by_relative_path(root: Path, cache: Path) -> None:
    touch(root, "b.png", "sub/deep/z.jpg", "a.JPEG", "sub/a.Webp", "ü.tif")
    index = index_folder(root, cache)
    assert names(index) == ["a.JPEG", "b.png", "sub/a.Webp", "sub/deep/z.jpg", "ü.tif"]
    assert index.path(0) == str(root / "a.JPEG")
    assert index.labels is None
    assert index.classes == ()


def test_what_is_no_image_or_hidden_is_ignored(root: Path, cache: Path) -> None:
    touch(
        root,
        "a.jpg",
        "notes.txt",
        "jpg",
        ".b.jpg",
        ".git/c.jpg",
        "__MACOSX/d.jpg",
        "e.jpg.part",
        "f.npy/g.xml",
    )
    assert names(index_folder(root, cache)) == ["a.jpg"]


def test_sub_folders_are_classes_when_all_images_lie_in_them(root: Path, cache: Path) -> None:
    touch(root, "dog/1.jpg", "cat/deep/2.jpg", "cat/1.jpg", "empty/notes.txt")
    index = index_folder(root, cache)
    assert index.classes == ("cat", "dog")
    assert names(index) == ["cat/1.jpg", "cat/deep/2.jpg", "dog/1.jpg"]
    assert index.labels is not None
    np.testing.assert_array_equal(index.labels, (0, 0, 1))


def test_loose_images_or_one_sub_folder_make_no_classes(root: Path, cache: Path) -> None:
    touch(root, "one/dog/1.jpg", "one/dog/2.jpg", "loose/dog/1.jpg", "loose/cat/1.jpg", "loose/1.jpg")
    assert index_folder(root / "one", cache).labels is None
    assert index_folder(root / "loose", cache).labels is None


def test_unsplit_folder_is_all_train(root: Path, cache: Path) -> None:
    splits = index_splits(touch(root, "dog/1.jpg", "cat/1.jpg"), cache)
    assert list(splits) == ["train"]
    assert splits["train"].classes == ("cat", "dog")


def test_splits_share_the_numbers_of_their_classes(root: Path, cache: Path) -> None:
    touch(
        root,
        "Train/cat/1.jpg",
        "Train/dog/1.jpg",
        "validation/ant/1.jpg",
        "validation/dog/1.jpg",
        "test/1.jpg",
    )
    splits = index_splits(touch(root, "other/1.jpg"), cache)
    assert list(splits) == ["train", "val", "test"]
    assert splits["train"].classes == splits["val"].classes == ("ant", "cat", "dog")
    assert [labels_of(splits[split]) for split in ("train", "val", "test")] == [[1, 2], [0, 2], None]
    assert names(splits["train"]) == ["Train/cat/1.jpg", "Train/dog/1.jpg"]


def test_a_class_named_train_is_no_split(root: Path, cache: Path) -> None:
    splits = index_splits(touch(root, "car/1.jpg", "train/1.jpg"), cache)
    assert list(splits) == ["train"]
    assert splits["train"].classes == ("car", "train")


def test_a_train_folder_alone_is_a_split(root: Path, cache: Path) -> None:
    splits = index_splits(touch(root, "train/cat/1.jpg", "train/dog/1.jpg"), cache)
    assert splits["train"].classes == ("cat", "dog")


def test_two_folders_for_one_split_are_refused(root: Path, cache: Path) -> None:
    with pytest.raises(UserError, match="for one split, 'val'"):
        index_splits(touch(root, "valid/1.jpg", "val/1.jpg"), cache)


def test_unchanged_folder_comes_from_the_cache(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = index_splits(touch(root, "a/1.jpg", "b/1.jpg"), cache)["train"]
    monkeypatch.setattr(os, "scandir", None)  # a second walk would fail
    again = index_splits(root, cache)["train"]
    assert names(again) == names(first)
    assert labels_of(again) == labels_of(first)
    assert again.fingerprint == first.fingerprint


def test_new_file_invalidates_the_cache(root: Path, cache: Path) -> None:
    before = index_folder(touch(root, "a/1.jpg", "b/1.jpg"), cache)
    (root / "b" / "2.jpg").touch()
    after = index_folder(root, cache)
    assert len(after) == 3
    assert after.fingerprint != before.fingerprint
    assert names(before) == ["a/1.jpg", "b/1.jpg"]  # an index in use does not change


def test_removed_file_and_folder_invalidate_the_cache(root: Path, cache: Path) -> None:
    index_folder(touch(root, "a/1.jpg", "b/1.jpg", "c/1.jpg"), cache)
    (root / "a" / "1.jpg").unlink()
    assert len(index_folder(root, cache)) == 2
    age(root)
    index_folder(root, cache)
    (root / "b" / "1.jpg").unlink()
    (root / "b").rmdir()
    assert len(index_folder(root, cache)) == 1


def test_what_could_not_be_read_is_looked_for_again(root: Path, cache: Path, tmp_path: Path) -> None:
    touch(root, "a.jpg")
    (root / "b").symlink_to(tmp_path / "disk")
    age(root)
    assert names(index_folder(root, cache)) == ["a.jpg"]
    (tmp_path / "disk").mkdir()  # is mounted now, which changes nothing in the folder itself
    (tmp_path / "disk" / "1.jpg").touch()
    assert names(index_folder(root, cache)) == ["a.jpg", "b/1.jpg"]


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_cache_file_ends_in_no_traceback(root: Path, cache: Path, seed: int) -> None:
    index_splits(touch(root, *(f"{side}/{k}.jpg" for side in "ab" for k in range(9))), cache)
    (file,) = cache.iterdir()
    data, random = bytearray(file.read_bytes()), Random(seed)
    for place in random.choices(range(min(600, len(data))), k=random.choice((1, 3, 30))):  # the headers
        data[place] = random.randrange(256)
    file.write_bytes(data)
    index_splits(root, cache)


def test_directory_touched_a_moment_ago_is_not_trusted(root: Path, cache: Path) -> None:
    # Its time stamp could stay the same through another change, on a clock that ticks every two seconds.
    (root / "1.jpg").touch()
    now = root.stat().st_mtime_ns
    assert len(index_folder(root, cache)) == 1
    (root / "2.jpg").touch()
    os.utime(root, ns=(now, now))
    assert len(index_folder(root, cache)) == 2


def test_cut_short_cache_file_is_written_anew(root: Path, cache: Path) -> None:
    index_folder(touch(root, "a/1.jpg", "b/1.jpg"), cache)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    for length in (0, 5, 200, len(whole) - 1):
        file.write_bytes(whole[:length])
        assert names(index_folder(root, cache)) == ["a/1.jpg", "b/1.jpg"]
        assert file.read_bytes() == whole


def test_link_back_up_does_not_lead_round_for_ever(root: Path, cache: Path) -> None:
    touch(root, "a/1.jpg")
    (root / "a" / "up").symlink_to(root)
    assert names(index_folder(root, cache)) == ["a/1.jpg"]


def test_name_that_is_not_unicode_survives(root: Path, cache: Path) -> None:
    (root / os.fsdecode(b"caf\xe9.jpg")).touch()
    index = index_folder(root, cache)
    assert Path(index.path(0)).exists()


def test_pickled_index_is_small_and_opens_the_cache_file(root: Path, cache: Path) -> None:
    index = index_folder(touch(root, *(f"{k % 7}/{k}.jpg" for k in range(2000))), cache)
    pickled = pickle.dumps(index)
    assert len(pickled) < 600
    again = pickle.loads(pickled)
    assert names(again) == names(index)
    assert labels_of(again) == labels_of(index)


def test_pickled_index_refuses_a_cache_file_that_changed(root: Path, cache: Path) -> None:
    pickled = pickle.dumps(index_folder(touch(root, "1.jpg"), cache))
    (root / "2.jpg").touch()
    index_folder(root, cache)
    with pytest.raises(UserError, match="start again"):
        pickle.loads(pickled)


def test_index_holds_no_python_strings(root: Path, cache: Path) -> None:
    index = index_folder(touch(root, *(f"{k}.jpg" for k in range(500))), cache)
    for name, value in vars(index).items():
        assert not isinstance(value, list | dict), name
        assert not isinstance(value, tuple) or len(value) == 0


def test_missing_and_empty_folders_are_told_apart(root: Path, cache: Path) -> None:
    with pytest.raises(UserError, match="there is no folder at"):
        index_folder(root / "nowhere", cache)
    with pytest.raises(UserError, match="holds no image"):
        index_folder(touch(root, "a.txt"), cache)


def test_import_does_not_bring_torch() -> None:
    code = "import sys, byol.data.index.folder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_array_of_addresses_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "array.npy").open("w+b") as stream:
        header = {"descr": "|O", "fortran_order": False, "shape": (3,)}
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(b"\1" * 24)
        stream.seek(0)
        with pytest.raises(ValueError, match="objects"):
            map_array(stream)

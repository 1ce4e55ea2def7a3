import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from byol.data.image.decode import Decoded, Jpeg, UndecodableImage
from byol.data.image.decode import opened as opened_image
from byol.data.images import Files, Images, InMemory, central, in_memory, near, refuse_many_bad
from byol.data.index.folder import index_folder
from byol.data.opening import open_data
from byol.errors import UserError


def write_images(root: Path, count: int, size: tuple[int, int] = (12, 10)) -> NDArray[np.uint8]:
    """Write half of the images into root/a, half into root/b; return all, (count, H, W, 3), in that order."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    for i in range(count):
        path = root / "ab"[i * 2 // count] / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[i]).save(path)
    return pixels


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def opened(root: Path, cache: Path) -> Images:
    return open_data(str(root), cache)["train"]


def test_small_images_of_one_size_are_packed(root: Path, cache: Path) -> None:
    pixels = write_images(root, 10)
    images = opened(root, cache)
    assert isinstance(images, InMemory)
    np.testing.assert_array_equal(images.images, pixels.transpose(0, 3, 1, 2))
    assert images.labels is not None
    np.testing.assert_array_equal(images.labels, [0] * 5 + [1] * 5)
    assert images.classes == ("a", "b")
    assert images.name(7) == "b/007.png"
    assert images.bad == ()
    assert len(images) == len(images.labels) == 10


def test_second_opening_decodes_only_the_sample(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(root, 80)
    first = opened(root, cache)
    calls: list[int] = []

    def counted(data: bytes) -> Decoded | Jpeg:
        calls.append(len(data))
        return opened_image(data)

    monkeypatch.setattr("byol.data.index.folder.opened", counted)
    again = opened(root, cache)
    assert isinstance(first, InMemory)
    assert isinstance(again, InMemory)
    assert torch.equal(first.images, again.images)
    assert len(calls) == 64


def test_image_changed_in_place_is_decoded_again(root: Path, cache: Path) -> None:
    write_images(root, 4)
    opened(root, cache)
    Image.new("RGB", (10, 12), "red").save(root / "b" / "003.png")
    images = opened(root, cache)
    assert isinstance(images, InMemory)
    assert images.images[3, :, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("odd", [0, 99, 150])  # among the images sampled, and not
def test_images_of_two_sizes_stay_files(root: Path, cache: Path, odd: int) -> None:
    write_images(root, 151)
    Image.new("RGB", (10, 13)).save(root / "ab"[odd * 2 // 151] / f"{odd:03}.png")
    assert isinstance(opened(root, cache), Files)


def test_limits_keep_images_from_being_packed(root: Path, cache: Path) -> None:
    write_images(root, 6)
    index = index_folder(root, cache)
    assert in_memory(index, cache, side_limit=12, bytes_limit=6 * 360) is not None
    assert in_memory(index, cache, side_limit=11) is None
    assert in_memory(index, cache, bytes_limit=6 * 360 - 1) is None


def test_bad_files_are_left_out_and_named(root: Path, cache: Path) -> None:
    pixels = write_images(root, 10)
    (root / "a" / "002.png").write_bytes(b"no image")
    for _ in range(2):  # decoded, then from the cache
        images = opened(root, cache)
        assert isinstance(images, InMemory)
        assert images.bad == ("a/002.png",)
        assert [images.name(i) for i in (1, 2)] == ["a/001.png", "a/003.png"]
        assert images.labels is not None
        np.testing.assert_array_equal(images.labels, [0] * 4 + [1] * 5)
        np.testing.assert_array_equal(images.images, np.delete(pixels, 2, axis=0).transpose(0, 3, 1, 2))


def test_more_than_one_bad_file_in_a_hundred_stops(root: Path, cache: Path) -> None:
    write_images(root, 10)
    for name in ("a/000.png", "a/001.png", "b/007.png", "b/009.png"):
        (root / name).write_bytes(b"no image")
    with pytest.raises(UserError, match=r"4 of 10 .* a/000\.png, a/001\.png, b/007\.png and the others"):
        opened(root, cache)


def test_one_bad_file_is_tolerated_in_any_set_and_one_in_a_hundred_in_large_ones() -> None:
    refuse_many_bad(["x"], 2)
    refuse_many_bad(["x"] * 3, 300)
    for bad, length in ((2, 2), (2, 199), (4, 399)):
        with pytest.raises(UserError, match=f"{bad} of {length} images"):
            refuse_many_bad(["x"] * bad, length)


def test_files_that_are_all_no_images_are_told(root: Path, cache: Path) -> None:
    write_images(root, 4)
    for path in root.rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(UserError, match="No file sampled"):
        opened(root, cache)


def test_files_read_labels_classes_and_names(root: Path, cache: Path) -> None:
    pixels = write_images(root, 4)
    files = Files(index_folder(root, cache))
    assert len(files) == 4
    assert files.classes == ("a", "b")
    assert files.labels is not None
    np.testing.assert_array_equal(files.labels, [0, 0, 1, 1])
    assert files.name(3) == "b/003.png"
    np.testing.assert_array_equal(files.read(3), pixels[3])
    (root / "b" / "003.png").unlink()
    with pytest.raises(UndecodableImage, match="cannot be read"):
        files.read(3)


def test_pickled_files_do_not_hold_the_paths(root: Path, cache: Path) -> None:
    root.mkdir()
    for k in range(3000):
        (root / f"{k}.png").touch()
    files = Files(index_folder(root, cache))
    pickled = pickle.dumps(files)
    assert len(pickled) < 1000
    assert pickle.loads(pickled).name(2999) == files.name(2999)


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


@pytest.mark.parametrize("size", [(12, 30), (30, 12), (12, 12)])
def test_center_of_the_size_asked_for_is_left_as_it_is(
    root: Path, cache: Path, size: tuple[int, int]
) -> None:
    pixels = write_images(root, 3, size)
    top, left = (size[0] - 12) // 2, (size[1] - 12) // 2
    expected = pixels[[2, 0], top : top + 12, left : left + 12].transpose(0, 3, 1, 2) / np.float32(255)
    index = index_folder(root, cache)
    for images in (Files(index), in_memory(index, cache)):
        assert images is not None
        crops, kept = central(images, np.array([2, 0]), 12)
        assert crops.dtype == torch.float32
        # The packed set goes through a product with a matrix of zeros and ones, up to rounding.
        np.testing.assert_allclose(crops, expected, atol=1e-6)
        np.testing.assert_array_equal(kept, (2, 0))


def test_packed_and_files_agree_on_resized_centers(root: Path, cache: Path) -> None:
    write_images(root, 3, (20, 31))
    index = index_folder(root, cache)
    small = in_memory(index, cache)
    assert small is not None
    indices = np.arange(3)
    difference = central(small, indices, 9)[0] - central(Files(index), indices, 9)[0]
    assert difference.abs().max() <= 1.5 / 255  # Pillow rounds to whole levels after each of two axes


def test_undecodable_images_are_left_out_of_evaluation(root: Path, cache: Path) -> None:
    write_images(root, 4)
    files = Files(index_folder(root, cache))
    whole, _ = central(files, np.arange(4), 8)
    (root / "a" / "001.png").write_bytes(b"no image")
    crops, kept = central(files, np.arange(4), 8)
    np.testing.assert_array_equal(kept, (0, 2, 3))
    assert torch.equal(crops, whole[[0, 2, 3]])
    crops, kept = central(files, np.array([1]), 8)
    assert crops.shape == (0, 3, 8, 8)
    assert len(kept) == 0


def test_packed_set_moves_to_a_device(root: Path, cache: Path) -> None:
    write_images(root, 4)
    images = opened(root, cache)
    assert isinstance(images, InMemory)
    moved = images.to(torch.device("meta"))
    assert moved.images.is_meta
    assert moved.name(3) == images.name(3)


def test_stray_files_are_not_left_in_the_cache(root: Path, cache: Path) -> None:
    write_images(root, 4)
    opened(root, cache)
    left = [name for _, _, names in os.walk(cache) for name in names]
    assert sorted(Path(name).suffix for name in left) == [".images", ".index"]


class _Gpu:
    type = "cuda"


@pytest.mark.parametrize(("free", "moves"), [(400, True), (399, False)])
def test_images_move_to_a_gpu_that_holds_them_four_times(
    monkeypatch: pytest.MonkeyPatch, free: int, moves: bool
) -> None:
    images = InMemory(torch.zeros(1, 1, 10, 10, dtype=torch.uint8))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**9))
    monkeypatch.setattr(InMemory, "to", lambda self, device: "moved")
    found: object = near(images, _Gpu())  # type: ignore[arg-type]
    assert found == ("moved" if moves else images)
    assert near(images, torch.device("cpu")) is images

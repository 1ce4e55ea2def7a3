import os
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.data.writing import write_images

import byol
from byol.data.image.kinds import UndecodableImage
from byol.data.images import Files, Images, InMemory
from byol.data.in_memory import keep_in_memory
from byol.data.index.folder import index_folder


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
    with pytest.raises(UndecodableImage, match="it is missing"):
        files.read(3)


def test_pickled_files_do_not_hold_the_paths(root: Path, cache: Path) -> None:
    root.mkdir()
    for k in range(3000):
        (root / f"{k}.png").touch()
    files = Files(index_folder(root, cache))
    pickled = pickle.dumps(files)
    assert len(pickled) < 1000
    assert pickle.loads(pickled).name(2999) == files.name(2999)


@pytest.mark.parametrize("size", [(12, 30), (30, 12), (12, 12)])
def test_center_of_the_size_asked_for_is_left_as_it_is(
    root: Path, cache: Path, size: tuple[int, int]
) -> None:
    pixels = write_images(root, 3, size)
    top, left = (size[0] - 12) // 2, (size[1] - 12) // 2
    expected = pixels[[2, 0], top : top + 12, left : left + 12].transpose(0, 3, 1, 2) / np.float32(255)
    index = index_folder(root, cache)
    for images in (Files(index), keep_in_memory(index, cache)):
        assert images is not None
        crops, kept = images.squares(np.array([2, 0]), 12)
        assert crops.dtype == torch.float32
        # The packed set goes through a product with a matrix of zeros and ones, up to rounding.
        np.testing.assert_allclose(crops, expected, atol=1e-6)
        np.testing.assert_array_equal(kept, (2, 0))


def test_packed_and_files_agree_on_resized_centers(root: Path, cache: Path) -> None:
    write_images(root, 3, (20, 31))
    index = index_folder(root, cache)
    small = keep_in_memory(index, cache)
    assert small is not None
    indices = np.arange(3)
    difference = small.squares(indices, 9)[0] - Files(index).squares(indices, 9)[0]
    assert difference.abs().max() <= 1.5 / 255  # Pillow rounds to whole levels after each of two axes


def test_undecodable_images_are_left_out_of_evaluation(root: Path, cache: Path) -> None:
    write_images(root, 4)
    files = Files(index_folder(root, cache))
    whole, _ = files.squares(np.arange(4), 8)
    (root / "a" / "001.png").write_bytes(b"no image")
    crops, kept = files.squares(np.arange(4), 8)
    np.testing.assert_array_equal(kept, (0, 2, 3))
    assert torch.equal(crops, whole[[0, 2, 3]])
    crops, kept = files.squares(np.array([1]), 8)
    assert crops.shape == (0, 3, 8, 8)
    assert len(kept) == 0


class _Gpu:
    type = "cuda"


@pytest.mark.parametrize(("free", "moves"), [(400, True), (399, False)])
def test_images_move_to_a_gpu_that_holds_them_four_times(
    monkeypatch: pytest.MonkeyPatch, free: int, moves: bool
) -> None:
    images = InMemory(torch.zeros(1, 1, 10, 10, dtype=torch.uint8), name="image {}".format)
    gpu: Any = _Gpu()
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**9))
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device: "moved")
    near: Any = images.near(gpu)
    assert near.images is images.images if not moves else near.images == "moved"
    assert near.device is gpu  # where crops are made in either case
    assert near.name(3) == images.name(3)
    assert images.near(torch.device("cpu")) is images


def test_files_are_near_every_device(root: Path, cache: Path) -> None:
    write_images(root, 2)
    files = Files(index_folder(root, cache))
    assert files.near(torch.device("meta")) is files


def test_crops_are_made_on_the_device_that_a_set_is_near() -> None:
    images = InMemory(torch.zeros(4, 3, 10, 12, dtype=torch.uint8))
    near = images.near(torch.device("meta"))
    assert near.images is images.images  # no GPU to hold them: the rows of a batch move in their turn
    boxes = np.tile(np.array((0, 0, 5, 5)), (2, 1))
    crops = near.crops(np.array([1, 3]), lambda index, heights, widths: (boxes,), (4,))
    assert [crop.device.type for crop in crops.tensors] == ["meta"]
    assert crops.tensors[0].shape == (2, 3, 4, 4)


def test_both_kinds_answer_all_that_is_asked_of_images(root: Path, cache: Path) -> None:
    pixels = write_images(root, 6)
    index = index_folder(root, cache)
    small, files = keep_in_memory(index, cache), Files(index)
    assert small is not None
    for images in (small, files):
        assert isinstance(images, Images)
        assert images.size(2) == (12, 10)
        np.testing.assert_array_equal(images.read(2), pixels[2])
        np.testing.assert_array_equal(images.read(2, 0.5), pixels[2])  # a PNG is decoded as a whole
        assert len(images.num_bytes()) == 6
    assert (small.in_memory, files.in_memory) == (True, False)
    assert small.num_bytes().tolist() == [360] * 6
    assert files.num_bytes().tolist() == [len(index.bytes(i)) for i in range(6)]


def test_images_are_told_apart_by_their_digests(root: Path, cache: Path) -> None:
    write_images(root, 4)
    (root / "b" / "003.png").write_bytes((root / "a" / "000.png").read_bytes())
    index = index_folder(root, cache)
    small = keep_in_memory(index, cache)
    assert small is not None
    for images in (small, Files(index)):
        digests = [images.digest_of(i) for i in range(4)]
        assert digests[0] == digests[3]
        assert len(set(digests)) == 3
    turned = InMemory(small.images.reshape(4, 3, 10, 12))  # the same bytes in another shape
    assert turned.digest_of(0) != small.digest_of(0)


def test_the_digest_of_a_set_is_that_of_images_and_labels(root: Path, cache: Path) -> None:
    write_images(root, 4)
    index = index_folder(root, cache)
    small = keep_in_memory(index, cache)
    assert small is not None
    assert small.digest() == replace(small).digest()
    assert len({small.digest(), replace(small, labels=None).digest(), Files(index).digest()}) == 3
    before = Files(index).digest()
    os.utime(root / "a" / "000.png", (1, 1))
    assert Files(index).digest() != before


def test_nobody_asks_which_kind_a_set_is() -> None:
    for path in Path(byol.__file__).parent.rglob("*.py"):
        asked = re.search(r"isinstance\([^()]*\b(InMemory|Files|FolderIndex|PackIndex)\b", path.read_text())
        assert asked is None, (path, asked)

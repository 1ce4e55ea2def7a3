import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.writing import opened, write_images

from byol.data.image.decode import Decoded, Jpeg
from byol.data.image.decode import opened as opened_image
from byol.data.images import Files, InMemory
from byol.data.in_memory import keep_in_memory
from byol.data.index.folder import index_folder
from byol.errors import UserError


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

    def counted(data: bytes, pixel_range: Any = None) -> Decoded | Jpeg:
        calls.append(len(data))
        return opened_image(data)

    monkeypatch.setattr("byol.data.index.paths.opened", counted)
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
    assert keep_in_memory(index, cache, side_limit=12, bytes_limit=6 * 360) is not None
    assert keep_in_memory(index, cache, side_limit=11) is None
    assert keep_in_memory(index, cache, bytes_limit=6 * 360 - 1) is None


def test_bad_files_are_left_out_and_named(root: Path, cache: Path) -> None:
    pixels = write_images(root, 10)
    (root / "a" / "002.png").write_bytes(b"no image")
    for _ in range(2):  # decoded, then from the cache
        images = opened(root, cache)
        assert isinstance(images, InMemory)
        assert [bad.name for bad in images.bad] == ["a/002.png"]
        assert [images.name(i) for i in (1, 2)] == ["a/001.png", "a/003.png"]
        assert images.labels is not None
        np.testing.assert_array_equal(images.labels, [0] * 4 + [1] * 5)
        np.testing.assert_array_equal(images.images, np.delete(pixels, 2, axis=0).transpose(0, 3, 1, 2))


def test_more_than_one_bad_file_in_a_hundred_stops(root: Path, cache: Path) -> None:
    write_images(root, 10)
    for name in ("a/000.png", "a/001.png", "b/007.png", "b/009.png"):
        (root / name).write_bytes(b"no image")
    with pytest.raises(
        UserError, match=r"4 of 10 .* a/000\.png \(.*, a/001\.png \(.*, b/007.png \(.*\) and others"
    ):
        opened(root, cache)


def test_files_that_are_all_no_images_are_told(root: Path, cache: Path) -> None:
    write_images(root, 4)
    for path in root.rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(UserError, match="No file sampled"):
        opened(root, cache)


def test_stray_files_are_not_left_in_the_cache(root: Path, cache: Path) -> None:
    write_images(root, 4)
    opened(root, cache)
    left = [name for _, _, names in os.walk(cache) for name in names]
    assert sorted(Path(name).suffix for name in left) == [".images", ".index"]


@pytest.mark.parametrize("damage", ["a bit", "cut short", "junk", "empty"])
def test_a_damaged_cache_is_made_again(root: Path, cache: Path, damage: str) -> None:
    write_images(root, 6)
    before = opened(root, cache)
    assert isinstance(before, InMemory)
    pixels = before.images.clone()
    (file,) = cache.rglob("*.images")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    ruined = {"a bit": bytes(data), "cut short": bytes(data[:1000]), "junk": b"junk" * 99, "empty": b""}
    file.write_bytes(ruined[damage])
    again = opened(root, cache)
    assert isinstance(again, InMemory)
    assert torch.equal(again.images, pixels)


def test_a_cache_that_is_cut_short_while_it_is_read_is_told(root: Path, cache: Path) -> None:
    write_images(root, 300)  # more than a page
    images = opened(root, cache)
    (file,) = cache.rglob("*.images")
    with file.open("r+b") as stream:
        stream.truncate(100)
    with pytest.raises(UserError, match="was cut short while it was read; start again"):
        images.squares(np.array([299]), 8)

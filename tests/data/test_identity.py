"""What makes two sets the same one, and what does not."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.writing import opened, write_images
from torch.utils.data import Dataset

from byol.data import identity
from byol.data.identity import Identity, identify, spread
from byol.data.images import Files, InMemory
from byol.data.index.folder import index_folder
from byol.data.opening import open_data
from byol.data.packing import pack


def of(data: Any, cache: Path) -> Identity:
    return open_data(data, cache)["train"].identity()


def test_a_set_that_is_moved_copied_touched_or_archived_is_the_same(root: Path, cache: Path) -> None:
    write_images(root, 6)
    before = of(root, cache)
    assert before.count == 6
    copy = shutil.copytree(root, root.parent / "copied" / "elsewhere", copy_function=shutil.copyfile)
    os.utime(copy / "a" / "000.png", (1, 1))
    assert of(copy, cache) == before
    assert of(shutil.make_archive(str(root.parent / "set"), "zip", root), cache) == before
    moved = root.rename(root.parent / "renamed")
    assert of(moved, cache) == before


@pytest.mark.parametrize("size", [(12, 10), (200, 10)])
def test_files_and_memory_are_one_set(root: Path, cache: Path, size: tuple[int, int]) -> None:
    write_images(root, 6, size)
    images = opened(root, cache)
    assert images.in_memory == (size == (12, 10))
    assert images.identity() == Files(index_folder(root, cache)).identity()
    assert images.near(torch.device("meta")).identity() == images.identity()


def test_a_picture_that_cannot_be_read_counts_in_memory_as_in_files(root: Path, cache: Path) -> None:
    write_images(root, 200)
    (root / "a" / "003.png").write_bytes(b"no image")
    images = opened(root, cache)
    assert images.in_memory
    assert len(images) == 199
    assert images.identity() == Files(index_folder(root, cache)).identity()
    assert images.identity().count == 200


def _replace_same_size(root: Path) -> None:
    file = root / "b" / "004.png"
    data = bytearray(file.read_bytes())
    data[-20] ^= 1
    file.write_bytes(data)


CHANGES: dict[str, Callable[[Path], object]] = {
    "added": lambda root: shutil.copy(root / "a" / "000.png", root / "a" / "zzz.png"),
    "removed": lambda root: (root / "a" / "001.png").unlink(),
    "renamed": lambda root: (root / "a" / "001.png").rename(root / "a" / "1.png"),
    "another class": lambda root: (root / "a" / "001.png").rename(root / "b" / "001.png"),
    "swapped": lambda root: (
        (root / "a" / "000.png").rename(root / "t"),
        (root / "b" / "003.png").rename(root / "a" / "000.png"),
        (root / "t").rename(root / "b" / "003.png"),
    ),
    "longer": lambda root: (root / "b" / "003.png").write_bytes(
        (root / "b" / "003.png").read_bytes() + b"\0"
    ),
    "replaced": _replace_same_size,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("size", [(12, 10), (200, 10)])
def test_whatever_changes_makes_it_another_set(
    root: Path, cache: Path, change: str, size: tuple[int, int]
) -> None:
    write_images(root, 6, size)
    before = of(root, cache)
    CHANGES[change](root)
    os.utime(root / "a", (5, 5))
    os.utime(root / "b", (5, 5))
    after = of(root, cache)
    assert after.digest != before.digest
    assert after.count == 6 + {"added": 1, "removed": -1}.get(change, 0)


def test_labels_of_a_list_are_part_of_a_set(root: Path, cache: Path) -> None:
    write_images(root, 4)
    seen = set()
    for labels in ("xxyy", "xyxy", "uuvv"):
        rows = [f"{'ab'[i // 2]}/{i:03}.png,{label}" for i, label in enumerate(labels)]
        (root / f"{labels}.csv").write_text("\n".join(["path,label", *rows]))
        seen.add(of(root / f"{labels}.csv", cache))
    assert len(seen) == 3


def test_a_pack_is_one_set_wherever_it_lies(root: Path, cache: Path) -> None:
    write_images(root, 6)
    packed = pack(root, root.parent / "a.pack", raw=True)
    before = of(packed.path, cache)
    assert of(shutil.copyfile(packed.path, root.parent / "b.pack"), cache) == before
    Image.new("RGB", (10, 12)).save(root / "b" / "005.png")
    assert of(pack(root, root.parent / "c.pack", raw=True).path, cache).digest != before.digest


def test_tensors_are_known_by_their_pixels(cache: Path) -> None:
    images = torch.randint(0, 256, (9, 3, 8, 8), dtype=torch.uint8)
    before = of(images, cache)
    assert of(images.clone(), cache) == before
    other = images.clone()
    other[5, 1, 2, 3] ^= 1
    assert of(other, cache).digest != before.digest
    assert of(images[:8], cache).count == 8
    labels = np.arange(9)
    assert InMemory(images, labels, tuple("abcdefghi")).identity() != InMemory(images).identity()


class Pictures(Dataset[Any]):
    """Arrays, to which a random transform may be done."""

    def __init__(self, pixels: Any, noisy: bool = False, side: int = 200) -> None:
        self.pixels, self.noisy, self.random = pixels, noisy, np.random.default_rng()

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, i: int) -> Any:
        noise = self.random.integers(0, 9, self.pixels[i].shape, np.uint8) if self.noisy else 0
        return self.pixels[i] + noise


def test_data_sets_are_known_by_their_items_unless_these_are_never_the_same(cache: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 200, (5, 150, 140, 3), np.uint8)
    before = of(Pictures(pixels), cache)
    assert of(Pictures(pixels.copy()), cache) == before
    other = pixels.copy()
    other[2, 3, 3, 0] ^= 1
    assert of(Pictures(other), cache).digest != before.digest
    noisy = of(Pictures(pixels, noisy=True), cache)
    assert of(Pictures(pixels, noisy=True), cache) == noisy
    assert of(Pictures(pixels[:4], noisy=True), cache) != noisy


def test_names_that_are_no_text_count(root: Path, cache: Path) -> None:
    write_images(root, 4)
    before = of(root, cache)
    (root / "a" / "000.png").rename(root / "a" / "00\udcff.png")  # a byte that is no UTF-8
    os.utime(root / "a", (5, 5))
    assert of(root, cache).digest != before.digest


def test_a_large_set_is_known_by_some_of_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    assert spread(np.array([3, -1, 5])) == [0, 1, 2]
    monkeypatch.setattr(identity, "WHOLE", 10_000)
    assert spread(np.full(100, 100)) == list(range(100))
    assert len(spread(np.full(200, 100))) == 100
    assert len(spread(np.full(200, 1000))) == identity.FEWEST
    assert len(spread(np.zeros(1_000_000, np.int64))) == identity.MOST  # nobody opens a million files
    chosen = spread(np.full(5000, 30))
    assert (chosen[0], chosen[-1]) == (0, 4999)
    assert len(set(chosen)) == len(chosen) == 333


def test_a_million_names_take_seconds() -> None:
    sizes, some = np.arange(1_000_000) % 1000, np.zeros(64, np.int64)
    started = time.perf_counter()
    known = identify((f"{i:07}.jpg" for i in range(len(sizes))), (), None, sizes, some)
    assert known.count == 1_000_000
    assert time.perf_counter() - started < 10  # a second where nothing else runs

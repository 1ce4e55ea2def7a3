import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from tests.data.writing import opened, write_images
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from byol.data.image.views import TwoViews
from byol.data.images import Files, InMemory
from byol.data.index.dataset import DatasetIndex
from byol.data.loader import batches
from byol.data.opening import named_data, open_data
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


class Pictures(Dataset[Any]):
    """Pictures of one size or another, with their labels."""

    def __init__(self, pixels: list[NDArray[np.uint8]]) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, i: int) -> Any:
        return Image.fromarray(self.pixels[i]), i % 2


def test_a_tensor_of_images_is_a_set_in_memory() -> None:
    tensor = torch.randint(0, 256, (5, 3, 8, 9), dtype=torch.uint8)
    sets = open_data(tensor)
    images = sets["train"]
    assert list(sets) == ["train"]
    assert isinstance(images, InMemory)
    assert images.images.data_ptr() == tensor.data_ptr()
    assert torch.equal(images.images, tensor)
    assert images.labels is None


def test_a_single_channel_is_repeated() -> None:
    tensor = torch.randint(0, 256, (5, 1, 8, 9), dtype=torch.uint8)
    images = open_data(tensor)["train"]
    views = TwoViews(size=6)
    options: dict[str, Any] = {"batch_size": 5, "seed": 0, "first_step": 0, "total_steps": 1, "workers": 0}
    batch, same = (
        next(batches(one, views, device=torch.device("cpu"), **options))
        for one in (images, InMemory(tensor.repeat(1, 3, 1, 1)))
    )
    assert all(torch.equal(a, b) for a, b in zip(batch.views, same.views, strict=True))
    assert images.digest() == InMemory(tensor.repeat(1, 3, 1, 1)).digest()


@pytest.mark.parametrize(
    ("tensor", "found"),
    [
        (torch.zeros(5, 8, 8, 3, dtype=torch.uint8), r"\(5, 8, 8, 3\) of uint8"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), r"\(3, 8, 8\) of uint8"),
        (torch.zeros(0, 3, 8, 8, dtype=torch.uint8), r"\(0, 3, 8, 8\) of uint8"),
    ],
)
def test_another_tensor_is_told_with_what_is_wanted(tensor: Tensor, found: str) -> None:
    with pytest.raises(UserError, match=rf"images are a tensor {found}; give \(N, 3, H, W\) or"):
        open_data(tensor)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_a_tensor_of_floating_point_numbers_is_kept_as_whole_levels(dtype: torch.dtype) -> None:
    levels = torch.randint(0, 256, (600, 1, 5, 6), dtype=torch.uint8)
    images = open_data((levels.double() / 255).to(dtype))["train"]
    found = np.stack([images.read(i) for i in range(600)])
    # bfloat16 has 8 bits of mantissa: 1 / 512 of the value, half a level.
    np.testing.assert_allclose(found[..., 2], levels[:, 0], rtol=0, atol=dtype == torch.bfloat16)


@pytest.mark.parametrize(
    ("tensor", "sentence"),
    [
        (torch.zeros(5, 3, 8, 8, dtype=torch.complex64), "holds complex64 numbers, whose range is not"),
        (
            torch.full((300, 1, 8, 8), 7.0),
            "holds float32 numbers from 7 to 7; give floating",
        ),
        (torch.full((2, 3, 8, 8), torch.nan), "numbers from nan to nan"),
    ],
)
def test_numbers_without_a_known_range_are_told(tensor: Tensor, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        open_data(tensor)


@pytest.mark.parametrize("sizes", [[(8, 9)] * 6, [(8, 9), (10, 9)] * 3], ids=["small", "files"])
def test_a_data_set_of_torch_is_opened_like_the_same_files(
    sizes: list[tuple[int, int]], root: Path, cache: Path
) -> None:
    random = np.random.default_rng(0)
    pixels = [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    for i, one in enumerate(pixels):
        path = root / "01"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(one).save(path)
    images, files = open_data(Pictures(pixels), cache)["train"], open_data(root, cache)["train"]
    assert images.in_memory == files.in_memory == (sizes[0] == sizes[1])
    assert images.classes == files.classes == ("0", "1")
    assert [images.name(i) for i in range(6)] == list("012345")
    order = np.array([0, 2, 4, 1, 3, 5])  # of the files, which lie sorted by class
    assert torch.equal(images.squares(order, 6)[0], files.squares(np.arange(6), 6)[0])
    assert images.labels is not None
    np.testing.assert_array_equal(images.labels[order], np.asarray(files.labels))
    again = open_data(Pictures(pixels), cache)["train"]
    assert images.digest() == again.digest()
    changed = open_data(Pictures([*pixels[:5], 255 - pixels[5]]), cache)["train"]
    assert images.digest() != changed.digest()
    assert len(list(cache.glob("packed/*"))) == int(images.in_memory)  # that of the files alone


@pytest.mark.parametrize("workers", [0, 2])
def test_views_of_a_data_set_do_not_depend_on_workers(workers: int) -> None:
    random = np.random.default_rng(0)
    pixels = [random.integers(0, 256, (10 + i, 30 - i, 3), dtype=np.uint8) for i in range(9)]
    images = open_data(Pictures(pixels))["train"]
    options: dict[str, Any] = {"batch_size": 4, "seed": 0, "first_step": 0, "total_steps": 4}
    views = TwoViews(size=8)
    device = torch.device("cpu")
    first, again = (list(batches(images, views, device=device, workers=w, **options)) for w in (0, workers))
    for one, other in zip(first, again, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.views, other.views, strict=True))


def test_a_bad_item_is_one_sentence_in_a_worker_too() -> None:
    class Odd(Pictures):
        def __getitem__(self, i: int) -> Any:
            return super().__getitem__(i)[0] if i < 5 else torch.zeros(2, 8, 8)

    random = np.random.default_rng(0)
    images = Files(DatasetIndex(Odd([random.integers(0, 256, (9, 8, 3), dtype=np.uint8)] * 6)))
    stream = batches(
        images,
        TwoViews(size=8),
        batch_size=6,
        seed=0,
        first_step=0,
        total_steps=1,
        workers=1,
        device=torch.device("cpu"),
    )
    with pytest.raises(UserError, match=r"^item 5 of the Odd, a tensor \(2, 8, 8\) of float32, has no shape"):
        next(stream)


def test_images_that_are_open_already_are_taken_as_they_are(root: Path, cache: Path) -> None:
    write_images(root, 4)
    images = opened(root, cache)
    assert open_data(images) == {"train": images}


class Streaming(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([])


class Lengthless(Dataset[Any]):
    def __getitem__(self, i: int) -> Any:
        return i


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (3, "images cannot be read from a int; give a path"),
        (None, "images cannot be read from a NoneType; give a path"),
        (np.zeros((2, 8, 8, 3), np.uint8), "images cannot be read from a ndarray; give a path"),
        ([], "images cannot be read from a list; give a path"),
        (Streaming(), "images cannot be read from a Streaming; give .* map-style"),
        (Lengthless(), "the Lengthless has no length"),
        ("", "no images are named"),
    ],
)
def test_what_images_cannot_be_read_from_is_told(data: Any, sentence: str, cache: Path) -> None:
    with pytest.raises(UserError, match=sentence):
        open_data(data, cache)


def test_a_path_may_be_a_path_and_begin_at_home(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(root, 4)
    monkeypatch.setenv("HOME", str(root.parent))
    assert len(open_data(root, cache)["train"]) == len(open_data("~/root", cache)["train"]) == 4


def test_what_a_recipe_records_of_its_images(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root.mkdir()
    monkeypatch.chdir(root.parent)
    monkeypatch.setenv("HOME", str(root.parent))
    for data in ("root", Path("root"), root, "~/root", "./root/../root"):
        assert named_data(data) == str(root)
    assert named_data("builtin") == "builtin"
    assert named_data("") == ""
    tensor = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    assert {named_data(data) for data in (tensor, Pictures([]), InMemory(tensor))} == {""}

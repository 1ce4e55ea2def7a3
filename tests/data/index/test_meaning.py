"""What is black and what is white in a set of deep pictures: found once, said, kept, and used for all."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from tests.data.image.deep_files import gray, write_png16, write_tiff

from byol.data.image.depth import Deep, PixelRange
from byol.data.image.preprocessing import Preprocessing
from byol.data.images import Files, Images
from byol.data.index.meaning import range_of
from byol.data.opening import indices, open_data
from byol.data.packing import pack
from byol.evaluate.task import open_task
from byol.model.encoder import ConvNet
from byol.weights.encoder_file import save_encoder
from byol.weights.pretrained import Pretrained, load

HOW = Preprocessing(size=12).unnormalized()
WRITERS: dict[str, tuple[Callable[[Path, NDArray[np.uint8]], object], PixelRange]] = {
    "12 bits in a PNG": (lambda path, x: write_png16(path, x.astype(np.uint16) * 16), PixelRange(0, 4095)),
    "10 bits in a TIFF": (lambda path, x: write_tiff(path, x.astype(np.uint16) * 4), PixelRange(0, 1023)),
    "8 bits in 16": (lambda path, x: write_tiff(path, x.astype(np.uint16)), PixelRange(0, 255)),
    "all of 16": (lambda path, x: write_png16(path, x.astype(np.uint16) * 257), PixelRange(0, 65535)),
    "signed": (
        lambda path, x: write_tiff(path, (x.astype(np.int32) * 16 - 1024).astype(np.int16)),
        PixelRange(-1024, 255 * 16 - 1024),
    ),
    "white is zero": (
        lambda path, x: write_tiff(path, 4095 - x.astype(np.uint16) * 16, white_is_zero=True),
        PixelRange(0, 4095),
    ),
    "colors": (
        lambda path, x: write_png16(path, np.dstack([x] * 3).astype(np.uint16) * 16),
        PixelRange(0, 4095),
    ),
}


def written(root: Path, kind: str, count: int = 6, height: int = 20) -> list[NDArray[np.uint8]]:
    """Write pictures of a kind into two classes; return their twins of 8 bits."""
    twins = [gray(i, height) for i in range(count)]
    for i, twin in enumerate(twins):
        folder = root / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        WRITERS[kind][0](folder / f"{i}.png", twin)
    return twins


def order(images: Images) -> list[int]:
    return [int(Path(images.name(i)).stem) for i in range(len(images))]


@pytest.mark.parametrize("height", [20, 300], ids=["in memory", "files"])
@pytest.mark.parametrize("kind", WRITERS)
def test_deep_pictures_are_read_as_their_twins(root: Path, cache: Path, kind: str, height: int) -> None:
    twins = written(root, kind, height=height)
    images = open_data(root, cache)["train"]
    assert images.in_memory == (height == 20)
    assert images.pixel_range == WRITERS[kind][1]
    (note,) = [note for note in images.notes if "more than 8 bits" in note]
    assert note == (
        f"pixels of more than 8 bits: {images.pixel_range}, as found in 6 of 6 pictures looked at."
    )
    for i, number in enumerate(order(images)):
        pixels = images.read(i)
        # 255 x 16 is 4,080 of 4,095: an eighth of a percent, a level.
        np.testing.assert_allclose(pixels[:, :, 0], twins[number], rtol=0, atol=1)
    # What an encoder is shown of the same files by `prepare` is what it is shown of the set.
    how = replace(HOW, pixel_range=images.pixel_range)
    prepared = how.prepare([root / images.name(i) for i in range(6)])
    read, _ = how.read(images, np.arange(6))
    torch.testing.assert_close(prepared, read, rtol=0, atol=20 / 255)  # whole levels, see resample


def test_pictures_of_eight_bits_have_no_range_and_no_note(root: Path, cache: Path) -> None:
    root.mkdir(exist_ok=True)
    for i in range(3):
        Image.fromarray(gray(i)).save(root / f"{i}.png")
    images = open_data(root, cache)["train"]
    assert images.pixel_range is None
    assert not [note for note in images.notes if "bits" in note]


def test_one_range_holds_for_all_splits_and_is_that_of_the_images_to_learn_from(
    root: Path, cache: Path
) -> None:
    for split, factor in (("train", 4), ("test", 16)):
        for i in range(3):
            write_png16(root / split / f"{i}.png", gray(i).astype(np.uint16) * factor)
    sets = open_data(root, cache)
    assert {images.pixel_range for images in sets.values()} == {PixelRange(0, 1023)}
    assert sets["test"].read(0).mean() > 2 * sets["train"].read(0).mean() * 0.7  # brighter, and clipped


def test_a_few_files_are_looked_at_and_the_rest_follows(root: Path, cache: Path) -> None:
    for i in range(100):
        write_png16(root / f"{i:03}.png", gray(i).astype(np.uint16) * 16)
    Image.fromarray(gray()).save(root / "100.png")
    (note,) = open_data(root, cache)["train"].notes[-1:]
    assert note.endswith("as found in 63 of 64 pictures looked at.")


def test_the_range_travels_into_workers_and_keys(root: Path, cache: Path) -> None:
    written(root, "10 bits in a TIFF", height=300)
    found = open_data(root, cache)["train"]
    other = open_data(root, cache, PixelRange(0, 65535))["train"]
    assert pickle.loads(pickle.dumps(found)).pixel_range == PixelRange(0, 1023)
    assert pickle.loads(pickle.dumps(found)).notes == found.notes
    assert found.digest() != other.digest()
    assert found.identity() == other.identity()  # the same files, shown in another way
    small = root.parent / "small"
    written(small, "10 bits in a TIFF")
    bright, dark = (open_data(small, cache, known)["train"] for known in (None, PixelRange(0, 65535)))
    assert bright.in_memory
    assert bright.read(0).mean() > 20 * dark.read(0).mean()


def test_an_encoder_s_range_is_used_and_what_does_not_fit_is_said(root: Path, cache: Path) -> None:
    written(root, "all of 16")
    images = open_data(root, cache, PixelRange(0, 4095))["train"]
    assert images.pixel_range == PixelRange(0, 4095)
    assert images.notes[-2].endswith("4,095 is white, as the encoder learned it.")
    assert "% of the samples looked at lie outside of this range" in images.notes[-1]
    dark = root.parent / "dark"
    written(dark, "10 bits in a TIFF")
    images = open_data(dark, cache, PixelRange(0, 65535))["train"]
    assert "have little contrast: by themselves, 0 is black, 1,023 is white" in images.notes[-1]
    images = open_data(dark, cache, PixelRange(0, 1023))["train"]
    assert images.notes[-1].endswith("as the encoder learned it.")


def test_a_task_is_read_by_one_range(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYOL_CACHE", str(cache))
    written(root, "10 bits in a TIFF")
    elsewhere = root.parent / "elsewhere"
    written(elsewhere, "12 bits in a PNG")
    for known, used in ((None, PixelRange(0, 1023)), (PixelRange(0, 99), PixelRange(0, 99))):
        task = open_task(root, elsewhere, known)
        assert task.test is not None
        assert task.train.images.pixel_range == task.test.images.pixel_range == used


@pytest.mark.parametrize("raw", [False, True])
def test_a_pack_carries_the_range(
    root: Path, cache: Path, raw: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BYOL_CACHE", str(cache))
    twins = written(root, "12 bits in a PNG", height=300)
    packed = pack(root, root.parent / "a.pack", raw=raw, quality=100)
    images = open_data(packed.path, cache)["train"]
    assert images.pixel_range == PixelRange(0, 4095)
    assert np.abs(images.read(0)[:, :, 0].astype(int) - twins[order(images)[0]]).mean() < 2
    assert not open_data(packed.path, cache, PixelRange(0, 4095))["train"].notes
    (note,) = open_data(packed.path, cache, PixelRange(0, 255))["train"].notes
    assert note.startswith("the pixels were packed so that 0 is black, 4,095 is white, and the encoder")


class Items:
    """What a data set of torch may give."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Any:
        return self.items[i]


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x.astype(np.uint16) * 16,
        lambda x: Image.fromarray(x.astype(np.uint16) * 16),
        lambda x: torch.from_numpy(x.astype(np.int32) * 16),
        lambda x: (np.dstack([x] * 3).astype(np.int64) * 16, 3),
    ],
    ids=["array", "PIL", "tensor", "colors"],
)
def test_data_sets_and_tensors_of_deep_pictures_have_a_range_too(
    cache: Path, form: Callable[[NDArray[np.uint8]], Any]
) -> None:
    class Set(Items, torch.utils.data.Dataset[Any]):
        pass

    images = open_data(Set([form(gray(i)) for i in range(3)]), cache)["train"]
    assert images.pixel_range == PixelRange(0, 4095)
    np.testing.assert_allclose(images.read(2)[:, :, 2], gray(2), rtol=0, atol=1)


def test_a_tensor_of_deep_pictures_has_a_range(cache: Path) -> None:
    tensor = torch.from_numpy(np.stack([gray(i) for i in range(3)])[:, None].astype(np.int16) * 4)
    images = open_data(tensor, cache)["train"]
    assert images.pixel_range == PixelRange(0, 1023)
    assert images.notes == (
        "pixels of more than 8 bits: 0 is black, 1,023 is white, as found in the tensor.",
    )
    np.testing.assert_allclose(images.read(2)[:, :, 2], gray(2), rtol=0, atol=1)
    (index,) = indices(tensor, cache).values()
    assert index.pixel_range == PixelRange(0, 1023)


def test_an_encoder_keeps_the_range_in_its_file(tmp_path: Path) -> None:
    how = Preprocessing(size=12, pixel_range=PixelRange(-1024, 3056))
    spec = ConvNet(widths=(4, 8))
    network = spec.build()
    save_encoder(tmp_path / "encoder.safetensors", network, spec, how)
    opened = load(tmp_path)
    assert opened.preprocessing == how
    assert "pixel_range" not in json.dumps(replace(how, pixel_range=None).to_json())
    plain = Pretrained(network, replace(how, pixel_range=None))
    assert plain.fingerprint() != opened.fingerprint()
    signed = gray().astype(np.int16) * 16 - 1024
    write_tiff(tmp_path / "a.tif", signed)
    Image.fromarray(gray()).save(tmp_path / "twin.png")
    given: list[Any] = [tmp_path / "twin.png", tmp_path / "a.tif", signed, torch.from_numpy(signed)]
    rows = opened.embed(given)
    torch.testing.assert_close(rows, rows[:1].expand_as(rows))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 4000, (0, 4095)), (7, 4096, (0, 8191)), (0, 0, (0, 1)), (-7, -7, (-7, -6)), (-1, 9, (-1, 9))],
)
def test_the_range_is_a_whole_number_of_bits_unless_there_are_negative_numbers(
    low: int, high: int, expected: tuple[int, int]
) -> None:
    assert range_of([Deep(np.array([[low]])), Deep(np.array([[high]]))]) == PixelRange(*expected)


def test_files_say_their_range(root: Path, cache: Path) -> None:
    written(root, "signed")
    (index,) = indices(root, cache).values()
    assert Files(index).pixel_range is None  # not looked for yet
    assert Files(index.meaning(PixelRange(0, 9), ("a",))).notes[-1] == "a"

import io
import pickle
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, Subset

from byol.data.image.kinds import UndecodableImage
from byol.data.index.dataset import DatasetIndex
from byol.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)


class Listed(Dataset[Any]):
    """A data set of what it is given."""

    def __init__(self, items: Sequence[Any], **fields: Any) -> None:
        self.items, self.asked = items, list[int]()
        vars(self).update(fields)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Any:
        self.asked.append(i)
        if isinstance(self.items[i], Path):
            return Image.open(io.BytesIO(self.items[i].read_bytes()))  # decoded when its pixels are asked for
        return self.items[i]


def labels_of(index: DatasetIndex) -> list[Any] | None:
    return None if index.labels is None else index.labels.tolist()


@pytest.mark.parametrize(
    "as_item",
    [
        Image.fromarray,
        lambda pixels: pixels,
        lambda pixels: torch.from_numpy(pixels).permute(2, 0, 1),
        lambda pixels: (Image.fromarray(pixels), 1),
        lambda pixels: (pixels, 1, "more"),
    ],
    ids=["pil", "array", "tensor", "pair", "triple"],
)
def test_pictures_of_every_kind_are_read(as_item: Any) -> None:
    index = DatasetIndex(Listed([as_item(pixels) for pixels in PIXELS]))
    assert len(index) == 6
    assert index.name(3) == "3"
    for i in range(6):
        image = index.open(i)
        assert (image.height, image.width) == (5, 4)
        np.testing.assert_array_equal(image.read()[0], PIXELS[i])
        assert index.bytes(i) == PIXELS[i].tobytes()


def test_a_single_channel_is_repeated_and_a_palette_becomes_rgb() -> None:
    gray = torch.from_numpy(PIXELS[0, :, :, :1]).permute(2, 0, 1)
    index = DatasetIndex(Listed([gray, Image.fromarray(PIXELS[0]).convert("L")]))
    np.testing.assert_array_equal(index.open(0).pixels, PIXELS[0, :, :, :1].repeat(3, axis=2))
    assert index.open(1).pixels.shape == (5, 4, 3)


def test_labels_are_read_once_from_targets_without_a_look_at_the_items() -> None:
    dataset = Listed(list(PIXELS), targets=[0, 1, 2, 0, 1, 2], classes=["a", "b", "c", "never"])
    index = DatasetIndex(dataset)
    assert labels_of(index) == [0, 1, 2, 0, 1, 2]
    assert index.classes == ("a", "b", "c", "never")
    assert dataset.asked == [0]  # to see that it is a picture
    assert labels_of(DatasetIndex(Listed(list(PIXELS), labels=torch.arange(6)))) == list(range(6))


def test_labels_that_do_not_count_from_0_are_numbered_and_keep_their_names() -> None:
    index = DatasetIndex(Listed(list(PIXELS), targets=np.array([7, 3, 7, 3, -1, 3])))
    assert labels_of(index) == [2, 1, 2, 1, 0, 1]
    assert index.classes == ("-1", "3", "7")


def test_any_number_of_labels_an_image_is_a_table() -> None:
    table = np.eye(6, 4, dtype=np.int64)
    index = DatasetIndex(Listed(list(PIXELS), targets=table, classes=["a", "b", "c", "d"]))
    assert labels_of(index) == table.tolist()
    assert index.classes == ("a", "b", "c", "d")


@pytest.mark.parametrize("label", [int, np.int32, torch.tensor], ids=["int", "numpy", "tensor"])
def test_labels_stand_in_the_items_where_these_are_tuples(label: Any) -> None:
    dataset = Listed([(pixels, label(i % 2)) for i, pixels in enumerate(PIXELS)])
    index = DatasetIndex(Subset(dataset, [5, 1, 2]))
    assert labels_of(index) == [1, 1, 0]
    assert index.classes == ("0", "1")
    assert dataset.asked == [5, 5, 1, 2]  # one look for the kind, and one pass


@pytest.mark.parametrize(
    "fields",
    [{"targets": [0.5] * 6}, {"targets": ["a"] * 6}, {"labels": [1, 2]}, {"targets": [[1, 2]] * 6}],
    ids=["float", "word", "length", "table"],
)
def test_targets_that_are_no_classes_are_no_labels(fields: dict[str, Any]) -> None:
    index = DatasetIndex(Listed(list(PIXELS), **fields))
    assert (index.labels, index.classes) == (None, ())


def test_items_without_an_int_have_no_labels() -> None:
    for second in ("cat", 0.5, None, True):
        assert DatasetIndex(Listed([(pixels, second) for pixels in PIXELS])).labels is None


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        (Image.new("F", (4, 5)), "a PIL image of mode F"),
        ({"image": PIXELS[0]}, "of type dict"),
        ((), "of type tuple"),
    ],
)
def test_what_is_no_picture_is_told_with_its_number_and_kind(item: Any, kind: str) -> None:
    with pytest.raises(UserError, match=rf"^item 0 of the Listed is {kind}; it must be a PIL image"):
        DatasetIndex(Listed([item]))
    index = DatasetIndex(Listed([PIXELS[0], item]))
    with pytest.raises(UserError, match=rf"^item 1 of the Listed is {kind}; it must be a PIL image"):
        index.open(1)


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        (PIXELS[0].astype(np.float32), r"an array \(5, 4, 3\) of float32, holds float32 numbers from"),
        (np.zeros((5, 4, 2), np.uint8), r"an array \(5, 4, 2\) of uint8, has no shape of a picture; give"),
        (torch.full((3, 5, 4), 9.0), r"a tensor \(3, 5, 4\) of float32, holds float32 numbers from 9 to 9"),
        (torch.zeros(2, 5, 4, dtype=torch.uint8), r"a tensor \(2, 5, 4\) of uint8, has its channels last"),
    ],
)
def test_what_could_mean_two_things_is_told_with_its_number(item: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=rf"^item 0 of the Listed, {sentence}"):
        DatasetIndex(Listed([item]))


def test_items_may_be_gray_turned_or_floating_point() -> None:
    gray = PIXELS[0][:, :, 0]
    turned = Image.fromarray(PIXELS[0])
    turned.getexif()[0x0112] = 3
    items = [gray, gray[:, :, None] / 255, torch.from_numpy(gray.copy())[None].float() / 255, turned]
    index = DatasetIndex(Listed(items))
    for i in range(3):
        np.testing.assert_array_equal(index.open(i).pixels, np.repeat(gray[:, :, None], 3, axis=2))
    np.testing.assert_array_equal(index.open(3).pixels, PIXELS[0][::-1, ::-1])


def test_a_label_that_is_missing_is_told() -> None:
    with pytest.raises(UserError, match=r"item 1 of the Listed is an array .* give every item its label"):
        DatasetIndex(Listed([(PIXELS[0], 1), PIXELS[1]]))


def test_an_empty_data_set_is_told() -> None:
    with pytest.raises(UserError, match="the Listed is empty"):
        DatasetIndex(Listed([]))


def test_a_file_that_a_data_set_cannot_read_is_a_bad_image(tmp_path: Path) -> None:
    for i in range(3):
        Image.fromarray(PIXELS[i]).save(tmp_path / f"{i}.png")
    whole = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "2.png").write_bytes(b"no image")
    index = DatasetIndex(Listed([tmp_path / f"{i}.png" for i in range(3)]))
    for i in (1, 2):
        with pytest.raises(UndecodableImage, match=f"item {i} of the Listed cannot be read"):
            index.open(i)
    assert index.stamps()[:, 0].tolist() == [60, -1, -1]
    turned = Listed([tmp_path / f"{i}.png" for i in (2, 1, 0)])
    assert len(DatasetIndex(turned)) == 3  # the first that can be read says what they are
    with pytest.raises(UserError, match="none of the 2 items of the Listed can be read"):
        DatasetIndex(Listed([tmp_path / "1.png", tmp_path / "2.png"]))


def test_a_file_that_cannot_be_read_has_no_label(tmp_path: Path) -> None:
    class Labelled(Listed):
        def __getitem__(self, i: int) -> Any:
            return super().__getitem__(i), i

    (tmp_path / "1.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"item 1 .* cannot be read: .*; labels are read from the items"):
        DatasetIndex(Labelled([PIXELS[0], tmp_path / "1.png"]))


def test_stamps_change_with_the_pixels_and_are_read_once() -> None:
    dataset = Listed(list(PIXELS))
    index = DatasetIndex(dataset)
    before = index.stamps()
    assert index.stamps() is before
    assert len(dataset.asked) == 1 + 6
    other = DatasetIndex(Listed([*PIXELS[:5], PIXELS[0]])).stamps()
    assert (before[:5] == other[:5]).all()
    assert before[5, 1] != other[5, 1]


def test_it_goes_to_a_worker_and_is_asked_by_one_thread_at_a_time() -> None:
    class Alone(Listed):
        busy = False

        def __getitem__(self, i: int) -> Any:
            assert not self.busy
            self.busy = True
            try:
                return super().__getitem__(i)
            finally:
                self.busy = False

    index = DatasetIndex(Alone(list(PIXELS)))
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(index.bytes, [i % 6 for i in range(200)]))) == 200
    again = pickle.loads(pickle.dumps(DatasetIndex(Listed(list(PIXELS), targets=list(range(6))))))
    assert again.bytes(2) == PIXELS[2].tobytes()
    assert labels_of(again) == list(range(6))


def test_what_a_set_raises_is_a_sentence_that_names_the_item_and_the_place() -> None:
    class Breaks(Listed):
        def __getitem__(self, i: int) -> Any:
            return self.items[i] if i != 2 else dict[str, int]()["no such key"]

    index = DatasetIndex(Breaks(list(PIXELS)))
    with pytest.raises(
        UserError, match=r"^reading 2 raised KeyError: 'no such key' \(test_dataset.py, line \d+\)"
    ):
        index.open(2).read()
    assert index.open(3).read()[0].shape == (5, 4, 3)

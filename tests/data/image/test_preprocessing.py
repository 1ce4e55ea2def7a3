import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from byol.data.image.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from byol.data.images import Files, InMemory
from byol.data.index.dataset import DatasetIndex
from byol.errors import UserError

PIXELS = torch.randint(0, 256, (4, 3, 20, 14), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
HOW = Preprocessing(size=9, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), fraction=0.8)


def test_a_sample_is_what_the_encoder_takes() -> None:
    assert HOW.shape == (3, 9, 9)
    assert torch.equal(HOW.sample(), torch.zeros(2, 3, 9, 9))
    assert HOW.prepare(PIXELS).shape == (4, *HOW.shape)
    assert Preprocessing(size=5, mean=(0.5,), std=(0.5,)).sample().shape == (2, 1, 5, 5)


def test_images_and_views_are_shown_as_they_look() -> None:
    images, index = InMemory(PIXELS), np.array([2, 0])
    prepared, _ = HOW.read(images, index)
    squares, views = HOW.pictures(images, index, [prepared])
    expected, _ = images.squares(index, HOW.size, HOW.fraction)
    assert torch.equal(squares, expected)
    torch.testing.assert_close(views, expected, rtol=0, atol=1e-6)  # divided and multiplied: 6e-8 each


def test_pictures_of_every_kind_are_prepared_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = [one.permute(1, 2, 0).numpy() for one in PIXELS]
    pictures = [Image.fromarray(array) for array in arrays]
    for i, picture in enumerate(pictures):
        picture.save(tmp_path / f"{i}.png")
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    monkeypatch.setenv("HOME", str(tmp_path))
    homes = [os.path.join("~", f"{i}.png") for i in range(4)]  # noqa: PTH118
    expected = HOW.prepare(PIXELS)
    same: list[Any] = [arrays, pictures, paths, list(map(str, paths)), homes]
    for images in same:
        assert torch.equal(HOW.prepare(images), expected)


def test_reading_a_set_in_memory_is_preparing_its_images() -> None:
    prepared, kept = HOW.read(InMemory(PIXELS), np.array([3, 1]))
    # Products of matrices one by one or in a batch: float32 sums of some ten numbers in another order.
    torch.testing.assert_close(prepared, HOW.prepare(PIXELS[[3, 1]]), rtol=0, atol=1e-5)
    assert kept.tolist() == [3, 1]


def test_reading_files_is_preparing_their_images_up_to_whole_levels() -> None:
    class Items:
        def __len__(self) -> int:
            return 4

        def __getitem__(self, i: int) -> Any:
            return PIXELS[i]

    plain = HOW.unnormalized()
    prepared, _ = plain.read(Files(DatasetIndex(Items())), np.arange(4))
    assert (
        prepared - plain.prepare(PIXELS)
    ).abs().max() <= 15 / 255  # where bicubic overshoots, see resample


def test_normalizing_removes_the_mean_of_each_channel_and_divides_by_its_std() -> None:
    x = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    expected = (x.numpy() - np.array(HOW.mean)[:, None, None]) / np.array(HOW.std)[:, None, None]
    np.testing.assert_allclose(HOW.normalize(x).numpy(), expected, rtol=0, atol=1e-14)  # float64, below 3
    assert torch.equal(HOW.unnormalized().normalize(x), x)


def test_json_keeps_the_names_that_files_of_encoders_have_and_comes_back() -> None:
    text = json.dumps(HOW.to_json())
    assert json.loads(text) == {
        "size": 9,
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
        "crop": "centre square, bicubic",
        "crop_share": 0.8,
    }
    assert Preprocessing.from_json(json.loads(text)) == HOW
    older = {
        "size": 9,
        "mean": list(IMAGENET_MEAN),
        "std": list(IMAGENET_STD),
        "crop": "centre square, bicubic",
    }
    assert Preprocessing.from_json(older) == Preprocessing(size=9)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"size": 0}, "size is 0"),
        ({"fraction": 0.0}, r"fraction is 0.0; choose a fraction in \(0, 1\]"),
        ({"fraction": 1.1}, "fraction is 1.1"),
        ({"fraction": float("nan")}, "fraction is nan"),
        ({"std": (0.1, 0.0, 0.1)}, r"std is \(0.1, 0.0, 0.1\)"),
    ],
)
def test_a_value_out_of_range_is_told(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Preprocessing(**{"size": 8, **settings})

from pathlib import Path

import pytest
import torch
from PIL import Image

from byol.data.images import Files
from byol.data.opening import open_data
from byol.data.sizes import typical_side
from byol.errors import UserError


def test_the_typical_side_is_the_median_of_the_short_ones(tmp_path: Path) -> None:
    for number, size in enumerate([(40, 30), (50, 90), (20, 200), (60, 60), (70, 300)]):
        Image.new("RGB", size).save(tmp_path / f"{number}.png")
    assert typical_side(open_data(tmp_path)["train"]) == 50
    assert typical_side(open_data(torch.zeros(3, 3, 9, 12, dtype=torch.uint8))["train"]) == 9


def test_files_that_cannot_be_read_are_passed_over_unless_they_all_are(tmp_path: Path) -> None:
    for number, size in enumerate([(40, 30), (35, 60)]):
        Image.new("RGB", size).save(tmp_path / f"{number}.png")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    (images,) = open_data(tmp_path).values()
    assert isinstance(images, Files)
    assert typical_side(images) == 32
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    with pytest.raises(UserError, match=r"none of 3 images that were looked at can be read, such as 0\.png"):
        typical_side(images)

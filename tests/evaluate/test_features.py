import errno
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from tests.evaluate.conftest import MakeSet
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from byol.data.opening import open_data
from byol.errors import UserError
from byol.evaluate import features as module
from byol.evaluate.features import kept_features
from byol.system.cache import cache_folder
from byol.system.device import Device
from byol.system.progress import Progress
from byol.weights.pretrained import Pretrained


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYOL_CACHE", str(tmp_path / "cache"))


def count_images(encoder: Pretrained, stop_after: int | None = None) -> tuple[list[int], RemovableHandle]:
    """Count the images that an encoder looks at; with a limit, stop as Ctrl-C would."""
    seen = [0]

    def look(_: object, inputs: tuple[Tensor]) -> None:
        if stop_after is not None and seen[0] >= stop_after:
            raise KeyboardInterrupt
        seen[0] += len(inputs[0])

    return seen, encoder.encoder.register_forward_pre_hook(look)


def test_features_are_those_of_the_encoder_and_computed_once(
    make_set: MakeSet, encoder: Pretrained, device: Device, quiet: Progress
) -> None:
    images = open_data(str(make_set(test=0)))["train"]
    seen, _ = count_images(encoder)
    rows = kept_features(encoder, images, device, quiet)
    assert seen == [60]
    assert torch.equal(kept_features(encoder, images, device, quiet), rows)
    assert seen == [60]
    prepared, _ = encoder.preprocessing.read(images, np.arange(60))
    one_by_one = torch.cat([encoder(image[None].to(device.device)) for image in prepared]).cpu()
    # Batches are summed in another order: float32, at most 64 products of about 1. A GPU multiplies in TF32,
    # which has 10 bits after the first.
    rtol, atol = (1e-5, 1e-6) if device.device.type == "cpu" else (2**-9, 2**-9)
    torch.testing.assert_close(rows, one_by_one.detach(), rtol=rtol, atol=atol)
    mirrored = kept_features(encoder, images, device, quiet, flip=True)
    assert not torch.equal(mirrored, rows)


def test_other_weights_or_preprocessing_are_other_features(
    make_set: MakeSet, encoder: Pretrained, device: Device, quiet: Progress
) -> None:
    images = open_data(str(make_set(test=0)))["train"]
    rows = kept_features(encoder, images, device, quiet)
    assert not torch.equal(kept_features(encoder.fresh(1), images, device, quiet), rows)
    encoder.preprocessing = replace(encoder.preprocessing, fraction=0.5)
    assert not torch.equal(kept_features(encoder, images, device, quiet), rows)


def test_a_stopped_computation_goes_on_where_it_was(
    make_set: MakeSet, encoder: Pretrained, device: Device, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH", 2)
    images = open_data(str(make_set(test=0)))["train"]
    _, looking = count_images(encoder, stop_after=40)
    with pytest.raises(KeyboardInterrupt):
        kept_features(encoder, images, device, quiet)
    looking.remove()
    seen, _ = count_images(encoder)
    rows = kept_features(encoder, images, device, quiet)
    assert seen == [60 - 32]  # it had noted the first 16 batches of 2
    monkeypatch.setenv("BYOL_CACHE", str(cache_folder() / "another"))
    assert torch.equal(kept_features(encoder, images, device, quiet), rows)


def test_a_file_that_cannot_be_decoded_has_no_features(
    make_set: MakeSet, encoder: Pretrained, device: Device, quiet: Progress
) -> None:
    folder = make_set(test=0)
    (folder / "blue" / "01.png").write_bytes(b"not a picture")
    rows = kept_features(encoder, open_data(str(folder))["train"], device, quiet)
    assert np.flatnonzero(rows.isnan().any(dim=1)).tolist() == [1]


def test_features_that_are_not_finite_are_refused(
    make_set: MakeSet, encoder: Pretrained, device: Device, quiet: Progress
) -> None:
    images = open_data(str(make_set(test=0)))["train"]
    with torch.no_grad():
        next(encoder.encoder.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match=r"tiny makes features that are not finite of 60 of 60 images"):
        kept_features(encoder, images, device, quiet)


@pytest.mark.parametrize("damage", ["count", "part"])
def test_what_a_kill_left_half_written_is_computed_again(
    damage: str,
    make_set: MakeSet,
    encoder: Pretrained,
    device: Device,
    quiet: Progress,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_BATCH", 2)
    images = open_data(str(make_set(test=0)))["train"]
    _, looking = count_images(encoder, stop_after=40)
    with pytest.raises(KeyboardInterrupt):
        kept_features(encoder, images, device, quiet)
    looking.remove()
    (count,) = (cache_folder() / "features").glob("*.count")
    (part,) = (cache_folder() / "features").glob("*.part.npy")
    (count if damage == "count" else part).write_bytes(b"")
    seen, _ = count_images(encoder)
    rows = kept_features(encoder, images, device, quiet)
    assert seen == [60]
    monkeypatch.setenv("BYOL_CACHE", str(cache_folder() / "another"))
    assert torch.equal(kept_features(encoder, images, device, quiet), rows)


@pytest.mark.parametrize("damage", ["a bit", "cut short", "junk", "empty"])
def test_a_damaged_file_is_computed_again(
    damage: str, make_set: MakeSet, encoder: Pretrained, device: Device, quiet: Progress
) -> None:
    images = open_data(str(make_set(test=0)))["train"]
    rows = kept_features(encoder, images, device, quiet).clone()
    (file,) = (cache_folder() / "features").glob("*.npy")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    ruined = {"a bit": bytes(data), "cut short": bytes(data[:200]), "junk": b"junk" * 99, "empty": b""}
    file.write_bytes(ruined[damage])
    assert torch.equal(kept_features(encoder, images, device, quiet), rows)


def test_a_full_disk_is_an_error_and_what_is_there_is_gone_on_with(
    make_set: MakeSet,
    encoder: Pretrained,
    device: Device,
    quiet: Progress,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_BATCH", 2)
    images = open_data(str(make_set(test=0)))["train"]

    def full(file: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    full_disk = mock.patch.object(module, "add_sum", full)
    with full_disk, pytest.raises(OSError, match="No space left") as refused:
        kept_features(encoder, images, device, quiet)
    assert str(refused.value.filename).endswith(".part.npy")
    seen, _ = count_images(encoder)
    rows = kept_features(encoder, images, device, quiet)
    assert seen[0] < 60
    monkeypatch.setenv("BYOL_CACHE", str(cache_folder() / "another"))
    assert torch.equal(kept_features(encoder, images, device, quiet), rows)

import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

import byol
from byol.data.image.decode import decode
from byol.data.image.kinds import UndecodableImage
from byol.data.image.views import TwoViews
from byol.data.images import Files, InMemory
from byol.data.index.packfile import PackWriter, open_pack
from byol.data.loader import batches
from byol.data.opening import open_data
from byol.errors import UserError


def picture(i: int, height: int, width: int) -> Image.Image:
    """Smooth waves, which JPEG keeps, different for every i."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin((x * (i % 5 + 1) + y * (k + 1)) / 25 + i) for k in range(3)]
    return Image.fromarray((127 + 100 * np.stack(waves, axis=2)).astype(np.uint8))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """12 images to learn from, 6 to be judged: large and small, JPEG and PNG, one turned by its EXIF."""
    for split, count in {"train": 12, "test": 6}.items():
        for i in range(count):
            path = tmp_path / "root" / split / "ab"[i % 2] / f"{i:02}.{'png' if i % 3 == 2 else 'jpg'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(i, *((150, 200 + i), (40 + i, 60))[i % 2]).save(path, quality=95)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(0, 150, 200).save(tmp_path / "root" / "train" / "a" / "00.jpg", quality=95, exif=exif)
    return tmp_path / "root"


def files(data: str | os.PathLike[str], split: str = "train") -> Files:
    images = open_data(data)[split]
    assert isinstance(images, Files)
    return images


@pytest.mark.parametrize("raw", [False, True])
def test_splits_labels_classes_names_and_order_are_kept(root: Path, tmp_path: Path, raw: bool) -> None:
    out = byol.pack(root, tmp_path / "new" / "small.pack", short_side=64, raw=raw)
    before, after = open_data(str(root)), open_data(out)
    assert list(after) == list(before) == ["train", "test"]
    for split, images in after.items():
        labels = before[split].labels
        assert labels is not None
        assert images.labels is not None
        np.testing.assert_array_equal(images.labels, labels)
        assert images.classes == before[split].classes == ("a", "b")
        assert [images.name(i) for i in range(len(images))] == [
            before[split].name(i) for i in range(len(labels))
        ]


def test_raw_images_are_those_of_pillow_bit_for_bit(root: Path, tmp_path: Path) -> None:
    images, small = files(root), files(byol.pack(root, tmp_path / "raw.pack", short_side=64, raw=True))
    for i in range(len(images)):
        pixels = images.read(i)
        height, width, _ = pixels.shape
        if (shorter := min(height, width)) > 64:
            size = round(width * 64 / shorter), round(height * 64 / shorter)
            pixels = np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
        np.testing.assert_array_equal(small.read(i), pixels)
    assert small.read(0).shape[0] > small.read(0).shape[1]  # upright


def test_a_jpeg_that_is_small_already_is_copied_and_others_are_near(root: Path, tmp_path: Path) -> None:
    small = files(byol.pack(root, tmp_path / "small.pack", short_side=64))
    exact = files(byol.pack(root, tmp_path / "raw.pack", short_side=64, raw=True))
    for i in range(len(small)):
        file = root / small.name(i)
        difference = small.read(i).astype(float) - exact.read(i)
        if file.suffix == ".jpg" and min(decode(file.read_bytes()).shape[:2]) <= 64:
            assert small.index.bytes(i) == file.read_bytes()
            assert not difference.any()
        else:
            # Quality 90 rounds DCT coefficients of luminance to steps q of 13 in the root mean square. The
            # error of rounding is q / sqrt(12) at most, 3.9 levels, and the transform keeps it: 36 dB.
            # Colors, at half the resolution, are not asked; one pixel to the side would have 21 to 35 dB.
            luminance = difference @ (0.299, 0.587, 0.114)
            assert 10 * np.log10(255**2 / np.square(luminance).mean()) > 36


def test_the_same_images_make_the_same_bytes(root: Path, tmp_path: Path) -> None:
    one, other = (byol.pack(root, tmp_path / name, short_side=64) for name in ("one", "other"))
    assert one.path.read_bytes() == other.path.read_bytes()
    assert [images.digest() for images in open_data(one).values()] == [
        images.digest() for images in open_data(other).values()
    ]
    picture(3, 77, 60).save(root / "train" / "b" / "03.jpg")
    changed = byol.pack(root, tmp_path / "changed", short_side=64)
    assert files(changed).digest() != files(one).digest()
    assert files(changed, "test").digest() == files(one, "test").digest()


def test_a_pack_can_be_packed_again(root: Path, tmp_path: Path) -> None:
    once = byol.pack(root, tmp_path / "once", short_side=64, raw=True)
    twice = byol.pack(once, tmp_path / "twice", short_side=64, raw=True)
    assert once.path.read_bytes() == twice.path.read_bytes()


@pytest.mark.parametrize("raw", [False, True])
def test_small_images_of_one_size_open_in_memory(thumbnails: Path, tmp_path: Path, raw: bool) -> None:
    folder = open_data(str(thumbnails))["train"]
    images = open_data(byol.pack(thumbnails, tmp_path / "small.pack", raw=raw))["train"]
    assert isinstance(folder, InMemory)
    assert isinstance(images, InMemory)
    assert images.images.shape == folder.images.shape
    assert [images.name(i) for i in range(26)] == [folder.name(i) for i in range(26)]
    if raw:
        assert torch.equal(images.images, folder.images)
        assert images.digest() == folder.digest()


def test_crops_of_a_raw_pack_are_those_of_the_folder(photographs: Path, tmp_path: Path) -> None:
    out = byol.pack(photographs, tmp_path / "raw.pack", raw=True)
    options: dict[str, Any] = {"batch_size": 8, "seed": 1, "first_step": 2, "total_steps": 6}
    options["device"] = torch.device("cpu")
    views = TwoViews(size=24)  # larger than half of any image: the folder's are decoded whole too
    ours = batches(files(out), views, workers=2, **options)
    theirs = batches(files(photographs), views, workers=0, **options)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one.index, other.index)
        assert all(torch.equal(a, b) for a, b in zip(one.views, other.views, strict=True))


def test_what_goes_to_a_worker_is_small(root: Path, tmp_path: Path) -> None:
    images = files(byol.pack(root, tmp_path / "small.pack"))
    pickled = pickle.dumps(images)
    assert len(pickled) < 1000
    np.testing.assert_array_equal(pickle.loads(pickled).read(3), images.read(3))
    byol.pack(root, tmp_path / "small.pack", short_side=32, overwrite=True)
    with pytest.raises(UserError, match="changed while it was being read"):
        pickle.loads(pickled)


def test_any_number_of_labels_an_image_is_kept(root: Path, tmp_path: Path) -> None:
    (root / "list.csv").write_text(
        "path,labels\ntrain/a/00.jpg,x|y\ntrain/b/01.jpg,\ntrain/a/02.png,y\ntrain/b/03.jpg,x\n"
    )
    images = files(byol.pack(root / "list.csv", tmp_path / "several.pack", short_side=50))
    assert images.labels is not None
    np.testing.assert_array_equal(images.labels, [[1, 1], [0, 1], [0, 0], [1, 0]])
    assert images.name(1) == "train/a/02.png"


def test_images_without_classes_have_none(root: Path, tmp_path: Path) -> None:
    images = files(byol.pack(root / "train" / "a", tmp_path / "plain.pack"))
    assert images.labels is None
    assert images.classes == ()


def test_bad_files_are_left_out_and_named(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "train" / "a" / "04.jpg").write_bytes(b"no image")
    images = files(byol.pack(root, tmp_path / "small.pack"))
    assert len(images) == 11
    assert images.labels is not None
    assert images.labels.tolist() == [0] * 5 + [1] * 6
    assert "train/a/04.jpg" not in {images.name(i) for i in range(11)}
    assert "skipped train/a/04.jpg" in capsys.readouterr().err
    (root / "train" / "a" / "06.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match="2 of 12 images cannot be used"):
        byol.pack(root, tmp_path / "other.pack")
    assert not (tmp_path / "other.pack").exists()


def test_a_file_that_is_there_is_replaced_only_when_asked(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.pack"
    out.write_text("mine")
    with pytest.raises(UserError, match=r"small\.pack exists"):
        byol.pack(root, out)
    assert out.read_text() == "mine"
    byol.pack(root, out, overwrite=True)
    assert len(files(out)) == 12
    assert out.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"short_side": 0}, "short_side is 0"), ({"quality": 101}, "quality is 101; use 1 to 100")],
)
def test_settings_out_of_range_are_told(
    root: Path, tmp_path: Path, options: dict[str, int], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        byol.pack(root, tmp_path / "small.pack", **options)  # type: ignore[arg-type]


def test_what_cannot_be_packed_is_told(root: Path, tmp_path: Path) -> None:
    for data, out, sentence in (
        ("builtin", tmp_path / "x", "no file to pack"),
        (root, root, "is a folder"),
        (tmp_path / "nowhere", tmp_path / "x", "there are no images"),
    ):
        with pytest.raises(UserError, match=sentence):
            byol.pack(data, out)
        assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("share", [0.001, 0.5, 0.9, 0.999])
def test_a_pack_cut_short_is_told(root: Path, tmp_path: Path, share: float) -> None:
    out = byol.pack(root, tmp_path / "small.pack").path
    data = out.read_bytes()
    out.write_bytes(data[: max(10, int(share * len(data)))])
    with pytest.raises(UserError, match=r"small\.pack was cut short at [\d,]+ bytes: pack the images again"):
        open_data(out)


def test_any_damaged_byte_of_the_tables_is_told(root: Path, tmp_path: Path) -> None:
    out = byol.pack(root, tmp_path / "small.pack", short_side=32).path
    data = bytearray(out.read_bytes())
    ends = [split._places[:, :2].sum(axis=1).max() for split in open_pack(out).values()]
    tables = int(max(ends))
    for place in np.linspace(tables, len(data) - 1, 97).astype(int).tolist():
        data[place] ^= 0x55
        out.write_bytes(data)
        with pytest.raises(UserError, match="pack the images again"):
            open_data(out)
        data[place] ^= 0x55


def test_a_damaged_jpeg_of_a_pack_is_a_bad_image(root: Path, tmp_path: Path) -> None:
    out = byol.pack(root, tmp_path / "small.pack").path
    start, length, _, _ = open_pack(out)["train"]._places[5].tolist()
    data = bytearray(out.read_bytes())
    data[start : start + length // 2] = bytes(length // 2)
    out.write_bytes(data)
    found = batches(
        files(out),
        TwoViews(size=8),
        batch_size=12,
        seed=0,
        first_step=0,
        total_steps=1,
        workers=0,
        device=torch.device("cpu"),
    )
    assert [bad.name for bad in next(found).bad] == [files(out).name(5)]


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_stopped_it_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    first = tmp_path / "many" / "0000.png"
    first.parent.mkdir()
    Image.fromarray(noise).save(first)
    for i in range(1, 2000):
        os.link(first, tmp_path / "many" / f"{i:04}.png")
    (tmp_path / "out").mkdir()
    words = [sys.executable, "-m", "byol", "pack", str(first.parent), "--out", str(tmp_path / "out" / "x")]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "packed 1 of 2,000" in process.stderr.readline()
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "nothing was written" in said
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("raw", [False, True])
def test_any_damaged_byte_of_an_image_is_told(root: Path, tmp_path: Path, raw: bool) -> None:
    out = byol.pack(root, tmp_path / "small.pack", short_side=32, raw=raw).path
    data = bytearray(out.read_bytes())
    before = open_pack(out)["train"]
    for i, (start, length, _, _) in enumerate(before._places.tolist()):
        data[start + length // 2] ^= 1
        out.write_bytes(data)
        with pytest.raises(UndecodableImage, match="the pack is damaged there"):
            open_pack(out)["train"].open(i)
        data[start + length // 2] ^= 1
    out.write_bytes(data)
    assert open_pack(out)["train"].open(0).read()[0].tolist() == before.open(0).read()[0].tolist()


def test_a_pack_that_is_cut_short_while_it_is_read_is_told(root: Path, tmp_path: Path) -> None:
    out = byol.pack(root, tmp_path / "small.pack").path
    index = open_pack(out)["train"]
    assert index.open(0)
    with out.open("r+b") as file:
        file.truncate(10)
    with pytest.raises(UserError, match=r"small\.pack was cut short while it was read: pack"):
        index.open(len(index) - 1)


def test_pixels_of_one_size_are_checked_before_they_are_mapped(tmp_path: Path) -> None:
    pixels = torch.randint(0, 256, (9, 3, 8, 8), dtype=torch.uint8)
    out = byol.pack(pixels, tmp_path / "small.pack", raw=True).path
    images = open_data(out)["train"]
    data = bytearray(out.read_bytes())
    data[100] ^= 1
    out.write_bytes(data)  # in place: what is mapped changes with it
    with pytest.raises(UserError, match=r"small\.pack is damaged: pack the images again"):
        open_data(out)
    with out.open("r+b") as file:
        file.truncate(1)
    with pytest.raises(UserError, match="was cut short while it was read"):
        images.squares(np.arange(9), 8)


def test_a_pack_may_be_larger_than_memory(tmp_path: Path) -> None:
    # 1 TiB, all of it a hole.
    file, start = tmp_path / "vast.pack", 1 << 40
    with file.open("w+b") as stream:
        writer = PackWriter(stream)
        writer._place = stream.seek(start)
        writer.add(np.full((4, 5, 3), 9, np.uint8))
        writer.end_split("train", ["a.png"], None)
        writer.end(())
    index = open_pack(file)["train"]
    assert index.open(0).read()[0].tolist() == np.full((4, 5, 3), 9).tolist()


@pytest.mark.parametrize("column", [0, 2], ids=["outside", "other-size"])
def test_images_that_cannot_be_in_the_pack_are_refused(tmp_path: Path, column: int) -> None:
    file = tmp_path / "odd.pack"
    with file.open("w+b") as stream:
        writer = PackWriter(stream)
        writer.add(np.zeros((4, 5, 3), np.uint8))
        writer.end_split("train", ["a.png"], None)
        writer._tables[0][0, column] = 10**6  # tables that are whole, and that no writer of ours makes
        writer.end(())
    with pytest.raises(UserError, match=r"odd\.pack is damaged"):
        open_pack(file)


def test_a_pack_has_any_name_and_the_rights_of_a_new_file(root: Path, tmp_path: Path) -> None:
    mask = os.umask(0o077)
    try:
        byol.pack(root, tmp_path / "private.zip")
    finally:
        os.umask(mask)
    assert (tmp_path / "private.zip").stat().st_mode & 0o777 == 0o600
    assert len(files(tmp_path / "private.zip")) == 12


def test_it_answers_with_what_it_wrote(root: Path, tmp_path: Path) -> None:
    packed = byol.pack(root, tmp_path / "small.pack", short_side=64)
    before = sum(path.stat().st_size for path in root.rglob("*.*"))
    assert packed.path == tmp_path / "small.pack"
    assert packed.images == {"train": 12, "test": 6}
    assert packed.num_bytes == packed.path.stat().st_size
    assert packed.num_bytes_before == before
    assert packed.value == packed.num_bytes / before
    assert packed.table() == [["split", "images"], ["train", "12"], ["test", "6"]]
    assert packed.sentence().startswith(f"{packed.path}: 18 images, ")
    assert json.loads(json.dumps(packed.to_json())) == {
        "path": str(packed.path),
        "images": {"train": 12, "test": 6},
        "num_bytes": packed.num_bytes,
        "num_bytes_before": before,
        "value": packed.value,
    }


def test_a_tensor_or_a_data_set_can_be_packed(tmp_path: Path) -> None:
    tensor = torch.randint(0, 256, (6, 3, 20, 12), dtype=torch.uint8)
    labelled = TensorDataset(tensor, torch.arange(6) % 2)
    for data, labels in ((tensor, None), (labelled, [0, 1] * 3)):
        images = open_data(byol.pack(data, tmp_path / "new.pack", raw=True, overwrite=True))["train"]
        assert isinstance(images, InMemory)
        assert torch.equal(images.images, tensor)
        assert (None if images.labels is None else images.labels.tolist()) == labels


def test_where_a_pack_goes_may_begin_at_home(
    thumbnails: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert byol.pack(thumbnails, "~/small.pack").path == tmp_path / "small.pack"


def test_what_is_known_of_a_set_is_said_before_it_is_packed(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    byol.pack(root, tmp_path / "set.pack")
    said = capsys.readouterr()
    assert said.err.startswith(
        "note: 2 classes: a, b.\nnote: 2 splits: train (12 images in train/), test (6 images in test/).\n"
    )
    assert said.out == ""

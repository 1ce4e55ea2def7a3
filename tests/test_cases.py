"""What people who pretrain on their own pictures run into, one test a case, and others of its kind.

The cases were collected from public reports; each test is named after its number. `byol` runs in this process
unless a test needs another.
"""

import hashlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from tests.cases_inputs import (
    good,
    labelled,
    list_of,
    of_class,
    picture,
    plain,
    png,
    rows_of,
    tiff,
    wide_png,
    write,
)
from tests.ranks import workers
from torch import Tensor, nn

import byol
from byol.algorithm import bootstrap_step
from byol.cli import main
from byol.data.image.views import TwoViews
from byol.errors import Interrupted, UserError
from byol.lab.machine import peak_bytes
from byol.model.encoder import ConvNet
from byol.model.head import Mlp
from byol.recipe.small import cifar10_small
from byol.recipe.spec import Recipe

pytestmark = pytest.mark.timeout(120)


class Said(NamedTuple):
    """What a command left behind: its exit code, standard output and standard error."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """What it ended with."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("byol: ")]
        return line

    def lines(self, *words: str) -> list[str]:
        """The lines of standard error in which all of these words stand."""
        return [line for line in self.err.splitlines() if all(word in line for word in words)]


Run = Callable[..., Said]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process."""

    def command(*words: object) -> Said:
        capsys.readouterr()
        code = main(list(map(str, words)))
        return Said(code, *capsys.readouterr())

    return command


def small() -> Recipe:
    """Return `cifar10-small` as the cases have it, with fewer channels."""
    return replace(
        cifar10_small(),
        views=TwoViews(size=16),
        encoder=ConvNet(widths=(4, 8)),
        projector=Mlp(hidden=8, out=4),
        predictor=Mlp(hidden=8, out=4),
        batch_size=8,
        epochs=2,
        warmup_epochs=0.0,
    )


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of that recipe."""
    path = tmp_path_factory.mktemp("cases") / "cases.json"
    path.write_text(json.dumps(small().to_json()))
    return path


@pytest.fixture(scope="session")
def good_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain labelled set."""
    return good(tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, good_set: Path) -> Path:
    """A finished run; a test that changes it copies it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("BYOL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        return byol.pretrain(good_set, tmp_path_factory.mktemp("finished") / "run", recipe=small()).path


@pytest.fixture(scope="session")
def encoder(finished: Path) -> byol.Pretrained:
    """Its encoder."""
    return byol.load(finished)


def stop_in_step(patched: pytest.MonkeyPatch, last: int, number: int = signal.SIGTERM) -> None:
    """Send this process a signal while a step is made."""
    at_each_step(patched, lambda step: os.kill(os.getpid(), number) if step == last else None)


def at_each_step(patched: pytest.MonkeyPatch, do: Callable[[int], object]) -> None:
    """Do something before each step, which is counted from 1."""
    seen = [0]

    def step(*args: Any, **how: Any) -> Any:
        seen[0] += 1
        do(seen[0])
        return bootstrap_step(*args, **how)

    patched.setattr("byol.training.loop.bootstrap_step", step)


def cosine(left: Tensor, right: Tensor) -> float:
    """Return how alike two embeddings (1, D) are."""
    return float(torch.cosine_similarity(left, right).min())


# ---- 1: what a pixel means ----------------------------------------------------------------------


def grays(
    folder: Path, samples: Callable[[np.ndarray[Any, Any]], Any], save: Callable[..., Path]
) -> list[Path]:
    """Write six gray pictures with other samples; return their files."""
    suffix = "png" if save is png else "tif"
    return [save(folder / f"{i}.{suffix}", samples(picture(i)[:, :, 0].astype(np.int64))) for i in range(6)]


def twelve_bits(gray: Any) -> Any:
    return (gray * 16).astype(np.uint16)


DEPTHS: dict[str, tuple[Callable[[Any], Any], Callable[..., Path], dict[str, Any]]] = {
    "01a, png of 12 bits": (twelve_bits, png, {}),
    "png of 14 bits": (lambda gray: (gray * 64).astype(np.uint16), png, {}),
    "png of 16 bits": (lambda gray: (gray * 257).astype(np.uint16), png, {}),
    "01b, tiff of 10 bits": (lambda gray: (gray * 4).astype(np.uint16), tiff, {}),
    "tiff of 12 bits, big-endian": (twelve_bits, tiff, {"order": ">"}),
    "01c, signed tiff": (lambda gray: (gray * 16 - 1024).astype(np.int16), tiff, {"sample_format": 2}),
    "signed tiff, big-endian": (
        lambda gray: (gray * 8 - 1000).astype(np.int16),
        tiff,
        {"sample_format": 2, "order": ">"},
    ),
    "01d, tiff whose 0 is white": (
        lambda gray: (65535 - gray * 257).astype(np.uint16),
        tiff,
        {"photometric": 0},
    ),
    "tiff of 12 bits whose 0 is white": (
        lambda gray: (4095 - gray * 16).astype(np.uint16),
        tiff,
        {"photometric": 0},
    ),
}


@pytest.mark.parametrize("kind", list(DEPTHS))
def test_01_deep_pictures_are_as_their_twins(kind: str, recipe: Path, tmp_path: Path, run: Run) -> None:
    samples, save, how = DEPTHS[kind]
    deep = grays(tmp_path / "deep", samples, lambda path, array: save(path, array, **how))
    twins = [write(tmp_path / "twin" / f"{i}.png", picture(i)[:, :, 0]) for i in range(6)]
    _compare_with_twins(deep, twins, recipe, tmp_path, run)


@pytest.mark.parametrize("bits", [12, 10])
def test_01e_deep_colors_are_as_their_twins(bits: int, recipe: Path, tmp_path: Path, run: Run) -> None:
    factor = 1 << bits - 8
    deep = [png(tmp_path / "deep" / f"{i}.png", picture(i).astype(np.uint16) * factor) for i in range(6)]
    twins = [write(tmp_path / "twin" / f"{i}.png", picture(i)) for i in range(6)]
    _compare_with_twins(deep, twins, recipe, tmp_path, run)


def _compare_with_twins(deep: list[Path], twins: list[Path], recipe: Path, tmp_path: Path, run: Run) -> None:
    data = deep[0].parent
    said = run("pretrain", recipe, "--batch-size", 4, "--data", data, "--out", tmp_path / "run")
    assert said.code == 0, said.err
    assert len(said.lines("white")) == 1, said.err  # what the samples mean, in one line
    encoder = byol.load(tmp_path / "run")
    ours, theirs = encoder.preprocessing.prepare(deep), encoder.preprocessing.prepare(twins)
    assert (ours - theirs).abs().mean() < 0.15
    again = byol.load(tmp_path / "run" / "encoder.safetensors")  # the range is kept with the encoder
    torch.testing.assert_close(again.preprocessing.prepare(deep), ours, rtol=0, atol=0)


# ---- 2 to 4, 18: one road to a picture -----------------------------------------------------------


@pytest.mark.parametrize(
    "maker",
    [
        lambda gray: Image.fromarray(gray.astype(np.uint16) * 257),
        lambda gray: Image.fromarray(gray.astype(np.int32) * 257),
        lambda gray: Image.fromarray(gray),
    ],
    ids=["02a, 16 bits", "32 bits", "8 bits"],
)
def test_02a_a_gray_picture_of_pillow_is_what_its_file_is(
    maker: Callable[[Any], Image.Image], encoder: byol.Pretrained, tmp_path: Path
) -> None:
    gray = picture(1)[:, :, 0]
    image, twin = maker(gray), write(tmp_path / "twin.png", gray)
    assert cosine(encoder.embed([image]), encoder.embed([twin])) > 0.99
    if image.mode != "I":  # which a PNG holds as 16 bits, too
        image.save(tmp_path / "same.png")
        assert cosine(encoder.embed([image]), encoder.embed([tmp_path / "same.png"])) > 0.99


@pytest.mark.parametrize("turn", [6, 3, 8, 2, 5])
def test_02b_a_picture_of_pillow_is_turned_upright(
    turn: int, encoder: byol.Pretrained, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    path = write(tmp_path / "turned.jpg", picture(1), quality=95, exif=exif)
    with Image.open(path) as image:
        torch.testing.assert_close(encoder.embed([image]), encoder.embed([path]), rtol=0.01, atol=0.01)


@pytest.mark.parametrize(
    "kind",
    [
        "uint16",
        "float64",
        "float32",
        "tensor of float32",
        "tensor of float64",
        "tensor of uint16",
    ],
)
def test_02c_arrays_and_tensors_are_scaled_as_their_type_says(kind: str, encoder: byol.Pretrained) -> None:
    pixels = picture(1)
    made = pixels.astype(np.uint16) * 257 if "uint16" in kind else pixels.astype(kind.split()[-1]) / 255
    given = torch.from_numpy(made).permute(2, 0, 1)[None] if "tensor" in kind else [made]
    assert cosine(encoder.embed(given), encoder.embed([pixels])) > 0.999


@pytest.mark.parametrize(
    "wrong",
    [
        [np.full((8, 8, 3), 300.0)],
        [np.full((8, 8, 3), np.nan)],
        [np.zeros((8, 8, 3), np.complex64)],
        [np.zeros((8, 8, 7), np.uint8)],
        [np.zeros((0, 8, 3), np.uint8)],
        torch.zeros(2, 3, 8),
        [None],
        [7],
        [],
        "m.png",
    ],
    ids=["300", "nan", "complex", "7 channels", "no rows", "3 axes", "None", "number", "nothing", "path"],
)
def test_02c_what_is_no_picture_is_refused_in_a_sentence(wrong: Any, encoder: byol.Pretrained) -> None:
    with pytest.raises(UserError) as refused:
        encoder.embed(wrong)
    assert "\n" not in str(refused.value)


def test_02d_gray_arrays_generators_and_tuples_are_taken(encoder: byol.Pretrained, tmp_path: Path) -> None:
    gray = picture(1)[:, :, 0]
    path = write(tmp_path / "gray.png", gray)
    one = encoder.embed([path])
    for given in ([gray], (path,), (path for _ in range(1)), [gray[:, :, None]], [np.dstack([gray] * 3)]):
        torch.testing.assert_close(encoder.embed(given), one, rtol=0.01, atol=0.01)
    with pytest.raises(UserError):
        encoder.embed(iter(()))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_03_the_bad_picture_is_named(suffix: str, encoder: byol.Pretrained, tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.{suffix}", picture(i)) for i in range(3)]
    paths[1].write_bytes(paths[1].read_bytes()[: paths[1].stat().st_size // 2])
    with pytest.raises(UserError, match=rf"1\.{suffix}"):
        encoder.embed(paths)


def test_03_a_picture_without_a_name_is_told_by_its_position(
    encoder: byol.Pretrained, tmp_path: Path
) -> None:
    path = write(tmp_path / "cut.jpg", picture(1))
    path.write_bytes(path.read_bytes()[:-200])
    with Image.open(path) as cut, pytest.raises(UserError, match=r"cut\.jpg|\b1\b|second"):
        encoder.embed([picture(0), cut])
    with pytest.raises(UserError, match=r"nothing\.jpg"):
        encoder.embed([path.with_name("nothing.jpg")])


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_04_what_cannot_be_seen_does_not_count(suffix: str, encoder: byol.Pretrained, tmp_path: Path) -> None:
    seen = np.zeros((40, 64), np.uint8)
    seen[8:32, 12:52] = 255
    noise = np.random.default_rng(0).integers(0, 256, (40, 64, 3))
    how = {"lossless": True, "exact": True} if suffix == "webp" else {}
    embedded = []
    for name, hidden in (("black", 0), ("noise", noise)):
        colors = np.where(seen[:, :, None] > 0, picture(1), hidden).astype(np.uint8)
        path = write(tmp_path / f"{name}.{suffix}", np.dstack([colors, seen]), **how)
        with Image.open(path) as image:
            image.load()
            embedded += [encoder.embed([path]), encoder.embed([image])]
    for other in embedded[1:]:
        assert cosine(embedded[0], other) > 0.999


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells the peak of a process")
def test_18_embedding_holds_some_pictures_at_a_time(encoder: byol.Pretrained, tmp_path: Path) -> None:
    big = np.repeat(np.repeat(picture(0, 12, 16), 200, axis=0), 200, axis=1)  # (2400, 3200, 3): 23 MB
    path = write(tmp_path / "big.jpg", big, quality=30)
    encoder.embed([path])
    peak = peak_bytes(lambda: encoder.embed([path] * 16), torch.device("cpu"))
    assert peak is None or peak < 0.15e9  # 0.37 GB all at once


# ---- 5, 6: what is passed over, and why ----------------------------------------------------------


def test_05_files_that_are_passed_over_are_counted_by_suffix(recipe: Path, tmp_path: Path, run: Run) -> None:
    folder = plain(tmp_path / "set", 12)
    for i in range(8):
        write(tmp_path / "later.jpg", of_class(1, i)).rename(folder / f"b{i:02d}.jfif")
    for i in range(5):
        (folder / f"IMG_{i:04d}.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    said = run("pretrain", recipe, "--data", folder, "--out", tmp_path / "run")
    assert said.code == 0, said.err
    if "20 images" in said.err:
        assert said.lines("5", ".heic"), said.err
    else:
        assert said.lines("13", ".jfif", ".heic"), said.err


def test_05_documents_and_videos_are_told_of_too(recipe: Path, tmp_path: Path, run: Run) -> None:
    folder = plain(tmp_path / "set", 12)
    for name in ("a.pdf", "b.mov", "c.MOV", "notes.docx"):
        (folder / name).write_bytes(b"no image")
    (folder / ".DS_Store").write_bytes(b"no image")
    said = run("pretrain", recipe, "--data", folder, "--out", tmp_path / "run")
    assert said.code == 0, said.err
    assert said.lines("2 .mov"), said.err
    assert said.lines(".pdf", ".docx"), said.err


def test_06a_why_a_whole_file_cannot_be_used(recipe: Path, tmp_path: Path, run: Run) -> None:
    folder = plain(tmp_path / "set")
    for i in range(2):
        tiff(folder / f"dem{i}.tif", (of_class(0, i)[:, :, 0] / 255).astype(np.float32), sample_format=3)
    said = run("pretrain", recipe, "--data", folder, "--out", tmp_path / "run")
    assert said.lines("dem0.tif", "floating"), said.err
    assert "damaged" not in said.err


@pytest.mark.slow
def test_06b_the_limit_of_pixels_is_named(recipe: Path, tmp_path: Path, run: Run) -> None:
    folder = plain(tmp_path / "set")
    wide_png(folder / "mosaic.png", 15_000, 13_000)
    said = run("pretrain", recipe, "--data", folder, "--out", tmp_path / "run")
    assert said.code == 0, said.err
    if "25 images" not in said.err or said.lines("skipped"):
        (line,) = said.lines("mosaic.png")
        assert "15,000" in line, line
        assert "13,000" in line, line
        assert "megapixels" in line, line  # the limit


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "EPS"),
        ("b.jpg", b"DDS |\0\0\0" + bytes(120), "DDS"),
        ("c.png", b"SIMPLE  =                    T" + bytes(2850), "FITS"),
        ("d.jpg", b"<html><body>Not found</body></html>", "HTML"),
        ("e.jpg", b"", "empty"),
    ],
    ids=["EPS", "DDS", "FITS", "HTML", "empty"],
)
def test_06_what_a_file_is_decides_not_its_name(
    name: str, data: bytes, reason: str, recipe: Path, tmp_path: Path, run: Run
) -> None:
    folder = plain(tmp_path / "set")
    (folder / name).write_bytes(data)
    said = run("pretrain", recipe, "--data", folder, "--out", tmp_path / "run")
    assert said.lines(name, reason), said.err


# ---- 7, 8: folders that are no classes -----------------------------------------------------------


@pytest.mark.parametrize(
    ("learned", "judged"),
    [("training", "testing"), ("Train", "Test"), ("train", "val")],
)
def test_07a_folders_that_are_splits_are_splits(
    learned: str, judged: str, recipe: Path, finished: Path, tmp_path: Path, run: Run
) -> None:
    labelled(tmp_path / "set" / learned)
    labelled(tmp_path / "set" / judged, 4, seed=100)
    said = run("eval", "knn", finished, "--data", tmp_path / "set", "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert list(found["class_names"]) == ["ant", "bee", "cow"]
    assert "learned from 24)" in run("eval", "knn", finished, "--data", tmp_path / "set").out
    said = run("pretrain", recipe, "--data", tmp_path / "set", "--out", tmp_path / "run")
    assert "24 images" in said.err, said.err


def test_07b_masks_beside_pictures_are_named(recipe: Path, finished: Path, tmp_path: Path, run: Run) -> None:
    for i in range(20):
        write(tmp_path / "set" / "images" / f"{i:03d}.png", of_class(0, i))
        write(
            tmp_path / "set" / "masks" / f"{i:03d}.png", (of_class(1, i)[:, :, 0] > 60).astype(np.uint8) * 255
        )
    for words in (
        ("eval", "knn", finished, "--data", tmp_path / "set"),
        ("pretrain", recipe, "--data", tmp_path / "set", "--out", tmp_path / "run"),
    ):
        said = run(*words)
        assert said.lines("images", "masks"), said.err


def test_07c_a_stray_picture_is_named(recipe: Path, finished: Path, tmp_path: Path, run: Run) -> None:
    write(labelled(tmp_path / "set") / "overview.png", of_class(0, 99))
    for words in (
        ("eval", "knn", finished, "--data", tmp_path / "set"),
        ("pretrain", recipe, "--data", tmp_path / "set", "--out", tmp_path / "run"),
    ):
        said = run(*words)
        assert said.lines("overview.png"), said.err


@pytest.mark.parametrize("split", ["val", "test"])
def test_08_a_set_with_images_to_be_judged_alone(split: str, recipe: Path, tmp_path: Path, run: Run) -> None:
    folder = labelled(tmp_path / "set" / split).parent
    said = run("pretrain", recipe, "--data", folder, "--out", tmp_path / "run")
    assert said.code in (0, 2), said.err
    assert said.code == 2 or "24 images" in said.err, said.err
    assert said.lines(split), said.err


def test_08_a_list_with_images_to_be_judged_alone(
    recipe: Path, good_set: Path, tmp_path: Path, run: Run
) -> None:
    rows = [row for row in rows_of(good_set) if row[2] == "test"]
    only = list_of(tmp_path / "tests_only.csv", rows, "path,label,split")
    said = run("pretrain", recipe, "--data", only, "--out", tmp_path / "run")
    assert said.code in (0, 2), said.err
    assert said.lines("test"), said.err


def test_08_timing_and_packing_a_set_without_a_train_split(recipe: Path, tmp_path: Path, run: Run) -> None:
    folder = labelled(tmp_path / "set" / "val").parent
    assert run("bench", recipe, "--data", folder, "--rounds", 1).code in (0, 2)
    assert run("pack", folder, "--out", tmp_path / "set.pack").code in (0, 2)


# ---- 9, 11a: names -------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="names are UTF-8 elsewhere")
@pytest.mark.parametrize("name", [b"Stra\xdfe 1.jpg", b"\xff\xfe.jpg"])
def test_09a_a_name_that_is_not_utf_8(
    name: bytes, recipe: Path, finished: Path, tmp_path: Path, run: Run
) -> None:
    folder = labelled(tmp_path / "set", grow=1, suffix="jpg")
    (folder / "ant" / "000.jpg").rename(Path(os.fsdecode(os.fsencode(folder / "ant") + b"/" + name)))
    said = run("eval", "knn", finished, "--data", folder, "--json")
    assert said.code == 0, said.err
    assert list(json.loads(said.out)["class_names"]) == ["ant", "bee", "cow"]
    assert "24" in said.err
    assert run("pretrain", recipe, "--data", folder, "--out", tmp_path / "run").code == 0


@pytest.mark.skipif(sys.platform != "linux", reason="names are UTF-8 elsewhere")
def test_09a_classes_splits_and_bad_files_with_such_names(finished: Path, tmp_path: Path, run: Run) -> None:
    strange = os.fsdecode(b"Caf\xe9")
    folder = labelled(tmp_path / "set", 12, grow=1, suffix="jpg", classes=("ant", strange))
    (folder / strange / os.fsdecode(b"b\xe4d.jpg")).write_bytes(b"no image")
    said = run("eval", "knn", finished, "--data", folder, "--json")
    assert said.code == 0, said.err
    assert len(json.loads(said.out)["class_names"]) == 2
    said.out.encode()  # what is printed can be written as UTF-8
    said.err.encode()


@pytest.mark.parametrize("name", ["IMG[copy].jpg", "a [/] b.jpg", "plain.jpg"])
def test_09b_brackets_of_names_are_shown(name: str, recipe: Path, tmp_path: Path, run: Run) -> None:
    bad = plain(tmp_path / "set") / name.replace("/", "-")
    bad.write_bytes(b"no image")
    said = run("pretrain", recipe, "--data", bad.parent, "--out", tmp_path / "runs [v2]")
    assert said.code == 0, said.err
    assert said.lines("skipped", bad.name), said.err
    assert "runs [v2]" in said.err


def test_09b_runs_with_brackets_are_told_apart_in_tables(
    finished: Path, good_set: Path, tmp_path: Path, run: Run
) -> None:
    for name in ("a [v1]", "a [v2]", "[/bold]"):
        place = tmp_path / name.replace("/", "-")
        shutil.copytree(finished, place)
        said = run("eval", "knn", place, "--data", good_set)
        assert said.code == 0, said.err
        assert place.name in said.out, said.out


@pytest.mark.parametrize("name", ["a\x1b[2Jb.jpg", "a\u202egpj.jpg", "a\x07.jpg"])
def test_09_names_cannot_write_what_a_terminal_obeys(
    name: str, recipe: Path, tmp_path: Path, run: Run
) -> None:
    (plain(tmp_path / "set") / name).write_bytes(b"no image")
    said = run("pretrain", recipe, "--data", tmp_path / "set", "--out", tmp_path / "run")
    assert said.lines("skipped"), said.err
    assert not set("\x1b\x07\u202e") & set(said.err + said.out)


def test_10_copies_that_vote_for_each_other_are_told(finished: Path, tmp_path: Path, run: Run) -> None:
    noise = np.random.default_rng(0)
    for i in range(30):
        pixels = noise.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        for copy in range(2):
            write(tmp_path / "set" / "abc"[i % 3] / f"{i:03d}_{copy}.png", pixels)
    said = run("eval", "knn", finished, "--data", tmp_path / "set")
    assert said.code == 0, said.err
    assert said.lines("60 of 60"), said.err


@pytest.mark.parametrize("space", [" ", "\t", "  "])
def test_11a_spaces_around_labels_make_no_classes(
    space: str, good_set: Path, finished: Path, tmp_path: Path, run: Run
) -> None:
    rows = [
        (path, f"{space if i % 3 == 0 else ''}{label}{space if i % 2 else ''}", split)
        for i, (path, label, split) in enumerate(rows_of(good_set))
    ]
    spaced = list_of(tmp_path / "spaces.csv", rows, "path,label,split")
    said = run("eval", "knn", finished, "--data", spaced, "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert list(found["class_names"]) == ["ant", "bee", "cow"]
    assert found["value"] == 100.0


def test_11b_one_picture_with_two_labels_is_refused(
    good_set: Path, finished: Path, tmp_path: Path, run: Run
) -> None:
    train = [row for row in rows_of(good_set) if row[2] == "train"]
    rows = [(path, one) for path, name, _ in train for one in (name, "bee" if name == "ant" else "ant")]
    double = list_of(tmp_path / "two_labels.csv", rows, "path,label")
    said = run("eval", "knn", finished, "--data", double)
    assert said.code == 2, said.err
    assert "labels" in said.sentence, said.err


def test_11b_so_too_in_folders_by_other_spellings_of_its_path(
    good_set: Path, finished: Path, tmp_path: Path, run: Run
) -> None:
    train = [row for row in rows_of(good_set) if row[2] == "train"]
    around = [
        (str(Path(path).parent / ".." / Path(path).parent.name / Path(path).name), "x") for path, *_ in train
    ]
    double = list_of(tmp_path / "around.csv", [row[:2] for row in train] + around, "path,label")
    said = run("eval", "knn", finished, "--data", double)
    assert said.code == 2, said.err


@pytest.mark.parametrize("comma", [";", "\t", "|"])
def test_11c_columns_that_other_signs_divide(
    comma: str, good_set: Path, finished: Path, tmp_path: Path, run: Run
) -> None:
    header = comma.join(("path", "label", "split"))
    divided = list_of(tmp_path / "list.csv", rows_of(good_set), header, comma)
    said = run("eval", "knn", finished, "--data", divided, "--json")
    if said.code == 0:
        assert list(json.loads(said.out)["class_names"]) == ["ant", "bee", "cow"]
    else:
        assert header in said.sentence or header.replace("\t", "\\t") in said.sentence, said.err


def test_17_the_json_names_the_classes_in_the_order_of_its_matrix(
    finished: Path, tmp_path: Path, run: Run
) -> None:
    names = [str(number) for number in (0, 1, 2, 10, 11, 100)]
    labelled(tmp_path / "set" / "train", 6, classes=names)
    labelled(tmp_path / "set" / "test", 6, seed=50, classes=names)
    said = run("eval", "knn", finished, "--data", tmp_path / "set", "--json")
    found = json.loads(said.out)
    assert found["class_names"] == ["0", "1", "10", "100", "11", "2"]
    assert len(found["rows"][0]["confusion"]) == 6, said.out[:500]


@pytest.mark.parametrize("batch", [2, 8])
def test_19_one_picture_is_too_few(batch: int, recipe: Path, tmp_path: Path, run: Run) -> None:
    plain(tmp_path / "set", 1)
    words = ("pretrain", recipe, "--batch-size", batch, "--data", tmp_path / "set", "--out", tmp_path / "run")
    said = run(*words)
    assert said.code == 2, said.err
    assert "two" in said.sentence or "2 " in said.sentence, said.err
    assert "--batch-size" not in said.sentence, said.err
    assert not (tmp_path / "run" / "recipe.json").exists()


# ---- 12: a run is bound to its images ------------------------------------------------------------


@pytest.fixture(params=["files", "memory"])
def stopped(
    request: pytest.FixtureRequest, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> Path:
    """A run of 12 epochs over tmp_path/set, stopped by SIGTERM in its eighth step."""
    labelled(tmp_path / "set", grow=int(request.param == "files"), suffix="png")
    with monkeypatch.context() as patched:
        stop_in_step(patched, 8)
        words = ("--epochs", 12, "--workers", 0, "--data", tmp_path / "set", "--out", tmp_path / "run")
        said = run("pretrain", recipe, *words)
    assert said.code == 128 + signal.SIGTERM, said.err
    return tmp_path / "run"


def test_12a_a_set_that_has_moved(stopped: Path, tmp_path: Path, run: Run) -> None:
    whole = shutil.copytree(stopped, tmp_path / "whole")
    assert run("pretrain", "--resume", whole).code == 0
    (tmp_path / "set").rename(tmp_path / "moved")
    said = run("pretrain", "--resume", stopped)
    assert said.code == 2, said.err
    assert "--data" in said.sentence, said.err  # the remedy
    said = run("pretrain", "--resume", stopped, "--data", tmp_path / "moved")
    assert said.code == 0, said.err
    assert _sum(stopped) == _sum(whole)


def test_12a_a_copy_of_a_set_is_the_same_set(stopped: Path, tmp_path: Path, run: Run) -> None:
    shutil.copytree(tmp_path / "set", tmp_path / "copy", copy_function=shutil.copyfile)  # with other times
    said = run("pretrain", "--resume", stopped, "--data", tmp_path / "copy")
    assert said.code == 0, said.err


def _more(folder: Path) -> None:
    labelled(folder, 16, seed=500)


def _fewer(folder: Path) -> None:
    (folder / "ant" / "003.png").unlink()


def _class_less(folder: Path) -> None:
    shutil.rmtree(folder / "cow")


def _another(folder: Path) -> None:
    write(folder / "ant" / "003.png", of_class(0, 77, 27))


def _renamed(folder: Path) -> None:
    (folder / "ant" / "003.png").rename(folder / "ant" / "zzz.png")


def _swapped(folder: Path) -> None:
    first, second = folder / "ant" / "000.png", folder / "cow" / "000.png"
    both = first.read_bytes(), second.read_bytes()
    second.write_bytes(both[0])
    first.write_bytes(both[1])


@pytest.mark.parametrize(
    "change", [_more, _fewer, _class_less, *(one for one in (_another, _renamed, _swapped))]
)
def test_12b_other_images_are_refused(
    change: Callable[[Path], None], stopped: Path, tmp_path: Path, run: Run
) -> None:
    change(tmp_path / "set")
    now = len(list((tmp_path / "set").rglob("*.png")))
    said = run("pretrain", "--resume", stopped)
    assert said.code == 2, said.err
    assert "24" in said.sentence, said.err
    assert str(now) in said.sentence, said.err


def test_12c_a_finished_run_tells_how_to_train_on(
    finished: Path, good_set: Path, tmp_path: Path, run: Run
) -> None:
    copy = shutil.copytree(finished, tmp_path / "run")
    said = run("pretrain", "--resume", copy, "--epochs", 4)
    assert said.code == 2, said.err
    assert "--extend" in said.sentence, said.err
    said = run("pretrain", "--extend", copy, "--epochs", 4, "--out", tmp_path / "longer")
    assert said.code == 0, said.err
    assert byol.Run(tmp_path / "longer").summary["epochs"] == 4
    assert _sum(copy) == _sum(finished)
    said = run("pretrain", "--from", copy, "--epochs", 1, "--data", good_set, "--out", tmp_path / "from")
    assert said.code == 0, said.err


def _sum(run: Path) -> str:
    return hashlib.sha256((run / "encoder.safetensors").read_bytes()).hexdigest()


# ---- 13: modules of one's own --------------------------------------------------------------------


class Plain(nn.Module):
    """A network of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).mean((2, 3))  # type: ignore[no-any-return]


class Twice(Plain):
    """It holds the same layers under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.features = self.body


class Tied(Plain):
    """Two layers share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 4), nn.Linear(4, 4)
        self.right.weight = self.left.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.right(self.left(super().forward(x)))  # type: ignore[no-any-return]


class Extra(Plain):
    """It keeps something beside tensors."""

    def get_extra_state(self) -> object:
        return {"seen": 1}

    def set_extra_state(self, state: object) -> None: ...


class Frozen(Plain):
    """Nothing of it learns."""

    def __init__(self) -> None:
        super().__init__()
        self.requires_grad_(False)


@pytest.mark.parametrize("module", [Twice, Tied, Extra, Frozen])
def test_13a_to_c_what_cannot_be_saved_or_learn_is_found_before_the_first_step(
    module: type[Plain], good_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _refused_or_written(module(), good_set, tmp_path / "run", monkeypatch)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Plain().double(),
        lambda: torch.jit.script(Plain()),
        lambda: Plain().to(torch.bfloat16),
        lambda: Plain,
        lambda: "resnet18",
    ],
    ids=["float64", "scripted", "bfloat16", "class", "name"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_13d_what_is_no_usable_module_is_refused(
    make: Callable[[], Any], good_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _refused_or_written(make(), good_set, tmp_path / "run", monkeypatch)


def _refused_or_written(module: Any, data: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    at_each_step(monkeypatch, steps.append)
    try:
        run = byol.pretrain(data, out, recipe=small(), encoder=module)
    except UserError:
        is_refused = True
    else:
        is_refused = False
    if is_refused:
        assert steps == []
        assert not (out / "recipe.json").exists()
    else:
        assert not isinstance(module, Frozen)
        assert run.load(encoder=module) is not None


def test_13e_the_way_on_that_a_stopped_run_tells_works(
    good_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    with monkeypatch.context() as patched:
        stop_in_step(patched, 2, signal.SIGINT)
        with pytest.raises(Interrupted) as stop:
            byol.pretrain(good_set, tmp_path / "run", recipe=small(), encoder=Plain())
    told = str(stop.value).split("continue with: ")[1].rstrip(".")
    said = run("pretrain", "--resume", tmp_path / "run")
    assert said.code == 2, said.err
    assert "encoder=module" in said.sentence, said.err
    assert eval(told, {"byol": byol, "module": Plain()}).is_finished


# ---- 14, 20: the door in Python ------------------------------------------------------------------


def test_14a_a_recipe_without_images_does_not_take_those_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain(tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    photos, refused = byol.named("photos"), pytest.raises(UserError, match=r"images|data")
    with refused:
        byol.pretrain(None, "RUN", recipe=photos, encoder=Plain())
    with refused:
        byol.pretrain("", "RUN", recipe="photos")
    with refused:
        byol.pretrain(photos, "RUN", encoder=Plain())  # type: ignore[arg-type]
    assert not (tmp_path / "work" / "RUN").exists()


def test_14b_paths_are_paths_everywhere(good_set: Path, tmp_path: Path) -> None:
    trained = byol.pretrain(None, tmp_path / "run", recipe=replace(small(), data=good_set))  # type: ignore[arg-type]
    assert trained.is_finished
    assert byol.judge(tmp_path / "run", good_set, protocol=byol.Knn()).value > 0
    assert byol.judge(str(tmp_path / "run"), str(good_set)).value > 0


@pytest.mark.parametrize("spelling", ["--out=~/run", "~/other"])
def test_14c_a_tilde_is_the_home_folder(
    spelling: str, recipe: Path, good_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    for folder in (home, work):
        folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    if spelling.startswith("--"):
        assert run("pretrain", recipe, "--data", good_set, spelling).code == 0
    else:
        byol.pretrain(good_set, spelling, recipe=small())
    place = spelling.removeprefix("--out=")
    assert (home / place[2:] / "encoder.safetensors").is_file()
    assert run("eval", "knn", place, "--data", good_set).code == 0
    assert byol.load(place) is not None
    assert list(work.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"workers": -1},
        {"workers": 1.5},
        {"workers": True},
        {"checkpoint_seconds": -1},
        {"checkpoint_seconds": "soon"},
        {"recipe": {"epochs": 2.0}},
        {"recipe": {"batch_size": "8"}},
        {"recipe": {"seed": 0.5}},
        {"recipe": {"warmup_epochs": "1"}},
        {"recipe": {"epochs": True}},
    ],
    ids=lambda wrong: " ".join(f"{name}={value}" for name, value in wrong.get("recipe", wrong).items()),
)
def test_14d_numbers_of_the_wrong_kind_are_refused(
    wrong: dict[str, Any], good_set: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError):  # a recipe may refuse as it is made, too
        byol.pretrain(
            good_set, tmp_path / "run", **{**wrong, "recipe": replace(small(), **wrong.get("recipe", {}))}
        )
    assert not (tmp_path / "run").exists()


def test_14e_a_checkpoint_of_a_run_is_told_to_be_one(
    finished: Path, good_set: Path, tmp_path: Path, run: Run
) -> None:
    newest = max((finished / "checkpoints").glob("step-*.pt"))
    renamed = shutil.copy(newest, tmp_path / "model.pt")
    for path in (newest, renamed):
        with pytest.raises(UserError, match="checkpoint of a run"):
            byol.load(path)
        said = run("eval", "knn", path, "--data", good_set)
        assert said.code == 2, said.err
        assert "checkpoint of a run" in said.sentence, said.err


def test_20_equal_runs_give_equal_files(good_set: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps(small().to_json()))
    script = "import sys, byol; byol.pretrain(sys.argv[1], sys.argv[3], recipe=sys.argv[2], workers=0)"
    words = [str(word) for word in (good_set, tmp_path / "recipe.json", tmp_path / "there")]
    surroundings = {**os.environ, "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", script, *words], check=True, env=surroundings)
    for name in ("here", "again"):
        byol.pretrain(good_set, tmp_path / name, recipe=small(), workers=0)
    assert len({_sum(tmp_path / name) for name in ("there", "here", "again")}) == 1


# ---- 15, 16, 21, 22: surroundings ----------------------------------------------------------------


@pytest.mark.parametrize(
    "left",
    [
        {"LOCAL_RANK": "1"},
        {"LOCAL_RANK": "1", "RANK": "1"},
        {"LOCAL_RANK": "x"},
        {"LOCAL_RANK": "3", "WORLD_SIZE": ""},
    ],
    ids=["LOCAL_RANK", "RANK too", "no number", "empty WORLD_SIZE"],
)
def test_15a_what_a_launcher_left_behind_swallows_no_message(
    left: dict[str, str], recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    said = run("pretrain", recipe, "--data", tmp_path / "nowhere", "--out", tmp_path / "run")
    assert said.code == 2
    assert "nowhere" in said.sentence


@pytest.mark.parametrize(
    "name",
    [
        "WORLD_SIZE",
        "RANK",
        "LOCAL_RANK",
        "LOCAL_WORLD_SIZE",
        "MASTER_ADDR",
        "BYOL_CACHE",
    ],
)
def test_15b_an_empty_variable_counts_as_unset(
    name: str, recipe: Path, good_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv(name, "")
    said = run("pretrain", recipe, "--data", good_set, "--out", tmp_path / "run")
    assert said.code in (0, 2), said.err
    assert {path.name for path in tmp_path.iterdir()} <= {"run", "home"}


def test_15c_a_person_without_a_home(
    recipe: Path, good_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    def unknown(number: int) -> Any:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("BYOL_CACHE")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    archive = shutil.make_archive(str(tmp_path / "images"), "zip", good_set)
    said = run("pretrain", recipe, "--data", archive, "--out", tmp_path / "run")
    assert said.code == 2, said.err
    assert "BYOL_CACHE" in said.sentence, said.err
    for words in (
        ("eval", "knn", "~/run", "--data", good_set),
        ("pretrain", recipe, "--data", "~/x", "--out", "r"),
    ):
        assert run(*words).code == 2


def test_15c_a_home_that_cannot_be_written(
    recipe: Path, good_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    (tmp_path / "home").write_bytes(b"")  # nothing can be made below a file, whoever one is
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("BYOL_CACHE")
    archive = shutil.make_archive(str(tmp_path / "images"), "zip", good_set)
    said = run("pretrain", recipe, "--data", archive, "--out", tmp_path / "run")
    assert said.code == 2, said.err
    assert "BYOL_CACHE" in said.sentence, said.err


def test_15d_a_result_is_printed_before_it_is_kept(
    finished: Path, good_set: Path, tmp_path: Path, run: Run
) -> None:
    copy = shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(copy / "results", ignore_errors=True)
    (copy / "results").write_bytes(b"")
    said = run("eval", "knn", copy, "--data", good_set, "--json")
    assert json.loads(said.out)["value"] > 0
    assert said.lines("results"), said.err
    said = run("compare", copy, finished, "--data", good_set, "--json")
    assert json.loads(said.out), said.err


def _may_mount() -> bool:
    words = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"]
    return bool(shutil.which("unshare")) and not subprocess.run(words, capture_output=True).returncode


@pytest.mark.slow
@pytest.mark.skipif(not _may_mount(), reason="takes a mount of one's own")
def test_16_little_shared_memory_ends_in_a_sentence(recipe: Path, tmp_path: Path) -> None:
    folder = plain(tmp_path / "set", 48)
    flags = (
        f"--data {folder} --out {tmp_path / 'run'} --epochs 20 --batch-size 24 --views.size 160 --workers 2"
    )
    byol_words = f"{sys.executable} -m byol pretrain {recipe} {flags}"
    script = f"mount -t tmpfs -o size=2m tmpfs /dev/shm; OMP_NUM_THREADS=1 exec {byol_words}"
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, timeout=110, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    if done.returncode:  # it may also do with less
        assert done.returncode == 2, done.stderr
        sentence = done.stderr.splitlines()[-1]
        assert sentence.startswith("byol: "), done.stderr
        assert "--workers 0" in sentence, sentence
        assert "--shm-size" in sentence, sentence


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_21_a_worker_that_dies_ends_in_a_sentence_and_a_checkpoint(
    number: int, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    def kill(step: int) -> None:
        if step == 5:
            worker = workers()[0]
            os.kill(worker.pid or 0, number)

    at_each_step(monkeypatch, kill)
    folder, out = plain(tmp_path / "set"), tmp_path / "run"
    words = ("--epochs", 100, "--workers", 2, "--data", folder, "--out", out)
    said = run("pretrain", recipe, *words)
    assert said.code == 2, said.err
    assert "--resume" in said.sentence, said.err
    assert "Traceback" not in said.err
    assert max(int(path.stem[5:]) for path in (out / "checkpoints").glob("step-*.pt")) >= 4
    assert workers() == []


@pytest.mark.slow
def test_22_a_script_without_a_guard_where_processes_are_spawned(recipe: Path, tmp_path: Path) -> None:
    plain(tmp_path / "set")
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing\n"
        "multiprocessing.set_start_method('spawn', force=True)\n"
        "import byol\n"
        f"data, out, recipe = {str(tmp_path / 'set')!r}, {str(tmp_path / 'run')!r}, {str(recipe)!r}\n"
        "byol.pretrain(data, out, recipe=recipe, workers=2)\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path
    )
    if done.returncode:  # it may also work
        assert "__main__" in done.stderr.splitlines()[-1], done.stderr
        assert "unexpectedly" not in done.stderr
        assert done.stderr.count("Traceback") <= 1, done.stderr  # Python's own, of the script

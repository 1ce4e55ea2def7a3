"""What is said of folders, as the person who opens one reads it."""

from pathlib import Path

import pytest
from tests.data.index.touching import labels_of, touch

from byol.data.index.folder import index_splits
from byol.data.index.remarks import named, of_classes, passed_over_of
from byol.data.index.walking import READS_HEIC
from byol.errors import UserError


def notes(root: Path, *names: str) -> list[str]:
    return list(next(iter(index_splits(touch(root, *names), root.parent / "cache").values())).notes)


def of(folder: str, count: int = 2, suffix: str = ".jpg") -> list[str]:
    return [f"{folder}/{i}{suffix}" for i in range(count)]


def test_classes_are_named_and_the_rest_of_many_counted(root: Path) -> None:
    assert notes(root, *of("ant"), *of("bee"), *of("cow")) == ["3 classes: ant, bee, cow."]
    many = [f"n{i:04}" for i in range(1000)]
    (line,) = of_classes(many, dict.fromkeys(many, 2))
    assert line.startswith("1,000 classes: n0000, n0001,")
    assert line.endswith("n0007 and 992 others.")


def test_notes_are_kept_with_the_index_and_are_those_of_every_split(root: Path, cache: Path) -> None:
    touch(
        root, *of("training/ant"), *of("training/bee"), *of("testing/ant"), *of("testing/bee"), "other/1.jpg"
    )
    first, again = index_splits(root, cache), index_splits(root, cache)
    assert list(first) == ["train", "test"]
    assert [labels_of(index) for index in first.values()] == [[0, 0, 1, 1]] * 2
    said = (
        "2 classes: ant, bee.",
        "2 splits: train (4 images in training/), test (4 images in testing/).",
        "1 image outside of these splits is left out: other/.",
    )
    assert {index.notes for index in (*first.values(), *again.values())} == {said}


def test_files_passed_over_are_counted_by_suffix(root: Path) -> None:
    said = notes(root, "1.jpg", *of("a", 5, ".MP4"), *of("b", 2, ".mov"), "README", "a/.DS_Store", "._1.jpg")
    assert said == ["8 files passed over: 5 .mp4, 2 .mov, 1 without a suffix."]
    assert passed_over_of({f".{i}": 1 for i in range(20)}).endswith(".15, 12 others.")


@pytest.mark.skipif(READS_HEIC, reason="HEIC is read here")
def test_it_is_said_how_heic_is_read(root: Path) -> None:
    assert notes(root, "1.jpg", *of("a", 5, ".HEIC")) == [
        "5 files passed over: 5 .heic; HEIC is read after pip install 'byol[heic]'."
    ]


def test_a_folder_without_an_image_tells_what_is_there(root: Path) -> None:
    with pytest.raises(UserError, match=r"holds no image .*5 files passed over: 5 \.mp4\."):
        notes(root, *of("a", 5, ".MP4"))
    (root / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no image .*it is empty"):
        notes(root / "empty")


def test_stray_images_are_named_as_the_cause_that_there_are_no_labels(root: Path) -> None:
    assert notes(root, *of("ant"), *of("bee"), "overview.png") == [
        "there are no labels, as overview.png lies beside the folders ant, bee: "
        "move it into one of these or elsewhere."
    ]


def test_stray_images_of_a_split_are_named(root: Path) -> None:
    classes = [
        *of("train/ant"),
        *of("train/bee"),
        *of("test/ant"),
        *of("test/bee"),
        "test/a.png",
        "test/b.png",
    ]
    assert (
        "there are no labels in test/, as test/a.png, test/b.png lie beside the folders ant, bee: "
        "move them into one of these or elsewhere."
    ) in notes(root, *classes)


def test_one_folder_alone_is_no_class(root: Path) -> None:
    assert notes(root, *of("ant")) == ["there are no labels, as all images lie in the one folder ant."]
    (root.parent / "set").mkdir()
    (said,) = notes(root.parent / "set", *of("photos/ant"), *of("photos/bee"))
    assert said.endswith("if the folders in it are the classes or splits, give photos as the data.")


@pytest.mark.parametrize(
    "pair", ["images masks", "JPEGImages SegmentationMasks", "img gt", "rgb labels", "cats annotations"]
)
def test_masks_beside_pictures_are_told(root: Path, pair: str) -> None:
    pictures, masks = pair.split()
    said = notes(root, *of(pictures, 12), *of(masks, 12, ".png"))
    assert any(f"{masks} seems to hold masks of the pictures in {pictures}" in note for note in said)


def test_the_same_names_with_other_suffixes_are_told_of_two_folders(root: Path) -> None:
    said = notes(root, *of("a", 12), *(f"b/{i}_mask.png" for i in range(12)))
    assert any("the images in a and b have the same names and other suffixes" in note for note in said)


def test_classes_whose_files_are_numbered_are_no_mistake(root: Path) -> None:
    assert notes(root, *of("cat", 12), *of("dog", 12)) == ["2 classes: cat, dog."]


def test_folders_that_hold_the_same_folders_may_be_splits(root: Path) -> None:
    said = notes(root, *(name for side in "AB" for kind in ("ant", "bee") for name in of(f"{side}/{kind}")))
    assert any("each holds folders of the same names, ant, bee" in note for note in said)


def test_what_is_odd_about_classes_is_told(root: Path) -> None:
    said = notes(
        root, *of("Cat"), *of("cat "), *of("plants/rose"), "single/1.jpg", "none/notes.txt", *of("test")
    )
    for expected in (
        "the classes 'Cat' and 'cat ' differ by case or blanks alone: are they the same?",
        "1 class has one image alone: single.",
        "1 folder holds no image: none.",
        "folders inside of classes, such as plants/rose, are no classes of their own.",
        "test is taken for a class and no split, as it stands beside Cat, cat , plants and 1 other.",
        "1 file passed over: 1 .txt.",
    ):
        assert expected in said


def test_an_image_in_two_classes_is_told(root: Path) -> None:
    touch(root, "ant/1.jpg", "bee/7.jpg")
    for name in ("ant/1.jpg", "bee/7.jpg"):
        (root / name).write_bytes(b"one picture")
    assert "1 image is in two classes, byte for byte: ant/1.jpg is bee/7.jpg, for one." in notes(root)


def test_a_folder_that_was_copied_into_another_is_told(root: Path) -> None:
    touch(root, *of("phone/2023"), *of("phone/2023 (copy)"), "phone/1.jpg")
    for name in (*of("phone/2023"), *of("phone/2023 (copy)")):
        (root / name).write_text(name[-5:])
    assert (
        "2 images are there twice, byte for byte: phone/2023 (copy)/0.jpg is phone/2023/0.jpg, for one."
    ) in notes(root)


def test_links_and_pipes_are_told(root: Path) -> None:
    touch(root, "1.jpg")
    (root / "round.jpg").symlink_to("round.jpg")
    (root / "zero.jpg").symlink_to("/dev/zero")
    assert notes(root) == [
        "1 link leads nowhere: round.jpg.",
        "1 entry is no file but a pipe or a device: zero.jpg.",
    ]


def test_very_long_names_are_shortened() -> None:
    assert len(named(["n" * 255])) == 60

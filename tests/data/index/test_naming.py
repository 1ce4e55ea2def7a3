import pytest

from byol.data.index.naming import is_of_masks, is_of_pictures, split_of


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", ["train", "Training", "TRAIN", "train2017", "training_set", "Train-Images", "trainset"]),
        ("val", ["val", "valid", "Validation", "dev", "val2017", "validation set", "eval"]),
        ("test", ["test", "Testing", "tests", "test_data", "TestSet", "held-out"]),
    ],
)
def test_splits_are_known_by_many_names(split: str, names: list[str]) -> None:
    assert {name: split_of(name) for name in names} == dict.fromkeys(names, split)


@pytest.mark.parametrize(
    "name", ["trains", "trainers", "tester", "valley", "devil", "2017", "images", "set", ""]
)
def test_other_names_are_no_splits(name: str) -> None:
    assert split_of(name) is None


def test_masks_and_pictures_are_known_by_their_names() -> None:
    assert all(
        map(is_of_masks, ["masks", "mask", "Labels", "GT", "ground_truth", "SegmentationMask", "annotations"])
    )
    assert all(map(is_of_pictures, ["images", "IMG", "JPEGImages", "rgb", "photos"]))
    assert not any(map(is_of_masks, ["cat", "images", "maskedowl", "glabel"]))
    assert not any(map(is_of_pictures, ["cat", "masks"]))

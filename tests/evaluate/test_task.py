import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.evaluate.conftest import MakeSet

from byol.errors import UserError
from byol.evaluate.task import open_task


def test_the_train_split_is_learned_from_and_the_test_split_judged(make_set: MakeSet) -> None:
    task = open_task(str(make_set(train=4, test=2)))
    assert task.classes == ("blue", "green", "red")
    assert len(task.train) == 12
    assert task.test is not None
    assert task.judged is task.test
    assert task.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert (task.metric, task.warnings) == ("top1", ())


def test_one_set_alone_is_judged_itself(make_set: MakeSet) -> None:
    task = open_task(str(make_set(test=0)))
    assert task.test is None
    assert task.judged is task.train


def test_the_judged_images_may_lie_elsewhere_and_their_classes_are_renumbered(make_set: MakeSet) -> None:
    task = open_task(
        str(make_set("a", test=0)), str(make_set("b", train=3, test=0, classes=("green", "red")))
    )
    assert task.test is not None
    assert task.test.labels.tolist() == [1, 1, 1, 2, 2, 2]
    assert "1 of 3 classes have no image to be judged: blue" in task.warnings[0]


def test_classes_of_unequal_size_are_judged_each_by_itself(make_set: MakeSet) -> None:
    folder = make_set()
    (folder / "test" / "red" / "00.png").unlink()
    assert open_task(str(folder)).metric == "mean_per_class"


def test_a_list_with_several_labels_is_judged_by_voc_map(make_set: MakeSet) -> None:
    folder = make_set()
    with (folder / "list.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "split", "labels"])
        for number, path in enumerate(sorted(folder.rglob("*.png"))):
            relative = path.relative_to(folder)
            rows.writerow([relative, relative.parts[0], "warm|red" if number % 2 else "cold"])
    task = open_task(str(folder / "list.csv"))
    assert task.metric == "voc_map"
    assert task.train.labels.shape == (60, 3)


def test_what_cannot_be_judged_is_said_in_a_sentence(make_set: MakeSet, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    shutil.copytree(make_set("x", test=0, classes=("red",)) / "red", flat)
    with pytest.raises(UserError, match=r"has no labels; put the images of each class"):
        open_task(str(flat))
    one = make_set("one", classes=("red",))
    (one / "list.csv").write_text("path,label\ntrain/red/00.png,red\ntrain/red/01.png,red\n")
    with pytest.raises(UserError, match=r"has the one class red to learn from; a classifier needs"):
        open_task(str(one / "list.csv"))
    few, more = make_set("few", test=0, classes=("green", "red")), make_set("more", test=0)
    with pytest.raises(UserError, match=r"1 classes that the images to learn from do not have: blue"):
        open_task(str(few), str(more))


def test_judged_images_that_are_also_learned_from_are_counted(make_set: MakeSet) -> None:
    folder = make_set()
    for i in range(3):
        shutil.copy(folder / "train" / "red" / f"0{i}.png", folder / "test" / "red" / f"copy{i}.png")
    assert (
        "3 of the 33 images to be judged are also among those to learn from"
        in open_task(str(folder)).warnings[0]
    )


def test_the_fingerprint_is_that_of_images_and_labels(make_set: MakeSet) -> None:
    folder = make_set()
    before = open_task(str(folder)).fingerprint
    assert open_task(str(folder)).fingerprint == before
    (folder / "test" / "red" / "00.png").rename(folder / "test" / "blue" / "99.png")
    assert open_task(str(folder)).fingerprint != before


def several_labels(folder: Path, labels: Callable[[int], str]) -> str:
    """Write a list beside the pictures in which an image has any number of labels."""
    with (folder / "several.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "split", "labels"])
        for number, path in enumerate(sorted(folder.rglob("*.png"))):
            relative = path.relative_to(folder)
            rows.writerow([relative, relative.parts[0], labels(number)])
    return str(folder / "several.csv")


def test_one_label_an_image_and_several_do_not_mix(make_set: MakeSet) -> None:
    one, other = str(make_set("one")), make_set("other")
    several = several_labels(other, lambda number: "red|blue" if number % 2 else "green")
    for data, test in ((one, several), (several, one)):
        with pytest.raises(
            UserError, match=r"one has one label an image and .*several.csv any number of them"
        ):
            open_task(data, test)


def test_judged_images_without_any_label_are_told(make_set: MakeSet) -> None:
    # 30 pictures of test/ come first in the order of their names.
    data = several_labels(make_set(), lambda number: "" if number < 30 else "red" if number % 2 else "blue")
    with pytest.raises(UserError, match="none of the 30 images to be judged has a label"):
        open_task(data)


def test_images_that_have_a_copy_beside_them_are_counted_where_all_judge_all(make_set: MakeSet) -> None:
    folder = make_set(train=4, test=0)
    assert open_task(str(folder)).warnings == ()
    for image in list((folder / "red").iterdir()):
        shutil.copy(image, image.with_name(f"copy of {image.name}"))
    (warning,) = open_task(str(folder)).warnings
    assert warning.startswith("8 of the 16 images have a copy among the others, byte for byte")


def test_the_cause_that_there_are_no_labels_is_named(make_set: MakeSet) -> None:
    folder = make_set(train=2, test=0)
    shutil.copy(folder / "red" / "00.png", folder / "overview.png")
    with pytest.raises(UserError, match=r"cannot be judged: there are no labels.*overview\.png lies beside"):
        open_task(str(folder))


def test_what_is_known_of_both_sets_comes_with_the_task(make_set: MakeSet) -> None:
    one, two = make_set("a", train=2, test=0), make_set("b", train=3, test=0, classes=("green", "red"))
    notes = open_task(str(one), str(two)).notes
    assert "3 classes: blue, green, red." in notes
    assert "2 classes: green, red." in notes

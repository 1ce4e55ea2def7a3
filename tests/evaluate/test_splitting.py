from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.evaluate.conftest import MakeSet

from byol.data.images import InMemory
from byol.errors import UserError
from byol.evaluate.splitting import draw_few, hold_out, listed
from byol.evaluate.task import Labelled, open_task


def labelled(counts: list[int]) -> Labelled:
    labels = np.repeat(np.arange(len(counts)), counts)
    images = torch.zeros(len(labels), 3, 1, 1, dtype=torch.uint8)
    return Labelled(
        InMemory(images, labels, tuple(map(str, range(len(counts))))), np.arange(len(labels)), labels
    )


@given(st.lists(st.integers(2, 30), min_size=1, max_size=5), st.floats(0.01, 0.99), st.integers(0, 9))
def test_held_out_images_are_a_fraction_of_each_class_and_no_others(
    counts: list[int], fraction: float, seed: int
) -> None:
    fit, held = hold_out(labelled(counts), fraction, seed)
    assert sorted([*fit.index, *held.index]) == list(range(sum(counts)))
    for label, count in enumerate(counts):
        assert (held.labels == label).sum() == min(max(1, round(fraction * count)), count - 1)
    assert np.array_equal(hold_out(labelled(counts), fraction, seed)[1].index, held.index)


def test_another_seed_holds_out_other_images() -> None:
    one, other = (hold_out(labelled([50, 50]), 0.2, seed)[1].index for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_classes_of_one_image_cannot_be_held_out() -> None:
    with pytest.raises(UserError, match="one to learn from and one to choose by"):
        hold_out(labelled([1, 1]), 0.5, 0)


@given(st.lists(st.integers(3, 400), min_size=2, max_size=5), st.floats(0.001, 1), st.integers(0, 9))
def test_few_labels_are_the_same_fraction_of_each_class_and_the_remedy_helps(
    counts: list[int], fraction: float, seed: int
) -> None:
    part, names = labelled(counts), [f"class{i}" for i in range(len(counts))]
    if any(round(fraction * count) < 2 for count in counts):
        with pytest.raises(UserError, match=r"use --fraction (0\.\d+|1) or more") as caught:
            draw_few(part, fraction, seed, names)
        fraction = float(str(caught.value).split("--fraction ")[1].split()[0])
    few = draw_few(part, fraction, seed, names)
    assert [(few.labels == i).sum() for i in range(len(counts))] == [
        round(fraction * count) for count in counts
    ]
    assert len(set(few.index)) == len(few)


def test_a_list_names_the_labelled_images(make_set: MakeSet, tmp_path: Path) -> None:
    part = open_task(str(make_set())).train
    names = tmp_path / "1percent.txt"
    names.write_text("red/00.png\ngreen/03.png\n")
    few = listed(part, names)
    assert [part.images.name(i) for i in few.index] == ["train/green/03.png", "train/red/00.png"]
    names.write_text("red/00.png\nred/77.png\n")
    with pytest.raises(
        UserError, match=r"names 1 images that are not in the training set, such as red/77.png"
    ):
        listed(part, names)
    with pytest.raises(UserError, match="there is no list"):
        listed(part, tmp_path / "none.txt")


def test_a_held_out_part_without_any_label_is_told() -> None:
    part = labelled([50, 50])
    labels = np.zeros((100, 2), np.int64)
    labels[0, 0] = 1
    with pytest.raises(UserError, match=r"of 100 images 10 are held out .* no label"):
        hold_out(Labelled(part.images, part.index, labels), 0.1, 0)


def test_a_list_of_one_class_is_refused(make_set: MakeSet, tmp_path: Path) -> None:
    part = open_task(str(make_set())).train
    names = tmp_path / "reds.txt"
    names.write_text("red/00.png\nred/03.png\n")
    with pytest.raises(UserError, match=r"reds.txt names images of one class alone"):
        listed(part, names)

import numpy as np
import torch

from byol.data import builtin
from byol.data.builtin import MOTIFS, draw


def test_the_same_seed_draws_the_same_images_and_another_others() -> None:
    images, labels = draw(50, seed=3)
    again, _ = draw(50, seed=3)
    other, _ = draw(50, seed=4)
    assert (images == again).all()
    assert (images != other).mean() > 0.9
    assert images.shape == (50, 3, 32, 32)
    assert images.dtype == np.uint8
    assert np.bincount(labels).tolist() == [5] * 10


def test_pixels_of_a_class_say_nothing_on_average() -> None:
    """Colors, places and rotations are free, so the mean image of every class is gray."""
    images, labels = draw(3000, seed=0)
    for label in range(10):
        mean = images[labels == label].mean(axis=0) / 255
        # 300 images with a standard deviation of about 0.3 per pixel: 0.017 each; 6 sigma of 3072 pixels.
        assert np.abs(mean - mean.mean()).max() < 0.11, list(MOTIFS)[label]


def test_contrast_between_paper_and_ink_is_kept() -> None:
    images, _ = draw(300, seed=0)
    luminance = np.tensordot(np.array([0.299, 0.587, 0.114]), images / 255, axes=(0, 1))
    spread = np.quantile(luminance, 0.95, axis=(1, 2)) - np.quantile(luminance, 0.05, axis=(1, 2))
    # Clipping to [0, 1] and noise take a little of the smallest contrast, 0.5.
    assert np.quantile(spread, 0.02) > 0.35


def test_every_motif_covers_a_part_of_the_plane() -> None:
    u, v = np.meshgrid(*[np.linspace(0, 3, 301, dtype=np.float32)] * 2)
    for name, motif in MOTIFS.items():
        share = (motif(u, v) < 0).mean()
        assert 0.05 < share < 0.6, name


def test_train_and_test_are_different_images() -> None:
    sets = builtin.open_builtin()
    assert (len(sets["train"]), len(sets["test"])) == (10_000, 2_000)
    assert sets["train"].classes == tuple(sorted(MOTIFS))
    seen = {image.numpy().tobytes() for image in sets["train"].images}
    assert not any(image.numpy().tobytes() in seen for image in sets["test"].images)
    assert isinstance(sets["train"].images, torch.Tensor)

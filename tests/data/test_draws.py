import numpy as np
import pytest
from numpy.typing import NDArray

from byol.data.draws import uniforms

N = 20_000
INDEX = np.arange(N)


def chi_square_excess(counts: NDArray[np.int64]) -> float:
    """By how many standard deviations the chi-square statistic of equally likely cells exceeds its mean."""
    expected = counts.sum() / counts.size
    freedom = counts.size - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom))


def splitmix(*words: int) -> float:
    """The same hash, spelled out in Python's unbounded integers."""
    state = 0
    for word in words:
        z = ((state ^ word) % 2**64 + 0x9E3779B97F4A7C15) % 2**64
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        state = z ^ (z >> 31)
    return (state >> 40) / 2**24


@pytest.mark.parametrize("seed", [0, 1, -1, 2**64 + 5, 123_456_789])
def test_numbers_equal_those_of_a_scalar_hash(seed: int) -> None:
    index = np.array([0, 1, 7, 2**40])
    drawn = uniforms(seed, 3, index, 1, 4)
    expected = [[splitmix(seed, 3, int(i), 1, column) for column in range(4)] for i in index]
    assert drawn.dtype == np.float32
    assert drawn.tolist() == expected  # 24 bits are exact in float32


def test_the_generator_is_splitmix64() -> None:
    # First output of the reference implementation (prng.di.unimi.it/splitmix64.c) for seed 1234567.
    assert splitmix(1234567) == (6457827717110365317 >> 40) / 2**24


def test_an_image_gets_the_same_numbers_in_any_batch() -> None:
    whole = uniforms(5, 9, INDEX[:100], 0, 15)
    assert np.array_equal(uniforms(5, 9, INDEX[40:50], 0, 15), whole[40:50])
    assert np.array_equal(uniforms(5, 9, INDEX[:100][::-1], 0, 15), whole[::-1])
    assert np.array_equal(uniforms(5, 9, INDEX[:100], 0, 3), whole[:, :3])


def test_numbers_are_uniform_in_every_column() -> None:
    drawn = uniforms(0, 0, INDEX, 0, 15)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    for column in drawn.T:
        assert chi_square_excess(np.histogram(column, bins=100, range=(0, 1))[0]) < 5


def test_each_of_the_24_bits_is_fair() -> None:
    bits = (uniforms(0, 0, INDEX, 0, 4) * 2**24).astype(np.int64)
    for bit in range(24):
        ones = ((bits >> bit) & 1).mean()
        assert abs(ones - 0.5) < 5 * 0.5 / np.sqrt(bits.size)


@pytest.mark.parametrize("coordinate", ["seed", "step", "index", "view", "column", "seed and step swapped"])
def test_neighbors_along_every_coordinate_are_independent(coordinate: str) -> None:
    here = uniforms(3, 4, INDEX, 0, 2)
    there = {
        "seed": uniforms(2, 4, INDEX, 0, 2)[:, 0],
        "step": uniforms(3, 5, INDEX, 0, 2)[:, 0],
        "index": uniforms(3, 4, INDEX + 1, 0, 2)[:, 0],
        "view": uniforms(3, 4, INDEX, 1, 2)[:, 0],
        "column": here[:, 1],
        "seed and step swapped": uniforms(4, 3, INDEX, 0, 2)[:, 0],
    }[coordinate]
    together = np.histogram2d(here[:, 0], there, bins=20, range=((0, 1), (0, 1)))[0]
    assert chi_square_excess(together.astype(np.int64)) < 5


def test_consecutive_steps_of_one_image_are_uniform_and_independent() -> None:
    one = np.array([17])
    series = np.concatenate([uniforms(0, step, one, 0, 1)[0] for step in range(N)])
    assert chi_square_excess(np.histogram(series, bins=100, range=(0, 1))[0]) < 5
    pairs = np.histogram2d(series[:-1], series[1:], bins=20, range=((0, 1), (0, 1)))[0]
    assert chi_square_excess(pairs.astype(np.int64)) < 5


def test_no_two_images_share_their_numbers() -> None:
    drawn = uniforms(0, 0, INDEX, 0, 3)
    assert len(np.unique(drawn, axis=0)) == N

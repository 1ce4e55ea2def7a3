"""Tests of paired differences against scipy, and resamples."""

import numpy as np
import pytest
from scipy.stats import binomtest

from byol.evaluate.statistics import beyond_zero, bootstrap, interval, sample_std, swap_test


@pytest.mark.parametrize(("gains", "losses"), [(10, 3), (3, 10), (50, 50), (200, 140), (1, 0)])
def test_the_swap_test_of_two_classifiers_is_that_of_mcnemar(gains: int, losses: int) -> None:
    gained = np.concatenate([np.ones(gains), -np.ones(losses), np.zeros(500)])
    # The binomial coefficients come from log-gamma, good to some 1e-12.
    assert swap_test(gained) == pytest.approx(binomtest(gains, gains + losses).pvalue, rel=1e-9)


def test_the_drawn_swap_test_agrees_with_the_exact_one() -> None:
    gained = np.concatenate([np.ones(60), -np.ones(40), np.full(1, 1e-9)])
    gained[-1] = 0.999  # of another size, so that swaps are drawn
    # 10,000 swaps know a p near 0.05 to 0.2 points; three of these.
    assert swap_test(gained) == pytest.approx(binomtest(61, 101).pvalue, abs=0.0066)


def test_no_difference_has_p_one() -> None:
    assert swap_test(np.zeros(10)) == 1.0
    assert swap_test(np.array([1.0, -1.0])) == 1.0


def test_resampling_repeats_with_its_seed_and_changes_with_another() -> None:
    values = np.random.default_rng(0).normal(size=400)
    once, again, other = (bootstrap(lambda i: float(values[i].mean()), 400, seed, 50) for seed in (0, 0, 1))
    assert (once == again).all()
    assert (once != other).any()


def test_resamples_of_which_a_number_is_not_defined_are_left_out() -> None:
    found = bootstrap(lambda i: 1.0 if (i == 0).any() else float("nan"), 20)
    assert set(found) == {1.0}
    assert len(found) == pytest.approx(2000 * (1 - (19 / 20) ** 20), rel=0.06)  # 3 sigma are 0.05


def test_an_interval_leaves_out_as_many_below_as_above() -> None:
    assert interval(np.arange(1001.0)) == (25.0, 975.0)


def test_the_rarer_side_of_zero_counts_twice() -> None:
    assert beyond_zero(np.array([-1.0] + 98 * [1.0])) == pytest.approx(2 * 2 / 100)
    assert beyond_zero(np.zeros(99)) == 1.0


def test_the_standard_deviation_is_that_of_a_sample() -> None:
    assert sample_std([1.0, 2.0, 4.0]) == pytest.approx(np.std([1, 2, 4], ddof=1))
    assert sample_std([1.0]) is None

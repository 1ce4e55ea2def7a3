import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from byol.data.image.preprocessing import Preprocessing
from byol.data.image.raw import RawPixels
from byol.data.image.views import TwoViews
from byol.data.images import InMemory
from byol.errors import UserError
from byol.evaluate.spread import feature_spread
from byol.evaluate.unlabelled import alignment, alpha_req, rankme, uniformity, unlabelled

MEASURES: list[Callable[[Tensor], float]] = [rankme, alpha_req, uniformity, lambda x: alignment(x, x.flip(0))]

PLAIN = Preprocessing(size=16).unnormalized()


def gaussian(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(size: int, seed: int) -> Tensor:
    orthogonal: Tensor = torch.linalg.qr(gaussian(size, size, seed))[0]
    return orthogonal


def with_eigenvalues(eigenvalues: Tensor, rows: int) -> Tensor:
    """Return centered features (rows, D) whose covariance has exactly these eigenvalues, up to a factor."""
    columns = gaussian(rows, len(eigenvalues))
    orthogonal: Tensor = torch.linalg.qr(columns - columns.mean(dim=0))[0]
    return orthogonal * eigenvalues.sqrt()


def images(num: int = 12) -> InMemory:
    random = np.random.default_rng(0)
    return InMemory(torch.from_numpy(random.integers(0, 256, (num, 3, 20, 24), dtype=np.uint8)))


def test_rankme_counts_equal_singular_values() -> None:
    for rank in (1, 3, 10):
        # The other columns' epsilons of 1e-7 add 32 * 1e-7 * log(1e7) = 5e-5 to the entropy.
        assert rankme(rotation(32, 0)[:rank].repeat(4, 1)) == pytest.approx(rank, rel=1e-4)
    # Singular values of 4,000 random rows spread by sqrt(64 / 4,000) about their mean, half of that in
    # standard deviation: the entropy loses half its square, 0.2 %.
    assert rankme(gaussian(4_000, 64)) == pytest.approx(64, rel=5e-3)


def test_rankme_is_the_papers_formula_on_numpys_singular_values() -> None:
    features = np.random.default_rng(0).normal(size=(20, 50)) * np.linspace(0.1, 2, 50) + 1
    singular = np.linalg.svd(features, compute_uv=False)
    shares = singular / singular.sum() + 1e-7
    expected = np.exp(-(shares * np.log(shares)).sum())
    # Float64; roots of the Gram matrix's eigenvalues lose half the digits at worst.
    assert rankme(torch.from_numpy(features)) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.5])
def test_alpha_of_an_exact_power_law_is_recovered(alpha: float) -> None:
    features = with_eigenvalues(torch.arange(1, 129, dtype=torch.float64) ** -alpha, 400)
    assert alpha_req(features) == pytest.approx(alpha, abs=1e-9)  # float64, eigenvalues down to 1e-5


def test_alpha_of_an_isotropic_gaussian_is_near_zero() -> None:
    # Eigenvalues of 20,000 x 128 noise fall from 1.16 to 0.85: over ranks 4 to 100,
    # log(1.14 / 0.9) / log(25) < 0.08.
    assert 0 < alpha_req(gaussian(20_000, 128)) < 0.08


def test_alpha_looks_at_ranks_4_to_100_alone() -> None:
    eigenvalues = torch.arange(1, 129, dtype=torch.float64) ** -1.0
    others = eigenvalues.clone()
    others[:3] = 50.0
    others[100:] = 1e-3
    assert alpha_req(with_eigenvalues(others, 400)) == pytest.approx(1.0, abs=1e-9)  # float64


def test_uniformity_by_hand() -> None:
    two = torch.tensor([[3.0, 0.0], [0.0, 0.1]])  # orthogonal: squared distance 2
    assert uniformity(two) == pytest.approx(-4.0, abs=1e-12)  # float64
    assert uniformity(two, t=0.5) == pytest.approx(-1.0, abs=1e-12)
    assert uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(-8.0, abs=1e-12)
    simplex = torch.eye(5, dtype=torch.float64) - 0.2  # five corners: squared distance 2 * 5 / 4
    assert uniformity(simplex) == pytest.approx(-5.0, abs=1e-12)
    assert uniformity(torch.zeros(3, 4)) == 0.0  # a row of zeros is at no distance from another


def test_uniformity_is_the_double_loop_across_chunks() -> None:
    features = gaussian(1_100, 6).float()  # more rows than are compared at once
    rows = (features.double() / features.double().norm(dim=1, keepdim=True)).numpy()
    sums = [np.exp(-2 * ((rows[i] - rows[i + 1 :]) ** 2).sum(1)).sum() for i in range(len(rows))]
    expected = math.log(math.fsum(sums) / (1_100 * 1_099 / 2))
    assert uniformity(features) == pytest.approx(expected, abs=1e-10)  # float64


def test_alignment_by_hand() -> None:
    features = gaussian(10, 4)
    assert alignment(features, 3 * features) == pytest.approx(0.0, abs=1e-15)  # float64
    eye = torch.eye(4)
    assert alignment(eye, eye.flip(0)) == pytest.approx(2.0, abs=1e-15)
    assert alignment(features, -features) == pytest.approx(4.0, abs=1e-12)


def test_a_collapsed_representation_is_told() -> None:
    collapsed = torch.ones(64, 32) + 1e-6 * gaussian(64, 32).float()
    # The other 31 singular values are 1e-6 of the first, each adding 1e-6 * log(1e6) to the entropy.
    assert rankme(collapsed) == pytest.approx(1.0, abs=1e-3)
    assert uniformity(collapsed) == pytest.approx(0.0, abs=1e-9)  # distances of some 1e-11
    assert rankme(torch.zeros(8, 4)) == pytest.approx(1.0, abs=1e-4)  # four epsilons
    assert alpha_req(torch.ones(8, 4)) == math.inf


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1_000), exponent=st.integers(-3, 3), rows=st.integers(10, 60))
def test_measures_depend_neither_on_scale_nor_on_rotation(seed: int, exponent: int, rows: int) -> None:
    features = gaussian(rows, 16, seed) * torch.arange(1, 17) + 1
    turned = 10.0**exponent * features @ rotation(16, seed + 1)
    for measure in MEASURES:
        # Float64; with 10 rows the smallest singular value is some 1e-2 of the largest, and is squared.
        assert measure(turned) == pytest.approx(measure(features), rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("measure", MEASURES)
def test_features_that_cannot_be_measured_are_refused(measure: Callable[[Tensor], float]) -> None:
    features = gaussian(10, 4)
    features[2, 1], features[5, 0], features[5, 3] = math.nan, math.inf, -math.inf
    with pytest.raises(UserError, match="2 of 10 rows"):
        measure(features)
    with pytest.raises(UserError, match="at least 2"):
        measure(features[:1])


def test_all_measures_of_an_encoder() -> None:
    found = unlabelled(RawPixels(), images(), PLAIN)
    assert found.num_images == 12
    assert 0 < found.alignment < 4
    assert -8 < found.uniformity < 0
    assert 1 < found.effective_rank <= 11
    assert 1 < found.rankme <= 12.01
    assert found == unlabelled(RawPixels(), images(), PLAIN)
    assert found.alignment != unlabelled(RawPixels(), images(), PLAIN, seed=1).alignment
    assert unlabelled(RawPixels(), images(), PLAIN, at_most=5).num_images == 5


def test_encode_is_shown_pixels_of_its_size_whatever_the_views_say() -> None:
    seen = []

    def encode(x: Tensor) -> Tensor:
        seen.append(x)
        return x.flatten(1)

    found = unlabelled(encode, images(600), replace(PLAIN, size=8), views=TwoViews(size=4))
    assert [len(x) for x in seen] == [512, 88, 512, 512]  # center crops; then whole batches of two views
    assert {x.shape[1:] for x in seen} == {(3, 8, 8)}
    assert all(x.min() >= 0 and x.max() <= 1 for x in seen)
    assert found.feature_spread == feature_spread(torch.cat(seen[:2]).flatten(1))


def test_an_encoder_that_fails_is_told_of() -> None:
    with pytest.raises(UserError, match="12 of 12 rows"):
        unlabelled(lambda x: x.flatten(1) * math.nan, images(), PLAIN)
    with pytest.raises(UserError, match="at least 2"):
        unlabelled(RawPixels(), images(1), PLAIN)

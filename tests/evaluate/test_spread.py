import numpy as np
import pytest
import torch

from byol.evaluate.spread import effective_rank, feature_spread


def test_spread_is_one_for_random_directions_and_zero_when_all_agree() -> None:
    random = torch.randn(20_000, 64, generator=torch.Generator().manual_seed(0))
    assert feature_spread(random) == pytest.approx(1.0, abs=0.01)  # 1 / sqrt(20,000) and a second-order term
    assert feature_spread(torch.ones(8, 64)) == pytest.approx(0.0, abs=1e-6)
    assert feature_spread(100 * random) == pytest.approx(feature_spread(random), rel=1e-5)


def test_effective_rank_counts_equal_directions() -> None:
    basis = torch.linalg.qr(torch.randn(32, 32, generator=torch.Generator().manual_seed(0)))[0]
    for rank in (1, 3, 10):
        # Plus and minus each direction: centered, with `rank` equal singular values.
        features = torch.cat([basis[:rank], -basis[:rank]])
        # Directions beyond the rank have eigenvalues of float32 rounding, about 1e-7: roots of 3e-4.
        assert effective_rank(features) == pytest.approx(rank, rel=2e-2)


def test_effective_rank_equals_the_definition_by_singular_values() -> None:
    features = np.random.default_rng(0).normal(size=(20, 50)) * np.linspace(0.1, 2, 50)
    singular = np.linalg.svd(features - features.mean(0), compute_uv=False)
    shares = singular[singular > 1e-9] / singular.sum()
    expected = np.exp(-(shares * np.log(shares)).sum())
    assert effective_rank(torch.from_numpy(features)) == pytest.approx(
        expected, rel=1e-3
    )  # float32 Gram matrix


def test_effective_rank_of_a_collapsed_batch_is_finite() -> None:
    assert 0.0 <= effective_rank(torch.ones(8, 4)) <= 1.0


def test_features_on_a_line_have_rank_one_also_when_there_are_many() -> None:
    """The products are summed in float64: float32 gave 1.36 for this."""
    line = torch.linspace(-1, 1, 4096)[:, None] * torch.linspace(0.5, 1, 2048)
    assert effective_rank(line) == pytest.approx(1.0, abs=1e-3)

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from byol.objective import regression_loss, unit


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 2**31))
def test_loss_is_two_minus_two_cosines_between_zero_and_four(batch: int, dim: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    p, z = random.normal(size=(2, batch, dim))
    cosine = (p * z).sum(1) / np.linalg.norm(p, axis=1) / np.linalg.norm(z, axis=1)
    loss = regression_loss(torch.from_numpy(p), torch.from_numpy(z))
    # Rounding of float64 over some dozen operations on numbers of order 1.
    np.testing.assert_allclose(loss.numpy(), 2 - 2 * cosine, atol=1e-13)
    assert ((loss >= 0) & (loss <= 4 + 1e-13)).all()


def test_loss_takes_its_extremes_on_equal_and_opposite_directions() -> None:
    x = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    assert regression_loss(x, 8 * x).item() == 0.0  # a power of two rounds nothing
    assert math.isclose(regression_loss(x, -x).item(), 4.0, rel_tol=1e-15)


def test_loss_of_bfloat16_is_computed_in_float32_and_survives_tiny_vectors() -> None:
    p = torch.full((1, 4), 1e-5, dtype=torch.bfloat16)
    loss = regression_loss(p, -p)
    assert loss.dtype == torch.float32
    assert math.isclose(loss.item(), 4.0, rel_tol=1e-6)  # float32 rounding


def test_a_zero_vector_gives_a_finite_loss_and_gradient() -> None:
    zero = torch.zeros(1, 3, requires_grad=True)
    loss = regression_loss(zero, torch.tensor([[1.0, 0.0, 0.0]]))
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 1.0
    assert zero.grad is not None
    assert zero.grad.isfinite().all()


def test_unit_leaves_directions_alone() -> None:
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(unit(x), x / x.norm(dim=1, keepdim=True))

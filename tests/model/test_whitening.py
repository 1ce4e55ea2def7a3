from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from byol.model.encoder import ConvNet
from byol.model.whitening import Whitening, has_whitening, unwhiten, whiten

FLOOR = 0.03


def rows(count: int = 200, size: int = 5) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(count, size, dtype=torch.float64) @ torch.randn(size, size, dtype=torch.float64) + 3


def test_until_it_is_set_it_changes_nothing() -> None:
    layer, x = Whitening(7), torch.randn(4, 7)
    assert torch.equal(layer(x), x)


@pytest.mark.parametrize("parts", [1, 3, 7])
def test_rows_are_then_centered_and_as_the_formula_says(parts: int) -> None:
    layer, x = Whitening(5).double().eval(), rows()
    whiten(layer, x.tensor_split(parts))
    # The slow way, in NumPy: each row through U diag(s + 0.03 mean(s))^(-1/2) U^T.
    values = x.numpy()
    covariance = np.cov(values.T, bias=True)
    s, u = np.linalg.eigh(covariance)
    root = u @ np.diag((s + FLOOR * s.mean()) ** -0.5) @ u.T
    wanted = (values - values.mean(axis=0)) @ root
    # float64 rounding, times a condition number of about 100
    np.testing.assert_allclose(layer(x).numpy(), wanted, rtol=1e-9, atol=1e-9)


def test_no_direction_then_has_more_variance_than_one_and_large_ones_have_nearly_that() -> None:
    layer, x = Whitening(4).double().eval(), rows(1000, 4)
    before = np.linalg.eigvalsh(np.cov(x.numpy().T, bias=True))
    whiten(layer, [x])
    found = np.linalg.eigvalsh(np.cov(layer(x).numpy().T, bias=True))
    np.testing.assert_allclose(found, np.sort(before / (before + FLOOR * before.mean())), rtol=1e-9)
    assert 0.95 < found[-1] <= 1


def test_fewer_images_than_directions_are_no_trouble() -> None:
    layer, x = Whitening(50).eval(), torch.randn(6, 50)
    whiten(layer, [x])
    assert layer(x).isfinite().all()
    # Along what no image filled the floor decides: a direction of variance 0 is divided by its root.
    assert torch.linalg.eigvalsh(layer.matrix.double()).max() < (FLOOR * x.var(dim=0).mean() / 2) ** -0.5


@pytest.mark.parametrize("x", [torch.ones(9, 3), torch.randn(1, 3), torch.empty(0, 3)])
def test_rows_that_do_not_differ_leave_it_as_it_is(x: Tensor) -> None:
    layer = Whitening(3).eval()
    whiten(layer, [x])
    assert torch.equal(layer.matrix, torch.eye(3))


def test_it_is_set_by_what_reaches_it_even_where_it_was_set_before() -> None:
    layer, x = Whitening(5).double().eval(), rows()
    whiten(layer, [x])
    first = layer(x).clone()
    whiten(layer, [x])
    assert torch.equal(layer(x), first)
    unwhiten(layer)
    assert torch.equal(layer(x), x)


def test_an_autocast_does_not_round_it() -> None:
    layer, x = Whitening(8).eval(), torch.randn(64, 8)
    whiten(layer, [x])
    wanted = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(x), wanted)


def test_networks_without_it_are_shown_no_image() -> None:
    def never() -> Iterator[Tensor]:
        pytest.fail("an image was asked for")
        yield torch.empty(0)

    network = ConvNet(widths=(4, 8)).build().eval()
    assert not has_whitening(network)
    whiten(network, never())


def test_a_network_that_fails_keeps_no_hook() -> None:
    network = nn.Sequential(Whitening(3), nn.Linear(1, 1)).eval()
    with pytest.raises(RuntimeError):
        whiten(network, [torch.randn(4, 3)])
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_a_small_network_ends_in_it_and_keeps_the_names_of_its_weights() -> None:
    plain, whitened = ConvNet(widths=(4, 8)), ConvNet(widths=(4, 8), representation="whitened")
    torch.manual_seed(0)
    a = plain.build().eval()
    torch.manual_seed(0)
    b = whitened.build().eval()
    assert set(b.state_dict()) - set(a.state_dict()) == {"last.mean", "last.matrix"}
    x = torch.randn(40, 3, 16, 16)
    assert torch.equal(a(x), b(x))
    whiten(b, [x])
    # float32, of some ten operations on numbers near 1
    torch.testing.assert_close(b(x).mean(dim=0), torch.zeros(8), rtol=0, atol=1e-5)

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from byol.optim import AdamW, Lars, LarsOptimizer, Sgd

Array = NDArray[np.float64]


def plain_lars(
    w: Array, g: Array, m: Array, *, lr: float, wd: float, trust: float, adapt: bool
) -> tuple[Array, Array]:
    """The official update of one parameter, written out."""
    if adapt:
        g = g + wd * w
        w_norm, g_norm = np.sqrt((w**2).sum()), np.sqrt((g**2).sum())
        g = g * (trust * w_norm / g_norm if w_norm > 0 and g_norm > 0 else 1.0)
    m = 0.9 * m + g
    return w - lr * m, m


def test_lars_equals_the_official_update_with_exclusions_over_many_steps() -> None:
    random = np.random.default_rng(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)).double()
    optimizer = Lars(base_lr=1.0, weight_decay=1e-2, trust=1e-3).build(network)
    plain = [p.detach().numpy().copy() for p in network.parameters()]
    momenta = [np.zeros_like(p) for p in plain]
    for step in range(5):
        lr = 0.3 + 0.1 * step
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = lr
        for i, p in enumerate(network.parameters()):
            gradient = random.normal(size=p.shape)
            p.grad = torch.from_numpy(gradient)
            plain[i], momenta[i] = plain_lars(
                plain[i], gradient, momenta[i], lr=lr, wd=1e-2, trust=1e-3, adapt=p.ndim > 1
            )
        optimizer.step()
    for p, expected in zip(network.parameters(), plain, strict=True):
        # Five updates of float64 numbers of order 1, with norms summed in another order.
        np.testing.assert_allclose(p.detach().numpy(), expected, rtol=0, atol=1e-13)


def test_weights_and_gradients_of_zero_move_by_the_plain_gradient() -> None:
    w = nn.Parameter(torch.zeros(2, 2))
    w.grad = torch.ones(2, 2)
    LarsOptimizer([w], lr=0.5).step()
    assert (w == -0.5).all()
    w.grad = torch.zeros(2, 2)
    before = w.detach().clone()
    LarsOptimizer([w], lr=0.5).step()
    assert torch.equal(w, before)


def test_learning_rate_stays_outside_the_momentum() -> None:
    w = nn.Parameter(torch.zeros(1, 1))
    optimizer = LarsOptimizer([w], lr=1.0, trust=None)
    w.grad = torch.ones(1, 1)
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step()
    assert w.item() == -1.0
    # 0.9 * 0.9 + 0.9 + 1 of float32, had a decayed lr been inside, would be smaller.
    assert optimizer.state[w]["momentum"].item() == pytest.approx(1.9)


@pytest.mark.parametrize("spec", [Lars(), Sgd(), AdamW()], ids=lambda spec: str(spec.kind))
def test_one_dimensional_parameters_take_no_weight_decay(spec: Lars | Sgd | AdamW) -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    decayed, spared = spec.build(network).param_groups
    assert [p.ndim for p in decayed["params"]] == [2]
    assert [p.ndim for p in spared["params"]] == [1, 1, 1]
    assert (decayed["weight_decay"], spared["weight_decay"]) == (spec.weight_decay, 0.0)


def test_state_survives_saving() -> None:
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    first = Lars().build(network)
    for p in network.parameters():
        p.grad = torch.randn_like(p)
    first.step()
    second = Lars().build(network)
    second.load_state_dict(first.state_dict())
    for p in network.parameters():
        assert torch.equal(first.state[p]["momentum"], second.state[p]["momentum"])


@pytest.mark.parametrize("spec", [Lars(), Sgd(), AdamW()], ids=lambda spec: str(spec.kind))
def test_a_closure_computes_the_gradients_first(spec: Lars | Sgd | AdamW) -> None:
    """Lightning's loop steps in this way."""
    weights = []
    for is_closure in (False, True):
        torch.manual_seed(0)
        layer, inputs = nn.Linear(3, 2), torch.randn(4, 3)
        optimizer = spec.build(layer)
        for group in optimizer.param_groups:
            group["lr"] = 0.1

        def loss(layer: nn.Linear = layer, inputs: torch.Tensor = inputs) -> float:
            value = layer(inputs).square().mean()
            value.backward()
            return float(value.detach())

        if is_closure:
            assert optimizer.step(loss) > 0
        else:
            loss()
            optimizer.step()
        weights.append(layer.weight)
    assert torch.equal(*weights)

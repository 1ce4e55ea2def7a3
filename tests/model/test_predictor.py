"""Predictors beside the paper's, against NumPy and against what was published."""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from byol.algorithm import Online, bootstrap_step
from byol.errors import UserError
from byol.model.head import Mlp, SimSiamProjector
from byol.model.predictor import (
    DirectCopy,
    DirectCopyPredictor,
    DirectPred,
    DirectPredictor,
    LinearPredictor,
    NoPredictor,
    OptimalLinear,
    SimSiamPredictor,
    SymmetricLinear,
    spectral_norm,
)
from byol.model.target import Ema
from byol.objective import regression_loss, unit
from byol.optim import Sgd

Array = NDArray[np.float64]
P = 8
PRECISIONS = pytest.mark.parametrize(
    ("dtype", "tolerance"),
    # Products and an eigen-decomposition of 8 by 8 numbers of order 1 lose about one digit of 1e-7 or 1e-16.
    [(torch.float32, 1e-6), (torch.float64, 1e-12)],
)


def projections(step: int, batch: int = 32, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Projections of two views whose directions matter less and less: eigenvalues well apart."""
    random = torch.Generator().manual_seed(step)
    mixing = torch.linalg.qr(torch.randn(P, P, generator=torch.Generator().manual_seed(99))).Q
    z = torch.randn(2, batch, P, generator=random) * 0.7 ** torch.arange(P)
    first, second = (z @ mixing).to(dtype)
    return [first, second]


def average(batches: list[list[Tensor]], rho: float) -> Array:
    """F after some batches: the first one stands for all before it."""
    f = None
    for batch in batches:
        rows = np.concatenate([view.numpy().astype(np.float64) for view in batch])
        new = rows.T @ rows / len(rows)
        f = new if f is None else rho * f + (1 - rho) * new
    return np.asarray(f)


def tasks(online: list[Tensor], targets: list[Tensor] | None = None) -> list[tuple[Tensor, list[Tensor]]]:
    """Each view predicts the targets of the others."""
    targets = online if targets is None else targets
    return [(z, [t for j, t in enumerate(targets) if j != i]) for i, z in enumerate(online)]


def direct_pred(f: Array, epsilon: float) -> Array:
    """DirectPred's matrix as its authors' code has it."""
    s, u = np.linalg.eigh(f)
    p = np.maximum(np.sqrt(np.maximum(s, 0) / s.max()) + epsilon, 1e-4)
    return np.asarray((u * p) @ u.T)


@PRECISIONS
@pytest.mark.parametrize("epsilon", [0.1, 0.0])
def test_directpred_of_batch_four_comes_from_the_three_before(
    dtype: torch.dtype, tolerance: float, epsilon: float
) -> None:
    batches = [projections(step, dtype=dtype) for step in range(4)]
    predictor = DirectPred(rho=0.3, epsilon=epsilon).build(P).to(dtype)
    for batch in batches:
        predictor.fit(tasks(batch, batch))
    expected = direct_pred(average(batches[:3], 0.3), epsilon)
    np.testing.assert_allclose(predictor.weight.detach().numpy(), expected, rtol=0, atol=tolerance)


def test_directpred_is_the_identity_for_one_batch_and_is_set_from_the_first_for_the_second() -> None:
    predictor = DirectPred().build(P).double()
    predictor.fit(tasks(projections(0)))
    assert torch.equal(predictor.weight, torch.eye(P, dtype=torch.float64))
    assert torch.equal(predictor(projections(5)[0]), projections(5)[0])
    predictor.fit(tasks(projections(1)))
    expected = direct_pred(average([projections(0)], 0.3), 0.1)
    np.testing.assert_allclose(predictor.weight.detach().numpy(), expected, rtol=0, atol=1e-12)


def test_directpred_is_symmetric_and_shares_its_eigenvectors_with_the_correlation() -> None:
    predictor = DirectPred(epsilon=0.05).build(P).double()
    for step in range(3):
        predictor.fit(tasks(projections(step)))
    w, f = predictor.closed_form(), predictor.correlation
    torch.testing.assert_close(w, w.T, rtol=0, atol=1e-14)  # U p U^T in float64, summed in one order
    torch.testing.assert_close(w @ f, f @ w, rtol=0, atol=1e-14)  # they commute
    s = torch.linalg.eigvalsh(f)
    expected = (s / s[-1]).sqrt() + 0.05
    torch.testing.assert_close(torch.linalg.eigvalsh(w), expected, rtol=0, atol=1e-12)


def test_directpred_has_a_floor_where_the_correlation_has_no_rank() -> None:
    """Two images and two views: rank 4 of 8. Rounding makes some of the other eigenvalues negative."""
    predictor = DirectPred(epsilon=0.0).build(P).double()
    predictor.fit(tasks(projections(0, batch=2)))
    values = torch.linalg.eigvalsh(predictor.closed_form())
    # Eigenvalues of 1e-16 instead of 0 have roots of 1e-8.
    torch.testing.assert_close(values[:4], torch.full_like(values[:4], 1e-4), rtol=0, atol=1e-7)


def test_directpred_of_projections_that_are_zero_is_finite() -> None:
    predictor = DirectPred(epsilon=0.1).build(P)
    predictor.fit(tasks([torch.zeros(4, P)]))
    torch.testing.assert_close(predictor.closed_form(), 0.1 * torch.eye(P))


def test_directpred_differs_from_equation_18_in_the_floor_alone() -> None:
    """Eq. 18, sqrt(s) + epsilon max s, is up to scale the code with epsilon sqrt(max s) for epsilon."""
    epsilon, z = 0.1, projections(9)[0]
    s, u = np.linalg.eigh(average([projections(0)], 0.3))
    published = torch.from_numpy((u * (np.sqrt(s) + epsilon * s.max())) @ u.T)
    assert abs(s.max() - 1) > 0.1  # at 1 the two would be one
    directions = {}
    for floor in (epsilon, epsilon * np.sqrt(s.max())):
        predictor = DirectPred(epsilon=floor).build(P).double()
        predictor.fit(tasks(projections(0)))
        directions[floor] = unit(z @ predictor.closed_form())
    same, other = directions[epsilon * np.sqrt(s.max())], directions[epsilon]
    torch.testing.assert_close(unit(z @ published), same, rtol=0, atol=1e-12)
    assert not torch.allclose(unit(z @ published), other, rtol=0, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(log_scale=st.floats(-3, 3), seed=st.integers(0, 1000))
def test_the_scale_of_the_matrix_reaches_neither_loss_nor_gradient(log_scale: float, seed: int) -> None:
    z, target = projections(seed, batch=4)
    w = DirectPred().build(P).double()
    w.fit(tasks(projections(seed + 1)))
    matrix, found = w.closed_form(), []
    for scale in (1.0, 10.0**log_scale):
        z = z.detach().requires_grad_()
        loss = regression_loss(z @ (scale * matrix), target)
        found.append((loss.detach(), *torch.autograd.grad(loss.sum(), z)))
    for a, b in zip(*found, strict=True):
        # float64: rounding of a scaled product, over |Wz| that may be a hundredth.
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def learn(predictor: DirectPred, steps: int, predictor_lr: float) -> list[Tensor]:
    """Return the matrix after every step, the first before all of them."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU())
    online = Online(encoder, Mlp(hidden=16, out=P).build(16), predictor.build(P)).double().train()
    target, optimizer = Ema().build(online).train(), Sgd(momentum=0.0, weight_decay=0.0).build(online)
    assert isinstance(online.predictor, DirectPredictor)
    weights = [online.predictor.weight.detach().clone()]
    for _ in range(steps):
        pair = torch.randn(2, 16, 6, dtype=torch.float64).unbind()
        bootstrap_step(online, target, optimizer, pair, 0.1, 0.9, predictor_lr=predictor_lr)
        weights.append(online.predictor.weight.detach().clone())
    return weights


def test_directpred_every_five_is_set_at_multiples_of_five_alone() -> None:
    weights = learn(DirectPred(every=5), 12, predictor_lr=0.0)
    changed = [step for step, (a, b) in enumerate(pairwise(weights)) if not torch.equal(a, b)]
    assert changed == [5, 10]


def test_directpred_every_five_is_learnt_in_between() -> None:
    weights = learn(DirectPred(every=5), 12, predictor_lr=0.1)
    assert not any(torch.equal(a, b) for a, b in pairwise(weights))


def test_directpred_every_one_is_no_part_of_the_optimiser_and_every_five_is() -> None:
    for every, is_learnt in ((1, False), (5, True)):
        online = Online(nn.Linear(6, P), Mlp(hidden=4, out=P).build(P), DirectPred(every=every).build(P))
        groups = Sgd().build(online).param_groups
        assert ("predictor" in [group["part"] for group in groups]) is is_learnt


@pytest.mark.parametrize("spec", [DirectPred(), DirectPred(every=2), DirectCopy()])
def test_a_restored_matrix_goes_on_bit_for_bit(spec: DirectPred | DirectCopy, tmp_path: Path) -> None:
    predictor, other = spec.build(P), spec.build(P)
    for step in range(3):
        predictor.fit(tasks(projections(step, dtype=torch.float32)))
    torch.save(predictor.state_dict(), tmp_path / "state")
    other.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    for step in range(3, 6):
        for each in (predictor, other):
            each.fit(tasks(projections(step, dtype=torch.float32)))
        assert torch.equal(predictor.weight, other.weight)
        assert torch.equal(predictor.correlation, other.correlation)


@PRECISIONS
def test_directcopy_is_the_correlation_over_its_spectral_norm(dtype: torch.dtype, tolerance: float) -> None:
    batches = [projections(step, dtype=dtype) for step in range(4)]
    predictor = DirectCopy(rho=0.5, epsilon=0.3).build(P).to(dtype)
    for batch in batches:
        predictor.fit(tasks(batch, batch))
    f = average(batches[:3], 0.5)
    expected = f / np.linalg.norm(f, 2) + 0.3 * np.eye(P)
    np.testing.assert_allclose(predictor.weight.detach().numpy(), expected, rtol=0, atol=tolerance)
    assert isinstance(predictor, DirectCopyPredictor)
    assert not predictor.weight.requires_grad


@pytest.mark.parametrize("second", [0.0, 0.5, 0.8, 0.99])
def test_the_spectral_norm_stays_below_the_largest_eigenvalue_and_comes_as_near_as_it_says(
    second: float,
) -> None:
    turn = torch.linalg.qr(torch.randn(P, P, generator=torch.Generator().manual_seed(0)).double()).Q
    values = torch.tensor([1.0, second, *[0.1] * (P - 2)], dtype=torch.float64)
    error = 1 - spectral_norm((turn * values) @ turn.T).item()
    # After five squarings the second eigenvector's share is second^32, and it counts squared in the quotient.
    assert -1e-13 < error < min(10 * second**64, 1 - second) + 1e-13


def test_the_spectral_norm_is_not_misled_by_a_large_entry_that_is_no_part_of_it() -> None:
    apart = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.9, 0.5], [0.0, 0.5, 0.9]], dtype=torch.float64)
    assert spectral_norm(apart).item() == pytest.approx(1.4, rel=1e-9)  # (1 / 1.4)^64 = 4e-10


def test_after_a_full_collapse_the_predictor_is_a_multiple_of_the_identity_and_no_nan() -> None:
    for spec in (DirectCopy(epsilon=0.3), DirectPred(epsilon=0.3)):
        predictor = spec.build(P)
        for _ in range(2):
            predictor.fit(tasks([torch.zeros(8, P)]))
        # float32's own spacing: eigenvectors of the zero matrix are the unit vectors up to rounding.
        torch.testing.assert_close(predictor.weight.detach(), 0.3 * torch.eye(P), rtol=1e-6, atol=1e-6)


def fitted(batch: int, dtype: torch.dtype) -> tuple[nn.Module, list[Tensor], list[Tensor]]:
    """An optimal predictor with the projections and the targets that it was fitted to."""
    online, targets = projections(0, batch, dtype), projections(1, batch, dtype)
    predictor = OptimalLinear().build(P).to(dtype)
    predictor.fit(tasks(online, targets))
    return predictor, online, targets


# Normal equations square the condition, here 12^2 = 150: two digits of 1e-7 or 1e-16 more.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-12)])
def test_the_optimal_predictor_is_least_squares_on_unit_targets(dtype: torch.dtype, tolerance: float) -> None:
    predictor, (z_1, z_2), (t_1, t_2) = fitted(64, dtype)
    inputs = np.concatenate([z_1.numpy(), z_2.numpy()]).astype(np.float64)
    targets = np.concatenate([t_2.numpy(), t_1.numpy()]).astype(np.float64)  # of the other view
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    expected = np.linalg.lstsq(inputs, targets)[0].T
    assert isinstance(predictor.weight, Tensor)
    np.testing.assert_allclose(predictor.weight.numpy(), expected, rtol=0, atol=tolerance)


def test_no_change_of_the_optimal_predictor_lowers_the_squared_error() -> None:
    predictor, (z_1, z_2), (t_1, t_2) = fitted(64, torch.float64)
    inputs, targets = torch.cat([z_1, z_2]), unit(torch.cat([t_2, t_1]))
    w = predictor.weight
    assert isinstance(w, Tensor)

    def error(matrix: Tensor) -> float:
        return (inputs @ matrix.T - targets).square().sum().item()

    random = torch.Generator().manual_seed(2)
    for size in (1e-3, 1e-1):
        for _ in range(20):
            step = size * torch.randn(P, P, generator=random, dtype=torch.float64)
            assert error(w + step) > error(w)


@pytest.mark.parametrize(("batch", "is_perfect"), [(2, True), (4, True), (64, False)])
def test_the_optimal_predictor_leaves_nothing_to_learn_where_the_batch_is_small(
    batch: int, is_perfect: bool
) -> None:
    """Two views of B images are 2B rows: up to P of them are fitted without error."""
    predictor, (z_1, z_2), (t_1, t_2) = fitted(batch, torch.float64)
    loss = (regression_loss(predictor(z_1), t_2) + regression_loss(predictor(z_2), t_1)).mean()
    # Rounding of 1e-16 times a squared condition number of some thousands, and squared once more.
    assert loss < 1e-18 if is_perfect else loss > 0.1


def test_a_symmetric_predictor_is_symmetric_and_so_is_its_gradient() -> None:
    torch.manual_seed(0)
    predictor = SymmetricLinear().build(P).double()
    (weight,) = predictor.parameters()
    assert not torch.allclose(weight, weight.T)
    matrix = predictor(torch.eye(P, dtype=torch.float64))
    assert torch.equal(matrix, matrix.T)
    z, target = projections(0)
    torch.autograd.backward(regression_loss(predictor(z), target).mean())
    assert weight.grad is not None
    assert weight.grad.abs().max() > 1e-3
    assert torch.equal(weight.grad, weight.grad.T)


def test_a_linear_predictor_is_one_matrix() -> None:
    (weight,) = LinearPredictor().build(P).parameters()
    assert weight.shape == (P, P)


def test_no_predictor_is_the_identity_and_holds_nothing() -> None:
    predictor, z = NoPredictor().build(P), projections(0)[0]
    assert predictor(z) is z
    assert predictor.state_dict() == {}


def layers(head: nn.Module) -> list[str]:
    """Layers in words, with what the published code chooses in them."""
    words = []
    for layer in head.children():
        if isinstance(layer, nn.Linear):
            words.append(
                f"{layer.in_features} to {layer.out_features}{'' if layer.bias is None else ' + bias'}"
            )
        elif isinstance(layer, nn.BatchNorm1d):
            words.append(f"norm {layer.num_features}{' affine' if layer.affine else ''}")
        else:
            words.append(type(layer).__name__)
    return words


def test_simsiams_heads_are_the_published_ones() -> None:
    """`simsiam/builder.py:28-42`, with ResNet-50's 2048 numbers."""
    assert layers(SimSiamProjector().build(2048)) == [
        *("2048 to 2048", "norm 2048 affine", "ReLU"),
        *("2048 to 2048", "norm 2048 affine", "ReLU"),
        *("2048 to 2048", "norm 2048"),
    ]
    assert layers(SimSiamPredictor().build(2048)) == [
        *("2048 to 512", "norm 512 affine", "ReLU"),
        "512 to 2048 + bias",
    ]


def test_simsiams_heads_for_small_images_keep_the_width_of_the_encoder() -> None:
    projector = SimSiamProjector(layers=2, out=P).build(12)
    assert layers(projector) == ["12 to 12", "norm 12 affine", "ReLU", "12 to 8", "norm 8"]
    assert projector(torch.randn(4, 12)).shape == (4, P)
    assert SimSiamPredictor(hidden=2).build(P)(torch.randn(4, P)).shape == (4, P)


def test_what_lies_outside_its_range_is_refused() -> None:
    for spec in (DirectPred, DirectCopy):
        for rho in (-0.1, 1.0, float("nan")):
            with pytest.raises(UserError, match=f"predictor.rho is {rho}"):
                spec(rho=rho)
        with pytest.raises(UserError, match=r"predictor\.epsilon is -0\.1"):
            spec(epsilon=-0.1)
    with pytest.raises(UserError, match=r"predictor\.every is 0"):
        DirectPred(every=0)


def matrices(share: slice) -> list[Tensor]:
    """The matrices, and the averages behind them, that three predictors reach on a share of each batch."""
    found = []
    for spec in (DirectPred(), DirectCopy(), OptimalLinear()):
        predictor = spec.build(P).double()
        for step in range(3):
            online = [z[share] for z in projections(step)]
            targets = [z[share] for z in projections(step + 10)]
            predictor.fit(tasks(online, targets))
        found += [t.detach() for t in (predictor.weight, *predictor.buffers())]
    return found


def one_of_two(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(matrices(slice(16 * rank, 16 * rank + 16)), f"{folder}/{rank}")
    torch.distributed.destroy_process_group()


def test_two_processes_with_half_of_the_batch_reach_the_matrix_of_one_with_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(__file__).parents[2]  # the processes import this file by its name from there
    monkeypatch.setattr(sys, "path", [*sys.path, str(root)])
    spawn(one_of_two, (str(tmp_path),), nprocs=2)  # type: ignore[no-untyped-call]
    whole = matrices(slice(None))
    for rank in range(2):
        for half, all_of_it in zip(torch.load(tmp_path / str(rank)), whole, strict=True):
            # Means of means in float64; least squares lose two digits more, in numbers of order 1.
            torch.testing.assert_close(half, all_of_it, rtol=0, atol=1e-12)

"""The step against an independent one in NumPy; gradient accumulation; the loss weight."""

import copy
from typing import get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.reference_step import Array, Arrays, Departure, State, reference_step
from torch import Tensor, nn

from byol.algorithm import Online, bootstrap_losses, bootstrap_step
from byol.model.head import Mlp
from byol.model.norm import BatchNorm, NoNorm
from byol.model.target import Ema, EmaTarget
from byol.optim import Lars, Sgd
from byol.training.classifier import OnlineClassifier

LEARNING_RATES = (0.7, 1.3, 2.1)
TAUS = (0.9, 0.96, 0.99)
BATCH, CLASSES = 12, 5


class Trained:
    """Our step and its classifier, in float64, from weights that are nowhere 0, xi apart from theta."""

    def __init__(self, weight_decay: float) -> None:
        torch.manual_seed(0)
        encoder = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        projector, predictor = Mlp(hidden=16, out=7).build(8), Mlp(hidden=10, out=7).build(7)
        self.online = Online(encoder, projector, predictor).double().train()
        perturb(self.online)
        self.target = Ema().build(self.online).train()
        perturb(self.target)
        spec = Lars(base_lr=0.2, weight_decay=weight_decay)
        self.optimizer = spec.build(self.online)
        self.classifier = OnlineClassifier(8, CLASSES, spec).double()
        perturb(self.classifier)

    def step(
        self, views: tuple[Array, Array], labels: NDArray[np.int64], lr: float, tau: float
    ) -> tuple[float, float]:
        tensors = [torch.from_numpy(view) for view in views]
        result = bootstrap_step(self.online, self.target, self.optimizer, tensors, lr, tau)
        watched = self.classifier.step(result.branch.representation, torch.from_numpy(labels), lr)
        return result.loss.item(), watched.item()

    def state(self) -> State:
        """Copy all of it into the reference's form."""
        networks = (self.online, self.classifier)
        theta = {_reference_name(name): p for network in networks for name, p in network.named_parameters()}
        moved = {**self.optimizer.state, **self.classifier.optimizer.state}
        return State(
            theta=arrays(theta),
            xi=arrays(dict(self.target.named_parameters())),
            theta_statistics=arrays(_statistics(self.online)),
            xi_statistics=arrays(_statistics(self.target)),
            momentum=arrays(
                {name: moved.get(p, {"momentum": 0 * p})["momentum"] for name, p in theta.items()}
            ),
        )


def perturb(network: nn.Module) -> None:
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn_like(p))


def arrays(tensors: dict[str, Tensor] | dict[str, nn.Parameter]) -> Arrays:
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}


def _reference_name(name: str) -> str:
    return name.replace("linear.", "classifier.0.")


def _statistics(network: nn.Module) -> dict[str, Tensor]:
    return {name: b for name, b in network.named_buffers() if "num_batches" not in name}


def three_batches() -> list[tuple[tuple[Array, Array], NDArray[np.int64]]]:
    random = np.random.default_rng(0)
    batches = []
    for _ in range(3):
        images, noise = random.normal(size=(BATCH, 3, 6, 6)), random.normal(size=(2, BATCH, 3, 6, 6))
        # Views of different brightness, so that the batch statistics of one are not those of the other.
        views = images + 0.5 * noise[0], 0.7 * images + 0.5 * noise[1] + 0.4
        batches.append((views, random.integers(0, CLASSES, BATCH)))
    return batches


@pytest.mark.parametrize("weight_decay", [1.5e-6, 0.05])
def test_three_steps_equal_an_independent_implementation_in_numpy(weight_decay: float) -> None:
    """Ours moves the classifier apart, the reference by one loss and one optimizer, as officially."""
    trained = Trained(weight_decay)
    reference = trained.state()
    for (views, labels), lr, tau in zip(three_batches(), LEARNING_RATES, TAUS, strict=True):
        losses = trained.step(views, labels, lr, tau)
        expected = reference_step(reference, views, labels, lr=lr, tau=tau, weight_decay=weight_decay)
        # float64 rounds at 1e-16, sums here have up to 432 terms, batch norm and the trust ratio divide by
        # small numbers, and three steps feed one another: 7e-14 was seen, 1e-9 leaves room for other CPUs.
        assert losses == pytest.approx(expected, rel=1e-9)
        ours = vars(trained.state())
        for kind, group in vars(reference).items():
            assert ours[kind].keys() == group.keys()
            for name, array in group.items():
                # A bias before a batch norm has no gradient: its momentum is rounding, about 1e-15, with no
                # digit in common. Hence the absolute 1e-12.
                tolerance = 1e-9 * np.abs(array).max() + 1e-12
                np.testing.assert_allclose(
                    ours[kind][name], array, rtol=0, atol=tolerance, err_msg=f"{kind} {name}"
                )


@pytest.mark.parametrize("departure", get_args(Departure))
def test_three_steps_tell_every_departure_from_the_published_step(departure: Departure) -> None:
    """The published weight decay of 1.5e-6 would hide where it stands in LARS; here it is 0.05."""
    trained = Trained(weight_decay=0.05)
    reference = trained.state()
    for (views, labels), lr, tau in zip(three_batches(), LEARNING_RATES, TAUS, strict=True):
        trained.step(views, labels, lr, tau)
        reference_step(reference, views, labels, lr=lr, tau=tau, weight_decay=0.05, departure=departure)
    ours = trained.state()
    apart = max(
        np.abs(ours_group[name] - array).max()
        for ours_group, group in ((ours.theta, reference.theta), (ours.xi, reference.xi))
        for name, array in group.items()
    )
    # Rounding made 2e-14, the least of the departures (where the weight decay stands) 3e-4.
    assert apart < 1e-9 if departure == "none" else apart > 1e-6


def test_every_forward_pass_counts_in_the_running_statistics_two_a_step() -> None:
    trained = Trained(weight_decay=0.0)
    for views, labels in three_batches():
        trained.step(views, labels, 0.1, 0.9)
    for network, layers in ((trained.online, 4), (trained.target, 3)):
        counts = [b.item() for name, b in network.named_buffers() if "num_batches" in name]
        assert counts == [6] * layers


def small(norm: BatchNorm | NoNorm = BatchNorm()) -> tuple[Online, EmaTarget]:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(6, 16), norm.after_linear(16), nn.ReLU())
    head = Mlp(hidden=16, out=8, norm=norm)
    online = Online(encoder, head.build(16), head.build(8)).double().train()
    target = Ema().build(online).train()
    perturb(target)
    return online, target


def pair(batch: int = 16) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(2)
    first, second = torch.randn(2, batch, 6, generator=random, dtype=torch.float64)
    return first, second


def assert_same(ours: nn.Module, expected: nn.Module) -> None:
    for (name, a), b in zip(ours.state_dict().items(), expected.state_dict().values(), strict=True):
        # Gradients of order 1 in float64, summed in another order, and one step: 1e-12 leaves four digits.
        assert torch.allclose(a, b, rtol=0, atol=1e-12), name


@pytest.mark.parametrize("spec", [Lars(), Sgd()], ids=lambda spec: str(spec.kind))
def test_two_micro_batches_equal_the_mean_of_two_gradients_and_one_step(spec: Lars | Sgd) -> None:
    online, target = small()
    by_hand, its_target = copy.deepcopy((online, target))
    views = pair()
    loss = bootstrap_step(online, target, spec.build(online), views, 0.7, 0.9, micro_batches=2).loss

    gradients, losses = [], []
    for half in (slice(0, 8), slice(8, 16)):
        part = [view[half] for view in views]
        of_half = torch.stack([loss for loss, _ in bootstrap_losses(by_hand, its_target, part)]).sum(0).mean()
        gradients.append(torch.autograd.grad(of_half, list(by_hand.parameters())))
        losses.append(of_half.item())
    for p, first, second in zip(by_hand.parameters(), *gradients, strict=True):
        p.grad = (first + second) / 2
    optimizer = spec.build(by_hand)
    for group in optimizer.param_groups:
        group["lr"] = 0.7
    optimizer.step()
    its_target.update(by_hand, 0.9)

    assert loss.item() == pytest.approx(sum(losses) / 2, rel=1e-14)  # float64, another order of summation
    assert_same(online, by_hand)
    assert_same(target, its_target)


@pytest.mark.parametrize(("batch", "micro_batches"), [(16, 2), (16, 4), (10, 4)])
def test_without_batch_norm_micro_batches_change_nothing(batch: int, micro_batches: int) -> None:
    """Ten images make parts of 3, 3, 3 and 1: each weighs by its images."""
    whole, its_target = small(NoNorm())
    parts, their_target = small(NoNorm())
    one = bootstrap_step(whole, its_target, Lars().build(whole), pair(batch), 0.7, 0.9)
    some = bootstrap_step(
        parts, their_target, Lars().build(parts), pair(batch), 0.7, 0.9, micro_batches=micro_batches
    )
    assert_same(parts, whole)
    assert_same(their_target, its_target)
    # float64: matrix products of another shape may sum in another order.
    torch.testing.assert_close(some.loss, one.loss, rtol=1e-13, atol=0)
    torch.testing.assert_close(some.branch.representation, one.branch.representation, rtol=0, atol=1e-13)


def test_half_the_loss_weight_equals_half_the_learning_rate_of_plain_descent_bit_for_bit() -> None:
    plain = Sgd(momentum=0.0, weight_decay=0.0)
    weighted, its_target = small()
    slower, their_target = small()
    for step in range(3):
        views = pair(16 + step)
        loss = bootstrap_step(weighted, its_target, plain.build(weighted), views, 0.5, 0.9, loss_weight=0.5)
        other = bootstrap_step(slower, their_target, plain.build(slower), views, 0.25, 0.9)
        assert torch.equal(loss.loss, other.loss)  # the loss returned is without the weight
    # Halving is exact in binary.
    for a, b in zip(weighted.state_dict().values(), slower.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_under_lars_the_loss_weight_reaches_only_what_is_not_adapted() -> None:
    """The trust ratio divides the scale of the gradient out (BYOL, appendix F.5)."""
    spec = Lars(weight_decay=0.0)
    summed, averaged = small()[0], small()[0]
    bootstrap_step(summed, small()[1], spec.build(summed), pair(), 0.7, 0.9)
    bootstrap_step(averaged, small()[1], spec.build(averaged), pair(), 0.7, 0.9, loss_weight=0.5)
    for (name, a), b in zip(summed.named_parameters(), averaged.parameters(), strict=True):
        if a.ndim > 1:  # bit for bit, since halving is exact
            assert torch.equal(a, b), name
        elif not name.endswith("0.bias"):  # those before a batch norm have no gradient
            assert not torch.allclose(a, b, rtol=1e-6), name

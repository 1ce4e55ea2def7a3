"""Equations and equivalences of the method, on networks small enough to check by hand."""

import copy
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from byol.algorithm import BOTH, Branch, Online, Pairs, bootstrap_loss, bootstrap_losses, bootstrap_step
from byol.data.image.views import MultiCrop, TwoViews
from byol.errors import UserError
from byol.evaluate.spread import feature_spread
from byol.model.head import Mlp
from byol.model.predictor import (
    DirectCopy,
    DirectPred,
    LinearPredictor,
    NoPredictor,
    OptimalLinear,
    SimSiamPredictor,
    SymmetricLinear,
)
from byol.model.target import ConstantEma, Ema, EmaTarget, Fixed, Shared, SharedTarget
from byol.objective import regression_loss
from byol.optim import Lars, Sgd
from byol.recipe.spec import Predictor

EVERY = ((0, 1), (1, 0), (2, 0), (2, 1))  # two views and a small one, which nothing predicts


def toy(predictor: Predictor = Mlp(hidden=32, out=8), *, seed: int = 0) -> Online:
    torch.manual_seed(seed)
    encoder = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU())
    projector = Mlp(hidden=32, out=8).build(16)
    return Online(encoder, projector, predictor.build(8)).double().train()


def noisy_pairs(steps: int, batch: int = 64) -> list[tuple[Tensor, Tensor]]:
    """Two noisy looks at points of eight clusters."""
    random = torch.Generator().manual_seed(1)
    centres = torch.randn(8, 6, generator=random, dtype=torch.float64)
    pairs = []
    for _ in range(steps):
        points = centres[torch.randint(8, (batch,), generator=random)]
        noise = 0.3 * torch.randn(2, batch, 6, generator=random, dtype=torch.float64)
        pairs.append((points + noise[0], points + noise[1]))
    return pairs


def run(
    online: Online, target: EmaTarget | SharedTarget, tau: float, steps: int, lr: float = 0.05
) -> list[float]:
    optimizer = Sgd().build(online)
    return [
        bootstrap_step(online, target, optimizer, pair, lr, tau).loss.item() for pair in noisy_pairs(steps)
    ]


def never_asked() -> Branch:
    raise AssertionError("a moving average needs no online branch")


def test_tau_zero_with_the_predictor_kept_equals_the_shared_target_bit_for_bit() -> None:
    moving, shared = toy(), toy()
    ema, same = Ema(tau_base=0.0).build(moving), Shared().build(shared)
    assert run(moving, ema, 0.0, 20) == run(shared, same, 0.0, 20)
    for (name, a), b in zip(moving.state_dict().items(), shared.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_without_predictor_and_moving_average_it_collapses_and_the_spread_says_so() -> None:
    online = toy(NoPredictor())
    losses = run(online, Shared().build(online), 0.0, 400, lr=0.3)
    assert losses[-1] < 0.05 * losses[0]  # the loss falls all the same: it is not what shows success
    assert feature_spread(online(noisy_pairs(1)[0][0]).projection) < 0.1


def test_with_predictor_and_moving_average_it_does_not_collapse() -> None:
    online = toy()
    losses = run(online, Ema().build(online), 0.9, 400, lr=0.3)
    assert losses[-1] < 0.5 * losses[0]
    assert feature_spread(online(noisy_pairs(1)[0][0]).projection) > 0.5


@pytest.mark.parametrize("kind", [Ema, Shared])
def test_no_gradient_reaches_the_target(kind: type[Ema] | type[Shared]) -> None:
    online = toy()
    target = kind().build(online).train()
    before = copy.deepcopy(target.state_dict())
    view_1, view_2 = noisy_pairs(1)[0]
    branch = online(view_1)
    other = target(view_2, lambda: online(view_2))
    assert not other.requires_grad
    regression_loss(online.predictor(branch.projection), other).sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None and not p.requires_grad for p in target.parameters())
    names = [name for name, _ in target.named_parameters()]
    assert all(torch.equal(target.state_dict()[name], before[name]) for name in names)


def test_gradient_of_the_online_network_takes_the_target_as_constant() -> None:
    """Finite differences of the loss with the target held fixed, where the two networks share weights."""
    online = toy()
    pair = noisy_pairs(1, batch=8)[0]
    with torch.no_grad():
        fixed = [online(view).projection.clone() for view in pair]

    def loss() -> float:
        with torch.no_grad():
            return float(
                (
                    regression_loss(online.predictor(online(pair[0]).projection), fixed[1])
                    + regression_loss(online.predictor(online(pair[1]).projection), fixed[0])
                ).mean()
            )

    weight = online.projector[3].weight  # type: ignore[index]
    assert isinstance(weight, nn.Parameter)
    bootstrap_step(online, Shared().build(online), Sgd().build(online), pair, 0.0, 0.0)
    assert weight.grad is not None
    for place in ((0, 0), (3, 7), (7, 31)):
        h = 1e-6
        value = weight.data[place].item()
        weight.data[place] = value + h
        up = loss()
        weight.data[place] = value - h
        down = loss()
        weight.data[place] = value
        # A central difference of step 1e-6 in float64: rounding 1e-16 / 1e-6 and curvature 1e-12.
        assert weight.grad[place].item() == pytest.approx((up - down) / (2 * h), abs=1e-8)


def test_target_follows_theta_after_the_step_parameters_only() -> None:
    online = toy()
    target = Ema().build(online).train()
    with torch.no_grad():
        for p in target.parameters():
            p.add_(0.1)
    before = {name: p.detach().numpy().copy() for name, p in target.named_parameters()}
    buffers_online = {name: b.clone() for name, b in online.encoder.named_buffers()}
    bootstrap_step(online, target, Lars().build(online), noisy_pairs(1)[0], 0.5, 0.75)
    theta = dict(online.named_parameters())
    for name, xi in target.named_parameters():
        expected = 0.75 * before[name] + 0.25 * theta[name].detach().numpy()
        np.testing.assert_allclose(xi.detach().numpy(), expected, rtol=0, atol=1e-15)  # one rounding
    # The target's running statistics come from its own forward passes, two per step.
    counted = dict(target.encoder.named_buffers())["1.num_batches_tracked"]
    assert counted.item() == buffers_online["1.num_batches_tracked"].item() + 2


def test_loss_is_the_sum_of_both_directions_and_symmetric_in_the_views() -> None:
    pair = noisy_pairs(1)[0]
    losses = []
    for views in (pair, pair[::-1]):
        online = toy()
        target = Ema().build(toy(seed=1)).train()
        losses.append(bootstrap_step(online, target, Sgd().build(online), views, 0.0, 1.0).loss.item())
    # Addition commutes, so swapping the views changes nothing at all.
    assert losses[0] == losses[1]
    online, target = toy(), Ema().build(toy(seed=1)).train()
    with torch.no_grad():
        p_1, p_2 = (online(view) for view in pair)
        z_1, z_2 = (target(view, never_asked) for view in pair)
        by_hand = (
            regression_loss(online.predictor(p_1.projection), z_2).mean()
            + regression_loss(online.predictor(p_2.projection), z_1).mean()
        )
    assert losses[0] == pytest.approx(by_hand.item(), rel=1e-14)  # float64, another order of summation
    assert 3.0 < losses[0] < 5.0  # two unrelated directions: about 4


def test_views_go_through_separately_so_batch_statistics_are_per_view() -> None:
    online = toy()
    view_1, view_2 = noisy_pairs(1)[0]
    shifted = view_2 + 5.0
    apart = online(view_1).projection
    together = online(torch.cat([view_1, shifted])).projection[: len(view_1)]
    assert not torch.allclose(apart, together)
    online = toy()
    result = bootstrap_step(online, Shared().build(online), Sgd().build(online), (view_1, shifted), 0.0, 0.0)
    assert torch.equal(result.branch.projection, apart)


def test_the_step_stays_in_float64() -> None:
    online = toy()
    result = bootstrap_step(online, Ema().build(online), Lars().build(online), noisy_pairs(1)[0], 0.1, 0.9)
    assert result.loss.dtype == torch.float64
    assert all(p.dtype == torch.float64 for p in online.parameters())


def test_fixed_random_target_stays_as_it_is_at_tau_one() -> None:
    online = toy()
    target = Ema().build(online)
    before = [p.clone() for p in target.parameters()]
    run(online, target, 1.0, 3)
    assert all(torch.equal(a, b) for a, b in zip(before, target.parameters(), strict=True))


def test_views_after_the_second_go_through_the_online_network_alone_and_predict_both_targets() -> None:
    online, target = toy(), Ema().build(toy(seed=1)).train()
    view_1, view_2 = noisy_pairs(1)[0]
    small = view_1.flip(0)
    loss = sum(loss for loss, _ in bootstrap_losses(online, target, (view_1, view_2, small), EVERY))
    assert dict(target.encoder.named_buffers())["1.num_batches_tracked"].item() == 2
    assert dict(online.encoder.named_buffers())["1.num_batches_tracked"].item() == 3
    with torch.no_grad():
        q_1, q_2, q_3 = (online.predictor(online(view).projection) for view in (view_1, view_2, small))
        z_1, z_2 = (target(view, never_asked) for view in (view_1, view_2))
        four = [regression_loss(q, z) for q, z in ((q_1, z_2), (q_2, z_1), (q_3, z_1), (q_3, z_2))]
    # Four directions on the scale of two; float64, another order of summation.
    torch.testing.assert_close(loss, sum(four[1:], four[0]) / 2, rtol=1e-14, atol=0)


def test_a_small_view_has_a_share_in_the_gradient() -> None:
    gradients = []
    for pairs in (BOTH, EVERY):
        online, target = toy(), Ema().build(toy(seed=1)).train()
        first, second = noisy_pairs(1)[0]
        views = (first, second, first.flip(0))[: 2 if pairs == BOTH else 3]
        bootstrap_step(online, target, Sgd().build(online), views, 0.0, 1.0, pairs=pairs)
        gradients.append([p.grad for p in online.parameters()])
    assert not torch.equal(gradients[0][0], gradients[1][0])  # type: ignore[arg-type]


def test_micro_batches_of_a_batch_that_lost_images_hold_two_or_more() -> None:
    online = toy()
    view_1, view_2 = (view[:7] for view in noisy_pairs(1)[0])
    step = bootstrap_step(
        online, Ema().build(online).train(), Sgd().build(online), (view_1, view_2), 0.1, 0.9, micro_batches=4
    )
    assert step.branch.projection.shape == (7, 8)
    assert step.loss.isfinite()


TARGETS = (Ema(tau_base=0.9), ConstantEma(value=0.8), Fixed(), Shared())
PREDICTORS = (
    *(Mlp(hidden=32, out=8), SimSiamPredictor(hidden=4), LinearPredictor(), SymmetricLinear()),
    *(DirectPred(), DirectPred(every=2), DirectCopy(), OptimalLinear(), NoPredictor()),
)


def assert_same_gradients(left: nn.Module, right: nn.Module) -> None:
    """In float64, and with the sums of a gradient in another order.

    An entry is a difference of sums of the size of the parameter's largest; the gradient of a bias before
    batch norm is zero but for the rounding of the activations', which the largest of all tells.
    """
    largest = max(p.grad.abs().max().item() for p in right.parameters() if p.grad is not None)
    for (name, p), q in zip(left.named_parameters(), right.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None), name
        if p.grad is not None and q.grad is not None:
            tolerance = max(1e-12 * q.grad.abs().max().item(), 1e-15 * largest)
            torch.testing.assert_close(p.grad, q.grad, rtol=0, atol=tolerance, msg=name)


@pytest.mark.parametrize("target", TARGETS, ids=lambda spec: str(spec.kind))
@pytest.mark.parametrize("predictor", PREDICTORS, ids=lambda spec: str(spec.kind))
def test_the_step_is_one_step_on_the_joint_loss(
    target: Ema | ConstantEma | Fixed | Shared, predictor: Predictor
) -> None:
    steps = 3  # closed forms want a batch before they change anything
    in_turn, joint = toy(predictor), toy(predictor)
    its_target, other_target = target.build(in_turn).train(), target.build(joint).train()
    optimizer, other = Sgd().build(in_turn), Sgd().build(joint)
    for step, (view_1, view_2) in enumerate(noisy_pairs(steps)):
        tau = target.tau(step, steps)
        loss = bootstrap_step(in_turn, its_target, optimizer, (view_1, view_2), 0.05, tau).loss

        together = bootstrap_loss(joint, other_target, view_1, view_2)
        other.zero_grad()
        together.backward()  # type: ignore[no-untyped-call]
        for group in other.param_groups:
            group["lr"] = 0.05
        other.step()
        other_target.update(joint, tau)

        # float64 throughout: the same terms, summed in another order, after at most three steps.
        assert loss.item() == pytest.approx(together.item(), rel=1e-13)
        assert_same_gradients(in_turn, joint)
    for mine, theirs in ((in_turn, joint), (its_target, other_target)):
        mine_state, state = mine.state_dict(), theirs.state_dict()
        assert mine_state.keys() == state.keys()
        for name in [name for name, value in state.items() if isinstance(value, Tensor)]:
            torch.testing.assert_close(mine_state[name], state[name], rtol=0, atol=1e-12, msg=name)


@pytest.mark.parametrize("target", [Ema(tau_base=0.9), Shared()], ids=lambda spec: str(spec.kind))
@pytest.mark.parametrize(
    "predictor",
    [Mlp(hidden=32, out=8), DirectPred(), OptimalLinear(), NoPredictor()],
    ids=lambda spec: str(spec.kind),
)
@pytest.mark.parametrize(
    "pairs", [BOTH, EVERY, ((0, 1),), ((1, 0),), ((0, 1), (1, 2))], ids=lambda pairs: str(pairs)
)
def test_the_step_follows_its_pairs(target: Ema | Shared, predictor: Predictor, pairs: Pairs) -> None:
    views = [view[:32] for pair in noisy_pairs(2) for view in pair][: 1 + max(max(pair) for pair in pairs)]
    online = toy(predictor)
    by_hand, optimizer = copy.deepcopy(online), Sgd().build(online)
    its_target = target.build(by_hand)
    step = bootstrap_step(online, target.build(online), optimizer, views, lr=0.0, tau=1.0, pairs=pairs)

    # By hand: all views forward, whether or not they are asked for, then one backward pass of the mean.
    branches = [by_hand(view) for view in views]
    with torch.no_grad():
        targets = [its_target(v, partial(Branch, *b)) for v, b in zip(views, branches, strict=True)]
    predicting = sorted({i for i, _ in pairs})
    by_hand.predictor.fit(
        [(branches[i].projection, [targets[j] for k, j in pairs if k == i]) for i in predicting]
    )
    losses = [regression_loss(by_hand.predictor(branches[i].projection), targets[j]) for i, j in pairs]
    joint = 2 * torch.stack(losses).mean()
    joint.backward()  # type: ignore[no-untyped-call]

    assert torch.equal(step.branch.projection, branches[predicting[0]].projection.detach())
    assert step.loss.item() == pytest.approx(joint.item(), rel=1e-14)  # float64, another order of summation
    gradients = [p.grad for p in by_hand.parameters() if p.grad is not None]
    assert len(gradients) > 5
    assert_same_gradients(online, by_hand)


def test_pairs_that_do_not_fit_the_views_are_refused() -> None:
    online, (view_1, view_2) = toy(), noisy_pairs(1)[0]
    target = Ema().build(online)
    for views, pairs in (((view_1, view_2, view_1), BOTH), ((view_1, view_2), EVERY), ((view_1,), ())):
        with pytest.raises(UserError, match=r"pairs is \(.*views; name each of them"):
            list(bootstrap_losses(online, target, views, pairs))


def test_views_say_their_pairs() -> None:
    assert TwoViews().pairs == BOTH
    assert MultiCrop(num_small=1).pairs == EVERY


def test_a_view_that_predicts_nothing_does_not_go_through_the_online_network() -> None:
    online, (view_1, view_2) = toy(), noisy_pairs(1)[0]
    list(bootstrap_losses(online, Ema().build(toy(seed=1)).train(), (view_1, view_2), ((0, 1),)))
    assert dict(online.encoder.named_buffers())["1.num_batches_tracked"].item() == 1


def test_the_activations_of_one_view_are_held_at_a_time() -> None:
    online, views = toy(), noisy_pairs(1, batch=1024)[0]
    target = Ema().build(online)

    def in_turn() -> None:
        bootstrap_step(online, target, Sgd().build(online), views, 0.0, 1.0)

    def jointly() -> None:
        losses = [loss for loss, _ in bootstrap_losses(online, target, views)]
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]

    # The weights, which are saved with either, are one in a hundred of what is saved.
    assert peak_of_saved_bytes(in_turn) / peak_of_saved_bytes(jointly) == pytest.approx(0.5, abs=0.01)


def peak_of_saved_bytes(run: Callable[[], None]) -> int:
    """Return the most bytes that are kept for a backward pass at any moment."""
    live: dict[int, int] = {}
    peak = 0

    class Held:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal peak
            self.tensor = tensor
            live[id(self)] = tensor.nbytes
            peak = max(peak, sum(live.values()))

        def __del__(self) -> None:
            del live[id(self)]

    with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.tensor):
        run()
    assert not live
    return peak

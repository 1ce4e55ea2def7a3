"""The targets against one another: each is a moving average with a tau of its own."""

import pytest
import torch
from torch import Tensor, nn

from byol.algorithm import Branch, Online, bootstrap_step
from byol.errors import UserError
from byol.model.head import Mlp
from byol.model.target import ConstantEma, Ema, EmaTarget, Fixed, Shared, SharedTarget
from byol.optim import Lars, Sgd


def network(seed: int = 0) -> Online:
    torch.manual_seed(seed)
    encoder = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    return Online(encoder, Mlp(hidden=8, out=6).build(4), Mlp(hidden=8, out=6).build(6)).train()


def views(step: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(step)
    first, second = torch.randn(2, 8, 3, 6, 6, generator=random)
    return first, second


def learn(online: Online, target: EmaTarget | SharedTarget, tau: float) -> list[float]:
    optimizer = Lars().build(online)
    return [
        bootstrap_step(online, target, optimizer, views(step), 1.0, tau).loss.item() for step in range(20)
    ]


def assert_equal(ours: nn.Module, expected: nn.Module) -> None:
    for (name, a), b in zip(ours.state_dict().items(), expected.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_fixed_equals_a_moving_average_at_tau_one_bit_for_bit() -> None:
    online, other = network(), network()
    fixed, average = Fixed().build(online).train(), ConstantEma(value=1.0).build(other).train()
    drawn = [p.clone() for p in fixed.parameters()]
    assert learn(online, fixed, Fixed().tau(0, 20)) == learn(other, average, 1.0)
    assert_equal(online, other)
    assert_equal(fixed, average)
    assert all(torch.equal(p, as_drawn) for p, as_drawn in zip(fixed.parameters(), drawn, strict=True))


def test_fixed_does_not_follow_whatever_tau_is() -> None:
    online = network()
    fixed = Fixed().build(online).train()
    drawn = [p.clone() for p in fixed.parameters()]
    learn(online, fixed, 0.5)
    assert all(torch.equal(p, as_drawn) for p, as_drawn in zip(fixed.parameters(), drawn, strict=True))


def test_shared_equals_a_moving_average_at_tau_zero_bit_for_bit() -> None:
    online, other = network(), network()
    shared, average = Shared().build(online), ConstantEma(value=0.0).build(other).train()
    assert learn(online, shared, Shared().tau(0, 20)) == learn(other, average, 0.0)
    assert_equal(online, other)
    assert_equal(average.encoder, online.encoder)
    assert_equal(average.projector, online.projector)


def test_shared_holds_nothing_and_hands_back_the_projection_without_its_gradient() -> None:
    online, view = network(), views(0)[0]
    target = Shared().build(online)
    branch = online(view)
    projection = target(view, lambda: branch)
    assert torch.equal(projection, branch.projection)
    assert branch.projection.requires_grad
    assert not projection.requires_grad
    assert target.state_dict() == {}


def test_an_average_is_a_copy_of_encoder_and_projector_that_shares_no_memory() -> None:
    online = network()
    target = Ema().build(online).train()
    assert_equal(target.encoder, online.encoder)
    assert_equal(target.projector, online.projector)
    assert not any(name.startswith("predictor") for name in target.state_dict())
    theirs = {t.data_ptr() for t in online.state_dict().values()}
    assert not theirs & {t.data_ptr() for t in target.state_dict().values()}


def test_an_average_ignores_the_online_branch() -> None:
    online, view = network(), views(0)[0]
    target = Ema().build(network(seed=1)).train()
    nothing = Branch(torch.zeros(8, 4), torch.zeros(8, 6))
    assert torch.equal(target(view, lambda: online(view)), target(view, lambda: nothing))


@pytest.mark.parametrize(
    ("spec", "first", "middle", "last"),
    [
        (Ema(tau_base=0.9), 0.9, 0.95, 1.0),  # half a cosine from 0.9 to 1
        (ConstantEma(value=0.9), 0.9, 0.9, 0.9),
        (Fixed(), 1.0, 1.0, 1.0),
        (Shared(), 0.0, 0.0, 0.0),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_tau_at_the_beginning_in_the_middle_and_at_the_end(
    spec: Ema | ConstantEma | Fixed | Shared, first: float, middle: float, last: float
) -> None:
    taus = [spec.tau(step, 1000) for step in (0, 500, 1000)]
    assert taus == pytest.approx([first, middle, last], abs=1e-15)  # one cosine in float64


@pytest.mark.parametrize("tau", [-0.1, 1.1, float("nan")])
def test_a_tau_outside_its_range_is_refused(tau: float) -> None:
    with pytest.raises(UserError, match=f"target.tau_base is {tau}"):
        Ema(tau_base=tau)
    with pytest.raises(UserError, match=f"target.value is {tau}"):
        ConstantEma(value=tau)


def test_one_step_of_simsiam_has_the_gradient_of_its_published_loss() -> None:
    """SimSiam (2011.10566), Eq. 2: half the sum of both negative cosines; ours is 4 minus twice the sum."""
    online = network().double()
    pair = [view.double() for view in views(0)]
    published = network().double()
    (z_1, z_2), (p_1, p_2) = zip(
        *((z, published.predictor(z)) for z in (published(view).projection for view in pair)), strict=True
    )
    cosine = nn.CosineSimilarity(dim=1)
    loss = -0.5 * (cosine(p_1, z_2.detach()) + cosine(p_2, z_1.detach())).mean()
    gradients = torch.autograd.grad(loss, list(published.parameters()))

    step = bootstrap_step(
        online, Shared().build(online), Sgd().build(online), pair, 0.0, 0.0, loss_weight=0.25
    )
    assert step.loss.item() == pytest.approx(4 + 4 * loss.item(), rel=1e-13)
    for (name, p), gradient in zip(online.named_parameters(), gradients, strict=True):
        # float64 gradients of order 0.1 by two ways to write a cosine.
        torch.testing.assert_close(p.grad, gradient, rtol=0, atol=1e-12, msg=name)

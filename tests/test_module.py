"""Both networks and the loss as one module: the weights of our loop, the loss of the page, one update."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import byol
from byol.algorithm import bootstrap_loss, bootstrap_step
from byol.data.image.views import MultiCrop
from byol.errors import UserError
from byol.model.encoder import ConvNet
from byol.model.head import Mlp
from byol.model.predictor import DirectPred, NoPredictor
from byol.model.target import ConstantEma, Shared
from byol.module import Byol
from byol.recipe.spec import Recipe
from byol.system.device import Device
from byol.training.learner import build

MakeRecipe = Callable[[Path | str], Recipe]
HEAD = Mlp(hidden=8, out=4)


def small(**slots: object) -> Byol:
    torch.manual_seed(0)
    encoder = ConvNet(widths=(4, 8)).build()
    return Byol(encoder, **{"projector": HEAD, "predictor": HEAD, "sample": (3, 12, 12), **slots})  # type: ignore[arg-type]


def images(number: int = 2, seed: int = 0) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    return list(torch.randn(number, 8, 3, 12, 12, generator=random))


def same(left: nn.Module, right: nn.Module) -> bool:
    ours, theirs = left.state_dict(), right.state_dict()
    tensors = [name for name, value in ours.items() if isinstance(value, Tensor)]
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in tensors)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"initialization": "truncated-normal"},
        {"target": Shared(), "seed": 3},
        {"predictor": DirectPred()},
        {"views": MultiCrop(size=12, small_size=8, num_small=1)},
    ],
    ids=str,
)
def test_it_has_the_weights_that_our_loop_starts_from(change: dict[str, object], tiny: MakeRecipe) -> None:
    recipe = replace(tiny(""), **change)  # type: ignore[arg-type]
    state = torch.get_rng_state()
    model = Byol.of(recipe)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.random.fork_rng():
        learner = build(recipe, Device(torch.device("cpu"), "float32"), num_classes=2)
    assert same(model.online, learner.online)
    assert same(model.target, learner.target)
    assert model.training
    assert not [p for p in model.target.parameters() if p.requires_grad]


def test_an_encoder_of_ones_own_keeps_its_weights_and_the_heads_are_drawn(tiny: MakeRecipe) -> None:
    encoder = ConvNet(widths=(4, 6)).build()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    model = Byol.of(replace(tiny(""), initialization="truncated-normal"), encoder=encoder)
    assert model.encoder is encoder
    assert model.dim == 6
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert not model.online.projector[0].bias.any()  # type: ignore[index]


def test_the_heads_are_the_papers_by_default() -> None:
    model = Byol(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), sample=(3, 2, 2))
    shapes = [tuple(p.shape) for name, p in model.online.named_parameters() if p.ndim == 2]
    assert shapes == [(5, 12), (4096, 5), (256, 4096), (4096, 256), (256, 4096)]
    assert isinstance(byol.Byol.of("builtin"), Byol)


def test_forward_is_the_joint_loss_and_reaches_the_online_network_alone() -> None:
    model, other = small(), small()
    view_1, view_2 = images()
    loss = model(view_1, view_2)
    assert loss.item() == bootstrap_loss(other.online, other.target, view_1, view_2).item()
    loss.backward()
    assert all(p.grad is not None for p in model.online.parameters())
    assert all(p.grad is None for p in model.target.parameters())


@pytest.mark.parametrize("pairs", [((0, 1),), ((0, 1), (1, 0), (2, 0), (2, 1))])
def test_other_pairs_have_the_loss_and_gradient_of_the_step(pairs: tuple[tuple[int, int], ...]) -> None:
    model, other = small(pairs=pairs).double(), small(pairs=pairs).double()
    views = [view.double() for view in images(1 + max(max(pair) for pair in pairs))]
    loss = model(*views)
    loss.backward()
    optimizer = torch.optim.SGD(other.online.parameters(), lr=0.0)
    step = bootstrap_step(other.online, other.target, optimizer, views, 0.0, 1.0, pairs=pairs)
    assert loss.item() == pytest.approx(step.loss.item(), rel=1e-14)  # float64, another order of summation
    for p, q in zip(model.online.parameters(), other.online.parameters(), strict=True):
        assert p.grad is not None
        assert q.grad is not None
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-12, atol=1e-14)


def test_a_recipe_with_small_views_takes_them_all(tiny: MakeRecipe) -> None:
    model = Byol.of(replace(tiny(""), views=MultiCrop(size=12, small_size=8, num_small=1)))
    view_1, view_2, small_view = images(3)
    assert 0 < model(view_1, view_2, small_view[..., :8, :8]).item() < 8
    with pytest.raises(UserError, match="there are 2 views"):
        model(view_1, view_2)
    with pytest.raises(UserError, match="there are 3 views"):
        small()(view_1, view_2, small_view)


def test_update_moves_the_target_by_the_tau_of_its_step() -> None:
    model = small(target=ConstantEma(value=0.75))
    before = [p.clone() for p in model.target.parameters()]
    with torch.no_grad():
        for p in model.online.parameters():
            p.add_(1.0)
    model.update(0, 10)
    for old, new in zip(before, model.target.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.25)  # 0.75 old + 0.25 (old + 1)
    cosine = small()
    frozen = [p.clone() for p in cosine.target.parameters()]
    with torch.no_grad():
        for p in cosine.online.parameters():
            p.add_(1.0)
    cosine.update(10, 10)  # tau is 1 in the end
    assert all(torch.equal(old, new) for old, new in zip(frozen, cosine.target.parameters(), strict=True))


def test_its_state_is_that_of_both_networks_and_can_be_loaded() -> None:
    model, other = small(), small()
    model(*images())
    other.load_state_dict(model.state_dict())
    assert same(model, other)
    assert {name.split(".")[0] for name in model.state_dict()} == {"online", "target"}


def test_what_does_not_fit_is_told_in_one_sentence() -> None:
    with pytest.raises(UserError, match=r"must map projections \(B, 4\) to \(B, 4\)"):
        small(predictor=Mlp(hidden=8, out=5))
    with pytest.raises(UserError, match=r"it must give \(2, D\)"):
        Byol(nn.Conv2d(3, 4, 3), sample=(3, 8, 8))
    with pytest.raises(UserError, match=r"cannot take an input of shape \(3, 224, 224\)"):
        Byol(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)))
    with pytest.raises(UserError, match="no recipe named 'biultin'"):
        Byol.of("biultin")


def test_the_predictor_may_be_missing_and_the_target_shared() -> None:
    model = small(predictor=NoPredictor(), target=Shared())
    model(*images()).backward()
    model.update(0, 1)
    assert not list(model.target.parameters())

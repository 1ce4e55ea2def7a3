"""Two layers on halves of a batch are one layer on the whole of it."""

import copy
from typing import Any

import pytest
import torch
from tests.ranks import Ranks
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from byol.errors import UserError
from byol.model.synchronized import SyncedBatchNorm, synchronize

Case = tuple[dict[str, Any], tuple[int, ...], torch.dtype]
CASES: dict[str, Case] = {
    "2d": ({}, (7, 5, 3, 4), torch.float64),
    "1d": ({}, (7, 5), torch.float64),
    "no-affine": ({"affine": False}, (7, 5), torch.float64),
    "cumulative": ({"momentum": None}, (7, 5, 2, 2), torch.float64),
    "untracked": ({"track_running_stats": False}, (7, 5), torch.float64),
    "bfloat16": ({}, (7, 5, 3, 4), torch.bfloat16),
}


def batch_norm_of(case: Case, rank: int | None, passes: int = 2) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Return outputs and gradients of some passes, and the layer's state; of 7 images a rank has 2 or 5."""
    how, shape, dtype = case
    torch.manual_seed(3)
    layer: nn.Module = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(shape[1], **how)
    layer = layer.to(torch.promote_types(dtype, torch.float32))
    for parameter in layer.parameters():
        nn.init.normal_(parameter, 1.0)
    mine = slice(None)
    if rank is not None:
        layer = synchronize(layer, torch.device("cpu"))
        mine = slice(0, 2) if rank == 0 else slice(2, 7)
    found: list[Tensor] = []
    for _ in range(passes):
        whole = (3.0 + 2.0 * torch.randn(shape, dtype=torch.float64)).to(dtype)
        steepness = torch.randn(shape, dtype=torch.float64).to(dtype)
        images = whole[mine].clone().requires_grad_()
        out = layer(images)
        torch.autograd.backward(out, steepness[mine])
        assert images.grad is not None
        found += [out.detach(), images.grad]
    with torch.no_grad():  # a target's pass moves the running statistics too
        found.append(layer(whole[mine]))
    state = {name: value.clone() for name, value in layer.state_dict().items()}
    gradients = {f"{name}.grad": p.grad for name, p in layer.named_parameters() if p.grad is not None}
    return found, {**state, **gradients}


def synced_batch_norm_of(case: Case) -> tuple[list[Tensor], dict[str, Tensor]]:
    return batch_norm_of(case, torch.distributed.get_rank())


@pytest.mark.parametrize("case", CASES)
def test_two_synced_layers_are_one_layer_on_the_joined_batch(case: str, ranks: Ranks) -> None:
    tensors, state = batch_norm_of(CASES[case], None)
    (first, first_state), (second, second_state) = ranks(synced_batch_norm_of, CASES[case])
    # bfloat16 keeps 8 bits of outputs and gradients of size 3; float64 sums are rounded in another order.
    rtol, atol = (2e-2, 3e-2) if case == "bfloat16" else (1e-12, 1e-12)
    for one, *two in zip(tensors, first, second, strict=True):
        torch.testing.assert_close(torch.cat(two), one, rtol=rtol, atol=atol)
    assert first_state.keys() == state.keys()
    for name, value in state.items():
        if name.endswith(".grad"):  # of shared parameters: each has its share
            torch.testing.assert_close(first_state[name] + second_state[name], value, rtol=rtol, atol=atol)
        else:
            assert torch.equal(first_state[name], second_state[name]), name
            torch.testing.assert_close(first_state[name], value, rtol=rtol, atol=atol)


def test_a_synced_layer_alone_or_in_eval_mode_is_torchs_and_shares_its_state() -> None:
    torch.manual_seed(0)
    layer = nn.BatchNorm2d(3)
    synced = synchronize(copy.deepcopy(layer), torch.device("cpu"))
    assert isinstance(synced, SyncedBatchNorm)
    images = torch.randn(4, 3, 2, 2)
    assert torch.equal(synced(images), layer(images))
    assert torch.equal(synced.eval()(images), layer.eval()(images))
    layer.load_state_dict(synced.state_dict())
    synced.load_state_dict(layer.state_dict())


def test_layers_are_swapped_where_they_stand_with_their_parameters_and_activations() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.BatchNorm1d(3)), BatchNormAct2d(3)).eval()
    before, images = dict(network.named_parameters()), torch.randn(4, 3, 2, 2)
    expected = network[2](images)
    assert synchronize(network, torch.device("cpu")) is network
    after = dict(network.named_parameters())
    assert before.keys() == after.keys()
    assert all(after[name] is parameter for name, parameter in before.items())
    assert torch.equal(network[2](images), expected)
    assert (expected >= 0).all()
    assert not network[2].training


def test_a_batch_norm_of_an_unknown_kind_is_refused() -> None:
    class Odd(nn.BatchNorm1d):
        pass

    with pytest.raises(UserError, match="has a Odd, a batch norm whose statistics cannot be shared"):
        synchronize(nn.Sequential(Odd(3)), torch.device("cpu"))

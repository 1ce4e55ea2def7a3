"""A module of the user's own: what cannot be learned or kept is found before the first step."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import byol
from byol.errors import UserError
from byol.recipe.spec import Recipe
from byol.training.own_encoder import refuse_unusable


class Own(nn.Module):
    """A small network."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.second(self.first(images)).mean((2, 3))  # type: ignore[no-any-return]


class Extra(Own):
    """It keeps a list beside its tensors."""

    def get_extra_state(self) -> object:
        return [1]


class Locked(Own):
    """It holds what cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


def shared() -> Own:
    """Return a network of which two layers share a weight and a third name holds one of them again."""
    module = Own()
    module.first = nn.Conv2d(3, 3, 3)
    module.second = nn.Conv2d(3, 3, 3)
    module.second.weight = module.first.weight
    module.again = module.first
    return module


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Own, r"encoder is the class Own; give a module that is made of it: Own\(\.\.\.\)"),
        (lambda: "resnet18", "encoder is a str; give a torch module"),
        (lambda: Own().double(), r"first\.weight of the encoder is of float64; give weights of float32"),
        (lambda: Own().half(), "is of float16"),
        (lambda: Own().to(torch.bfloat16), "is of bfloat16"),
        (lambda: Own().to("meta"), "is on the meta device"),
        (lambda: Own().requires_grad_(False), "all of its 4 parameters are frozen; give one that learns"),
        (nn.Flatten, "it has no parameters"),
        (Extra, r"the encoder keeps a list beside its tensors \(get_extra_state\)"),
        (lambda: nn.Sequential(Extra()), "0 keeps a list beside its tensors"),
        (Locked, "the encoder cannot be copied, and the target begins as its copy"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        refuse_unusable(make())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_scripted_module_is_refused() -> None:
    with pytest.raises(UserError, match="scripted"):
        refuse_unusable(torch.jit.script(Own()))


def test_the_remedies_work() -> None:
    refuse_unusable(Own().double().float())
    refuse_unusable(Own().requires_grad_(False).requires_grad_())


def test_layers_with_two_names_and_shared_weights_are_learned_kept_and_loaded(
    tiny: Callable[[Path | str], Recipe], photographs: Path, tmp_path: Path
) -> None:
    module, before = shared(), shared().state_dict()
    run = byol.pretrain(None, tmp_path / "run", recipe=tiny(photographs), encoder=module, workers=0)
    read = run.load(encoder=shared()).encoder
    for name, weight in module.state_dict().items():
        assert torch.equal(read.state_dict()[name], weight.cpu()), name
        assert not torch.equal(before[name], weight), name
    assert read.get_parameter("again.weight") is read.get_parameter("second.weight")

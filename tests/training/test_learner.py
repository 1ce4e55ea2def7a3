import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from byol.errors import UserError
from byol.model.encoder import ConvNet
from byol.recipe.spec import Recipe
from byol.system.device import pick_device
from byol.training.learner import build

MakeRecipe = Callable[[Path | str], Recipe]


def test_an_encoder_of_ones_own_keeps_its_weights(tiny: MakeRecipe) -> None:
    recipe = replace(tiny("builtin"), initialization="truncated-normal")
    own = recipe.encoder.build()
    before = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    learner = build(recipe, pick_device("float32"), own)
    assert all(torch.equal(tensor.cpu(), before[name]) for name, tensor in own.state_dict().items())
    first = learner.online.projector.get_parameter("0.weight")  # drawn, as the recipe says
    assert first.abs().max() <= 2.0 / math.sqrt(first.shape[1])


def test_a_state_of_another_network_is_refused_with_the_way_out(tiny: MakeRecipe) -> None:
    device = pick_device("float32")
    other = build(replace(tiny("builtin"), encoder=ConvNet(widths=(4, 9))), device)
    learner = build(tiny("builtin"), device)
    with pytest.raises(UserError, match=r"of another network.*byol\.resume\(RUN, encoder=module\)") as caught:
        learner.restore(other.state())
    assert "\n" not in str(caught.value)

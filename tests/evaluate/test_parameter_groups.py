import pytest
import torch
from torch import nn

from byol.evaluate.parameter_groups import encoder_groups, head_groups, layers_of, slow_statistics
from byol.model.encoder import ConvNet, ResNet


def test_layers_go_from_the_images_up() -> None:
    network = ResNet(depth=18, stem="cifar").build()
    layers = layers_of(network)
    assert len(layers) == 10  # conv1, bn1, eight blocks
    assert layers[0][0] is network.get_parameter("conv1.weight")
    assert sum(map(len, layers)) == len(list(network.parameters()))
    assert any(p is network.get_parameter("layer4.1.conv2.weight") for p in layers[-1])


def test_weights_decay_and_the_rates_of_layers_fall_towards_the_images() -> None:
    encoder = ConvNet(widths=(4, 8)).build()
    layers = layers_of(encoder)
    groups = encoder_groups(encoder, lr=1.0, weight_decay=0.5, layer_decay=0.1)
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert len(rate) == len(list(encoder.parameters()))
    for height, layer in enumerate(reversed(layers), 1):
        assert [rate[id(p)] for p in layer] == pytest.approx([0.1**height] * len(layer))  # float64
    assert all(decay[id(p)] == 0.5 * (p.ndim > 1) for p in encoder.parameters())


def test_each_head_has_its_own_rate_and_its_bias_does_not_decay() -> None:
    heads = [nn.Linear(3, 2), nn.Linear(3, 2)]
    groups = head_groups(heads, (0.5, 0.1), weight_decay=0.2)
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [
        *((0.5, 0.2), (0.5, 0.0), (0.1, 0.2), (0.1, 0.0))
    ]
    assert [group["params"][0] for group in groups][2] is heads[1].weight


@pytest.mark.parametrize(("steps", "momentum"), [(1000, 0.01), (5, 0.1)])
def test_statistics_are_as_slow_as_an_epoch_is_long(steps: int, momentum: float) -> None:
    norm = nn.BatchNorm2d(3)
    slow_statistics(nn.Sequential(nn.Conv2d(3, 3, 1), norm), steps)
    assert norm.momentum == momentum
    assert torch.equal(norm.running_mean, torch.zeros(3))  # type: ignore[arg-type]

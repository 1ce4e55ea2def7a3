import copy
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from byol.model.batch_statistics import estimate
from byol.model.encoder import ConvNet, ResNet
from byol.model.norm import GroupNorm
from byol.model.synchronized import synchronize

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "ConvNet": lambda: ConvNet(widths=(4, 8)).build(),
    "ResNet": lambda: ResNet(depth=18, stem="cifar").build(),
    "over processes": lambda: synchronize(ConvNet(widths=(4, 8)).build(), torch.device("cpu")),
    "that activates": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), BatchNormAct2d(4), nn.Flatten()),
}


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_a_network_then_makes_of_its_one_batch_what_it_makes_of_it_in_training(
    make: Callable[[], nn.Module],
) -> None:
    torch.manual_seed(0)
    network = make().double().eval()
    batch = torch.randn(16, 3, 16, 16, dtype=torch.float64)
    estimate(network, [batch])
    found = network(batch)
    # Both normalize by the biased variance of the batch: float64 rounding, over at most 20 layers.
    torch.testing.assert_close(found, copy.deepcopy(network).train()(batch), rtol=1e-9, atol=1e-9)


def test_statistics_of_several_batches_are_those_of_all_images_together() -> None:
    images = torch.randn(30, 3, 5, 5, dtype=torch.float64) * 3 + torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)
    layer = nn.BatchNorm2d(3).double().eval()
    estimate(layer, [images[:7], images[7:12], images[12:]])
    assert layer.running_mean is not None
    assert layer.running_var is not None
    values = images.numpy().transpose(1, 0, 2, 3).reshape(3, -1)
    np.testing.assert_allclose(layer.running_mean, values.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(layer.running_var, values.var(axis=1), rtol=1e-12)


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_weights_modes_and_hooks_stay_as_they_are(make: Callable[[], nn.Module]) -> None:
    network = make().eval()
    before = {name: value.clone() for name, value in network.named_parameters()}
    estimate(network, [torch.randn(8, 3, 16, 16)])
    assert all(torch.equal(value, before[name]) for name, value in network.named_parameters())
    assert not any(module.training or module._forward_pre_hooks for module in network.modules())
    assert all(value.grad is None and value.requires_grad for value in network.parameters())


def test_without_batch_norm_no_image_is_asked_for() -> None:
    def never() -> Iterator[Tensor]:
        pytest.fail("an image was asked for")
        yield torch.empty(0)

    estimate(ConvNet(widths=(16, 16), norm=GroupNorm()).build().eval(), never())


def test_a_layer_that_no_image_reaches_keeps_its_statistics() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.BatchNorm1d(2), nn.BatchNorm1d(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)  # type: ignore[no-any-return]

    half = Half().eval()
    estimate(half, [torch.randn(9, 2) + 5])
    assert half.unused.running_mean is not None
    assert half.used.running_mean is not None
    assert half.unused.running_mean.tolist() == [0, 0]
    assert half.used.running_mean.min() > 3


def test_a_network_that_fails_keeps_no_hook() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Linear(1, 1)).eval()
    with pytest.raises(RuntimeError):
        estimate(network, [torch.randn(4, 3, 5, 5)])
    assert not any(module._forward_pre_hooks for module in network.modules())

"""Maps of every kind of encoder: how many, how coarse, how many channels, and the right ones."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from byol.errors import UserError
from byol.model.encoder import ConvNet, ResNet, Timm
from byol.model.maps import Stages, stages
from byol.model.norm import NoNorm

OURS: dict[str, tuple[Any, tuple[int, ...], tuple[int, ...]]] = {
    "imagenet": (ResNet(depth=18), (4, 8, 16, 32), (64, 128, 256, 512)),
    "same": (ResNet(depth=18, padding="same"), (4, 8, 16, 32), (64, 128, 256, 512)),
    "cifar": (ResNet(depth=50, stem="cifar"), (1, 2, 4, 8), (256, 512, 1024, 2048)),
    "wide": (ResNet(depth=18, stem="cifar", width=2), (1, 2, 4, 8), (128, 256, 512, 1024)),
    "convnet": (ConvNet(), (2, 4, 8), (64, 128, 256)),
    "no norm": (ConvNet(widths=(4, 8), norm=NoNorm()), (2, 4), (4, 8)),
}


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("is_training", [False, True])
def test_ours_have_the_strides_and_channels_that_they_say_and_the_last_map_is_the_vector(
    name: str, is_training: bool
) -> None:
    spec, strides, channels = OURS[name]
    torch.manual_seed(0)
    encoder = spec.build().train(is_training)
    assert (encoder.strides, encoder.channels) == (strides, channels)
    side = max(16, 2 * strides[-1])
    for size in (side, side - 7):
        images = torch.randn(2, 3, size, size)
        maps = stages(encoder, images)
        assert tuple(maps) == strides
        for (stride, output), width in zip(maps.items(), channels, strict=True):
            assert output.shape[:2] == (2, width)
            assert output.shape[2] in (size // stride, -(-size // stride))
        assert torch.equal(maps[strides[-1]].mean(dim=(2, 3)), encoder(images))


@pytest.mark.parametrize("channels", [1, 3, 12])
@pytest.mark.parametrize(
    "spec",
    [ResNet(depth=18, stem="cifar"), ResNet(depth=18, padding="same"), ConvNet(), Timm(name="resnet10t")],
)
def test_an_encoder_is_built_for_images_of_any_number_of_channels(spec: Any, channels: int) -> None:
    encoder = spec.build(channels).eval()
    images = torch.zeros(2, channels, 32, 32)
    assert encoder(images).ndim == 2
    assert len(stages(encoder, images)) >= 3


PYRAMID = (2, 4, 8, 16, 32)
TIMM = {
    "resnet10t": (PYRAMID, (64, 64, 128, 256, 512)),
    "convnext_atto": ((4, 8, 16, 32), (40, 80, 160, 320)),
    "mobilenetv3_small_050": (PYRAMID, (16, 8, 16, 24, 288)),
    "vit_tiny_patch16_224": ((16,), (192,)),
    "swin_tiny_patch4_window7_224": ((4, 8, 16, 32), (96, 192, 384, 768)),
}
TORCHVISION = {
    "resnet18": (PYRAMID, (64, 64, 128, 256, 512)),
    "convnext_tiny": ((4, 8, 16, 32), (96, 192, 384, 768)),
    "mobilenet_v3_small": (PYRAMID, (16, 72, 96, 288, 576)),  # the widened ones, before a block's stride
    "vgg11": ((1, *PYRAMID), (64, 128, 256, 512, 512, 512)),
    "vit_b_16": ((16,), (768,)),
    "swin_t": ((4, 8, 16, 32), (96, 192, 384, 768)),
}


@pytest.mark.parametrize(("library", "name"), [*product(["timm"], TIMM), *product(["tv"], TORCHVISION)])
def test_networks_of_timm_and_torchvision_give_their_maps(library: str, name: str) -> None:
    import torchvision

    known = TIMM if library == "timm" else TORCHVISION
    with torch.device("meta"):  # shapes alone
        network = (
            Timm(name=name).build() if library == "timm" else torchvision.models.get_model(name, weights=None)
        )
    found = Stages(network.eval())
    assert (found.strides, found.channels) == known[name]
    with torch.no_grad():
        maps = found(torch.empty(2, 3, 224, 224, device="meta"))
    for output, stride, width in zip(maps, found.strides, found.channels, strict=True):
        assert output.shape == (2, width, 224 // stride, 224 // stride)


def test_the_maps_of_a_torchvision_network_are_those_of_ours_with_the_same_weights() -> None:
    import torchvision

    torch.manual_seed(0)
    ours, theirs = ResNet(depth=18).build().eval(), torchvision.models.resnet18().eval()
    theirs.load_state_dict(ours.state_dict(), strict=False)
    images = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        mine, its = stages(ours, images), stages(theirs, images)
    for stride, output in mine.items():
        # The same convolutions in the same order; float32 rounding.
        torch.testing.assert_close(its[stride], output, rtol=1e-5, atol=1e-5)


def test_the_last_tokens_of_a_torchvision_transformer_are_laid_out_as_their_patches() -> None:
    import torchvision

    torch.manual_seed(0)
    network = torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=12, mlp_dim=16
    ).eval()
    tokens: list[Tensor] = []
    network.encoder.register_forward_hook(lambda module, inputs, output: tokens.append(output))
    (output,) = stages(network, torch.randn(2, 3, 32, 32)).values()
    assert torch.equal(output[:, :, 1, 2], tokens[0][:, 1 + 1 * 4 + 2])  # behind the class token


def small() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)),
        *(nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )


def test_an_own_sequential_gives_the_last_output_at_each_resolution() -> None:
    network = small().eval()
    found = Stages(network, size=32)
    assert (found.strides, found.channels) == ((2, 4), (8, 16))
    images = torch.randn(2, 3, 32, 48)
    first, second = found(images)
    assert torch.equal(first, network[:3](images))
    assert torch.equal(second, network[:5](images))
    assert torch.equal(second.mean(dim=(2, 3)), network(images))


def test_squeezed_pixels_beside_the_road_are_no_stage() -> None:
    class Squeeze(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool, self.gate = nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            return x * self.gate(self.pool(x))  # type: ignore[no-any-return]

    found = Stages(nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), Squeeze(), nn.Conv2d(8, 4, 3, 2, 1)), size=32)
    assert (found.strides, found.channels) == ((2, 4), (8, 4))


def test_a_method_of_ones_own_has_precedence_and_a_layer_of_its_name_has_not() -> None:
    class Own(nn.Module):
        def stages(self, images: Tensor) -> list[Tensor]:
            return [images[:, :1, ::2, ::2], images[:, :2, ::4, ::4]]

    class Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stages = small()

        def forward(self, images: Tensor) -> Tensor:
            return self.stages(images)  # type: ignore[no-any-return]

    assert Stages(Own()).channels == (1, 2)
    assert Stages(Layers(), size=32).channels == (8, 16)


def test_maps_have_a_gradient_and_stages_leave_mode_and_statistics_alone() -> None:
    network = small().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = Stages(network, size=32)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    found(torch.randn(2, 3, 32, 32))[0].sum().backward()
    assert network[0].weight.grad is not None
    assert not network[0]._forward_hooks


def test_strides_of_images_that_no_stride_divides() -> None:
    assert tuple(stages(ResNet(depth=18).build().eval(), torch.zeros(2, 3, 65, 65))) == (4, 8, 16, 32)
    patches = nn.Conv2d(3, 4, 14, 14)
    for side in (70, 98, 224):
        assert tuple(stages(patches, torch.zeros(2, 3, side, side))) == (14,)


def test_an_encoder_without_maps_is_told_so_in_one_sentence() -> None:
    with pytest.raises(
        UserError, match=r"no layer of the Sequential gives maps.*last gives \(2, 4\); give it"
    ):
        stages(nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), torch.zeros(2, 3, 2, 2))


def test_images_too_small_for_all_maps_are_refused() -> None:
    found = Stages(small(), size=32)
    with pytest.raises(
        UserError, match=r"images of \(4, 4\) px have 1 maps instead of 2 of strides \(2, 4\)"
    ):
        found(torch.zeros(2, 3, 4, 4))

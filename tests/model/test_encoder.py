import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from byol.data.image.preprocessing import Preprocessing
from byol.errors import UserError
from byol.model.encoder import ConvNet, ResNet, Timm, representation_dim
from byol.model.norm import BatchNorm, GroupNorm, LayerNorm, NoNorm
from byol.model.resnet import ResNetEncoder
from byol.recipe.names import named
from byol.recipe.spec import from_json
from byol.weights.encoder_file import save_encoder
from byol.weights.pretrained import load

SHORTCUTS: tuple[Literal["identity"], Literal["projection"]] = ("identity", "projection")


@pytest.mark.parametrize(("depth", "dim"), [(18, 512), (50, 2048)])
def test_weights_of_a_resnet_load_into_torchvision_and_timm_and_give_the_same_numbers(
    depth: int, dim: int, tmp_path: Path
) -> None:
    import timm
    import torchvision
    from safetensors.torch import load_file

    torch.manual_seed(0)
    spec = ResNet(depth=depth)  # type: ignore[arg-type]
    encoder = spec.build().eval()
    save_encoder(tmp_path / "encoder.safetensors", encoder, spec, Preprocessing(size=64))
    weights = load_file(tmp_path / "encoder.safetensors")
    images = torch.randn(2, 3, 64, 64)
    theirs = torchvision.models.get_model(f"resnet{depth}")
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert (set(missing), unexpected) == ({"fc.weight", "fc.bias"}, [])
    theirs.fc = nn.Identity()
    timms = timm.create_model(f"resnet{depth}", pretrained=False, num_classes=0)
    timms.load_state_dict(weights)
    with torch.no_grad():
        ours = encoder(images)
        assert ours.shape == (2, dim)
        # The same convolutions in the same order; pooling sums in another: float32 rounding.
        torch.testing.assert_close(theirs.eval()(images), ours, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(timms.eval()(images), ours, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_every_depth_has_torchvisions_keys_and_shapes(depth: int) -> None:
    import torchvision

    with torch.device("meta"):
        ours = ResNet(depth=depth).build().state_dict()  # type: ignore[arg-type]
        theirs = torchvision.models.get_model(f"resnet{depth}").state_dict()
    shapes = {name: tensor.shape for name, tensor in theirs.items() if not name.startswith("fc.")}
    assert {name: tensor.shape for name, tensor in ours.items()} == shapes


def test_resnet_200_has_the_published_number_of_blocks() -> None:
    with torch.device("meta"):
        network = ResNet(depth=200).build()
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 200 - 1 + 4  # 200 layers count the classifier, not the four shortcuts


def test_the_cifar_stem_keeps_the_side_of_small_images() -> None:
    encoder = ResNet(depth=18, stem="cifar").build()
    seen: list[torch.Size] = []
    encoder.layer1.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))  # type: ignore[union-attr]
    assert encoder(torch.zeros(2, 3, 32, 32)).shape == (2, 512)
    assert seen[0][-2:] == (32, 32)


def test_the_small_network_is_as_wide_as_it_is_told() -> None:
    assert ConvNet(widths=(4, 8)).build()(torch.zeros(2, 3, 8, 8)).shape == (2, 8)


def test_a_timm_network_is_built_by_name_and_a_wrong_name_is_one_sentence() -> None:
    assert representation_dim(Timm(name="resnet10t").build(), (3, 32, 32)) == 512
    with pytest.raises(UserError, match="no network named 'resnet1234'"):
        Timm(name="resnet1234").build()


def test_looking_for_the_dimension_leaves_mode_and_statistics_alone() -> None:
    encoder = ConvNet(widths=(4,)).build().train()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    assert representation_dim(encoder, (3, 8, 8)) == 4
    assert encoder.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_an_encoder_that_is_not_one_is_told_so() -> None:
    with pytest.raises(UserError, match=r"it must give \(2, D\)"):
        representation_dim(nn.Conv2d(3, 4, 3), (3, 8, 8))
    with pytest.raises(UserError, match=r"cannot take an input of shape \(3, 4, 4\): .*size"):
        representation_dim(nn.Conv2d(3, 4, 5), (3, 4, 4))


@pytest.mark.parametrize(
    "spec",
    [ConvNet(widths=(4, 8)), ResNet(depth=18, stem="cifar"), ResNet(depth=18), Timm(name="resnet10t")],
    ids=["convnet", "cifar", "imagenet", "timm"],
)
def test_the_first_layer_has_as_many_channels_as_the_images(spec: ConvNet | ResNet | Timm) -> None:
    for channels in (1, 3, 5):
        assert representation_dim(spec.build(channels), (channels, 32, 32)) > 0
        with pytest.raises(UserError, match=r"cannot take an input of shape \(2, 32, 32\)"):
            representation_dim(spec.build(channels), (2, 32, 32))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        default = spec.build()
        torch.manual_seed(0)
        three = spec.build(3)
    assert all(torch.equal(a, b) for a, b in zip(default.parameters(), three.parameters(), strict=True))


def test_an_own_module_is_loaded_with_its_weights(tmp_path: Path) -> None:
    layer = nn.Linear(3 * 8 * 8, 5)
    own = nn.Sequential(nn.Flatten(), layer)
    save_encoder(tmp_path / "encoder.safetensors", own, None, Preprocessing(size=8))
    with pytest.raises(UserError, match="module of your own"):
        load(tmp_path)
    fresh = nn.Linear(3 * 8 * 8, 5)
    loaded = load(tmp_path, encoder=nn.Sequential(nn.Flatten(), fresh))
    assert torch.equal(fresh.weight, layer.weight)
    assert loaded.embed(torch.zeros(2, 3, 16, 12, dtype=torch.uint8)).shape == (2, 5)


@pytest.mark.parametrize("size", [(7, 8), (8, 9), (10, 13), (16, 16), (17, 5)])
def test_same_padding_is_tensorflows(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    encoder = ResNet(depth=18, padding="same").build().double()
    images = torch.randn(1, 3, *size, dtype=torch.float64)
    assert isinstance(encoder, ResNetEncoder)
    first = encoder.layer2[0]
    maps = torch.randn(1, 64, *size, dtype=torch.float64)
    with torch.no_grad():
        pairs = [
            (encoder.conv1(encoder.pad1(images)), slow_same(images, 7, encoder.conv1.weight)),
            (encoder.maxpool(maps), slow_same(maps, 3, None)),
            (first.conv1(first.pad1(maps)), slow_same(maps, 3, first.conv1.weight)),  # type: ignore[union-attr,operator]
        ]
    for fast, slow in pairs:
        np.testing.assert_allclose(fast.numpy(), slow, rtol=1e-12, atol=1e-12)  # float64, sums reordered


def slow_same(maps: torch.Tensor, kernel: int, weight: Any) -> NDArray[np.float64]:
    """What a window of stride 2 gives under SAME, window by window; without a weight its maximum."""
    image = maps[0].numpy()
    counts = [math.ceil(length / 2) for length in image.shape[1:]]
    starts = [
        -(max((count - 1) * 2 + kernel - length, 0) // 2)
        for count, length in zip(counts, image.shape[1:], strict=True)
    ]
    rows = []
    for i, j in np.ndindex(*counts):
        top, left = starts[0] + 2 * i, starts[1] + 2 * j
        seen = image[:, max(top, 0) : top + kernel, max(left, 0) : left + kernel]
        if weight is None:
            rows.append(seen.max(axis=(1, 2)))
        else:
            y, x = max(-top, 0), max(-left, 0)
            part = weight.numpy()[:, :, y : y + seen.shape[1], x : x + seen.shape[2]]
            rows.append((part * seen).sum(axis=(1, 2, 3)))
    return np.stack(rows, axis=1).reshape(1, -1, *counts)


@pytest.mark.parametrize(("width", "dim"), [(2, 4096), (4, 8192)])
def test_the_width_multiplies_all_channels_those_of_the_stem_too(width: int, dim: int) -> None:
    with torch.device("meta"):
        encoder = ResNet(depth=50, width=width).build().eval()
        assert encoder(torch.zeros(1, 3, 32, 32)).shape == (1, dim)
    assert encoder.state_dict()["conv1.weight"].shape == (64 * width, 3, 7, 7)


def test_a_width_below_one_is_refused() -> None:
    with pytest.raises(UserError, match="width is 0; use 1 or more"):
        ResNet(width=0)


def test_the_official_first_block_projects_its_shortcut_at_every_depth() -> None:
    with torch.device("meta"):
        ours = set(ResNet(depth=18).build().state_dict())
        official = set(ResNet(depth=18, first_shortcut="projection").build().state_dict())
    assert {name.rsplit(".", 2)[0] for name in official - ours} == {"layer1.0.downsample"}
    with torch.device("meta"):  # deeper networks need the projection anyway
        deep = [set(ResNet(depth=50, first_shortcut=how).build().state_dict()) for how in SHORTCUTS]
    assert deep[0] == deep[1]


@pytest.mark.parametrize(
    "spec", [ResNet(depth=18, stem="cifar"), ConvNet(widths=(16, 32))], ids=lambda s: s.kind
)
@pytest.mark.parametrize("norm", [GroupNorm(), GroupNorm(standardize=False), LayerNorm(), NoNorm()])
def test_without_batch_norm_an_image_does_not_depend_on_its_batch(spec: Any, norm: Any) -> None:
    torch.manual_seed(0)
    encoder = replace(spec, norm=norm).build().train()
    images = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        alone, among = encoder(images[:1]), encoder(images)[:1]
    # float32 with the sums of a convolution in another order, through some 20 layers
    torch.testing.assert_close(alone, among, rtol=1e-4, atol=1e-5)
    assert not list(encoder.buffers())
    convolutions = [m for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    assert all((conv.bias is None) == norm.has_shift for conv in convolutions)
    assert {type(conv) for conv in convolutions} == {type(norm.conv(1, 1, 1))}


def test_with_batch_norm_an_image_depends_on_its_batch() -> None:
    encoder = ResNet(depth=18, stem="cifar").build().train()
    images = torch.randn(4, 3, 16, 16)
    assert not torch.allclose(encoder(images[:2]), encoder(images)[:2], rtol=1e-2)


@pytest.mark.parametrize("norm", [BatchNorm(), GroupNorm(), LayerNorm(), NoNorm()])
@pytest.mark.parametrize("depth", [18, 50])
def test_zero_gamma_makes_every_block_its_shortcut(depth: int, norm: Any) -> None:
    torch.manual_seed(0)
    encoder: Any = ResNet(depth=depth, norm=norm, zero_gamma=True).build()  # type: ignore[arg-type]
    block = encoder.layer3[0]
    images = torch.randn(2, block.downsample[0].in_channels, 8, 8)
    with torch.no_grad():
        is_shortcut = torch.equal(block(images), block.downsample(images).relu())
    assert is_shortcut == norm.has_shift  # without a norm there is no scale to start at 0


def test_a_recipe_with_any_norm_is_read_back_as_it_was() -> None:
    for norm in (BatchNorm(), GroupNorm(groups=8, standardize=False), LayerNorm(), NoNorm()):
        encoder = ResNet(depth=200, width=2, padding="same", first_shortcut="projection", norm=norm)
        recipe = replace(named("imagenet-300"), encoder=encoder)
        assert from_json(json.dumps(recipe.to_json()), "a test") == recipe
        recipe = replace(recipe, encoder=ConvNet(norm=norm))
        assert from_json(json.dumps(recipe.to_json()), "a test") == recipe


def test_a_recipe_from_before_norms_reads_as_batch_norm() -> None:
    recipe = named("imagenet-300").to_json()
    recipe["encoder"] = {"kind": "resnet", "depth": 50, "stem": "imagenet"}
    assert from_json(json.dumps(recipe), "a test").encoder == ResNet(depth=50)

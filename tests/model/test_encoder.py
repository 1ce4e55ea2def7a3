from pathlib import Path

import pytest
import torch
from torch import nn

from byol.data.views import TwoViews
from byol.model.encoder import ConvNet, ResNet, Timm, representation_dim
from byol.pretrained import load, save_encoder
from byol.run.errors import UserError


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
    save_encoder(tmp_path / "encoder.safetensors", encoder, spec, 64, TwoViews())
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
    assert representation_dim(Timm(name="resnet10t").build(), 32) == 512
    with pytest.raises(UserError, match="no network named 'resnet1234'"):
        Timm(name="resnet1234").build()


def test_looking_for_the_dimension_leaves_mode_and_statistics_alone() -> None:
    encoder = ConvNet(widths=(4,)).build().train()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    assert representation_dim(encoder, 8) == 4
    assert encoder.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_an_encoder_that_is_not_one_is_told_so() -> None:
    with pytest.raises(UserError, match=r"it must give \(2, D\)"):
        representation_dim(nn.Conv2d(3, 4, 3), 8)


def test_an_own_module_is_loaded_with_its_weights(tmp_path: Path) -> None:
    layer = nn.Linear(3 * 8 * 8, 5)
    own = nn.Sequential(nn.Flatten(), layer)
    save_encoder(tmp_path / "encoder.safetensors", own, None, 8, TwoViews())
    with pytest.raises(UserError, match="module of your own"):
        load(tmp_path)
    fresh = nn.Linear(3 * 8 * 8, 5)
    loaded = load(tmp_path, nn.Sequential(nn.Flatten(), fresh))
    assert torch.equal(fresh.weight, layer.weight)
    assert loaded.embed(torch.zeros(2, 3, 16, 12, dtype=torch.uint8)).shape == (2, 5)

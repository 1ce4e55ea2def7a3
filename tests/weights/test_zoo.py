import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

import byol
from byol.data.image.preprocessing import Preprocessing
from byol.errors import UserError
from byol.model.encoder import without_classifier
from byol.weights.pretrained import load


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: nn.Module = torchvision.models.resnet18(num_classes=7)
        return network.eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def representation(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return what stands before the classifier of a torchvision ResNet."""
    seen: list[torch.Tensor] = []
    handle = network.get_submodule("fc").register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(images)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("library", ["timm", "torchvision"])
@pytest.mark.parametrize("prefix", ["", "module.encoder_q.", "state_dict.module.backbone."])
def test_a_checkpoint_of_any_nesting_gives_the_encoder(
    library: str, prefix: str, resnet: nn.Module, images: torch.Tensor, tmp_path: Path
) -> None:
    weights = {f"{prefix}{name}": value for name, value in resnet.state_dict().items()}
    content: object = {**weights, "head.weight": torch.zeros(3, 3)}
    if prefix.startswith("state_dict."):
        content = {"epoch": 3, "state_dict": {k.removeprefix("state_dict."): v for k, v in weights.items()}}
    torch.save(content, tmp_path / "weights.pth")
    opened = load(f"{library}:resnet18@{tmp_path / 'weights.pth'}")
    with torch.no_grad():
        # timm pools over the two sides in another order: float32 sums of 4 numbers.
        torch.testing.assert_close(opened(images), representation(resnet, images), rtol=1e-5, atol=1e-5)
    assert not opened.training


def test_a_safetensors_file_gives_the_encoder(
    resnet: nn.Module, images: torch.Tensor, tmp_path: Path
) -> None:
    save_file(resnet.state_dict(), tmp_path / "weights.safetensors")
    opened = load(f"torchvision:resnet18@{tmp_path / 'weights.safetensors'}")
    with torch.no_grad():
        assert torch.equal(opened(images), representation(resnet, images))


def test_of_two_networks_in_a_checkpoint_one_has_to_be_chosen(
    resnet: nn.Module, images: torch.Tensor, tmp_path: Path
) -> None:
    other = torchvision.models.resnet18()
    file = tmp_path / "both.pth"
    weights = {f"backbone.{k}": v for k, v in resnet.state_dict().items()}
    weights |= {f"momentum_backbone.{k}": v for k, v in other.state_dict().items()}
    torch.save(weights, file)
    with pytest.raises(
        UserError, match=r"2 networks.*backbone, momentum_backbone; choose one with .*#backbone"
    ):
        load(f"torchvision:resnet18@{file}")
    opened = load(f"torchvision:resnet18@{file}#backbone")
    with torch.no_grad():
        assert torch.equal(opened(images), representation(resnet, images))


def test_a_checkpoint_of_another_network_is_refused(resnet: nn.Module, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(resnet.state_dict(), file)
    with pytest.raises(
        UserError, match=r"hold a timm:resnet50: \d+ of its \d+ weights do not fit, the first"
    ):
        load(f"timm:resnet50@{file}")
    torch.save({"a": {"weight": torch.zeros(2)}}, file)
    with pytest.raises(UserError, match=r"no key ends with conv1.weight; it has 1 tensors, such as a.weight"):
        load(f"timm:resnet18@{file}")
    file.write_bytes(b"PK\x03\x04 no checkpoint")
    with pytest.raises(UserError, match="cannot be read as weights alone"):
        load(f"timm:resnet18@{file}")
    with pytest.raises(UserError, match="there is no checkpoint at"):
        load(f"timm:resnet18@{tmp_path / 'none.pth'}")


def test_a_checkpoint_without_its_network_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").touch()
    with pytest.raises(UserError, match=r"does not say which network it belongs to; name it: timm:NAME@"):
        load(tmp_path / "weights.pth")


def test_a_name_that_is_not_there_is_answered_with_what_is_near() -> None:
    with pytest.raises(UserError, match=r"no network named 'resnet19'; near it: resnet"):
        load("timm:resnet19")
    with pytest.raises(UserError, match=r"no classifier of images named 'resnet19'; near it: resnet"):
        load("torchvision:resnet19")
    with pytest.raises(UserError, match=r"no classifier of images named .raft_large"):
        load("torchvision:raft_large@weights.pth")


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_weights_that_cannot_be_had_are_a_sentence(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> nn.Module:
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr(torchvision.models, "get_model", offline)
    with pytest.raises(UserError, match=r"cannot be downloaded \(no route to host\); give .*@FILE"):
        load(f"{library}:resnet18")


def test_the_preprocessing_is_the_library_s_own(resnet: nn.Module, tmp_path: Path) -> None:
    torch.save(resnet.state_dict(), tmp_path / "weights.pth")
    theirs = load(f"torchvision:resnet18@{tmp_path / 'weights.pth'}")
    assert theirs.preprocessing == Preprocessing(size=224, fraction=224 / 256)  # of ImageNet's mean and std
    assert load(f"timm:resnet18@{tmp_path / 'weights.pth'}").preprocessing.fraction == 0.95


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "efficientnet_b0"])
def test_the_classifier_comes_off_whatever_it_is_called(name: str) -> None:
    network = torchvision.models.get_model(name)
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        output = without_classifier(network.eval(), name)(torch.zeros(1, 3, 64, 64))
    assert output.shape == (1, linear.in_features)


def test_a_network_without_a_linear_classifier_is_refused() -> None:
    with pytest.raises(UserError, match="squeezenet1_1 has no linear classifier"):
        without_classifier(torchvision.models.squeezenet1_1(), "squeezenet1_1")


def test_a_network_at_the_root_is_chosen_by_a_dot(resnet: nn.Module, tmp_path: Path) -> None:
    file = tmp_path / "both.pth"
    other = {f"ema.{key}": value + 1 for key, value in resnet.state_dict().items()}
    torch.save({**resnet.state_dict(), **other}, file)
    with pytest.raises(UserError, match=r"2 networks.*: \., ema; choose one with .*both.pth#\.$"):
        load(f"torchvision:resnet18@{file}")
    root, ema = (load(f"torchvision:resnet18@{file}#{prefix}").encoder for prefix in (".", "ema"))
    assert torch.equal(root.get_parameter("conv1.weight"), resnet.get_parameter("conv1.weight"))
    assert torch.equal(ema.get_parameter("conv1.weight"), resnet.get_parameter("conv1.weight") + 1)


@pytest.mark.parametrize("content", [b"", b"hello world", b"\x80\x02", bytes(range(256))])
def test_a_file_that_is_no_checkpoint_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as weights alone"):
        load(f"torchvision:resnet18@{file}")


def test_a_network_with_auxiliary_outputs_has_one_output_also_while_it_learns() -> None:
    network = without_classifier(torchvision.models.googlenet(init_weights=False), "googlenet")
    assert network.train()(torch.zeros(2, 3, 64, 64)).shape == (2, 1024)


@pytest.mark.parametrize("kind", ["lists", "dictionaries", "tuples", "keys"])
def test_a_deep_checkpoint_is_one_sentence(kind: str, tmp_path: Path) -> None:
    n = 100_000
    deep = {
        "lists": b"]" * n + b"a" * (n - 1),
        "dictionaries": b"}X\x01\x00\x00\x00a" * n + b"K\x01" + b"s" * n,
        "tuples": b"K\x01" + b"\x85" * n,
        "keys": b"}K\x01" + b"\x85" * n + b"K\x01s",
    }
    pickled = b"\x80\x02" + deep[kind] + b"."
    whole, file = tmp_path / "whole.pth", tmp_path / "deep.pth"
    torch.save({"a": torch.zeros(2)}, whole)
    with zipfile.ZipFile(whole) as read, zipfile.ZipFile(file, "w") as written:
        for name in read.namelist():
            written.writestr(name, pickled if name.endswith("data.pkl") else read.read(name))
    with pytest.raises(UserError, match=r"deep\.pth (does not hold|cannot be read)"):
        load(f"timm:resnet10t@{file}")


@pytest.mark.parametrize(("format", "suffix"), [("torch", ".pth"), ("safetensors", ".safetensors")])
def test_a_flipped_bit_of_an_exported_encoder_is_not_silent(format: str, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"weights{suffix}"
    byol.export(load("timm:resnet10t@" + str(_saved(tmp_path))), file, format=format)
    name, data = f"timm:resnet10t@{file}", bytearray(file.read_bytes())
    whole = load(name).fingerprint()
    for place in np.linspace(200, len(data) - 1, 9).astype(int).tolist():
        data[place] ^= 4
        file.write_bytes(data)
        with suppress(UserError):
            assert load(name).fingerprint() == whole, place
        data[place] ^= 4
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(UserError, match=r"is damaged at|its digest differs"):
        load(name)


def _saved(folder: Path) -> Path:
    """Return a checkpoint of a small network, whose weights were drawn."""
    torch.manual_seed(0)
    torch.save(timm.create_model("resnet10t", num_classes=0).state_dict(), folder / "drawn.pth")
    return folder / "drawn.pth"

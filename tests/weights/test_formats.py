"""What is exported is what is read back, by whoever reads it."""

import os
from pathlib import Path

import pytest
import timm
import torch
from torch import nn
from torchvision import models

from byol.answer import Answer
from byol.data.image.preprocessing import Preprocessing
from byol.errors import UserError
from byol.model.encoder import ConvNet, ResNet
from byol.weights.encoder_file import save_encoder
from byol.weights.formats import FORMATS, Exported, Normalized, export
from byol.weights.pretrained import Pretrained, load

HOW = Preprocessing(size=32)


def saved(folder: Path, spec: ResNet | ConvNet) -> Path:
    """Write an encoder whose statistics are not those of a new one, as a run does."""
    torch.manual_seed(0)
    network = spec.build()
    with torch.no_grad():
        network(torch.randn(16, 3, 32, 32))
    save_encoder(folder / "encoder.safetensors", network, spec, HOW)
    return folder


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "spec", [ConvNet(widths=(4, 8)), ResNet(depth=18, padding="same")], ids=lambda s: s.kind
)
def test_what_is_read_back_computes_the_same(format: str, spec: ResNet | ConvNet, tmp_path: Path) -> None:
    path = tmp_path / f"out{FORMATS[format].suffixes[0]}"
    found = export(saved(tmp_path, spec), path, format=format)
    answer: Answer = found
    # The same operations on the same numbers; a program may be free to order them otherwise, 1e-6 each.
    assert answer.value == found.difference <= 1e-5 * found.largest
    assert found.largest > 0.1
    assert answer.to_json()["value"] == answer.value
    assert len(answer.table()[0]) == len(answer.table()[1])
    assert str(path) in answer.sentence()
    assert os.fspath(found) == str(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(["encoder.safetensors", path.name])


def test_torchvision_and_timm_load_our_resnet_and_compute_the_same(tmp_path: Path) -> None:
    found = export(saved(tmp_path, ResNet(depth=18)), tmp_path / "resnet18.pth")
    images, ours = torch.randn(4, 3, 32, 32), load(tmp_path)
    theirs: list[nn.Module] = [models.resnet18(), timm.create_model("resnet18", num_classes=0)]
    theirs[0].set_submodule("fc", nn.Identity())
    for network in theirs:
        network.load_state_dict(torch.load(found, weights_only=True))
        with torch.no_grad():
            # float32 sums of the last mean, in another order
            torch.testing.assert_close(network.eval()(images), ours(images), atol=1e-5, rtol=1e-5)


def test_a_program_takes_any_number_of_images_and_needs_nothing_of_ours(tmp_path: Path) -> None:
    found = export(saved(tmp_path, ConvNet(widths=(4, 8))), tmp_path / "net.pt2", format="torch-export")
    program, ours = torch.export.load(found).module(), load(tmp_path)
    for count in (2, 5):
        images = torch.rand(count, 3, 32, 32)
        with torch.no_grad():
            torch.testing.assert_close(program(images), ours(HOW.normalize(images)))


class Own(nn.Module):
    """An encoder of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images.mean(dim=(2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("format", FORMATS)
def test_a_module_of_ones_own_is_exported_and_stays_as_it_is(format: str, tmp_path: Path) -> None:
    own = Pretrained(Own(), Preprocessing(size=8), name="mine").train()
    found = export(own, tmp_path / f"own{FORMATS[format].suffixes[0]}", format=format)
    assert (found.encoder, found.dim, found.size) == ("mine", 2, 8)
    assert found.value < 1e-6
    assert own.training


class Broken:
    """A format whose files lose something: what it says is what is read."""

    suffixes = (".broken",)
    reader = "nobody"

    def write(self, pretrained: Pretrained, path: Path) -> None:
        path.touch()

    def read_back(self, path: Path, like: Pretrained) -> nn.Module:
        half = nn.Sequential(like.encoder, nn.Threshold(torch.inf, 0.0))
        return Normalized(half, like.preprocessing)


def test_a_format_that_a_newcomer_adds_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "broken", Broken())
    found: Exported = export(saved(tmp_path, ConvNet(widths=(4,))), tmp_path / "a.broken", format="broken")
    assert found.value == found.largest > 0


def test_what_cannot_be_exported_is_one_sentence(tmp_path: Path) -> None:
    run = saved(tmp_path, ConvNet(widths=(4,)))
    with pytest.raises(UserError, match="no format 'torchexport'; did you mean torch-export"):
        export(run, tmp_path / "a.pt2", format="torchexport")
    with pytest.raises(UserError, match=r"a.onnx does not end in .pth or .pt, as files of torch do"):
        export(run, tmp_path / "a.onnx")
    with pytest.raises(UserError, match="say where to write"):
        export(run, "")
    with pytest.raises(UserError, match="no encoder at"):
        export(tmp_path / "none", tmp_path / "a.pth")
    (tmp_path / "a.pth").touch()
    with pytest.raises(UserError, match=r"a.pth exists already; replace it with --overwrite"):
        export(run, tmp_path / "a.pth")
    assert export(run, tmp_path / "a.pth", overwrite=True).value == 0.0


class Wayward(nn.Module):
    """A module whose Python depends on the numbers it is given."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = images.mean(dim=(2, 3))
        return rows if rows.sum().item() > 0 else -rows


def test_a_module_that_is_no_program_says_what_to_do_instead(tmp_path: Path) -> None:
    wayward = Pretrained(Wayward(), Preprocessing(size=8), name="mine")
    with pytest.raises(UserError, match=r"mine cannot be written as one program .*--format torch") as caught:
        export(wayward, tmp_path / "a.pt2", format="torch-export")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []

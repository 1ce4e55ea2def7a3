import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from byol.data.image.preprocessing import Preprocessing
from byol.errors import UserError
from byol.model.encoder import ConvNet, ResNet
from byol.model.norm import GroupNorm
from byol.weights.encoder_file import save_encoder
from byol.weights.pretrained import Pretrained, load

SPEC = ConvNet(widths=(4, 8))


def saved(folder: Path, network: nn.Module, spec: ConvNet | None = SPEC) -> Path:
    save_encoder(folder / "encoder.safetensors", network, spec, Preprocessing(size=12))
    return folder / "encoder.safetensors"


def wrapped(network: nn.Module) -> Pretrained:
    return Pretrained(network, Preprocessing(size=12).unnormalized(), name="mine")


def test_a_fresh_encoder_is_the_same_network_with_weights_of_its_seed(tmp_path: Path) -> None:
    encoder = load(saved(tmp_path, SPEC.build()))
    state = torch.get_rng_state()
    first, again, other = (encoder.fresh(seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.fingerprint() == again.fingerprint()
    assert len({one.fingerprint() for one in (encoder, first, other)}) == 3
    assert (first.preprocessing, first.name) == (encoder.preprocessing, "random initialization")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = SPEC.build()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), expected.parameters(), strict=True))


def test_a_module_of_the_user_s_own_is_drawn_anew_by_its_layers() -> None:
    linear, norm = nn.Linear(12, 4), nn.BatchNorm1d(4)
    nn.init.constant_(norm.weight, 5.0)
    fresh = wrapped(nn.Sequential(nn.Flatten(), linear, norm)).fresh(0).encoder
    assert not torch.equal(fresh.get_parameter("1.weight"), linear.weight)
    assert torch.equal(fresh.get_parameter("2.weight"), torch.ones(4))
    assert torch.equal(norm.weight, torch.full((4,), 5.0))


def test_a_module_that_cannot_be_drawn_anew_says_which_part() -> None:
    class Token(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.zeros(3))

    with pytest.raises(UserError, match=r"mine cannot be drawn again .* its module 1 has weights"):
        wrapped(nn.Sequential(nn.Linear(3, 3), Token())).fresh(0)


def test_the_fingerprint_is_that_of_weights_statistics_and_preprocessing() -> None:
    network = SPEC.build()
    encoder = wrapped(network)
    before = encoder.fingerprint()
    assert wrapped(network).fingerprint() == before
    encoder.preprocessing = replace(encoder.preprocessing, fraction=0.5)
    assert encoder.fingerprint() != before
    encoder.preprocessing = replace(encoder.preprocessing, fraction=1.0)
    network.get_buffer("layers.1.running_mean").add_(1)
    assert encoder.fingerprint() != before
    assert wrapped(network.bfloat16()).fingerprint() != before


def test_pictures_are_embedded_whatever_holds_them(tmp_path: Path) -> None:
    encoder, pixels = wrapped(SPEC.build()), torch.randint(0, 256, (5, 3, 20, 16), dtype=torch.uint8)
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path, one in zip(paths, pixels, strict=True):
        Image.fromarray(one.permute(1, 2, 0).numpy()).save(path)
    expected = encoder.embed(pixels)
    assert expected.shape == (5, 8)
    for batch_size in (1, 2, 5, 9):
        given = (Image.open(path) if i % 2 else path for i, path in enumerate(paths))
        torch.testing.assert_close(encoder.embed(given, batch_size), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(encoder.embed(str(paths[0])), expected[:1], rtol=1e-5, atol=1e-6)


def test_what_cannot_be_embedded_is_one_sentence_that_names_it(tmp_path: Path) -> None:
    encoder = wrapped(SPEC.build())
    with pytest.raises(UserError, match=r"a\.jpg cannot be used: it is missing"):
        encoder.embed("a.jpg")
    empty: list[Any] = [[], iter(()), torch.zeros(0, 3, 8, 8, dtype=torch.uint8)]
    for nothing in empty:
        with pytest.raises(UserError, match="images is empty"):
            encoder.embed(nothing)
    for batch_size in (0, 2.5):
        with pytest.raises(UserError, match=f"batch_size is {batch_size}; "):
            encoder.embed(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), batch_size)  # type: ignore[arg-type]


def _peak(status: Path) -> int:
    """Return the most memory that the process took, in kB."""
    return int(status.read_text().split("VmHWM:")[1].split()[0])


def test_a_batch_of_photographs_is_not_in_memory_at_once(tmp_path: Path) -> None:
    side, count = 1500, 60  # 6.75 MB a picture, 405 MB all of them; four times that in floating point
    Image.new("RGB", (side, side), "teal").save(tmp_path / "photo.jpg")
    encoder = wrapped(SPEC.build())
    encoder.embed(tmp_path / "photo.jpg")
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("only Linux says how much memory a process takes")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what it is now
    before = _peak(status)
    encoder.embed([tmp_path / "photo.jpg"] * count)
    assert _peak(status) - before < 200e3  # some pictures, of 34 MB each in both forms


def test_weights_of_another_module_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, SPEC.build(), None)
    with pytest.raises(UserError, match=r"load\(run, encoder=module\)"):
        load(path)
    with pytest.raises(UserError, match=r"are not those of the module: [^\n]+$"):
        load(path, encoder=ConvNet(widths=(4, 9)).build())
    assert load(path, encoder=SPEC.build()).preprocessing.size == 12


class Power(nn.Module):
    """A module whose one setting is no tensor."""

    def __init__(self, power: int) -> None:
        super().__init__()
        self.power = power

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3)) ** self.power


def test_settings_that_are_no_tensors_are_part_of_the_fingerprint() -> None:
    def drawn(spec: ConvNet | ResNet) -> str:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return wrapped(spec.build()).fingerprint()

    groups = [
        ConvNet(widths=(4, 8), norm=GroupNorm(groups=n, standardize=s)) for n in (2, 4) for s in (False, True)
    ]
    paddings = [ResNet(depth=18, stem="cifar", padding=padding) for padding in ("symmetric", "same")]
    for specs in (groups, paddings):
        assert len({drawn(spec) for spec in specs}) == len(specs)
        assert drawn(specs[0]) == drawn(specs[0])
    one, two, again = (wrapped(Power(power)).fingerprint() for power in (1, 2, 2))
    assert one != two == again


def test_what_a_layer_learned_into_buffers_is_not_called_random() -> None:
    frozen = nn.Sequential(nn.Conv2d(3, 4, 3), FrozenBatchNorm2d(4))
    with pytest.raises(UserError, match="its module 1 has weights or buffers and no reset_parameters"):
        wrapped(frozen).fresh(0)


@pytest.mark.parametrize(
    "metadata",
    [
        {"architecture": "[]", "preprocessing": "{}"},
        {"architecture": "3", "preprocessing": "{}"},
        {"architecture": '{"kind": "convnet"}', "preprocessing": "[]"},
        {"architecture": '{"kind": "convnet"}', "preprocessing": '{"size": 12}'},
        {
            "architecture": '{"kind": "convnet"}',
            "preprocessing": '{"size": 12, "mean": [0], "std": [1, 1, 1]}',
        },
        {"architecture": "{", "preprocessing": "{}"},
    ],
)
def test_incomplete_metadata_is_one_sentence(metadata: dict[str, str], tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "encoder.safetensors", metadata)
    with pytest.raises(UserError, match="is not an encoder that byol wrote, or it is damaged"):
        load(tmp_path / "encoder.safetensors")


def test_the_same_encoder_makes_the_same_bytes_with_its_metadata_in_order(tmp_path: Path) -> None:
    network = SPEC.build()
    (first, second) = (tmp_path / name for name in ("first", "second"))
    files = []
    for folder in (first, second):
        folder.mkdir()
        files.append(saved(folder, network).read_bytes())
    assert files[0] == files[1]
    length = int.from_bytes(files[0][:8], "little")
    assert length % 8 == 0
    header = json.loads(files[0][8 : 8 + length])
    assert list(header["__metadata__"]) == ["architecture", "digest", "format", "preprocessing"]
    weights = load_file(first / "encoder.safetensors")  # as any other reader does
    assert weights.keys() == network.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in network.state_dict().items())


def test_a_file_of_before_gives_the_same_representations_bit_for_bit(tmp_path: Path) -> None:
    network = SPEC.build().eval()
    preprocessing = {
        "size": 12,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "crop": "centre square, bicubic",
        "crop_share": 0.75,
    }
    metadata = {
        "format": "pt",
        "architecture": json.dumps({"kind": "convnet", "widths": [4, 8], "norm": {"kind": "batch"}}),
        "preprocessing": json.dumps(preprocessing),
    }
    save_file(network.state_dict(), tmp_path / "encoder.safetensors", metadata)
    opened = load(tmp_path)
    assert opened.preprocessing == Preprocessing(size=12, fraction=0.75)
    images = torch.randint(0, 256, (5, 3, 20, 16), dtype=torch.uint8)
    side = 12  # 0.75 of 16
    square = images[:, :, 4 : 4 + side, 2 : 2 + side].float() / 255  # 12 px: nothing to resize
    mean, std = (torch.tensor(preprocessing[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        assert torch.equal(opened.embed(images), network((square - mean) / std))


def test_an_encoder_of_one_channel_comes_back(tmp_path: Path) -> None:
    how = Preprocessing(size=12, mean=(0.5,), std=(0.25,))
    network = SPEC.build(channels=1)
    save_encoder(tmp_path / "encoder.safetensors", network, SPEC, how)
    opened = load(tmp_path)
    assert opened.preprocessing == how
    images = torch.randint(0, 256, (5, 1, 20, 16), dtype=torch.uint8)
    assert torch.equal(opened.embed(images), Pretrained(network, how).embed(images))
    assert opened.fresh(0).embed(images).shape == (5, 8)


class Opened:
    """A run as another class may hold it: something with a path."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


def test_a_run_is_named_by_any_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    path = saved(tmp_path / "run", SPEC.build())
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = load(path).fingerprint()
    for run in (path.parent, str(path), Opened(path.parent), "~/run", Path("~/run/encoder.safetensors")):
        opened = load(run)
        assert opened.fingerprint() == expected
        assert opened.name == os.fspath(run)


@pytest.mark.parametrize("run", [3, None, torch.nn.Identity()])
def test_what_is_no_run_is_told(run: Any) -> None:
    with pytest.raises(UserError, match=rf"cannot be loaded from a {type(run).__name__}; give a run"):
        load(run)

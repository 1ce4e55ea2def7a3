"""Encoders f: images (B, C, H, W) to representations (B, D).

A name alone (`ResNet`, `ConvNet`, `Timm`) is a spec, plain frozen data that a recipe holds;
`build()` makes the network. Any `nn.Module` with the same mapping can stand in for these.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from byol.errors import UserError, refuse_below
from byol.model.norm import BatchNorm, Norm

_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}


@dataclass(frozen=True, kw_only=True)
class ResNet:
    """ResNet v1 with the stride on the 3x3 convolution, keys and shapes as in torchvision and timm.

    The official BYOL networks are `padding="same"` and `first_shortcut="projection"`.

    Args:
        depth: 18, 34, 50, 101, 152 or 200; from 50 on with bottleneck blocks.
        stem: "imagenet" is a 7x7 convolution of stride 2 and a max pool; "cifar" is one 3x3
            convolution of stride 1, for images of about 32 px.
        width: multiplies all channels, those of the stem too; 1, 2 and 4 in the paper.
        padding: "symmetric" is torch's, the same on all sides; "same" is TensorFlow's SAME, which pads the
            odd pixel at the right and bottom.
        first_shortcut: what the first block of the first group of depths 18 and 34 adds: its input, or a
            projection of it, as the official code (deeper networks need the projection).
        zero_gamma: start the last norm's scale of every block at 0 (1706.02677), so that it begins as its
            shortcut. Off for the published figures (official README, "Note on batch normalization").
        norm: after every convolution.

    Raises:
        UserError: the width is below 1.

    Source: official `utils/networks.py`; Haiku `nets/resnet.py`.
    """

    kind: Literal["resnet"] = "resnet"
    depth: Literal[18, 34, 50, 101, 152, 200] = 50
    stem: Literal["imagenet", "cifar"] = "imagenet"
    width: int = 1
    padding: Literal["symmetric", "same"] = "symmetric"
    first_shortcut: Literal["identity", "projection"] = "identity"
    zero_gamma: bool = False
    norm: Norm = BatchNorm()

    def __post_init__(self) -> None:
        refuse_below("encoder.width", self.width, 1)

    def build(self, channels: int = 3) -> nn.Module:
        """Return the network for some channels; D is 512 * width below depth 50, else 2048 * width."""
        return ResNetEncoder(self, channels)


@dataclass(frozen=True, kw_only=True)
class ConvNet:
    """A few convolutions for a small budget: 4x4 of stride 2 first, then 2x2 max pools and 3x3 in turn.

    Each layer halves the side. A pool before a convolution costs less than a stride in it: the
    backward pass of a strided 3x3 convolution took twice as long on a CPU (docs/log.md).

    Args:
        widths: channels of each convolution; D is the last one.
        norm: after every convolution.

    Raises:
        UserError: there is no width, or one below 1.
    """

    kind: Literal["convnet"] = "convnet"
    widths: tuple[int, ...] = (64, 128, 256)
    norm: Norm = BatchNorm()

    def __post_init__(self) -> None:
        refuse_below("the number of encoder.widths", len(self.widths), 1)
        for width in self.widths:
            refuse_below("one of encoder.widths", width, 1)

    def build(self, channels: int = 3) -> nn.Module:
        """Return the network for images of some channels; D is the last width."""
        return ConvNetEncoder(self, channels)


@dataclass(frozen=True, kw_only=True)
class Timm:
    """Any image network of timm by name, without its classifier and never with downloaded weights.

    Args:
        name: as `timm.list_models()` prints it.
    """

    kind: Literal["timm"] = "timm"
    name: str

    def build(self, channels: int = 3) -> nn.Module:
        """Return the network with pooled output, for images of some channels.

        Raises:
            UserError: timm has no network of this name.
        """
        import timm

        if not timm.is_model(self.name):
            near = timm.list_models(f"{self.name[:6]}*")[:3]
            hint = f"; near it: {', '.join(near)}" if near else ""
            raise UserError(f"timm {timm.__version__} has no network named '{self.name}'{hint}.")
        more: dict[str, Any] = {} if channels == 3 else {"in_chans": channels}
        network: nn.Module = timm.create_model(self.name, pretrained=False, num_classes=0, **more)
        return network


def representation_dim(encoder: nn.Module, shape: Sequence[int]) -> int:
    """Return D of an encoder by showing it two empty inputs.

    Args:
        encoder: maps (B, *shape) to (B, D).
        shape: of one input, such as (C, H, W).

    Raises:
        UserError: the encoder cannot take such inputs, or the output is not (B, D).
    """
    like = next(encoder.parameters(), torch.zeros(()))
    sample = torch.zeros(2, *shape, dtype=like.dtype, device=like.device)
    try:
        with torch.no_grad(), in_eval_mode(encoder):
            output = encoder(sample)
    except (RuntimeError, ValueError, AssertionError) as error:  # what torch and timm raise at a wrong size
        why = str(error).split("\n")[0]
        raise UserError(f"the encoder cannot take an input of shape {tuple(shape)}: {why}") from error
    if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != 2:
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise UserError(f"the encoder maps {tuple(sample.shape)} to {found}; it must give (2, D).")
    return output.shape[1]


@contextmanager
def in_eval_mode(*networks: nn.Module) -> Iterator[None]:
    """Put networks into eval mode for a while, and each of their modules back into its own."""
    modes = [(module, module.training) for network in networks for module in network.modules()]
    try:
        for network in networks:
            network.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode


class ConvNetEncoder(nn.Module):
    """See `ConvNet`."""

    def __init__(self, spec: ConvNet, channels: int = 3) -> None:
        super().__init__()
        widths, norm = spec.widths, spec.norm
        bias = not norm.has_shift
        layers: list[nn.Module] = [norm.conv(channels, widths[0], 4, stride=2, padding=1, bias=bias)]
        for inputs, outputs in pairwise(widths):
            layers += [norm.after_conv(inputs), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
            layers += [norm.conv(inputs, outputs, 3, padding=1, bias=bias)]
        layers += [norm.after_conv(widths[-1]), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        _initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).mean(dim=(2, 3))  # type: ignore[no-any-return]


class ResNetEncoder(nn.Module):
    """See `ResNet`. Attribute names follow torchvision, so that weights go both ways."""

    def __init__(self, spec: ResNet, channels: int = 3) -> None:
        super().__init__()
        block = _BasicBlock if spec.depth < 50 else _Bottleneck
        inputs = 64 * spec.width
        if spec.stem == "imagenet":
            self.pad1, self.conv1 = _padded_conv(spec, channels, inputs, 7, stride=2)
            self.maxpool = _max_pool(spec)
        else:
            self.pad1, self.conv1 = _padded_conv(spec, channels, inputs, 3, stride=1)
            self.maxpool = nn.Identity()
        self.bn1 = spec.norm.after_conv(inputs)
        groups = []
        for group, repeats in enumerate(_BLOCKS[spec.depth]):
            width = 64 * spec.width * 2**group
            blocks: list[nn.Module] = []
            for repeat in range(repeats):
                stride = 2 if group > 0 and repeat == 0 else 1
                is_projected = repeat == 0 and (
                    stride == 2 or inputs != width * block.expansion or spec.first_shortcut == "projection"
                )
                blocks.append(block(spec, inputs, width, stride, is_projected))
                inputs = width * block.expansion
            groups.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = groups
        _initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        x = self.maxpool(F.relu(self.bn1(self.conv1(self.pad1(images))), inplace=True))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean(dim=(2, 3))  # type: ignore[no-any-return]


class _BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, spec: ResNet, inputs: int, width: int, stride: int, is_projected: bool) -> None:
        super().__init__()
        self.pad1, self.conv1 = _padded_conv(spec, inputs, width, 3, stride)
        self.bn1 = spec.norm.after_conv(width)
        _, self.conv2 = _padded_conv(spec, width, width, 3, stride=1)
        self.bn2 = _last_norm(spec, width)
        self.downsample = _projection(spec, inputs, width, stride) if is_projected else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(self.pad1(x))), inplace=True)
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.downsample(x), inplace=True)


class _Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, spec: ResNet, inputs: int, width: int, stride: int, is_projected: bool) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = _conv1x1(spec, inputs, width)
        self.bn1 = spec.norm.after_conv(width)
        self.pad2, self.conv2 = _padded_conv(spec, width, width, 3, stride)
        self.bn2 = spec.norm.after_conv(width)
        self.conv3 = _conv1x1(spec, width, outputs)
        self.bn3 = _last_norm(spec, outputs)
        self.downsample = _projection(spec, inputs, outputs, stride) if is_projected else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(self.pad2(out))), inplace=True)
        out = self.bn3(self.conv3(out))
        return F.relu(out + self.downsample(x), inplace=True)


class _SamePadding(nn.Module):
    """Pads images (B, C, H, W) as TensorFlow's SAME does for a window of `kernel` px moved by `stride`."""

    def __init__(self, kernel: int, stride: int, value: float) -> None:
        super().__init__()
        self.kernel, self.stride, self.value = kernel, stride, value

    def forward(self, x: Tensor) -> Tensor:
        top, bottom = self._sides(x.shape[2])
        left, right = self._sides(x.shape[3])
        return F.pad(x, (left, right, top, bottom), value=self.value)

    def _sides(self, length: int) -> tuple[int, int]:
        windows = -(-length // self.stride)
        total = max((windows - 1) * self.stride + self.kernel - length, 0)
        return total // 2, total - total // 2


def _padded_conv(
    spec: ResNet, inputs: int, outputs: int, kernel: int, stride: int
) -> tuple[nn.Module, nn.Module]:
    """Return a convolution that keeps the side up to its stride, and what has to pad before it."""
    bias = not spec.norm.has_shift
    if spec.padding == "symmetric" or stride == 1:  # an odd kernel of stride 1 is padded alike by both
        conv = spec.norm.conv(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=bias)
        return nn.Identity(), conv
    return _SamePadding(kernel, stride, 0.0), spec.norm.conv(
        inputs, outputs, kernel, stride=stride, bias=bias
    )


def _conv1x1(spec: ResNet, inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    return spec.norm.conv(inputs, outputs, 1, stride=stride, bias=not spec.norm.has_shift)


def _max_pool(spec: ResNet) -> nn.Module:
    if spec.padding == "symmetric":
        return nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(_SamePadding(3, 2, -math.inf), nn.MaxPool2d(3, stride=2))


def _projection(spec: ResNet, inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(_conv1x1(spec, inputs, outputs, stride), spec.norm.after_conv(outputs))


def _last_norm(spec: ResNet, channels: int) -> nn.Module:
    norm = spec.norm.after_conv(channels)
    if spec.zero_gamma and isinstance(getattr(norm, "weight", None), nn.Parameter):
        nn.init.zeros_(norm.get_parameter("weight"))
    return norm


def _initialize(network: nn.Module) -> None:
    # He's normal initialisation over the fan-out, as torchvision does for ResNets; a recipe can have the
    # official code's instead (`initialization`). Reproductions work with either (method notes 1.3).
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

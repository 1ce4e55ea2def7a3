"""Encoders f: images (B, C, H, W) to representations (B, D).

A name alone (`ResNet`, `ConvNet`, `Timm`) is a spec, plain frozen data that a recipe holds;
`build()` makes the network. Any `nn.Module` with the same mapping can stand in for these.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from byol.run.errors import UserError

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

    Args:
        depth: 18, 34, 50, 101, 152 or 200; from 50 on with bottleneck blocks.
        stem: "imagenet" is a 7x7 convolution of stride 2 and a max pool; "cifar" is one 3x3
            convolution of stride 1, for images of about 32 px.
    """

    kind: Literal["resnet"] = "resnet"
    depth: Literal[18, 34, 50, 101, 152, 200] = 50
    stem: Literal["imagenet", "cifar"] = "imagenet"

    def build(self) -> nn.Module:
        """Return the network; D is 512 below depth 50 and 2048 from there on."""
        return ResNetEncoder(self.depth, self.stem)


@dataclass(frozen=True, kw_only=True)
class ConvNet:
    """A few convolutions for a small budget: 4x4 of stride 2 first, then 2x2 max pools and 3x3 in turn.

    Each layer halves the side. A pool before a convolution costs less than a stride in it: the
    backward pass of a strided 3x3 convolution took twice as long on a CPU (docs/log.md).

    Args:
        widths: channels of each convolution; D is the last one.
    """

    kind: Literal["convnet"] = "convnet"
    widths: tuple[int, ...] = (64, 128, 256)

    def build(self) -> nn.Module:
        """Return the network; D is the last width."""
        return ConvNetEncoder(self.widths)


@dataclass(frozen=True, kw_only=True)
class Timm:
    """Any image network of timm by name, without its classifier and never with downloaded weights.

    Args:
        name: as `timm.list_models()` prints it.
    """

    kind: Literal["timm"] = "timm"
    name: str

    def build(self) -> nn.Module:
        """Return the network with pooled output.

        Raises:
            UserError: timm has no network of this name.
        """
        import timm

        if not timm.is_model(self.name):
            near = timm.list_models(f"{self.name[:6]}*")[:3]
            hint = f"; near it: {', '.join(near)}" if near else ""
            raise UserError(f"timm {timm.__version__} has no network named '{self.name}'{hint}.")
        network: nn.Module = timm.create_model(self.name, pretrained=False, num_classes=0)
        return network


def representation_dim(encoder: nn.Module, size: int) -> int:
    """Return D of an encoder by showing it one empty image of (3, size, size).

    Raises:
        UserError: the output is not (B, D).
    """
    was_training = encoder.training
    like = next(encoder.parameters(), torch.zeros(()))
    with torch.no_grad():
        output = encoder.eval()(torch.zeros(2, 3, size, size, dtype=like.dtype, device=like.device))
    encoder.train(was_training)
    if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != 2:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise UserError(f"the encoder maps (2, 3, {size}, {size}) to {shape}; it must give (2, D).")
    return output.shape[1]


class ConvNetEncoder(nn.Module):
    """See `ConvNet`."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, stride=2, padding=1, bias=False)]
        for inputs, outputs in pairwise(widths):
            layers += [nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(widths[-1]), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        _initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).mean(dim=(2, 3))  # type: ignore[no-any-return]


class ResNetEncoder(nn.Module):
    """See `ResNet`. Attribute names follow torchvision, so that weights go both ways."""

    def __init__(self, depth: int, stem: str) -> None:
        super().__init__()
        block = _BasicBlock if depth < 50 else _Bottleneck
        if stem == "imagenet":
            self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
            self.maxpool: nn.Module = nn.MaxPool2d(3, stride=2, padding=1)
        else:
            self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            self.maxpool = nn.Identity()
        self.bn1 = nn.BatchNorm2d(64)
        inputs, layers = 64, []
        for stage, repeats in enumerate(_BLOCKS[depth]):
            width = 64 * 2**stage
            blocks: list[nn.Module] = []
            for repeat in range(repeats):
                blocks.append(block(inputs, width, stride=2 if stage > 0 and repeat == 0 else 1))
                inputs = width * block.expansion
            layers.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        _initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        x = self.maxpool(F.relu(self.bn1(self.conv1(images)), inplace=True))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean(dim=(2, 3))  # type: ignore[no-any-return]


class _BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.downsample(x), inplace=True)


class _Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        return F.relu(out + self.downsample(x), inplace=True)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if inputs == outputs and stride == 1:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))


def _initialize(network: nn.Module) -> None:
    # He's normal initialisation over the fan-out, as torchvision does for ResNets. The official code
    # draws a truncated normal of std 1/sqrt(fan_in); reproductions work with either (method notes 1.3).
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

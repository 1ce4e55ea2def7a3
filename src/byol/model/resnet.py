"""The parts of a ResNet: stem, blocks, shortcuts, and TensorFlow's padding. Its spec is `encoder.ResNet`.

B images of C channels; attribute names follow torchvision, so that weights go both ways.
"""

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from byol.model.initialization import he_normal
from byol.model.norm import Norm

_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}


@dataclass(frozen=True, kw_only=True)
class Layers:
    """How the layers of one ResNet are made: its padding, its norm, and how the last norm of a block starts.

    See `encoder.ResNet` for what each means.
    """

    padding: Literal["symmetric", "same"]
    norm: Norm
    zero_gamma: bool

    def conv(self, inputs: int, outputs: int, kernel: int, stride: int) -> tuple[nn.Module, nn.Module]:
        """Return what pads, and a convolution that then keeps the side up to its stride."""
        bias = not self.norm.has_shift
        if self.padding == "symmetric" or stride == 1:  # an odd kernel of stride 1 is padded alike by both
            conv = self.norm.conv(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=bias)
            return nn.Identity(), conv
        conv = self.norm.conv(inputs, outputs, kernel, stride=stride, bias=bias)
        return SamePadding(kernel, stride, 0.0), conv

    def conv1x1(self, inputs: int, outputs: int, stride: int = 1) -> nn.Module:
        """Return a 1x1 convolution."""
        return self.norm.conv(inputs, outputs, 1, stride=stride, bias=not self.norm.has_shift)

    def max_pool(self) -> nn.Module:
        """Return the stem's 3x3 max pool of stride 2."""
        if self.padding == "symmetric":
            return nn.MaxPool2d(3, stride=2, padding=1)
        return nn.Sequential(SamePadding(3, 2, -math.inf), nn.MaxPool2d(3, stride=2))

    def projection(self, inputs: int, outputs: int, stride: int) -> nn.Module:
        """Return a shortcut that changes the number of channels."""
        return nn.Sequential(self.conv1x1(inputs, outputs, stride), self.norm.after_conv(outputs))

    def last_norm(self, channels: int) -> nn.Module:
        """Return the norm before a block adds its shortcut."""
        norm = self.norm.after_conv(channels)
        if self.zero_gamma and isinstance(getattr(norm, "weight", None), nn.Parameter):
            nn.init.zeros_(norm.get_parameter("weight"))
        return norm


class ResNetEncoder(nn.Module):
    """A ResNet without its classifier, see `encoder.ResNet`.

    Args:
        depth: a key of the table of blocks above.
        stem: for images of 224 px ("imagenet") or of 32 px ("cifar").
        width: multiplies all channels.
        first_shortcut: of the first block of the first group, where both would do.
        layers: how its layers are made.
        channels: C of the images.
    """

    def __init__(
        self,
        *,
        depth: int,
        stem: Literal["imagenet", "cifar"],
        width: int,
        first_shortcut: Literal["identity", "projection"],
        layers: Layers,
        channels: int,
    ) -> None:
        super().__init__()
        block = _BasicBlock if depth < 50 else _Bottleneck
        inputs = 64 * width
        if stem == "imagenet":
            self.pad1, self.conv1 = layers.conv(channels, inputs, 7, stride=2)
            self.maxpool = layers.max_pool()
            finest = 4
        else:
            self.pad1, self.conv1 = layers.conv(channels, inputs, 3, stride=1)
            self.maxpool = nn.Identity()
            finest = 1
        self.bn1 = layers.norm.after_conv(inputs)
        groups = []
        for group, repeats in enumerate(_BLOCKS[depth]):
            outputs = 64 * width * 2**group
            blocks: list[nn.Module] = []
            for repeat in range(repeats):
                stride = 2 if group > 0 and repeat == 0 else 1
                is_projected = repeat == 0 and (
                    stride == 2 or inputs != outputs * block.expansion or first_shortcut == "projection"
                )
                blocks.append(block(layers, inputs, outputs, stride, is_projected))
                inputs = outputs * block.expansion
            groups.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = groups
        self.strides = tuple(finest * 2**group for group in range(4))
        self.channels = tuple(64 * width * 2**group * block.expansion for group in range(4))
        he_normal(self)

    def stages(self, images: Tensor) -> list[Tensor]:
        """Return the map of each group of blocks, fine to coarse: (B, channels[i], h, w) at strides[i]."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(self.pad1(images))), inplace=True))
        maps = []
        for group in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = group(x)
            maps.append(x)
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Return representations (B, D) of images (B, C, H, W): the mean of the coarsest map."""
        return self.stages(images)[-1].mean(dim=(2, 3))


class _BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, layers: Layers, inputs: int, width: int, stride: int, is_projected: bool) -> None:
        super().__init__()
        self.pad1, self.conv1 = layers.conv(inputs, width, 3, stride)
        self.bn1 = layers.norm.after_conv(width)
        _, self.conv2 = layers.conv(width, width, 3, stride=1)
        self.bn2 = layers.last_norm(width)
        self.downsample = layers.projection(inputs, width, stride) if is_projected else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(self.pad1(x))), inplace=True)
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.downsample(x), inplace=True)


class _Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, layers: Layers, inputs: int, width: int, stride: int, is_projected: bool) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = layers.conv1x1(inputs, width)
        self.bn1 = layers.norm.after_conv(width)
        self.pad2, self.conv2 = layers.conv(width, width, 3, stride)
        self.bn2 = layers.norm.after_conv(width)
        self.conv3 = layers.conv1x1(width, outputs)
        self.bn3 = layers.last_norm(outputs)
        self.downsample = layers.projection(inputs, outputs, stride) if is_projected else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(self.pad2(out))), inplace=True)
        out = self.bn3(self.conv3(out))
        return F.relu(out + self.downsample(x), inplace=True)


class SamePadding(nn.Module):
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

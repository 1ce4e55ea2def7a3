"""Encoders f: images (B, C, H, W) to representations (B, D).

A name alone (`ResNet`, `ConvNet`, `Timm`, `Torchvision`) is a spec, plain frozen data that a recipe holds;
`build(channels)` makes the network for images of that many channels. Any `nn.Module` with the same mapping
can stand in for these. Our networks also give their maps: `stages(images)`, `strides` and `channels`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from byol.errors import UserError, refuse_below, refuse_no_numbers
from byol.model.initialization import he_normal
from byol.model.norm import BatchNorm, Norm
from byol.model.resnet import Layers, ResNetEncoder
from byol.model.whitening import Whitening


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
            shortcut. Off for the published scores (official README, "Note on batch normalization").
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
        """Return the network; D is 512 * width below depth 50 and 2048 * width from there on."""
        return ResNetEncoder(
            depth=self.depth,
            stem=self.stem,
            width=self.width,
            first_shortcut=self.first_shortcut,
            layers=Layers(padding=self.padding, norm=self.norm, zero_gamma=self.zero_gamma),
            channels=channels,
        )


@dataclass(frozen=True, kw_only=True)
class ConvNet:
    """A few convolutions for a small budget: 4x4 of stride 2 first, then 2x2 max pools and 3x3 in turn.

    Each layer halves the side. A pool before a convolution costs less than a stride in it: the
    backward pass of a strided 3x3 convolution took twice as long on a CPU (docs/log.md).

    Args:
        widths: channels of each convolution; D is the last one.
        norm: after every convolution.
        representation: "mean" is the mean of the coarsest map; "whitened" is that behind a layer which
            centers and decorrelates it over the images that were learned from, when learning is over.

    Raises:
        UserError: there is no width, or one below 1.
    """

    kind: Literal["convnet"] = "convnet"
    widths: tuple[int, ...] = (64, 128, 256)
    norm: Norm = BatchNorm()
    representation: Literal["mean", "whitened"] = "mean"

    def __post_init__(self) -> None:
        refuse_no_numbers("encoder.widths", self.widths)
        refuse_below("the number of encoder.widths", len(self.widths), 1)
        for width in self.widths:
            refuse_below("one of encoder.widths", width, 1)

    def build(self, channels: int = 3) -> nn.Module:
        """Return the network; D is the last width."""
        last = Whitening(self.widths[-1]) if self.representation == "whitened" else nn.Identity()
        return ConvNetEncoder(self.widths, self.norm, channels, last)


@dataclass(frozen=True, kw_only=True)
class Timm:
    """Any image network of timm by name, without its classifier and never with downloaded weights.

    Args:
        name: as `timm.list_models()` prints it.
    """

    kind: Literal["timm"] = "timm"
    name: str

    def build(self, channels: int = 3) -> nn.Module:
        """Return the network with pooled output.

        Raises:
            UserError: timm has no network of this name.
        """
        import timm

        if not timm.is_model(self.name):
            near = timm.list_models(f"{self.name[:6]}*")[:3]
            hint = f"; near it: {', '.join(near)}" if near else ""
            raise UserError(f"timm {timm.__version__} has no network named '{self.name}'{hint}.")
        # three channels are not passed to timm, which all its networks take: some do not know the option.
        other: dict[str, Any] = {} if channels == 3 else {"in_chans": channels}
        network: nn.Module = timm.create_model(self.name, pretrained=False, num_classes=0, **other)
        return network


@dataclass(frozen=True, kw_only=True)
class Torchvision:
    """Any network of torchvision by name, without its classifier and never with downloaded weights.

    Args:
        name: as `torchvision.models.list_models()` prints it.
    """

    kind: Literal["torchvision"] = "torchvision"
    name: str

    def build(self, channels: int = 3) -> nn.Module:
        """Return the network with pooled output.

        Raises:
            UserError: torchvision has no such classifier of images of so many channels.
        """
        from torchvision import models

        if self.name not in models.list_models(module=models):  # those that classify images
            near = models.list_models(module=models, include=f"{self.name[:6]}*")[:3]
            hint = f"; near it: {', '.join(near)}" if near else ""
            raise UserError(f"torchvision has no classifier of images named '{self.name}'{hint}.")
        if channels != 3:
            raise UserError(f"networks of torchvision take 3 channels, and the images have {channels}.")
        return without_classifier(models.get_model(self.name, weights=None), self.name)


def without_classifier(network: nn.Module, name: str) -> nn.Module:
    """Put an identity in place of a network's last linear layer, which torchvision names in many ways.

    Raises:
        UserError: it has none.
    """
    linear = [key for key, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UserError(f"{name} has no linear classifier to take off; choose another network.")
    network.set_submodule(linear[-1], nn.Identity())
    if hasattr(network, "aux_logits"):
        vars(network)["aux_logits"] = False  # which are other outputs while the network is trained
    return network


EncoderSpec = Annotated[ResNet | ConvNet | Timm | Torchvision, Field(discriminator="kind")]


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
    """A chain of convolutions, see `ConvNet`."""

    def __init__(self, widths: tuple[int, ...], norm: Norm, channels: int, last: nn.Module) -> None:
        super().__init__()
        bias = not norm.has_shift
        layers: list[nn.Module] = [norm.conv(channels, widths[0], 4, stride=2, padding=1, bias=bias)]
        for inputs, outputs in pairwise(widths):
            layers += [norm.after_conv(inputs), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
            layers += [norm.conv(inputs, outputs, 3, padding=1, bias=bias)]
        layers += [norm.after_conv(widths[-1]), nn.ReLU(inplace=True)]
        self.layers, self.last = nn.Sequential(*layers), last
        self.strides = tuple(2 ** (layer + 1) for layer in range(len(widths)))
        self.channels = widths
        he_normal(self)

    def stages(self, images: Tensor) -> list[Tensor]:
        """Return the maps after each ReLU, fine to coarse: (B, channels[i], h, w) at strides[i]."""
        x, maps = images, []
        for layer in self.layers:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                maps.append(x)
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Return representations (B, D) of images (B, C, H, W): the mean of the coarsest map, and `last`."""
        return self.last(self.layers(images).mean(dim=(2, 3)))  # type: ignore[no-any-return]

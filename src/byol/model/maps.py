"""Feature maps of any encoder, for tasks that want to know where: detection, segmentation, depth.

B images of C channels and H x W pixels. A map (B, C', h, w) has a stride: the side of the image over its own.
"""

from collections.abc import Callable
from inspect import ismethod
from typing import Any

import torch
from torch import Tensor, nn

from byol.errors import UserError
from byol.model.encoder import in_eval_mode

_PREFIX = 8  # tokens before those of the patches, at most: class token and registers


def stages(encoder: nn.Module, images: Tensor) -> dict[int, Tensor]:
    """Return the feature maps of images, one for each stride, fine to coarse.

    The maps are those of a method `stages(images)` where the encoder has one, as ours do; timm's
    intermediates; and for any other network the last output at each resolution, tokens of patches laid out as
    the grid they come from.

    Args:
        encoder: any network of images; its mode and its gradient are left to the caller.
        images: (B, C, H, W), as the encoder wants them.

    Returns:
        stride -> map (B, C', H / stride, W / stride).

    Raises:
        UserError: the encoder has no maps.
    """
    found, stride, finer = {}, 1, images
    for output in _ways(encoder)(encoder, images):
        stride *= round(finer.shape[2] / output.shape[2])  # from map to map, where rounding up counts least
        found[stride] = finer = output
    return found


class Stages(nn.Module):
    """An encoder that returns its feature maps, for a detector or a decoder to stand on.

    Args:
        encoder: any network of images, see `stages`. It is trained, moved and saved as part of this module.
        size: side of the empty images that show how many maps there are, in pixels.
        channels: C of the images.

    Attributes:
        strides: of the maps, fine to coarse.
        channels: of the maps.

    Raises:
        UserError: the encoder has no maps.
    """

    def __init__(self, encoder: nn.Module, *, size: int = 224, channels: int = 3) -> None:
        super().__init__()
        self.encoder = encoder
        like = next(encoder.parameters(), torch.zeros(()))
        sample = torch.zeros(2, channels, size, size, dtype=like.dtype, device=like.device)
        with torch.no_grad(), in_eval_mode(encoder):
            found = stages(encoder, sample)
        self.strides = tuple(found)
        self.channels = tuple(output.shape[1] for output in found.values())

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps (B, channels[i], h, w), fine to coarse.

        Raises:
            UserError: images of this size have other maps than those of `size`.
        """
        maps = list(stages(self.encoder, images).values())
        if tuple(output.shape[1] for output in maps) != self.channels:
            raise UserError(
                f"images of {tuple(images.shape[-2:])} px have {len(maps)} maps instead of "
                f"{len(self.channels)} of strides {self.strides}; show them larger."
            )
        return maps


def _ways(encoder: nn.Module) -> Callable[[Any, Tensor], list[Tensor]]:
    if ismethod(getattr(encoder, "stages", None)):  # some have layers of this name
        return _own
    return _timm if ismethod(getattr(encoder, "forward_intermediates", None)) else _hooked


def _own(encoder: Any, images: Tensor) -> list[Tensor]:
    return list(encoder.stages(images))


def _timm(encoder: Any, images: Tensor) -> list[Tensor]:
    maps: list[Tensor] = []
    for output in encoder.forward_intermediates(
        images, norm=True, output_fmt="NCHW", intermediates_only=True
    ):
        _put(maps, output)
    return maps


def _hooked(encoder: nn.Module, images: Tensor) -> list[Tensor]:
    """Return the last output at each resolution, of all outputs of all modules."""
    maps: list[Tensor] = []
    lengths: set[int] = set()  # of sequences of tokens
    last: Any = None

    def see(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal last
        # An adaptive pool makes maps of one size from images of any: what comes before it is the map.
        if not isinstance(output, Tensor) or isinstance(module, (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)):
            return
        last = output
        found = None
        if output.ndim == 3:
            lengths.add(output.shape[1])
            found = _from_tokens(output, maps)
        elif output.ndim == 4:
            found = _as_map(output, images, lengths)
        if found is not None:
            _put(maps, found)

    handles = [module.register_forward_hook(see) for module in encoder.modules()]
    try:
        encoder(images)
    finally:
        for handle in handles:
            handle.remove()
    if not maps:
        shape = "nothing" if last is None else tuple(last.shape)
        raise UserError(
            f"no layer of the {type(encoder).__name__} gives maps (B, C, h, w), the last gives {shape}; "
            "give it a method stages(images) that returns them."
        )
    return maps


def _put(maps: list[Tensor], output: Tensor) -> None:
    """Add a map behind those that are finer; the others were earlier at its size, or only a side branch."""
    while maps and maps[-1].shape[2:].numel() <= output.shape[2:].numel():
        maps.pop()
    maps.append(output)


def _as_map(output: Tensor, images: Tensor, lengths: set[int]) -> Tensor | None:
    """Return an output (B, C, h, w) or (B, h, w, C) as (B, C, h, w), if it is a map of the images."""
    if len(output) != len(images) or output.shape == images.shape:
        return None
    for found in (output, output.permute(0, 3, 1, 2)):
        h, w = found.shape[2:]
        height, width = images.shape[2:]
        is_attention = h == w and h in lengths
        is_alike = abs(h / height - w / width) <= 1.5 / min(height, width) and h <= height and w <= width
        if h * w > 1 and is_alike and not is_attention:  # one pixel is a pooled vector
            return found
    return None


def _from_tokens(output: Tensor, maps: list[Tensor]) -> Tensor | None:
    """Return tokens (B, n, C), one for each position of the last map and a few before them, as a map."""
    if not maps or len(output) != len(maps[-1]):
        return None
    h, w = maps[-1].shape[2:]
    others = output.shape[1] - h * w
    return output[:, others:].mT.reshape(len(output), -1, h, w) if 0 <= others <= _PREFIX else None

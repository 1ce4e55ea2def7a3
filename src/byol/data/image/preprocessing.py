"""How images are prepared for an encoder: one frozen value, which travels with it.

B images, C channels, S x S pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from byol.data.image.depth import PixelRange
from byol.data.image.given import Pictures, pictures
from byol.data.image.histograms import Histograms
from byol.data.image.raw import RawPixels, Unlearned
from byol.data.image.resample import central_box, crop_resize
from byol.data.images import Images, InMemory
from byol.data.views import Indices
from byol.errors import UserError, refuse_no_numbers

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """A central square of each image, resized, bicubic, to one size, and normalized.

    Args:
        size: S, side of the images that the encoder is shown, in pixels, >= 1.
        mean: subtracted from each of the C channels, in units of [0, 1]; by default ImageNet's mean.
        std: what each channel is then divided by, > 0; by default ImageNet's standard deviation.
        fraction: of the shorter side of an image that the square keeps, in (0, 1].
        pixel_range: what was black and what white where pictures had more than 8 bits a sample, when the
            encoder learned; None where they had not.

    Raises:
        UserError: a value is out of its range.
    """

    size: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    fraction: float = 1.0
    pixel_range: PixelRange | None = None

    def __post_init__(self) -> None:
        if not self.size >= 1:
            raise UserError(f"size is {self.size}; an encoder needs images of at least 1 pixel.")
        refuse_constants(self.mean, self.std)
        if not 0 < self.fraction <= 1:
            raise UserError(f"fraction is {self.fraction}; choose a fraction in (0, 1].")

    @property
    def channels(self) -> int:
        """C."""
        return len(self.mean)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one prepared image, (C, S, S)."""
        return self.channels, self.size, self.size

    def unlearned(self) -> tuple[Unlearned, ...]:
        """Return what every encoder has to beat, for images that are not normalized."""
        return Unlearned("raw pixels", "pixels", RawPixels()), Unlearned(
            "histograms", "histograms", Histograms()
        )

    def unnormalized(self) -> "Preprocessing":
        """Return the same squares as they are, in [0, 1]."""
        return replace(self, mean=(0,) * self.channels, std=(1,) * self.channels)

    def noise(self, count: int) -> InMemory:
        """Return a set of random images (count, C, S, S), always the same ones, for where any will do."""
        pixels = np.random.default_rng(0).integers(0, 256, (count, *self.shape), np.uint8)
        return InMemory(torch.from_numpy(pixels))

    def sample(self) -> Tensor:
        """Return two empty images as the encoder takes them, (2, C, S, S) float32."""
        return torch.zeros(2, *self.shape)

    def normalize(self, x: Tensor) -> Tensor:
        """Return images (B, C, S, S) in [0, 1] with each channel's mean removed, divided by its std."""
        return normalize(x, self.mean, self.std)

    def prepare(self, images: Pictures) -> Tensor:
        """Return pictures as the encoder wants them.

        Args:
            images: paths, PIL images, arrays or tensors, one or many, as `byol.data.image.given` has them.

        Returns:
            (B, C, S, S) float32, on the CPU or the device of the one tensor that was given.

        Raises:
            UserError: there is none, or one cannot be read or could mean two things; it is named.
        """
        return torch.cat(list(self.each(images)))

    def each(self, images: Pictures) -> Iterator[Tensor]:
        """Yield each picture as the encoder wants it, (1, C, S, S), when its turn comes; see `prepare`."""
        for picture in pictures(images, self.channels, self.pixel_range):
            box = np.array([central_box(picture.shape[1], picture.shape[2], self.fraction)])
            yield self.normalize(crop_resize(picture[None], box, self.size))

    def read(self, images: Images, index: Indices) -> tuple[Tensor, Indices]:
        """Return some images of a set as the encoder wants them.

        Args:
            images: the set.
            index: (B,) which of its images.

        Returns:
            (B', C, S, S) float32 and the (B',) indices of the images that could be read.
        """
        squares, kept = images.squares(index, self.size, self.fraction)
        return self.normalize(squares), kept

    def pictures(self, images: Images, index: Indices, views: Sequence[Tensor]) -> list[Tensor]:
        """Return images, and normalized views of them, as a person sees them.

        Args:
            images: the set.
            index: (B,) which of its images.
            views: (B, C, S, S) each.

        Returns:
            (B, C, S, S) each, in [0, 1] on the CPU: the whole squares first, then the views.
        """
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        squares, _ = images.squares(index, self.size, self.fraction)
        return [squares.cpu(), *((view * std + mean).clamp(0, 1) for view in views)]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, as they stand in the file of an encoder."""
        said = {} if self.pixel_range is None else {"pixel_range": self.pixel_range.to_json()}
        return {
            "size": self.size,
            "mean": self.mean,
            "std": self.std,
            "crop": "centre square, bicubic",  # spelled as in every file that there is
            "crop_share": self.fraction,
            **said,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Preprocessing":
        """Return what `to_json` wrote; older files have neither `crop_share` nor `pixel_range`.

        Raises:
            LookupError, TypeError, ValueError: it did not write this.
        """
        mean, std = (tuple(float(number) for number in value[name]) for name in ("mean", "std"))
        said = value.get("pixel_range")
        return cls(
            size=int(value["size"]),
            mean=mean,
            std=std,
            fraction=float(value.get("crop_share", 1.0)),
            pixel_range=None if said is None else PixelRange.from_json(said),
        )


def normalize(x: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Return images (B, C, H, W) in [0, 1] with each channel's mean removed, divided by its std."""
    constants = torch.tensor((mean, std), dtype=x.dtype).to(x.device, non_blocking=True)
    shift, scale = constants.view(2, len(mean), 1, 1).unbind()
    return x.sub(shift).div_(scale)


def refuse_constants(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Stop at a mean and a std that images cannot be normalized by.

    Raises:
        UserError: they are empty, of two lengths, or a std is not positive.
    """
    refuse_no_numbers("mean", mean)
    refuse_no_numbers("std", std)
    if not mean or len(mean) != len(std):
        raise UserError(
            f"mean has {len(mean)} numbers and std {len(std)}; give both one number for each channel."
        )
    if not all(channel > 0 for channel in std):
        raise UserError(f"std is {std}; every channel is divided by it, so choose values > 0.")

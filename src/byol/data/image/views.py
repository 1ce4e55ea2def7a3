"""The kinds of views of an image: one, two as BYOL compares them, or two and some small ones.

They are called on images by whoever owns a loop; our loader has them cut in a worker and finished on the
device of the networks. B images, C channels, S x S pixels. A box is (top, left, height, width) in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from byol.data.draws import Steps, uniforms
from byol.data.image.augmentation import T_PRIME, Draw, T, View, distort_crops, draw_boxes
from byol.data.image.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocessing,
    normalize,
    refuse_constants,
)
from byol.data.images import Images, InMemory
from byol.data.views import Crops, Indices
from byol.errors import UserError, refuse_not_whole


class _Views:
    """What kinds of views have in common: how a number of them is made, from boxes to normalized pixels."""

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def drawn(self) -> tuple[tuple[View, int], ...]:
        """How each view is drawn, and its side in pixels."""
        raise NotImplementedError

    @property
    def sizes(self) -> tuple[int, ...]:
        """Side of each view in pixels."""
        return tuple(size for _, size in self.drawn)

    @property
    def channels(self) -> int:
        """C."""
        return len(self.mean)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """(C, S, S) of each view."""
        return tuple((self.channels, size, size) for size in self.sizes)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """(predicting view, target view) of each direction; the first two views are targets."""
        return tuple((i, j) for i in range(len(self.drawn)) for j in (0, 1) if i != j)

    def preprocessing(self, size: int | None = None) -> Preprocessing:
        """Return how whole images are prepared for the encoder that learns from these views.

        Args:
            size: side of the images in pixels; by default that of the views.
        """
        return Preprocessing(size=self.size if size is None else size, mean=self.mean, std=self.std)

    def __call__(
        self, images: Tensor, *, seed: int = 0, step: Steps = 0, index: Indices | Sequence[int] | None = None
    ) -> tuple[Tensor, ...]:
        """Make views of a batch of images in one call, for a loop of one's own.

        The same seed, step and index give the same views: count `step` up. They are those that the loader
        gives for a set in memory.

        Args:
            images: (B, C, H, W) uint8, on the device where the views are wanted.
            seed: of the run.
            step: of the optimizer, or a number for each image as `byol.data.order.Order` gives them.
            index: (B,) position of each image in its set; by default 0, ..., B - 1.

        Returns:
            Of each view (B, C, S, S) float32, normalized, channels last in memory.

        Raises:
            UserError: the images are of another type or shape.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != self.channels:
            dtype = str(images.dtype).removeprefix("torch.")
            raise UserError(
                f"images are {tuple(images.shape)} of {dtype}; these views take "
                f"(B, {self.channels}, H, W) of uint8."
            )
        rows = np.arange(len(images))
        of = rows if index is None else np.asarray(index, np.int64)
        if of.shape != rows.shape:
            raise UserError(f"index has shape {of.shape}; give a number for each of {len(rows)} images.")

        def boxes(_: Indices, heights: Indices, widths: Indices) -> tuple[Indices, ...]:
            return self.boxes(seed, step, of, heights, widths)

        return self.finish(InMemory(images).crops(rows, boxes, self.sizes).tensors, seed, step, of)

    def cut(self, images: Images, seed: int, step: int, index: Indices) -> Crops:
        """Read images and cut the views of each out, resized; see `boxes`.

        Args:
            images: the set.
            seed: the run's seed.
            step: the optimizer step.
            index: (B,) which images.
        """
        return images.crops(index, partial(self.boxes, seed, step), self.sizes)

    def boxes(
        self, seed: int, step: Steps, index: Indices, heights: Indices, widths: Indices
    ) -> tuple[Indices, ...]:
        """Draw where the views of each image are cut out.

        Args:
            seed: the run's seed.
            step: the optimizer step.
            index: (B,) each image's position in its set.
            heights: (B,) the images' heights in pixels.
            widths: (B,) the images' widths in pixels.

        Returns:
            For each view (B, 4) int64 rows (top, left, height, width).
        """
        return tuple(
            draw_boxes(view, uniforms(seed, step, index, number, len(Draw)), heights, widths)
            for number, (view, _) in enumerate(self.drawn)
        )

    def finish(
        self,
        crops: Sequence[Tensor],
        seed: int,
        step: Steps,
        index: Indices,
        device: torch.device | None = None,
    ) -> tuple[Tensor, ...]:
        """Distort and normalize the resized crops of the views.

        What comes out for an image does not depend on the batch around it.

        Args:
            crops: of each view, (B, C, S, S) float32 or float64 in [0, 1], or uint8 in [0, 255]; left as they
                are.
            seed: the run's seed.
            step: the optimizer step.
            index: (B,) each image's position in its set.
            device: where the views are made; by default where the crops are.

        Returns:
            For each view (B, C, S, S), channels last in memory, of the crops' dtype (float32 for uint8).

        Raises:
            UserError: the crops have another number of channels.
        """
        finished = []
        for number, ((view, _), crop) in enumerate(zip(self.drawn, crops, strict=True)):
            if crop.shape[1] != self.channels:
                raise UserError(
                    f"images have {crop.shape[1]} channels, but mean and std of the views have "
                    f"{self.channels}; give one number for each channel."
                )
            draws = uniforms(seed, step, index, number, len(Draw))
            moved = crop.to(device, non_blocking=True)
            finished.append(distort_crops(view, draws, moved, self.normalize))
        return tuple(finished)

    def normalize(self, x: Tensor) -> Tensor:
        """Return images (B, C, H, W) in [0, 1], shifted and scaled by `mean` and `std`.

        This comes after every distortion: blur pads with black and solarize turns at 0.5, both of [0, 1].
        """
        return normalize(x, self.mean, self.std)

    def __post_init__(self) -> None:
        refuse_not_whole("size", self.size, 1)
        refuse_constants(self.mean, self.std)
        if self.channels != 3 and any(view.needs_colors for view, _ in self.drawn):
            raise UserError(
                f"mean has {self.channels} numbers, but saturation, hue and grayscale need 3 channels: red, "
                "green and blue; set them to 0."
            )


@dataclass(frozen=True, kw_only=True)
class OneView(_Views):
    """A single view of an image, cut out and mirrored at random: what a classifier learns from.

    Args:
        size: S, side of the view in pixels, >= 1.
        view: how it is drawn.
        mean: subtracted from each channel, in units of [0, 1]; by default ImageNet's mean.
        std: what each channel is then divided by, > 0; by default ImageNet's standard deviation.

    Raises:
        UserError: a value is out of its range.
    """

    size: int
    view: View = View(jitter=0.0, grayscale=0.0, blur=0.0)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @property
    def drawn(self) -> tuple[tuple[View, int], ...]:
        """The view."""
        return ((self.view, self.size),)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """None: it is compared with no other."""
        return ()


@dataclass(frozen=True, kw_only=True)
class TwoViews(_Views):
    """The pair of views that BYOL compares.

    Args:
        size: S, side of a view in pixels, >= 1.
        first: how view 1 is drawn.
        second: how view 2 is drawn.
        mean: subtracted from each channel, in units of [0, 1]; by default ImageNet's mean.
        std: what each channel is then divided by, > 0; by default ImageNet's standard deviation.

    Raises:
        UserError: a value is out of its range.
    """

    kind: Literal["two"] = "two"
    size: int = 224
    first: View = T
    second: View = T_PRIME
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @property
    def drawn(self) -> tuple[tuple[View, int], ...]:
        """View 1 and view 2."""
        return (self.first, self.size), (self.second, self.size)


@dataclass(frozen=True, kw_only=True)
class MultiCrop(_Views):
    """BYOL's two large views and some small ones, which go through the online network alone.

    The small ones are SwAV's idea and not in BYOL's paper. Each of them is drawn by the same table and by
    numbers of its own; views 1 and 2 have the numbers that they have in `TwoViews`.

    Args:
        size: S, side of the two large views in pixels, >= 1.
        first: how view 1 is drawn.
        second: how view 2 is drawn.
        small: how the small views are drawn.
        small_size: side of the small views in pixels, >= 1.
        num_small: how many there are, >= 1.
        mean: subtracted from each channel, in units of [0, 1]; by default ImageNet's mean.
        std: what each channel is then divided by, > 0; by default ImageNet's standard deviation.

    Raises:
        UserError: a value is out of its range.

    Source: SwAV (2006.09882), section on multi-crop.
    """

    kind: Literal["multicrop"] = "multicrop"
    size: int = 224
    first: View = View(area=(0.25, 1.0))
    second: View = View(area=(0.25, 1.0), blur=0.1, solarize=0.2)
    small: View = View(area=(0.05, 0.25), blur=0.5)
    small_size: int = 96
    num_small: int = 4
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @property
    def drawn(self) -> tuple[tuple[View, int], ...]:
        """View 1, view 2 and the small ones."""
        large = (self.first, self.size), (self.second, self.size)
        return large + ((self.small, self.small_size),) * self.num_small

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_not_whole("small_size", self.small_size, 1)
        refuse_not_whole("num_small", self.num_small, 1)

"""Pictures as a person holds them in Python: paths, PIL images, arrays and tensors, all by one road.

A path and a PIL image are read as files are: upright as the EXIF block says, gray, palettes and 16 bits as
`byol.data.image.decode` has them. An array has its channels last, (H, W), (H, W, 1), (H, W, 3) or (H, W, 4),
and a tensor first, (H, W), (1, H, W), (3, H, W) or (4, H, W); the fourth is alpha. Many of one size may be
one array (N, H, W, C) or one tensor (N, C, H, W). What the values mean is said by their type: uint8 is 0 to
255, uint16 is 0 to 65,535, floating point numbers are 0 to 1, and bool is black and white. Whatever could
mean two things is refused. An encoder that learned from pictures of more than 8 bits a sample has a range of
its own: by that are read files of so many bits, and whole numbers of any type but uint8.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from byol.data.image.decode import as_rgb, decode
from byol.data.image.depth import Deep, PixelRange, deep_gray
from byol.data.image.kinds import UndecodableImage, told_once
from byol.data.index.regular import file_bytes
from byol.errors import UserError
from byol.system.home import expanded

Picture = Image.Image | str | os.PathLike[str] | NDArray[Any] | Tensor
"""One picture."""

Pictures = Picture | Iterable[Picture]
"""Pictures: one, a list of any kinds, whatever can be run through once, an array or a tensor of many."""

ARRAYS = "an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)"
TENSORS = "a tensor (H, W), (1, H, W), (3, H, W) or (4, H, W)"
VALUES = "uint8 (0 to 255), uint16 (0 to 65,535), floating point (0 to 1) or bool"
_WANTED = f"give a path, a PIL image, {ARRAYS} or {TENSORS}, of {VALUES}"

_GRAY, _RGB, _ALPHA = 1, 3, 4
_CHANNELS = (_GRAY, _RGB, _ALPHA)
_LEVELS = 255
_UINT16 = PixelRange(0, (1 << 16) - 1)
_ROUNDING = 0.5 / _LEVELS  # beyond [0, 1], what rounds to black or white


def pictures(
    images: Pictures, channels: int = _RGB, pixel_range: PixelRange | None = None
) -> Iterator[Tensor]:
    """Yield pictures one by one, read when their turn comes.

    Args:
        images: one picture or many.
        channels: C, that are wanted.
        pixel_range: what becomes black and white where there are more than 8 bits a sample.

    Yields:
        (C, H, W) uint8 of each, on the CPU or the device of the one tensor that was given.

    Raises:
        UserError: there is none, or one cannot be read or could mean two things; it is named.
    """
    count = 0
    for name, picture in _each(images, channels):
        count += 1
        yield _with_channels(_pixels(picture, name, channels, pixel_range), channels, name)
    if not count:
        raise UserError("images is empty; give one picture or more.")


def one(picture: Picture, name: str, pixel_range: PixelRange | None = None) -> NDArray[np.uint8]:
    """Return one picture as (H, W, 3), as `pictures` reads it.

    Raises:
        UndecodableImage: its file is damaged.
        UserError: it could mean two things.
    """
    if isinstance(picture, Image.Image):
        return of_pillow(picture, pixel_range)
    pixels = _with_channels(_pixels(picture, name, _RGB, pixel_range), _RGB, name)
    found: NDArray[np.uint8] = pixels.permute(1, 2, 0).cpu().numpy()
    return found


def deep_of(picture: object) -> Deep | None:
    """Return the samples of a PIL image, an array or a tensor of more than 8 bits each; None of any other.

    Raises:
        OSError: the image's file is damaged.
    """
    if isinstance(picture, Image.Image):
        return deep_gray(picture)
    if isinstance(picture, Tensor) and not picture.is_floating_point() and not picture.is_complex():
        picture = picture.detach().cpu().numpy()
    if isinstance(picture, np.ndarray) and picture.dtype.kind in "iu" and picture.dtype != np.uint8:
        return Deep(picture, 8 * picture.dtype.itemsize, picture.dtype.kind == "i") if picture.size else None
    return None


def kind(value: object) -> str:
    """Return in words what something is."""
    if isinstance(value, (Tensor, np.ndarray)):
        what = "a tensor" if isinstance(value, Tensor) else "an array"
        return f"{what} {tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, Image.Image):
        return f"a PIL image of mode {value.mode}"
    return f"of type {type(value).__name__}"


def levels(values: NDArray[Any], name: str, pixel_range: PixelRange | None = None) -> NDArray[np.uint8]:
    """Return numbers as whole levels from 0 to 255.

    Args:
        values: of any shape and of a type that has a range of its own, or of any whole type with a range.
        name: what a person calls them.
        pixel_range: of whole numbers that are not uint8.

    Raises:
        UserError: their type has none, or they lie outside of it.
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(_LEVELS)
    if values.dtype == np.uint16 and pixel_range is None:
        pixel_range = _UINT16
    if values.dtype.kind in "iu" and pixel_range is not None:
        return pixel_range.levels(values)
    if values.dtype.kind != "f":
        raise UserError(
            f"{name} holds {values.dtype} numbers, whose range is not known; give {VALUES}, such as "
            "array.astype(numpy.uint8) where they lie in 0 to 255."
        )
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)  # NaN if one is
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
        raise UserError(
            f"{name} holds {values.dtype} numbers from {low:g} to {high:g}; give floating point numbers from "
            "0 to 1, none of them NaN, or uint8 from 0 to 255."
        )
    return np.rint(values.astype(np.float32, copy=False) * _LEVELS).clip(0, _LEVELS).astype(np.uint8)


def tensor_levels(images: Tensor, name: str, pixel_range: PixelRange | None = None) -> Tensor:
    """Return a tensor of any such type as uint8, where it is if it is uint8 and else on the CPU."""
    if images.dtype == torch.uint8:
        return images
    images = images.detach().cpu()
    numbers = images.float() if images.dtype == torch.bfloat16 else images  # which numpy does not have
    return torch.from_numpy(levels(numbers.numpy(), name, pixel_range))


def _each(images: Pictures, channels: int) -> Iterator[tuple[str, Any]]:
    """Yield the name of each picture and the picture, out of whatever holds them."""
    if isinstance(images, (str, os.PathLike, Image.Image)):
        yield _name(images, 0), images
        return
    if isinstance(images, np.ndarray) and images.dtype.kind in "OU":
        images = images.ravel().tolist()  # of paths, as pandas gives them
    if isinstance(images, (Tensor, np.ndarray)):
        many = images.ndim == 4
        for i, one in enumerate(images if many else [images]):
            yield f"picture {i} of {kind(images)}" if many else kind(images), one
        return
    if isinstance(images, (Mapping, Set, bytes, bytearray)) or not hasattr(images, "__iter__"):
        raise UserError(f"images is {kind(images)}; {_WANTED}, or a list of these.")
    for i, one in enumerate(images):
        yield _name(one, i), one


def _name(picture: object, i: int) -> str:
    if isinstance(picture, (str, os.PathLike)):
        return os.fsdecode(picture)
    return f"picture {i}, {kind(picture)},"


def _pixels(picture: Any, name: str, channels: int, pixel_range: PixelRange | None) -> Tensor:
    """Return one picture as (C, H, W) uint8, with the channels that it has."""
    try:
        if isinstance(picture, (str, os.PathLike)):
            return _first(decode(file_bytes(expanded(picture)), pixel_range))
        if isinstance(picture, Image.Image):
            return _first(of_pillow(picture, pixel_range))
    except UndecodableImage as error:
        raise UserError(f"{name} cannot be used: {error}.") from error
    if isinstance(picture, np.ndarray):
        return _first(levels(_channels_last(picture, name, channels), name, pixel_range))
    if isinstance(picture, Tensor):
        return tensor_levels(_channels_first(picture, name, channels), name, pixel_range)
    raise UserError(f"{name} is no picture; {_WANTED}.")


def of_pillow(image: Image.Image, pixel_range: PixelRange | None = None) -> NDArray[np.uint8]:
    """Return a picture that was opened with Pillow as its file would be read, (H, W, 3).

    Raises:
        UndecodableImage: its file is damaged, or its values have no known range.
    """
    with told_once():
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
        return as_rgb(image, pixel_range)


def _first(pixels: NDArray[np.uint8]) -> Tensor:
    """Return (H, W, C) as (C, H, W), without a copy where it can be."""
    usable = pixels if pixels.flags.writeable else pixels.copy()  # torch warns of what cannot be written
    return torch.from_numpy(np.ascontiguousarray(usable)).permute(2, 0, 1)


def _channels_last(array: NDArray[Any], name: str, channels: int) -> NDArray[Any]:
    """Return an array (H, W) or (H, W, C) as (H, W, C)."""
    known = {*_CHANNELS, channels}
    shaped = array[:, :, None] if array.ndim == 2 else array
    if shaped.ndim == 3 and shaped.size and shaped.shape[2] in known:
        if array.ndim == 3 and shaped.shape[0] in known:
            raise UserError(
                f"{name} may have its channels first or last; give a tensor, whose channels are the first."
            )
        return shaped.astype(shaped.dtype.newbyteorder("="), copy=False)
    if array.ndim == 3 and array.size and array.shape[0] in known:
        raise UserError(
            f"{name} has its channels first; give {ARRAYS}, or torch.from_numpy(array), a tensor (C, H, W)."
        )
    raise UserError(f"{name} has no shape of a picture; give {ARRAYS}, or many as one array (N, H, W, 3).")


def _channels_first(tensor: Tensor, name: str, channels: int) -> Tensor:
    """Return a tensor (H, W) or (C, H, W) as (C, H, W)."""
    known = {*_CHANNELS, channels}
    shaped = tensor[None] if tensor.ndim == 2 else tensor
    if shaped.ndim == 3 and shaped.numel() and len(shaped) in known:
        return shaped
    if tensor.ndim == 3 and tensor.numel() and tensor.shape[2] in known:
        raise UserError(f"{name} has its channels last; give tensor.permute(2, 0, 1), (C, H, W).")
    raise UserError(f"{name} has no shape of a picture; give {TENSORS}, or many as one tensor (N, 3, H, W).")


def _with_channels(pixels: Tensor, channels: int, name: str) -> Tensor:
    """Return a picture (C, H, W) with as many channels as are wanted."""
    if len(pixels) == channels:
        return pixels
    if len(pixels) == _GRAY:
        return pixels.expand(channels, -1, -1)
    if len(pixels) == _ALPHA and channels in (_GRAY, _RGB):
        pixels = _first(as_rgb(Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy()))).to(pixels.device)
    if channels == len(pixels):
        return pixels
    if channels == _GRAY and len(pixels) == _RGB:
        gray = Image.fromarray(pixels.permute(1, 2, 0).cpu().contiguous().numpy()).convert("L")
        return _first(np.array(gray)[:, :, None]).to(pixels.device)
    raise UserError(f"{name} has {len(pixels)} channels and the encoder takes {channels}.")

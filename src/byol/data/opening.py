"""How images are opened: by what a person names, or from a tensor or a data set."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from byol.data.builtin import open_builtin
from byol.data.image.depth import PixelRange
from byol.data.image.given import VALUES, deep_of, kind, tensor_levels
from byol.data.images import Files, Images, InMemory
from byol.data.in_memory import keep_in_memory
from byol.data.index import archive
from byol.data.index.dataset import DatasetIndex
from byol.data.index.folder import index_splits
from byol.data.index.listing import SUFFIXES as LISTS
from byol.data.index.listing import index_list
from byol.data.index.meaning import said_of, with_meaning
from byol.data.index.packfile import is_pack, open_pack
from byol.data.index.slot import Index
from byol.errors import UserError
from byol.system.cache import cache_folder
from byol.system.home import expanded

BUILTIN = "builtin"
_PART = 256

Data = str | os.PathLike[str] | Tensor | Dataset[Any] | Images
"""Images as a person gives them: see `open_data`."""


def open_data(
    data: Data, cache: Path | None = None, pixel_range: PixelRange | None = None
) -> dict[str, Images]:
    """Open images by what a person names, or from what is at hand.

    Args:
        data: path of a folder (see `index_splits`), an archive of one, a list (`index_list`) or a file that
            `byol pack` wrote, or "builtin"; a tensor (N, 3, H, W) or (N, 1, H, W) of uint8, uint16, bool, or
            floating point numbers in [0, 1], which is kept as uint8; a map-style `torch.utils.data.Dataset`
            (see `DatasetIndex`); or images that were opened before.
        cache: folder for what is computed once; by default $BYOL_CACHE, or else ~/.cache/byol.
        pixel_range: by which pictures of more than 8 bits a sample are read: that of the encoder that is
            going to look at them. By default it is found, see `byol.data.index.meaning`.

    Returns:
        Split ("train", "val", "test") -> images. Those that were left out are in `bad`. What is no path has
        the one split "train".

    Raises:
        UserError: there is nothing to open at `data`, too many of its images cannot be decoded, or it is of
            another type or shape.
    """
    if isinstance(data, str) and data == BUILTIN:
        return {**open_builtin()}
    if isinstance(data, Tensor):
        return {"train": _of_tensor(data, pixel_range)}
    if isinstance(data, Images):
        return {"train": data}
    if cache is None:
        cache = cache_folder()
    images: dict[str, Images] = {}
    for split, index in with_meaning(indices(data, cache), pixel_range).items():
        small = keep_in_memory(index, cache / "packed")
        images[split] = Files(index) if small is None else small
    return images


def named_data(data: Data) -> str:
    """Return what a recipe records of its images: an absolute path or "builtin"; "" of what has no name."""
    if not isinstance(data, (str, os.PathLike)) or data in ("", BUILTIN):
        return data if isinstance(data, str) else ""
    return str(expanded(data).resolve())


def indices(data: Data, cache: Path) -> Mapping[str, Index]:
    """Find the images one by one: split -> index.

    Args:
        data: as of `open_data`, but for the built-in set and images that were opened before.
        cache: folder for what is computed once.

    Raises:
        UserError: there is nothing to open at `data`, or it is of another type or shape.
    """
    if isinstance(data, Tensor):
        images = _of_tensor(data, None)
        index = DatasetIndex(images.images)
        if images.pixel_range is not None:
            index = index.meaning(images.pixel_range, images.notes)
        return {"train": index}
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        _refuse_unsized(data)
        return {"train": DatasetIndex(data)}  # type: ignore[arg-type]  # it has a length
    if not isinstance(data, (str, os.PathLike)):
        raise UserError(
            f"images cannot be read from a {type(data).__name__}; give a path, 'builtin', a tensor "
            "(N, 3, H, W) of uint8, or a map-style torch.utils.data.Dataset."
        )
    if not os.fspath(data):
        raise UserError("no images are named: give the path of a folder, a list, an archive or a pack.")
    path = expanded(data)
    if path.is_file() and is_pack(path):  # first, as its name may end in anything
        return open_pack(path.resolve())
    if path.is_file() and archive.is_archive(path):
        unpacked = index_splits(archive.unpack(path, cache / "archives"), cache / "indices")
        notes = archive.notes_of(path, cache / "archives")
        return {split: replace(index, notes=index.notes + notes) for split, index in unpacked.items()}
    if path.is_dir():
        return index_splits(path, cache / "indices")
    if path.is_file() and path.suffix.lower() in LISTS:
        return index_list(path, cache / "indices")
    raise UserError(
        f"there are no images at {data}: give a folder, an archive ({', '.join(archive.SUFFIXES)}),"
        f" a list of paths ({', '.join(LISTS)}) or a file written by byol pack."
    )


def _of_tensor(data: Tensor, known: PixelRange | None) -> InMemory:
    """Return a tensor of images as (N, 3, H, W) uint8, a single channel repeated without a copy."""
    if data.ndim != 4 or data.shape[1] not in (1, 3) or not data.numel():
        raise UserError(
            f"the images are {kind(data)}; give (N, 3, H, W) or (N, 1, H, W) of {VALUES}, one image or more."
        )
    pixel_range, notes = None, tuple[str, ...]()
    if (samples := deep_of(data)) is not None:
        pixel_range, notes = said_of([samples], "as found in the tensor", known)
    if data.dtype != torch.uint8:  # some at a time, as floating point numbers take four times the memory
        name = f"{kind(data)}, the images,"
        data = torch.cat([tensor_levels(part, name, pixel_range) for part in torch.split(data, _PART)])
    return InMemory(data.expand(-1, 3, -1, -1), notes=notes, pixel_range=pixel_range)


def _refuse_unsized(data: Dataset[Any]) -> None:
    if not hasattr(data, "__len__"):
        raise UserError(
            f"the {type(data).__name__} has no length; give a data set with __len__ and __getitem__."
        )

"""Features of a whole image set, kept on disk."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from byol.data.image.preprocessing import Preprocessing
from byol.data.images import Images
from byol.errors import UserError
from byol.system.cache import cache_folder
from byol.system.device import Device
from byol.system.digest import json_digest
from byol.system.files import write_text
from byol.system.lock import exclusive_lock
from byol.system.progress import Progress
from byol.weights.pretrained import Pretrained

Encode = Callable[[Tensor], Tensor]

_FORMAT = 1  # raise it whenever what is computed or how it is laid out changes
_BATCH = 512


@torch.no_grad()
def features(
    encode: Encode,
    images: Images,
    indices: NDArray[np.int64],
    preprocessing: Preprocessing,
    batch_size: int = _BATCH,
) -> tuple[Tensor, NDArray[np.int64]]:
    """Encode images of a set in batches.

    Args:
        encode: maps prepared images (B, C, S, S) on the CPU to (B, D) on any device.
        images: the set.
        indices: which images (N,).
        preprocessing: how they are prepared.
        batch_size: images at once.

    Returns:
        Features float32 (M, D) on the CPU and the indices (M,) they belong to; M < N where files
        could not be decoded.
    """
    rows, kept = [], []
    for start in range(0, len(indices), batch_size):
        prepared, readable = preprocessing.read(images, indices[start : start + batch_size])
        if len(readable):
            rows.append(encode(prepared).float().cpu())
            kept.append(readable)
    return torch.cat(rows), np.concatenate(kept)


def encode_with(encoder: Pretrained, device: Device) -> Encode:
    """Return an encoder as a function of prepared images (B, C, S, S): in eval mode, in float32."""
    encoder.to(device.device).eval()
    return lambda prepared: encoder(prepared.to(device.device))


def kept_features(
    encoder: Pretrained, images: Images, device: Device, progress: Progress, *, flip: bool = False
) -> Tensor:
    """Return an encoder's features of a whole set (N, D), computed once and then mapped from disk.

    They lie in the cache folder under a fingerprint of the weights, the images and the preprocessing. When
    the computation is stopped, the next one goes on where it was.

    Args:
        encoder: its weights and buffers are left as they are; it is moved to the device, in eval mode.
        images: the set.
        device: where the encoder runs.
        progress: shows how far it is.
        flip: mirror the images first.

    Returns:
        float32 (N, D) on the CPU; the rows of files that cannot be decoded are nan.

    Raises:
        UserError: a feature of an image that can be decoded is not finite, or none can be decoded.
    """
    how = encoder.preprocessing
    key = [_FORMAT, encoder.fingerprint(), images.digest(), flip, how.size, how.fraction]
    path = cache_folder() / "features" / f"{json_digest(key)}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(path.with_suffix(".lock")):
            if not path.exists():
                _compute(encoder, images, device, progress, flip, path)
    return torch.from_numpy(np.load(path, mmap_mode="c"))


@torch.no_grad()
def _compute(
    encoder: Pretrained, images: Images, device: Device, progress: Progress, flip: bool, path: Path
) -> None:
    """Fill a file with the rows of all images, in order, and rename it when the last is there."""
    part, count = path.with_suffix(".part.npy"), path.with_suffix(".count")
    encode = encode_with(encoder, device)
    table, done = _begun(part, count)
    for start in range(done, len(images), _BATCH):
        indices = np.arange(start, min(start + _BATCH, len(images)))
        prepared, readable = encoder.preprocessing.read(images, indices)
        if len(readable):
            rows = encode(prepared.flip(-1) if flip else prepared).float().cpu().numpy()
            if not np.isfinite(rows).all():
                broken = int((~np.isfinite(rows).all(axis=1)).sum())
                raise UserError(
                    f"{encoder.name} makes features that are not finite of {broken} of {len(rows)} images, "
                    f"the first of them {images.name(int(readable[0]))}; its weights are damaged."
                )
            if table is None:
                shape = len(images), rows.shape[1]
                count.unlink(missing_ok=True)
                table = np.lib.format.open_memmap(part, mode="w+", dtype=np.float32, shape=shape)
                table[:start] = np.nan
            table[readable] = rows
        if table is not None:
            table[np.setdiff1d(indices, readable)] = np.nan
            if start // _BATCH % 16 == 15:
                table.flush()
                write_text(count, str(int(indices[-1]) + 1))
        progress.show(f"features of {encoder.name}: {int(indices[-1]) + 1:,} of {len(images):,} images")
    if table is None:
        raise UserError(f"none of the {len(images):,} images can be decoded, {images.name(0)} for one.")
    table.flush()
    with part.open("rb") as file:
        os.fsync(file.fileno())  # before its name says that it is whole
    part.replace(path)
    count.unlink(missing_ok=True)


def _begun(part: Path, count: Path) -> tuple["np.memmap[Any, Any] | None", int]:
    """Return the rows that an earlier process left and how many are done; nothing where either is damaged."""
    try:
        return np.load(part, mmap_mode="r+"), int(count.read_text())
    except (OSError, ValueError, EOFError):
        return None, 0

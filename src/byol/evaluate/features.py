"""Features of a whole image set, kept on disk."""

import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

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
from byol.system.files import named_errors, write_text
from byol.system.lock import exclusive_lock
from byol.system.progress import Progress
from byol.system.summed import add_sum, content_end
from byol.weights.pretrained import Pretrained

Encode = Callable[[Tensor], Tensor]

_FORMAT = 2  # raise it whenever what is computed or how it is laid out changes
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
    table = _mapped(path)
    if table is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(path.with_suffix(".lock")):
            if _mapped(path) is None:
                _compute(encoder, images, device, progress, flip, path)
        table = _mapped(path)
    assert table is not None, path
    return torch.from_numpy(table)


def _mapped(path: Path) -> NDArray[np.float32] | None:
    """Return the table that a file holds; None where there is none, or it is damaged."""
    try:
        with path.open("rb") as file:
            content_end(file)
        return np.load(path, mmap_mode="c")  # type: ignore[no-any-return]
    except (OSError, ValueError):
        return None


@torch.no_grad()
def _compute(
    encoder: Pretrained, images: Images, device: Device, progress: Progress, flip: bool, path: Path
) -> None:
    """Write the rows of all images, in order, into a file that gets its name when the last is there.

    They are written and not mapped: a disk that is full is then an error, and does not end the process.
    """
    part, count = path.with_suffix(".part.npy"), path.with_suffix(".count")
    encode = encode_with(encoder, device)
    file, dim, done = _begun(part, count)
    with named_errors(part), ExitStack() as opened:
        if file is not None:
            opened.enter_context(file)
        for start in range(done, len(images), _BATCH):
            indices = np.arange(start, min(start + _BATCH, len(images)))
            prepared, readable = encoder.preprocessing.read(images, indices)
            rows = np.full((len(indices), dim), np.nan, np.float32)
            if len(readable):
                found = encode(prepared.flip(-1) if flip else prepared).float().cpu().numpy()
                _refuse_not_finite(found, encoder.name, images.name(int(readable[0])))
                if file is None:
                    dim = found.shape[1]
                    count.unlink(missing_ok=True)
                    file = opened.enter_context(part.open("w+b"))
                    header = {"descr": "<f4", "fortran_order": False, "shape": (len(images), dim)}
                    np.lib.format.write_array_header_1_0(file, header)
                    file.write(np.full((start, dim), np.nan, np.float32).tobytes())
                    rows = np.full((len(indices), dim), np.nan, np.float32)
                rows[readable - start] = found
            if file is not None:
                file.write(rows.tobytes())
                if start // _BATCH % 16 == 15:
                    file.flush()
                    write_text(count, str(int(indices[-1]) + 1))
            progress.show(f"features of {encoder.name}: {int(indices[-1]) + 1:,} of {len(images):,} images")
        if file is None:
            raise UserError(f"none of the {len(images):,} images can be decoded, {images.name(0)} for one.")
        add_sum(file)
        file.flush()
        os.fsync(file.fileno())  # before its name says that it is whole
    part.replace(path)
    count.unlink(missing_ok=True)


def _refuse_not_finite(rows: NDArray[np.float32], encoder: str, image: str) -> None:
    if not np.isfinite(rows).all():
        broken = int((~np.isfinite(rows).all(axis=1)).sum())
        raise UserError(
            f"{encoder} makes features that are not finite of {broken} of {len(rows)} images, the first of "
            f"them {image}; its weights are damaged."
        )


def _begun(part: Path, count: Path) -> tuple[IO[bytes] | None, int, int]:
    """Return the file that an earlier process left, behind its last row, with D and how many rows are done.

    Nothing of it where it is damaged.
    """
    with ExitStack() as opened, suppress(OSError, ValueError, EOFError):
        done, file = int(count.read_text()), opened.enter_context(part.open("r+b"))
        np.lib.format.read_magic(file)
        (_, dim), _, _ = np.lib.format.read_array_header_1_0(file)
        end = file.tell() + 4 * dim * done
        if file.seek(0, os.SEEK_END) < end:
            raise ValueError("rows are missing")
        file.seek(end)
        file.truncate()
        opened.pop_all()  # it stays open
        return file, dim, done
    return None, 0, 0

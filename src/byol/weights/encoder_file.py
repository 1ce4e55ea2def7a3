"""The file of an encoder: weights as safetensors; architecture, preprocessing and a digest as metadata."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from torch import Tensor, nn

from byol.data.image.preprocessing import Preprocessing
from byol.errors import UserError
from byol.model.encoder import EncoderSpec
from byol.system.digest import digest
from byol.system.files import whole_file

_Spec = TypeAdapter[EncoderSpec](EncoderSpec)
_METADATA, _DIGEST = "__metadata__", "digest"
_OURS = {"architecture", "preprocessing"}  # what no other library's files say
_BEFORE_DIGESTS = {"format", *_OURS}  # all that older files say
_LENGTH = 8  # bytes that say how long the header is


def save_encoder(
    path: Path, encoder: nn.Module, spec: EncoderSpec | None, preprocessing: Preprocessing
) -> None:
    """Write an encoder's weights as safetensors, with architecture and preprocessing in the metadata.

    The same encoder makes the same bytes. They are on the disk when this returns.

    Args:
        path: of the file.
        encoder: the online encoder; keys are its own, so those of torchvision and timm for a `ResNet`.
        spec: how to build it again; None for a module of the user's own.
        preprocessing: how images are prepared for it.
    """
    from safetensors.torch import save

    metadata = {
        "format": "pt",
        "architecture": json.dumps({"kind": "custom"} if spec is None else asdict(spec)),
        "preprocessing": json.dumps(preprocessing.to_json()),
    }
    weights, memory = dict[str, Tensor](), set[int]()
    for name, tensor in encoder.state_dict().items():
        weights[name] = tensor.detach().cpu().contiguous()
        if (place := weights[name].untyped_storage().data_ptr()) in memory:
            weights[name] = weights[name].clone()  # layers with two names, or that share a weight: once each
        memory.add(place)
    header, content = _parts(save(weights, metadata))
    said = dict(sorted(header[_METADATA].items()))  # safetensors shuffles them
    said[_DIGEST] = _digest({**header, _METADATA: said}, content)
    header[_METADATA] = dict(sorted(said.items()))
    text = _text(header)
    text += b" " * (-len(text) % 8)
    with whole_file(path, is_only_writer=True, is_synced=True) as file:
        file.writelines((len(text).to_bytes(_LENGTH, "little"), text, content))


def read_encoder(path: Path) -> tuple[dict[str, Tensor], EncoderSpec | None, Preprocessing]:
    """Return what `save_encoder` wrote.

    Returns:
        The weights; the architecture, None for a module of the user's own; and the preprocessing.

    Raises:
        UserError: it did not write this file, or the file has changed since.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        data = path.read_bytes()
        metadata = checked(data)
        is_custom = json.loads(metadata["architecture"])["kind"] == "custom"
        spec = None if is_custom else _Spec.validate_json(metadata["architecture"], strict=True)
        return load(data), spec, Preprocessing.from_json(json.loads(metadata["preprocessing"]))
    except (SafetensorError, LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is not an encoder that byol wrote, or it is damaged: take a copy of it, or let the run "
            "write it again with byol pretrain --resume RUN."
        ) from error


def checked(data: bytes) -> dict[str, str]:
    """Return the metadata of a safetensors file. One that `save_encoder` wrote is compared with its digest.

    Raises:
        ValueError: it is no such file, or it has changed since.
        RecursionError: its header is nested too deep.
    """
    header, content = _parts(data)
    metadata: dict[str, str] = header.get(_METADATA, {})
    if not isinstance(metadata, dict):
        raise ValueError("the metadata are no JSON object")
    has_digest = metadata.keys() >= _OURS and not metadata.keys() <= _BEFORE_DIGESTS
    if has_digest and metadata.get(_DIGEST) != _digest(header, content):
        raise ValueError("its digest differs, or is lost")
    return metadata


def _parts(data: bytes) -> tuple[dict[str, Any], memoryview]:
    """Return the header of a safetensors file and the bytes of its tensors.

    A file is the length of its header (8 bytes, little endian), the header (JSON, padded with spaces to a
    multiple of 8 bytes), and the tensors.

    Raises:
        ValueError: it is none.
    """
    length = int.from_bytes(data[:_LENGTH], "little")
    header = json.loads(data[_LENGTH : _LENGTH + length])
    if not isinstance(header, dict):
        raise ValueError("the header is no JSON object")
    return header, memoryview(data)[_LENGTH + length :]


def _text(header: dict[str, Any]) -> bytes:
    return json.dumps(header, separators=(",", ":")).encode()


def _digest(header: dict[str, Any], content: memoryview) -> str:
    """Return a digest of all that a file says, but for the digest itself."""
    said = {name: value for name, value in header[_METADATA].items() if name != _DIGEST}
    return digest(_text(header | {_METADATA: said}), content.tobytes())

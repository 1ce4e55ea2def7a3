"""Encoders that others trained: networks of timm and torchvision by name, with weights of any checkpoint.

A name is `timm:NAME` or `torchvision:NAME`, with the library's own weights; `@FILE` behind it takes the
weights of a checkpoint instead, and `#PREFIX` says which of the networks in it, where there are several.
"""

import pickle
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from byol.data.image.preprocessing import Preprocessing
from byol.errors import UserError
from byol.model.encoder import Timm, Torchvision, without_classifier
from byol.system.home import expanded
from byol.weights.encoder_file import checked
from byol.weights.matching import load_weights


@dataclass(frozen=True, eq=False)
class Opened:
    """A network without its classifier, and the preprocessing that it was made for.

    Args:
        encoder: maps (B, C, S, S) to (B, D).
        rebuild: makes the network again, with weights drawn again.
        preprocessing: how its images are prepared.
        architecture: how a recipe builds the network.
    """

    encoder: nn.Module
    rebuild: Callable[[], nn.Module]
    preprocessing: Preprocessing
    architecture: Timm | Torchvision


def is_named(name: str) -> bool:
    """Return whether a name is that of a network of another library."""
    return name.partition(":")[0] in _LIBRARIES


def open_named(name: str) -> Opened:
    """Build the network that a name asks for.

    Args:
        name: `timm:NAME` or `torchvision:NAME`, with or without `@FILE` and `#PREFIX`.

    Raises:
        UserError: there is no such network, its weights can neither be found on disk nor downloaded, or the
            checkpoint does not hold it.
    """
    library, _, rest = name.partition(":")
    network, _, source = rest.partition("@")
    file, _, prefix = source.partition("#")
    opened = _LIBRARIES[library](network, not file)
    if file:
        load_weights(opened.encoder, _tensors(expanded(file)), prefix, f"{library}:{network}", file)
    return opened


def _timm(name: str, is_trained: bool) -> Opened:
    import timm
    from timm.data.config import resolve_model_data_config

    if not timm.is_model(name):
        Timm(name=name).build()  # says which names are near
    try:
        network = timm.create_model(name, pretrained=is_trained, num_classes=0)
    except (OSError, RuntimeError) as error:
        raise UserError(_no_weights(f"timm:{name}", error)) from error
    wants: dict[str, Any] = resolve_model_data_config(network)  # type: ignore[no-untyped-call]
    return Opened(
        network,
        lambda: timm.create_model(name, pretrained=False, num_classes=0),
        Preprocessing(
            size=wants["input_size"][-1],
            mean=tuple(wants["mean"]),
            std=tuple(wants["std"]),
            fraction=wants["crop_pct"],
        ),
        Timm(name=name),
    )


def _torchvision(name: str, is_trained: bool) -> Opened:
    from torchvision import models

    if name not in models.list_models(module=models):
        Torchvision(name=name).build()  # says which names are near
    try:
        weights = models.get_model_weights(name).DEFAULT
        network = models.get_model(name, weights=weights if is_trained else None)
    except (OSError, RuntimeError) as error:
        raise UserError(_no_weights(f"torchvision:{name}", error)) from error
    wants = weights.transforms()
    return Opened(
        without_classifier(network, name),
        Torchvision(name=name).build,
        Preprocessing(
            size=wants.crop_size[0],
            mean=tuple(wants.mean),
            std=tuple(wants.std),
            fraction=wants.crop_size[0] / wants.resize_size[0],
        ),
        Torchvision(name=name),
    )


_LIBRARIES: dict[str, Callable[[str, bool], Opened]] = {"timm": _timm, "torchvision": _torchvision}


_DEEPEST = 50  # dictionaries that one looks into for the weights of a network

# What torch and pickle raise at files that are cut short or something else altogether.
_UNREADABLE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
    RuntimeError,
    OSError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    RecursionError,
    MemoryError,
)


def _tensors(file: Path) -> dict[str, Tensor]:
    """Return all tensors of a checkpoint, keys of nested dictionaries joined by dots; no code in it runs."""
    if not file.is_file():
        raise UserError(f"there is no checkpoint at {file}.")
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            data = file.read_bytes()
            checked(data)
            return load(data)
        except (SafetensorError, ValueError, RecursionError) as error:
            raise UserError(f"{file} cannot be read as safetensors: {_first_line(error)}.") from error
    try:
        _refuse_damaged(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except _UNREADABLE as error:
        raise UserError(
            f"{file} cannot be read as weights alone ({type(error).__name__}); save the state_dict of "
            "the network with torch.save."
        ) from error
    return dict(_flattened(content))


def _refuse_damaged(file: Path) -> None:
    """Compare a checkpoint with the checksums that `torch.save` writes into it and `torch.load` passes over.

    This takes 0.1 s for 200 MB. Files from before torch 1.6 have none.

    Raises:
        UserError: a bit of it has turned.
        OSError, zipfile.BadZipFile: it cannot be read.
    """
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as records:
            damaged = records.testzip()
        if damaged is not None:
            raise UserError(f"{file} is damaged at {damaged}: take a copy of it.")


def _flattened(content: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of nested dictionaries in their order, however deep they are."""
    left: list[tuple[str, Any]] = [("", content)]
    while left:
        path, value = left.pop()
        if isinstance(value, Tensor):
            yield path, value
        elif isinstance(value, Mapping) and path.count(".") < _DEEPEST:
            named = [(key, one) for key, one in value.items() if isinstance(key, str | int)]
            inner = [(f"{path}.{key}" if path else str(key), one) for key, one in named]
            left += reversed(inner)


def _no_weights(name: str, error: Exception) -> str:
    return (
        f"{name} has no weights on disk and they cannot be downloaded ({_first_line(error)}); give a "
        f"checkpoint: {name}@FILE."
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

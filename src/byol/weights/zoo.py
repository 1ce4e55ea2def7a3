"""Encoders that others trained: networks of timm and torchvision by name, with weights of any checkpoint.

A name is `timm:NAME` or `torchvision:NAME`, with the library's own weights; `@FILE` behind it takes the
weights of a checkpoint instead, and `#PREFIX` says which of the networks in it, where there are several.
"""

import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from byol.errors import UserError


@dataclass(frozen=True, eq=False)
class Opened:
    """A network without its classifier, and the preprocessing that it was made for.

    Args:
        encoder: maps (B, 3, size, size) to (B, D).
        rebuild: makes the network again, with weights drawn anew.
        size: side of its images in pixels.
        mean: of the normalisation, per channel, for pixels in [0, 1].
        std: likewise.
        crop_share: of the shorter side of an image that its central square keeps.
    """

    encoder: nn.Module
    rebuild: Callable[[], nn.Module]
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_share: float


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
        load_weights(opened.encoder, _tensors(Path(file).expanduser()), prefix, f"{library}:{network}", file)
    return opened


def load_weights(
    network: nn.Module, tensors: Mapping[str, Tensor], prefix: str, name: str, source: str
) -> None:
    """Load the weights of a network that stand in a checkpoint under some prefix.

    The prefix is the one under which every weight of the network stands in its own shape. What else the
    checkpoint holds, such as a classifier, is not looked at.

    Args:
        network: gets the weights.
        tensors: all that the checkpoint holds, the keys of nested dictionaries joined by dots.
        prefix: with which the prefix has to end, a dot for none at all; anything by default.
        name: of the network, for the person.
        source: of the tensors, for the person.

    Raises:
        UserError: there is no such prefix, or there are several.
    """
    wanted = {key: value.shape for key, value in network.state_dict().items() if not _is_counter(key)}
    first = next(iter(wanted))
    prefixes = [key.removesuffix(first) for key in tensors if f".{key}".endswith(f".{first}")]
    ending = {"": "", ".": ""}.get(prefix, f".{prefix.strip('.')}.")
    asked = [one for one in prefixes if f".{one}".endswith(ending) and not (prefix == "." and one)]
    missing = {
        one: [key for key, shape in wanted.items() if _shape(tensors.get(one + key)) != shape]
        for one in asked
    }
    whole = [one for one, keys in missing.items() if not keys]
    if len(whole) > 1:
        names = [one.strip(".") or "." for one in whole]
        raise UserError(
            f"{source} holds {len(whole)} networks that are a {name}: {', '.join(names)}; "
            f"choose one with {name}@{source}#{names[0]}"
        )
    if not whole:
        raise UserError(_mismatch(wanted, tensors, missing, name, source))
    own = network.state_dict()
    loaded = {key: tensors.get(whole[0] + key, value) for key, value in own.items()}
    network.load_state_dict(loaded)


def _timm(name: str, is_trained: bool) -> Opened:
    import timm
    from timm.data.config import resolve_model_data_config

    from byol.model.encoder import Timm

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
        wants["input_size"][-1],
        tuple(wants["mean"]),
        tuple(wants["std"]),
        wants["crop_pct"],
    )


def _torchvision(name: str, is_trained: bool) -> Opened:
    from torchvision import models

    if name not in models.list_models(module=models):  # those that classify images
        near = models.list_models(module=models, include=f"{name[:6]}*")[:3]
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise UserError(f"torchvision has no classifier of images named '{name}'{hint}.")
    try:
        weights = models.get_model_weights(name).DEFAULT
        network = models.get_model(name, weights=weights if is_trained else None)
    except (OSError, RuntimeError) as error:
        raise UserError(_no_weights(f"torchvision:{name}", error)) from error
    wants = weights.transforms()
    return Opened(
        without_classifier(network, name),
        lambda: without_classifier(models.get_model(name), name),
        wants.crop_size[0],
        tuple(wants.mean),
        tuple(wants.std),
        wants.crop_size[0] / wants.resize_size[0],
    )


_LIBRARIES: dict[str, Callable[[str, bool], Opened]] = {"timm": _timm, "torchvision": _torchvision}


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


# What torch and pickle raise at files that are cut short or something else altogether.
_UNREADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    OSError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
)


def _tensors(file: Path) -> dict[str, Tensor]:
    """Return all tensors of a checkpoint, the keys of nested dictionaries joined by dots; nothing is run."""
    if not file.is_file():
        raise UserError(f"there is no checkpoint at {file}.")
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(file)
        except SafetensorError as error:
            raise UserError(f"{file} cannot be read as safetensors: {error}.") from error
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise UserError(
            f"{file} cannot be read as weights alone ({type(error).__name__}); save the state_dict of "
            "the network with torch.save."
        ) from error
    return dict(_flattened(content, ""))


def _flattened(value: Any, path: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flattened(inner, f"{path}.{key}" if path else str(key))


def _mismatch(
    wanted: Mapping[str, torch.Size],
    tensors: Mapping[str, Tensor],
    missing: Mapping[str, list[str]],
    name: str,
    source: str,
) -> str:
    """Say what was looked for and what is there."""
    if not missing:
        return (
            f"{source} does not hold a {name}: no key ends with {next(iter(wanted))}; it has "
            f"{len(tensors)} tensors, such as {', '.join(list(tensors)[:3]) or 'none'}."
        )
    nearest = min(missing, key=lambda one: len(missing[one]))
    key = missing[nearest][0]
    theirs = _shape(tensors.get(nearest + key))
    there = "is not there" if theirs is None else f"is {tuple(theirs)} there"
    return (
        f"{source} does not hold a {name}: {len(missing[nearest])} of its {len(wanted)} weights do not fit, "
        f"the first of them {key}, {tuple(wanted[key])} in the network, which {there}."
    )


def _no_weights(name: str, error: Exception) -> str:
    return (
        f"{name} has no weights on disk and they cannot be downloaded ({_first_line(error)}); give a "
        f"checkpoint: {name}@FILE."
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _is_counter(key: str) -> bool:
    """Return whether a key counts batches, which older checkpoints lack."""
    return key.endswith("num_batches_tracked")


def _shape(tensor: Tensor | None) -> torch.Size | None:
    return None if tensor is None else tensor.shape

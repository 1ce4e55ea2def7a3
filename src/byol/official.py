"""The officially published checkpoints, pickled trees of NumPy arrays, as encoders here.

The official README names two: pretrain_res50x1.pkl and pretrain_res200x2.pkl. A pickle can run any code
when it is read; ours admits arrays and plain containers, and nothing in it is executed.

Source: official `utils/checkpointing.py` (dill, protocol 2), `byol_experiment.py` (_ByolExperimentState).
"""

import hashlib
import io
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from byol.data.views import TwoViews
from byol.model.encoder import ResNet
from byol.pretrained import save_encoder
from byol.run.errors import UserError
from byol.run.folder import RunFolder, provenance, write_json

Array = NDArray[Any]
Tree = Mapping[str, Mapping[str, Array]]  # Haiku: name of a module -> name of a parameter -> array

SIZE = 224
CROP_SHARE = 0.875  # of the shorter side, official `utils/dataset.py:247-268`


def import_official(file: str | Path, out: str | Path, *, overwrite: bool = False) -> Path:
    """Write the online encoder of an official checkpoint as `OUT/encoder.safetensors`.

    Target network, projector, predictor, classifier and the optimiser's state are left behind.

    Args:
        file: the checkpoint, or any pickle of a mapping with `online_params` and `online_state`.
        out: the folder to write; `byol.load` and `byol eval` take it like a run.
        overwrite: replace an encoder that the folder already holds.

    Returns:
        The path of the encoder.

    Raises:
        UserError: the file cannot be read, asks for more than arrays and containers, or does not hold
            an encoder that we know; or `out` holds one already.
    """
    file, folder = Path(file), RunFolder(Path(out))
    if folder.encoder.exists() and not overwrite:
        raise UserError(
            f"{folder.encoder} is there already; replace it with --overwrite, or choose another --out."
        )
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from error
    params, state, step = _online(_unpickle(content, file), file)
    spec, weights = convert(params, state, str(file))
    encoder = spec.build()
    encoder.load_state_dict(weights)
    folder.path.mkdir(parents=True, exist_ok=True)
    write_json(
        folder.provenance,
        provenance(imported=file.name, sha256=hashlib.sha256(content).hexdigest(), step=step),
    )
    save_encoder(folder.encoder, encoder, spec, SIZE, TwoViews(size=SIZE), crop_share=CROP_SHARE)
    return folder.encoder


def convert(params: Tree, state: Tree, origin: str) -> tuple[ResNet, dict[str, Tensor]]:
    """Return the spec and the weights, under our names, of an encoder in a Haiku tree.

    Args:
        params: of the online network.
        state: of the online network: moving averages of its batch norms.
        origin: where they come from, for the messages.

    Raises:
        UserError: there is no ResNet of a depth that we know, or an array is missing, left over or misshapen.
    """
    roots = {match for name in params if (match := re.match(r"(res_net(\d+))/", name))}
    names = {match.group(1): int(match.group(2)) for match in roots}
    if len(names) != 1:
        raise UserError(
            f"{origin} holds {len(names)} networks named res_net...; an import needs exactly one."
        )
    (root, depth), *_ = names.items()
    stem = params.get(f"{root}/~/initial_conv", {}).get("w", np.empty((0,)))
    if depth not in (18, 34, 50, 101, 152, 200) or stem.ndim != 4 or stem.shape[3] % 64:
        raise UserError(f"{origin}: {root} with a stem of shape {stem.shape} is no ResNet that we know.")
    spec = ResNet(
        depth=depth,  # type: ignore[arg-type]
        width=stem.shape[3] // 64,
        padding="same",
        first_shortcut="projection",
    )
    encoder_params = {name: params[name] for name in params if name.startswith(f"{root}/")}
    encoder_state = {name: state[name] for name in state if name.startswith(f"{root}/")}
    taken: set[tuple[str, str]] = set()
    weights = {}
    with torch.device("meta"):
        network = spec.build()
    for path, layer in network.named_modules():
        for key, module, name, turn in _arrays(layer):
            place = f"{root}/~/{_official_name(path)}{module}"
            tree = encoder_state if module else encoder_params
            value = tree.get(place, {}).get(name)
            expected = tuple(layer.state_dict()[key].shape)
            if value is None:
                raise UserError(f"{origin} lacks {place} {name}, which should have shape {expected}.")
            tensor = turn(np.asarray(value))
            if tuple(tensor.shape) != expected:
                raise UserError(
                    f"{origin}: {place} {name} has shape {tuple(value.shape)}; that does not give {expected}."
                )
            weights[f"{path}.{key}"] = tensor
            taken.add((place, name))
        if isinstance(layer, nn.BatchNorm2d):
            weights[f"{path}.num_batches_tracked"] = torch.zeros((), dtype=torch.int64)
    for place, arrays in encoder_params.items():
        for name in arrays:
            if (place, name) not in taken:
                raise UserError(f"{origin} holds {place} {name}, for which {root} has no place.")
    return spec, weights


class _Container(tuple[Any, ...]):
    """Stands in for a named tuple of the official code: its values in order, and none of its code."""

    __slots__ = ()

    def __new__(cls, *values: Any) -> "_Container":
        return super().__new__(cls, values)


class _Mapping(dict[str, Any]):
    """Stands in for Haiku's immutable mapping: a dictionary, and none of its code."""

    def __setstate__(self, state: Any) -> None:
        parts = state if isinstance(state, tuple) else (state,)
        for part in parts:
            for value in (part or {}).values():
                if isinstance(value, dict):
                    self.update(value)


_ADMITTED: dict[tuple[str, str], Any] = {
    **{
        (f"numpy.{core}.{module}", name): getattr(import_module(f"numpy._core.{module}"), name)
        for core in ("core", "_core")  # its name before NumPy 2, and since
        for module, name in (
            ("multiarray", "_reconstruct"),
            ("multiarray", "scalar"),
            ("numeric", "_frombuffer"),
        )
    },
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): OrderedDict,
    ("byol.byol_experiment", "_ByolExperimentState"): _Container,
    ("byol.utils.optimizers", "LarsState"): _Container,
    ("haiku._src.data_structures", "FlatMapping"): _Mapping,
    ("haiku._src.data_structures", "FlatMap"): _Mapping,
    ("haiku._src.data_structures", "frozendict"): _Mapping,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):  # bytes, as protocol 2 writes them
            return _encode
        if (module, name) not in _ADMITTED:
            raise _RefusedError(f"{module}.{name}")
        return _ADMITTED[module, name]


class _RefusedError(Exception):
    """The pickle asks for something that is not admitted; the message is its name."""


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise _RefusedError(f"_codecs.encode to {encoding}")
    return text.encode("latin1")


def _unpickle(content: bytes, file: Path) -> Any:
    try:
        return _Unpickler(io.BytesIO(content)).load()
    except _RefusedError as refused:
        raise UserError(
            f"{file} asks for {refused}, which could run code; only NumPy arrays and containers are read."
        ) from refused
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        AttributeError,
        IndexError,
        KeyError,
        MemoryError,
    ) as error:
        raise UserError(f"{file} is not a pickle, or it is damaged ({error}).") from error


def _online(content: Any, file: Path) -> tuple[Tree, Tree, int | None]:
    """Return parameters and state of the online network, and the step."""
    step = content.get("step") if isinstance(content, Mapping) else None
    state = content.get("experiment_state", content) if isinstance(content, Mapping) else content
    if isinstance(state, _Container) and len(state) == 5:  # online and target parameters, then their states
        state = {"online_params": state[0], "online_state": state[2]}
    if not isinstance(state, Mapping) or not {"online_params", "online_state"} <= state.keys():
        raise UserError(f"{file} holds no online_params and online_state; is it an official checkpoint?")
    for tree in (state["online_params"], state["online_state"]):
        arrays = [array for module in _values(tree, file) for array in _values(module, file)]
        if any(not isinstance(array, (np.ndarray, np.generic)) or array.dtype == object for array in arrays):
            raise UserError(f"{file} holds something else than arrays of numbers in its parameters.")
    return state["online_params"], state["online_state"], None if step is None else int(step)


def _values(tree: Any, file: Path) -> list[Any]:
    if not isinstance(tree, Mapping):
        raise UserError(f"{file} holds a {type(tree).__name__} where its parameters should have names.")
    return list(tree.values())


def _official_name(path: str) -> str:
    """Return Haiku's name of one of our layers: layer1.0.conv2 is block_group_0/~/block_0/~/conv_1."""
    if path in ("conv1", "bn1"):
        return {"conv1": "initial_conv", "bn1": "initial_batchnorm"}[path]
    group, block, layer = path.split(".", 2)
    layers = {"downsample.0": "shortcut_conv", "downsample.1": "shortcut_batchnorm"}
    layers |= {f"conv{i + 1}": f"conv_{i}" for i in range(3)}
    layers |= {f"bn{i + 1}": f"batchnorm_{i}" for i in range(3)}
    return f"block_group_{int(group.removeprefix('layer')) - 1}/~/block_{block}/~/{layers[layer]}"


def _arrays(layer: nn.Module) -> list[tuple[str, str, str, Callable[[Array], Tensor]]]:
    """Return (our key, Haiku's inner module, its name, how to turn it) of a layer's arrays."""
    if isinstance(layer, nn.Conv2d):
        return [("weight", "", "w", _from_hwio)]
    if isinstance(layer, nn.BatchNorm2d):
        return [
            ("weight", "", "scale", _flat),
            ("bias", "", "offset", _flat),
            ("running_mean", "/~/mean_ema", "average", _flat),
            ("running_var", "/~/var_ema", "average", _flat),
        ]
    return []


def _from_hwio(array: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array.transpose(3, 2, 0, 1), np.float32))


def _flat(array: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array.reshape(-1), np.float32))

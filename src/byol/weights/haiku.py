"""Trees of Haiku's ResNets as networks here: which of our arrays stands where in them.

Source: official `utils/networks.py`; Haiku `nets/resnet.py`, `batch_norm.py`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from byol.errors import UserError
from byol.model.encoder import ResNet

Tree = Mapping[str, Mapping[str, NDArray[Any]]]  # Haiku: name of a module -> name of a parameter -> array

_DEPTHS = (18, 34, 50, 101, 152, 200)
_BATCH_NORM = (  # our name, Haiku's inner module and its name
    ("weight", "", "scale"),
    ("bias", "", "offset"),
    ("running_mean", "/~/mean_ema", "average"),
    ("running_var", "/~/var_ema", "average"),
)
_UNUSED = ("counter", "hidden")  # of a moving average; `average` is what the official evaluation reads


def convert(params: Tree, state: Tree, origin: str) -> tuple[ResNet, dict[str, Tensor]]:
    """Return the spec and the weights, under our names, of the encoder in a Haiku tree.

    Args:
        params: of the online network.
        state: of the online network: moving averages of its batch norms.
        origin: where they come from, for the messages.

    Raises:
        UserError: there is no ResNet of a depth that we know, or an array is missing, left over or misshapen.
    """
    roots = {name.split("/")[0] for name in params if name.startswith("res_net")}
    if len(roots) != 1:
        raise UserError(
            f"{origin} holds {len(roots)} networks named res_net...; an import needs exactly one."
        )
    root = roots.pop()
    given = {
        (_stem(module, root, params), name): array
        for tree, unused in ((params, ()), (state, _UNUSED))
        for module, arrays in tree.items()
        for name, array in arrays.items()
        if module.startswith(f"{root}/") and name not in unused
    }
    spec = _spec(root, given, origin)
    with torch.device("meta"):
        network = spec.build()
    weights = {
        name: torch.zeros((), dtype=torch.int64)
        for name in network.state_dict()
        if name.endswith("num_batches_tracked")
    }
    for ours, module, name, shape in _arrays(network, root):
        array = given.pop((module, name), None)
        if array is None:
            raise UserError(f"{origin} lacks {module} {name} of shape {shape}; {root} needs it.")
        if array.shape != shape:
            raise UserError(f"{origin}: {module} {name} has shape {array.shape}; {root} needs {shape}.")
        rows = array.transpose(3, 2, 0, 1) if name == "w" else array.reshape(-1)  # HWIO to OIHW
        weights[ours] = torch.from_numpy(np.array(rows, np.float32, order="C"))
    for (module, name), array in given.items():
        raise UserError(f"{origin} holds {module} {name} of shape {array.shape}; {root} has no place for it.")
    return spec, weights


def _spec(root: str, given: Mapping[tuple[str, str], NDArray[Any]], origin: str) -> ResNet:
    """Return the architecture: its depth from the network's name, its width from the stem."""
    depth = re.fullmatch(r"res_net(\d{1,3})", root)
    if depth is None or int(depth[1]) not in _DEPTHS:
        raise UserError(
            f"{origin} holds a {root}; the depths that we know are {', '.join(map(str, _DEPTHS))}."
        )
    stem = given.get((f"{root}/~/initial_conv", "w"), np.empty(0))
    if stem.ndim != 4 or stem.shape[3] == 0 or stem.shape[3] % 64:
        raise UserError(
            f"{origin}: {root}/~/initial_conv w has shape {stem.shape}; "
            f"{root} needs (7, 7, 3, 64) or a multiple of 64 channels."
        )
    return ResNet(
        depth=int(depth[1]),  # type: ignore[arg-type]
        width=stem.shape[3] // 64,
        padding="same",
        first_shortcut="projection",
    )


def _stem(module: str, root: str, params: Tree) -> str:
    """Return a name, but `initial_conv` for `initial_conv_1`, as Haiku calls a stem that replaced one."""
    plain = f"{root}/~/initial_conv"
    return plain if module == f"{plain}_1" and plain not in params else module


def _arrays(network: nn.Module, root: str) -> Iterator[tuple[str, str, str, tuple[int, ...]]]:
    """Give for each array of the network our name, Haiku's module and name there, and Haiku's shape."""
    for path, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            outputs, inputs, height, width = layer.weight.shape
            yield f"{path}.weight", _official(path, root), "w", (height, width, inputs, outputs)
        elif isinstance(layer, nn.BatchNorm2d):
            for ours, inner, name in _BATCH_NORM:
                yield f"{path}.{ours}", _official(path, root) + inner, name, (1, 1, 1, layer.num_features)


def _official(path: str, root: str) -> str:
    """Return Haiku's name of one of our layers: layer1.0.conv2 is ROOT/~/block_group_0/~/block_0/~/conv_1."""
    names = {"conv1": "initial_conv", "bn1": "initial_batchnorm"}
    if path in names:
        return f"{root}/~/{names[path]}"
    group, block, layer = path.split(".", 2)
    names = {"downsample.0": "shortcut_conv", "downsample.1": "shortcut_batchnorm"}
    for i in range(3):
        names |= {f"conv{i + 1}": f"conv_{i}", f"bn{i + 1}": f"batchnorm_{i}"}
    return f"{root}/~/block_group_{int(group[-1]) - 1}/~/block_{block}/~/{names[layer]}"

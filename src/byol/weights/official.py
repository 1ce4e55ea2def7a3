"""The officially published checkpoints, pickled trees of NumPy arrays, as encoders here.

The official README names two: pretrain_res50x1.pkl and pretrain_res200x2.pkl. A pickle can run any code
when it is read. Ours admits names of arrays and plain containers alone, and puts a stand-in of this module
in the place of each: nothing that the file names is imported, called or trusted with a length.

Source: official `utils/checkpointing.py` (dill, protocol 2), `byol_experiment.py` (_ByolExperimentState),
`utils/networks.py`; Haiku `nets/resnet.py`, `batch_norm.py`.
"""

import hashlib
import pickle
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from byol.data.image.preprocessing import Preprocessing
from byol.errors import UserError
from byol.model.encoder import ResNet
from byol.run.folder import RunFolder
from byol.run.provenance import provenance
from byol.system.files import write_json
from byol.weights.pretrained import save_encoder

Tree = Mapping[str, Mapping[str, NDArray[Any]]]  # Haiku: name of a module -> name of a parameter -> array

SIZE = 224
FRACTION = 0.875  # of the shorter side; official `utils/dataset.py:247-268`, which rounds the corner up

_DEPTHS = (18, 34, 50, 101, 152, 200)
_BATCH_NORM = (  # our name, Haiku's inner module and its name
    ("weight", "", "scale"),
    ("bias", "", "offset"),
    ("running_mean", "/~/mean_ema", "average"),
    ("running_var", "/~/var_ema", "average"),
)
_UNUSED = ("counter", "hidden")  # of a moving average; `average` is what the official evaluation reads


def import_official(file: str | Path, out: str | Path, *, overwrite: bool = False) -> Path:
    """Write the online encoder of an official checkpoint as `OUT/encoder.safetensors`.

    Target network, projector, predictor, classifier and the optimiser's state are left behind. Reading
    takes about one and a half times the file's size in memory.

    Args:
        file: the checkpoint, or any pickle of a mapping with `online_params` and `online_state`.
        out: the folder to write; `byol.load` and `byol eval` take it like a run.
        overwrite: write into a folder that is not empty; nothing but encoder and provenance is replaced.

    Returns:
        The path of the encoder.

    Raises:
        UserError: the file cannot be read, needs more than arrays and containers, or does not hold an
            encoder that we know; or `out` is not empty.
    """
    file, folder = Path(file), RunFolder(Path(out))
    if folder.path.exists() and not folder.path.is_dir():
        raise UserError(f"{folder.path} is a file; choose another --out.")
    if not overwrite and folder.path.exists() and any(folder.path.iterdir()):
        raise UserError(f"{folder.path} is not empty; choose another --out, or write into it by --overwrite.")
    content, digest = _read(file)
    params, state, step = _online(content, file)
    spec, weights = convert(params, state, str(file))
    with torch.device("meta"):  # all weights come from the file, so none is drawn
        encoder = spec.build()
    encoder.load_state_dict(weights, assign=True)
    folder.path.mkdir(parents=True, exist_ok=True)
    write_json(folder.provenance, provenance(imported=file.name, sha256=digest, step=step))
    save_encoder(folder.encoder, encoder, spec, Preprocessing(size=SIZE, fraction=FRACTION))
    return folder.encoder


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
        (_stem(place, root, params), name): array
        for tree, unused in ((params, ()), (state, _UNUSED))
        for place, arrays in tree.items()
        for name, array in arrays.items()
        if place.startswith(f"{root}/") and name not in unused
    }
    spec = _spec(root, given, origin)
    with torch.device("meta"):
        network = spec.build()
    weights = {
        name: torch.zeros((), dtype=torch.int64)
        for name in network.state_dict()
        if name.endswith("num_batches_tracked")
    }
    for ours, place, name, shape in _places(network, root):
        array = given.pop((place, name), None)
        if array is None:
            raise UserError(f"{origin} lacks {place} {name} of shape {shape}; {root} needs it.")
        if array.shape != shape:
            raise UserError(f"{origin}: {place} {name} has shape {array.shape}; {root} needs {shape}.")
        rows = array.transpose(3, 2, 0, 1) if name == "w" else array.reshape(-1)  # HWIO to OIHW
        weights[ours] = torch.from_numpy(np.array(rows, np.float32, order="C"))
    for (place, name), array in given.items():
        raise UserError(f"{origin} holds {place} {name} of shape {array.shape}; {root} has no place for it.")
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


def _stem(place: str, root: str, params: Tree) -> str:
    """Return a name, but `initial_conv` for `initial_conv_1`, as Haiku calls a stem that replaced one."""
    plain = f"{root}/~/initial_conv"
    return plain if place == f"{plain}_1" and plain not in params else place


def _places(network: nn.Module, root: str) -> Iterator[tuple[str, str, str, tuple[int, ...]]]:
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


def _online(content: Any, file: Path) -> tuple[Tree, Tree, int | None]:
    """Return parameters and state of the online network, and the step."""
    outer = content if isinstance(content, dict) else {}
    state = outer.get("experiment_state", content)
    if isinstance(state, _Tuple) and len(state) == 5:  # online and target parameters, then their states
        state = {"online_params": state[0], "online_state": state[2]}
    if not isinstance(state, dict) or not {"online_params", "online_state"} <= state.keys():
        raise UserError(f"{file} holds no online_params and online_state; give an official checkpoint.")
    step = outer.get("step")
    if isinstance(step, np.ndarray) and step.shape == () and step.dtype.kind in "iu":
        step = int(step)
    return (
        _tree(state["online_params"], file),
        _tree(state["online_state"], file),
        step if isinstance(step, int) else None,
    )


def _tree(modules: Any, file: Path) -> Tree:
    """Return two levels of names with arrays below, and nothing else."""
    tree: dict[str, dict[str, NDArray[Any]]] = {}
    for place, arrays in _items(modules, file):
        tree[place] = {}
        for name, value in _items(arrays, file):
            array = getattr(value, "values", None) if isinstance(value, _Array) else value
            if not isinstance(array, np.ndarray):
                raise UserError(f"{file} holds no array at {place} {name}; give an official checkpoint.")
            tree[place][name] = array
    return tree


def _items(names: Any, file: Path) -> list[tuple[str, Any]]:
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{file} holds parameters without names; give an official checkpoint.")
    return list(names.items())


def _read(file: Path) -> tuple[Any, str]:
    """Return what a pickle holds, and its SHA-256."""
    try:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            stream.seek(max(0, stream.tell() - 1))
            if (
                stream.read() != pickle.STOP
            ):  # a part of a file could end within a name, and be refused for it
                raise EOFError
            stream.seek(0)
            return _Unpickler(stream).load(), digest
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from error
    except _RefusedError as refused:
        raise UserError(
            f"{file} needs {refused}, which may run code; an import admits only NumPy arrays of numbers "
            "and plain containers."
        ) from refused
    except _DAMAGE as error:
        raise UserError(f"{file} is not a pickle, or it is damaged; fetch it again.") from error


_DAMAGE = (  # what unpickling raises, by its documentation and by our stand-ins
    pickle.UnpicklingError,
    struct.error,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
)


class _RefusedError(Exception):
    """The pickle needs something that is not admitted; the message is its name."""


class _Tuple(tuple[Any, ...]):
    """Stands in for any named tuple, and for what else is not looked at: the values in their order."""

    __slots__ = ()

    def __new__(cls, *values: Any) -> "_Tuple":
        return super().__new__(cls, values)


class _Dtype:
    """Stands in for `numpy.dtype`: plain numbers alone."""

    __slots__ = ("numpy",)

    def __init__(self, code: str, *copy: bool) -> None:
        if code not in ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"):
            raise _RefusedError(f"numpy.dtype of {code if isinstance(code, str) else type(code).__name__}")
        self.numpy: np.dtype[Any] = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.numpy = self.numpy.newbyteorder(state[1])


class _Array:
    """Stands in for an array while it is read: its bytes must be there, as many as its shape says."""

    __slots__ = ("values",)

    def __init__(self, *empty: Any) -> None:
        """Take what NumPy calls an empty array with; the state follows."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, data = state
        self.values = _array(data, dtype, shape, "F" if is_fortran else "C")


def _array(data: bytes, dtype: _Dtype, shape: Any = (), order: Any = "C", axes: Any = None) -> NDArray[Any]:
    if axes is not None:  # protocol 5, for axes in an order of their own
        return np.frombuffer(data, dtype.numpy).reshape(shape).transpose(axes)
    return np.frombuffer(data, dtype.numpy).reshape(shape, order=order)


def _scalar(dtype: _Dtype, data: bytes) -> NDArray[Any]:
    return _array(data, dtype)


def _bytes(text: str, encoding: str) -> bytes:
    """Return the bytes that protocol 2 writes as text."""
    return text.encode("latin1")


def _dill_array(make: Any, arguments: Any, state: Any, attributes: None = None) -> _Array:
    array = _Array()
    array.__setstate__(state)
    return array


def _dill_namedtuple(name: str, fields: Any, module: str, defaults: None = None) -> type[_Tuple]:
    return _Tuple


def _dill_module(name: str, safe: bool = False) -> str:
    return name


def _dill_attribute(module: str, name: str) -> Any:
    return _admitted(module, name)


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _bytes,
    ("collections", "OrderedDict"): dict,
    ("dill._dill", "_create_array"): _dill_array,
    ("dill._dill", "_create_namedtuple"): _dill_namedtuple,
    ("dill._dill", "_import_module"): _dill_module,
    ("dill._dill", "_get_attr"): _dill_attribute,
    ("byol.byol_experiment", "_ByolExperimentState"): _Tuple,
    ("byol.utils.optimizers", "LarsState"): _Tuple,
    ("byol.utils.optimizers", "AddWeightDecayState"): _Tuple,
    ("byol.utils.optimizers", "ScaleByLarsState"): _Tuple,
    ("jax._src.array", "_reconstruct_array"): _Tuple,  # of the random key, saved as it is
    ("jax._src.device_array", "reconstruct_device_array"): _Tuple,
}
_ADMITTED |= {
    (f"numpy.{core}.{module}", name): stand_in
    for core in ("core", "_core")  # its name before NumPy 2, and since
    for module, name, stand_in in (
        ("multiarray", "_reconstruct", _Array),
        ("multiarray", "scalar", _scalar),
        ("_multiarray_umath", "_reconstruct", _Array),
        ("_multiarray_umath", "scalar", _scalar),
        ("numeric", "_frombuffer", _array),
    )
}
_ADMITTED |= {("haiku._src.data_structures", name): dict for name in ("FlatMapping", "FlatMap", "frozendict")}


def _admitted(module: str, name: str) -> Any:
    if (module, name) not in _ADMITTED:
        raise _RefusedError(f"{module}.{name}")
    return _ADMITTED[module, name]


class _Unpickler(pickle._Unpickler):
    """Python's own unpickler, in Python: the one in C makes room for as many objects as a file claims."""

    dispatch: ClassVar = dict(pickle._Unpickler.dispatch)
    stack: list[Any]

    def find_class(self, module: str, name: str) -> Any:
        """Return our stand-in for a name, or refuse it."""
        return _admitted(module, name)

    def load_build(self) -> None:
        """Let a file set the state of its arrays, and of nothing else: not of a stand-in itself."""
        if type(self.stack[-2]) not in (_Array, _Dtype):
            raise _RefusedError(f"to change a {type(self.stack[-2]).__name__}")
        pickle._Unpickler.dispatch[pickle.BUILD[0]](self)  # type: ignore[arg-type]

    dispatch[pickle.BUILD[0]] = load_build  # type: ignore[assignment]

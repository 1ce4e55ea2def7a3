"""Reading a pickle of arrays without running anything in it.

A pickle can run any code when it is read. Ours admits names of arrays and plain containers alone, and puts a
stand-in of this module in the place of each: nothing that the file names is imported, called or trusted with
a length.

Source: official `utils/checkpointing.py` (dill, protocol 2).
"""

import hashlib
import pickle
import struct
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from byol.errors import UserError


def read_pickle(file: Path) -> tuple[Any, str]:
    """Return what a pickle of arrays and plain containers holds, and its SHA-256.

    Arrays are `PlainArray`, named tuples and what else is not looked at `PlainTuple`.

    Raises:
        UserError: the file cannot be read, is damaged, or needs anything else.
    """
    try:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            stream.seek(max(0, stream.tell() - 1))
            if stream.read() != pickle.STOP:  # part of a file may end within a name, and be refused for it
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


class PlainTuple(tuple[Any, ...]):
    """Stands in for any named tuple, and for what else is not looked at: the values in their order."""

    __slots__ = ()

    def __new__(cls, *values: Any) -> "PlainTuple":
        return super().__new__(cls, values)


class PlainDtype:
    """Stands in for `numpy.dtype`: plain numbers alone."""

    __slots__ = ("numpy",)

    def __init__(self, code: str, *copy: bool) -> None:
        if code not in ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"):
            raise _RefusedError(f"numpy.dtype of {code if isinstance(code, str) else type(code).__name__}")
        self.numpy: np.dtype[Any] = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.numpy = self.numpy.newbyteorder(state[1])


class PlainArray:
    """Stands in for an array while it is read: its bytes must be there, as many as its shape says."""

    __slots__ = ("values",)

    def __init__(self, *empty: Any) -> None:
        """Take what NumPy calls an empty array with; the state follows."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, data = state
        self.values = _array(data, dtype, shape, "F" if is_fortran else "C")


def _array(
    data: bytes, dtype: PlainDtype, shape: Any = (), order: Any = "C", axes: Any = None
) -> NDArray[Any]:
    if axes is not None:  # protocol 5, for axes in an order of their own
        return np.frombuffer(data, dtype.numpy).reshape(shape).transpose(axes)
    return np.frombuffer(data, dtype.numpy).reshape(shape, order=order)


def _scalar(dtype: PlainDtype, data: bytes) -> NDArray[Any]:
    return _array(data, dtype)


def _bytes(text: str, encoding: str) -> bytes:
    """Return the bytes that protocol 2 writes as text."""
    return text.encode("latin1")


def _dill_array(make: Any, arguments: Any, state: Any, attributes: None = None) -> PlainArray:
    array = PlainArray()
    array.__setstate__(state)
    return array


def _dill_namedtuple(name: str, fields: Any, module: str, defaults: None = None) -> type[PlainTuple]:
    return PlainTuple


def _dill_module(name: str, safe: bool = False) -> str:
    return name


def _dill_attribute(module: str, name: str) -> Any:
    return _admitted(module, name)


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): PlainArray,
    ("numpy", "dtype"): PlainDtype,
    ("_codecs", "encode"): _bytes,
    ("collections", "OrderedDict"): dict,
    ("dill._dill", "_create_array"): _dill_array,
    ("dill._dill", "_create_namedtuple"): _dill_namedtuple,
    ("dill._dill", "_import_module"): _dill_module,
    ("dill._dill", "_get_attr"): _dill_attribute,
    ("byol.byol_experiment", "_ByolExperimentState"): PlainTuple,
    ("byol.utils.optimizers", "LarsState"): PlainTuple,
    ("byol.utils.optimizers", "AddWeightDecayState"): PlainTuple,
    ("byol.utils.optimizers", "ScaleByLarsState"): PlainTuple,
    ("jax._src.array", "_reconstruct_array"): PlainTuple,  # of the random key, saved as it is
    ("jax._src.device_array", "reconstruct_device_array"): PlainTuple,
}
_ADMITTED |= {
    (f"numpy.{core}.{module}", name): stand_in
    for core in ("core", "_core")  # its name before NumPy 2, and since
    for module, name, stand_in in (
        ("multiarray", "_reconstruct", PlainArray),
        ("multiarray", "scalar", _scalar),
        ("_multiarray_umath", "_reconstruct", PlainArray),
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
        if type(self.stack[-2]) not in (PlainArray, PlainDtype):
            raise _RefusedError(f"to change a {type(self.stack[-2]).__name__}")
        pickle._Unpickler.dispatch[pickle.BUILD[0]](self)  # type: ignore[arg-type]

    dispatch[pickle.BUILD[0]] = load_build  # type: ignore[assignment]

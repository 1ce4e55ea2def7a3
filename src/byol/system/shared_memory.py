"""Memory that two processes share, and results whose tensors are handed over in it."""

import io
import math
import mmap
import os
import pickle
import tempfile
from contextlib import suppress
from multiprocessing import reduction
from typing import Any

import torch
from torch import Tensor

ALIGNMENT = 64

_Layout = tuple[torch.dtype, tuple[int, ...], tuple[int, ...]]  # of a tensor: dtype, shape, stride


class SharedMemory:
    """Bytes that two processes have mapped; they go when neither has them, however it ends.

    They are no file of /dev/shm, which is small in containers: memory without a name where the system has it,
    and elsewhere a file that was deleted already.
    """

    def __init__(self, size: int, file: int | None = None, name: str | None = None) -> None:
        self.size, self._file, self._name = size, file, name
        if os.name == "nt":
            self._name = name or f"byol-{os.getpid()}-{id(self)}"
            self.bytes = mmap.mmap(-1, size, tagname=self._name)  # type: ignore[call-arg,unused-ignore]
            return
        if self._file is None:
            self._file = _reserved(size)
        self.bytes = mmap.mmap(self._file, size)

    def __del__(self) -> None:
        if getattr(self, "_file", None) is not None:
            os.close(self._file)  # type: ignore[arg-type]

    def __reduce__(self) -> tuple[Any, ...]:
        file = None if self._file is None else reduction.DupFd(self._file)
        return _opened, (self.size, file, self._name)

    def tensor(self, offset: int, layout: _Layout) -> Tensor:
        """Return a tensor whose values lie here."""
        dtype, shape, stride = layout
        flat = torch.frombuffer(self.bytes, dtype=dtype, count=math.prod(shape), offset=offset)
        return flat.as_strided(shape, stride)


def _reserved(size: int) -> int:
    """Return the descriptor of nameless memory."""
    with suppress(AttributeError, OSError):  # not every system has it, and some sandboxes refuse it
        file = os.memfd_create("byol")
        os.truncate(file, size)
        return file
    with tempfile.TemporaryFile() as stream:
        for start in range(0, size, 1 << 20):  # room is taken now: a full disk would end a writer later
            stream.write(bytes(min(1 << 20, size - start)))
        stream.flush()
        return os.dup(stream.fileno())


def _opened(size: int, file: Any, name: str | None) -> SharedMemory:
    return SharedMemory(size, None if file is None else file.detach(), name)


def pack(value: object, memory: SharedMemory, start: int, end: int) -> memoryview:
    """Return bytes of a value, whose tensors are laid into memory as long as there is room.

    Args:
        value: what can be pickled.
        memory: which both processes have.
        start: of the bytes that may be used, a multiple of `ALIGNMENT`.
        end: behind them.
    """
    stream = io.BytesIO()
    _Packer(stream, memory, start, end).dump(value)
    return stream.getbuffer()


def unpack(packed: bytes, memory: SharedMemory, *, is_pinned: bool = False) -> Any:
    """Return what another process of this program packed; its tensors are copies.

    Args:
        packed: by `pack`.
        memory: which both processes have; what `packed` refers to may be written over afterwards.
        is_pinned: copy into memory from which a GPU can copy by itself.
    """
    return _Unpacker(packed, memory, is_pinned).load()


class _Packer(pickle.Pickler):
    """Pickle a result, but lay its tensors into memory as long as there is room."""

    def __init__(self, stream: io.BytesIO, memory: SharedMemory, offset: int, end: int) -> None:
        super().__init__(stream, protocol=pickle.HIGHEST_PROTOCOL)
        self._memory, self._offset, self._end = memory, offset, end

    def persistent_id(self, value: object) -> tuple[int, _Layout] | None:
        """Return where a tensor was laid, or None for what is to be pickled."""
        if not isinstance(value, Tensor) or not value.numel():
            return None
        offset, size = self._offset, value.numel() * value.element_size()
        if offset + size > self._end:
            return None
        layout = value.dtype, tuple(value.shape), torch.empty_like(value, device="meta").stride()
        self._memory.tensor(offset, layout).copy_(value)
        self._offset += -(-size // ALIGNMENT) * ALIGNMENT
        return offset, layout


class _Unpacker(pickle.Unpickler):
    """Read what `_Packer` wrote; tensors are copied, as their memory is used again."""

    def __init__(self, payload: bytes, memory: SharedMemory, is_pinned: bool) -> None:
        super().__init__(io.BytesIO(payload))
        self._memory, self._is_pinned = memory, is_pinned

    def persistent_load(self, place: tuple[int, _Layout]) -> Tensor:
        """Return a tensor by where it lies."""
        offset, (dtype, shape, stride) = place
        copy = torch.empty_strided(shape, stride, dtype=dtype, pin_memory=self._is_pinned)
        return copy.copy_(self._memory.tensor(offset, (dtype, shape, stride)))

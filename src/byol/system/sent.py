"""What processes send each other: JSON and the bytes of tensors, so that none can make another run code.

A pickle from another process is a program of that process's. What is sent here is data, whoever sends it.
"""

import json
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from byol.errors import UserError

MOST_BYTES = 1 << 31  # that one process may send at once
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in [
        *(torch.float32, torch.float64, torch.bfloat16, torch.float16),
        *(torch.uint8, torch.int32, torch.int64, torch.bool),
    ]
}


def gather(value: Any, group: torch.distributed.ProcessGroup) -> list[Any]:
    """Return the values of all processes in the order of their ranks.

    Args:
        value: JSON values, tuples, paths and tensors on the CPU, and lists and dicts of them.
        group: of the processes, on the hosts; all of them call this.

    Raises:
        UserError: what another one sends is too long, or is none of these.
    """
    return [_received(part) for part in _gather_bytes(_packed(value), group)]


def from_rank_zero(value: Any, group: torch.distributed.ProcessGroup) -> Any:
    """Return the value of rank 0 in all processes; see `gather`, whose kinds of values it is of."""
    is_sender = torch.distributed.get_rank(group) == 0
    data = _packed(value) if is_sender else torch.empty(0, dtype=torch.uint8)
    length = torch.tensor([len(data)])
    torch.distributed.broadcast(length, 0, group)
    received = data if is_sender else torch.empty(_accepted(int(length)), dtype=torch.uint8)
    torch.distributed.broadcast(received, 0, group)
    return value if is_sender else _received(received)


def _gather_bytes(data: Tensor, group: torch.distributed.ProcessGroup) -> list[Tensor]:
    count = torch.distributed.get_world_size(group)
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(count)]
    torch.distributed.all_gather(lengths, torch.tensor([len(data)]), group)
    room = _accepted(max(map(int, lengths)))
    rows = [torch.empty(room, dtype=torch.uint8) for _ in range(count)]
    torch.distributed.all_gather(rows, torch.nn.functional.pad(data, (0, room - len(data))), group)
    return [row[: int(length)] for row, length in zip(rows, lengths, strict=True)]


def _accepted(length: int) -> int:
    if not 0 <= length <= MOST_BYTES:
        raise UserError(f"a process would send {length} bytes; at most {MOST_BYTES} are taken.")
    return length


def _packed(value: Any) -> Tensor:
    """Return a value as bytes: the length of a text, the text, and behind it what tensors hold."""
    tensors: list[Tensor] = []
    text = json.dumps(_described(value, tensors)).encode()
    parts = [torch.frombuffer(bytearray(len(text).to_bytes(8, "little") + text), dtype=torch.uint8)]
    return torch.cat([*parts, *(tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in tensors)])


def _received(data: Tensor) -> Any:
    try:
        start = 8 + int.from_bytes(bytes(data[:8].tolist()), "little")
        if start > len(data):
            raise ValueError("it is cut short")
        return _Restoring(data[start:]).value(json.loads(bytes(data[8:start].numpy())))
    except (ValueError, TypeError, KeyError, RuntimeError, RecursionError, OverflowError) as error:
        raise UserError(f"a process sent what cannot be read ({error}); start all of them again.") from error


def _described(value: Any, tensors: list[Tensor]) -> Any:
    """Return a value as JSON values; what JSON does not know stands in a dict with a mark as its only key."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return {"!tensor": [str(value.dtype).removeprefix("torch."), list(value.shape)]}
    if isinstance(value, Path):
        return {"!path": str(value)}
    if isinstance(value, tuple):
        return {"!tuple": [_described(one, tensors) for one in value]}
    if isinstance(value, list):
        return [_described(one, tensors) for one in value]
    if isinstance(value, dict):
        assert all(isinstance(key, str) and not key.startswith("!") for key in value), "a mark as a key"
        return {key: _described(one, tensors) for key, one in value.items()}
    assert value is None or isinstance(value, (str, int, float)), f"a {type(value).__name__} is sent"
    return value


class _Restoring:
    """Makes values of their descriptions, and tensors of the bytes that are left."""

    def __init__(self, rest: Tensor) -> None:
        self._rest = rest

    def value(self, described: Any) -> Any:
        if isinstance(described, list):
            return [self.value(one) for one in described]
        if not isinstance(described, dict):
            return described
        match next(iter(described.items()), None):
            case ("!tensor", [str(dtype), list(shape)]):
                return self._tensor(_DTYPES[dtype], torch.Size(shape))
            case ("!path", str(path)):
                return Path(path)
            case ("!tuple", list(items)):
                return tuple(self.value(one) for one in items)
        return {key: self.value(one) for key, one in described.items()}

    def _tensor(self, dtype: torch.dtype, shape: torch.Size) -> Tensor:
        size = shape.numel() * dtype.itemsize
        data, self._rest = self._rest[:size], self._rest[size:]
        return data.clone().view(dtype).reshape(shape)  # a copy, which begins where its dtype can

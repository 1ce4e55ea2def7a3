import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from byol.system.shared_memory import SharedMemory, pack, unpack


@pytest.fixture(params=["nameless", "a file"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> SharedMemory:
    def refused(name: str) -> int:
        raise PermissionError(1, "Operation not permitted")

    if request.param == "a file":
        monkeypatch.setattr(os, "memfd_create", refused)
    return SharedMemory(4096)


def test_tensors_are_handed_over_in_memory_and_the_rest_beside_it(memory: SharedMemory) -> None:
    values: dict[str, Any] = {
        "a": torch.arange(24.0).reshape(2, 3, 2, 2).to(memory_format=torch.channels_last),
        "b": (torch.arange(7, dtype=torch.uint8), "text", None),
        "part": torch.arange(20.0).reshape(4, 5)[:, ::2],
        "empty": torch.zeros(0, 3),
    }
    packed = bytes(pack(values, memory, 0, 4096))
    found: dict[str, Any] = unpack(packed, memory)
    assert torch.equal(found["a"], values["a"])
    assert found["a"].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found["b"][0], values["b"][0])
    assert found["b"][1:] == ("text", None)
    assert torch.equal(found["part"], values["part"])
    assert found["empty"].shape == (0, 3)


def test_what_was_unpacked_does_not_change_with_the_memory(memory: SharedMemory) -> None:
    found = unpack(bytes(pack(torch.ones(5), memory, 0, 4096)), memory)
    pack(torch.zeros(5), memory, 0, 4096)
    assert found.sum() == 5


def test_what_does_not_fit_is_pickled(memory: SharedMemory) -> None:
    small, large = torch.ones(8), torch.arange(10_000.0)
    packed = bytes(pack((large, small), memory, 64, 4096))
    assert len(packed) > 40_000
    assert all(map(torch.equal, unpack(packed, memory), (large, small)))
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(packed)  # the small one lies in memory


def test_a_result_keeps_within_its_part_of_the_memory(memory: SharedMemory) -> None:
    memory.tensor(0, (torch.uint8, (4096,), (1,))).fill_(7)
    pack([torch.zeros(16)] * 40, memory, 1024, 2048)
    bytes_ = memory.tensor(0, (torch.uint8, (4096,), (1,)))
    assert (bytes_[:1024] == 7).all()
    assert (bytes_[1024:2048] == 0).all()
    assert (bytes_[2048:] == 7).all()


def entries(folder: str) -> list[Path]:
    return sorted(Path(folder).iterdir())


def test_memory_is_no_file_of_the_small_folder(memory: SharedMemory) -> None:
    before = entries("/dev/shm")
    other = SharedMemory(1 << 20)
    assert entries("/dev/shm") == before
    assert len(other.bytes) == 1 << 20


def test_descriptors_go_with_the_memory() -> None:
    before = len(entries("/proc/self/fd"))
    several = [SharedMemory(4096) for _ in range(5)]
    assert len(entries("/proc/self/fd")) > before
    del several
    assert len(entries("/proc/self/fd")) == before

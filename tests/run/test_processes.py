"""One process alone; several are in tests/test_ranks.py."""

import os

import pytest
import torch

from byol.run import processes
from byol.run.errors import UserError


def test_one_process_agrees_with_itself() -> None:
    value = torch.tensor([3.0, 4.0])
    assert processes.rank_and_size() == (0, 1)
    assert processes.mean(value) is value
    assert torch.equal(processes.gathered(value), value[None])
    assert processes.highest(3, 1) == (3, 1)
    assert processes.union(["b", "a", "b"]) == ("a", "b")
    with processes.joined(), processes.first_alone():
        assert not torch.distributed.is_initialized()


def test_cores_are_shared_by_the_processes_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert processes.usable_cores() == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert processes.usable_cores() == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert processes.usable_cores() == 1


def test_more_processes_than_gpus_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match="finds 2 GPUs; use --nproc-per-node 2"), processes.joined():
        pass


def test_gradients_travel_in_buckets_of_bounded_size() -> None:
    half = torch.zeros(processes._BUCKET // 2)
    buckets = list(processes._buckets([half, half, half]))
    assert [len(bucket) for bucket in buckets] == [2, 1]
    assert list(processes._buckets([])) == []

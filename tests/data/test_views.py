"""The loader knows no pixel: here it loads windows of signals, a modality of these tests alone."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from byol.data.draws import uniforms
from byol.data.identity import Identity
from byol.data.loader import Batch, batches
from byol.data.order import Order
from byol.data.unreadable import Bad
from byol.data.views import Crops, Indices, Items, Views
from byol.errors import UserError

N, LENGTH, WINDOW = 23, 50, 8
CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Signals:
    """Rows of numbers, of which some cannot be read."""

    samples: NDArray[np.float32]  # (N, LENGTH)
    broken: frozenset[int] = frozenset()
    in_memory: bool = False
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    bad: tuple[Bad, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def name(self, i: int) -> str:
        return f"signal {i}"

    def digest(self) -> str:
        return hashlib.sha256(self.samples.tobytes()).hexdigest()

    def identity(self) -> Identity:
        return Identity(len(self), self.digest())

    def near(self, device: torch.device) -> "Signals":
        return self


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Two windows of a signal, with noise, of one channel."""

    channels: int = 1
    pairs: tuple[tuple[int, int], ...] = ((0, 1), (1, 0))
    shapes: tuple[tuple[int, ...], ...] = ((1, WINDOW), (1, WINDOW))

    def cut(self, images: Signals, seed: int, step: int, index: Indices) -> Crops:
        if index.max() >= N:
            raise UserError("that is no signal; give another.")
        kept = np.array([i for i in index.tolist() if i not in images.broken], np.int64)
        windows = []
        for view in range(2):
            starts = (uniforms(seed, step, kept, view, 1)[:, 0] * (LENGTH - WINDOW)).astype(int).tolist()
            rows = [images.samples[i, start : start + WINDOW] for i, start in zip(kept, starts, strict=True)]
            windows.append(torch.from_numpy(np.stack(rows) if rows else np.zeros((0, WINDOW), np.float32)))
        broken = tuple(Bad(images.name(i), "noise") for i in index.tolist() if i in images.broken)
        return Crops(kept, tuple(window[:, None] for window in windows), broken)

    def finish(
        self,
        crops: Sequence[Tensor],
        seed: int,
        step: int,
        index: Indices,
        device: torch.device | None = None,
    ) -> tuple[Tensor, ...]:
        noise = (torch.from_numpy(uniforms(seed, step, index, view, 1 + WINDOW)[:, 1:]) for view in range(2))
        return tuple(crop.to(device) + more[:, None] for crop, more in zip(crops, noise, strict=True))


def signals(**settings: Any) -> Signals:
    samples = np.random.default_rng(0).normal(size=(N, LENGTH)).astype(np.float32)
    return Signals(samples, labels=np.arange(N) % 3, classes=("a", "b", "c"), **settings)


def run(images: Signals, **changes: Any) -> list[Batch]:
    settings: dict[str, Any] = {"batch_size": 6, "seed": 1, "first_step": 0, "total_steps": 9, "workers": 0}
    return list(batches(images, Windows(), device=CPU, **(settings | changes)))


def assert_same(first: Sequence[Batch], second: Sequence[Batch]) -> None:
    """Bit for bit."""
    for a, b in zip(first, second, strict=True):
        assert (a.step, a.bad) == (b.step, b.bad)
        np.testing.assert_array_equal(a.index, b.index)
        np.testing.assert_array_equal(np.asarray(a.labels), np.asarray(b.labels))
        assert all(torch.equal(x, y) for x, y in zip(a.views, b.views, strict=True))


def test_a_modality_of_one_s_own_fills_the_slots() -> None:
    items: Items = signals()  # as mypy sees it
    views: Views[Signals] = Windows()
    assert len(items) == N
    assert views.channels == views.shapes[0][0]


def test_views_of_signals_are_windows_with_noise_in_the_order_of_the_seed() -> None:
    images = signals()
    for batch in run(images):
        index, numbers = Order(1, N, 6).batch(batch.step)
        np.testing.assert_array_equal(batch.index, index)
        for number in set(numbers.tolist()):
            rows = np.flatnonzero(numbers == number)
            expected = Windows().cut(images, 1, number, index[rows])
            views = Windows().finish(expected.tensors, 1, number, index[rows])
            assert all(torch.equal(a[rows], b) for a, b in zip(batch.views, views, strict=True))
        assert batch.views[0].shape == (6, 1, WINDOW)
        np.testing.assert_array_equal(np.asarray(batch.labels), batch.index % 3)


@pytest.mark.parametrize("workers", [0, 2])
def test_signals_depend_neither_on_workers_nor_on_where_one_began(workers: int) -> None:
    whole = run(signals(in_memory=True))
    assert_same(run(signals(), workers=workers), whole)
    assert_same(run(signals(), workers=workers, first_step=4), whole[4:])


def test_processes_share_the_batch_of_one() -> None:
    whole, parts = run(signals()), [run(signals(), rank=rank, world_size=3) for rank in range(3)]
    for batch, *shared in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(batch.index, np.concatenate([part.index for part in shared]))
        for view in range(2):
            assert torch.equal(batch.views[view], torch.cat([part.views[view] for part in shared]))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_signal_is_named_and_skipped_and_the_rest_unchanged(workers: int) -> None:
    whole = run(signals())
    for batch, before in zip(run(signals(broken=frozenset([4])), workers=workers), whole, strict=True):
        good = before.index != 4
        assert [bad.name for bad in batch.bad] == ([] if good.all() else ["signal 4"])
        np.testing.assert_array_equal(batch.index, before.index[good])
        assert all(torch.equal(a, b[good]) for a, b in zip(batch.views, before.views, strict=True))


def test_many_bad_signals_stop() -> None:
    with pytest.raises(UserError, match=r"2 of 23 images cannot be used"):
        run(signals(broken=frozenset([4, 9])), total_steps=40)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_worker_refuses_stays_one_sentence(workers: int) -> None:
    with pytest.raises(UserError, match=r"^that is no signal; give another\.$"):
        run(signals(), workers=workers, among=np.arange(90, 100))


def test_the_loader_imports_nothing_of_images() -> None:
    source = Path(__file__).parent.parent.parent / "src" / "byol" / "data"
    for module in ("loader.py", "order.py", "views.py", "draws.py"):
        text = (source / module).read_text()
        assert "byol.data.image" not in text, module

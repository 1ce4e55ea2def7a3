import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.ranks import workers

from byol.data.image.augmentation import View
from byol.data.image.resample import crop_resize
from byol.data.image.views import MultiCrop, TwoViews
from byol.data.images import Files, Images, InMemory
from byol.data.index.folder import index_folder
from byol.data.loader import Batch, batches
from byol.data.order import Order, permutation
from byol.errors import UserError
from byol.page.figure import SHOWN, _sheet
from byol.recipe.small import builtin

PLAIN = View(flip=0.0, jitter=0.0, grayscale=0.0, blur=0.0)  # its views are its crops, bit for bit
UNCHANGED: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
VIEWS = TwoViews(size=8, first=PLAIN, second=PLAIN, **UNCHANGED)
MULTI = MultiCrop(
    size=8,
    first=PLAIN,
    second=PLAIN,
    small=replace(PLAIN, area=(0.05, 0.25)),
    small_size=5,
    num_small=3,
    **UNCHANGED,
)
CPU = torch.device("cpu")
N = 23
TOTAL = 9  # steps of 6 images of 23: two epochs and then some, whose ends fall within batches


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def packed() -> InMemory:
    random = np.random.default_rng(0)
    return InMemory(torch.from_numpy(random.integers(0, 256, (N, 3, 14, 11), dtype=np.uint8)))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    random = np.random.default_rng(0)
    (tmp_path / "root").mkdir()
    for i in range(N):
        pixels = random.integers(0, 256, (10 + i, 30 - i, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "root" / f"{i:02}.png")
    return Files(index_folder(tmp_path / "root", tmp_path / "cache"))


def run(images: Images, **changes: Any) -> list[Batch]:
    settings: dict[str, Any] = {
        "batch_size": 6,
        "seed": 1,
        "first_step": 0,
        "total_steps": TOTAL,
        "workers": 0,
        "views": VIEWS,
    }
    return list(batches(images, device=CPU, **(settings | changes)))


def assert_same(first: list[Batch], second: list[Batch]) -> None:
    """Bit for bit."""
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.step == b.step
        assert a.bad == b.bad
        np.testing.assert_array_equal(a.index, b.index)
        for crop, other in zip(a.views, b.views, strict=True):
            assert torch.equal(crop, other)


def test_permutation_is_a_function_of_seed_and_epoch() -> None:
    order = permutation(3, 5, 100)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(100))
    np.testing.assert_array_equal(order, permutation(3, 5, 100))
    for seed, epoch in ((3, 6), (4, 5), (5, 3)):
        assert (order != permutation(seed, epoch, 100)).any()


def test_permutation_stays_as_it_was() -> None:
    # A run that is resumed under another release of numpy must go on in the same order.
    assert permutation(0, 0, 8).tolist() == [2, 4, 3, 6, 5, 0, 1, 7]


@pytest.mark.parametrize("kind", ["packed", "files"])
def test_batches_hold_two_different_crops_of_each_image(kind: str, request: pytest.FixtureRequest) -> None:
    for step, batch in enumerate(run(request.getfixturevalue(kind))):
        assert batch.step == step
        assert batch.index.shape == (6,)
        assert batch.index.dtype == np.int64
        assert batch.bad == ()
        for crop in batch.views:
            assert crop.shape == (6, 3, 8, 8)
            assert crop.dtype == torch.float32
            assert 0 <= crop.min() < 0.2 < 0.8 < crop.max() <= 1
        assert not torch.equal(*batch.views)


@pytest.mark.parametrize(("kind", "workers"), [("packed", 0), ("files", 0), ("files", 2)])
def test_small_crops_come_after_the_two_large_ones_which_stay_what_they_were(
    kind: str, workers: int, request: pytest.FixtureRequest
) -> None:
    images = request.getfixturevalue(kind)
    for batch, two in zip(run(images, views=MULTI, workers=workers), run(images), strict=True):
        assert [crop.shape for crop in batch.views] == [(6, 3, size, size) for size in (8, 8, 5, 5, 5)]
        np.testing.assert_array_equal(batch.index, two.index)
        for crop, large in zip(batch.views[:2], two.views, strict=True):  # bit for bit
            assert torch.equal(crop, large)
        for crop in batch.views[2:]:
            assert crop.dtype == torch.float32
            assert 0 <= crop.min() < crop.max() <= 1
        for one, other in ((2, 3), (3, 4), (4, 2)):
            assert not torch.equal(batch.views[one], batch.views[other])


@pytest.mark.parametrize("workers", [0, 2])
def test_small_crops_do_not_depend_on_where_one_began_or_on_workers(files: Files, workers: int) -> None:
    whole = run(files, views=MULTI)
    assert_same(run(files, views=MULTI, first_step=4, workers=workers), whole[4:])


@pytest.mark.parametrize(("kind", "workers"), [("packed", 0), ("files", 0), ("files", 2)])
def test_views_are_crops_distorted_as_their_table_says(
    kind: str, workers: int, request: pytest.FixtureRequest
) -> None:
    images, published = request.getfixturevalue(kind), TwoViews(size=8)
    for plain, batch in zip(run(images), run(images, views=published, workers=workers), strict=True):
        index, numbers = Order(1, N, 6).batch(batch.step)
        np.testing.assert_array_equal(batch.index, index)
        expected = published.finish(plain.views, 1, numbers, index)
        for view, alike in zip(batch.views, expected, strict=True):
            assert torch.equal(view, alike)
            assert view.is_contiguous(memory_format=torch.channels_last)


def test_a_view_is_cut_out_by_its_own_box_and_to_its_own_size(packed: InMemory) -> None:
    batch = run(packed, views=MULTI, total_steps=1)[0]
    boxes = MULTI.boxes(1, 0, batch.index, np.full(6, 14), np.full(6, 11))
    pixels = packed.images[torch.from_numpy(batch.index)]
    for crop, box, size in zip(batch.views, boxes, MULTI.sizes, strict=True):
        assert torch.equal(crop, crop_resize(pixels, box, size))


@pytest.mark.parametrize("views", [VIEWS, MULTI], ids=["two", "multicrop"])
def test_a_figure_shows_the_images_and_the_two_large_views(
    views: TwoViews | MultiCrop, packed: InMemory
) -> None:
    recipe = replace(builtin(), views=views, batch_size=8)
    sheet = _sheet(recipe, packed)
    assert sheet.shape == (3 * 9, SHOWN * 9, 3)  # a frame of one pixel on two sides of 8
    assert np.array_equal(sheet, _sheet(replace(recipe, views=VIEWS), packed))


def test_labels_are_those_of_the_images_in_the_batch(packed: InMemory) -> None:
    labels = np.random.default_rng(0).integers(0, 5, N)
    for batch in run(replace(packed, labels=labels)):
        assert batch.labels is not None
        assert batch.labels.dtype == np.int64
        np.testing.assert_array_equal(batch.labels, labels[batch.index])


def test_a_set_without_labels_gives_none(packed: InMemory, files: Files) -> None:
    assert {batch.labels for images in (packed, files) for batch in run(images)} == {None}


@pytest.mark.parametrize("workers", [0, 2])
def test_labels_of_files_leave_out_those_that_cannot_be_decoded(tmp_path: Path, workers: int) -> None:
    for i in range(N):
        path = tmp_path / "root" / f"class{i % 3}" / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 10), (i, i, i)).save(path)
    images = Files(index_folder(tmp_path / "root", tmp_path / "cache"))
    Path(images.index.root, images.name(4)).write_bytes(b"no image")
    seen = run(images, workers=workers)
    for batch in seen:
        assert batch.labels is not None
        assert [f"class{label}" for label in batch.labels] == [
            images.name(i)[:6] for i in batch.index.tolist()
        ]
    assert {len(batch.index) for batch in seen} == {5, 6}


def test_every_image_comes_once_an_epoch_when_the_batch_divides_the_set(packed: InMemory) -> None:
    images = InMemory(packed.images[:18])
    indices = [batch.index for batch in run(images)]
    for epoch in range(3):
        seen = np.concatenate(indices[3 * epoch : 3 * epoch + 3])
        np.testing.assert_array_equal(np.sort(seen), np.arange(18))
    assert (np.concatenate(indices[:3]) != np.concatenate(indices[3:6])).any()


@pytest.mark.parametrize("kind", ["packed", "files"])
def test_no_image_is_dropped_and_batches_run_across_the_ends_of_epochs(
    kind: str, request: pytest.FixtureRequest
) -> None:
    batches_ = run(request.getfixturevalue(kind), total_steps=23)  # six epochs
    assert {len(batch.index) for batch in batches_} == {6}
    seen = np.concatenate([batch.index for batch in batches_])
    np.testing.assert_array_equal(seen, np.concatenate([permutation(1, epoch, N) for epoch in range(6)]))


@pytest.mark.parametrize("world_size", [1, 2, 5])
@pytest.mark.parametrize("kind", ["packed", "files"])
def test_an_image_that_stands_in_a_batch_twice_is_drawn_twice(
    kind: str, world_size: int, request: pytest.FixtureRequest
) -> None:
    images, found = request.getfixturevalue(kind), 0
    options: dict[str, Any] = {"batch_size": 20, "total_steps": 6, "world_size": world_size}
    shards = [run(images, rank=rank, **options) for rank in range(world_size)]
    for parts in zip(*shards, strict=True):
        index = np.concatenate([part.index for part in parts])
        views = torch.cat([part.views[0] for part in parts])
        for image in np.unique(index):
            first, *others = np.flatnonzero(index == image).tolist()
            assert len(others) < 2
            found += len(others)
            for other in others:
                assert not torch.equal(views[first], views[other])
    assert found > 10


def test_views_of_a_set_that_batches_divide_are_drawn_by_the_step_alone(packed: InMemory) -> None:
    order = Order(1, 18, 6)
    for batch in run(InMemory(packed.images[:18])):
        index, numbers = order.batch(batch.step)
        assert set(numbers.tolist()) == {batch.step}
        boxes = VIEWS.boxes(1, batch.step, index, np.full(6, 14), np.full(6, 11))
        pixels = packed.images[torch.from_numpy(index)]
        assert torch.equal(batch.views[0], crop_resize(pixels, boxes[0], 8))


def test_rows_of_the_epoch_that_begins_within_a_batch_have_a_number_of_their_own() -> None:
    order = Order(3, 7, 5)
    seen: set[int] = set()
    for step in range(1000):
        index, numbers = order.batch(step)
        assert len(set(zip(index.tolist(), numbers.tolist(), strict=True))) == 5
        assert set(numbers.tolist()).isdisjoint(seen)
        assert step in numbers
        seen |= set(numbers.tolist())


def test_a_batch_may_be_as_large_as_the_set_and_no_larger(packed: InMemory) -> None:
    for batch in run(packed, batch_size=N, total_steps=3):
        np.testing.assert_array_equal(np.sort(batch.index), np.arange(N))


def test_resumed_packed_set_equals_uninterrupted(packed: InMemory) -> None:
    whole = run(packed)
    for first_step in range(TOTAL + 1):
        assert_same(run(packed, first_step=first_step), whole[first_step:])


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_resumed_files_equal_uninterrupted_with_any_number_of_workers(files: Files, workers: int) -> None:
    whole = run(files)
    for first_step in range(TOTAL + 1) if workers == 0 else (0, 2, 3, 7):
        assert_same(run(files, first_step=first_step, workers=workers), whole[first_step:])


def test_iteration_leaves_the_global_generator_alone(files: Files) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    run(files, total_steps=2)
    run(files, total_steps=2, workers=1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["packed", "files"])
def test_shares_of_the_processes_join_to_the_batch_of_one(kind: str, request: pytest.FixtureRequest) -> None:
    images = request.getfixturevalue(kind)
    shares = [run(images, rank=rank, world_size=3) for rank in range(3)]
    joined = [
        Batch(
            step=parts[0].step,
            index=np.concatenate([part.index for part in parts]),
            views=(
                torch.cat([part.views[0] for part in parts]),
                torch.cat([part.views[1] for part in parts]),
            ),
        )
        for parts in zip(*shares, strict=True)
    ]
    assert_same(joined, run(images))


def test_crops_of_an_image_do_not_depend_on_the_batch_size(files: Files) -> None:
    small, large = run(files, batch_size=3, total_steps=1)[0], run(files, batch_size=20, total_steps=1)[0]
    np.testing.assert_array_equal(small.index, large.index[:3])
    assert torch.equal(small.views[0], large.views[0][:3])


def test_seed_changes_order_and_crops(packed: InMemory) -> None:
    first, second = run(packed)[0], run(packed, seed=2)[0]
    assert (first.index != second.index).any()
    whole, other = (run(packed, seed=seed, batch_size=N, total_steps=1)[0] for seed in (1, 2))
    assert not torch.equal(whole.views[0][whole.index.argsort()], other.views[0][other.index.argsort()])


def test_permutation_is_drawn_once_an_epoch(packed: InMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    epochs = []

    def counted(seed: int, epoch: int, length: int) -> Any:
        epochs.append(epoch)
        return permutation(seed, epoch, length)

    monkeypatch.setattr("byol.data.order.permutation", counted)
    run(packed)
    assert epochs == [0, 1, 2]


@pytest.mark.parametrize("views", [VIEWS, MULTI], ids=["two", "multicrop"])
@pytest.mark.parametrize("workers", [0, 2])
def test_bad_file_is_named_and_skipped_and_the_rest_unchanged(
    files: Files, workers: int, views: TwoViews | MultiCrop
) -> None:
    whole = run(files, views=views)
    Path(files.index.root, files.name(4)).write_bytes(b"no image")
    for batch, before in zip(run(files, views=views, workers=workers), whole, strict=True):
        good = before.index != 4
        assert [bad.name for bad in batch.bad] == ([] if good.all() else ["04.png"])
        np.testing.assert_array_equal(batch.index, before.index[good])
        for crop, all_before in zip(batch.views, before.views, strict=True):
            assert torch.equal(crop, all_before[good])


def test_file_that_is_bad_in_every_epoch_counts_once(files: Files) -> None:
    Path(files.index.root, files.name(4)).unlink()
    bad = [name for batch in run(files, total_steps=40) for name, _ in batch.bad]
    assert len(bad) > 5
    assert set(bad) == {"04.png"}


def test_second_bad_file_stops(files: Files) -> None:
    for i in (4, 9):
        Path(files.index.root, files.name(i)).write_bytes(b"no image")
    with pytest.raises(UserError, match=r"2 of 23 images cannot be used, .* 04\.png \(.*, 09\.png"):
        run(files, total_steps=40)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_batch_with_fewer_than_two_good_files_stops(files: Files, batch_size: int) -> None:
    Path(files.index.root, files.name(4)).write_bytes(b"no image")
    expected = rf"only {batch_size - 1} of step \d+'s images can be decoded, .* needs 2: .* remove 04\.png"
    with pytest.raises(UserError, match=expected):
        run(files, batch_size=batch_size, total_steps=4 * N)


def test_batch_with_two_good_files_goes_on(files: Files) -> None:
    Path(files.index.root, files.name(4)).write_bytes(b"no image")
    assert {len(batch.index) for batch in run(files, batch_size=3, total_steps=4 * N)} == {2, 3}


def test_batch_larger_than_the_set_is_refused(packed: InMemory) -> None:
    with pytest.raises(UserError, match="batch_size is 24 but there are only 23 images"):
        run(packed, batch_size=24)


def test_batch_that_cannot_be_shared_is_refused(packed: InMemory) -> None:
    with pytest.raises(UserError, match="multiple of the 4 processes"):
        run(packed, world_size=4)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_ignore_the_interrupt_and_end_with_the_iterator(files: Files, number: signal.Signals) -> None:
    iterator = batches(
        files, VIEWS, batch_size=6, seed=1, first_step=0, total_steps=10_000, workers=2, device=CPU
    )
    next(iterator)
    running = workers()
    assert len(running) == 2
    for worker in running:
        assert worker.pid is not None
        os.kill(worker.pid, number)
    for _ in range(10):
        next(iterator)
    assert all(worker.is_alive() for worker in running)
    start = time.monotonic()
    del iterator
    assert not workers()
    assert time.monotonic() - start < 4


def test_reader_sent_to_a_worker_is_small(files: Files) -> None:
    from byol.data.loader import _Cutter

    pickled = pickle.dumps(_Cutter(files, VIEWS, 0, CPU))
    assert len(pickled) < 2000
    assert pickle.loads(pickled).cut((0, ((0, np.arange(3)),)))[1][0][1].index.tolist() == [0, 1, 2]


@pytest.fixture
def photos(tmp_path: Path) -> Files:
    """Smooth colors of 200 x 260 with edges in them, as JPEG: crops of 8 pixels need few of theirs."""
    y, x = np.mgrid[:200, :260]
    for i in range(8):
        waves = (np.sin((x * (i + 1) + y * k) / (20 + 5 * k)) for k in range(3))
        pixels = np.stack([100 + 60 * wave + 60 * ((x + y) % 90 < 45) for wave in waves], axis=2)
        path = tmp_path / "photos" / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path, quality=95)
    return Files(index_folder(tmp_path / "photos", tmp_path / "cache"))


def test_crops_of_coarsely_decoded_images_are_near_those_of_whole_ones(
    photos: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    coarse = run(photos, batch_size=8, total_steps=3)
    monkeypatch.setattr("byol.data.image.decode._COARSER", ())
    whole = run(photos, batch_size=8, total_steps=3)
    for one, other in zip(coarse, whole, strict=True):
        assert np.array_equal(one.index, other.index)
        for a, b in zip(one.views, other.views, strict=True):
            assert not torch.equal(a, b)
            # Photographs: 36 to 47 dB in the mean, 30 at worst (docs/log.md). One pixel off has 14 here.
            assert 10 * torch.log10(1 / (a - b).square().mean()) > 32


def test_crops_that_need_every_pixel_are_those_of_before(
    photos: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"batch_size": 8, "total_steps": 1, "views": replace(VIEWS, size=180)}
    batch = run(photos, **options)
    monkeypatch.setattr("byol.data.image.decode._COARSER", ())
    assert_same(batch, run(photos, **options))


@pytest.mark.slow
def test_workers_give_way_to_a_step_on_the_cpu() -> None:
    code = "import os; from byol.data.workers import start_worker; start_worker(7); print(os.nice(0))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == min(19, os.nice(0) + 7)


def test_coarse_crops_do_not_depend_on_the_workers(photos: Files) -> None:
    assert_same(run(photos, batch_size=4), run(photos, batch_size=4, workers=2))

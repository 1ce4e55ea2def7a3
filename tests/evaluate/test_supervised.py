import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.evaluate.conftest import MakeSet

from byol.errors import UserError
from byol.evaluate.parameter_groups import layers_of
from byol.evaluate.supervised import Classifier, Trained, Training, _optimizer, logits_of, train
from byol.evaluate.task import Task, open_task
from byol.system.cache import cache_folder
from byol.system.device import Device
from byol.system.progress import Progress
from byol.weights.pretrained import Pretrained

Train = Callable[..., Trained]
WHOLE = Training(lrs=(0.05,), epochs=3, batch_size=8)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYOL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def task(make_set: MakeSet) -> Task:
    return open_task(str(make_set()))


@pytest.fixture
def training(encoder: Pretrained, task: Task, device: Device, quiet: Progress) -> Train:
    def call(
        how: Training, score: Callable[[Classifier], list[float]] | None = None, seed: int = 0
    ) -> Trained:
        return train(
            encoder,
            task.train,
            3,
            how,
            seed=seed,
            device=device,
            progress=quiet,
            title="",
            data=task.fingerprint,
            score=score,
        )

    return call


def state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.cpu().clone() for name, value in module.state_dict().items()}


def is_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_training_that_was_stopped_ends_as_if_it_had_not(
    training: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def stop_in_the_second_epoch(network: Classifier) -> list[float]:
        calls.append(network)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return [float(len(calls))]

    with pytest.raises(KeyboardInterrupt):
        training(WHOLE, stop_in_the_second_epoch)
    epochs: list[float] = []
    resumed = training(WHOLE, lambda _: epochs.append(1.0) or [2.0 + len(epochs)])  # type: ignore[func-returns-value]
    assert len(epochs) == 2  # the first is not trained again
    monkeypatch.setenv("BYOL_CACHE", str(tmp_path / "another"))
    growing = iter([1.0, 3.0, 4.0])
    whole = training(WHOLE, lambda _: [next(growing)])
    assert is_same(state(resumed.network), state(whole.network))
    assert (resumed.held_out, resumed.epochs) == (whole.held_out, whole.epochs) == ([[1.0], [3.0], [4.0]], 3)


def test_processes_that_read_the_images_change_nothing(
    training: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = training(WHOLE)
    monkeypatch.setenv("BYOL_CACHE", str(tmp_path / "another"))
    monkeypatch.setattr("byol.evaluate.supervised.usable_cores", lambda: 2)
    assert is_same(state(alone.network), state(training(WHOLE).network))


def test_a_finished_training_is_not_repeated(training: Train) -> None:
    first = training(WHOLE)
    again = training(WHOLE, None)
    assert is_same(state(first.network), state(again.network))
    assert not is_same(state(training(WHOLE, seed=1).network), state(first.network))


def test_the_encoder_that_is_given_stays_as_it_is(training: Train, encoder: Pretrained) -> None:
    before = state(encoder)
    trained = training(WHOLE)
    assert is_same(state(encoder), before)
    assert not is_same(state(trained.network.encoder), before)


def test_a_frozen_encoder_keeps_weights_and_statistics(training: Train, encoder: Pretrained) -> None:
    trained = training(Training(lrs=(0.5,), epochs=2, batch_size=8, is_frozen=True))
    assert is_same(state(trained.network.encoder), state(encoder))
    assert trained.network.heads[0].get_parameter("weight").abs().max() > 0


def test_classifiers_side_by_side_do_not_disturb_each_other(training: Train) -> None:
    both = training(Training(lrs=(0.5, 0.1), epochs=2, batch_size=8, is_frozen=True))
    for head, lr in enumerate((0.5, 0.1)):
        alone = training(Training(lrs=(lr,), epochs=2, batch_size=8, is_frozen=True))
        # The gradient of a sum of losses is that of each; bf16 outputs are rounded alike in both.
        torch.testing.assert_close(state(both.network.heads[head]), state(alone.network.heads[0]))


def test_the_best_epoch_is_kept_and_patience_ends_it(training: Train) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    figures = iter([1.0, 5.0, 5.0, 2.0, 9.0])

    def figure(network: Classifier) -> list[float]:
        seen.append(state(network))
        return [next(figures)]

    trained = training(Training(lrs=(0.05,), epochs=5, batch_size=8, patience=2), figure)
    assert trained.held_out == [[1.0], [5.0], [5.0], [2.0]]
    assert trained.epochs == 2  # the first of equal ones
    assert is_same(state(trained.network), seen[1])


def test_training_learns_what_can_be_learned(training: Train, task: Task, device: Device) -> None:
    trained = training(Training(lrs=(0.1,), epochs=10, batch_size=8))
    assert task.test is not None
    logits, places = logits_of(trained.network, task.test, 0, device)
    assert places.tolist() == list(range(30))
    accuracy = (logits.argmax(1).numpy() == task.test.labels).mean()
    assert accuracy > 0.6  # a third by chance; more than 0.51 in 30 is 95 % sure


def test_with_layer_decay_what_is_near_the_images_hardly_moves(training: Train, encoder: Pretrained) -> None:
    def moved(decay: float) -> list[float]:
        trained = training(Training(lrs=(0.05,), epochs=1, batch_size=8, layer_decay=decay))
        after = layers_of(trained.network.encoder.encoder)
        return [
            max(float((a - b).detach().abs().max()) for a, b in zip(one, two, strict=True))
            for one, two in zip(layers_of(encoder.encoder), after, strict=True)
        ]

    whole, decayed = moved(1.0), moved(0.01)
    assert decayed[0] < 1e-3 * whole[0]  # four layers: its learning rate is 1e-8 of the whole
    assert decayed[-1] > decayed[0]


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint"])
def test_a_damaged_file_of_the_cache_is_computed_again(training: Train, damage: bytes) -> None:
    first = training(WHOLE)
    (saved,) = (cache_folder() / "training").rglob("step-*.pt")
    saved.write_bytes(damage)
    assert is_same(state(training(WHOLE).network), state(first.network))


def test_nobody_else_trains_the_same_classifier_meanwhile(training: Train) -> None:
    """As when two comparisons with one common encoder run side by side."""

    def try_to_come_in(network: Classifier) -> list[float]:
        (lock,) = (cache_folder() / "training").glob("*.lock")
        with lock.open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return [1.0]

    assert len(training(WHOLE, try_to_come_in).held_out) == WHOLE.epochs


def test_weights_of_the_classifier_decay_and_its_bias_does_not(training: Train) -> None:
    network = training(Training(lrs=(0.1,), epochs=1, batch_size=8)).network
    optimizer = _optimizer(network, Training(lrs=(0.1,), epochs=1, batch_size=8, weight_decay=0.5), 5)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay[id(network.heads[0].get_parameter("weight"))] == 0.5
    assert decay[id(network.heads[0].get_parameter("bias"))] == 0.0
    assert all(decay[id(p)] == 0.5 * (p.ndim > 1) for p in network.encoder.parameters())


def test_too_few_images_for_a_batch_are_told(training: Train) -> None:
    with pytest.raises(UserError, match="60 labelled images are left to learn from; 64 are needed"):
        training(Training(lrs=(0.1,), epochs=1, batch_size=64))

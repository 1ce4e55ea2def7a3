import pytest
import torch

from byol.system.device import Device, keep_freed_memory, pick_device


def test_autocast_gives_bfloat16_inside_and_nothing_outside() -> None:
    layer = torch.nn.Linear(2, 2)
    with Device(torch.device("cpu"), "bf16").autocast():
        assert layer(torch.ones(1, 2)).dtype == torch.bfloat16
    with Device(torch.device("cpu"), "float32").autocast():
        assert layer(torch.ones(1, 2)).dtype == torch.float32


@pytest.mark.parametrize("precision", ["bf16", "float32"])
def test_a_precision_that_is_asked_for_is_taken(precision: str) -> None:
    assert pick_device(precision).precision == precision  # type: ignore[arg-type]


def test_auto_takes_one_of_the_two() -> None:
    assert pick_device().precision in ("bf16", "float32")


def test_keeping_freed_memory_can_be_asked_for_twice() -> None:
    keep_freed_memory()
    keep_freed_memory()

import torch
from torch import nn

from byol.system.collective import average_gradients, mean_over_ranks


def test_in_a_process_of_its_own_the_mean_is_the_value() -> None:
    value = torch.tensor(3.0)
    assert mean_over_ranks(value) is value


def test_averaging_waits_for_a_group_only_when_the_optimizer_steps() -> None:
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    average_gradients(optimizer)
    assert len(optimizer._optimizer_step_pre_hooks) == 1

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import byol
from byol.algorithm import Passes, Step, bootstrap_step, one_by_one
from byol.errors import UserError
from byol.model.encoder import ConvNet
from byol.optim import Sgd
from byol.recipe.spec import Recipe
from byol.system.device import pick_device
from byol.training.learner import Learner, build
from byol.training.side_by_side import SideBySide, can_go_side_by_side, lane_of

SMALL = "cifar10-small"
RELATIVES = (SMALL, "cifar10-small-simsiam", "cifar10-small-gn-ws", "cifar10")


def learner_of(name: str) -> Learner:
    recipe: Recipe = replace(byol.named(name), optimizer=Sgd(base_lr=0.1, weight_decay=1e-4))
    if isinstance(recipe.encoder, ConvNet) and name == "cifar10-small-directpred":  # as a plan has it
        recipe = replace(recipe, encoder=replace(recipe.encoder, representation="whitened"))
    learner = build(recipe, pick_device("float32"))
    learner.online.double()
    learner.target.double()
    return learner


def views(seed: int) -> list[Tensor]:
    torch.manual_seed(seed)
    return [torch.randn(8, 3, 24, 24, dtype=torch.float64) for _ in range(2)]


def stepped(learner: Learner, passes: Passes, micro_batches: int = 1) -> Step:
    steps = [
        bootstrap_step(
            *(learner.online, learner.target, learner.optimizer, views(seed), 0.01, 0.99),
            passes=passes,
            micro_batches=micro_batches,
        )
        for seed in range(3)
    ]
    return steps[-1]


def side_by_side(learner: Learner, threads: int = 2) -> SideBySide:
    return SideBySide(learner.online, learner.target, threads)


@pytest.mark.parametrize("name", RELATIVES)
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_side_by_side_is_the_step_of_one_by_one(name: str, micro_batches: int) -> None:
    one, both = learner_of(name), learner_of(name)
    alone = stepped(one, one_by_one, micro_batches)
    together = stepped(both, side_by_side(both), micro_batches)
    # Sums in another order, in float64, over three steps: 1e-12 is what is promised.
    torch.testing.assert_close(together.loss, alone.loss, rtol=0, atol=1e-12)
    torch.testing.assert_close(together.branch, alone.branch, rtol=1e-12, atol=1e-12)
    for theirs, ours in ((one.online, both.online), (one.target, both.target)):
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=1e-12, atol=1e-12)


def test_a_predictor_that_is_solved_for_is_solved_once() -> None:
    one, both = (learner_of("cifar10-small-directpred") for _ in range(2))
    alone, together = stepped(one, one_by_one), stepped(both, side_by_side(both))
    # The correlation matrix is float64 and rank-deficient: what differs is the root of an eigenvalue of about
    # 1e-17, which is rounding alone. The difference observed is 1.7e-10.
    torch.testing.assert_close(together.loss, alone.loss, rtol=0, atol=1e-8)


def test_the_same_numbers_come_again() -> None:
    learners = [learner_of(SMALL) for _ in range(2)]
    for learner in learners:
        stepped(learner, side_by_side(learner))
    first, second = (learner.online.state_dict() for learner in learners)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_order_of_the_views_that_is_wrong_would_be_noticed() -> None:
    class Turned(SideBySide):
        def _move_running_statistics(self) -> None:  # as if the second view had not been seen
            pass

    one, both = learner_of(SMALL), learner_of(SMALL)
    stepped(one, one_by_one)
    stepped(both, Turned(both.online, both.target, 2))
    name = "encoder.layers.1.running_mean"
    difference = one.online.state_dict()[name] - both.online.state_dict()[name]
    assert difference.abs().max() > 1e-4


def test_a_lane_shares_every_weight_and_no_statistic() -> None:
    network = ConvNet(widths=(4, 8)).build()
    lane = lane_of(network)
    shared = {id(parameter) for parameter in network.parameters()}
    assert {id(parameter) for parameter in lane.parameters()} == shared
    assert not {id(buffer) for buffer in lane.buffers()} & {id(buffer) for buffer in network.buffers()}
    lane.train()(torch.randn(4, 3, 16, 16) + 3)
    assert all(buffer.eq(0).all() for name, buffer in network.named_buffers() if "mean" in name)


def test_what_draws_or_is_not_ours_goes_one_by_one() -> None:
    assert can_go_side_by_side(ConvNet(widths=(4, 8)).build())
    assert can_go_side_by_side(byol.Byol.of(SMALL).online)
    assert can_go_side_by_side(byol.Byol.of("cifar10").online)
    assert not can_go_side_by_side(nn.Sequential(nn.Linear(2, 2), nn.Dropout()))

    class Own(nn.Module):
        pass

    assert not can_go_side_by_side(nn.Sequential(Own()))


def test_the_threads_of_the_process_are_left_as_they_were() -> None:
    learner, before = learner_of(SMALL), torch.get_num_threads()
    stepped(learner, side_by_side(learner, threads=3))
    assert torch.get_num_threads() == before


def test_what_fails_in_a_lane_is_raised_once_both_have_ended() -> None:
    learner = learner_of(SMALL)
    passes = side_by_side(learner)
    wrong = [views(0)[0], torch.randn(8, 5, 24, 24, dtype=torch.float64)]
    with pytest.raises(RuntimeError, match="channels"):
        bootstrap_step(learner.online, learner.target, learner.optimizer, wrong, 0.01, 0.99, passes=passes)
    stepped(learner, passes)


def test_other_pairs_are_refused() -> None:
    learner = learner_of(SMALL)
    three = [*views(0), views(1)[0]]
    with pytest.raises(UserError, match="two views that predict each other can go side by side, not 3"):
        bootstrap_step(
            *(learner.online, learner.target, learner.optimizer, three, 0.01, 0.99),
            pairs=((0, 1), (1, 0), (2, 0)),
            passes=side_by_side(learner),
        )


def test_a_copy_of_the_learner_needs_lanes_of_its_own() -> None:
    learner = learner_of(SMALL)
    passes, other = side_by_side(learner), copy.deepcopy(learner.online)
    with pytest.raises(AssertionError, match="lanes are those of other networks"):
        passes(other, learner.target, views(0), ((0, 1), (1, 0)), learner_autocast, 1.0)


def learner_autocast() -> torch.autocast:
    return torch.autocast("cpu", enabled=False)


def test_a_small_network_goes_side_by_side_where_there_are_two_cores() -> None:
    def passes_of(name: str) -> Passes:
        return build(byol.named(name), pick_device("float32")).passes

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert isinstance(passes_of(SMALL), SideBySide)
        assert passes_of("cifar10") is one_by_one
        torch.set_num_threads(1)
        assert passes_of(SMALL) is one_by_one
    finally:
        torch.set_num_threads(before)

"""The two views through the networks at the same time, each in a thread with its share of the cores.

They meet in the loss, in the predictor's fit and where their gradients are added; batch statistics are those
of one view. So the step is that of `one_by_one`, within rounding, and has the activations of both views in
memory.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from byol.algorithm import BOTH, Autocast, Branch, Online, Pairs, Passes, Target
from byol.errors import UserError
from byol.model.target import TargetNetwork
from byol.objective import regression_loss

T = TypeVar("T")
Network = TypeVar("Network", bound=nn.Module)


class SideBySide:
    """How two views go through the networks on several cores; see `algorithm.Passes`.

    A second lane shares all weights with the networks and has batch norms of its own, which do nothing but
    remember the statistics of their view: the running ones are then moved in the order of the views.

    Args:
        online: the network with parameters theta.
        target: the network it is compared with.
        threads: cores for both lanes, >= 2.
    """

    def __init__(self, online: Online, target: TargetNetwork, threads: int) -> None:
        self._lanes = [(online, target), (lane_of(online), lane_of(target))]
        self._parameters = [p for p in online.parameters() if p.requires_grad]
        self._norms = [
            *_pairs_of_norms(online, self._lanes[1][0]),
            *_pairs_of_norms(target, self._lanes[1][1]),
        ]
        self.own_threads = threads - threads // 2
        self._other = ThreadPoolExecutor(1, "lane", torch.set_num_threads, (threads // 2,))

    def __call__(
        self,
        online: Online,
        target: Target,
        views: Sequence[Tensor],
        pairs: Pairs,
        autocast: Autocast,
        weight: float,
    ) -> tuple[Tensor, Branch]:
        """Add the gradient of weight times the mean loss to that of theta; see `algorithm.one_by_one`."""
        if (len(views), pairs) != (2, BOTH):
            raise UserError(
                f"two views that predict each other can go side by side, not {len(views)} and {pairs}."
            )
        assert (online, target) == self._lanes[0], "lanes are those of other networks"

        def forward(number: int) -> tuple[Branch, Tensor]:  # 5 and 6
            return _forward(*self._lanes[number], views[number], autocast)

        (branch_1, z_1), (branch_2, z_2) = self._both(forward)
        online.predictor.fit([(branch_1.projection, [z_2]), (branch_2.projection, [z_1])])

        def backward(number: int) -> tuple[Tensor, Sequence[Tensor | None]]:  # 7 and 9
            lane, branch, z = self._lanes[number][0], (branch_1, branch_2)[number], (z_2, z_1)[number]
            with autocast():
                prediction = lane.predictor(branch.projection)
            loss = regression_loss(prediction, z)
            wanted = torch.autograd.grad(loss.mean() * weight, self._parameters, allow_unused=True)
            return loss.detach(), wanted

        (loss_1, gradients_1), (loss_2, gradients_2) = self._both(backward)
        for parameter, *both in zip(self._parameters, gradients_1, gradients_2, strict=True):
            for gradient in both:
                if gradient is not None:
                    parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        self._move_running_statistics()
        return loss_1 + loss_2, Branch(*(tensor.detach() for tensor in branch_1))

    def _both(self, work: Callable[[int], T]) -> tuple[T, T]:
        """Return what comes of the two lanes: the first in this thread, the second beside it."""
        with _threads(self.own_threads):
            second = self._other.submit(work, 1)
            try:
                first = work(0)
            finally:
                second.exception()  # waits
        return first, second.result()

    @torch.no_grad()
    def _move_running_statistics(self) -> None:
        """Move those of the networks by what the second view had, as if it had come after the first."""
        for norm, seen in self._norms:
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked += 1
            fraction = 1 / int(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
            for name in ("running_mean", "running_var"):
                own, other = getattr(norm, name), getattr(seen, name)
                own.mul_(1 - fraction).add_(other, alpha=fraction)


@contextmanager
def sharing_cores(passes: Passes) -> Iterator[None]:
    """Context in which this thread has no more than its lane's cores, where views go side by side.

    What it computes between two steps is short, and threads that wait for its next part would be in the way.
    """
    with _threads(passes.own_threads) if isinstance(passes, SideBySide) else nullcontext():
        yield


def can_go_side_by_side(network: nn.Module) -> bool:
    """Return whether a network is made of layers that draw nothing and remember batch statistics alone.

    Those of other libraries are not looked into: what they do in two threads nobody here can promise.
    """
    return all(
        type(module) in _PLAIN or type(module).__module__.startswith("byol.") for module in network.modules()
    )


_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_PLAIN = {
    *(nn.Conv2d, nn.Linear, nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Identity),
    *(nn.Flatten, nn.Sequential, nn.ModuleList, nn.GroupNorm, nn.LayerNorm, *_NORMS),
}


def lane_of(network: Network) -> Network:
    """Return a network of the same tensors, whose batch norms hold what their last batch had alone."""
    kept: dict[int, object] = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    for norm in _norms(network):
        for tensor in norm.buffers(recurse=False):
            del kept[id(tensor)]
    for module in network.modules():
        if not _norms(module):  # a predictor that is solved for, for one
            kept[id(module)] = module
    lane = copy.deepcopy(network, kept)
    for norm in _norms(lane):
        norm.momentum = 1.0
    return lane


def _norms(network: nn.Module) -> list[_BatchNorm]:
    return [
        module
        for module in network.modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    ]


def _pairs_of_norms(network: nn.Module, lane: nn.Module) -> list[tuple[_BatchNorm, _BatchNorm]]:
    return list(zip(_norms(network), _norms(lane), strict=True))


def _forward(online: Online, target: Target, view: Tensor, autocast: Autocast) -> tuple[Branch, Tensor]:
    """Return the online branch of a view, with its graph, and the target's projection."""
    branches: list[Branch] = []

    def branch() -> Branch:
        if not branches:
            with torch.enable_grad(), autocast():
                branches.append(online(view))
        return branches[0]

    with torch.no_grad(), autocast():
        z = target(view, branch)
    return branch(), z


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Context in which operations of this thread are shared by so many."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)

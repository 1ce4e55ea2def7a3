"""The machine's limit: the convolutions and matrix products of a step alone, each timed by itself."""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from byol.algorithm import BOTH, Pairs
from byol.system.device import Device
from byol.training.learner import Learner

_PRODUCTS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


class Products:
    """The convolutions and matrix products of a step, found by watching a forward pass.

    Args:
        learner: whose networks are watched; their running statistics see one batch more.
        views: ready ones.
        device: in whose precision and memory format the products are.
        pairs: which view predicts which.
    """

    def __init__(self, learner: Learner, views: list[Tensor], device: Device, pairs: Pairs = BOTH) -> None:
        self.device, self.found = device, list[tuple[nn.Module, Tensor, int, int]]()
        seen: list[tuple[nn.Module, Tensor]] = []
        hooks = [
            module.register_forward_hook(lambda module, inputs, _: seen.append((module, inputs[0].detach())))
            for module in learner.online.modules()
            if isinstance(module, _PRODUCTS)
        ]
        predicting = {i for i, _ in pairs}
        has_network = next(learner.target.parameters(), None) is not None  # a shared target computes nothing
        targets = {j for _, j in pairs} if has_network else set()
        for number, view in enumerate(views):
            del seen[:]
            with torch.no_grad(), device.autocast():
                branch = learner.online(view)
                in_trunk = len(seen)
                learner.online.predictor(branch.projection)
            for position, (module, inputs) in enumerate(seen):
                learned_here = int(number in predicting)
                forward_only = int(number in targets and position < in_trunk)
                like = next((at for at, one in enumerate(self.found) if _is_same(one, module, inputs)), None)
                if like is None:
                    self.found.append((module, inputs, learned_here, forward_only))
                else:
                    module, inputs, learned, forward = self.found[like]
                    self.found[like] = module, inputs, learned + learned_here, forward + forward_only
        for hook in hooks:
            hook.remove()

    def seconds(self) -> float:
        """Return how long they take, each at the number of times that a step needs it."""
        total = 0.0
        for module, inputs, learned, forward_only in self.found:
            needs_input = module is not self.found[0][0]  # nothing learns from the gradient of the pixels
            run = _product(module, inputs, self.device, needs_input)
            forward, both = (timed(each, self.device.device) for each in run)
            total += forward_only * forward + learned * both
        return total


def _is_same(one: tuple[nn.Module, Tensor, int, int], module: nn.Module, inputs: Tensor) -> bool:
    return one[0] is module and one[1].shape == inputs.shape


def _product(
    module: nn.Module, inputs: Tensor, device: Device, needs_input: bool
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return the forward pass of one product, and its forward and backward pass."""
    dtype = torch.bfloat16 if device.precision == "bf16" else inputs.dtype
    inputs = inputs.to(dtype)  # keeps the memory format
    weight = module.get_parameter("weight").detach().to(dtype)
    if isinstance(module, nn.Linear):

        def forward(x: Tensor, w: Tensor) -> Tensor:
            return F.linear(x, w)
    else:
        assert isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
        conv = getattr(F, f"conv{weight.ndim - 2}d")
        settings = module.stride, module.padding, module.dilation, module.groups

        def forward(x: Tensor, w: Tensor) -> Tensor:
            return conv(x, w, None, *settings)  # type: ignore[no-any-return]

    def both() -> None:
        x, w = inputs.detach().requires_grad_(needs_input), weight.detach().requires_grad_()
        output = forward(x, w)
        torch.autograd.backward(output, torch.ones_like(output))

    return lambda: forward(inputs, weight), both


def timed(run: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that a call takes, with all that it starts on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started

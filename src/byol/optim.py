"""Optimizers: LARS as published, SGD and AdamW from torch for small batches.

A spec's `build` sorts the parameters into groups: those of one dimension (biases, norm scales and
shifts) take no weight decay and, under LARS, no adaptation (official `optimizers.py:30-35`). Groups of the
predictor carry part "predictor", so that it can have a learning rate of its own.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from byol.errors import refuse_below


@dataclass(frozen=True, kw_only=True)
class Lars:
    """LARS, exactly as the official code has it, see `LarsOptimizer`.

    Args:
        base_lr: learning rate for 256 images.
        weight_decay: added to the gradient as weight_decay * w before the trust ratio.
        momentum: of the heavy ball.
        trust: eta of the trust ratio.
    """

    kind: Literal["lars"] = "lars"
    base_lr: float = 0.2
    weight_decay: float = 1.5e-6
    momentum: float = 0.9
    trust: float = 1e-3

    def __post_init__(self) -> None:
        refuse_below("optimizer.base_lr", self.base_lr, 0)
        refuse_below("optimizer.weight_decay", self.weight_decay, 0)

    def build(self, network: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer over the parameters of a network."""
        groups = _groups(
            network,
            {"weight_decay": self.weight_decay, "trust": self.trust},
            {"weight_decay": 0.0, "trust": None},
        )
        return LarsOptimizer(groups, momentum=self.momentum)


@dataclass(frozen=True, kw_only=True)
class Sgd:
    """Stochastic gradient descent with heavy-ball momentum, torch's.

    Args:
        base_lr: learning rate for 256 images.
        weight_decay: of the parameters with two dimensions or more.
        momentum: of the heavy ball.
        decay_all: decay biases, norm scales and shifts too, as SimSiam's code does.
    """

    kind: Literal["sgd"] = "sgd"
    base_lr: float = 0.05
    weight_decay: float = 1e-4
    momentum: float = 0.9
    decay_all: bool = False

    def __post_init__(self) -> None:
        refuse_below("optimizer.base_lr", self.base_lr, 0)
        refuse_below("optimizer.weight_decay", self.weight_decay, 0)

    def build(self, network: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer over the parameters of a network."""
        groups = _groups(
            network,
            {"weight_decay": self.weight_decay},
            {"weight_decay": self.weight_decay if self.decay_all else 0.0},
        )
        return torch.optim.SGD(groups, lr=0.0, momentum=self.momentum, foreach=True)


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """AdamW, torch's.

    Args:
        base_lr: learning rate for 256 images.
        weight_decay: decoupled, of the parameters with two dimensions or more.
    """

    kind: Literal["adamw"] = "adamw"
    base_lr: float = 1e-3
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        refuse_below("optimizer.base_lr", self.base_lr, 0)
        refuse_below("optimizer.weight_decay", self.weight_decay, 0)

    def build(self, network: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer over the parameters of a network."""
        groups = _groups(network, {"weight_decay": self.weight_decay}, {"weight_decay": 0.0})
        return torch.optim.AdamW(groups, lr=0.0, foreach=True)


def _groups(network: nn.Module, matrices: dict[str, Any], vectors: dict[str, Any]) -> list[dict[str, Any]]:
    """Return groups of matrices and vectors, those of the predictor apart; empty ones are left out."""
    learned = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    groups = [
        {
            "params": [p for name, p in learned if (p.ndim != 1, _part(name)) == (is_matrix, part)],
            "part": part,
            **how,
        }
        for part in ("trunk", "predictor")
        for is_matrix, how in ((True, matrices), (False, vectors))
    ]
    return [group for group in groups if group["params"]]


def _part(name: str) -> str:
    return "predictor" if name.startswith("predictor.") else "trunk"


class LarsOptimizer(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling, multi-tensor.

    For each parameter w with gradient g, in this order:

        g <- g + weight_decay * w
        g <- g * trust * |w| / |g|          (factor 1 where either norm is 0; not if trust is None)
        m <- momentum * m + g
        w <- w - lr * m

    No epsilon, no clipping, no Nesterov, no dampening; the norm in the denominator is that of the
    decayed gradient, and the learning rate stays outside the momentum. Public copies differ in one
    or more of these.

    Args:
        params: parameters or groups; a group may carry its own `weight_decay` and `trust`.
        lr: learning rate; the training step sets it again every time.
        momentum: of the heavy ball.
        weight_decay: default of groups that carry none.
        trust: eta, default of groups that carry none; None switches the adaptation off.

    Source: official `utils/optimizers.py:91-133, 187`.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 0.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float | None = 1e-3,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust}
        )

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step. A closure first computes gradients and loss, which is returned (Lightning)."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            for w in weights:
                if "momentum" not in self.state[w]:
                    self.state[w]["momentum"] = torch.zeros_like(w)
            momenta = [self.state[w]["momentum"] for w in weights]
            updates = torch._foreach_add([w.grad for w in weights], weights, alpha=group["weight_decay"])
            if group["trust"] is not None:
                w_norms = torch.stack(torch._foreach_norm(weights))
                g_norms = torch.stack(torch._foreach_norm(updates))
                ratio = group["trust"] * w_norms / g_norms
                ratio = torch.where((w_norms > 0) & (g_norms > 0), ratio, torch.ones_like(ratio))
                torch._foreach_mul_(updates, list(ratio.unbind()))
            torch._foreach_mul_(momenta, group["momentum"])
            torch._foreach_add_(momenta, updates)
            torch._foreach_add_(weights, momenta, alpha=-group["lr"])
        return loss

"""BYOL, Algorithm 1 of the paper, on one page. Start here.

Letters: B images of a batch, D numbers of a representation, P numbers of a projection.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from byol.objective import regression_loss


class Branch(NamedTuple):
    """What the online network made of one view."""

    representation: Tensor  # y (B, D)
    projection: Tensor  # z (B, P)


class Predictor(Protocol):
    """The slot that maps an online projection to what the target's may be."""

    def __call__(self, projection: Tensor) -> Tensor:
        """Return the prediction q(z) (B, P)."""

    def fit(self, projections: Iterable[Tensor], targets: Sequence[Tensor]) -> None:
        """Solve for itself before it predicts; the paper's predictor is learnt and does nothing here.

        The projections are made as they are iterated over.
        """


class Online(nn.Module):
    """The online network: encoder f, projector g, predictor q, with parameters theta."""

    def __init__(self, encoder: nn.Module, projector: nn.Module, predictor: Predictor) -> None:
        super().__init__()
        self.encoder, self.projector, self.predictor = encoder, projector, predictor

    def forward(self, view: Tensor) -> Branch:
        """Return representation and projection of a view (B, C, H, W); the step predicts."""
        representation = self.encoder(view)
        return Branch(representation, self.projector(representation))


class Target(Protocol):
    """The slot that says what the prediction of one view is compared with."""

    def __call__(self, view: Tensor, branch: Callable[[], Branch]) -> Tensor:
        """Return z' (B, P) of a view; `branch` makes the online network's branch of the same view."""

    def update(self, online: Online, tau: float) -> None:
        """Move xi after the optimiser's step: xi <- tau xi + (1 - tau) theta."""


class Step(NamedTuple):
    """What one step leaves behind, still on the device: nothing here waits for it."""

    loss: Tensor  # () in [0, 8], detached
    branch: Branch  # of view 1, detached


def bootstrap_step(
    online: Online,
    target: Target,
    optimizer: torch.optim.Optimizer,
    views: Sequence[Tensor],
    lr: float,
    tau: float,
    *,
    predictor_lr: float | None = None,
    loss_weight: float = 1.0,
    micro_batches: int = 1,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Step:
    """Take one step of BYOL on two views of the same images; numbers are the lines of Algorithm 1.

    Lines 1 to 3, the loop over batches and images, are `byol.pretrain`; lines 4 to 7 are
    `bootstrap_losses`. Each view goes backward before the next goes forward, which gives the gradient of the
    sum and holds the activations of one view at a time. The step reads no file and no clock and draws no
    random number, so that the same views, lr and tau given to another implementation must give the same
    weights (docs/algorithm.md).

    Args:
        online: network with parameters theta, in train mode.
        target: the network compared with, in train mode too (batch statistics), see `Target`.
        optimizer: over the parameters of `online`; its learning rate is set here.
        views: v and v' (B, C, H, W) each, normalised, on the device of the networks.
        lr: learning rate of this step.
        tau: share of the target that is kept, in [0, 1].
        predictor_lr: learning rate of the optimiser's groups with part "predictor"; None takes `lr`.
        loss_weight: factor on the loss before its gradient: 1 sums both directions as published, 1/2
            averages them. The loss that is returned is without it.
        micro_batches: parts of the batch, equal where that is possible, whose gradients are averaged; batch
            norm sees one at a time, optimiser and target move once (BYOL, Table 16).
        autocast: makes the context in which the networks run (mixed precision); the loss does not.

    Returns:
        The loss before the step and the first view's branch.

    Source: BYOL (2006.07733), Algorithm 1; official `byol_experiment.py:227-250, 293-346`.
    """
    parts = max(1, min(micro_batches, len(views[0]) // 2))  # batch norm needs two images
    optimizer.zero_grad(set_to_none=True)
    losses, branches = [], []
    for part in zip(*(view.tensor_split(parts) for view in views), strict=True):
        share, made = len(part[0]) / len(views[0]), []
        for loss, branch in bootstrap_losses(online, target, part, autocast):  # 4 to 7, one view at a time
            torch.autograd.backward(loss.mean() * (share * loss_weight))  # 9: with respect to theta alone
            made.append((loss.detach(), Branch(*(tensor.detach() for tensor in branch))))
        losses.append(torch.stack([loss for loss, _ in made]).sum(dim=0))
        branches.append(made[0][1])
    rates = {"predictor": lr if predictor_lr is None else predictor_lr}
    for group in optimizer.param_groups:
        group["lr"] = rates.get(group.get("part", ""), lr)
    optimizer.step()  # 10: theta
    target.update(online, tau)  # 11: xi <- tau xi + (1 - tau) theta
    return Step(
        torch.cat(losses).mean(), Branch(*(torch.cat(parts) for parts in zip(*branches, strict=True)))
    )


def bootstrap_losses(
    online: Online,
    target: Target,
    views: Sequence[Tensor],
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Iterator[tuple[Tensor, Branch]]:
    """Yield for one view after the other what its prediction adds to the loss (B,), with its graph.

    The sum over the views is the loss of each image, in [0, 8]. A view goes through the online network when
    its turn comes, or earlier if the target or the predictor asks for its branch: whoever has gone backward
    by then has given its memory back. The views go through the networks one by one also so that batch-norm
    statistics are those of one view.

    Views after the second, if there are any, go through the online network alone: each of them predicts
    both targets. The paper has none; the loss stays on the scale of two directions.

    Yields:
        The view's part of the loss and its branch.
    """
    branches = [cache(partial(_forward, online, view, autocast)) for view in views]
    with torch.no_grad(), autocast():  # 6: z' of views 1 and 2; no gradient reaches the target
        targets = [target(view, branch) for view, branch in zip(views[:2], branches, strict=False)]
    online.predictor.fit((branch().projection for branch in branches), targets)
    for i in range(len(views)):
        branch = branches.pop(0)()  # 5: z
        with autocast():
            prediction = online.predictor(branch.projection)
        directions = [regression_loss(prediction, z) for j, z in enumerate(targets) if j != i]
        yield torch.stack(directions).sum(dim=0) / (len(views) - 1), branch  # 7: the SUM of two directions


def _forward(online: Online, view: Tensor, autocast: Callable[[], AbstractContextManager[object]]) -> Branch:
    with torch.enable_grad(), autocast():  # with a gradient also where a target asks, which has none
        branch: Branch = online(view)
        return branch

"""BYOL, Algorithm 1 of the paper, on one page. Start here.

`bootstrap_loss` is the method: two networks, two views, two regressions, as one differentiable number.
`bootstrap_step` is what `byol.pretrain` runs: the same gradient with the memory of one view, and the updates.

Letters: B images of a batch, D numbers of a representation, P numbers of a projection.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from byol.errors import UserError
from byol.objective import regression_loss

Pairs = tuple[tuple[int, int], ...]  # (number of the view that predicts, number of the view it predicts)
Autocast = Callable[[], AbstractContextManager[object]]
BOTH: Pairs = ((0, 1), (1, 0))  # as published: each of two views predicts the other


def bootstrap_loss(online: "Online", target: "Target", view_1: Tensor, view_2: Tensor) -> Tensor:
    """Return the loss of two views (B, C, H, W) of the same images: a scalar in [0, 8], with its graph.

    The gradient reaches the online network alone. Afterwards the optimizer moves theta (line 10) and
    `target.update` moves xi (line 11). The numbers are the lines of Algorithm 1.

    Source: BYOL (2006.07733), Algorithm 1 and Eq. 2; official `byol_experiment.py:227-250`.
    """
    branch_1, branch_2 = online(view_1), online(view_2)  # 5: z = g(f(v)), one view at a time
    with torch.no_grad():  # 6: z' of both views; no gradient reaches the target
        target_1 = target(view_1, lambda: branch_1)
        target_2 = target(view_2, lambda: branch_2)
    online.predictor.fit([(branch_1.projection, [target_2]), (branch_2.projection, [target_1])])
    prediction_1 = online.predictor(branch_1.projection)  # 7: q(z) of one view is compared
    prediction_2 = online.predictor(branch_2.projection)  #    with z' of the other
    loss_1 = regression_loss(prediction_1, target_2)
    loss_2 = regression_loss(prediction_2, target_1)
    return (loss_1 + loss_2).mean()  # 7: the SUM of both directions, the mean over images


class Branch(NamedTuple):
    """What the online network makes of one view."""

    representation: Tensor  # y (B, D)
    projection: Tensor  # z (B, P)


class Predictor(Protocol):
    """The slot that maps an online projection to what the target's projection of another view may be."""

    def __call__(self, projection: Tensor) -> Tensor:
        """Return the prediction q(z) (B, P)."""

    def fit(self, tasks: Iterable[tuple[Tensor, Sequence[Tensor]]]) -> None:
        """Solve for the weights before predicting. What the optimizer learns does nothing here.

        Args:
            tasks: for each view that predicts, its projection z (B, P) and the target projections z' (B, P)
                that it is compared with. A projection is computed when its turn comes.
        """


class Online(nn.Module):
    """The online network: encoder f, projector g, predictor q, with parameters theta."""

    def __init__(self, encoder: nn.Module, projector: nn.Module, predictor: Predictor) -> None:
        super().__init__()
        self.encoder, self.projector, self.predictor = encoder, projector, predictor

    def forward(self, view: Tensor) -> Branch:
        """Return representation and projection of a view (B, C, H, W); the loss calls the predictor."""
        representation = self.encoder(view)
        return Branch(representation, self.projector(representation))


class Target(Protocol):
    """The slot that makes what a prediction is compared with; it may hold parameters xi."""

    def __call__(self, view: Tensor, branch: Callable[[], Branch]) -> Tensor:
        """Return z' (B, P) of a view.

        Args:
            view: (B, C, H, W).
            branch: returns the online network's branch of the same view, for targets that share it.
        """

    def update(self, online: Online, tau: float) -> None:
        """Follow the online network after the optimizer's step: xi <- tau xi + (1 - tau) theta."""


class Step(NamedTuple):
    """What one step leaves behind, still on the device: nothing here waits for it."""

    loss: Tensor  # () in [0, 8], detached
    branch: Branch  # of the first view that predicts, detached


# The slot for how views go through the networks: one after the other, or side by side. See `one_by_one`.
Passes = Callable[[Online, Target, Sequence[Tensor], Pairs, Autocast, float], tuple[Tensor, Branch]]


def one_by_one(
    online: Online,
    target: Target,
    views: Sequence[Tensor],
    pairs: Pairs,
    autocast: Autocast,
    weight: float,
) -> tuple[Tensor, Branch]:
    """Add the gradient of the loss to that of theta; each view goes backward before the next goes forward.

    Args:
        online: network with parameters theta.
        target: the network compared with.
        views: (B, C, H, W) each; H and W may differ.
        pairs: which view predicts which.
        autocast: makes the context in which the networks run.
        weight: factor on the mean loss before its gradient.

    Returns:
        The losses (B,) in [0, 8], without the weight, and the branch of the first view that predicts, both
        detached.
    """
    done = []
    for loss, branch in bootstrap_losses(online, target, views, pairs, autocast):  # 5 to 7, view by view
        torch.autograd.backward(loss.mean() * weight)  # 9: the gradient of theta alone
        done.append((loss.detach(), Branch(*(tensor.detach() for tensor in branch))))
    return torch.stack([loss for loss, _ in done]).sum(dim=0), done[0][1]


def bootstrap_step(
    online: Online,
    target: Target,
    optimizer: torch.optim.Optimizer,
    views: Sequence[Tensor],
    lr: float,
    tau: float,
    *,
    pairs: Pairs = BOTH,
    predictor_lr: float | None = None,
    loss_weight: float = 1.0,
    micro_batches: int = 1,
    autocast: Autocast = nullcontext,
    passes: Passes = one_by_one,
) -> Step:
    """Take one step of BYOL on views of the same images: forward, backward, optimizer and target.

    One by one, each view goes backward before the next goes forward: the gradient of `bootstrap_loss`, with
    the activations of one view in memory instead of two. The step reads no file and no clock and draws no
    random number: the same views, lr and tau must give the same weights in any implementation
    (docs/algorithm.md).

    Args:
        online: network with parameters theta, in train mode.
        target: the network compared with, in train mode too (batch statistics), see `Target`.
        optimizer: over the parameters of `online`; its learning rates are set here.
        views: (B, C, H, W) each, normalized, on the device of the networks; H and W may differ.
        lr: learning rate of this step.
        tau: fraction of the target that is kept, in [0, 1].
        pairs: which view predicts which, counted from 0; the loss stays on the scale of two pairs.
        predictor_lr: learning rate of the optimizer's groups with part "predictor"; None takes `lr`.
        loss_weight: factor on the loss before its gradient: 1 sums both directions as published, 1/2
            averages them. The loss that is returned is without it.
        micro_batches: parts of the batch, equal where that is possible, whose gradients are averaged; batch
            norm sees one at a time, optimizer and target move once (BYOL, Table 16).
        autocast: makes the context in which the networks run (mixed precision); the loss does not.
        passes: how the views go through the networks; the gradient is the same.

    Raises:
        UserError: a pair names a view that is not there, or a view is in no pair.

    Source: BYOL (2006.07733), Algorithm 1; official `byol_experiment.py:227-250, 293-346`.
    """
    parts = max(1, min(micro_batches, len(views[0]) // 2))  # batch norm needs two images
    optimizer.zero_grad(set_to_none=True)
    losses, branches = [], []
    for part in zip(*(view.tensor_split(parts) for view in views), strict=True):
        fraction = len(part[0]) / len(views[0])
        loss, branch = passes(online, target, part, pairs, autocast, fraction * loss_weight)  # 5 to 9
        losses.append(loss)
        branches.append(branch)
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
    pairs: Pairs = BOTH,
    autocast: Autocast = nullcontext,
) -> Iterator[tuple[Tensor, Branch]]:
    """Yield, for each view that predicts, its part of the loss (B,) with its graph, and its branch.

    The parts sum to the loss of each image, in [0, 8]. A view goes through the online network when its turn
    comes, or earlier if the target or the predictor asks for it; who goes backward before asking for the next
    part holds the activations of one view. Arguments as in `bootstrap_step`.

    Views go through the networks one by one, so that batch-norm statistics are those of one view.
    """
    if {i for pair in pairs for i in pair} != set(range(len(views))):
        raise UserError(f"pairs is {pairs} and there are {len(views)} views; name each of them, from 0 on.")
    branches = {i: cache(partial(_forward, online, view, autocast)) for i, view in enumerate(views)}
    with torch.no_grad(), autocast():  # 6: no gradient reaches the target
        targets = {j: target(views[j], branches[j]) for j in sorted({j for _, j in pairs})}
    predicted = {i: [targets[j] for k, j in pairs if k == i] for i in sorted({i for i, _ in pairs})}
    online.predictor.fit((branches[i]().projection, those) for i, those in predicted.items())
    for i, those in predicted.items():
        branch = branches.pop(i)()  # 5: z
        with autocast():
            prediction = online.predictor(branch.projection)
        parts = [regression_loss(prediction, z) for z in those]
        yield torch.stack(parts).sum(dim=0) / (len(pairs) / 2), branch  # 7: the SUM of two directions


def _forward(online: Online, view: Tensor, autocast: Autocast) -> Branch:
    with torch.enable_grad(), autocast():  # with a gradient also where a target asks, which has none
        branch: Branch = online(view)
        return branch

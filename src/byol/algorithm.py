"""BYOL, Algorithm 1 of the paper, on one page. Start here.

Letters: B images of a batch, D numbers of a representation, P numbers of a projection.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
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

    def fit(self, projections: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
        """Solve for itself before it predicts; the paper's predictor is learnt and does nothing here."""


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

    def __call__(self, view: Tensor, branch: Branch) -> Tensor:
        """Return z' (B, P) of a view, given the online network's branch of the same view."""

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
    `bootstrap_loss`. The step reads no file and no clock and draws no random number, so that the same
    views, lr and tau given to another implementation must give the same weights (docs/algorithm.md).

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
        loss, branch = bootstrap_loss(online, target, part, autocast)  # 4 to 7
        share = len(loss) / len(views[0])
        torch.autograd.backward(loss.mean() * (share * loss_weight))  # 9: with respect to theta alone
        losses.append(loss.detach())
        branches.append(branch)
    rates = {"predictor": lr if predictor_lr is None else predictor_lr}
    for group in optimizer.param_groups:
        group["lr"] = rates.get(group.get("part", ""), lr)
    optimizer.step()  # 10: theta
    target.update(online, tau)  # 11: xi <- tau xi + (1 - tau) theta
    return Step(
        torch.cat(losses).mean(),
        Branch(*(torch.cat(parts).detach() for parts in zip(*branches, strict=True))),
    )


def bootstrap_loss(
    online: Online,
    target: Target,
    views: Sequence[Tensor],
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> tuple[Tensor, Branch]:
    """Return the loss of each image (B,), with its graph, and the first view's branch.

    The views go through the networks one by one, so that batch-norm statistics are those of one view.
    Views after the second, if there are any, go through the online network alone: each of them predicts
    both targets. The paper has none; the loss stays that of two directions, in [0, 8].
    """
    with autocast():  # 4: two views of every image, t ~ T and t' ~ T'
        branches = [online(view) for view in views]  # 5: z, and on to the prediction below
        with torch.no_grad():  # 6: z' of views 1 and 2; no gradient reaches the target
            targets = [target(view, branch) for view, branch in zip(views[:2], branches, strict=False)]
    online.predictor.fit([branch.projection for branch in branches], targets)
    with autocast():
        predictions = [online.predictor(branch.projection) for branch in branches]
    directions = [  # 7: every view predicts the target's projection of another
        regression_loss(prediction, z)
        for i, prediction in enumerate(predictions)
        for j, z in enumerate(targets)
        if i != j
    ]
    return 2 * torch.stack(directions).mean(dim=0), branches[0]  # 7: the SUM of the two directions

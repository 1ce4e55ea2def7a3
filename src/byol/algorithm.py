"""BYOL, Algorithm 1 of the paper, on one page. Start here.

Letters: B images of a batch, D numbers of a representation, P numbers of a projection.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from byol.objective import regression_loss


class Branch(NamedTuple):
    """What the online network made of one view."""

    representation: Tensor  # y (B, D)
    projection: Tensor  # z (B, P)
    prediction: Tensor  # p (B, P)


class Online(nn.Module):
    """The online network: encoder f, projector g, predictor q, with parameters theta."""

    def __init__(self, encoder: nn.Module, projector: nn.Module, predictor: nn.Module) -> None:
        super().__init__()
        self.encoder, self.projector, self.predictor = encoder, projector, predictor

    def forward(self, view: Tensor) -> Branch:
        """Return representation, projection and prediction of a view (B, C, H, W)."""
        representation = self.encoder(view)
        projection = self.projector(representation)
        return Branch(representation, projection, self.predictor(projection))


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
    views: tuple[Tensor, Tensor],
    lr: float,
    tau: float,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Step:
    """Take one step of BYOL on two views of the same images; numbers are the lines of Algorithm 1.

    Lines 1 to 3, the loop over batches and images, are `byol.pretrain`. The step reads no file and
    no clock and draws no random number, so that the same views, lr and tau given to another
    implementation must give the same weights. The views go through the networks separately, so
    that batch-norm statistics are those of one view.

    Args:
        online: network with parameters theta, in train mode.
        target: the network compared with, in train mode too (batch statistics), see `Target`.
        optimizer: over the parameters of `online`; its learning rate is set here.
        views: v and v' (B, C, H, W) each, normalised, on the device of the networks.
        lr: learning rate of this step.
        tau: share of the target that is kept, in [0, 1].
        autocast: makes the context in which the networks run (mixed precision); the loss does not.

    Returns:
        The loss before the step and the first view's branch.

    Source: BYOL (2006.07733), Algorithm 1; official `byol_experiment.py:227-250, 293-346`.
    """
    view_1, view_2 = views  # 4: two views of every image, t ~ T and t' ~ T'
    with autocast():
        branch_1 = online(view_1)  # 5: z of view 1, and on to the prediction
        branch_2 = online(view_2)  # 5: z of view 2
        with torch.no_grad():  # no gradient reaches the target
            target_2 = target(view_2, branch_2)  # 6: z' of view 2
            target_1 = target(view_1, branch_1)  # 6: z' of view 1
    loss_1 = regression_loss(branch_1.prediction, target_2)  # 7: view 1 predicts view 2
    loss_2 = regression_loss(branch_2.prediction, target_1)  # 7: view 2 predicts view 1
    loss = (loss_1 + loss_2).mean()  # 7: the SUM of both directions, the mean over images
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)  # 9: the gradient with respect to theta
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()  # 10: theta
    target.update(online, tau)  # 11: xi <- tau xi + (1 - tau) theta
    return Step(loss.detach(), Branch(*(part.detach() for part in branch_1)))

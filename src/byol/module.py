"""BYOL as one `nn.Module`, for people who own their training loop."""

import os
from typing import Protocol

import torch
from torch import Tensor, nn

from byol.algorithm import BOTH, Online, Pairs, Predictor, bootstrap_loss, bootstrap_losses
from byol.errors import UserError
from byol.model.encoder import in_eval_mode, representation_dim
from byol.model.head import Mlp
from byol.model.initialization import Initialization, initialize
from byol.model.target import Ema, EmaTarget, SharedTarget
from byol.recipe.names import open_recipe
from byol.recipe.spec import Recipe


class ProjectorSpec(Protocol):
    """What builds a projector g, see `model.head`."""

    def build(self, inputs: int) -> nn.Module:
        """Return the network (B, inputs) -> (B, P)."""


class PredictorSpec(Protocol):
    """What builds a predictor q, see `model.predictor`."""

    def build(self, inputs: int) -> Predictor:
        """Return the predictor (B, inputs) -> (B, inputs)."""


class TargetSpec(Protocol):
    """What builds a target and knows its tau, see `model.target`."""

    def build(self, online: Online) -> EmaTarget | SharedTarget:
        """Return the target of an online network."""

    def tau(self, step: int, total_steps: int) -> float:
        """Return the fraction of the target that a step keeps."""


class Byol(nn.Module):
    """Online network, target network and the loss between them as one module, for a loop of your own.

        model = byol.Byol(encoder)
        optimizer = torch.optim.AdamW(model.online.parameters())
        for step, (view_1, view_2) in enumerate(loader):
            loss = model(view_1, view_2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            model.update(step, total_steps)

    The heads are the paper's by default. They are drawn from torch's random numbers, as layers always are.

    Args:
        encoder: any network (B, C, H, W) -> (B, D).
        projector: what builds g, (B, D) -> (B, P).
        predictor: what builds q, (B, P) -> (B, P).
        target: what builds the target; knows tau.
        sample: (C, H, W) of the images; two empty ones show D.
        pairs: which view predicts which.
        initialization: of the heads, see `model.initialization`.
        keep_encoder: leave the encoder the weights that it has; else they are drawn like those of the heads.

    Attributes:
        online: encoder, projector and predictor; what the optimizer learns.
        target: what predictions are compared with; follows in `update`.
        dim: D.

    Raises:
        UserError: the encoder cannot take such images or does not give (B, D), or the predictor does not
            give (B, P).
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        projector: ProjectorSpec = Mlp(),
        predictor: PredictorSpec = Mlp(),
        target: TargetSpec = Ema(),
        sample: tuple[int, ...] = (3, 224, 224),
        pairs: Pairs = BOTH,
        initialization: Initialization = "torch",
        keep_encoder: bool = True,
    ) -> None:
        super().__init__()
        self.dim = representation_dim(encoder, sample)
        g = projector.build(self.dim)
        size = _outputs(g, self.dim)
        self.online = Online(encoder, g, predictor.build(size))
        if _outputs(self.online.get_submodule("predictor"), size) != size:
            raise UserError(f"the predictor must map projections (B, {size}) to (B, {size}); change its out.")
        for name, part in self.online.named_children():
            if name != "encoder" or not keep_encoder:
                initialize(part, initialization)
        self.target = target.build(self.online)
        self.target_spec, self.pairs = target, pairs

    @classmethod
    def of(cls, recipe: Recipe | str | os.PathLike[str], *, encoder: nn.Module | None = None) -> "Byol":
        """Return what `byol.pretrain` trains, with the weights that it starts from, in train mode.

        The optimizer is `recipe.optimizer.build(model.online)`, the views are `recipe.views`. Torch's random
        numbers are left as they were.

        Args:
            recipe: a recipe, the name of one, or the path of a recipe.json.
            encoder: any module (B, C, H, W) -> (B, D) in place of the recipe's; it keeps its weights.

        Raises:
            UserError: there is no such recipe, or the encoder cannot take images of its sizes.
        """
        recipe = open_recipe(recipe)
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            return cls.drawn(recipe, encoder)

    @classmethod
    def drawn(cls, recipe: Recipe, encoder: nn.Module | None = None) -> "Byol":
        """Return the same as `of`, drawn from torch's random numbers as they are."""
        own = recipe.encoder.build(recipe.views.channels) if encoder is None else encoder
        shapes = [*recipe.views.shapes, recipe.views.preprocessing(recipe.evaluation_size).shape]
        for shape in dict.fromkeys(shapes):
            representation_dim(own, shape)  # says so where it cannot take them
        return cls(
            own,
            projector=recipe.projector,
            predictor=recipe.predictor,
            target=recipe.target,
            sample=shapes[0],
            pairs=recipe.views.pairs,
            initialization=recipe.initialization,
            keep_encoder=encoder is not None,
        ).train()

    @property
    def encoder(self) -> nn.Module:
        """The online network's encoder f: what one keeps in the end."""
        return self.online.encoder

    def forward(self, *views: Tensor) -> Tensor:
        """Return the loss () in [0, 8] of views (B, C, H, W) of the same images, to go backward from.

        Two views, by default, or as many as `pairs` names.

        Raises:
            UserError: there are more or fewer.
        """
        if self.pairs == BOTH and len(views) == 2:
            return bootstrap_loss(self.online, self.target, *views)
        losses = [loss for loss, _ in bootstrap_losses(self.online, self.target, views, self.pairs)]
        return torch.stack(losses).sum(dim=0).mean()

    def update(self, step: int, total_steps: int) -> None:
        """Let the target follow, after the optimizer's step: xi <- tau xi + (1 - tau) theta.

        Args:
            step: steps done before this one, in [0, total_steps).
            total_steps: of the whole training; tau reaches 1 there.
        """
        self.target.update(self.online, self.target_spec.tau(step, total_steps))


def _outputs(head: nn.Module, inputs: int) -> int:
    like = next(head.parameters(), torch.zeros(()))
    with torch.no_grad(), in_eval_mode(head):
        return int(head(torch.zeros(2, inputs, dtype=like.dtype, device=like.device)).shape[1])

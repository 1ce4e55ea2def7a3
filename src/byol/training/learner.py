"""Everything that changes while a run learns, in one place: what a checkpoint holds is what stands here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from byol.algorithm import BOTH, Online, Passes, one_by_one
from byol.errors import UserError
from byol.model.encoder import ConvNetEncoder
from byol.model.synchronized import synchronize
from byol.model.target import TargetNetwork
from byol.module import Byol
from byol.recipe.spec import Recipe
from byol.system.collective import average_gradients, broadcast
from byol.system.device import Device
from byol.training.classifier import OnlineClassifier
from byol.training.side_by_side import SideBySide, can_go_side_by_side


@dataclass(kw_only=True)
class Learner:
    """The state of a run.

    Args:
        online: the network with parameters theta.
        target: the network it is compared with.
        optimizer: over theta.
        classifier: watches the representations, where there are labels.
        step: optimizer steps done; order, views and schedules are functions of it.
        seconds: wall-clock time spent, over all resumptions.
        bad_files: names of files that could not be decoded.
        baselines: accuracies to be beaten, measured before the first step.
        losses: () each, of the steps since the last record, over all processes, left on the device.
        passes: how the views go through the networks.
        forecast: what the run was going to take, before its first step; empty for short ones.
    """

    online: Online
    target: TargetNetwork
    optimizer: torch.optim.Optimizer
    classifier: OnlineClassifier | None = None
    step: int = 0
    seconds: float = 0.0
    bad_files: set[str] = field(default_factory=set)
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    losses: list[Tensor] = field(default_factory=list)
    passes: Passes = one_by_one
    forecast: dict[str, Any] = field(default_factory=dict)

    def state(self) -> dict[str, Any]:
        """Return all of it as tensors and plain values."""
        return {
            "online": self.online.state_dict(),
            "target": self.target.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **({} if self.classifier is None else self.classifier.state()),
            "step": self.step,
            "seconds": self.seconds,
            "bad_files": sorted(self.bad_files),
            "baselines": self.baselines,
            "losses": list(self.losses),
            "forecast": self.forecast,
        }

    def refuse_other_network(self, state: Mapping[str, Any]) -> None:
        """Raise a UserError where what `state` returned is of another network."""
        wanted, given = _shapes(self.online.state_dict()), _shapes(state["online"])
        if wanted != given:
            odd = next(name for name in {**given, **wanted} if given.get(name) != wanted.get(name))
            there, here = given.get(odd), wanted.get(odd)
            raise UserError(
                f"the checkpoint is of another network ({odd} is {there} there and {here} here); "
                "give the module that the run was begun with: byol.resume(RUN, encoder=module), or extend."
            )

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned.

        Raises:
            UserError: the state is of another network.
        """
        self.refuse_other_network(state)
        self.online.load_state_dict(state["online"])
        self.target.load_state_dict(state["target"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.classifier is not None:
            self.classifier.restore(state)
        self.step, self.seconds = state["step"], state["seconds"]
        self.bad_files, self.baselines = set(state["bad_files"]), state["baselines"]
        self.losses, self.forecast = list(state["losses"]), state.get("forecast", {})


def _shapes(state: dict[str, Any]) -> dict[str, tuple[int, ...] | None]:
    """Return the shape of each tensor of a state; None for what is no tensor."""
    return {name: tuple(value.shape) if isinstance(value, Tensor) else None for name, value in state.items()}


def build(recipe: Recipe, device: Device, encoder: nn.Module | None = None, num_classes: int = 0) -> Learner:
    """Return a learner at step 0; its weights are a function of the recipe's seed.

    Where several processes train together, batch norm takes its statistics over all of them, and gradients
    are averaged before each step of an optimizer.

    Args:
        recipe: what to build.
        device: where, and in which memory format.
        encoder: any module (B, 3, H, W) -> (B, D) in place of the recipe's; it keeps its weights, those of
            rank 0 where there are several.
        num_classes: of the labels that an online classifier learns; 0 for none.

    Raises:
        UserError: the encoder cannot take images of the recipe's sizes, or does not give (B, D).
    """
    torch.manual_seed(recipe.seed)
    model = Byol.drawn(recipe, encoder)
    model.to(device.device, memory_format=device.memory_format)  # type: ignore[call-overload]
    if device.world_size > 1:
        broadcast(model)
        synchronize(model, device.device)
    optimizer = recipe.optimizer.build(model.online)
    classifier = None
    if num_classes:  # drawn last, so that the others are the same with and without it
        classifier = OnlineClassifier(model.dim, num_classes, recipe.optimizer).to(device.device)
    if device.world_size > 1:
        average_gradients(optimizer)
        if classifier is not None:
            broadcast(classifier)
            average_gradients(classifier.optimizer)
    return Learner(
        online=model.online,
        target=model.target,
        optimizer=optimizer,
        classifier=classifier,
        passes=_passes(model, recipe, device),
    )


def _passes(model: Byol, recipe: Recipe, device: Device) -> Passes:
    """Return how the views go: side by side where one process has cores that a small network cannot use."""
    threads = torch.get_num_threads()
    is_alone = device.device.type == "cpu" and device.world_size == 1 and threads > 1
    is_small = isinstance(model.encoder, ConvNetEncoder)  # a ResNet-18 gains nothing by it (docs/log.md)
    if is_alone and is_small and recipe.views.pairs == BOTH and can_go_side_by_side(model):
        return SideBySide(model.online, model.target, threads)
    return one_by_one

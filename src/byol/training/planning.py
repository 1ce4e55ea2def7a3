"""A recipe for a folder nobody has seen, in the time one has: chosen by stated rules from images and machine.

The rules are few, and each says why in a sentence that the recipe keeps. What they rest on, and what of it is
a choice, stands in docs/log.md (2026-11-27).
"""

import copy
import os
import re
import shlex
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from byol.data.images import Images
from byol.data.opening import Data, named_data, open_data
from byol.data.sizes import typical_side
from byol.data.splits import to_learn_from
from byol.errors import UserError, refuse_seed
from byol.model.encoder import ConvNet, ResNet
from byol.model.predictor import DirectPred
from byol.model.target import Ema
from byol.module import Byol
from byol.recipe.names import named
from byol.recipe.spec import Recipe
from byol.system.device import Device, pick_device, processor_name, usable_cores
from byol.system.files import place_to_write, write_json
from byol.system.launched import speaker
from byol.system.progress import Progress, duration
from byol.training.forecast import JUDGEMENTS
from byol.training.rehearsal import rehearse
from byol.training.watch import Judge

DEFAULT = "20m"
PLANNED_FROM = "cifar10-small"  # the recipe whose slots a plan keeps
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MARGIN = 0.9  # of the time goes to steps; the rest to judging, checkpoints and a machine that gets slower
_DEEP = 40_000  # steps from which a ResNet-18 is taken: a choice; in 950 one ended behind where it began
_MOST_EPOCHS = 2_000
_FEWEST_STEPS = 100
_WARMUP_IMAGES = 6_400  # 100 batches of 64


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a plan came to.

    Args:
        recipe: an ordinary recipe; its `why` says why.
        num_images: of the set that is learned from.
        seconds: that all of it will take.
        seconds_per_step: as measured here.
    """

    recipe: Recipe
    num_images: int
    seconds: float
    seconds_per_step: float

    @property
    def value(self) -> float:
        """The seconds that the run will take."""
        return self.seconds

    def table(self) -> list[list[str]]:
        """Return what was chosen, and why, as rows of strings; the first row is the header."""
        return [["chosen", "because"], *(sentence.split(": ", 1) for sentence in self.recipe.why)]

    def sentence(self) -> str:
        """Return how long it takes, and how to begin."""
        steps = self.recipe.steps(self.recipe.epochs, self.num_images)
        data = shlex.quote(self.recipe.data or "PATH")
        return (
            f"{steps:,} steps in {duration(self.seconds)}; begin with: byol pretrain --data {data} --out RUN"
        )

    def to_json(self) -> dict[str, Any]:
        """Return recipe and forecast as JSON values, and the seconds under "value"."""
        return {
            "recipe": self.recipe.to_json(),
            "num_images": self.num_images,
            "seconds": self.seconds,
            "seconds_per_step": self.seconds_per_step,
            "value": self.value,
        }


def plan(
    data: Data,
    *,
    fit_in: str | None = None,
    out: str | os.PathLike[str] | None = None,
    encoder: nn.Module | None = None,
    seed: int = 0,
    workers: int | None = None,
) -> Plan:
    """Choose a recipe for images, a machine and a time; a few steps are taken to see how fast it is.

    Args:
        data: images, given as to `pretrain`.
        fit_in: the time that the run may take, such as 90s, 20m, 8h or 1h30m; None for 20 minutes.
        out: a .json to write the recipe to, which `pretrain` takes; None to write none.
        encoder: a module of one's own, which the run will train in place of the recipe's; it is not changed.
        seed: of the run.
        workers: processes that decode files; None for one per core.

    Raises:
        UserError: there are no images, or the time is none, or too short for 100 steps.
    """
    budget = seconds_of(DEFAULT if fit_in is None else fit_in)
    refuse_seed(seed)
    if speaker().world_size > 1:
        raise UserError(
            "every process of torchrun would make a plan of its own; make one before: byol plan --data PATH "
            "--out plan.json, and give it to pretrain."
        )
    path = None if out is None else place_to_write(out, "say where to write the recipe: --out FILE.json.")
    with Progress() as progress:
        sets = open_data(data)
        progress.say("planning: a few steps are taken to see how fast this machine is")
        images, device = to_learn_from(sets)[1], pick_device("auto")
        recipe, why = _small(images, seed)

        def measured(one: Recipe) -> float:
            return rehearse(one, images, device, copy.deepcopy(encoder), workers).seconds_per_step

        if encoder is not None:
            why["network"] = f"the {type(encoder).__name__} that was given"
        per_step = measured(recipe)
        network = Byol.of(recipe, encoder=copy.deepcopy(encoder)).encoder.to(device.device)
        looking = JUDGEMENTS * Judge(sets, recipe, device).look(network)
        # A ResNet-18 takes three times as long or more.
        if encoder is None and _steps(budget, per_step) >= 3 * _DEEP:
            deep = replace(recipe, encoder=_deep_for(recipe))
            slower = measured(deep)
            if (steps := _steps(budget, slower)) >= _DEEP:
                recipe, per_step = deep, slower
                why["network"] = (
                    f"a ResNet-18, as there is time for {steps:,} steps of it; below {_DEEP:,} a plan takes "
                    "a few convolutions"
                )
        found = _fitted(recipe, why, len(images), budget, per_step, looking, device)
        for sentence in found.recipe.why:
            progress.say(f"plan: {sentence}")
    found = replace(found, recipe=replace(found.recipe, data=named_data(data)))
    if path is not None:
        write_json(path, found.recipe.to_json())
    return found


def in_epochs(recipe: Recipe, epochs: int) -> Recipe:
    """Return a planned recipe for as many epochs as are asked for, with a warm-up of a tenth of them at most.

    Args:
        recipe: as it was planned.
        epochs: in place of those that fit into the time.
    """
    asked = f"epochs: {epochs}, as asked for, in place of the {recipe.epochs} that fit into the time"
    return replace(
        recipe,
        epochs=epochs,
        warmup_epochs=min(recipe.warmup_epochs, epochs / 10),
        why=tuple(asked if reason.startswith("epochs: ") else reason for reason in recipe.why),
    )


def _fitted(
    recipe: Recipe,
    why: dict[str, str],
    count: int,
    budget: float,
    per_step: float,
    looking: float,
    device: Device,
) -> Plan:
    """Return the recipe with as many epochs as fit into the time that looking at it leaves."""
    if (steps := _steps(budget - looking, per_step)) < _FEWEST_STEPS:
        raise UserError(
            f"in {duration(budget)} this machine takes {max(0, steps)} steps of {recipe.batch_size} images, "
            f"and fewer than {_FEWEST_STEPS} teach nothing; give it "
            f"{duration(looking + _FEWEST_STEPS * per_step / _MARGIN + 1)} or more: --fit-in."
        )
    epochs = max(1, min(_MOST_EPOCHS, steps * recipe.batch_size // count))
    warmup = round(min(epochs / 10, _WARMUP_IMAGES / count), 2)
    steps = recipe.steps(epochs, count)
    cpu = f"{usable_cores()} cores of {processor_name()}"
    where = cpu if device.device.type == "cpu" else str(device.device)
    why["epochs"] = (
        f"{epochs}, which are {steps:,} steps of {1000 * per_step:,.0f} ms, as measured on {where}, in the "
        f"{duration(budget)} that there are" + (f", {duration(looking)} to judge it" if looking > 1 else "")
    )
    sentences = tuple(f"{what}: {reason}" for what, reason in why.items())
    return Plan(
        recipe=replace(recipe, epochs=epochs, warmup_epochs=warmup, why=sentences),
        num_images=count,
        seconds=steps * per_step / _MARGIN + looking,
        seconds_per_step=per_step,
    )


def _small(images: Images, seed: int) -> tuple[Recipe, dict[str, str]]:
    """Return the recipe of a small network for images, without its epochs, and why it is so."""
    side, count = typical_side(images), len(images)
    size, shown = (24, 32) if side < 48 else (48, 64)
    widths = (64, 128, 256) if size == 24 else (64, 128, 256, 512)
    batch = max(2, min(64, count // 4))
    base = named(PLANNED_FROM)
    recipe = replace(
        base,
        name="planned",
        views=replace(base.views, size=size),
        evaluation_size=shown,
        encoder=ConvNet(widths=widths, representation="whitened"),
        batch_size=batch,
        predictor=DirectPred(),
        target=Ema(tau_base=0.95),
        seed=seed,
    )
    return recipe, {
        "views": f"{size} px, judged at {shown}, as the {count:,} images have about {side} px on their short "
        "side: the size at which small networks were tried",
        "network": f"{len(widths)} convolutions of {widths[0]} to {widths[-1]} channels and a whitened end, "
        "as a ResNet-18 that took 950 steps ended behind where it began",
        "batch": f"{batch} images, as small batches take more steps in the same time"
        + ("" if batch == 64 else f", and at most a quarter of the {count:,} there are"),
        "predictor": "DirectPred, with which small networks came further in the same time on three sets, and "
        "tau from 0.95 to 1, as from 0.98 they came no further",
    }


def _deep_for(recipe: Recipe) -> ResNet:
    return ResNet(depth=18, stem="cifar" if recipe.views.size <= 32 else "imagenet")


def _steps(budget: float, per_step: float) -> int:
    return int(_MARGIN * budget / per_step)


def seconds_of(time: str) -> float:
    """Return the seconds of a time such as 90s, 20m, 8h, 1h30m.

    Raises:
        UserError: it is none.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", time) if isinstance(time, str) else []
    if not parts or "".join(number + unit for number, unit in parts) != time:
        raise UserError(f"fit_in is {time!r}; give a time such as 90s, 20m, 8h or 1h30m.")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not seconds > 0:
        raise UserError(f"fit_in is {time}; give a time above 0, such as 20m.")
    return seconds

"""What a run begins with: drawn weights, those of an encoder that exists, or all that a run had learned."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from byol.data.identity import Identity
from byol.data.image.depth import PixelRange
from byol.data.image.preprocessing import Preprocessing
from byol.errors import UserError
from byol.model.encoder import EncoderSpec
from byol.model.whitening import unwhiten
from byol.recipe.names import named
from byol.recipe.spec import Recipe, read_recipe
from byol.run import checkpoint
from byol.run.folder import RunFolder
from byol.system.digest import digest
from byol.system.files import given_path
from byol.system.processes import Processes
from byol.training.bound import refuse_other_images
from byol.training.learner import Learner
from byol.training.timeline import Timeline
from byol.training.watch import Judge
from byol.weights.encoder_file import read_encoder
from byol.weights.pretrained import Pretrained, encoder_file, load
from byol.weights.zoo import is_named

_CPU = torch.device("cpu")
Weights = Mapping[str, Tensor]


class Start(Protocol):
    """The slot for what a run begins with."""

    @property
    def pixel_range(self) -> PixelRange | None:
        """How the weights expect pictures of more than 8 bits to be read; None where they do not care."""
        ...

    def refuse_unfit(self, learner: Learner, images: Identity) -> None:
        """Raise a UserError where the weights are those of another network, or have seen other images."""

    def give(self, learner: Learner, images: Identity, judge: Judge, processes: Processes) -> str:
        """Give a learner its weights, and the accuracies that it has to beat.

        Returns:
            What a person has to know of it; may be empty.
        """
        ...

    def provenance(self) -> dict[str, Any]:
        """Return where the weights are from, as JSON values."""
        ...


class Drawn:
    """The weights that the recipe's seed draws, as published."""

    pixel_range = None

    def refuse_unfit(self, learner: Learner, images: Identity) -> None:
        """Do nothing: every network can be drawn."""

    def give(self, learner: Learner, images: Identity, judge: Judge, processes: Processes) -> str:
        """Measure what has to be beaten; the weights are there."""
        learner.baselines = processes.on_rank_zero(judge.baselines, learner.online.encoder)
        return ""

    def provenance(self) -> dict[str, Any]:
        """Return nothing: the seed stands in the recipe."""
        return {}


@dataclass(frozen=True, kw_only=True, eq=False)
class From:
    """The weights of an encoder that exists; those of heads and target too, where there are some that fit.

    Schedules begin at their beginning, and so does the optimizer.

    Args:
        name: of the encoder, for the person.
        encoder: its weights, by its own keys.
        preprocessing: how it expects its images.
        architecture: how to build it; None where no recipe can say it.
        recipe: by which it was trained, where that is known.
        heads: weights of projector and predictor, by their keys in the online network.
        target: weights of the target network.
    """

    name: str
    encoder: Weights
    preprocessing: Preprocessing
    architecture: EncoderSpec | None
    recipe: Recipe | None = None
    heads: Weights = field(default_factory=dict)
    target: Weights = field(default_factory=dict)

    @classmethod
    def opened(cls, given: str | os.PathLike[str] | Pretrained) -> "From":
        """Open what a person names.

        Args:
            given: a run, finished or not; an encoder.safetensors, whose encoder alone is taken; a network of
                another library by name, such as `timm:resnet50@FILE`; or an encoder that is open.

        Raises:
            UserError: there is none, or it cannot be read.
        """
        if isinstance(given, Pretrained) or (isinstance(given, str) and is_named(given)):
            open_one = given if isinstance(given, Pretrained) else load(given)
            return cls(
                name=open_one.name,
                encoder=_kept(open_one.encoder.state_dict()),
                preprocessing=open_one.preprocessing,
                architecture=open_one.architecture,
            )
        folder = RunFolder(given_path(given, "say what to start from: --from RUN."))
        newest = checkpoint.newest(folder.checkpoints) if folder.recipe.is_file() else None
        if newest is None:
            file = encoder_file(folder.path)
            encoder, architecture, preprocessing = read_encoder(file)
            return cls(
                name=os.fspath(given), encoder=encoder, preprocessing=preprocessing, architecture=architecture
            )
        recipe, state = read_recipe(folder.recipe), checkpoint.load(newest, _CPU)
        preprocessing = recipe.views.preprocessing(recipe.evaluation_size)
        if folder.encoder.is_file():
            preprocessing = read_encoder(folder.encoder)[2]
        online: Weights = state["online"]
        return cls(
            name=os.fspath(given),
            encoder=_below("encoder.", online),
            preprocessing=preprocessing,
            architecture=recipe.encoder,
            recipe=recipe,
            heads={key: value for key, value in online.items() if not key.startswith("encoder.")},
            target=state["target"],
        )

    @property
    def pixel_range(self) -> PixelRange | None:
        """That of the encoder's preprocessing."""
        return self.preprocessing.pixel_range

    def suggested_recipe(self) -> Recipe:
        """Return the recipe by which it was trained, or else `photos` for this network.

        Raises:
            UserError: no recipe can say what network it is.
        """
        if self.recipe is not None:
            return replace(self.recipe, data="")
        if self.architecture is None:
            raise UserError(
                f"{self.name} belongs to a network that no recipe names; give a recipe, and the module in "
                "Python: byol.pretrain(data, out, recipe='photos', from_=..., encoder=module)."
            )
        photos, how = named("photos"), self.preprocessing
        return replace(
            photos,
            encoder=self.architecture,
            views=replace(photos.views, size=how.size, mean=how.mean, std=how.std),
            evaluation_size=how.size,
        )

    def refuse_unfit(self, learner: Learner, images: Identity) -> None:
        """Raise a UserError, with the counts, where the weights are not those of the learner's encoder."""
        here, there = _shapes(learner.online.encoder.state_dict()), _shapes(self.encoder)
        odd = [key for key in {**here, **there} if here.get(key) != there.get(key)]
        if not odd:
            return
        fit = len(here) - sum(key in here for key in odd)
        raise UserError(
            f"{self.name} is another network than the one to be trained: {fit} of its {len(there)} tensors "
            f"fit into the {len(here)} of this one. The first that does not is {odd[0]}, "
            f"{_said(there.get(odd[0]))} there and {_said(here.get(odd[0]))} here. Leave the recipe away to "
            "train the network that it is, or give the module: byol.pretrain(..., encoder=module)."
        )

    def give(self, learner: Learner, images: Identity, judge: Judge, processes: Processes) -> str:
        """Load the weights, and measure them beside the drawn ones."""
        encoder, online = learner.online.encoder, learner.online
        learner.baselines = processes.on_rank_zero(judge.baselines, encoder)
        encoder.load_state_dict({**encoder.state_dict(), **self.encoder})
        unwhiten(encoder)
        heads = {key: value for key, value in online.state_dict().items() if not key.startswith("encoder.")}
        has_heads = bool(heads) and _shapes(heads) == _shapes(self.heads)
        if has_heads:
            online.load_state_dict({**online.state_dict(), **self.heads})
        learner.target.update(online, tau=0.0)  # xi = theta
        target = learner.target.state_dict()
        has_target = has_heads and bool(target) and _shapes(target) == _shapes(self.target)
        if has_target:
            learner.target.load_state_dict({**target, **self.target})
        begun = processes.on_rank_zero(judge.at_start, encoder)
        learner.baselines = {name: {**known, **begun[name]} for name, known in learner.baselines.items()}
        what = "encoder, heads and target" if has_target else "encoder and heads" if has_heads else "encoder"
        others = "" if has_heads else "; the heads are drawn"
        return f"starts from {self.name}: its {what}{others}{self._warning(judge.preprocessing)}"

    def _warning(self, here: Preprocessing) -> str:
        """Return what has to be said of an encoder that is used to images of other mean and std."""
        there = self.preprocessing
        if (here.mean, here.std) == (there.mean, there.std):
            return ""
        return (
            f"; it has seen images normalized by mean {there.mean} and std {there.std}, and the recipe's are "
            f"{here.mean} and {here.std}: set views.mean and views.std"
        )

    def provenance(self) -> dict[str, Any]:
        """Return the name, and a digest of the encoder's weights."""
        arrays = (value.contiguous().view(-1).view(torch.uint8).numpy() for value in self.encoder.values())
        return {"from": {"name": self.name, "digest": digest(*self.encoder, *arrays)}}


@dataclass(frozen=True, kw_only=True, eq=False)
class Extended:
    """All that a run had learned, its optimizer too: what goes on is the same run with a longer schedule.

    Args:
        run: that is extended.
        before: its recipe.
        after: the recipe with more epochs.
        state: its newest checkpoint.
    """

    run: Path
    before: Recipe
    after: Recipe
    state: Mapping[str, Any]

    pixel_range = None

    @classmethod
    def opened(cls, folder: RunFolder, before: Recipe, after: Recipe) -> "Extended":
        """Open the newest checkpoint of a run.

        Raises:
            UserError: there is none, or it is damaged.
        """
        newest = checkpoint.newest(folder.checkpoints)
        if newest is None:
            raise UserError(f"{folder.path} has no checkpoint to go on from; begin another run.")
        return cls(run=folder.path, before=before, after=after, state=checkpoint.load(newest, _CPU))

    def refuse_unfit(self, learner: Learner, images: Identity) -> None:
        """Raise a UserError where the run has learned from other images, or another network."""
        refuse_other_images(self.state["images"], images, self.run)
        learner.refuse_other_network(self.state)

    def give(self, learner: Learner, images: Identity, judge: Judge, processes: Processes) -> str:
        """Restore the run, and say what becomes of its schedules."""
        learner.restore(self.state)
        step = learner.step
        old, new = (Timeline(recipe, images.count) for recipe in (self.before, self.after))
        last = max(step - 1, 0)
        return (
            f"extends {self.run} from {self.before.epochs} to {self.after.epochs} epochs, at step {step:,} "
            f"of {new.total_steps:,}: lr was {old.lr(last):.4f} and is {new.lr(step):.4f}, tau was "
            f"{old.tau(last):.4f} and is {new.tau(step):.4f}, as in a run of so many epochs"
        )

    def provenance(self) -> dict[str, Any]:
        """Return which run it is, and at which step."""
        return {"extends": {"name": str(self.run), "step": self.state["step"]}}


def _below(prefix: str, weights: Weights) -> Weights:
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def _kept(weights: Weights) -> Weights:
    """Return a copy, which what is trained later does not change."""
    return {key: value.detach().cpu().clone() for key, value in weights.items()}


def _shapes(weights: Mapping[str, Any]) -> dict[str, tuple[int, ...] | None]:
    """Return the shape of each tensor but for the counters of batches, which older files lack; else None."""
    counter = "num_batches_tracked"
    return {
        key: tuple(value.shape) if isinstance(value, Tensor) else None
        for key, value in weights.items()
        if not key.endswith(counter)
    }


def _said(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else str(shape)

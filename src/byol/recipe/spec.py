"""A recipe: everything that decides what a run computes, as plain frozen data.

Two runs of one recipe on the same data and machine are the same run, bit for bit, unless they start from
weights that exist. What does not change the result (where to write, how many workers) is an argument of
`pretrain`, not a field here.
"""

import json
import os
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from byol.data.image.views import MultiCrop, TwoViews
from byol.data.order import num_steps
from byol.errors import UserError, refuse_no_number, refuse_not_whole, refuse_seed
from byol.model.encoder import EncoderSpec
from byol.model.head import Mlp, SimSiamProjector
from byol.model.initialization import Initialization
from byol.model.predictor import (
    DirectCopy,
    DirectPred,
    LinearPredictor,
    NoPredictor,
    OptimalLinear,
    SimSiamPredictor,
    SymmetricLinear,
)
from byol.model.target import ConstantEma, Ema, Fixed, Shared
from byol.optim import AdamW, Lars, Sgd
from byol.schedule import ConstantRate, FollowingRate
from byol.system.files import given_path

Predictor = (
    Mlp
    | LinearPredictor
    | SymmetricLinear
    | SimSiamPredictor
    | DirectPred
    | DirectCopy
    | OptimalLinear
    | NoPredictor
)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a run computes.

    Args:
        name: of the recipe this one comes from.
        data: folder, list of paths, archive, or "builtin".
        views: the two view distributions T and T'.
        evaluation_size: side of the images that the finished encoder is shown, in pixels. Crops make
            things look larger than whole images do, so it may be larger than `views.size` (1906.06423).
        encoder: f.
        projector: g.
        predictor: q.
        target: what predictions are compared with, and its tau.
        optimizer: over theta, with the learning rate per 256 images.
        batch_size: images per optimizer step, over all processes.
        epochs: passes over the images.
        warmup_epochs: passes during which the learning rate rises from 0; may be a fraction.
        predictor_lr: learning rate of the predictor, beside that of the rest.
        loss_weight: factor on the loss before its gradient; 1 sums the two directions as published.
        micro_batches: equal parts of a batch whose gradients are averaged into one step; batch norm sees
            one part at a time (BYOL, Table 16).
        initialization: of all weights, see `model.initialization`.
        precision: "auto" takes what is fast on the machine; else "bf16" or "float32".
        seed: of initialization, order and views, in [0, 2**31).
        why: what a plan rests on, a sentence for each choice; it changes nothing.
    """

    name: str
    data: str
    views: Annotated[TwoViews | MultiCrop, Field(discriminator="kind")]
    evaluation_size: int
    encoder: EncoderSpec
    projector: Annotated[Mlp | SimSiamProjector, Field(discriminator="kind")]
    predictor: Annotated[Predictor, Field(discriminator="kind")]
    target: Annotated[Ema | ConstantEma | Shared | Fixed, Field(discriminator="kind")]
    optimizer: Annotated[Lars | Sgd | AdamW, Field(discriminator="kind")]
    batch_size: int
    epochs: int
    warmup_epochs: float
    predictor_lr: Annotated[FollowingRate | ConstantRate, Field(discriminator="kind")] = FollowingRate()
    loss_weight: float = 1.0
    micro_batches: int = 1
    initialization: Initialization = "torch"
    precision: Literal["auto", "bf16", "float32"] = "auto"
    seed: int = 0
    why: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        refuse_not_whole("batch_size", self.batch_size, 0)
        if self.batch_size < 2:
            raise UserError(
                f"batch_size is {self.batch_size}, but batch norm needs 2 images or more to have a variance."
            )
        refuse_not_whole("epochs", self.epochs, 1)
        refuse_not_whole("evaluation_size", self.evaluation_size, 1)
        refuse_seed(self.seed)
        refuse_not_whole("micro_batches", self.micro_batches, 1)
        if not 1 <= self.micro_batches <= self.batch_size // 2 or self.batch_size % self.micro_batches:
            raise UserError(
                f"micro_batches is {self.micro_batches}; it must divide batch_size = {self.batch_size} "
                "into parts of 2 images or more."
            )
        if (out := getattr(self.predictor, "out", self.projector.out)) != self.projector.out:
            raise UserError(
                f"predictor.out is {out}, but projections have projector.out = "
                f"{self.projector.out} numbers; make them equal."
            )
        refuse_no_number("warmup_epochs", self.warmup_epochs)
        if not 0 <= self.warmup_epochs < self.epochs:
            raise UserError(
                f"warmup_epochs is {self.warmup_epochs}; it must lie in [0, epochs = {self.epochs})."
            )

    @property
    def peak_lr(self) -> float:
        """The highest learning rate: base_lr * batch_size / 256."""
        return self.optimizer.base_lr * self.batch_size / 256

    def steps(self, epochs: float, num_images: int) -> int:
        """Return the optimizer steps of some passes, rounded down; a batch may span the end of a pass.

        Raises:
            UserError: the batch is larger than the set.
        """
        if num_images < self.batch_size:
            raise UserError(
                f"batch_size is {self.batch_size}, but there are only {num_images} images; "
                f"use --batch-size {max(2, num_images // 2)} or fewer."
            )
        return num_steps(epochs, num_images, self.batch_size)

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as JSON values."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    def fields(self) -> dict[str, Any]:
        """Return field path, such as "target.tau_base" -> value."""
        return _flatten(self.to_json())


def from_json(text: str, origin: str) -> Recipe:
    """Read a recipe; unknown keys and wrong types are refused, not guessed at.

    Args:
        text: as `Recipe.to_json` gives it.
        origin: where the text comes from, for the message.

    Raises:
        UserError: the first thing wrong, naming its field.
    """
    text, data = _without_bytes(text)
    try:
        recipe = _reader().validate_json(text, strict=True, extra="forbid")
        return recipe if data is None else replace(recipe, data=data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UserError(f"{origin}: {field}: {first['msg']} (found {first['input']!r:.80}).") from error


@cache
def _reader() -> TypeAdapter[Recipe]:
    return TypeAdapter(Recipe)


def _without_bytes(text: str) -> tuple[str, str | None]:
    """Take the name of the data out of a recipe where it is not UTF-8, which pydantic does not read."""
    if "\\ud" not in text.lower():
        return text, None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # as pydantic will say
        return text, None
    data = value.get("data") if isinstance(value, dict) else None
    if not isinstance(data, str) or not any("\ud800" <= character <= "\udfff" for character in data):
        return text, None
    return json.dumps({**value, "data": ""}), data


def refuse_wrong_types(recipe: Recipe) -> None:
    """Raise a UserError, naming the field, where a recipe that was built in Python could not be read again.

    Python takes any value for any field, and what `recipe.json` cannot say cannot be resumed or repeated.
    """
    if not isinstance(recipe, Recipe):
        raise UserError(f"recipe is a {type(recipe).__name__}; give a Recipe.")
    try:
        text = json.dumps(recipe.to_json())
    except (TypeError, ValueError) as error:
        raise UserError(f"recipe '{recipe.name}' holds what JSON cannot say: {error}.") from error
    from_json(text, f"recipe '{recipe.name}'")


def read_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Read a recipe from a JSON file, such as the `recipe.json` of a run.

    Args:
        path: of the file; `~` is the home folder.

    Raises:
        UserError: there is no such file, or it is not a recipe.
    """
    path = given_path(path, "say which recipe: the path of a .json.")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no recipe: it is not a text in UTF-8.") from error
    return from_json(text, str(path))


def diff(left: Recipe, right: Recipe) -> list[tuple[str, Any, Any]]:
    """Return (field path, left value, right value) wherever two recipes differ; a missing side is None."""
    for one in (left, right):
        if not isinstance(one, Recipe):
            raise UserError(f"diff takes two recipes, not a {type(one).__name__}; open it: byol.named(...).")
    a, b = left.fields(), right.fields()
    return [(key, a.get(key), b.get(key)) for key in {**a, **b} if a.get(key) != b.get(key)]


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        path: leaf
        for key, inner in value.items()
        for path, leaf in _flatten(inner, f"{prefix}.{key}" if prefix else key).items()
    }

"""What a run is bound to from its first step to its last: a recipe, and images."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from byol.data.identity import Identity
from byol.data.opening import BUILTIN
from byol.errors import UserError
from byol.recipe.spec import Recipe, diff


def refuse_other_recipe(own: Recipe, asked: Recipe, place: Path) -> None:
    """Raise a UserError where a run is to be continued with another recipe than its own.

    Args:
        own: of the run, or of its checkpoint.
        asked: with which it is to be continued.
        place: where the first was found.
    """
    if differences := diff(own, asked):
        sides = "; ".join(
            f"{field} is {there!r} there and {here!r} here" for field, there, here in differences
        )
        raise UserError(
            f"{place} is of another recipe: {sides}. Resume with its own, or choose another --out."
        )


def refuse_missing(data: str, run: Path) -> None:
    """Raise a UserError where the images of a run are no longer where it found them."""
    if data != BUILTIN and not Path(data).exists():
        raise UserError(
            f"the images of {run} are no longer at {data}; say where they are now: byol pretrain --resume "
            f"{shlex.quote(str(run))} --data NEW."
        )


def refuse_other_images(before: Mapping[str, Any], now: Identity, run: Path) -> None:
    """Raise a UserError where a run is to go on with other images than it began with.

    Args:
        before: `count` and `digest` of the images that the run began with.
        now: which images there are now.
        run: its folder.
    """
    if before == asdict(now):
        return
    place = shlex.quote(str(run))
    remedy = (
        f"give the images that it began with (--resume {place} --data PATH), or train on with these in "
        f"another run: byol pretrain --from {place} --data PATH --out NEW."
    )
    if before["count"] != now.count:
        raise UserError(
            f"{run} began with {before['count']:,} images, and there are {now.count:,} now; {remedy}"
        )
    raise UserError(
        f"{run} began with {before['count']:,} images and there are as many now, but of other names, labels "
        f"or contents; {remedy}"
    )

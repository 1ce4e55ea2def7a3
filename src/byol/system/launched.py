"""How this process was started: alone, or by `torchrun` as one of several, as its environment tells.

Variables that are empty, or left over from another program, say nothing: they count only together.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from byol.errors import UserError

_NUMBERS = ("WORLD_SIZE", "RANK", "LOCAL_WORLD_SIZE", "LOCAL_RANK")
_MEETING = ("MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Launch:
    """This process among those that were started with it.

    Args:
        rank: of this process, in [0, world_size).
        world_size: how many there are.
        local_rank: of this process on its machine.
        local_world_size: how many there are on this machine.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1


def launch(environment: Mapping[str, str] = os.environ) -> Launch:
    """Return what the environment tells of this process; incomplete, it tells that there is no other.

    Raises:
        UserError: a variable that counts is no whole number, or does not fit the others.
    """
    given = {name: environment.get(name, "").strip() for name in (*_NUMBERS, *_MEETING)}
    world_size = _whole("WORLD_SIZE", given["WORLD_SIZE"] or "1", 1)
    if world_size == 1 or missing(environment):
        return Launch()
    rank, local_world_size, local_rank = (
        _whole(name, given[name], least) for name, least in zip(_NUMBERS[1:], (0, 1, 0), strict=True)
    )
    if rank >= world_size or local_rank >= local_world_size or local_world_size > world_size:
        told = ", ".join(f"{name} is {given[name]}" for name in _NUMBERS)
        raise UserError(f"{told}, which do not fit: start with torchrun, or unset WORLD_SIZE.")
    return Launch(rank, world_size, local_rank, local_world_size)


def missing(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return which of the variables of `torchrun` are not set, or empty."""
    return [name for name in (*_NUMBERS, *_MEETING) if not environment.get(name, "").strip()]


def speaker(environment: Mapping[str, str] = os.environ) -> Launch:
    """Return what `launch` does, but for an environment that is wrong a process of its own, which speaks."""
    try:
        return launch(environment)
    except UserError:
        return Launch()


def _whole(name: str, value: str, least: int) -> int:
    if not (value.isascii() and value.isdigit()) or int(value) < least:
        raise UserError(
            f"{name} is '{value}', where torchrun sets a whole number of {least} or more: start with "
            "torchrun, or unset WORLD_SIZE to train in one process."
        )
    return int(value)

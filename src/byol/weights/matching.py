"""Finding the weights of a network in a checkpoint that holds other things too, under some prefix."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from byol.errors import UserError


def load_weights(
    network: nn.Module, tensors: Mapping[str, Tensor], prefix: str, name: str, source: str
) -> None:
    """Load the weights of a network that stand in a checkpoint under some prefix.

    The prefix is the one under which every weight of the network stands in its own shape. What else the
    checkpoint holds, such as a classifier, is not looked at.

    Args:
        network: gets the weights.
        tensors: all that the checkpoint holds, the keys of nested dictionaries joined by dots.
        prefix: with which the prefix has to end, a dot for none at all; anything by default.
        name: of the network, for the person.
        source: of the tensors, for the person.

    Raises:
        UserError: there is no such prefix, or there are several.
    """
    wanted = {key: value.shape for key, value in network.state_dict().items() if not _is_counter(key)}
    first = next(iter(wanted))
    prefixes = [key.removesuffix(first) for key in tensors if f".{key}".endswith(f".{first}")]
    ending = {"": "", ".": ""}.get(prefix, f".{prefix.strip('.')}.")
    asked = [one for one in prefixes if f".{one}".endswith(ending) and not (prefix == "." and one)]
    missing = {
        one: [key for key, shape in wanted.items() if _shape(tensors.get(one + key)) != shape]
        for one in asked
    }
    whole = [one for one, keys in missing.items() if not keys]
    if len(whole) > 1:
        names = [one.strip(".") or "." for one in whole]
        raise UserError(
            f"{source} holds {len(whole)} networks that are a {name}: {', '.join(names)}; "
            f"choose one with {name}@{source}#{names[0]}"
        )
    if not whole:
        raise UserError(_mismatch(wanted, tensors, missing, name, source))
    own = network.state_dict()
    loaded = {key: tensors.get(whole[0] + key, value) for key, value in own.items()}
    network.load_state_dict(loaded)


def _mismatch(
    wanted: Mapping[str, torch.Size],
    tensors: Mapping[str, Tensor],
    missing: Mapping[str, list[str]],
    name: str,
    source: str,
) -> str:
    """Say what was looked for and what is there."""
    if not missing:
        return (
            f"{source} does not hold a {name}: no key ends with {next(iter(wanted))}; it has "
            f"{len(tensors)} tensors, such as {', '.join(list(tensors)[:3]) or 'none'}."
        )
    nearest = min(missing, key=lambda one: len(missing[one]))
    key = missing[nearest][0]
    theirs = _shape(tensors.get(nearest + key))
    there = "is not there" if theirs is None else f"is {tuple(theirs)} there"
    return (
        f"{source} does not hold a {name}: {len(missing[nearest])} of its {len(wanted)} weights do not fit, "
        f"the first of them {key}, {tuple(wanted[key])} in the network, which {there}."
    )


def _is_counter(key: str) -> bool:
    """Return whether a key counts batches, which older checkpoints lack."""
    return key.endswith("num_batches_tracked")


def _shape(tensor: Tensor | None) -> torch.Size | None:
    return None if tensor is None else tensor.shape

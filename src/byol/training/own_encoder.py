"""Whether a module of the user's own can be learned, followed by a target and kept, found before any step."""

import copy
import pickle

import torch
from torch import Tensor, nn

from byol.errors import UserError


def refuse_unusable(encoder: object) -> None:
    """Raise a UserError where an encoder cannot be trained, or could not be written when it is.

    Args:
        encoder: what was given as one.
    """
    if isinstance(encoder, type):
        name = encoder.__name__
        raise UserError(f"encoder is the class {name}; give a module that is made of it: {name}(...).")
    if not isinstance(encoder, nn.Module):
        raise UserError(f"encoder is a {type(encoder).__name__}; give a torch module (B, 3, H, W) -> (B, D).")
    if isinstance(encoder, torch.jit.ScriptModule):
        raise UserError(
            "encoder is a scripted module, which the target cannot be a copy of; give the module that it was "
            "made from."
        )
    _refuse_what_cannot_learn(encoder)
    _refuse_what_cannot_be_kept(encoder)


def _refuse_what_cannot_learn(encoder: nn.Module) -> None:
    parameters = dict(encoder.named_parameters())
    for name, parameter in parameters.items():
        if parameter.is_meta:
            raise UserError(f"{name} of the encoder is on the meta device and has no values; fill it first.")
        if parameter.dtype != torch.float32:
            raise UserError(
                f"{name} of the encoder is of {str(parameter.dtype).removeprefix('torch.')}; give weights of "
                "float32: encoder.float(). Whether a step multiplies in bfloat16 is the recipe's precision."
            )
    if not any(parameter.requires_grad for parameter in parameters.values()):
        have = f"all of its {len(parameters)} parameters are frozen" if parameters else "it has no parameters"
        raise UserError(
            f"nothing of the encoder would learn: {have}; give one that learns: encoder.requires_grad_()."
        )


def _refuse_what_cannot_be_kept(encoder: nn.Module) -> None:
    for name, value in encoder.state_dict().items():
        if not isinstance(value, Tensor):
            owner = name.rpartition(".")[0] or "the encoder"
            raise UserError(
                f"{owner} keeps a {type(value).__name__} beside its tensors (get_extra_state), which no file "
                "of weights holds; keep it in a buffer (register_buffer), or leave it out."
            )
    try:
        copy.deepcopy(encoder)
    except (
        RuntimeError,
        TypeError,
        pickle.PicklingError,
    ) as error:  # computed weights, open files
        raise UserError(
            f"the encoder cannot be copied, and the target begins as its copy: {error}."
        ) from error

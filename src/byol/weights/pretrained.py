"""An encoder with its preprocessing: what a run leaves behind, and what everything later starts from."""

import copy
import json
import os
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from byol.data.image.given import Pictures
from byol.data.image.preprocessing import Preprocessing
from byol.errors import UserError, refuse_not_whole
from byol.model.encoder import EncoderSpec, in_eval_mode
from byol.run import checkpoint
from byol.system.digest import digest
from byol.system.files import given_path
from byol.weights.encoder_file import read_encoder
from byol.weights.zoo import is_named, open_named

_CHECKPOINTS = {".pth", ".pt", ".ckpt", ".bin", ".tar"}


class Pretrained(nn.Module):
    """An encoder, and how images have to be prepared for it.

    Called like any module it maps prepared images (B, C, S, S) to representations (B, D); `embed` takes
    images as they come.

    Args:
        encoder: maps prepared images (B, C, S, S) to (B, D).
        preprocessing: how images are prepared.
        name: what a person calls it.
        rebuild: makes the network again with weights drawn again; by default a copy whose layers each
            `reset_parameters`.
        architecture: how to build the network again; None where no recipe can say it.
    """

    def __init__(
        self,
        encoder: nn.Module,
        preprocessing: Preprocessing,
        *,
        name: str = "encoder",
        rebuild: Callable[[], nn.Module] | None = None,
        architecture: EncoderSpec | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.preprocessing, self.name = encoder, preprocessing, name
        self._rebuild, self.architecture = rebuild, architecture

    def forward(self, images: Tensor) -> Tensor:
        """Return the representations (B, D) of prepared images."""
        return self.encoder(images)  # type: ignore[no-any-return]

    def fresh(self, seed: int) -> "Pretrained":
        """Return the same network with the same preprocessing and weights drawn again, in eval mode.

        Args:
            seed: of the draw; the global random state is left as it was.

        Raises:
            UserError: the network is a module of the user's own that cannot be drawn again.
        """
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            encoder = _redrawn(self.encoder, self.name) if self._rebuild is None else self._rebuild()
        return Pretrained(
            encoder,
            self.preprocessing,
            name="random initialization",
            rebuild=self._rebuild,
            architecture=self.architecture,
        ).eval()

    def fingerprint(self) -> str:
        """Return a hex digest of weights, buffers, settings of the layers and preprocessing."""
        how = self.preprocessing
        mean, std = (torch.tensor(values).tolist() for values in (how.mean, how.std))  # as float32 has them
        preprocessing: list[Any] = [how.size, mean, std, how.fraction]
        preprocessing += [] if how.pixel_range is None else [how.pixel_range.to_json()]
        tensors = (
            part
            for key, value in self.encoder.state_dict().items()
            for part in (
                f"{key} {value.dtype} {tuple(value.shape)}",
                value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy(),
            )
        )
        return digest(json.dumps([_settings(self.encoder), preprocessing]), *tensors)

    @torch.no_grad()
    def embed(self, images: Pictures, batch_size: int = 256) -> Tensor:
        """Return the representations of pictures as they come, in eval mode.

        Pictures are read one by one, as files are: only prepared ones are kept, a batch of them.

        Args:
            images: paths, PIL images, arrays (H, W, 3), tensors (3, H, W), one or many of any kinds; values
                of uint8, of uint16, of bool, or floating point numbers in [0, 1]. Many of one size may be
                one array (N, H, W, 3) or one tensor (N, C, H, W).
            batch_size: prepared pictures that the encoder takes at once, >= 1.

        Returns:
            (N, D) float32 on the CPU.

        Raises:
            UserError: there is none, or one cannot be read or could mean two things; it is named.
        """
        refuse_not_whole("batch_size", batch_size, 1)
        device = next((p.device for p in self.encoder.parameters()), torch.device("cpu"))
        with in_eval_mode(self):
            prepared, rows = self.preprocessing.each(images), []
            while batch := list(islice(prepared, batch_size)):
                rows.append(self.encoder(torch.cat(batch).to(device)).float().cpu())
        return torch.cat(rows)


def load(run: str | os.PathLike[str], *, encoder: nn.Module | None = None) -> Pretrained:
    """Return an encoder in eval mode, with its preprocessing.

    Args:
        run: a run folder, or its `encoder.safetensors`; or a network of another library by name:
            `timm:NAME` or `torchvision:NAME`, with `@CHECKPOINT` for weights other than the library's own.
        encoder: the module that the run was given, when it was not built from a recipe; its weights
            are replaced.

    Raises:
        UserError: there is no encoder, it was written by something else, it needs `encoder`, or `encoder` is
            another module than the run's.
    """
    if isinstance(run, str) and is_named(run):
        opened = open_named(run)
        return Pretrained(
            opened.encoder,
            opened.preprocessing,
            name=run,
            rebuild=opened.rebuild,
            architecture=opened.architecture,
        ).eval()
    if not isinstance(run, (str, os.PathLike)):
        raise UserError(
            f"an encoder cannot be loaded from a {type(run).__name__}; give a run, the path of one or of its "
            "encoder.safetensors, or timm:NAME or torchvision:NAME; a module becomes an encoder by "
            "byol.Pretrained(module, preprocessing)."
        )
    path = encoder_file(run)
    weights, architecture, preprocessing = read_encoder(path)
    rebuild = None
    if encoder is None:
        if architecture is None:
            raise UserError(f"{path} belongs to a module of your own; give it: load(run, encoder=module).")
        rebuild = partial(architecture.build, preprocessing.channels)
        encoder = rebuild()
    try:
        encoder.load_state_dict(weights)
    except RuntimeError as error:
        why = " ".join(str(error).split("\n\t", 2)[1:2]).strip() or str(error)  # the first of its lines
        raise UserError(f"the weights in {path} are not those of the module: {why:.200}") from error
    return Pretrained(
        encoder, preprocessing, name=os.fspath(run), rebuild=rebuild, architecture=architecture
    ).eval()


def encoder_file(run: str | os.PathLike[str]) -> Path:
    """Return the file in which an encoder of ours stands.

    Args:
        run: a run folder, or its `encoder.safetensors`.

    Raises:
        UserError: there is none.
    """
    path = given_path(run, "say which encoder: a run, or its encoder.safetensors.")
    path = path / "encoder.safetensors" if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"there is no encoder at {path}; give a finished run, or its encoder.safetensors.")
    if checkpoint.is_checkpoint(path):
        raise UserError(
            f"{path} is a checkpoint of a run and no encoder; give the folder of the run, which holds one "
            "when the run is finished: byol pretrain --resume RUN."
        )
    if path.suffix in _CHECKPOINTS:
        raise UserError(
            f"{path} does not say which network it belongs to; name it: timm:NAME@{path} or "
            f"torchvision:NAME@{path}."
        )
    return path


def _settings(network: nn.Module) -> list[str]:
    """Return what decides beside the tensors what a network computes, such as paddings and groups."""
    words = []
    for path, layer in network.named_modules():
        words.append(f"{path}: {type(layer).__module__}.{type(layer).__qualname__}")
        for name, value in sorted(vars(layer).items()):
            if name == "training" or isinstance(value, (dict, set)):
                continue
            said = getattr(value, "__qualname__", None) or repr(value)
            if " at 0x" not in said:  # another one in every process
                words.append(f"{name}={said}")
    return words


def _redrawn(module: nn.Module, name: str) -> nn.Module:
    """Return a copy of a module with the weights that its layers begin with."""
    try:
        again = copy.deepcopy(module)
    except (RuntimeError, TypeError) as error:  # of weights that are computed, and of open files
        raise UserError(
            f"{name} cannot be copied to be compared with; give Pretrained(rebuild=...)."
        ) from error
    for path, layer in again.named_modules():
        reset = getattr(layer, "reset_parameters", None)
        own = [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
        if callable(reset):
            reset()
        elif any(tensor.is_floating_point() for tensor in own):
            raise UserError(
                f"{name} cannot be drawn again to be compared with: "
                f"its module {path or type(layer).__name__} has weights or buffers and no "
                "reset_parameters; give it one, or Pretrained(rebuild=...)."
            )
    return again

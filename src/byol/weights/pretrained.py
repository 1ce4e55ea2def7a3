"""An encoder with its preprocessing: what a run leaves behind, and what everything later starts from."""

import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter
from torch import Tensor, nn

from byol.data.image.decode import decode
from byol.data.image.resample import crop_resize
from byol.data.image.views import MultiCrop, TwoViews
from byol.data.images import central_box
from byol.errors import UserError
from byol.model.encoder import ConvNet, ResNet, Timm, in_eval_mode
from byol.weights.zoo import is_named, open_named

_CHECKPOINTS = {".pth", ".pt", ".ckpt", ".bin", ".tar"}
_Spec = TypeAdapter[ResNet | ConvNet | Timm](ResNet | ConvNet | Timm)


class Pretrained(nn.Module):
    """An encoder, and how images have to be prepared for it.

    Called like any module it maps prepared images (B, 3, size, size) to representations (B, D);
    `embed` takes images as they come.

    Args:
        encoder: maps normalised images (B, 3, H, W) to (B, D).
        size: side of the images it is shown, in pixels.
        mean: of the normalisation, per channel, for pixels in [0, 1].
        std: likewise.
        crop_share: of the shorter side of an image that its central square keeps, in (0, 1].
        name: what a person calls it.
        rebuild: makes the network again with weights drawn anew; by default a copy whose layers each
            `reset_parameters`.

    Raises:
        UserError: the share is out of its range.
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        size: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        crop_share: float = 1.0,
        name: str = "encoder",
        rebuild: Callable[[], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        if not 0 < crop_share <= 1:
            raise UserError(f"crop_share is {crop_share}; choose a share in (0, 1].")
        self.encoder, self.name = encoder, name
        self._rebuild = rebuild
        self.size, self.crop_share = size, crop_share
        self.mean = torch.tensor(mean).view(3, 1, 1)
        self.std = torch.tensor(std).view(3, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the representations (B, D) of prepared images."""
        return self.encoder(images)  # type: ignore[no-any-return]

    def fresh(self, seed: int) -> "Pretrained":
        """Return the same network with the same preprocessing and weights drawn anew, in eval mode.

        Args:
            seed: of the draw; the global random state is left as it was.

        Raises:
            UserError: the network is a module of the user's own that cannot be drawn anew.
        """
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            encoder = _redrawn(self.encoder, self.name) if self._rebuild is None else self._rebuild()
        return Pretrained(
            encoder,
            size=self.size,
            mean=_triple(self.mean),
            std=_triple(self.std),
            crop_share=self.crop_share,
            name="random initialisation",
            rebuild=self._rebuild,
        ).eval()

    def fingerprint(self) -> str:
        """Return a hex digest of weights, buffers, settings of the layers and preprocessing."""
        preprocessing = [self.size, _triple(self.mean), _triple(self.std), self.crop_share]
        digest = hashlib.sha256(json.dumps([_settings(self.encoder), preprocessing]).encode())
        for key, value in self.encoder.state_dict().items():
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()[:32]

    def prepare(self, images: "Sequence[Image.Image | str | Path | NDArray[np.uint8]] | Tensor") -> Tensor:
        """Return images as the encoder wants them: centre square, bicubic to `size`, normalised.

        Args:
            images: pictures, paths, arrays (H, W, 3) of uint8, or one tensor (B, 3, H, W) of uint8.

        Returns:
            (B, 3, size, size) float32.
        """
        singles = (
            torch.split(images, 1) if isinstance(images, Tensor) else [_as_tensor(image) for image in images]
        )
        boxes = [np.array([central_box(one.shape[-2], one.shape[-1], self.crop_share)]) for one in singles]
        crops = torch.cat([crop_resize(one, box, self.size) for one, box in zip(singles, boxes, strict=True)])
        return self.normalize(crops)

    def normalize(self, crops: Tensor) -> Tensor:
        """Return crops (B, 3, S, S) in [0, 1] with each channel's mean removed, divided by its std."""
        return (crops - self.mean) / self.std

    @torch.no_grad()
    def embed(
        self, images: "Sequence[Image.Image | str | Path | NDArray[np.uint8]] | Tensor", batch_size: int = 256
    ) -> Tensor:
        """Return the representations (B, D) of images as they come, in eval mode; see `prepare`."""
        device = next((p.device for p in self.encoder.parameters()), torch.device("cpu"))
        with in_eval_mode(self):
            rows = [
                self.encoder(self.prepare(images[start : start + batch_size]).to(device)).float().cpu()
                for start in range(0, len(images), batch_size)
            ]
        return torch.cat(rows)


def save_encoder(
    path: Path,
    encoder: nn.Module,
    spec: ResNet | ConvNet | Timm | None,
    size: int,
    views: TwoViews | MultiCrop,
    crop_share: float = 1.0,
) -> None:
    """Write an encoder's weights as safetensors, with architecture and preprocessing in the metadata.

    Args:
        path: of the file.
        encoder: the online encoder; keys are its own, so those of torchvision and timm for a `ResNet`.
        spec: how to build it again; None for a module of the user's own.
        size: side of the images that the encoder is to be shown, in pixels.
        views: whose mean and std belong to the preprocessing.
        crop_share: of the shorter side of an image that its central square keeps.
    """
    from safetensors.torch import save

    architecture = {"kind": "custom"} if spec is None else asdict(spec)
    preprocessing = {
        "size": size,
        "mean": views.mean,
        "std": views.std,
        "crop": "centre square, bicubic",
        "crop_share": crop_share,
    }
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()}
    temporary = path.with_name(f".{path.name}.tmp")
    metadata = {
        "format": "pt",
        "architecture": json.dumps(architecture),
        "preprocessing": json.dumps(preprocessing),
    }
    temporary.write_bytes(save(weights, metadata))  # its own writer hides the file from other users
    temporary.replace(path)


def load(run: str | Path, encoder: nn.Module | None = None) -> Pretrained:
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
    from safetensors import SafetensorError, safe_open

    if isinstance(run, str) and is_named(run):
        opened = open_named(run)
        return Pretrained(
            opened.encoder,
            size=opened.size,
            mean=opened.mean,
            std=opened.std,
            crop_share=opened.crop_share,
            name=run,
            rebuild=opened.rebuild,
        ).eval()
    path = Path(run)
    path = path / "encoder.safetensors" if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"there is no encoder at {path}; give a finished run, or its encoder.safetensors.")
    if path.suffix in _CHECKPOINTS:
        raise UserError(
            f"{path} does not say which network it belongs to; name it: timm:NAME@{path} or "
            f"torchvision:NAME@{path}."
        )
    rebuild = None
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        architecture: dict[str, Any] = json.loads(metadata["architecture"])
        preprocessing: dict[str, Any] = json.loads(metadata["preprocessing"])
        if encoder is None:
            if architecture["kind"] == "custom":
                raise UserError(
                    f"{path} belongs to a module of your own; give it: load(run, encoder=module)."
                )
            rebuild = _Spec.validate_json(metadata["architecture"], strict=True).build
            encoder = rebuild()
        size, share = int(preprocessing["size"]), float(preprocessing.get("crop_share", 1.0))
        mean, std = (_triple(torch.tensor(preprocessing[name])) for name in ("mean", "std"))
    except (SafetensorError, LookupError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not an encoder that byol wrote, or it is damaged.") from error
    try:
        encoder.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"the weights in {path} are not those of the module: {error}") from error
    return Pretrained(
        encoder, size=size, mean=mean, std=std, crop_share=share, name=str(run), rebuild=rebuild
    ).eval()


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
                f"{name} cannot be drawn anew to be compared with: its module {path or type(layer).__name__} "
                "has weights or buffers and no reset_parameters; give it one, or Pretrained(rebuild=...)."
            )
    return again


def _triple(values: Tensor) -> tuple[float, float, float]:
    red, green, blue = values.flatten().tolist()
    return red, green, blue


def _as_tensor(image: "Image.Image | str | Path | NDArray[np.uint8]") -> Tensor:
    """Return one picture as (1, 3, H, W) uint8."""
    if isinstance(image, (str, Path)):
        pixels = decode(Path(image).read_bytes())
    elif isinstance(image, Image.Image):
        pixels = np.array(image.convert("RGB"))
    else:
        pixels = image
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]

"""Every way out for an encoder: files that others read. A new format is a class and a line of `FORMATS`.

Whatever is written is read back, and what was read is compared with what was given.
"""

import copy
import os
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from byol.data.image.preprocessing import Preprocessing
from byol.errors import UserError, nearest
from byol.model.encoder import in_eval_mode
from byol.system.files import place_to_write, whole_file
from byol.weights.encoder_file import save_encoder
from byol.weights.pretrained import Pretrained, load

_COMPARED = 8  # images


class Format(Protocol):
    """The slot for a kind of file."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """That its files may have."""
        ...

    @property
    def reader(self) -> str:
        """How somebody reads one: a line of Python with FILE in it."""
        ...

    def write(self, pretrained: Pretrained, path: Path) -> None:
        """Write an encoder, on the CPU and in eval mode, as one file.

        Raises:
            UserError: this encoder cannot be written so.
        """
        ...

    def read_back(self, path: Path, like: Pretrained) -> nn.Module:
        """Read a file that `write` has made.

        Args:
            path: of the file.
            like: what was written. What the file does not hold, an architecture say, is taken from it.

        Returns:
            A module that maps images (B, C, S, S) in [0, 1] to representations (B, D).
        """
        ...


class Safetensors:
    """Ours: weights, architecture and preprocessing; `byol.load` and every command take it."""

    suffixes = (".safetensors",)
    reader = "byol.load(FILE)"

    def write(self, pretrained: Pretrained, path: Path) -> None:
        save_encoder(path, pretrained.encoder, pretrained.architecture, pretrained.preprocessing)

    def read_back(self, path: Path, like: Pretrained) -> nn.Module:
        own = copy.deepcopy(like.encoder) if like.architecture is None else None
        again = load(path, encoder=own)
        return Normalized(again.encoder, again.preprocessing)


class StateDict:
    """The weights alone, by their names in the network: those of torchvision and timm for a `ResNet`.

    A ResNet with padding "same" or a projected first shortcut has these names too and computes something
    else; only a network built alike gives the same representations.
    """

    suffixes = (".pth", ".pt")
    reader = "network.load_state_dict(torch.load(FILE), strict=False)"

    def write(self, pretrained: Pretrained, path: Path) -> None:
        with whole_file(path, is_only_writer=True) as file:
            torch.save(pretrained.encoder.state_dict(), file)

    def read_back(self, path: Path, like: Pretrained) -> nn.Module:
        again = copy.deepcopy(like.encoder)
        again.load_state_dict(torch.load(path, weights_only=True))
        return Normalized(again, like.preprocessing)


class Program:
    """A program of torch.export, normalization inside: it needs torch and nothing of ours."""

    suffixes = (".pt2",)
    reader = "torch.export.load(FILE).module()"

    def write(self, pretrained: Pretrained, path: Path) -> None:
        module = Normalized(pretrained.encoder, pretrained.preprocessing).eval()
        sizes = ({0: torch.export.Dim("batch")},)
        try:
            program = torch.export.export(module, (_images(pretrained),), dynamic_shapes=sizes)
        except (RuntimeError, ValueError, TypeError, AssertionError, NotImplementedError) as error:
            why = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"{pretrained.name} cannot be written as one program ({why}); give --format torch."
            ) from error
        with whole_file(path, is_only_writer=True) as file:
            torch.export.save(program, file)

    def read_back(self, path: Path, like: Pretrained) -> nn.Module:
        return torch.export.load(path).module()


FORMATS: dict[str, Format] = {"safetensors": Safetensors(), "torch": StateDict(), "torch-export": Program()}


class Normalized(nn.Module):
    """An encoder of images in [0, 1].

    Args:
        encoder: of normalized images.
        preprocessing: whose mean and std they are normalized by.
    """

    def __init__(self, encoder: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.encoder = encoder
        self.mean: Tensor
        self.std: Tensor
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(preprocessing, name)).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return the representations (B, D) of images (B, C, S, S) in [0, 1]."""
        return self.encoder((images - self.mean) / self.std)  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written, and how near what is read back comes to it. It stands for the path of the file.

    Args:
        path: of the file.
        format: its name.
        encoder: what the encoder is called.
        size: S, side of the images that it takes, in pixels.
        dim: D of its representations.
        difference: the largest absolute difference between a number of a representation and what it is when
            the file is read back, over 8 images of random pixels, always the same ones.
        largest: the largest absolute value among these numbers.
    """

    path: Path
    format: str
    encoder: str
    size: int
    dim: int
    difference: float
    largest: float

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def value(self) -> float:
        """The largest absolute difference between what was written and what is read back."""
        return self.difference

    def table(self) -> list[list[str]]:
        """Return it as rows of strings; the first row is the header."""
        header = ["encoder", "format", "image", "numbers", "largest difference", "of at most", "file"]
        row = [self.encoder, self.format, f"{self.size} px", str(self.dim)]
        return [header, [*row, f"{self.difference:.3g}", f"{self.largest:.3g}", str(self.path)]]

    def sentence(self) -> str:
        """Return where it is, how near it is, and how it is read."""
        reader = FORMATS[self.format].reader.replace("FILE", repr(str(self.path)))
        return (
            f"{self.path}: read back, representations of {_COMPARED} images differ by at most "
            f"{self.difference:.3g} (numbers up to {self.largest:.3g}); read it with {reader}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**asdict(self), "path": str(self.path), "value": self.value}


def export(
    encoder: str | os.PathLike[str] | Pretrained,
    out: str | os.PathLike[str],
    *,
    format: str = "torch",
    overwrite: bool = False,
) -> Exported:
    """Write an encoder as a file that others read, and say how near what is read back comes to it.

    Args:
        encoder: a run, its encoder.safetensors, timm:NAME or torchvision:NAME; in Python also what
            `byol.load` has opened, which stays as it is.
        out: the file to write; its name ends as files of the format do.
        format: of the file, by its name: "torch" (.pth), the weights that torchvision, timm or any network of
            these names loads; "torch-export" (.pt2), a program that needs torch alone, normalization inside;
            or "safetensors", which `byol.load` reads.
        overwrite: replace a file that is there.

    Raises:
        UserError: there is no such format or encoder, or the file cannot be written.
    """
    if format not in FORMATS:
        raise UserError(f"there is no format '{format}'; {nearest(str(format), FORMATS)}")
    chosen = FORMATS[format]
    path = place_to_write(out, "say where to write the encoder: --out FILE.")
    given = encoder if isinstance(encoder, Pretrained) else load(encoder)
    if path.suffix not in chosen.suffixes:
        raise UserError(f"{path} does not end in {' or '.join(chosen.suffixes)}, as files of {format} do.")
    if path.is_dir() or (path.exists() and not overwrite):
        raise UserError(f"{path} exists already; replace it with --overwrite, or choose another --out.")
    try:
        pretrained = copy.deepcopy(given).cpu().eval()
    except (RuntimeError, TypeError, pickle.PicklingError) as error:  # of weights that are computed
        raise UserError(f"{given.name} cannot be copied, so it cannot be exported: {error}.") from error
    with torch.no_grad(), in_eval_mode(pretrained):
        chosen.write(pretrained, path)
        images = _images(pretrained)
        before = pretrained(pretrained.preprocessing.normalize(images))
        after = chosen.read_back(path, pretrained)(images)
    return Exported(
        path=path,
        format=format,
        encoder=given.name,
        size=pretrained.preprocessing.size,
        dim=before.shape[1],
        difference=(before - after).abs().max().item(),
        largest=before.abs().max().item(),
    )


def _images(pretrained: Pretrained) -> Tensor:
    """Return the images that are compared, (8, C, S, S) in [0, 1], always the same ones."""
    shape = pretrained.preprocessing.shape
    return torch.rand(_COMPARED, *shape, generator=torch.Generator().manual_seed(0))

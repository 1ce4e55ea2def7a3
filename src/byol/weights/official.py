"""The officially published checkpoints, pickled trees of NumPy arrays, as encoders here.

The official README names two: pretrain_res50x1.pkl and pretrain_res200x2.pkl.

Source: official `byol_experiment.py` (_ByolExperimentState).
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from byol.data.image.preprocessing import Preprocessing
from byol.errors import UserError
from byol.model.encoder import ResNet
from byol.run.folder import RunFolder
from byol.run.provenance import provenance
from byol.system.files import given_path, place_to_write, write_json
from byol.weights.encoder_file import save_encoder
from byol.weights.haiku import Tree, convert
from byol.weights.pickled import PlainArray, PlainTuple, read_pickle

SIZE = 224
FRACTION = 0.875  # of the shorter side; official `utils/dataset.py:247-268`, which rounds the corner up


@dataclass(frozen=True, kw_only=True)
class Imported:
    """An official encoder that has become one of ours. It stands for its path wherever one is asked for.

    Args:
        path: of the encoder.
        source: name of the file that it comes from.
        sha256: of that file.
        step: after which it was saved; None where the file does not tell.
        architecture: of the encoder.
        num_weights: how many numbers it has learned.
    """

    path: Path
    source: str
    sha256: str
    step: int | None
    architecture: ResNet
    num_weights: int

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def value(self) -> float:
        """How many numbers the encoder has learned."""
        return float(self.num_weights)

    def table(self) -> list[list[str]]:
        """Return what was found as rows of strings; the first row is the header."""
        return [
            ["file", "network", "width", "step", "weights", "encoder"],
            [
                self.source,
                f"ResNet-{self.architecture.depth}",
                f"{self.architecture.width}x",
                "-" if self.step is None else f"{self.step:,}",
                f"{self.num_weights:,}",
                str(self.path),
            ],
        ]

    def sentence(self) -> str:
        """Return what was written, and where."""
        network = f"ResNet-{self.architecture.depth} of {self.architecture.width}x width"
        return f"{self.source}: a {network}, {self.num_weights:,} weights; written to {self.path}"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**asdict(self), "path": str(self.path), "value": self.value}


def import_official(
    file: str | os.PathLike[str], out: str | os.PathLike[str], *, overwrite: bool = False
) -> Imported:
    """Write the online encoder of an official checkpoint as OUT/encoder.safetensors.

    Target network, projector, predictor, classifier and the optimizer's state are left behind. Reading
    takes about one and a half times the file's size in memory.

    Args:
        file: the checkpoint, or any pickle of a mapping with `online_params` and `online_state`.
        out: the folder to write; `byol.load` and `byol eval` take it like a run.
        overwrite: write into a folder that is not empty; nothing but encoder and provenance is replaced.

    Raises:
        UserError: the file cannot be read, needs more than arrays and containers, or does not hold an
            encoder that we know; or `out` is not empty.
    """
    file = given_path(file, "say which checkpoint: byol import FILE.pkl --out RUN.")
    folder = RunFolder(place_to_write(out, "say where to write the encoder: --out RUN."))
    if folder.path.exists() and not folder.path.is_dir():
        raise UserError(f"{folder.path} is a file; choose another --out.")
    if not overwrite and folder.path.exists() and any(folder.path.iterdir()):
        raise UserError(f"{folder.path} is not empty; choose another --out, or write into it by --overwrite.")
    content, digest = read_pickle(file)
    params, state, step = _online(content, file)
    spec, weights = convert(params, state, str(file))
    with torch.device("meta"):  # all weights come from the file, so none is drawn
        encoder = spec.build()
    encoder.load_state_dict(weights, assign=True)
    folder.path.mkdir(parents=True, exist_ok=True)
    write_json(folder.provenance, provenance(imported=file.name, sha256=digest, step=step))
    save_encoder(folder.encoder, encoder, spec, Preprocessing(size=SIZE, fraction=FRACTION))
    return Imported(
        path=folder.encoder,
        source=file.name,
        sha256=digest,
        step=step,
        architecture=spec,
        num_weights=sum(parameter.numel() for parameter in encoder.parameters()),
    )


def _online(content: Any, file: Path) -> tuple[Tree, Tree, int | None]:
    """Return parameters and state of the online network, and the step."""
    outer = content if isinstance(content, dict) else {}
    state = outer.get("experiment_state", content)
    if isinstance(state, PlainTuple) and len(state) == 5:  # online and target parameters, then their states
        state = {"online_params": state[0], "online_state": state[2]}
    if not isinstance(state, dict) or not {"online_params", "online_state"} <= state.keys():
        raise UserError(f"{file} holds no online_params and online_state; give an official checkpoint.")
    step = outer.get("step")
    if isinstance(step, np.ndarray) and step.shape == () and step.dtype.kind in "iu":
        step = int(step)
    return (
        _tree(state["online_params"], file),
        _tree(state["online_state"], file),
        step if isinstance(step, int) else None,
    )


def _tree(modules: Any, file: Path) -> Tree:
    """Return two levels of names with arrays below, and nothing else."""
    tree: dict[str, dict[str, NDArray[Any]]] = {}
    for module, arrays in _items(modules, file):
        tree[module] = {}
        for name, value in _items(arrays, file):
            array = getattr(value, "values", None) if isinstance(value, PlainArray) else value
            if not isinstance(array, np.ndarray):
                raise UserError(f"{file} holds no array at {module} {name}; give an official checkpoint.")
            tree[module][name] = array
    return tree


def _items(names: Any, file: Path) -> list[tuple[str, Any]]:
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{file} holds parameters without names; give an official checkpoint.")
    return list(names.items())

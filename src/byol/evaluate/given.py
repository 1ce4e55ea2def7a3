"""Encoders as a person gives them to be judged, and where what is found about one is filed."""

import json
import os
from pathlib import Path
from typing import Any

from byol.model.encoder import representation_dim
from byol.run.folder import RunFolder
from byol.system.files import append_line
from byol.system.home import expanded
from byol.system.progress import Progress
from byol.weights.pretrained import Pretrained, load

Encoder = str | os.PathLike[str] | Pretrained  # what `byol.load` opens, a `Run` among them, or has opened


def opened(encoder: Encoder) -> Pretrained:
    """Return an encoder, after making sure that it takes its images and gives (B, D).

    Raises:
        UserError: there is none, or it does not.
    """
    found = encoder if isinstance(encoder, Pretrained) else load(_named(encoder))
    representation_dim(found.encoder, found.preprocessing.shape)  # refuses what is not (B, D)
    return found


def _named(encoder: str | os.PathLike[str]) -> str:
    """Return the path or name of an encoder as it was given, but for `~`, which is home."""
    if not isinstance(encoder, str | os.PathLike):
        return encoder  # what is none `load` refuses
    name = os.fspath(encoder)
    return str(expanded(name)) if name.startswith("~") else name


def file_result(encoder: Encoder, value: dict[str, Any], progress: Progress) -> None:
    """Add a line to the results of a run, where the encoder is that of one; trouble there loses nothing."""
    if isinstance(encoder, Pretrained) or not Path(_named(encoder)).is_dir():
        return
    path = RunFolder(Path(_named(encoder))).results / "results.jsonl"
    try:  # a protocol of somebody's own may have chosen NumPy numbers or paths, which JSON does not know
        plain = json.dumps(value, default=lambda it: it.tolist() if hasattr(it, "tolist") else str(it))
        append_line(path, plain)
    except OSError as error:
        progress.say(f"note: the result was not filed in {path}: {error.strerror or error}.")

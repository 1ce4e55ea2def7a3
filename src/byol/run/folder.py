"""The run folder: which file lies where, and who may write into it."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from byol.errors import UserError
from byol.system.lock import held

_LOCK = ".lock"  # held by the process that writes here
_BEGUN = ".begun"  # here from the first write of a run to its first checkpoint: nothing has been learned yet


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run; nothing is touched until a method says so.

    Args:
        path: the folder.
    """

    path: Path

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.json"

    @property
    def provenance(self) -> Path:
        return self.path / "provenance.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def encoder(self) -> Path:
        return self.path / "encoder.safetensors"

    @property
    def figure(self) -> Path:
        return self.path / "figure.png"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def results(self) -> Path:
        return self.path / "results"

    def refuse_occupied(self, *, overwrite: bool) -> None:
        """Raise a UserError where something is in the way: a run, unless `overwrite`, or what is none.

        A run that was killed before its first checkpoint has learned nothing and is in nobody's way.
        """
        if self.is_begun:
            return
        if self.recipe.exists():
            if not overwrite:
                raise UserError(
                    f"{self.path} already holds a run; continue it with --resume "
                    f"{shlex.quote(str(self.path))}, replace it with --overwrite, or choose another --out."
                )
        elif self.path.exists() and (not self.path.is_dir() or self._holds_something()):
            raise UserError(f"{self.path} exists and is not a run folder; choose another --out.")

    def _holds_something(self) -> bool:
        begun = {self.path / _LOCK, self.path / ".recipe.json.tmp"}  # of a run that was killed at once
        if self.checkpoints.is_dir() and not any(self.checkpoints.iterdir()):
            begun.add(self.checkpoints)
        return any(path not in begun for path in self.path.iterdir())

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Context of a run that writes here: no other may begin, resume or replace one meanwhile.

        Raises:
            UserError: a run of another process is going on here.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        refusal = (
            f"a run is going on in {self.path} (process {{holder}}); wait for it, stop it, or choose another "
            "--out."
        )
        with held(self.path / _LOCK, refusal):
            yield

    @property
    def is_begun(self) -> bool:
        """Whether a run was begun here that has no checkpoint yet, or was killed before it had one."""
        return (self.path / _BEGUN).exists()

    def has_checkpoint(self) -> None:
        """Note that a run was not only begun: from now on it is continued."""
        (self.path / _BEGUN).unlink(missing_ok=True)

    @property
    def is_in_use(self) -> bool:
        """Whether a run of another process is going on here at this moment."""
        if not self.path.is_dir():
            return False
        try:
            with self.in_use():
                return False
        except UserError:
            return True

    def create(self, *, overwrite: bool) -> None:
        """Make the folder. Of a run that it held, what this program wrote goes, and nothing else.

        Raises:
            UserError: it holds a run already and `overwrite` is off, or it is not a run and not empty.
        """
        self.refuse_occupied(overwrite=overwrite)
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / _BEGUN).touch()
        for inner, names in (
            (self.checkpoints, ("step-*.pt", ".step-*.pt.tmp")),
            (self.results, ("results.jsonl",)),
            (self.tensorboard, ("events.out.tfevents.*",)),
        ):
            for name in names:
                for written in inner.glob(name):
                    written.unlink()
            with suppress(OSError):  # of others, not empty, or not there
                inner.rmdir()
        for written in (self.metrics, self.encoder, self.figure, self.summary, self.provenance, self.recipe):
            written.unlink(missing_ok=True)  # the recipe last: until then it is still known for a run
        self.checkpoints.mkdir(parents=True, exist_ok=True)

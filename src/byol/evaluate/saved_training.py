"""Where a training with labels stands, saved after each epoch, so that a stopped one goes on there."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from byol.errors import UserError
from byol.run import checkpoint
from byol.system.device import Device


class SavedTraining:
    """The state of a training, in memory and on disk.

    Args:
        folder: of its own.
        network: what learns.
        optimizer: of the network.
        device: where both are.
    """

    def __init__(
        self, folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer, device: Device
    ) -> None:
        self._folder, self._network, self._optimizer, self._device = folder, network, optimizer, device
        self.epoch, self.best_epoch, self.is_finished = 0, 0, False
        self.held_out: list[list[float]] = []
        self._best: dict[str, Tensor] = {}

    def restore(self) -> None:
        """Go on from the newest epoch that was saved, if there is one."""
        if (path := checkpoint.newest(self._folder)) is None:
            return
        try:
            state = checkpoint.load(path, self._device.device)
        except UserError:  # damaged, or of an older version: what can be computed again needs no person
            path.unlink()
            return self.restore()
        self.epoch, self.best_epoch = state["step"], state["best_epoch"]
        self.held_out, self._best = state["held_out"], state["best"]
        self._network.load_state_dict(state["network"])
        self.is_finished = state["optimizer"] is None
        if not self.is_finished:
            self._optimizer.load_state_dict(state["optimizer"])

    def end_epoch(self, scores: list[float] | None) -> None:
        """Record an epoch and save it. On ties the earlier epoch wins.

        Args:
            scores: what each classifier achieves on held-out images, more is better; None without any.
        """
        self.epoch += 1
        if scores is None:
            self.best_epoch = self.epoch
        else:
            if not self.held_out or max(scores) > max(map(max, self.held_out)):
                self.best_epoch = self.epoch
                self._best = {k: v.detach().clone() for k, v in self._network.state_dict().items()}
            self.held_out.append(scores)
        self._save(self._optimizer.state_dict())

    def is_over(self, patience: int | None) -> bool:
        """Return whether it has ended, or has got no better for `patience` epochs."""
        return self.is_finished or (patience is not None and self.epoch - self.best_epoch >= patience)

    def finish(self) -> None:
        """Keep the best network, or the last where nothing was held out, and of the files just that."""
        if self.is_finished:
            return
        if self._best:
            self._network.load_state_dict(self._best)
        self._best = {}
        older = checkpoint.newest(self._folder)
        self.epoch += 1  # a step of its own, so that no reader finds half of it
        path = self._save(None)
        if older is not None and older != path:
            older.unlink()

    def _save(self, optimizer: dict[str, Any] | None) -> Path:
        state = {
            "best_epoch": self.best_epoch,
            "held_out": self.held_out,
            "best": self._best,
            "network": self._network.state_dict(),
            "optimizer": optimizer,
        }
        return checkpoint.save(self._folder, self.epoch, state)

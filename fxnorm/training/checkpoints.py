"""Checkpoints: all that a training run needs to go on as if it had never stopped.

Files hold tensors and plain values only and are read with PyTorch's weights-only loader, so a checkpoint from elsewhere
cannot run code.
"""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fxnorm.errors import ModelError
from fxnorm.files import whole_file

_PATTERN = "step-*.pt"


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run in a folder: the newest few, and the best weights.

    Args:
        folder: where they lie.
        fingerprint: names the settings and data of the run; a checkpoint of another run is not gone on from.
        keep: how many of the newest are kept.
    """

    folder: Path
    fingerprint: str
    keep: int = 2

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state after ``step`` steps, whole or not at all, and let the oldest go."""
        with whole_file(self.folder / f"step-{step:09d}.pt") as temporary:
            torch.save({"fingerprint": self.fingerprint, "state": state}, temporary)
        for old in sorted(self.folder.glob(_PATTERN))[: -self.keep]:
            old.unlink()

    def newest(self) -> dict[str, Any] | None:
        """The state to go on from, or None if this run has not begun yet.

        Raises:
            ModelError: a checkpoint is there and cannot be read.
        """
        for path in sorted(self.folder.glob(_PATTERN), reverse=True):
            stored = _load(path)
            if stored.get("fingerprint") == self.fingerprint:
                return stored["state"]
        return None

    def clear(self) -> None:
        """Remove what another run left."""
        for path in self.folder.glob("*.pt"):
            path.unlink()


def _load(path: Path) -> dict[str, Any]:
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        raise ModelError(f"{path}: not readable as a checkpoint ({str(error).splitlines()[0]})") from error
    if not isinstance(stored, dict) or "state" not in stored:
        raise ModelError(f"{path}: expected a training checkpoint with a state, found something else")
    return stored

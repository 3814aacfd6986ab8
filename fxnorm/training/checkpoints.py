"""Checkpoints: all that a training run needs to go on as if it had never stopped.

Files hold tensors and plain values only and are read with PyTorch's weights-only loader, so a checkpoint from elsewhere
cannot run code. They lie in a folder or, for machines that are taken away with their disks, in an S3 store.
"""

import contextlib
import hashlib
import pickle
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from fxnorm import bounded, object_store
from fxnorm.errors import FxnormError, ModelError
from fxnorm.files import whole_file

BEST_FILE = "best.safetensors"
_PATTERN = "step-*.pt"
_FORMAT = 2
_NAME_LENGTH = 16
_UNREADABLE = ".unreadable"


def name_of(identity: str) -> str:
    """Name of the folder for the checkpoints of one run: another one for each ``identity``, which says what is learnt.

    So a run never goes on from another one's checkpoints, and never removes them either: whoever takes a setting back
    goes on with the run that had it.
    """
    return hashlib.sha256(f"format {_FORMAT}\n{identity}".encode()).hexdigest()[:_NAME_LENGTH]


@contextlib.contextmanager
def opened(parent: str, name: str, keep: int) -> Iterator["Checkpoints"]:
    """The checkpoints ``name`` in a folder, or in an S3 store if ``parent`` is ``s3://BUCKET/KEY``."""
    if not object_store.is_address(parent):
        yield Checkpoints(Path(parent) / name, keep)
        return
    with tempfile.TemporaryDirectory(prefix="fxnorm-checkpoints-") as folder:
        yield StoredCheckpoints(Path(folder), keep, store=object_store.Folder(f"{parent.rstrip('/')}/{name}"))


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run in a folder: the newest few, and the best weights.

    Args:
        folder: where they lie.
        keep: how many of the newest are kept.
    """

    folder: Path
    keep: int = 2

    @property
    def place(self) -> str:
        """Where a user finds them."""
        return str(self.folder)

    def fetch(self) -> None:
        """Bring into the folder what belongs there, before anything else is asked of it."""

    def publish(self) -> None:
        """See to it that what is in the folder now outlives this machine, as far as the folder itself does not."""

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state after ``step`` steps, whole or not at all, and let the oldest go.

        Raises:
            ModelError: it cannot be written; those written before stay.
        """
        path = self.folder / f"step-{step:09d}.pt"
        try:
            with whole_file(path) as temporary:
                torch.save({"state": state}, temporary)
        except (OSError, RuntimeError) as error:
            raise ModelError(f"{path}: the checkpoint cannot be written ({_first_line(error)})") from error
        for old in sorted(self.folder.glob(_PATTERN))[: -self.keep]:
            old.unlink()
        self.publish()

    def save_best(self, weights: Mapping[str, Tensor], step: int, validation_loss: float) -> None:
        """Write the best weights so far, to look at or to start from; going on does not need them."""
        with whole_file(self.folder / BEST_FILE) as temporary:
            save_file(dict(weights), temporary, {"step": str(step), "validation_loss": repr(validation_loss)})

    def newest(self) -> dict[str, Any] | None:
        """The state to go on from, or None if this run has not begun yet.

        A checkpoint that cannot be read is said, put aside under another name, and the one before it serves.

        Raises:
            ModelError: checkpoints are there and none can be read.
        """
        for leftover in self.folder.glob(".step-*.pt"):
            leftover.unlink()  # of a process that was killed while it wrote
        unreadable: list[ModelError] = []
        paths = sorted(self.folder.glob(_PATTERN), reverse=True)
        for path in paths:
            try:
                state = _load(path)
            except ModelError as error:
                unreadable.append(error)
                continue
            for damaged, reason in zip(paths, unreadable, strict=False):
                tqdm.write(f"train: {reason}; going on from {path.name}, the one before")
                damaged.rename(damaged.with_suffix(_UNREADABLE))
            return state
        if unreadable:
            raise ModelError(f"{unreadable[0]}; nor is one before it: remove {self.folder} to start anew")
        return None


@dataclass(frozen=True)
class StoredCheckpoints(Checkpoints):
    """Checkpoints in an S3 store, with a folder of this machine to read and write them in.

    While the store does not answer, training goes on, says so, and tries again at the next checkpoint.
    """

    store: object_store.Folder = field(kw_only=True)
    _stored: dict[str, int] = field(default_factory=dict, init=False)
    """Name -> time of writing, of the files that the store has."""

    @property
    def place(self) -> str:
        return self.store.address

    def fetch(self) -> None:
        names = [name for name in self.store.names() if _is_kept(name)]
        for name in tqdm(names, "fetch checkpoints", unit="file", delay=2.0, leave=False):
            path = self.folder / name
            self.store.download(name, path)
            self._stored[name] = path.stat().st_mtime_ns

    def publish(self) -> None:
        present = {path.name: path.stat().st_mtime_ns for path in self.folder.iterdir() if _is_kept(path.name)}
        try:
            for name in sorted(present):
                if self._stored.get(name) != present[name]:
                    self.store.upload(self.folder / name, name)
                    self._stored[name] = present[name]
            for name in self._stored.keys() - present.keys():  # after the newer ones have arrived
                self.store.remove(name)
                del self._stored[name]
        except FxnormError as error:
            tqdm.write(f"train: {error}; training goes on, and tries again at the next checkpoint")


def _is_kept(name: str) -> bool:
    return not name.startswith(".") and not name.endswith(_UNREADABLE)


def _load(path: Path) -> dict[str, Any]:
    try:
        bounded.refuse_inflating(path)
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # PyTorch writes checksums and does not look at them
        if damaged is not None:
            raise zipfile.BadZipFile(f"the checksum of {damaged} does not match")
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path}: not readable as a checkpoint ({_first_line(error)})") from error
    if not isinstance(stored, dict) or "state" not in stored:
        raise ModelError(f"{path}: expected a training checkpoint with a state, found something else")
    return stored["state"]


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]

"""Checkpoints: all that a training run needs to go on as if it had never stopped.

Files hold tensors and plain values only and are read with PyTorch's weights-only loader, so a checkpoint from elsewhere
cannot run code. They lie in a folder or, for machines that are taken away with their disks, in an S3 store.
"""

import contextlib
import hashlib
import logging
import os
import pickle
import shutil
import socket
import tempfile
import time
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from fxnorm.errors import FxnormError, ModelError, OutputError, StoreError, first_line, printable, system_reason
from fxnorm.io import bounded, object_store
from fxnorm.io.files import whole_file
from fxnorm.io.folders import is_foreign
from fxnorm.mixing.mixer import write_weights

BEST_FILE = "best.safetensors"
_PATTERN = "step-*.pt"
_FORMAT = 2
_NAME_LENGTH = 16
_UNREADABLE = ".unreadable"
_OWNER = ".owner"
"""In a store, who writes there."""
_MOST_REFUSALS = 3

_log = logging.getLogger(__name__)


def name_of(identity: str) -> str:
    """Name of the folder for the checkpoints of one run: another one for each ``identity`` (what is learnt).

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
    folder = Path(tempfile.mkdtemp(prefix="fxnorm-checkpoints-"))
    checkpoints = StoredCheckpoints(folder, keep, store=object_store.Folder(f"{parent.rstrip('/')}/{name}"))
    try:
        yield checkpoints
    finally:
        if checkpoints.all_stored():
            shutil.rmtree(folder)
        else:
            _log.warning("%s lacks the newest checkpoints; they stay in %s", checkpoints.location, folder)


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
    def location(self) -> str:
        """Where a user finds them."""
        return str(self.folder)

    def fetch(self) -> None:
        """Bring the run's checkpoints into the folder, before any other method is called."""

    def publish(self) -> None:
        """Copy the folder's files to where they outlive this machine; a plain folder needs no copy."""

    def release(self) -> None:
        """Allow another run to take them over, where no lock does that."""

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state after ``step`` steps, whole or not at all, and let the oldest go.

        Raises:
            FxnormError: it cannot be written; those written before stay.
        """
        path = self.folder / f"step-{step:09d}.pt"
        with _writing(path, "the checkpoint"):
            with whole_file(path) as temporary, open(temporary, "wb") as file:
                torch.save({"state": state}, file)
            for old in sorted(self.folder.glob(_PATTERN))[: -self.keep]:
                old.unlink()
        self.publish()

    def save_best(self, weights: Mapping[str, Tensor], step: int, validation_loss: float) -> None:
        """Write the best weights so far, to look at or to start from; going on does not need them."""
        path = self.folder / BEST_FILE
        with _writing(path, "the best weights"), whole_file(path) as temporary:
            write_weights(weights, temporary, {"step": str(step), "validation_loss": repr(validation_loss)})

    def newest(self) -> dict[str, Any] | None:
        """The state to go on from, or None if this run has not begun yet.

        A checkpoint that cannot be read is reported and renamed, and the one before it is used.

        Raises:
            ModelError: checkpoints exist and none can be read.
        """
        for leftover in self.folder.glob(".step-*.pt"):
            leftover.unlink(missing_ok=True)  # of a process that was killed while it wrote: this one has the lock
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


def _new_owner() -> bytes:
    return f"process {os.getpid()} on {socket.gethostname()} ({uuid.uuid4().hex[:8]})".encode()


@dataclass
class _Storing:
    """What the store has taken and refused so far."""

    since: float = field(default_factory=time.monotonic)
    """When the store last had all files of the folder."""
    step: int = 0
    """The newest checkpoint that it has."""
    refusals: int = 0
    """How many in a row."""
    owned: bool = False
    """Whether this run has left its name there."""
    warned: bool = False
    """Whether the user has been warned that the store lacks files."""


@dataclass(frozen=True)
class StoredCheckpoints(Checkpoints):
    """Checkpoints in an S3 store, with a folder of this machine to read and write them in.

    While the store does not answer, training goes on, warns of the work that would be lost, and tries again at the next
    checkpoint. A store that answers and refuses will most likely refuse the next checkpoints too: after a few of them
    training ends, and its checkpoints stay on this machine.

    There are no locks in a store. A run leaves its name there when it begins, and looks for it before it writes: one
    that finds another's has been replaced, and ends without touching what the other has written.
    """

    store: object_store.Folder = field(kw_only=True)
    _stored: dict[str, int] = field(default_factory=dict, init=False)
    """Name -> time of writing, of the files that the store has."""
    _storing: _Storing = field(default_factory=_Storing, init=False)
    _owner: bytes = field(default_factory=_new_owner, init=False)

    @property
    def location(self) -> str:
        return self.store.address

    def fetch(self) -> None:
        names = [name for name in self.store.names() if _is_kept(name)]
        self.store.write(_OWNER, self._owner)  # a store that takes no checkpoints refuses this, before any work is done
        self._storing.owned = True
        for name in tqdm(names, "fetch checkpoints", unit="file", delay=2.0, leave=False):
            path = self.folder / name
            self.store.download(name, path)
            self._stored[name] = path.stat().st_mtime_ns
        self._storing.step = max(map(_step_of, self._stored), default=0)

    def publish(self) -> None:
        """Upload new files and remove old ones; a store that does not answer is tried again at the next checkpoint.

        Raises:
            ModelError: another run has taken the checkpoints over, or the store has refused several in a row.
        """
        try:
            self._refuse_if_replaced()
            self._send()
        except StoreError as error:
            self._warn(error)
            self._storing.refusals = self._storing.refusals + 1 if error.refused else 0
        except _ReplacedError:
            raise
        except FxnormError as error:
            self._warn(error)
            self._storing.refusals += 1
        if self._storing.refusals >= _MOST_REFUSALS:
            raise ModelError(
                f"{self.location}: has refused {_MOST_REFUSALS} checkpoints in a row; training ends, its checkpoints"
                f" stay in {self.folder}; when the store takes them, put them there and the same command goes on"
            )

    def release(self) -> None:
        try:
            if self.store.read(_OWNER) == self._owner:
                self.store.remove(_OWNER)
        except FxnormError as error:
            _log.info("%s", error)  # the next run takes it over all the same

    def all_stored(self) -> bool:
        """Whether the store has all files of the folder."""
        return all(self._stored.get(name) == written for name, written in self._present().items())

    def _refuse_if_replaced(self) -> None:
        if not self._storing.owned:
            return
        owner = self.store.read(_OWNER)
        if owner != self._owner:
            other = "a run that has ended" if owner is None else printable(owner.decode(errors="replace"), 100)
            raise _ReplacedError(
                f"{self.location}: these checkpoints were taken over by {other}; this run ends and leaves them alone"
            )

    def _send(self) -> None:
        present = self._present()
        for name in sorted(present):
            if self._stored.get(name) != present[name]:
                self.store.upload(self.folder / name, name)
                self._stored[name] = present[name]
        for name in self._stored.keys() - present.keys():  # after the newer ones have arrived
            self.store.remove(name)
            del self._stored[name]
        if self._storing.warned:
            tqdm.write(f"train: {self.location} has all checkpoints again")
        self._storing.since, self._storing.warned, self._storing.refusals = time.monotonic(), False, 0
        self._storing.step = max(map(_step_of, present), default=0)

    def _present(self) -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in self.folder.iterdir() if _is_kept(path.name)}

    def _warn(self, error: FxnormError) -> None:
        hours = (time.monotonic() - self._storing.since) / 3600
        tqdm.write(
            f"train: {error}; NOTHING IS KEPT SINCE STEP {self._storing.step}: {hours:.1f} hours of work are lost if"
            " this machine is; training goes on, and tries again at the next checkpoint"
        )
        self._storing.warned = True


class _ReplacedError(ModelError):
    """Another run has these checkpoints now."""


def _step_of(name: str) -> int:
    number = name.removeprefix("step-").removesuffix(".pt")
    return int(number) if number.isdecimal() else 0


@contextlib.contextmanager
def _writing(path: Path, content: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, OutputError) as error:
        # PyTorch's own message does not say that the disk is full
        refused = error.__context__ if isinstance(error.__context__, OSError) else None
        reason = first_line(error) if refused is None else system_reason(refused)
        raise ModelError(
            f"{path}: {content} cannot be written ({reason}); those written before stay, and the same command goes on"
            " from them"
        ) from error


def _is_kept(name: str) -> bool:
    return not is_foreign(name) and not name.endswith(_UNREADABLE)


def _load(path: Path) -> dict[str, Any]:
    try:
        bounded.refuse_inflating(path)
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # PyTorch writes checksums and does not look at them
        if damaged is not None:
            raise zipfile.BadZipFile(f"the checksum of {damaged} does not match")
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path}: not readable as a checkpoint ({first_line(error)})") from error
    if not isinstance(stored, dict) or "state" not in stored:
        raise ModelError(f"{path}: expected a training checkpoint with a state, found something else")
    return stored["state"]

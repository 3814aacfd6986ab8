"""Blocks of remote files on a disk of this machine, up to a bound, for several processes and over restarts.

Each block is a file of its own with a checksum behind it, so that one of which a process was killed while writing, or
that a disk damaged, is read again from where it came. Which blocks there are is what lies in the folder; a count of
their bytes beside them, under a lock, says when some have to go: those that were not read for longest.

Of libraries that keep blocks on disk, fsspec's caching file systems have no bound, and diskcache unpickles what it
finds.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import random
import secrets
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fxnorm.errors import OutputError, system_reason

_BLOCKS = "blocks-1"  # the number is that of the layout
_LOCK, _COUNT = "lock", "bytes"
_CHECKSUM_BYTES = 4
_DISK_UNIT = 4096  # bytes: what a file takes of a disk is a multiple of it
_KEPT = 0.9  # of the bound, when blocks are removed: the folder is not looked through for each new one
_ADMITTED = 1 / 8
"""Of the blocks that come when the cache is full, each of which puts another out. Where all are asked for equally
often, as those of training are, the latest are worth no more than others, and most of the writing is for nothing."""
_LATEST = 2**63  # ns: of what is being written
_ABANDONED_SECONDS = 600  # after which a file under a temporary name is a killed process's

_log = logging.getLogger(__name__)
_warned = threading.Event()


@dataclass(frozen=True)
class BlockCache:
    """Blocks by name.

    Args:
        folder: for this alone; other processes may use it at the same time.
        most_bytes: that the blocks take of the disk, those that are being written among them.
    """

    folder: Path
    most_bytes: int

    def prepare(self) -> None:
        """Make the folder, and bring what is in it to the bound, which may have been another.

        Raises:
            OutputError: it cannot be written to.
        """
        try:
            self._blocks.mkdir(parents=True, exist_ok=True)
            with self._locked() as count:
                used = _number(count)
                if used is None or used > self.most_bytes:
                    os.pwrite(count, f"{self._make_room(0):<20}".encode(), 0)
        except OSError as error:
            raise OutputError(
                f"{self.folder}: cannot be written to ({system_reason(error)}); resources.cache_folder names another"
                " folder, and resources.cache_gb=0 does without"
            ) from error

    def get(self, name: str, length: int) -> bytes | None:
        """The block, if it is there whole."""
        path = self._path(name)
        try:
            with open(path, "rb", buffering=0) as file:
                content = file.readall()
            os.utime(path)
        except OSError:
            return None  # also one that has just been removed
        block, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
        if len(block) == length and checksum == _checksum(block):
            return block
        _log.info("%s: damaged, and read again", path)
        with contextlib.suppress(OSError):
            os.unlink(path)
        return None

    def put(self, name: str, block: bytes) -> None:
        """Keep a block, and remove others to make room; a disk that refuses keeps nothing, which is logged once."""
        size = _on_disk(len(block) + _CHECKSUM_BYTES)
        if size > self.most_bytes:
            return
        if self._is_full() and random.random() > _ADMITTED:
            return
        path = self._path(name)
        temporary = os.path.join(os.path.dirname(path), f".{secrets.token_hex(8)}")
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if not self._reserve(path, temporary, size):
                return
            with open(temporary, "r+b") as file:
                file.write(block)
                file.write(_checksum(block))
                file.truncate()
            os.replace(temporary, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            if not _warned.is_set():
                _warned.set()
                _log.warning(
                    "%s: blocks cannot be kept (%s): they are read from the store each time",
                    self.folder,
                    system_reason(error),
                )

    def _is_full(self) -> bool:
        with contextlib.suppress(OSError), open(os.path.join(self.folder, _COUNT), "rb", buffering=0) as file:
            return (_number(file.fileno()) or 0) > self.most_bytes * _KEPT
        return False

    @property
    def _blocks(self) -> Path:
        return self.folder / _BLOCKS

    def _path(self, name: str) -> str:
        digest = hashlib.sha256(name.encode()).hexdigest()
        return os.path.join(self.folder, _BLOCKS, digest[:1], digest[1:])  # few folders are quickly looked through

    def _reserve(self, path: str, temporary: str, size: int) -> bool:
        """Count a file that is about to be written, and make it as long as it will be; False if it is there already."""
        with self._locked() as count:
            if os.path.exists(path):
                return False
            used = _number(count)
            if used is None or used + size > self.most_bytes:
                used = self._make_room(size)
            with open(temporary, "xb") as file:
                file.truncate(size)  # whoever looks through the folder meanwhile counts it
            os.pwrite(count, f"{used + size:<20}".encode(), 0)
        return True

    def _make_room(self, size: int) -> int:
        """Remove what was not read for longest; returns the bytes of what is left."""
        files = sorted(self._files())
        used = sum(length for _, length, _ in files)
        most = min(self.most_bytes * _KEPT, self.most_bytes - size)
        for _, length, path in files:
            if used <= most or os.path.basename(path).startswith("."):
                break
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            used -= length
        return used

    def _files(self) -> Iterator[tuple[int, int, str]]:
        """Time of the last reading in ns, bytes on the disk, and path of each block."""
        for folder in os.scandir(self._blocks):
            for entry in os.scandir(folder.path):
                with contextlib.suppress(FileNotFoundError):
                    status, written = entry.stat(), not entry.name.startswith(".")
                    if written or time.time() - status.st_mtime < _ABANDONED_SECONDS:
                        yield status.st_mtime_ns if written else _LATEST, _on_disk(status.st_size), entry.path
                    else:
                        os.unlink(entry.path)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """The count's file, open, for one thread of one process."""
        descriptor = os.open(os.path.join(self.folder, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            count = os.open(os.path.join(self.folder, _COUNT), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                yield count
            finally:
                os.close(count)
        finally:
            os.close(descriptor)  # which lets go of the lock


def _number(descriptor: int) -> int | None:
    text = os.pread(descriptor, 20, 0).strip()
    return int(text) if text.isdigit() else None


def _on_disk(length: int) -> int:
    return -(-length // _DISK_UNIT) * _DISK_UNIT


def _checksum(block: bytes) -> bytes:
    return zlib.crc32(block).to_bytes(_CHECKSUM_BYTES)

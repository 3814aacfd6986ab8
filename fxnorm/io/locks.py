"""One process at a time: whoever writes to a folder holds its lock, and a second one is refused in one line.

The system lets go of a lock when its process ends, however that ends. The lock is a file beside the folder, so that
the folder contains the result alone; the file names the process that holds the lock.
"""

import contextlib
import errno
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from fxnorm.errors import FxnormError, printable
from fxnorm.io.files import beside

_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EACCES, errno.EROFS}
"""Errors of systems without locks (NFS without its daemon, CIFS, some FUSE), or without locks for this file."""
_HELD_BY_ANOTHER = {errno.EWOULDBLOCK, errno.EAGAIN}
_POLL_SECONDS = 0.1
_SHOWN = 100  # characters

_log = logging.getLogger(__name__)
_warned: set[Path] = set()


class LockedError(FxnormError):
    """Another process works on the same folder."""


def lock_file(target: Path, part: str = "") -> Path:
    """The file that stands for a folder or file, or for a part of the work on it."""
    return beside(Path(os.path.realpath(target)), f"{part}.lock")


@contextlib.contextmanager
def held(target: Path, part: str = "", shared: bool = False, wait: bool = False) -> Iterator[bool]:
    """Hold the lock of a folder or file within the block.

    Args:
        place: what is written; it need not be there yet.
        part: of the work on it, if there is a lock for each.
        shared: with others that share it.
        wait: for it to be free, instead of being refused.

    Yields:
        whether it is held: some file systems have no locks. That is logged, and no process is refused there.

    Raises:
        LockedError: another process holds it; the text names that.
    """
    path = lock_file(target, part)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _acquired(path, target, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, wait)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise FxnormError(f"{path}: cannot be locked ({error.strerror or error})") from error
        _warn_once(path, error)
        yield False
        return
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    except OSError as error:  # a full disk: the lock holds, only its file does not name this process
        _log.debug("%s: %s", path, error)
    try:
        yield True
    finally:
        with contextlib.suppress(OSError):
            # those who share it go on holding a file that has no name any more; the last one's removal is what counts
            if not shared or _to_itself(descriptor):
                path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquired(path: Path, target: Path, operation: int, wait: bool) -> int:
    """An open file that is locked, and that is the one that has the name now."""
    while True:
        descriptor = _opened(path)
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
            os.close(descriptor)  # whoever had it has just removed it
        except OSError as error:
            holder = os.pread(descriptor, _SHOWN, 0).decode(errors="replace").strip()
            os.close(descriptor)
            if error.errno not in _HELD_BY_ANOTHER:
                raise
            if not wait:
                raise LockedError(
                    f"{target}: another run is at work there ({printable(holder, _SHOWN) or 'it does not say which'});"
                    " wait until it has ended, or end it"
                ) from error
            time.sleep(_POLL_SECONDS)


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # another user's


def _to_itself(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _warn_once(path: Path, error: OSError) -> None:
    if path.parent not in _warned:
        _warned.add(path.parent)
        _log.warning(
            "%s: no locks here (%s): nothing keeps two runs that write to the same place from each other's way",
            path.parent,
            error.strerror or error,
        )

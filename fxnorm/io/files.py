"""Files and folders that are either whole or not there: written under a temporary name, moved into place when done.

What a file holds is on the disk before it gets its name, so a machine that loses its power leaves no empty file either.
A folder takes the place of an older one in one step, and only of one that its caller may replace.
"""

import contextlib
import ctypes
import errno
import fcntl
import gzip
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fxnorm.errors import OutputError, system_reason

_OURS = "fxnorm-"  # in every temporary name, so that nobody else's file is taken for one
_RANDOM = re.compile(r"[0-9a-f]{8}")
_ASIDE, _COPY = ".old", ".copy"
_MOST_NAME_BYTES, _MOST_SUFFIX_BYTES = 100, 16  # of a temporary name, whose file system may allow no more than 143

_UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_UNSUPPORTED_OF_FOLDERS = _UNSUPPORTED | {errno.EACCES, errno.EPERM, errno.EBADF, errno.EISDIR, errno.EROFS}
"""Network shares (CIFS), VirtualBox's and WSL's cannot bring a folder's names to the disk, some not even open one."""

_WRITE_ERRORS = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR,
    errno.EISDIR, errno.ENAMETOOLONG, errno.EBUSY, errno.EXDEV, errno.ENOTEMPTY, errno.EEXIST, errno.ELOOP,
}  # fmt: skip
"""Errors of writing a file. Any other error without a file's name may be of something else, such as a connection."""

_AT_WORKING_FOLDER, _RENAME_EXCHANGE = -100, 2  # of renameat2(2)

_log = logging.getLogger(__name__)


def is_temporary(name: str) -> bool:
    """Whether a name is one that this module gives while a file or folder is written; a killed process leaves such."""
    marker, _, random_part = name.rpartition(f".{_OURS}")
    return bool(marker) and name.startswith(".") and _RANDOM.match(random_part) is not None


def beside(path: Path, suffix: str) -> Path:
    """A hidden name beside ``path`` for what a command keeps there: the same each time, never too long."""
    return path.with_name(f".{_shortened(path.name)}{suffix}")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that becomes ``path`` when the block ends; if it raises, that file is removed.

    The suffix is kept, because writers such as soundfile and NumPy choose the format by it.

    Raises:
        OutputError: the system refuses to write it.
    """
    path = Path(path)
    prefix, suffix = _affixes(path, path.suffix)
    with _naming(path, prefix):
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in _leftovers(path.parent, prefix, suffix):
            _remove_if_abandoned(leftover)
        temporary, lock = _new_file(path.parent, prefix, suffix)
        try:
            yield temporary
            _to_disk(temporary, _UNSUPPORTED)
            lock.close()
            os.replace(temporary, path)
            _to_disk(path.parent, _UNSUPPORTED_OF_FOLDERS)
        finally:
            lock.close()
            remove(temporary)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """For a block that writes a file that a user named.

    Raises:
        OutputError: the system refuses to write it; one line that names it.
    """
    with _naming(path, None):
        yield


def refuse_filled(folder: Path) -> None:
    """Refuse a folder that holds anything.

    Raises:
        OutputError: it does.
    """
    if folder.is_dir() and any(not is_temporary(name) for name in os.listdir(folder)):
        raise OutputError(f"{folder}: holds something already; expected a new or empty folder")


def refuse_working_folder(path: Path) -> None:
    """Refuse the folder that the process works in, and those that hold it.

    Raises:
        OutputError: it is one.
    """
    with contextlib.suppress(FileNotFoundError):  # one that was removed meanwhile is within nothing
        working = Path(os.path.realpath(os.getcwd()))
        if path.is_dir() and any(os.path.samefile(path, folder) for folder in (working, *working.parents)):
            raise OutputError(
                f"{path}: is the working folder, or holds it; expected a folder of its own for what is made"
            )


def real_folder(path: Path) -> Path:
    """Where a folder that a user named really lies: what a symbolic link leads to, without ``.`` and ``..``.

    Raises:
        OutputError: the link leads nowhere, or the path is a file.
    """
    if path.is_symlink() and not path.exists():
        raise OutputError(f"{path}: is a symbolic link to {os.readlink(path)}, which is not there; make that folder")
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path}: expected a folder, found a file")
    return Path(os.path.realpath(path))


@contextlib.contextmanager
def whole_folder(path: Path, refuse: Callable[[Path], None] = refuse_filled) -> Iterator[Path]:
    """As :func:`whole_file`, for a folder; an older one is replaced in one step.

    Args:
        path: the folder; a symbolic link stays, and the folder that it leads to is replaced.
        refuse: raises an error for an older folder that must not be replaced; the default is one that holds anything.

    Raises:
        OutputError: it must not be replaced, or the system refuses to write it.
    """
    path = Path(path)
    with _naming(path, None):
        refuse_working_folder(path)
        target = real_folder(path)
    prefix, _ = _affixes(target, "", target.name)
    with _naming(path, prefix):
        target.parent.mkdir(parents=True, exist_ok=True)
        recover(target)
        refuse(target)
        temporary, lock = _new_folder(target.parent, prefix)
        try:
            yield temporary
            for content in [*temporary.rglob("*"), temporary]:
                _to_disk(content, _UNSUPPORTED_OF_FOLDERS if content.is_dir() else _UNSUPPORTED)
            refuse(target)  # once more: something may have been put there during the block
            lock.close()
            _put_in_place(temporary, target)
            _to_disk(target.parent, _UNSUPPORTED_OF_FOLDERS)
        except OutputError as error:  # of a file within
            raise OutputError(str(error).replace(str(temporary), str(path))) from error
        finally:
            lock.close()
            remove(temporary)


def recover(path: Path) -> None:
    """Clear up what a killed process left of its work on the folder ``path``; what it had set aside goes back."""
    prefix, _ = _affixes(path, "", path.name)
    for new in _leftovers(path.parent, prefix, f"({re.escape(_ASIDE)}|{re.escape(_COPY)})", pattern=True):
        written = new.with_name(new.name.removesuffix(_ASIDE).removesuffix(_COPY))
        if not _is_abandoned(written):
            continue
        if new.name.endswith(_COPY) or not written.exists():
            remove(new)  # the folder itself was not touched yet, or is replaced already
        elif path.exists():
            _log.warning("%s: kept, an older %s that a killed process had set aside", new, path)
        else:
            os.rename(new, path)
    for new in _leftovers(path.parent, prefix, ""):
        _remove_if_abandoned(new)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file with its time, if the file system can set that, and no other attribute."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    with contextlib.suppress(OSError):
        times = source.stat()
        os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))


def write_json(path: Path, content: Any) -> None:
    """``content`` as indented JSON; NaN and infinity are refused, because JSON cannot represent them."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_packed_json(path: Path, content: Any) -> None:
    """``content`` as JSON that is packed with gzip: the same bytes for the same content."""
    with (
        whole_file(path) as temporary,
        open(temporary, "wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6) as packed,
    ):
        packed.write(json.dumps(content, separators=(",", ":")).encode())


@contextlib.contextmanager
def _naming(path: Path, prefix: str | None) -> Iterator[None]:
    """The system's errors of writing ``path`` as one that names it, and those of other files as they are."""
    try:
        yield
    except OSError as error:
        names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
        folders = {
            str(folder) for spelled in (path, Path(os.path.realpath(path))) for folder in (spelled, *spelled.parents)
        }
        is_ours = any(name in folders or (prefix is not None and f"/{prefix}" in f"/{name}") for name in names)
        if isinstance(error, shutil.Error) or is_ours or (not names and error.errno in _WRITE_ERRORS):
            raise OutputError(f"{path}: cannot be written ({system_reason(error)})") from error
        raise


def _shortened(name: str, most: int = _MOST_NAME_BYTES) -> str:
    """A name of at most ``most`` bytes: itself, or its beginning, of whole characters, and a hash of all of it."""
    if len(os.fsencode(name)) <= most:
        return name
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
    beginning = name[:most]
    while len(os.fsencode(beginning)) > most - len(digest) - 1:
        beginning = beginning[:-1]
    return f"{beginning}-{digest}"


def _affixes(path: Path, suffix: str, name: str | None = None) -> tuple[str, str]:
    """What temporary names for ``path`` begin and end with."""
    kept_suffix = suffix if len(os.fsencode(suffix)) <= _MOST_SUFFIX_BYTES else ""
    return f".{_shortened(path.stem if name is None else name)}.{_OURS}", kept_suffix


class _Lock:
    """Held while something is written: another process, in another container too, sees that the writer is alive.

    File systems without such locks are left uncleared.
    """

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        if descriptor is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)  # before the file gets its name: some network shares do not rename open files
            self._descriptor = None


def _new_file(folder: Path, prefix: str, suffix: str) -> tuple[Path, _Lock]:
    """A new file that has the permissions that a plain ``open`` gives it."""
    while True:
        path = folder / f"{prefix}{secrets.token_hex(4)}{suffix}"
        lock = _Lock(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        if path.exists():  # else another process cleared it up before it was locked
            return path, lock
        lock.close()


def _new_folder(folder: Path, prefix: str) -> tuple[Path, _Lock]:
    while True:
        path = folder / f"{prefix}{secrets.token_hex(4)}"
        os.mkdir(path)
        try:
            lock = _Lock(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            continue
        except OSError:
            lock = _Lock(None)  # a file system that does not open folders
        if path.exists():
            return path, lock
        lock.close()


def _leftovers(folder: Path, prefix: str, suffix: str, pattern: bool = False) -> list[Path]:
    """Files or folders with temporary names."""
    name = re.compile(f"{re.escape(prefix)}{_RANDOM.pattern}{suffix if pattern else re.escape(suffix)}")
    try:
        return [folder / entry for entry in os.listdir(folder) if name.fullmatch(entry)]
    except FileNotFoundError:
        return []
    except PermissionError:  # a folder may be written to and not be read
        return []


def _is_abandoned(path: Path) -> bool:
    """Whether no living process writes it; also if it is not there at all."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False  # it is locked, or its file system has no locks
    finally:
        os.close(descriptor)
    return True


def _remove_if_abandoned(path: Path) -> None:
    if _is_abandoned(path):
        remove(path)


def remove(path: Path) -> None:
    """Remove a temporary file or folder; that it cannot be is no reason to fail, nor to hide why all failed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _to_disk(path: Path, unsupported: set[int]) -> None:
    """Have the system write a file's content, or a folder's names, to the disk now, where the file system can."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in unsupported:
            raise OSError(error.errno, error.strerror, str(path)) from error


def _put_in_place(new: Path, path: Path) -> None:
    """Give ``new`` the name ``path``; an older folder of that name is removed or has the name ``new`` afterwards."""
    if not path.exists():
        os.rename(new, path)
    elif not _exchange(new, path):
        aside = new.with_name(f"{new.name}{_ASIDE}")
        _set_aside(path, aside, new.with_name(f"{new.name}{_COPY}"))
        try:
            os.rename(new, path)
        except OSError:
            os.rename(aside, path)
            raise
        remove(aside)


def _exchange(first: Path, second: Path) -> bool:
    """Let two folders change their names in one step; False where the system or the file system cannot."""
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):  # C libraries other than glibc may lack it
        return False
    names = os.fsencode(first), os.fsencode(second)
    return bool(rename(_AT_WORKING_FOLDER, names[0], _AT_WORKING_FOLDER, names[1], _RENAME_EXCHANGE) == 0)


def _set_aside(path: Path, aside: Path, copy: Path) -> None:
    try:
        os.rename(path, aside)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # overlayfs, which containers' files lie on, does not rename folders of an image
        shutil.copytree(path, copy, symlinks=True)
        os.rename(copy, aside)
        shutil.rmtree(path)

"""Zip archives of a source, read without being unpacked as a whole.

Archives may come from anywhere: their lists of files are judged before anything is inflated, and no more is inflated
than they announce.
"""

import hashlib
import lzma
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fxnorm.errors import DatasetError, first_line, printable, system_reason
from fxnorm.io.folders import is_foreign_path

_MOST_ENTRIES = 10_000
_MOST_BYTES = 2**36  # 64 GiB: 120 stereo tracks of ten minutes at 96 kHz and 24 bit take 39 GiB
_MOST_RATIO = 100
"""Of an archive's content to its size. Single tracks of silence pass it (deflate reaches 1,032), a session does not."""
_FREE_BYTES = 2**28  # content that no ratio is asked of
_BLOCK = 2**20
_ENCRYPTED = 1  # bit of the flags
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, NotImplementedError, RuntimeError)
"""What reading a file of an archive raises; bzip2 raises OSError."""


@dataclass(frozen=True)
class Entry:
    """A file in an archive.

    Attributes:
        name: its path within the archive, with ``/``; what :class:`~fxnorm.data.importers.plan.Member` has as
            ``entry``.
        bytes: its size as announced.
    """

    name: str
    bytes: int


def entries(path: Path) -> list[Entry]:
    """The files in an archive by name, without folders and without what systems leave (``__MACOSX``, ``._a.wav``).

    Raises:
        DatasetError: it is no zip archive, or it holds encrypted files, a name twice, a path that leaves it, more than
            10,000 files, or more content than an archive of its size can: one line that names it.
    """
    with _opened(path) as archive:
        found = archive.infolist()
        if len(found) > _MOST_ENTRIES:
            raise DatasetError(f"{path}: expected at most {_MOST_ENTRIES} files, found {len(found)}")
        content = sum(info.file_size for info in found)
        most = min(_MOST_BYTES, max(_FREE_BYTES, _MOST_RATIO * path.stat().st_size))
        if content > most:
            raise DatasetError(f"{path}: {content} bytes when unpacked, expected at most {most} of one of this size")
        names: set[str] = set()
        for info in found:
            _refuse(path, info)
            if info.filename in names:
                raise DatasetError(f"{path}: {printable(info.filename, 200)} is there twice")
            names.add(info.filename)
    return sorted(
        (
            Entry(info.filename, info.file_size)
            for info in found
            if not info.is_dir() and not is_foreign_path(info.filename)
        ),
        key=lambda entry: entry.name,
    )


def extract(path: Path, name: str, target: Path) -> str:
    """Write one file of an archive, of which :func:`entries` was asked before, and give the SHA-256 of its content.

    Raises:
        DatasetError: it is not there, damaged, or holds another number of bytes than announced.
        OSError: the target cannot be written.
    """
    digest = hashlib.sha256()
    with open(target, "wb") as file:
        for block in _content(path, name):
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def entry_digest(path: Path, name: str) -> str:
    """The SHA-256 of one file of an archive; nothing is written.

    Raises:
        DatasetError: as :func:`extract`.
    """
    digest = hashlib.sha256()
    for block in _content(path, name):
        digest.update(block)
    return digest.hexdigest()


def _content(path: Path, name: str) -> Iterator[bytes]:
    with _opened(path) as archive:
        try:
            info = archive.getinfo(name)
        except KeyError as error:
            raise DatasetError(f"{path}: expected {printable(name, 200)} in it, found none") from error
        _refuse(path, info)
        yield from _blocks(path, archive, info)


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({system_reason(error)})") from error
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise DatasetError(f"{path}: not readable as a zip archive ({printable(first_line(error), 200)})") from error


def _refuse(path: Path, info: zipfile.ZipInfo) -> None:
    name = info.filename.replace("\\", "/")
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or ":" in (parts[0] if parts else ""):
        raise DatasetError(f"{path}: {printable(info.filename, 200)} leaves the archive")
    if info.flag_bits & _ENCRYPTED:
        raise DatasetError(f"{path}: {printable(info.filename, 200)} is encrypted; unpack the archive yourself")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise DatasetError(f"{path}: {printable(info.filename, 200)} is a link; expected files")


def _blocks(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """The content of a file: never more than announced, which zipfile sees to, and compared with its checksum."""
    try:
        with archive.open(info) as file:
            count = 0
            while block := file.read(_BLOCK):
                count += len(block)
                yield block
    except _DAMAGED as error:
        name, reason = printable(info.filename, 200), printable(first_line(error), 200)
        raise DatasetError(f"{path}: {name} cannot be unpacked ({reason})") from error
    if count != info.file_size:
        raise DatasetError(f"{path}: {printable(info.filename, 200)}: {info.file_size} bytes announced, {count} found")

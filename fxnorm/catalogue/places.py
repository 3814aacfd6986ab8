"""Where sessions are from and where mixes go: a folder of this machine, or a prefix of an S3 store."""

import contextlib
import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fxnorm.catalogue.find import File, Found, is_listed
from fxnorm.catalogue.targets import RECORDS
from fxnorm.data.dataset import file_digest
from fxnorm.errors import DatasetError, OutputError, printable
from fxnorm.io import files, object_store
from fxnorm.io.folders import files_below, is_foreign_path, is_litter
from fxnorm.sessions import table as tables
from fxnorm.sessions.table import TABLE_FILE

_SIGN = f"{RECORDS}/made_by"
_MISSING = "missing"
_MOST_ASKED = 8  # objects that a store is asked for one by one; of more the list is cheaper
_SHOWN = 200  # characters of a name


@dataclass(frozen=True)
class Source:
    """Where sessions are from.

    Attributes:
        address: a folder, or ``s3://BUCKET/PREFIX``.
    """

    address: str

    @property
    def name(self) -> str:
        """The last part of the address."""
        if object_store.is_address(self.address):
            return object_store.split(self.address)[1].rpartition("/")[2]
        return Path(os.path.realpath(self.address)).name or "session"

    def files(self) -> list[File]:
        """All audio files and tables below it; hidden and foreign files are passed over, links to folders too.

        Raises:
            DatasetError: there is no such folder.
            FxnormError: the store refuses.
            StoreError: it does not answer.
        """
        if object_store.is_address(self.address):
            return [
                File(stored.name, stored.size, stored.tag)
                for stored in _store(self.address).below()
                # what leaves the folder is told, not passed over
                if is_listed(stored.name) and not is_foreign_path(stored.name)
            ]
        root = Path(self.address)
        if not root.is_dir():
            found = "a file" if root.exists() else "nothing"
            raise DatasetError(f"{self.address}: expected a folder of sessions, found {found}")
        return [
            File(name, *_stat(path))
            for path in files_below(root)
            if is_listed(name := path.relative_to(root).as_posix())
        ]

    @contextlib.contextmanager
    def folder_of(self, session: Found) -> Iterator[Path]:
        """The folder of a session on this machine; one that was fetched from a store is removed afterwards.

        Raises:
            DatasetError: a file of it, or its table, leads out of the folder, or does not fit on the disk.
            FxnormError: an object cannot be read.
        """
        if session.fault is not None:
            raise DatasetError(session.fault)
        if not object_store.is_address(self.address):
            folder = Path(self.address, session.name)
            _refuse_leaving(folder, session)
            yield folder
            return
        with tempfile.TemporaryDirectory(prefix="fxnorm-") as temporary:
            free = shutil.disk_usage(temporary).free
            if session.size > free:
                raise DatasetError(f"{session.size} bytes, of which {free} fit on the disk of {tempfile.gettempdir()}")
            folder = Path(temporary) / "session"
            for file in session.files:
                target = folder / file.name
                target.parent.mkdir(parents=True, exist_ok=True)
                _store(self.address).download("/".join(filter(None, (session.name, file.name))), target)
            _refuse_leaving(folder, session)
            yield folder


@dataclass(frozen=True)
class Sink:
    """Where mixes go.

    Attributes:
        address: a folder, or ``s3://BUCKET/PREFIX``.
    """

    address: str

    @property
    def is_stored(self) -> bool:
        """Whether it is a store."""
        return object_store.is_address(self.address)

    def refuse_others(self, _folder: Path | None = None) -> None:
        """Refuse a place that holds something and nothing of an earlier run.

        Raises:
            OutputError: it does.
        """
        if self.is_stored:
            store = _store(self.address)
            filled = bool(store.below()) and not object_store.Folder(f"{self.address}/{RECORDS}").names()
        else:
            folder = Path(self.address)
            filled = folder.is_dir() and not (folder / RECORDS).is_dir() and any(_visible(folder))
        if filled:
            raise OutputError(
                f"{self.address}: holds something, but no mixes of 'fxnorm mix-all'; expected a new or empty place, or"
                " one of these"
            )

    def claim(self) -> None:
        """Leave a sign that this place is that of mixes, before the first of them."""
        if self.read(_SIGN) is None:
            self.write(_SIGN, b"made by 'fxnorm mix-all'\n")

    def records(self) -> list[str]:
        """Paths of what :meth:`write` left in the folder of records."""
        if self.is_stored:
            return [f"{RECORDS}/{name}" for name in object_store.Folder(f"{self.address}/{RECORDS}").names()]
        folder = Path(self.address) / RECORDS
        names = sorted(os.listdir(folder)) if folder.is_dir() else []
        return [f"{RECORDS}/{name}" for name in names if not files.is_temporary(name)]

    def read(self, name: str) -> bytes | None:
        """A small file; None if it is not there."""
        if self.is_stored:
            return _store(self.address).read(name)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return Path(self.address, name).read_bytes()
        return None

    def write(self, name: str, content: bytes) -> None:
        """Write a small file, whole or not at all."""
        if self.is_stored:
            _store(self.address).write(name, content)
            return
        with files.whole_file(Path(self.address, name)) as temporary:
            temporary.write_bytes(content)

    @contextlib.contextmanager
    def place(self, name: str) -> Iterator[Path]:
        """Where to write a file or folder, each whole; with the block's end it is at its place."""
        if not self.is_stored:
            yield Path(self.address, name)
            return
        with tempfile.TemporaryDirectory(prefix="fxnorm-") as temporary:
            path = Path(temporary) / PurePosixPath(name).name
            yield path
            store = _store(self.address)
            for file in files_below(path) if path.is_dir() else [path]:
                store.upload(
                    file, str(PurePosixPath(name, file.relative_to(path).as_posix())) if file != path else name
                )

    def stamps(self, names: list[str]) -> dict[str, str]:
        """By file a text that is another when its content is another; files that are not there are missing."""
        if not self.is_stored:
            found = {name: _stat(Path(self.address, name)) for name in names}
            return {name: f"{size} {stamp}" for name, (size, stamp) in found.items() if stamp != _MISSING}
        store = _store(self.address)
        if len(names) > _MOST_ASKED:
            tags = {stored.name: stored.tag for stored in store.below()}
        else:
            tags = {name: tag for name in names if (tag := store.tag(name)) is not None}
        return {name: tags[name] for name in names if name in tags}

    def digest(self, name: str) -> str | None:
        """A hash of a file's content; None if it is not there."""
        if not self.is_stored:
            path = Path(self.address, name)
            return file_digest(path).hex() if path.is_file() else None
        content = _store(self.address).read(name)
        return None if content is None else hashlib.sha256(content).hexdigest()

    def remove(self, name: str) -> None:
        """Remove a file that was made here."""
        if self.is_stored:
            _store(self.address).remove(name)
            return
        path = Path(self.address, name)
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # others lie there
            path.parent.rmdir()


def content_of(folder: Path, session: Found) -> str:
    """A hash of a session's files, by their names.

    Raises:
        DatasetError: one cannot be read.
    """
    total = hashlib.sha256()
    for file in session.files:
        total.update(f"{file.name}\0{file_digest(folder / file.name).hex()}\n".encode())
    return total.hexdigest()


def _refuse_leaving(folder: Path, session: Found) -> None:
    real = Path(os.path.realpath(folder))
    for file in session.files:
        if not Path(os.path.realpath(folder / file.name)).is_relative_to(real):
            raise DatasetError(f"{printable(file.name, _SHOWN)}: is a link that leaves the folder")
    if session.stems is None and (folder / TABLE_FILE).is_file():
        named = tables.read(folder / TABLE_FILE).folder
        if "\0" not in named and not Path(os.path.realpath(folder / named)).is_relative_to(real):
            raise DatasetError(f"{TABLE_FILE}: folder: {printable(named, _SHOWN)} leaves the session's folder")


def _visible(folder: Path) -> Iterator[str]:
    return (name for name in os.listdir(folder) if not files.is_temporary(name) and not is_litter(name))


def _stat(path: Path) -> tuple[int, str]:
    try:
        status = path.stat()
    except OSError:
        return 0, _MISSING
    return status.st_size, f"{status.st_mtime_ns} {status.st_ctime_ns}"


@functools.cache
def _store(address: str) -> object_store.Folder:
    """A process has one client for each place."""
    return object_store.Folder(address)

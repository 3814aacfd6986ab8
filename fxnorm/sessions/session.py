"""A session on disk: a folder of tracks, with or without a table of them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fxnorm.errors import DatasetError, printable
from fxnorm.io.audio import AUDIO_SUFFIXES
from fxnorm.io.folders import files_below
from fxnorm.sessions import table as tables
from fxnorm.sessions.proposal import Proposal, propose
from fxnorm.sessions.recordings import Progress, Recording, in_file
from fxnorm.sessions.table import TABLE_FILE, Table
from fxnorm.statistics import DatasetStatistics

_SHOWN = 200  # characters of a name
_LISTED = 5  # names in a warning


@dataclass(frozen=True)
class Session:
    """Tracks that can be mixed.

    Attributes:
        name: of the folder or table, for messages.
        table: of the tracks.
        recordings: by file, of at least those that are used.
        warnings: sentences on what is not mixed though a person might expect it to be.
    """

    name: str
    table: Table
    recordings: Mapping[str, Recording]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Folder:
    """What lies in a session's folder.

    Attributes:
        path: of the folder.
        audio: audio files, by their paths below it, sorted.
        others: other files, likewise.
    """

    path: Path
    audio: tuple[str, ...]
    others: tuple[str, ...]

    @classmethod
    def open(cls, path: Path) -> "Folder":
        """Look into a folder and those below it.

        Raises:
            DatasetError: it is none, holds no audio file, or one of its files is a link that leaves it.
        """
        if not path.is_dir():
            raise DatasetError(f"{path}: expected a folder of tracks, found {'a file' if path.exists() else 'nothing'}")
        real = os.path.realpath(path)
        audio: list[str] = []
        others: list[str] = []
        for file in files_below(path):
            name = file.relative_to(path).as_posix()
            is_audio = file.suffix.lower() in AUDIO_SUFFIXES
            if is_audio and not Path(os.path.realpath(file)).is_relative_to(real):
                raise DatasetError(f"{path}: {printable(name, _SHOWN)} is a link that leaves the folder")
            (audio if is_audio else others).append(name)
        if not audio:
            found = _listed(others) if others else "nothing"
            raise DatasetError(f"{path}: expected audio files, found {found}")
        return cls(path, tuple(audio), tuple(others))

    def recordings(self) -> dict[str, Recording]:
        """The audio files, by their paths below the folder."""
        return {name: in_file(self.path / name) for name in self.audio}

    def warnings(self) -> list[str]:
        """A sentence on the files that are no audio, if there are any beside a table."""
        others = [name for name in self.others if name != TABLE_FILE]
        return [f"{self.path}: no audio, passed over: {_listed(others)}"] if others else []


def proposed(folder: Folder, statistics: DatasetStatistics | None = None, progress: Progress | None = None) -> Proposal:
    """As :func:`fxnorm.sessions.proposal.propose`, for a folder.

    Raises:
        DatasetError: there are too many tracks, or none; the text names the folder.
    """
    try:
        return propose(folder.recordings(), statistics, progress)
    except DatasetError as error:
        raise DatasetError(f"{folder.path}: {error}") from error


def open_session(path: Path, statistics: DatasetStatistics | None = None, progress: Progress | None = None) -> Session:
    """The session in a folder, or that of a table.

    A folder with a ``tracks.yaml`` is sorted by that, and any other by what names and ears say.

    Args:
        path: the folder, or the table in it, which may have any name.
        statistics: as :func:`fxnorm.sessions.proposal.propose`.
        progress: likewise.

    Raises:
        DatasetError: it is neither; a table is wrong in itself, or names what is not in the folder; or, without a
            table, something is left to decide: one line for each. Or nothing is to be mixed.
    """
    if path.is_dir() and not (path / TABLE_FILE).is_file():
        folder = Folder.open(path)
        proposal = proposed(folder, statistics, progress)
        if proposal.problems:
            lines = "\n".join(_named(path, problem) for problem in proposal.problems)
            hint = "'fxnorm tracks FOLDER --output tracks.yaml' writes a table in which that can be decided"
            raise DatasetError(f"{lines}; {hint}")
        return _usable(str(path), proposal.table, folder, folder.warnings())
    file = _table_of(path)
    table = tables.read(file)
    folder = _folder_of(table, file)
    problems = [*_leaving(table, folder.path), *tables.missing_from(table, folder.audio)]
    if problems:
        raise DatasetError("\n".join(f"{file}: {problem}" for problem in problems))
    named = {track.file for track in table.tracks} | {table.mixture}
    unnamed = [name for name in folder.audio if name not in named]
    warnings = [f"{file}: does not name, so it is not mixed: {_listed(unnamed)}"] if unnamed else []
    return _usable(str(file), table, folder, warnings)


def files_of(path: Path) -> list[Path]:
    """The files of the session in a folder or table, as :func:`open_session` takes them, and the table itself.

    Raises:
        DatasetError: it is neither, or the table cannot be read.
    """
    if path.is_dir() and not (path / TABLE_FILE).is_file():
        folder, own = Folder.open(path), []
    else:
        file = _table_of(path)
        folder, own = _folder_of(tables.read(file), file), [file]
    return [*own, *(folder.path / name for name in folder.audio)]


def _table_of(path: Path) -> Path:
    file = path / TABLE_FILE if path.is_dir() else path
    if not file.is_file():
        raise DatasetError(f"{path}: expected a folder of tracks, or a table of them, found nothing")
    return file


def _folder_of(table: Table, file: Path) -> Folder:
    if "\0" in table.folder or not (file.parent / table.folder).is_dir():
        raise DatasetError(f"{file}: folder: expected the session's, found no folder {printable(table.folder, _SHOWN)}")
    return Folder.open(file.parent / table.folder)


def _usable(name: str, table: Table, folder: Folder, warnings: list[str]) -> Session:
    if not table.used:
        reasons = "; ".join(f"{printable(track.file)}: {track.why or 'use: false'}" for track in table.tracks[:_LISTED])
        raise DatasetError(f"{name}: nothing usable: {printable(reasons, 2 * _SHOWN)}")
    aside = [f"{track.file} ({track.why})" for track in table.tracks if not track.use]
    if aside:
        warnings = [*warnings, f"{name}: set aside: {_listed(aside, len(aside))}"]
    return Session(name, table, folder.recordings(), tuple(warnings))


def _leaving(table: Table, folder: Path) -> list[str]:
    """A line for each file of a table that a link leads out of the folder."""
    real = os.path.realpath(folder)
    files = [track.file for track in table.tracks] + [file for file in [table.mixture] if file is not None]
    return [
        f"{printable(file, _SHOWN)}: leaves the folder"
        for file in files
        if not Path(os.path.realpath(folder / PurePosixPath(file))).is_relative_to(real)
    ]


def _named(path: Path, problem: str) -> str:
    return problem if problem.startswith(str(path)) else f"{path}: {problem}"


def _listed(names: "list[str]", most: int = _LISTED) -> str:
    shown = ", ".join(printable(name, _SHOWN) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"

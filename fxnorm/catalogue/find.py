"""Which sessions and songs lie below a folder, decided by the names of its files alone.

The same for a folder and for a store: both are a list of files. What decides:

- A folder with ``tracks.yaml`` is a session, with all that lies below it.
- A folder whose audio files are all called vocals, bass, drums, other or mixture, with one stem at least, is a song.
- Any other folder with audio files in it is a session, with all that lies below it, unless a song or a table does.
- So is a folder of which a folder is called as those of a session are (``Drums``, ``raw``, ``mixes``, ``Disc 1``).
- All other folders hold sessions.

The folder that is searched is a session itself only if nothing below it is one, or a table or such folders say so.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from fxnorm.constants import MIXTURE, STEMS
from fxnorm.data import track_names
from fxnorm.data.dataset import plain_name
from fxnorm.data.track_words import MIX_FOLDERS, TRACK_FOLDERS
from fxnorm.errors import printable
from fxnorm.io.audio import AUDIO_SUFFIXES
from fxnorm.sessions.table import TABLE_FILE

_DISC = re.compile(r"(cd|disc|disk|reel|tape)[ _-]*\d+", re.IGNORECASE)
_SHOWN = 200  # characters of a name


@dataclass(frozen=True)
class File:
    """A file below the folder that is searched.

    Attributes:
        name: its path there, with ``/``.
        size: bytes.
        stamp: what is another text when the content is another: times of a file, the tag of a stored object.
    """

    name: str
    size: int
    stamp: str


@dataclass(frozen=True)
class Found:
    """A session or song.

    Attributes:
        name: path of its folder; empty for the folder that is searched.
        files: audio files and the table, by their paths below that folder.
        stems: by stem the file, of a song; None of a session of tracks.
        fault: why it cannot be mixed, if that is plain already.
    """

    name: str
    files: tuple[File, ...] = ()
    stems: dict[str, str] | None = None
    fault: str | None = None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class Catalogue:
    """What lies below a folder.

    Attributes:
        sessions: by name.
        loose: audio files that belong to none of them.
    """

    sessions: tuple[Found, ...]
    loose: tuple[str, ...]


@dataclass
class _Folder:
    """A folder of the tree: its own audio files and table, and the folders in it that have any."""

    path: str
    files: list[File] = field(default_factory=list)
    folders: dict[str, "_Folder"] = field(default_factory=dict)

    def at(self, name: str) -> "_Folder":
        if name not in self.folders:
            self.folders[name] = _Folder(f"{self.path}/{name}" if self.path else name)
        return self.folders[name]

    @property
    def has_table(self) -> bool:
        return any(PurePosixPath(file.name).name == TABLE_FILE for file in self.files)

    @property
    def audio(self) -> list[File]:
        return [file for file in self.files if PurePosixPath(file.name).name != TABLE_FILE]

    def all_files(self) -> Iterator[File]:
        yield from self.files
        for folder in self.folders.values():
            yield from folder.all_files()


def is_listed(name: str) -> bool:
    """Whether a file of this name is audio or a table of tracks."""
    path = PurePosixPath(name)
    return path.suffix.lower() in AUDIO_SUFFIXES or path.name == TABLE_FILE


def catalogue_of(files: Iterable[File]) -> Catalogue:
    """The sessions that files belong to; what is no audio and no table is passed over."""
    root = _Folder("")
    faults: dict[str, str] = {}
    for file in files:
        if not is_listed(file.name):
            continue
        if fault := _unsafe(file.name):
            faults[file.name.rpartition("/")[0] or file.name] = fault
            continue
        folder = root
        *parents, _ = file.name.split("/")
        for part in parents:
            folder = folder.at(part)
        folder.files.append(file)
    sessions, loose = _sessions(root)
    found = {session.name: session for session in sessions}
    for folder_name, fault in faults.items():
        name = next((name for name in found if _holds(name, folder_name)), printable(folder_name, _SHOWN))
        found[name] = replace(found.get(name, Found(name)), fault=fault)
    return Catalogue(tuple(sorted(found.values(), key=lambda session: session.name)), tuple(sorted(loose)))


def _holds(session: str, folder: str) -> bool:
    """Whether a folder is that of a session, or lies in it."""
    return not session or f"{folder}/".startswith(f"{session}/")


def _unsafe(name: str) -> str | None:
    """Why a name cannot be that of a file below a folder; a store's keys can be any text."""
    if "\0" in name or "\\" in name or any(part in ("", ".", "..") for part in name.split("/")):
        return f"{printable(name, _SHOWN)}: leaves the folder, or is no path in it"
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return f"{printable(name, _SHOWN)}: expected a name in UTF-8; rename it"
    return None


def _sessions(folder: _Folder) -> tuple[list[Found], list[str]]:
    """The sessions in a folder of the tree, itself perhaps, and files that belong to none."""
    if folder.has_table:
        return [_session(folder)], []
    stems = _stems(folder)
    below: list[Found] = []
    loose: list[str] = []
    for child in folder.folders.values():
        found, unused = _sessions(child)
        below += found
        loose += unused
    if stems is not None:
        # tracks beside the stems of a song are what these were made of
        named = [found for found in below if _is_plain(found)]
        others = [file for found in below if not _is_plain(found) for file in _paths(found)]
        return [_song(folder, stems), *named], [*loose, *others]
    plain = any(_is_plain(found) for found in below)
    if not plain and _is_divided(folder):
        return [_session(folder)], []
    if not folder.audio:
        return below, loose
    if plain or (below and not folder.path):
        return below, [*loose, *(file.name for file in folder.audio)]
    return [_session(folder)], []


def _is_plain(found: Found) -> bool:
    """Whether it is a session by more than that audio lies there."""
    return found.stems is not None or any(file.name == TABLE_FILE for file in found.files)


def _is_divided(folder: _Folder) -> bool:
    """Whether a folder in it has a name that folders within sessions have."""
    return any(
        name.casefold() in MIX_FOLDERS | TRACK_FOLDERS
        or track_names.names_a_group_alone(name)
        or (bool(child.files) and _DISC.fullmatch(name) is not None)
        for name, child in folder.folders.items()
    )


def _session(folder: _Folder) -> Found:
    return Found(folder.path, _within(folder, folder.all_files()))


def _song(folder: _Folder, stems: dict[str, list[str]]) -> Found:
    fault = None
    chosen = {}
    for stem, names in stems.items():
        suffixes = [PurePosixPath(name).suffix.lower() for name in names]
        best = min(suffixes, key=AUDIO_SUFFIXES.index)
        first, *more = [name for name, suffix in zip(names, suffixes, strict=True) if suffix == best]
        if more:
            fault = f"expected one file of {stem}, found {printable(first, _SHOWN)} and {printable(more[0], _SHOWN)}"
        chosen[stem] = first
    used = set(chosen.values())
    files = [file for file in folder.audio if PurePosixPath(file.name).name in used]
    return Found(folder.path, _within(folder, files), chosen, fault)


def _stems(folder: _Folder) -> dict[str, list[str]] | None:
    """By stem its files, if a folder is that of a song."""
    stems: dict[str, list[str]] = {}
    for file in folder.audio:
        path = PurePosixPath(file.name)
        name = plain_name(path.stem)
        if name in STEMS:
            stems.setdefault(name, []).append(path.name)
        elif name != MIXTURE and not name.startswith(f"{MIXTURE}_"):
            return None
    return {stem: sorted(stems[stem]) for stem in STEMS if stem in stems} or None


def _within(folder: _Folder, files: Iterable[File]) -> tuple[File, ...]:
    start = len(folder.path) + 1 if folder.path else 0
    return tuple(sorted((File(file.name[start:], file.size, file.stamp) for file in files), key=lambda file: file.name))


def _paths(found: Found) -> list[str]:
    return [f"{found.name}/{file.name}" if found.name else file.name for file in found.files]

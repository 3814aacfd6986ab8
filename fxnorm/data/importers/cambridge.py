"""Raw multitracks of the "Mixing Secrets" library (Cambridge Music Technology): one zip archive or folder a song.

There are no metadata. Which group a track belongs to is read from its name (:mod:`fxnorm.data.track_names`). A mixture
that would be aligned with the tracks is not published, so songs have none.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fxnorm.constants import MIXTURE
from fxnorm.data import track_names
from fxnorm.data.importers import archives
from fxnorm.data.importers.plan import SKIP, LeftOut, Member, Options, Plan, PlannedSong
from fxnorm.data.importers.sources import Source
from fxnorm.data.track_words import MIX_FOLDERS, TRACK_FOLDERS
from fxnorm.errors import DatasetError, printable
from fxnorm.io.audio import AUDIO_SUFFIXES
from fxnorm.io.folders import files_below

_DATASET = "Mixing Secrets"
_LICENCE = "Cambridge-MT: educational use"
_ARCHIVE = ".zip"
_MIXES = frozenset((".mp3", ".m4a", ".ogg"))
"""The library's tracks are never coded with loss; its previews of a mix are."""
_AUDIO = frozenset((*AUDIO_SUFFIXES, ".wave")) - _MIXES
_SONG_NAME = re.compile(r"(?P<name>.+?)[ _-]+(?P<form>full|edit)", re.IGNORECASE)
"""``Artist_Title_Full`` and ``Artist_Title_Edit``: the whole song, or a part of it."""


@dataclass(frozen=True)
class _File:
    """An audio file of a song; ``name`` is its path below the song."""

    path: Path
    name: str
    entry: str | None = None


@dataclass(frozen=True)
class _Session:
    """A song's folder or archive."""

    path: Path
    original: str

    @property
    def name(self) -> str:
        """Without ``_Full``: so the song is called as in other datasets. ``_Edit`` stays, it may be there beside it."""
        match = _SONG_NAME.fullmatch(self.original)
        return match["name"] if match and match["form"].casefold() == "full" else self.original


def plan(source: Path, options: Options) -> Plan:
    """All raw tracks of every song, for ``dry/test``.

    Args:
        source: a song's zip archive or folder, or a folder with any number of both.
        options: the user's choices; a table of groups decides before the names' words do.

    Raises:
        DatasetError: the source holds no song, or a link leaves it.
    """
    songs: list[PlannedSong] = []
    left_out: list[LeftOut] = []
    broken: list[LeftOut] = []
    if source.is_file():
        if source.suffix.casefold() != _ARCHIVE:
            raise DatasetError(f"{source}: expected a zip archive, or a folder of songs")
        opened, sessions = Source.open(source.parent), [_Session(source, source.stem)]
    else:
        opened = Source.open(source)
        sessions = list(_sessions(opened, source, left_out))
    found: dict[str, _Session] = {}
    for session in sessions:
        twin = found.setdefault(session.original.casefold(), session)
        if twin is not session:
            left_out.append(LeftOut(opened.name(session.path), f"holds the same song as {opened.name(twin.path)}"))
            continue
        try:
            song = _song(opened, session, options)
        except DatasetError as error:
            broken.append(LeftOut(session.original, str(error)))
            continue
        if song.members:
            songs.append(song)
        else:
            left_out.append(LeftOut(session.name, "no recording of it is used"))
    if not (songs or left_out or broken):
        raise DatasetError(f"{source}: expected zip archives or folders with the tracks of a song, found none")
    remarks = (
        "Tracks are added up with their recording levels, which are no balance; their sum is normalized.",
        "Groups are read from the tracks' names: listen to a song before you rely on it; --mapping corrects them.",
    )
    return Plan(
        dataset=_DATASET,
        licence=_LICENCE,
        commercial=False,
        songs=tuple(songs),
        left_out=tuple(left_out),
        broken=tuple(broken),
        remarks=remarks,
    )


def _sessions(source: Source, folder: Path, left_out: list[LeftOut]) -> Iterator[_Session]:
    """Songs in a folder, which may be one itself; folders come before archives of the same name."""
    files, folders = source.files(folder), source.folders(folder)
    archives_here = [path for path in files if path.suffix.casefold() == _ARCHIVE]
    songs_here = [below for below in folders if _SONG_NAME.fullmatch(below.name) and below.name != folder.name]
    tracks_here = [path for path in files if path.suffix.casefold() in _AUDIO]
    if not (archives_here or songs_here) and (tracks_here or _is_session(folder, folders)):
        yield _Session(folder, folder.resolve().name)
        return
    left_out += [LeftOut(source.name(path), "lies in no song's folder") for path in tracks_here]
    for below in folders:
        yield from _sessions(source, below, left_out)
    for path in archives_here:
        yield _Session(path, path.stem)


def _is_session(folder: Path, folders: Sequence[Path]) -> bool:
    """Whether a folder without tracks is a song: by its name, or by folders that sort the tracks of one."""
    sorted_tracks = any(
        below.name.casefold() in (TRACK_FOLDERS | MIX_FOLDERS) or track_names.names_a_group_alone(below.name)
        for below in folders
    )
    if not (sorted_tracks or _SONG_NAME.fullmatch(folder.resolve().name)):
        return False
    return any(path.suffix.casefold() in _AUDIO for path in files_below(folder))


def _song(source: Source, session: _Session, options: Options) -> PlannedSong:
    files, left_out = _files(source, session)
    names = (session.name, session.original)
    members: list[Member] = []
    remarks: list[str] = []
    for file, track in zip(files, track_names.sort_tracks([file.name for file in files]), strict=True):
        path = PurePosixPath(file.name)
        chosen = options.labels.group(names, file.name, path.stem, path.name)
        if chosen == SKIP:
            left_out.append(LeftOut(file.name, "left out by the table of groups"))
        elif chosen is None and track.set_aside:
            left_out.append(LeftOut(file.name, track.set_aside))
        else:
            if chosen is None and track.by == "guess":
                remarks.append(f"{printable(file.name)}: no word for its group, taken as {track.group}")
            members.append(Member(file.path, file.name, chosen or track.group, entry=file.entry, side=track.side))
    return PlannedSong(
        name=session.name,
        original=session.original,
        part="dry",
        split="test",
        split_reason="raw tracks serve for testing",
        members=tuple(members),
        mixture="file" if any(member.group == MIXTURE for member in members) else "none",
        left_out=tuple(left_out),
        remarks=tuple(remarks),
    )


def _files(source: Source, session: _Session) -> tuple[list[_File], list[LeftOut]]:
    """The audio files of a song, and the mixes among them, which are left out."""
    if session.path.is_file():
        found = [_File(session.path, entry.name, entry.name) for entry in archives.entries(session.path)]
    else:
        found = []
        for path in files_below(session.path):
            source.file(path)  # refuses links that leave the source
            found.append(_File(path, path.relative_to(session.path).as_posix()))
    audio = [file for file in found if PurePosixPath(file.name).suffix.casefold() in _AUDIO | _MIXES]
    top = _common_folder([file.name for file in audio])
    files, left_out = [], []
    for file in audio:
        name = PurePosixPath(file.name).relative_to(top)
        if name.suffix.casefold() in _MIXES or any(part.casefold() in MIX_FOLDERS for part in name.parts[:-1]):
            left_out.append(LeftOut(str(name), "a mix, which is not aligned with the tracks"))
        else:
            files.append(_File(file.path, str(name), file.entry))
    return files, left_out


def _common_folder(names: Sequence[str]) -> PurePosixPath:
    """The folder that all files lie in, however deep: archives hold the song's folder, some one more."""
    parents = [PurePosixPath(name).parent for name in names]
    common = parents[0] if parents else PurePosixPath()
    while any(not parent.is_relative_to(common) for parent in parents):
        common = common.parent
    return common

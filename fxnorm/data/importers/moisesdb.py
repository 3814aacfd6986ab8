"""MoisesDB: a folder a song, with a folder a stem and one file a track, described by ``data.json``.

There is no mixture: it is the sum of all tracks (Pereira et al., "MoisesDB: a dataset for source separation beyond
4-stems", ISMIR 2023; layout as read by moises-ai/moises-db 0.1).
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from fxnorm.constants import MIXTURE
from fxnorm.data.importers import held_out
from fxnorm.data.importers.label_tables import MOISESDB_SKIPPED, MOISESDB_STEMS, MOISESDB_TYPES, OFFICIAL
from fxnorm.data.importers.plan import SKIP, LeftOut, Member, Options, Plan, PlannedSong, plain_label
from fxnorm.data.importers.sources import Source, read_json
from fxnorm.errors import DatasetError, printable

_DATASET = "MoisesDB 0.1"
_LICENCE = "CC-BY-NC-SA-4.0"
_METADATA = "data.json"
_FOLDER_OF_SONGS = "moisesdb_v0.1"
_UUID_SHOWN = 8


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Track(_Part):
    id: StrictStr = Field(min_length=1)
    type: StrictStr = Field(default="", alias="trackType")
    extension: StrictStr = "wav"
    has_bleed: StrictBool | None = False


class _Stem(_Part):
    name: StrictStr = Field(alias="stemName", min_length=1)
    tracks: list[_Track] = []


class _Song(_Part):
    artist: StrictStr | StrictInt | None = ""
    title: StrictStr | StrictInt | None = Field(default="", alias="song")
    stems: list[_Stem]

    @property
    def full_name(self) -> str:
        """``Artist - Title``, or what there is of it."""
        parts = [str(part).strip() for part in (self.artist, self.title) if part is not None]
        return " - ".join(part for part in parts if part)


def plan(source: Path, options: Options) -> Plan:
    """The songs of MoisesDB: every folder that has a ``data.json``.

    Tracks belong to the groups that the table of mss-datasets gives them, or the official one for the table
    ``official``. Both leave out click tracks. With ``exclude_bleed``, so are tracks with bleed; stems and mixture agree
    all the same, since the mixture is the sum of the tracks that are imported.

    Args:
        source: the folder of songs, or the one above it that holds ``moisesdb_v0.1``.
        options: the user's choices.

    Raises:
        DatasetError: the source holds no such folder, or leads out of itself.
    """
    opened = Source.open(source)
    folders = _song_folders(opened)
    described: dict[Path, _Song] = {}
    broken = []
    for folder in folders:
        try:
            described[folder] = read_json(folder / _METADATA, _Song)
        except DatasetError as error:
            broken.append(LeftOut(folder.name, str(error)))
    counts = Counter(song.full_name for song in described.values())
    songs, left_out = [], []
    for folder, song in described.items():
        name = song.full_name or folder.name
        if counts[song.full_name] > 1 and song.full_name:
            name = f"{name} ({folder.name[:_UUID_SHOWN]})"
        try:
            planned = _song(opened, folder, song, name, options)
        except DatasetError as error:
            broken.append(LeftOut(folder.name, str(error)))
            continue
        if planned.members:
            songs.append(planned)
        else:
            left_out.append(LeftOut(name, "no recording of it is used"))
    remarks = ["The dataset has no mixtures: each is the sum of the song's stems."]
    if options.exclude_bleed:
        remarks.append("Tracks with bleed are left out, of the mixtures too.")
    return Plan(
        dataset=_DATASET,
        licence=_LICENCE,
        commercial=False,
        songs=tuple(songs),
        left_out=tuple(left_out),
        broken=tuple(broken),
        remarks=tuple(remarks),
    )


def _song_folders(source: Source) -> list[Path]:
    """The folders with ``data.json``, in the source or in the folder that the official archive has them in."""
    for place in (source.root, source.root / _FOLDER_OF_SONGS):
        if place.is_dir():
            folders = [folder for folder in source.folders(place) if source.file(folder / _METADATA)]
            if folders:
                return folders
    raise DatasetError(
        f"{source.root}: expected MoisesDB, folders with {_METADATA} in it or in {_FOLDER_OF_SONGS}, found none"
    )


def _song(source: Source, folder: Path, song: _Song, name: str, options: Options) -> PlannedSong:
    members: list[Member] = []
    left_out: list[LeftOut] = []
    remarks: list[str] = []
    names = (name, folder.name)
    named: set[str] = set()
    for stem in song.stems:  # one stemName may stand in several
        for track in stem.tracks:
            file_name = f"{stem.name}/{track.id}.{track.extension}"
            if file_name in named:
                remarks.append(f"{file_name}: {_METADATA} names it twice, it is used once")
                continue
            named.add(file_name)
            label = track.type or stem.name
            group = options.labels.group(names, track.id, label, stem.name)
            if group is None:
                group, remark = _group(stem.name, track.type, options.table == OFFICIAL)
                if remark:
                    remarks.append(f"{file_name}: {remark}")
            path = source.file_in(folder, file_name, folder / _METADATA)
            if path is None:  # stems are called with blanks in some copies of the metadata, their folders never
                plain_name = f"{plain_label(stem.name)}/{track.id}.{track.extension}"
                path = source.file_in(folder, plain_name, folder / _METADATA)
            if group == SKIP:
                left_out.append(LeftOut(file_name, f"{printable(label)}: left out by the table of groups"))
            elif track.has_bleed and options.exclude_bleed:
                left_out.append(LeftOut(file_name, "has bleed"))
            elif path is None:
                left_out.append(LeftOut(file_name, "the file is missing"))
                remarks.append(f"{file_name}: missing, though {_METADATA} names it; the mixture is without it")
            else:
                members.append(Member(path, file_name, group, label))
    split, reason = options.split(names, held_out.split_of(folder.name), held_out.REASON)
    return PlannedSong(
        name=name,
        original=folder.name,
        part="wet",
        split=split,
        split_reason=reason,
        members=tuple(members),
        mixture="file" if any(member.group == MIXTURE for member in members) else "sum",
        left_out=tuple(left_out),
        remarks=tuple(remarks),
    )


def _group(stem_name: str, track_type: str, official: bool) -> tuple[str, str]:
    """The group of a track, and what a user should know of how it was found."""
    stem, kind = plain_label(stem_name), plain_label(track_type)
    if skipped := _by_beginning(kind, MOISESDB_SKIPPED):
        return skipped, ""
    group = MOISESDB_STEMS.get(stem)
    if group is None:
        return "other", f"unknown stem {printable(stem_name)}, taken as other"
    if official:
        return group, ""
    by_type = _by_beginning(kind, MOISESDB_TYPES[stem])
    if by_type is None:
        return group, f"unknown type {printable(track_type) or 'without a name'} of {stem_name}, taken as {group}"
    return by_type, ""


def _by_beginning(label: str, table: Mapping[str, str]) -> str | None:
    return next((group for beginning, group in table.items() if label.startswith(beginning)), None)

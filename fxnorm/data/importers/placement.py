"""Which folder each planned song gets, seeing what was imported before.

A song that two datasets have lies in one split. MUSDB18's split comes before all others, because published results are
of it; else the dataset that was imported first decides, and the songs of the other follow.
"""

import errno
import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fxnorm.data.importers.plan import WET, Plan, PlannedSong, plain_song
from fxnorm.data.importers.provenance import LeftOutRecord, SongRecord
from fxnorm.data.importers.stems import member_record
from fxnorm.errors import DatasetError, printable
from fxnorm.io.folders import is_foreign

_DECISIVE = "musdb18"  # what the names of kinds begin with whose splits come first
_LONGEST_NAME = 255  # bytes
_REFUSED = '<>:"\\|?*'
"""By the file systems of Windows; also control characters, and blanks and dots at the end."""


@dataclass(frozen=True)
class Identity:
    """By which a song is known from one import to the next."""

    kind: str
    dataset: str
    original: str
    part: str

    @classmethod
    def of(cls, record: SongRecord) -> "Identity":
        return cls(record.kind, record.dataset, record.original, record.part)


@dataclass(frozen=True)
class Place:
    """A planned song and where it goes.

    Attributes:
        planned: the song, in the split that it really gets.
        key: of its folder, such as ``wet/train/NAME``.
        record: its provenance, without digests and files.
    """

    planned: PlannedSong
    key: str
    record: SongRecord


@dataclass(frozen=True)
class Follower:
    """A song of another dataset that has to go into another split, or has to note why it is in this one."""

    key: str
    split: str
    reason: str
    follows: str


def place(
    plan: Plan, kind: str, source: Path, root: Path, link: bool, there: Mapping[str, SongRecord]
) -> tuple[list[Place], list[Follower]]:
    """Where the songs of a plan go, and which songs of other datasets follow them.

    Args:
        plan: of a source.
        kind: of the import.
        source: its folder.
        root: of the dataset that is written.
        link: whether stems may be links.
        there: songs that were imported before, by their folders.

    Raises:
        DatasetError: two songs have one original name.
    """
    for (original, part), count in Counter((song.original, song.part) for song in plan.songs).items():
        if count > 1:
            raise DatasetError(f"{source}: has {printable(original, 200)} in {part} {count} times; expected it once")
    others = {key: record for key, record in there.items() if (record.kind, record.dataset) != (kind, plan.dataset)}
    twins = _Twins(others)
    songs: list[tuple[PlannedSong, str]] = []
    followers: dict[str, Follower] = {}
    for song in plan.songs:
        twin = twins.decisive(song, kind)
        if twin is not None:
            reason = f"as in {twin.dataset}, which has this song too"
            songs.append((replace(song, split=twins.split(twin), split_reason=reason), twin.dataset))
            continue
        songs.append((song, ""))
        for key, record in twins.of(song):
            reason = f"as in {plan.dataset}, which has this song too"
            follower = Follower(key, song.split, reason, plan.dataset)
            if (key.split("/")[1], record.split_reason, record.follows) != (song.split, reason, plan.dataset):
                followers[key] = follower
    names = _names([song for song, _ in songs], plan.dataset, root, others)
    places = [
        Place(song, f"{song.part}/{song.split}/{name}", _record(song, plan, kind, source, link, follows))
        for (song, follows), name in zip(songs, names, strict=True)
    ]
    return places, list(followers.values())


class _Twins:
    """The finished songs of other datasets, by their names."""

    def __init__(self, others: Mapping[str, SongRecord]) -> None:
        self._keys: dict[str, list[str]] = {}
        self._records = others
        for key, record in sorted(others.items()):
            if record.part == WET:
                for name in {plain_song(record.name), plain_song(record.original)}:
                    self._keys.setdefault(name, []).append(key)

    def of(self, song: PlannedSong) -> Iterator[tuple[str, SongRecord]]:
        """Songs of other datasets with this name."""
        if song.part == WET:
            names = {plain_song(song.name), plain_song(song.original)}
            for key in sorted({key for name in names for key in self._keys.get(name, ())}):
                yield key, self._records[key]

    def decisive(self, song: PlannedSong, kind: str) -> SongRecord | None:
        """The song whose split this one has to take, if there is one."""
        found = [record for _, record in self.of(song) if not record.follows]
        published = [record for record in found if record.kind.startswith(_DECISIVE)]
        if published or kind.startswith(_DECISIVE):
            return published[0] if published else None
        return found[0] if found else None

    def split(self, record: SongRecord) -> str:
        """Where a song lies, which may be another split than it was imported to."""
        return next(key.split("/")[1] for key, other in self._records.items() if other is record)


def _record(song: PlannedSong, plan: Plan, kind: str, source: Path, link: bool, follows: str) -> SongRecord:
    groups = sorted({member.group for member in song.members})
    return SongRecord(
        kind=kind,
        dataset=plan.dataset,
        source=os.path.realpath(source),
        original=song.original,
        name=song.name,
        part=song.part,
        split=song.split,
        split_reason=song.split_reason,
        follows=follows,
        licence=song.licence or plan.licence,
        commercial=plan.commercial,
        link=link,
        mixture=song.mixture,
        groups={
            group: tuple(member_record(member, source) for member in song.members if member.group == group)
            for group in groups
        },
        left_out=tuple(LeftOutRecord(name=item.name, reason=item.reason) for item in song.left_out),
        remarks=song.remarks,
    )


def _names(songs: list[PlannedSong], dataset: str, root: Path, others: Mapping[str, SongRecord]) -> list[str]:
    """A folder's name for each song; no two in one split differ in upper and lower case alone.

    A name that another dataset's song has gets the dataset behind it, names that several songs of this one have get a
    hash of the original name.
    """
    refuses = _refuses_signs(root)
    plain = [folder_name(song.name, refuses) for song in songs]
    taken = {_folded(key) for key in others}
    asked = Counter(_folded(f"{song.part}/{song.split}/{name}") for song, name in zip(songs, plain, strict=True))
    names = []
    for song, name in zip(songs, plain, strict=True):
        key = _folded(f"{song.part}/{song.split}/{name}")
        behind = f" ({dataset})" if key in taken else ""
        if asked[key] > 1:
            behind += " " + hashlib.sha256(song.original.encode("utf-8", "backslashreplace")).hexdigest()[:8]
        names.append(folder_name(f"{name}{behind}", refuses) if behind else name)
    return names


def folder_name(name: str, refuses_signs: bool = False) -> str:
    """The name of a song's folder: the song's, but for what no file system has in names.

    Args:
        name: of the song.
        refuses_signs: whether the file system has no ``:``, ``?`` and the like in names either.
    """
    name = name.replace("/", "_").replace("\0", "_").strip("\n\r\t")
    if refuses_signs:
        name = "".join("_" if sign in _REFUSED or ord(sign) < ord(" ") else sign for sign in name)
        name = f"{name[:-1]}_" if name.endswith((".", " ")) else name
    if not name or is_foreign(name, folder=True):  # nothing would read a song in a hidden folder
        name = f"_{name}"
    if len(os.fsencode(name)) > _LONGEST_NAME:
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
        beginning = name
        while len(os.fsencode(beginning)) > _LONGEST_NAME - len(digest) - 1:
            beginning = beginning[:-1]
        name = f"{beginning}-{digest}"
    return name


def _refuses_signs(root: Path) -> bool:
    """Whether the file system that ``root`` lies in, or will, refuses names that Windows does not have."""
    folder = next(path for path in (root, *root.absolute().parents) if path.is_dir())
    probe = folder / f".fxnorm-{os.getpid()}:?."
    try:
        probe.mkdir()
    except OSError as error:
        return error.errno in (errno.EINVAL, errno.ENOENT, errno.EILSEQ)
    probe.rmdir()
    return False


def _folded(key: str) -> str:
    return unicodedata.normalize("NFC", key).casefold()

"""What an importer returns: the songs that a source holds, and what each of their stems is made of."""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

WET, DRY = "wet", "dry"
SKIP = "skip"
"""In a mapping: a recording with this group is left out."""


@dataclass(frozen=True)
class Member:
    """One recording that goes into a stem or the mixture.

    Attributes:
        path: the file that holds it.
        name: the file as the source's users know it, relative to the song or the source; stands in the provenance.
        group: ``vocals``, ``bass``, ``drums``, ``other`` or ``mixture``.
        label: what the source's metadata calls it, such as ``kick_drum``; empty if it has none.
        gain: linear factor before the sum.
        entry: the name of the file within ``path``, if that is a zip archive.
        stream: which audio stream of a file with several, from 0 on.
        side: the channel that a mono recording belongs to, if it is one half of a stereo pair; None for both.
    """

    path: Path
    name: str
    group: str
    label: str = ""
    gain: float = 1.0
    entry: str | None = None
    stream: int = 0
    side: Literal["left", "right"] | None = None


@dataclass(frozen=True)
class LeftOut:
    """A recording of a song that is not imported, and the reason in a few words."""

    name: str
    reason: str


@dataclass(frozen=True)
class PlannedSong:
    """A song as it is going to be imported.

    Attributes:
        name: of its folder, as the source writes it; what a file system refuses is replaced when it is written.
        original: the source's own name or number of the song.
        part: ``wet`` for finished stems with their mixture, ``dry`` for raw tracks.
        split: ``train``, ``val`` or ``test``.
        split_reason: where the split is from, such as "the published split".
        members: the recordings that are used; those of one group are added up.
        mixture: ``file`` where members have the group ``mixture``, ``sum`` where it is the sum of all stems, ``none``.
        left_out: the recordings that are not used.
        licence: SPDX name, such as ``CC-BY-NC-SA-4.0``, or a short text where there is none; empty for the dataset's.
        remarks: what a user should know about this song; a line each.
    """

    name: str
    original: str
    part: Literal["wet", "dry"]
    split: str
    split_reason: str
    members: tuple[Member, ...]
    mixture: Literal["file", "sum", "none"]
    left_out: tuple[LeftOut, ...] = ()
    licence: str = ""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """All songs of a source.

    Attributes:
        dataset: its name and version as published, such as ``MoisesDB 0.1``.
        licence: SPDX name, or a short text.
        commercial: whether the licence allows commercial use; None where that is unknown.
        songs: the songs.
        left_out: songs that are not imported, each with the reason.
        broken: songs whose metadata cannot be used, each with the line that an error would have. The import stops at
            the first, or leaves them out (``--on-error skip``).
        remarks: what a user should know about all of it; a line each.
    """

    dataset: str
    licence: str
    commercial: bool | None
    songs: tuple[PlannedSong, ...]
    left_out: tuple[LeftOut, ...] = ()
    broken: tuple[LeftOut, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Labels:
    """A user's own table of groups, which comes before every built-in one (``--mapping``).

    Attributes:
        labels: label, or name of a file without its suffix -> ``vocals``, ``bass``, ``drums``, ``other``, ``mixture``
            or ``skip``. Keys are compared without case, with ``_`` for blanks. In a key ``*`` stands for any
            characters; keys without it come first, then those with it in their order.
        songs: song -> the same for this song alone, which comes first. Songs are known by name or by original name,
            compared as :func:`plain_song` returns them.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    songs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def group(self, song: tuple[str, ...], *names: str) -> str | None:
        """The group of a recording, or ``skip``; None if the table does not know it.

        Args:
            song: the names that its song is known by.
            names: what the recording is known by, the most exact first: its file, its label, …
        """
        keys = [plain_label(name) for name in names]
        of_song = [table for name in dict.fromkeys(map(plain_song, song)) for table in self._of_songs.get(name, ())]
        for table in [*of_song, self._of_all]:
            for key in keys:
                if key in table.groups:
                    return table.groups[key]
            for pattern, group in table.patterns:
                if any(pattern.fullmatch(key) for key in keys):
                    return group
        return None

    @functools.cached_property
    def _of_all(self) -> "_Table":
        return _Table.of(self.labels)

    @functools.cached_property
    def _of_songs(self) -> Mapping[str, Sequence["_Table"]]:
        tables: dict[str, list[_Table]] = {}
        for song, labels in self.songs.items():
            tables.setdefault(plain_song(song), []).append(_Table.of(labels))
        return tables


@dataclass(frozen=True)
class _Table:
    """A table of labels, prepared once: it is asked for every recording of a dataset."""

    groups: Mapping[str, str]
    patterns: Sequence[tuple[re.Pattern[str], str]]

    @classmethod
    def of(cls, labels: Mapping[str, str]) -> "_Table":
        groups = {plain_label(key): group for key, group in labels.items()}
        patterns = [(key, group) for key, group in groups.items() if "*" in key]
        return cls(groups, [(re.compile(".*".join(map(re.escape, key.split("*")))), group) for key, group in patterns])


@dataclass(frozen=True)
class Options:
    """How a source shall be read; each kind uses what concerns it.

    Attributes:
        labels: the user's table of groups.
        table: the name of a built-in table, where a kind has several (``--mapping official``); empty for its default.
        splits: song -> split, in place of the published ones (``--split FILE``); songs are known as in ``labels``.
        metadata: a folder with metadata that lie apart from the audio.
        exclude_bleed: leave out what the metadata mark as having bleed.
        workers: processes for a kind that has to read audio before it can plan.
    """

    labels: Labels = field(default_factory=Labels)
    table: str = ""
    splits: Mapping[str, str] = field(default_factory=dict)
    metadata: Path | None = None
    exclude_bleed: bool = False
    workers: int = 1

    def split(self, song: tuple[str, ...], published: str, reason: str) -> tuple[str, str]:
        """The split of a song and where that is from: the user's file, or what is published."""
        for name in map(plain_song, song):
            if name in self._plain_splits:
                return self._plain_splits[name], "the user's file of splits"
        return published, reason

    @functools.cached_property
    def _plain_splits(self) -> Mapping[str, str]:
        return {plain_song(name): split for name, split in self.splits.items()}


def plain_label(name: str) -> str:
    """A label without differences of case, blanks and underscores."""
    return "_".join(name.casefold().replace("_", " ").split())


def plain_song(name: str) -> str:
    """A song's name without differences of case, blanks, ``-`` and ``_``: datasets write the same song differently."""
    return "".join(letter for letter in name.casefold() if letter not in " -_")

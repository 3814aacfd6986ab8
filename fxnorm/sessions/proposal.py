"""A table for tracks that have none: by their names, then held against what is heard.

A word of a name decides before anything that is heard. Where the two disagree strongly, the table says so and leaves
the decision to a person.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from fxnorm.constants import STEMS
from fxnorm.data import track_names
from fxnorm.data.track_words import MIX_FOLDERS, TRACK_FOLDERS
from fxnorm.errors import AudioError, DatasetError, printable
from fxnorm.sessions import heard as hearing
from fxnorm.sessions.heard import Heard
from fxnorm.sessions.recordings import Progress, Recording
from fxnorm.sessions.table import BY_REVIEW, MOST_TRACKS, Table, Track
from fxnorm.statistics import DatasetStatistics

_STEM_FOLDERS = frozenset(("stems", "groups", "submixes"))
_SHOWN = 200  # characters of a name


@dataclass(frozen=True)
class Proposal:
    """A proposed table.

    Attributes:
        table: of all tracks; what cannot be used is in it, set aside.
        problems: sentences on what a person has to decide before the session can be mixed.
        heard: what was heard, by file, of the tracks that could be read.
    """

    table: Table
    problems: tuple[str, ...]
    heard: dict[str, Heard] = field(default_factory=dict)


def propose(
    recordings: Mapping[str, Recording], statistics: DatasetStatistics | None = None, progress: Progress | None = None
) -> Proposal:
    """Sort the tracks of one session.

    Args:
        recordings: by their paths below the session's folder.
        statistics: of songs, with whose groups the tracks are compared; without them names alone say the groups.
        progress: called after each recording that was listened to.

    Raises:
        DatasetError: there is no recording, or there are too many.
    """
    if not 1 <= len(recordings) <= MOST_TRACKS:
        raise DatasetError(f"expected 1 to {MOST_TRACKS} tracks, found {len(recordings)}")
    files = list(recordings)
    mixes = {file: reason for file in files if (reason := _finished(file, files))}
    finished = [file for file, reason in mixes.items() if reason == _A_MIX]
    mixture = finished[0] if len(finished) == 1 else None
    names = [file for file in files if file not in mixes]
    heard, unreadable = _listened(names, recordings, statistics, progress)
    copies = _copies(names, heard)
    # a copy is no second file for one side of a pair
    by_name = track_names.sort_tracks([name for name in names if name not in copies])
    rows = [_row(track, heard.get(track.name), unreadable.get(track.name, "")) for track in by_name]
    rows = [_with_pair(row, track, heard) for row, track in zip(rows, by_name, strict=True)]
    rows += [
        _aside(name, f"the same recording as {original}", track_names.source_of(name))
        for name, original in copies.items()
    ]
    rows += [_aside(file, reason) for file, reason in mixes.items() if file != mixture]
    if not rows:
        raise DatasetError("expected tracks, found nothing but mixes")
    order = {file: number for number, file in enumerate(files)}
    problems = [
        f"{', '.join(printable(name, _SHOWN) for name in contested)}: more files for one side of a stereo pair than for"
        " the other"
        for contested in track_names.contested_sides([track.name for track in by_name])
    ]
    table = Table(mixture=mixture, tracks=sorted(rows, key=lambda row: order[row.file]))
    return Proposal(table, (*unreadable.values(), *problems), heard)


def _listened(
    names: Sequence[str],
    recordings: Mapping[str, Recording],
    statistics: DatasetStatistics | None,
    progress: Progress | None,
) -> tuple[dict[str, Heard], dict[str, str]]:
    """What was heard of each track, and why others cannot be read."""
    averages = hearing.group_spectra(statistics)
    heard: dict[str, Heard] = {}
    unreadable: dict[str, str] = {}
    for number, name in enumerate(names, 1):
        try:
            heard[name] = hearing.listen(recordings[name].read(), averages)
        except AudioError as error:
            unreadable[name] = str(error)
        if progress is not None:
            progress(number, len(names))
    return heard, unreadable


def _copies(names: Sequence[str], heard: Mapping[str, Heard]) -> dict[str, str]:
    """Name -> name of the track that it is a copy of. Both sides of a pair may be one recording and stay."""
    tracks = track_names.sort_tracks(names)
    # a track that is set aside anyway is no original
    ordered = sorted((track for track in tracks if track.name in heard), key=lambda track: bool(track.set_aside))
    pairs = {track.name: track.pair for track in tracks}
    found = hearing.copies({track.name: heard[track.name] for track in ordered})
    return {name: original for name, original in found.items() if pairs[name] != original}


_A_MIX = "lies in a folder of mixes"


def _finished(file: str, files: list[str]) -> str:
    """Why a file is no track, by the folders that it lies in; empty if it may be one."""
    folders = {part.casefold() for part in PurePosixPath(file).parts[:-1]}
    if folders & MIX_FOLDERS:
        return _A_MIX
    all_folders = {part.casefold() for name in files for part in PurePosixPath(name).parts[:-1]}
    if folders & _STEM_FOLDERS and all_folders & TRACK_FOLDERS:
        return "lies in a folder of stems, beside their tracks"
    return ""


def _aside(file: str, why: str, source: str = "") -> Track:
    group, by = track_names.group_of(file)
    return Track.model_validate({"file": file, "group": group, "by": by, "source": source, "use": False, "why": why})


def _row(track: track_names.Track, heard: Heard | None, unreadable: str) -> Track:
    group, by, remarks = _group(track, heard)
    silent = heard is not None and heard.silent
    reason = (
        unreadable.rpartition(f"{track.name}: ")[2]
        or track.set_aside
        or ("silent: no sample passes -50 dBFS" if silent else "")
    )
    return Track.model_validate({
        "file": track.name,
        "group": group,
        "by": by,
        "source": track.source,
        "use": not reason,
        "why": "; ".join([reason, *remarks] if reason else remarks),
    })  # fmt: skip


def _with_pair(row: Track, track: track_names.Track, heard: Mapping[str, Heard]) -> Track:
    """A row with the other half of its stereo pair, and what is heard of the two."""
    if track.pair is None or not row.use or track.pair not in heard or heard[track.pair].silent:
        return row
    alike = hearing.correlation(heard[track.name], heard[track.pair])
    remarks = [row.why] if row.why else []
    if alike >= hearing.ONE_SIDED:
        remarks.append("the same recording on both sides: a mono signal")
    elif alike <= hearing.OPPOSED:
        remarks.append(f"the sides cancel each other in mono (correlation {alike:.2f})")
    return row.model_copy(update={"pair": track.pair, "side": track.side, "why": "; ".join(remarks)})


def _group(track: track_names.Track, heard: Heard | None) -> tuple[str, str, list[str]]:
    """The group of a track, by what, and what to remark on."""
    group, by = track.group, str(track.by)
    folder = PurePosixPath(track.name).parent.name
    if by == "guess" and folder and track_names.names_a_group_alone(folder):
        group, by = track_names.group_of(folder)
        return group, by, [f"by its folder {folder}"]
    if heard is None or heard.nearest is None or heard.nearest == group:
        confirmed = by == "guess" and heard is not None and heard.nearest == group
        decided = confirmed and heard is not None and heard.lead >= hearing.CLEARLY_NEARER_DB
        return group, "heard" if decided else by, []
    if by == "guess" and heard.lead >= hearing.CLEARLY_NEARER_DB:
        return heard.nearest, "heard", [f"sounds like {heard.nearest}"]
    nearer = heard.distances.get(group, heard.distances[heard.nearest]) - heard.distances[heard.nearest]
    if by == "word" and nearer >= hearing.FAR_NEARER_DB:
        return group, by, [f"sounds like {heard.nearest} rather than {group}"]
    return group, by, []


def summary(table: Table) -> str:
    """How many tracks are mixed, by group and by what decided, and how many are set aside."""
    groups: Counter[str] = Counter(track.group for track in table.used)
    decided: Counter[str] = Counter(track.by for track in table.used)
    parts = ", ".join(f"{groups[stem]} {stem}" for stem in STEMS if groups[stem])
    by = ", ".join(f"{decided[what]} by {what}" for what in BY_REVIEW if decided[what])
    return f"{len(table.used)} tracks ({parts}; {by}), {len(table.tracks) - len(table.used)} set aside"

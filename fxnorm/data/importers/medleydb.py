"""MedleyDB 1 and 2: a folder a song, with its mixture, stems and raw tracks, described by a file of metadata.

Stems are weighted so that they add up to the mixture (:mod:`~fxnorm.data.importers.mixing_coefficients`). Layout and
meaning of the metadata are those of marl/medleydb (Bittner et al., "MedleyDB: a multitrack dataset for
annotation-intensive MIR research", ISMIR 2014).
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictStr, ValidationError
from tqdm import tqdm

from fxnorm.constants import MIXTURE
from fxnorm.data import parallel
from fxnorm.data.importers import held_out, mixing_coefficients
from fxnorm.data.importers.label_tables import (
    MEDLEYDB,
    MEDLEYDB_BASS_LINES,
    MEDLEYDB_LEFT_OUT,
    MEDLEYDB_STEMS,
    MEDLEYDB_WHOLE_BAND,
)
from fxnorm.data.importers.plan import SKIP, LeftOut, Member, Options, Plan, PlannedSong, plain_label, plain_song
from fxnorm.data.importers.sources import Source, misfit, plain_yaml, read_yaml
from fxnorm.errors import DatasetError, FxnormError, printable

_DATASET = "MedleyDB"
_LICENCE = "CC-BY-NC-SA-4.0"
_METADATA, _MIX, _STEMS, _RAW = "_METADATA.yaml", "_MIX.wav", "_STEMS", "_RAW"
_DEEPEST = 3  # folders below the source: MedleyDB_V1/V1/SONG
_METADATA_PLACES = ("", "Metadata", "data/Metadata", "medleydb/data/Metadata")
"""Below the folder that the user names, or the source: a clone of the git repository, or a part of it."""
_COEFFICIENTS = "mixing_coefficients_version2.yaml"
_COEFFICIENT_PLACES = ("", "resources", "medleydb/resources")
_UNLABELED = "Unlabeled"
_LISTED = 3
_FAR_DB = -10.0
"""A residual above this is reported; that of a mastered mixture is often only a little below."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


def _yes(value: object) -> object:
    """``yes`` and ``no`` as the published files quote them, or as YAML's booleans."""
    return {"yes": True, "no": False}.get(value.casefold(), value) if isinstance(value, str) else value


_Yes = Annotated[bool, BeforeValidator(_yes), Field(strict=True)]
_Number = Annotated[str, Field(pattern=r"^[SR]\d{1,4}$")]
_Gain = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]


class _Raw(_Part):
    filename: StrictStr = ""
    instrument: StrictStr | list[StrictStr] | None = None


class _Stem(_Part):
    filename: StrictStr = ""
    instrument: StrictStr | list[StrictStr] | None = None
    component: StrictStr | None = ""
    raw: dict[_Number, _Raw] | None = None


class _Song(_Part):
    stems: dict[_Number, _Stem]
    has_bleed: _Yes = False
    mix_filename: StrictStr = ""
    stem_dir: StrictStr = ""
    raw_dir: StrictStr = ""


class _Coefficients(_Part):
    manual: dict[int, _Gain] | None = None
    audio: dict[int, _Gain] | None = None
    stft: dict[int, _Gain] | None = None


@dataclass(frozen=True)
class _Recording:
    """A stem or a raw track.

    Attributes:
        number: of the stem, or of the track within its stem.
        path: its file; None if that is missing.
        name: of its file, relative to the song.
        label: its instruments.
        group: that it belongs to.
        known: whether a table knows its instruments.
        whole_band: whether it holds the whole band, and the user does not say what it is.
    """

    number: int
    path: Path | None
    name: str
    label: str
    group: str
    known: bool
    whole_band: bool

    @property
    def remarks(self) -> Iterator[str]:
        """What a user should know of it."""
        if not self.known:
            yield f"{printable(self.name)}: unknown instrument {printable(self.label)}, taken as other"


@dataclass(frozen=True)
class _Place:
    """Where a song lies, and the file that describes it."""

    source: Source
    name: str
    folder: Path
    metadata: Path


@dataclass(frozen=True)
class _Described:
    """A song on disk with what its metadata say.

    Attributes:
        name: ``Artist_Title``.
        folder: of the song.
        mixture: its file; None if that is missing.
        mixture_name: as in the metadata.
        stems: finished.
        raw: tracks, before the mix.
        published: number of a stem -> gain.
        left_out: why the song is not used at all; empty if it is.
    """

    name: str
    folder: Path
    mixture: Path | None
    mixture_name: str
    stems: tuple[_Recording, ...]
    raw: tuple[_Recording, ...]
    published: Mapping[int, float]
    left_out: str


@dataclass
class _Found:
    """What becomes of the songs."""

    songs: list[PlannedSong] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    broken: list[LeftOut] = field(default_factory=list)
    trained_on: list[str] = field(default_factory=list)


def plan(source: Path, options: Options) -> Plan:
    """The songs of MedleyDB that are on disk: finished stems, and the raw tracks of songs that are not trained on.

    A song is left out of the finished ones where its stems would not add up to its mixture: a file is missing, or a
    stem holds the whole band (``Main System``), as that of a live recording does. Its raw tracks are left out where its
    stems are in ``train`` or ``val``: it would be tested what was trained.

    Args:
        source: the songs' folder, or one above it, such as that which holds ``V1`` and ``V2``.
        options: the user's choices. ``metadata`` may be a clone of marl/medleydb; without it, metadata lie beside the
            audio. ``exclude_bleed`` leaves out whole songs: without one stem the others are no mixture.

    Raises:
        DatasetError: the source holds no song, ``metadata`` is no folder, or the file of published gains cannot be
            used.
    """
    if options.metadata is not None and not options.metadata.is_dir():
        raise DatasetError(f"{options.metadata}: expected a folder with metadata, found none")
    opened = Source.open(source)
    found = _Found()
    folders = _song_folders(opened, found)
    coefficients = _read_coefficients(opened, options.metadata)
    described = []
    for name, folder in folders.items():
        try:
            place = _Place(opened, name, folder, _metadata_of(opened, name, folder, options.metadata))
            described.append(_describe(place, _published(coefficients, name), options))
        except DatasetError as error:
            found.broken.append(LeftOut(name, str(error)))
    usable = [song for song in described if not song.left_out]
    gains = dict(_gains([song for song in usable if not _why_not_wet(song)], options.workers, found))
    for song in usable:
        _plan_song(song, gains.get(song.name), options, found)
    found.left_out += [LeftOut(song.name, song.left_out) for song in described if song.left_out]
    used = [gains[song.name].published for song in usable if song.name in gains]
    remarks = [
        f"Stems are weighted so that they add up to their mixture, with published gains in {used.count(True)} songs,"
        f" with those of least squares in {used.count(False)}.",
        "Raw tracks are added up with their recording levels, which are no balance.",
    ]
    if found.trained_on:
        remarks.append(
            f"The raw tracks of {len(found.trained_on)} songs are left out, since their stems are in train or val; a"
            " file with --split can put songs into test."
        )
    return Plan(
        dataset=_DATASET,
        licence=_LICENCE,
        commercial=False,
        songs=tuple(found.songs),
        left_out=tuple(found.left_out),
        broken=tuple(found.broken),
        remarks=tuple(remarks),
    )


def _song_folders(source: Source, found: _Found) -> dict[str, Path]:
    """The folders of songs in the source by the songs' names, in the order of these; one a name."""
    folders: dict[str, Path] = {}
    for name, folder in _walk(source, source.root, _DEEPEST):
        if name in folders:
            found.left_out.append(LeftOut(source.name(folder), f"is in {source.name(folders[name])} too"))
        else:
            folders[name] = folder
    if not folders:
        raise DatasetError(
            f"{source.root}: expected MedleyDB, folders such as Artist_Title with Artist_Title{_MIX} and"
            f" Artist_Title{_STEMS}, found none"
        )
    return {name: folders[name] for name in sorted(folders)}


def _walk(source: Source, folder: Path, deepest: int) -> Iterator[tuple[str, Path]]:
    name = folder.resolve().name if folder == source.root else folder.name
    if any((folder / f"{name}{ending}").exists() for ending in (_STEMS, _MIX, _RAW, _METADATA)):
        yield name, folder
    elif deepest > 0:
        for below in source.folders(folder):
            yield from _walk(source, below, deepest - 1)


def _read_coefficients(source: Source, metadata: Path | None) -> tuple[Path, Mapping[Any, Any]] | None:
    """The file with published gains and what it holds, if there is one beside the metadata or the songs."""
    places = [source.root]
    if metadata is not None:
        # medleydb/data/Metadata is two folders below medleydb, which has resources
        places = [metadata, metadata.resolve().parent.parent, source.root]
    for place in places:
        for folder in _COEFFICIENT_PLACES:
            path = place / folder / _COEFFICIENTS
            if path.is_file():
                content = plain_yaml(path)
                if not isinstance(content, dict):
                    raise DatasetError(f"{path}: expected songs with their gains, found {printable(repr(content))}")
                return path, content
    return None


def _published(coefficients: tuple[Path, Mapping[Any, Any]] | None, song: str) -> dict[int, float]:
    if coefficients is None or song not in coefficients[1]:
        return {}
    path, content = coefficients
    try:
        of_song = _Coefficients.model_validate(content[song])
    except ValidationError as error:
        raise DatasetError(f"{path}: {song}: {misfit(error)}") from error
    return mixing_coefficients.published({name: table or {} for name, table in of_song})


def _metadata_of(source: Source, song: str, folder: Path, metadata: Path | None) -> Path:
    """The file of a song's metadata: in the folder that the user names, else beside the song."""
    name = f"{song}{_METADATA}"
    places = [metadata / place for place in _METADATA_PLACES] if metadata is not None else []
    for path in [place / name for place in places]:
        if path.is_file():
            return path
    for path in [folder / name, *(source.root / place / name for place in _METADATA_PLACES)]:
        if source.file(path):
            return path
    raise DatasetError(
        f"{folder}: expected {name} in it or in the folder of --metadata, such as a clone of"
        " https://github.com/marl/medleydb"
    )


def _describe(place: _Place, published: Mapping[int, float], options: Options) -> _Described:
    song, name = read_yaml(place.metadata, _Song), place.name
    stems, raw = [], []
    for key, stem in song.stems.items():
        number = int(key[1:])
        labels = _labels(stem.instrument)
        group = _stem_group(name, number, labels, stem.component or "")
        file = f"{song.stem_dir or name + _STEMS}/{stem.filename or f'{name}_STEM_{number:02d}.wav'}"
        stems.append(_recording(place, file, number, labels, group, options))
        for raw_key, track in (stem.raw or {}).items():
            raw_number, raw_labels = int(raw_key[1:]), _labels(track.instrument)
            # what was found out of the stem holds for a track that has its label
            raw_group = group if raw_labels == labels else _table_group(raw_labels)
            file = f"{song.raw_dir or name + _RAW}/{track.filename or f'{name}_RAW_{number:02d}_{raw_number:02d}.wav'}"
            raw.append(_recording(place, file, raw_number, raw_labels, raw_group, options))
    mixture = song.mix_filename or f"{name}{_MIX}"
    return _Described(
        name=name,
        folder=place.folder,
        mixture=place.source.file_in(place.folder, mixture, place.metadata),
        mixture_name=mixture,
        stems=tuple(stems),
        raw=tuple(raw),
        published=published,
        left_out=_why_not(name, song, options),
    )


def _why_not(name: str, song: _Song, options: Options) -> str:
    """Why a song is not used at all; empty if it is. A song that the user's table names is the user's decision."""
    if options.exclude_bleed and song.has_bleed:
        return "has bleed"
    named = any(plain_song(other) == plain_song(name) for other in options.labels.songs)
    return "" if named else MEDLEYDB_LEFT_OUT.get(name, "")


def _labels(instrument: str | list[str] | None) -> tuple[str, ...]:
    labels = [instrument] if isinstance(instrument, str) else instrument or []
    return tuple(label for label in labels if label.strip()) or (_UNLABELED,)


def _stem_group(song: str, number: int, labels: Sequence[str], component: str) -> str | None:
    heard = MEDLEYDB_STEMS.get(song, {}).get(number)
    if heard is not None:
        return heard
    if component.casefold() == "bass" and all(plain_label(label) in MEDLEYDB_BASS_LINES for label in labels):
        return "bass"
    return _table_group(labels)


def _table_group(labels: Sequence[str]) -> str | None:
    """The group of all labels, ``other`` if they have several; None if the table does not know them all."""
    groups = {MEDLEYDB.get(plain_label(label)) for label in labels}
    if len(groups) == 1:
        return groups.pop()
    return None if None in groups else SKIP if SKIP in groups else "other"


def _recording(
    place: _Place, file: str, number: int, labels: Sequence[str], group: str | None, options: Options
) -> _Recording:
    chosen = options.labels.group((place.name,), PurePosixPath(file).stem, *labels)
    return _Recording(
        number=number,
        path=place.source.file_in(place.folder, file, place.metadata),
        name=file,
        label=", ".join(labels),
        group=chosen or group or "other",
        known=chosen is not None or group is not None,
        whole_band=chosen is None and MEDLEYDB_WHOLE_BAND in map(plain_label, labels),
    )


def _why_not_wet(song: _Described) -> str:
    """Why a song's stems cannot be used; empty if they can."""
    missing = [stem.name for stem in song.stems if stem.path is None]
    if song.mixture is None:
        return f"{song.mixture_name} is missing"
    if missing:
        more = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
        return f"{', '.join(missing[:_LISTED])}{more} missing, so that the stems do not add up to the mixture"
    if whole := [stem.name for stem in song.stems if stem.whole_band]:
        return (
            f"{whole[0]} holds the whole band (Main System), and without it the stems do not add up to the mixture; a"
            " --mapping with a group for 'Main System', such as other or skip, imports the song all the same"
        )
    return "" if song.stems else "has no stems"


def _gains(songs: Sequence[_Described], workers: int, found: _Found) -> Iterator[tuple[str, mixing_coefficients.Gains]]:
    """The gains of each song's stems; songs whose audio cannot be read go to ``found.broken``."""
    description = "Measuring the gains of stems"
    bar = tqdm(total=len(songs), desc=description, unit="song", dynamic_ncols=True, mininterval=0.5, disable=not songs)
    work = parallel.each(_gains_of, songs, min(workers, len(songs)), description)
    failed: dict[int, str] = {}
    with bar, contextlib.closing(work) as done:
        for index, future in done:
            try:
                yield songs[index].name, future.result()
            except FxnormError as error:
                failed[index] = str(error)
            bar.update()
    found.broken += [LeftOut(songs[index].name, failed[index]) for index in sorted(failed)]


def _gains_of(song: _Described) -> mixing_coefficients.Gains:
    assert song.mixture is not None
    measured = mixing_coefficients.measure(song.mixture, [stem.path for stem in song.stems if stem.path is not None])
    complete = all(stem.number in song.published for stem in song.stems)
    given = [song.published[stem.number] for stem in song.stems] if complete else None
    return mixing_coefficients.gains(measured, given)


def _plan_song(song: _Described, gains: mixing_coefficients.Gains | None, options: Options, found: _Found) -> None:
    """The finished song and its raw tracks, as far as they can be used."""
    if reason := _why_not_wet(song):
        found.left_out.append(LeftOut(song.name, reason))
        split = "test"
    elif gains is None:
        return  # its audio cannot be read
    else:
        wet = _wet(song, gains, options)
        split = wet.split
        if any(member.group != MIXTURE for member in wet.members):
            found.songs.append(wet)
        else:
            found.left_out.append(LeftOut(song.name, "no stem of it is used"))
    if any(track.path is not None and track.group != SKIP for track in song.raw):
        if split == "test":
            found.songs.append(_dry(song))
        else:
            found.trained_on.append(song.name)


def _wet(song: _Described, gains: mixing_coefficients.Gains, options: Options) -> PlannedSong:
    split, reason = options.split((song.name,), held_out.split_of(plain_song(song.name)), held_out.REASON)
    members, left_out = [], []
    for stem, gain in zip(song.stems, gains.values, strict=True):
        assert stem.path is not None
        if stem.group == SKIP:
            left_out.append(LeftOut(stem.name, f"{printable(stem.label)}: left out by the table of groups"))
        elif gain == 0:
            left_out.append(LeftOut(stem.name, "the mixture does not contain it: its best gain is 0"))
        else:
            members.append(Member(stem.path, stem.name, stem.group, stem.label, gain))
    remarks = [*_about(song, gains), *(remark for stem in song.stems for remark in stem.remarks)]
    if any(stem.group == SKIP for stem in song.stems):
        remarks.append("the stems do not add up to the mixture, since one is left out")
    return PlannedSong(
        name=song.name,
        original=song.name,
        part="wet",
        split=split,
        split_reason=reason,
        members=(*members, _mixture(song)),
        mixture="file",
        left_out=tuple(left_out),
        remarks=tuple(remarks),
    )


def _about(song: _Described, gains: mixing_coefficients.Gains) -> Iterator[str]:
    """What a user should know of a song's gains."""
    if not gains.published and song.published:
        yield "the published gains of its stems explain its mixture worse than those of least squares, which are used"
    if gains.residual_db is None:
        yield "the samples of its mixture do not line up with those of its stems"
    elif gains.residual_db > _FAR_DB:
        yield f"its weighted stems are far from its mixture: the residual is {gains.residual_db:.1f} dB of it"


def _dry(song: _Described) -> PlannedSong:
    members, left_out = [], []
    for track in song.raw:
        if track.group == SKIP:
            left_out.append(LeftOut(track.name, f"{printable(track.label)}: left out by the table of groups"))
        elif track.path is None:
            left_out.append(LeftOut(track.name, "the file is missing"))
        else:
            members.append(Member(track.path, track.name, track.group, track.label))
    if song.mixture is not None:
        members.append(_mixture(song))
    return PlannedSong(
        name=song.name,
        original=song.name,
        part="dry",
        split="test",
        split_reason="raw tracks serve for testing",
        members=tuple(members),
        mixture="file" if song.mixture is not None else "none",
        left_out=tuple(left_out),
        remarks=tuple(remark for track in song.raw for remark in track.remarks),
    )


def _mixture(song: _Described) -> Member:
    assert song.mixture is not None
    return Member(song.mixture, song.mixture_name, MIXTURE)

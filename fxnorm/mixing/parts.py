"""The parts of a mix in a folder: what each stem contributes, the mix that they add up to, and how it came about.

A folder holds ``STEM.wav`` for each stem that was there, ``mix.wav``, ``mix.json`` (:class:`Description`) and perhaps a
DAW's project, and of a session perhaps each track's share of the mix in ``tracks/STEM``. The files are 32-bit float:
the sum of the stems' parts is the mix but for the rounding of float32, and no part is cut off where it passes full
scale, as parts may that cancel each other out.
"""

import difflib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator

from fxnorm import __version__
from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.effects import loudness
from fxnorm.effects.levels import amplitude
from fxnorm.errors import AudioError, SettingsError, printable
from fxnorm.io import audio as audio_io
from fxnorm.io import bounded, names
from fxnorm.io.files import write_json
from fxnorm.io.outputs import Contents, files_in
from fxnorm.mixing import limiter, reaper
from fxnorm.mixing.delivery import DEFAULT_TRUE_PEAK, DeliveredMix, deliver
from fxnorm.mixing.options import MixOptions
from fxnorm.mixing.reference import ReferenceMatch
from fxnorm.mixing.shares import TrackSignals
from fxnorm.mixing.treatment import Described, Measured, Treatment, compare
from fxnorm.statistics import DatasetStatistics

DESCRIPTION_FILE = "mix.json"
MIX_FILE = "mix.wav"
SESSION_FILE = "session.rpp"
TRACKS_FOLDER = "tracks"

SESSIONS = ("reaper",)
"""DAWs that a project is written for."""

_MOST_GAIN_DB = 60.0
_SUFFIX = ".wav"
_ROUNDING_DB = 1e-3  # of a sum of parts in float32, in which its true peak may differ from the mix's
_SHOWN = 200  # characters
_NAMED = 8  # candidates for a name that is unknown


class Level(Described):
    """The level that the mix was delivered at."""

    loudness_lufs: float | None = Field(description="integrated loudness of the mix (ITU-R BS.1770-4)")
    true_peak_dbtp: float | None = Field(description="its true peak; null for silence")
    ceiling_dbtp: float | None = Field(description="the highest true peak that was allowed; null: the network's level")
    gain_db: float = Field(description="what all of the network's mix was turned up by")
    reduction_db: float = Field(description="by how much the limiter turned the highest peak down")
    remark: str | None = Field(description="where the loudness asked for was not reached")


class Part(Described):
    """What one stem contributes."""

    file: str = Field(description="its audio, in the same folder")
    treatment: Treatment = Field(description="what was done to the stem")


class TrackShare(Described):
    """What became of a session's track before the mix.

    A stem is the sum of its tracks with these gains. The mix answers to the stem: a track's share is what the track
    becomes by the filters and gains that its stem got, and says nothing of what the mix would be without the track.
    """

    stem: str = Field(description="which it went into")
    gain_db: float = Field(description="by how much it was turned up in the sum that is this stem")
    file: str | None = Field(
        default=None,
        description="its share of the mix as audio, in the same folder; those of a stem add up to its part. null: none",
    )


class Description(Described):
    """What ``mix.json`` holds."""

    format: Literal[1] = Field(description="version of what is described here")
    made_by: str = Field(description="the program and its version")
    mixer: str = Field(description="the Mixer, as it was named")
    network: dict[str, Any] = Field(description="name and sizes of its network")
    options: dict[str, Any] = Field(description="of the mix, by the names of the endpoint's params")
    sources: dict[str, str] = Field(description="the stems' files, as they were named")
    sample_rate: int = Field(description="of all files here, in Hz", ge=8_000, le=192_000)
    samples: int = Field(description="their length", ge=1)
    level: Level = Field(description="the level that the mix was delivered at")
    reference: ReferenceMatch | None = Field(
        default=None, description="what was done to bring the mix to a song; null: none was given"
    )
    stems: dict[str, Part] = Field(description="the parts")
    tracks: dict[str, TrackShare] = Field(default_factory=dict, description="of a session, by file; empty for stems")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.stems:
            raise ValueError("stems: expected at least one")
        for stem, part in self.stems.items():
            if stem not in STEMS:
                raise ValueError(f"stems: expected some of {', '.join(STEMS)}, found {printable(stem)}")
            if part.file != stem + _SUFFIX:
                raise ValueError(f"stems.{stem}.file: expected {stem}{_SUFFIX}, found {printable(part.file)}")
        for name, track in self.tracks.items():
            if track.file is not None and not is_share_file(track.file, track.stem, self.stems):
                expected = f"{TRACKS_FOLDER}/STEM/NAME{_SUFFIX}"
                raise ValueError(f"tracks.{printable(name)}.file: expected {expected}, found {printable(track.file)}")
        return self

    def shares_of(self, stem: str) -> dict[str, str]:
        """The files of the shares of a stem's tracks, by track."""
        return {name: track.file for name, track in self.tracks.items() if track.stem == stem and track.file}


def is_share_file(file: str, stem: str, stems: Collection[str]) -> bool:
    """Whether a path is one that :func:`share_files` gives for a stem."""
    folder, _, name = file.rpartition("/")
    is_name = name.endswith(_SUFFIX) and not name.startswith(".") and name.isprintable()
    return stem in stems and folder == f"{TRACKS_FOLDER}/{stem}" and is_name


def share_files(stems: Mapping[str, str]) -> dict[str, str]:
    """Where the share of each track goes, by file of the track: the paths within the folder.

    Args:
        stems: the stem of each track, by file.
    """
    files: dict[str, str] = {}
    for stem in dict.fromkeys(stems.values()):
        tracks = [file for file, own in stems.items() if own == stem]
        plain = [PurePosixPath(file).stem for file in tracks]
        # tracks of two folders may have one name; no name has a slash
        labels = [name if plain.count(name) == 1 else f"{file}/" for file, name in zip(tracks, plain, strict=True)]
        addresses = names.addresses(labels)
        files |= {
            file: f"{TRACKS_FOLDER}/{stem}/{addresses[label]}{_SUFFIX}"
            for file, label in zip(tracks, labels, strict=True)
        }
    return files


def _foreign(folder: Path) -> str | None:
    """A file that shows that a folder is none of these, or was worked on since; None otherwise."""
    try:
        description = read_description(folder)
    except AudioError:
        usual = [*(stem + _SUFFIX for stem in STEMS), MIX_FILE, SESSION_FILE, DESCRIPTION_FILE]
        return next((name for name in usual if (folder / name).exists()), DESCRIPTION_FILE)
    made = {track.file for track in description.tracks.values()}
    for name in files_in(folder):
        if name.startswith(f"{TRACKS_FOLDER}/") and name not in made:
            return name
    session = folder / SESSION_FILE
    if session.exists():
        with open(session, "rb") as file:
            if file.readline(len(reaper.HEADER) + 2).rstrip() != reaper.HEADER.encode():
                return SESSION_FILE
    return None


CONTENTS = Contents(
    "the parts of a mix",
    rf"({'|'.join(STEMS)}|mix)\.wav|mix\.json|session\.rpp|{TRACKS_FOLDER}/({'|'.join(STEMS)})/[^/]+\.wav",
    _foreign,
)
"""What ``fxnorm mix --stems-out`` writes, and may replace; a project that REAPER has saved is the user's."""


def write(
    folder: Path,
    delivered: DeliveredMix,
    parts: np.ndarray,
    before: Mapping[str, Measured],
    options: MixOptions,
    shares: TrackSignals | None = None,
    **origin: Any,
) -> Description:
    """Write the parts of a mix into a new folder.

    Args:
        folder: is there and empty.
        delivered: the mix.
        parts: of the network's mix, float32 (4, 2, samples) in the order of STEMS; overwritten.
        before: the stems as they came in.
        options: of the mix.
        shares: of the network's mix, by track, to be written where ``tracks`` says.
        origin: the fields ``mixer``, ``network``, ``sources``, ``tracks`` and perhaps ``reference`` of
            :class:`Description`.

    Raises:
        OutputError: the system refuses to write them.
    """
    done = {}
    for stem, part in zip(STEMS, parts, strict=True):
        if stem not in before:
            continue
        content = delivered.part(part, options.sample_rate)
        done[stem] = Part(file=stem + _SUFFIX, treatment=compare(before[stem], Measured(part)))
        audio_io.write(folder / done[stem].file, content, options.sample_rate)
    audio_io.write(folder / MIX_FILE, delivered.audio, options.sample_rate)
    if shares is not None:
        for file, share in zip(shares.files, shares.audio, strict=True):
            content = delivered.part(np.array(share), options.sample_rate)
            audio_io.write(folder / origin["tracks"][file].file, content, options.sample_rate)
    description = Description(
        format=1,
        made_by=f"fxnorm {__version__}",
        options=options.model_dump(),
        sample_rate=options.sample_rate,
        samples=delivered.audio.shape[1],
        level=Level(
            loudness_lufs=delivered.loudness_lufs if math.isfinite(delivered.loudness_lufs) else None,
            true_peak_dbtp=delivered.true_peak_dbtp if delivered.audio.any() else None,
            ceiling_dbtp=None if delivered.gains is None else options.true_peak,
            gain_db=delivered.gain_db,
            reduction_db=delivered.reduction_db,
            remark=delivered.remark,
        ),
        stems=done,
        **origin,
    )
    write_json(folder / DESCRIPTION_FILE, description.model_dump())
    return description


def write_session(folder: Path, description: Description) -> None:
    """Write a REAPER project beside the parts, with each on a track, or a folder of its tracks' shares if there are."""
    seconds = description.samples / description.sample_rate
    tracks: list[reaper.Track | reaper.FolderTrack] = []
    for stem, part in description.stems.items():
        shares = description.shares_of(stem)
        below = [reaper.Track(PurePosixPath(name).stem, file, seconds) for name, file in shares.items()]
        tracks.append(reaper.FolderTrack(stem, below) if below else reaper.Track(stem, part.file, seconds))
    text = reaper.project(tracks, description.sample_rate)
    (folder / SESSION_FILE).write_text(text, encoding="utf-8")


def read_description(folder: Path) -> Description:
    """What ``mix.json`` says.

    Raises:
        AudioError: the folder is none of parts, or the file is damaged.
    """
    file = folder / DESCRIPTION_FILE
    if not file.is_file():
        raise AudioError(f"{folder}: expected what 'fxnorm mix --stems-out' writes, found no {DESCRIPTION_FILE}")
    try:
        return Description.model_validate(bounded.read_json(file))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        raise AudioError(f"{file}: {printable(f'{name}: {message}' if name else message, _SHOWN)}") from error
    except (OSError, ValueError) as error:
        raise AudioError(f"{file}: cannot be read ({printable(str(error), _SHOWN)})") from error


@dataclass(frozen=True)
class Change:
    """What shall be otherwise in a mix, by stem, and by track where there are shares of those.

    Attributes:
        gains_db: of stems and tracks; a track gets that of its stem as well.
        muted: those that are not heard.
        solo: if there are any, these alone are heard: stems with all of their tracks that are not muted.
    """

    gains_db: Mapping[str, float]
    muted: frozenset[str] = frozenset()
    solo: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        gains: Mapping[str, float],
        muted: set[str],
        solo: set[str],
        known: Mapping[str, Part],
        tracks: Mapping[str, TrackShare] | None = None,
    ) -> Self:
        """A change of a mix that has these parts, and these tracks, by file.

        A track may be called by the last part of its file, or by that without suffix, where no other has it.

        Raises:
            SettingsError: a name that the mix does not have or that two tracks share, a track without a share, a gain
                out of range, or nothing that is heard.
        """
        tracks = tracks or {}
        full = {name: _full_name(name, known, tracks) for name in [*gains, *sorted(muted), *sorted(solo)]}
        muted, solo = {full[name] for name in muted}, {full[name] for name in solo}
        for name, gain in gains.items():
            if list(map(full.get, gains)).count(full[name]) > 1:
                raise SettingsError(f"{printable(full[name])}: expected one gain, found two")
            if not -_MOST_GAIN_DB <= gain <= _MOST_GAIN_DB:  # NaN too
                raise SettingsError(
                    f"{name}: expected a gain of {-_MOST_GAIN_DB:g} to {_MOST_GAIN_DB:g} dB, found {gain:g}"
                )
        if both := sorted(muted & solo):
            raise SettingsError(f"{both[0]}: expected either muted or solo, found both")
        change = cls({full[name]: gain for name, gain in gains.items()}, frozenset(muted), frozenset(solo))
        shares = {stem: [name for name, track in tracks.items() if track.stem == stem and track.file] for stem in known}
        if not any(factor or others for factor, others in (change.factors(stem, shares[stem]) for stem in known)):
            raise SettingsError(f"{', '.join(known)}: all muted; expected one that is heard")
        return change

    def factors(self, stem: str, tracks: Collection[str]) -> tuple[float, dict[str, float]]:
        """What a stem's part is multiplied by, and the shares of its tracks that are added to that.

        Args:
            stem: the stem.
            tracks: those of the stem that have shares.
        """
        if stem in self.muted:
            return 0.0, {}
        gain = self._gain(stem)
        levels = {track: 0.0 if track in self.muted else self._gain(track) for track in tracks}
        if self.solo and stem not in self.solo:
            return 0.0, {track: gain * level for track, level in levels.items() if track in self.solo and level}
        if levels and not any(levels.values()):
            return 0.0, {}
        # the part holds each share once
        return gain, {track: gain * (level - 1) for track, level in levels.items() if level != 1}

    def _gain(self, name: str) -> float:
        return float(amplitude(self.gains_db.get(name, 0.0)))


def _full_name(name: str, known: Mapping[str, Part], tracks: Mapping[str, TrackShare]) -> str:
    """The stem or the file of the track that a name means."""
    found = [name] if name in known or name in tracks else []
    if not found:
        found = [file for file in tracks if name in (PurePosixPath(file).name, PurePosixPath(file).stem)]
    if len(found) > 1:
        raise SettingsError(f"{printable(name)}: is the name of {_listed(found)}; expected one of these")
    with_shares = [file for file, track in tracks.items() if track.file]
    if not found:
        if not with_shares:
            raise SettingsError(f"{printable(name)}: unknown stem; this mix has {', '.join(known)}")
        candidates = [*known, *with_shares]
        near = [candidate for candidate in candidates if name.casefold() in candidate.casefold()]
        near = near or difflib.get_close_matches(name, candidates, _NAMED) or candidates
        raise SettingsError(f"{printable(name)}: unknown stem or track; this mix has {_listed(near)}")
    if found[0] not in known and found[0] not in with_shares:
        raise SettingsError(f"{printable(found[0])}: its share is not here; mix the session again with --tracks-out")
    return found[0]


def _listed(found: Collection[str]) -> str:
    """Some names, and how many more there are."""
    shown = ", ".join(printable(name) for name in list(found)[:_NAMED])
    return shown if len(found) <= _NAMED else f"{shown} and {len(found) - _NAMED} more"


def remix(folder: Path, change: Change, options: MixOptions) -> DeliveredMix:
    """Another mix of the same parts. Without a change it is the mix again, but for the rounding of float32.

    Without a loudness asked for, a mix keeps the level that it gets by the change; the limiter alone holds it under
    its ceiling. That is the one of the options where they have one, the first mix's otherwise. Where the limiter
    would crush the mix (:mod:`fxnorm.mixing.limiter`), all of it is turned down.

    Args:
        folder: the parts.
        change: gains and what is heard.
        options: loudness, true peak and sample rate; others make no difference.

    Raises:
        AudioError: files are missing, or do not fit ``mix.json``.
    """
    description = read_description(folder)
    mix = _sum(folder, description, change)
    if options.target_loudness is not None:
        mix = audio_io.resample(mix, description.sample_rate, SAMPLE_RATE)
        return deliver(mix, options.delivery, DatasetStatistics())
    mix = audio_io.resample(mix, description.sample_rate, options.sample_rate)
    level = description.level
    if "true_peak" in options.model_fields_set:
        highest = options.true_peak - limiter.MARGIN_DB
    elif level.ceiling_dbtp is not None:
        highest = level.ceiling_dbtp - limiter.MARGIN_DB
    else:
        highest = max(DEFAULT_TRUE_PEAK - limiter.MARGIN_DB, level.true_peak_dbtp or -math.inf)
    return _limited(mix, highest, options.sample_rate)


def _sum(folder: Path, description: Description, change: Change) -> np.ndarray:
    total = np.zeros((2, description.samples), dtype=np.float32)
    for stem, part in description.stems.items():
        shares = description.shares_of(stem)
        factor, factors = change.factors(stem, shares)
        for file, gain in [(part.file, factor), *((shares[name], gain) for name, gain in factors.items())]:
            if gain:
                samples = _read_part(folder / file, description)
                if gain != 1:
                    samples *= np.float32(gain)
                total += samples
    return total


def _read_part(file: Path, description: Description) -> np.ndarray:
    expected = (2, description.samples)
    samples, sample_rate = audio_io.read(file, None)
    if samples.shape != expected or sample_rate != description.sample_rate:
        raise AudioError(
            f"{file}: expected what {DESCRIPTION_FILE} says, {expected[0]} channels of {expected[1]} samples at"
            f" {description.sample_rate} Hz, found {samples.shape[0]} of {samples.shape[1]} at {sample_rate} Hz"
        )
    return samples


def _limited(mix: np.ndarray, highest_dbtp: float, sample_rate: int) -> DeliveredMix:
    """A mix with no true peak over ``highest_dbtp``, and as it is where it has none."""
    excess = limiter.true_peak(mix) - highest_dbtp
    if excess <= _ROUNDING_DB:
        return _as_it_is(mix, sample_rate, reduction=max(0.0, excess))
    held = limiter.hold(mix, highest_dbtp + limiter.MARGIN_DB, sample_rate)
    remark = None
    if held.bound is not None:
        remark = f"all turned down by {-held.gain_db:.1f} dB: else the limiter would {held.bound}"
    return _as_it_is(held.audio, sample_rate, held.gain_db, held.reduction_db, remark)


def _as_it_is(
    mix: np.ndarray, sample_rate: int, gain: float = 0.0, reduction: float = 0.0, remark: str | None = None
) -> DeliveredMix:
    own = loudness.measure(audio_io.resample(mix, sample_rate, SAMPLE_RATE), SAMPLE_RATE)
    return DeliveredMix(mix, mix, None, 1.0, own, limiter.true_peak(mix), gain, reduction, remark)

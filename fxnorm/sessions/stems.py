"""The four stems of a session: the tracks of each group, balanced and added up.

Within a group, the tracks of one source (the microphones of an instrument, doubles, both sides of a stereo pair) are
added up as they are, because their levels to each other are a decision of whoever placed the microphones. The sources
are then brought to one loudness, since the levels that raw tracks were recorded at are no balance. A gain of the table
comes on top. At the end each group's sum gets the loudness :data:`STEM_LUFS`; the normalization that follows brings it
to the average of the training songs anyway. With ``balance: as_is`` all levels are the files' own.

Tracks are read one at a time, so the memory is that of the four stems, of one source and of one track.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.data import recordings as placing
from fxnorm.effects import loudness, programme
from fxnorm.effects.levels import amplitude, decibels, peaks
from fxnorm.errors import AudioError
from fxnorm.io.audio import MAX_CHANNELS, MAX_DBFS, pad_to
from fxnorm.sessions.recordings import Progress, Recording
from fxnorm.sessions.table import Table, Track

SOURCE_LUFS = -25.0
"""Integrated loudness that each source of a group is brought to, before the sum (as in MS500, see docs/sessions.md)."""
STEM_LUFS = -23.0
"""Integrated loudness of each group's sum: that of EBU R 128."""

_SUMMED_AT_ONCE = 2**20  # samples


@dataclass(frozen=True)
class SessionStems:
    """What a session was summed to.

    Attributes:
        stems: float32 (2, samples) at 44.1 kHz, by group, of groups that have a track.
        findings: sentences on how the tracks were put together.
        gains_db: what each track was turned up by, by file: each stem is the sum of its tracks, placed in time and to a
            side, with these gains.
        starts: the sample of the stem that each track begins at, by file.
    """

    stems: dict[str, np.ndarray]
    findings: tuple[str, ...]
    gains_db: dict[str, float]
    starts: dict[str, int] = field(default_factory=dict)


def sum_groups(
    table: Table, recordings: Mapping[str, Recording], progress: Progress | None = None, most_samples: int | None = None
) -> SessionStems:
    """Add up the tracks of each group.

    Args:
        table: of the tracks.
        recordings: by file, at least those that are used.
        progress: called after each track that was added.
        most_samples: the longest stem that is made.

    Raises:
        AudioError: a track cannot be read, or the stems would be longer than that.
    """
    used = table.used
    takes = [recordings[track.file].take() for track in used]
    starts, finding = placing.starts(takes)
    findings = [f"the tracks {finding}"] if finding else []
    begins = {track.file: start for track, start in zip(used, starts, strict=True)}
    reader = _Reader(recordings, {track.file for track in used}, begins, findings, progress, most_samples)
    stems = {}
    factors: dict[str, float] = {}
    for group in STEMS:
        sources: dict[str, list[Track]] = {}
        for track in used:
            if track.group == group:
                sources.setdefault(track.source or track.file, []).append(track)
        if sources:
            stems[group] = _sum_of(list(sources.values()), reader, table.balance == "loudness", factors)
    gains_db = {file: float(decibels(factor)) for file, factor in factors.items()}
    return SessionStems(stems, tuple(findings), gains_db, begins)


def placed(
    table: Table, recordings: Mapping[str, Recording], summed: SessionStems, progress: Progress | None = None
) -> Iterator[tuple[str, int, np.ndarray]]:
    """Read the tracks again, one at a time, as they are in the stems that they were summed to.

    Args:
        table: of the tracks.
        recordings: by file, at least those that are used.
        summed: what :func:`sum_groups` made of them.
        progress: called after each track.

    Yields:
        file, the sample that the track begins at, and the track (1 or 2 channels, samples) with its gain and on its
        side.

    Raises:
        AudioError: a track cannot be read.
    """
    used = table.used
    reader = _Reader(recordings, {track.file for track in used}, summed.starts, [], progress, None)
    for track in used:
        samples, start = reader.samples(track)
        yield track.file, start, samples * np.float32(amplitude(summed.gains_db[track.file]))


class _Reader:
    """Reads tracks, each once, and adds them where they belong."""

    def __init__(
        self,
        recordings: Mapping[str, Recording],
        used: set[str],
        begins: Mapping[str, int],
        findings: list[str],
        progress: Progress | None,
        most_samples: int | None,
    ) -> None:
        self._recordings = recordings
        self._used = used
        self._begins = begins
        self._findings = findings
        self._progress = progress
        self._most_samples = most_samples
        self._read = 0

    def samples(self, track: Track) -> tuple[np.ndarray, int]:
        """A track (1 or 2 channels, samples), and where it begins."""
        samples, start = self._recordings[track.file].read(), self._begins[track.file]
        if self._most_samples is not None and start + samples.shape[1] > self._most_samples:
            seconds = self._most_samples / SAMPLE_RATE
            raise AudioError(f"{track.file}: ends after {seconds:.0f} s, where no song may")
        # a half whose other half is left out is a mono track
        side = track.side if track.pair is None or track.pair in self._used else None
        if side is not None and len(samples) > 1:
            self._findings.append(f"{track.file}: has two channels already, both are used")
        self._read += 1
        if self._progress is not None:
            self._progress(self._read, len(self._used))
        return placing.on_side(samples, side), start


def _sum_of(
    sources: Sequence[Sequence[Track]], reader: _Reader, balanced: bool, factors: dict[str, float]
) -> np.ndarray:
    """The sum of a group's sources, (2, samples); what each track is multiplied by is added to ``factors``."""
    total = np.zeros((MAX_CHANNELS, 0), np.float32)
    for tracks in sources:
        gain = 1.0
        if balanced:
            total, gain = _add_balanced(total, tracks, reader)
        else:
            for track in tracks:
                samples, start = reader.samples(track)
                total = _added(total, samples, start, float(amplitude(track.gain_db)))
        factors.update({track.file: gain * float(amplitude(track.gain_db)) for track in tracks})
    if balanced and total.size:
        gain = _gain_to(total, STEM_LUFS)
        total *= np.float32(gain)
        for track in itertools.chain.from_iterable(sources):
            factors[track.file] *= gain
    _refuse_unbounded(total, sources[0][0].group)
    return total


def _add_balanced(total: np.ndarray, tracks: Sequence[Track], reader: _Reader) -> tuple[np.ndarray, float]:
    """``total`` with one source at its loudness, and with the table's gains on top of the gain that is given too."""
    source = np.zeros((MAX_CHANNELS, 0), np.float32)
    levels = {track.gain_db for track in tracks}
    # gains that differ within a source change its sum: its loudness is measured without them
    turned = np.zeros((MAX_CHANNELS, 0), np.float32) if len(levels) > 1 else None
    for track in tracks:
        samples, start = reader.samples(track)
        source = _added(source, samples, start)
        if turned is not None:
            turned = _added(turned, samples, start, float(amplitude(track.gain_db)))
    gain = _gain_to(source, SOURCE_LUFS)
    if turned is None:
        return _added(total, source, 0, gain * float(amplitude(levels.pop()))), gain
    return _added(total, turned, 0, gain), gain


def _gain_to(audio: np.ndarray, target: float) -> float:
    """The factor that brings audio to a loudness; 1 for what carries no programme, which only noise would be."""
    if not audio.size or not programme.carried(audio, SAMPLE_RATE).any():
        return 1.0
    level = loudness.measure(audio, SAMPLE_RATE)
    return float(amplitude(target - level)) if np.isfinite(level) else 1.0


def _added(total: np.ndarray, samples: np.ndarray, start: int, gain: float = 1.0) -> np.ndarray:
    """``total`` (2, n) with ``samples`` (1 or 2, m) added from ``start`` on; in place where they fit."""
    total = pad_to(total, start + samples.shape[1])
    factor = np.float32(gain)
    for first in range(0, samples.shape[1], _SUMMED_AT_ONCE):
        part = samples[:, first : first + _SUMMED_AT_ONCE]
        total[:, start + first : start + first + part.shape[1]] += part if gain == 1 else factor * part
    return total


def _refuse_unbounded(stem: np.ndarray, group: str) -> None:
    peak = float(peaks(stem).max()) if stem.size else 0.0
    if not np.isfinite(peak) or peak > amplitude(MAX_DBFS):
        raise AudioError(f"{group}: the sum of its tracks passes {MAX_DBFS:+.0f} dBFS; lower their gain_db")

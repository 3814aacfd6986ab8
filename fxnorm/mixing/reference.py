"""A mix brought to a finished song: its thirds of an octave, width, dynamics and loudness.

All that is done is linear, or one gain over time for both channels, so parts of the mix that get the same add up to it:

1. One equalizer for both channels. It has minimum phase: a linear-phase filter that resolves a third of an octave at
   the lowest bands begins a tenth of a second before each stroke. (A. V. Oppenheim and R. W. Schafer, "Discrete-Time
   Signal Processing", on the complex cepstrum.)
2. One gain of the side (left less right) against the middle. Nothing is panned anew: what is in the centre stays there.
3. One compressor for both channels, where peaks after onsets stand higher over the loudness than the song's.
4. The gain and the limiter of :mod:`fxnorm.mixing.delivery`, to the loudness of the song.

Nothing is expanded, and equalizer and side have limits: a song says nothing of a band in which it has nothing.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import scipy  # its parts are loaded at their first use: signal alone takes a second
from pydantic import Field

from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects import compression, compressor, dynamics, loudness, programme, third_octaves, width
from fxnorm.effects.convolution import convolve
from fxnorm.effects.levels import amplitude, decibels, peaks
from fxnorm.errors import AudioError, SettingsError
from fxnorm.io import audio as audio_io
from fxnorm.mixing import limiter
from fxnorm.mixing.delivery import DeliveredMix, Delivery, deliver
from fxnorm.mixing.options import MixOptions
from fxnorm.mixing.treatment import Described
from fxnorm.statistics import DatasetStatistics

LEAST_SECONDS = 3.0
"""Of a song: the window of short-term loudness (EBU Tech 3341)."""

MOST_EQUALIZATION_DB = 12.0
"""The most that a band is turned up or down; what is missing more is another recording, and no equalizer's work."""

MOST_SIDE_DB = 6.0
"""The most that the side is turned up or down."""

RATIO, ATTACK_MS, RELEASE_MS = 4.0, 1.0, 100.0
"""Of the compressor: fast enough for the peaks that are compared, as those with field-effect transistors are."""

_RANGE_DB = 60.0  # under the loudest third of an octave; what is quieter is no band that a song has
_MONO_DB = -60.0  # of the side over the middle
_PERCENTILE = 75  # of the peaks; only the highest quarter counts
_DEPTHS_DB = (3.0, 6.0, 9.0, 12.0, 18.0, 24.0)  # thresholds under the highest peak that are tried first
_DEPTH_STEPS = 4  # of the bisection between them
_LOWER_CEILING_DB = 2.0  # under the song's true peak, which may stand so much over its samples
_CEILING_STEPS = 6  # of the bisection of a ceiling that would cost loudness
_CLIPPING_STEPS = 3  # each gives back most of the loudness that clipping took
_MOST_LIMITING_DB = 8.0  # that the limiter is given of the highest peak; the compressor takes the rest
_MORE_COMPRESSION = 3.0  # dB less for the limiter for each LU that it could not reach
_TAPS = 32_767  # resolves a third of an octave at 30 Hz
_PHASE_FFT_SIZE = 2**18
_DESIGN_STEPS, _DESIGN_STEP_SIZE = 40, 0.7  # of the fixed-point iteration
_LEAST_DB = 0.05  # smaller changes are none
_PASSES = 3  # compressor and limiter change the spectrum a little, which the next pass takes into account
_PASSES_FOR_LOUDNESS = 5  # where the limiter does not reach it, and the compressor has to take more
_LOUD_ENOUGH_LU = 0.1
_ENOUGH_DB = 0.5  # off after which there is no other pass
_REACHED_DB = 1.0  # off from which a remark says so
_SAMPLES_AT_ONCE = 2**20


class Figures(Described):
    """What a song or a mix measures; null where a figure has no value."""

    loudness_lufs: float | None = Field(description="integrated loudness (ITU-R BS.1770-4)")
    third_octaves_db: dict[str, float | None] = Field(
        description="by centre in Hz of each third of an octave (IEC 61260): level less the median of all; null where"
        " it is next to nothing, 60 dB under the loudest"
    )
    side_to_middle_db: float | None = Field(description="width: energy of the side over that of the middle; null: mono")
    peaks_lu: float | None = Field(
        description="dynamics: mean of the highest peaks after onsets, less the loudness; null without onsets"
    )
    crest_factor_db: float | None = Field(description="highest sample over the root mean square; told, not matched")
    loudness_range_lu: float | None = Field(description="loudness range (EBU Tech 3342); told, not matched")


class Off(Described):
    """A mix less the song; null where one of them has no value."""

    loudness_lu: float | None = Field(description="loudness")
    third_octaves_db: float | None = Field(description="root mean square over the bands that both have")
    worst_third_octave_db: float | None = Field(description="the band that is off most")
    side_to_middle_db: float | None = Field(description="width")
    peaks_lu: float | None = Field(description="dynamics")
    crest_factor_db: float | None = Field(description="told, not matched")
    loudness_range_lu: float | None = Field(description="told, not matched")


class Compressor(Described):
    """How a mix was compressed."""

    threshold_dbfs: float = Field(description="of the higher channel, after the equalizer")
    ratio: float = Field(description="dB in per dB out over the threshold")
    attack_ms: float = Field(description="time constant of the gain going down")
    release_ms: float = Field(description="time constant of the gain coming back")
    most_reduction_db: float = Field(description="the most by which the mix was turned down")


class ReferenceMatch(Described):
    """What was done to a mix to bring it to a song."""

    song: str = Field(description="the song, as it was named")
    figures: Figures = Field(description="what it measures")
    before: Figures = Field(description="what the network's mix measured")
    after: Figures = Field(description="what the delivered mix measures")
    off_before: Off = Field(description="before, less the song")
    off_after: Off = Field(description="after, less the song")
    equalization_db: dict[str, float | None] = Field(
        description="what each third of an octave was turned up by; empty: none"
    )
    side_gain_db: float = Field(description="what the side was turned up by")
    compressor: Compressor | None = Field(description="null: not compressed")
    remarks: list[str] = Field(description="what was not reached, and why")


@dataclass(frozen=True)
class _Measured:
    """Figures as they are computed with."""

    loudness: float
    bands: np.ndarray  # (29,), dB
    width: float  # dB; NaN of what is mono
    peaks: float  # LU; NaN without onsets
    crest: float
    range: float

    @classmethod
    def of(cls, audio: np.ndarray) -> "_Measured":
        energies = loudness.step_energies(audio).sum(axis=0)
        level = loudness.integrated(energies, audio.shape[1])
        side = width.side_to_middle_db(audio)
        return cls(
            level,
            third_octaves.measure(audio, SAMPLE_RATE),
            side if side > _MONO_DB else math.nan,
            _peaks(audio) - level,
            dynamics.crest_factor(audio, SAMPLE_RATE),
            dynamics.loudness_range(dynamics.short_term(energies, audio.shape[1])),
        )

    @property
    def known(self) -> np.ndarray:
        """Which bands hold something, bool (29,)."""
        return np.asarray(self.bands > self.bands.max() - _RANGE_DB)

    def figures(self) -> Figures:
        levels = self.bands - np.median(self.bands[self.known])
        return Figures(
            loudness_lufs=_rounded(self.loudness),
            third_octaves_db=_by_centre(np.where(self.known, levels, np.nan)),
            side_to_middle_db=_rounded(self.width),
            peaks_lu=_rounded(self.peaks),
            crest_factor_db=_rounded(self.crest),
            loudness_range_lu=_rounded(self.range),
        )

    def bands_off(self, song: "_Measured") -> np.ndarray:
        """Level in each band less the song's, and less the median of that, dB (29,); NaN where one has nothing."""
        known = self.known & song.known
        off = np.where(known, self.bands - song.bands, np.nan)
        return off - np.nanmedian(off) if known.any() else off

    def off(self, song: "_Measured") -> Off:
        bands = self.bands_off(song)
        bands = bands[~np.isnan(bands)]
        worst = float(bands[np.abs(bands).argmax()]) if bands.size else math.nan
        return Off(
            loudness_lu=_rounded(self.loudness - song.loudness),
            third_octaves_db=_rounded(float(np.sqrt(np.square(bands).mean())) if bands.size else math.nan),
            worst_third_octave_db=_rounded(worst),
            side_to_middle_db=_rounded(self.width - song.width),
            peaks_lu=_rounded(self.peaks - song.peaks),
            crest_factor_db=_rounded(self.crest - song.crest),
            loudness_range_lu=_rounded(self.range - song.range),
        )


@dataclass(frozen=True)
class Reference:
    """A song that mixes are brought to: what is measured of it.

    Attributes:
        name: of its file, for messages.
        measured: its figures.
        true_peak_dbtp: its true peak.
    """

    name: str
    measured: _Measured
    true_peak_dbtp: float

    @classmethod
    def of(cls, audio: np.ndarray, name: str) -> "Reference":
        """Measure a song.

        Args:
            audio: (1 or 2 channels, samples) at 44.1 kHz.
            name: for messages.

        Raises:
            AudioError: it is shorter than 3 s, or carries no programme: silence, hum or noise alone.
        """
        seconds = audio.shape[1] / SAMPLE_RATE
        if seconds < LEAST_SECONDS:
            raise AudioError(f"{name}: too short for a reference: expected {LEAST_SECONDS:g} s, found {seconds:.1f} s")
        audio_io.check(audio, name)
        audio = audio_io.to_stereo(audio)
        if not programme.carried(audio, SAMPLE_RATE).any():
            raise AudioError(f"{name}: no reference: it carries no programme, only silence, hum or noise")
        return cls(name, _Measured.of(audio), limiter.true_peak(audio))

    @classmethod
    def read(cls, source: str | Path) -> "Reference":
        """Measure the song in an audio file of any format that is read, or at ``s3://BUCKET/KEY``.

        Raises:
            AudioError: it cannot be read; or as :meth:`of`.
        """
        return cls.of(audio_io.read(source)[0], str(source))


@dataclass(frozen=True)
class _Chain:
    """What a mix and its parts get before the delivery: equalizer, side, gains over time."""

    bands: np.ndarray  # (29,), dB
    taps: np.ndarray | None
    side_db: float
    gains: np.ndarray | None = None
    compressor: Compressor | None = None

    def apply(self, audio: np.ndarray) -> None:
        """Overwrite ``audio`` (2, samples)."""
        self.filter(audio)
        if self.gains is not None:
            audio *= self.gains

    def filter(self, audio: np.ndarray) -> None:
        """As :meth:`apply`, without the gains."""
        if self.taps is not None:
            for channel in audio:
                channel[:] = convolve(channel, self.taps, start=0)
        if self.side_db:
            factor = np.float32(amplitude(self.side_db))
            for start in range(0, audio.shape[1], _SAMPLES_AT_ONCE):
                left, right = audio[:, start : start + _SAMPLES_AT_ONCE]
                middle, side = (left + right) / 2, factor * (left - right) / 2
                left[:], right[:] = middle + side, middle - side


@dataclass(frozen=True, kw_only=True)
class MatchedMix(DeliveredMix):
    """A mix at the level it is delivered at, after it was brought to a song.

    Attributes:
        chain: what it got before the delivery.
        match: what was done, and how far it is off.
    """

    chain: _Chain
    match: ReferenceMatch

    def part(self, part: np.ndarray, sample_rate: int) -> np.ndarray:
        """As :meth:`DeliveredMix.part`: equalizer, side and gains over time come first."""
        self.chain.apply(part)
        return super().part(part, sample_rate)


@dataclass(frozen=True)
class _Aim:
    """What is aimed for: the song, less what compressor and limiter were found to add."""

    bands: np.ndarray  # (29,), dB
    width: float  # dB
    peaks: float  # LU over the loudness
    loudness: float
    ceiling: float  # dBTP
    lowest: float  # dBTP that the ceiling may come to
    limiting: float  # dB, the most that is left to the limiter

    def corrected(self, after: _Measured, song: _Measured) -> "_Aim":
        """What to aim for where a mix came out as ``after``."""
        peaks_off = np.nan_to_num(after.peaks - song.peaks)
        return replace(
            self,
            bands=self.bands - np.nan_to_num(after.bands_off(song)),
            width=self.width - (after.width - song.width),
            peaks=self.peaks - min(0.0, peaks_off),
            ceiling=max(self.lowest, self.ceiling - max(0.0, peaks_off)),
            limiting=self.limiting - _MORE_COMPRESSION * max(0.0, self.loudness - after.loudness),
        )


def deliver_to(reference: Reference, mix: np.ndarray, delivery: Delivery, statistics: DatasetStatistics) -> MatchedMix:
    """Bring a network's mix to a song, and deliver it.

    The loudness is the song's, unless the delivery has one. No true peak is higher over the loudness than the song's.

    Args:
        reference: the song.
        mix: float32 (2, samples) at 44.1 kHz, which stays as it is.
        delivery: level and sample rate.
        statistics: of the training songs.
    """
    song = reference.measured
    target = song.loudness if delivery.target_loudness is None else delivery.target_loudness
    target = min(0.0, max(-70.0, target))
    delivery = replace(delivery, target_loudness=target)
    before = _Measured.of(mix)
    if not programme.carried(mix, SAMPLE_RATE).any():
        chain, remarks = _Chain(np.zeros(len(song.bands)), None, 0.0), ["the mix carries no programme: not matched"]
        return _matched(reference, before, before, chain, deliver(mix, delivery, statistics), remarks)
    power = _middle_and_side(mix)
    own_peak = target + reference.true_peak_dbtp - song.loudness
    highest = delivery.true_peak - limiter.MARGIN_DB
    ceiling = min(highest, own_peak)
    lowest = ceiling - _LOWER_CEILING_DB
    aim = _Aim(song.bands, song.width, song.peaks, target, ceiling, lowest, _MOST_LIMITING_DB)
    passes = 0
    while True:
        chain = _designed(power, before, aim, song)
        matched = mix.copy()
        chain.filter(matched)
        chain = _compressed(chain, matched, aim)
        under = replace(delivery, true_peak=round(_reachable(matched, aim, highest) + limiter.MARGIN_DB, 4))
        delivered = deliver(matched, under, statistics)
        del matched
        after, passes = _Measured.of(delivered.mix), passes + 1
        most = _PASSES if target - after.loudness <= _LOUD_ENOUGH_LU else _PASSES_FOR_LOUDNESS
        if passes >= most or _is_near(after, song, target, chain):
            is_held = delivered.reduction_db > 0 and highest < own_peak - _LEAST_DB
            remarks = _remarks(before, after, song, chain, is_held)
            return _matched(reference, before, after, chain, delivered, remarks)
        del delivered
        aim = aim.corrected(after, song)


def check_reference(reference: Reference | None, options: MixOptions) -> None:
    """Refuse a reference for a mix that is to keep the network's own level.

    Raises:
        SettingsError: there are both.
    """
    if reference is not None and options.as_is:
        raise SettingsError("as_is: expected either the network's own level or a reference")


def delivered_mix(
    mix: np.ndarray,
    options: MixOptions,
    statistics: DatasetStatistics,
    reference: Reference | None,
    overwrite: bool = False,
) -> DeliveredMix:
    """A network's mix (2, samples) as the options want it delivered, and brought to a song if there is one.

    With ``overwrite`` the result may take the place of ``mix``, which saves the memory of one.

    Raises:
        SettingsError: as :func:`check_reference`.
    """
    if reference is None:
        return deliver(mix, options.delivery, statistics, overwrite)
    check_reference(reference, options)
    return deliver_to(reference, mix, options.delivery, statistics)


def table(match: ReferenceMatch) -> list[str]:
    """Lines of a table of the song's figures, and how far the mix was off before and is after."""
    rows: Sequence[tuple[str, float | None, float | None, float | None]] = (
        ("loudness LUFS", match.figures.loudness_lufs, match.off_before.loudness_lu, match.off_after.loudness_lu),
        ("thirds of an octave dB", None, match.off_before.third_octaves_db, match.off_after.third_octaves_db),
        ("worst of them dB", None, match.off_before.worst_third_octave_db, match.off_after.worst_third_octave_db),
        (
            "width dB",
            match.figures.side_to_middle_db,
            match.off_before.side_to_middle_db,
            match.off_after.side_to_middle_db,
        ),
        ("peaks LU", match.figures.peaks_lu, match.off_before.peaks_lu, match.off_after.peaks_lu),
    )
    lines = [f"{'':<24}{'song':>10}{'off before':>12}{'off after':>12}"]
    for name, own, first, last in rows:
        cells = [
            "-" if value is None else f"{value:{sign}.1f}" for value, sign in ((own, ""), (first, "+"), (last, "+"))
        ]
        lines.append(f"{name:<24}{cells[0]:>10}{cells[1]:>12}{cells[2]:>12}")
    return lines


def _matched(
    reference: Reference,
    before: _Measured,
    after: _Measured,
    chain: _Chain,
    delivered: DeliveredMix,
    remarks: list[str],
) -> MatchedMix:
    song = reference.measured
    match = ReferenceMatch(
        song=reference.name,
        figures=song.figures(),
        before=before.figures(),
        after=after.figures(),
        off_before=before.off(song),
        off_after=after.off(song),
        equalization_db={} if chain.taps is None else _by_centre(chain.bands),
        side_gain_db=round(chain.side_db, 2),
        compressor=chain.compressor,
        remarks=remarks,
    )
    values = {field.name: getattr(delivered, field.name) for field in fields(DeliveredMix)}
    return MatchedMix(**values, chain=chain, match=match)


def _middle_and_side(mix: np.ndarray) -> np.ndarray:
    """Mean power of middle and side, (2, bins)."""
    return third_octaves.mean_power(np.stack([mix[0] + mix[1], mix[0] - mix[1]]) / np.float32(2), SAMPLE_RATE)


def _designed(power: np.ndarray, before: _Measured, aim: _Aim, song: _Measured) -> _Chain:
    """Equalizer and side gain that bring a mix of this power of middle and side to a song."""
    known = before.known & song.known
    if not known.any():
        return _Chain(np.zeros(len(known)), None, 0.0)
    frequencies = np.linspace(0, SAMPLE_RATE / 2, power.shape[1])
    octaves = np.log2(np.maximum(frequencies, third_octaves.CENTRES_HZ[0] / 4))
    bands, side, matches_width = np.zeros(len(known)), 0.0, not math.isnan(before.width + song.width)
    for _ in range(_DESIGN_STEPS):
        middle_power, side_power = power * np.square(amplitude(_curve(octaves, bands, known)))
        side_power *= float(amplitude(side)) ** 2
        missing = (aim.bands - third_octaves.levels(np.sqrt(middle_power + side_power)))[known]
        missing -= np.median(missing)
        bands[known] = np.clip(bands[known] + _DESIGN_STEP_SIZE * missing, -MOST_EQUALIZATION_DB, MOST_EQUALIZATION_DB)
        if matches_width:
            found = 10 * math.log10(side_power.sum() / middle_power.sum())
            side = float(np.clip(side + aim.width - found, -MOST_SIDE_DB, MOST_SIDE_DB))
    bands = np.interp(np.arange(len(known)), np.flatnonzero(known), bands[known])
    needed = bool(np.abs(bands).max() >= _LEAST_DB)
    taps = _minimum_phase(amplitude(_curve(octaves, bands, np.full(len(known), True)))) if needed else None
    return _Chain(bands, taps, side if abs(side) >= _LEAST_DB else 0.0)


def _curve(octaves: np.ndarray, bands: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Gain in dB of each bin, a line over log frequency between the bands; outside of them nothing is raised."""
    centres = np.log2(third_octaves.CENTRES_HZ[known])
    positions = np.concatenate([[octaves[0]], centres, [octaves[-1]]])
    gains = bands[known]
    return np.interp(octaves, positions, np.concatenate([[min(0.0, gains[0])], gains, [min(0.0, gains[-1])]]))


def _minimum_phase(gains: np.ndarray) -> np.ndarray:
    """Taps of a filter with these gains, from 0 Hz to half the sample rate, and without delay."""
    symmetric = scipy.signal.firwin2(_TAPS, np.linspace(0, 1, gains.size), gains)
    return np.asarray(scipy.signal.minimum_phase(symmetric, "homomorphic", _PHASE_FFT_SIZE, half=False))


def _compressed(chain: _Chain, audio: np.ndarray, aim: _Aim) -> _Chain:
    """The chain with a compressor that brings the peaks of ``audio``, which is overwritten, to those aimed for.

    What the limiter behind it takes is left to it, up to the most that it may.
    """
    level = compressor.levels(np.abs(audio).max(axis=0))
    highest = float(level.max())
    gains = np.empty_like(level)
    one = np.broadcast_to(np.float32(1), level.shape)
    attack, release = compressor.smoothing(ATTACK_MS), compressor.smoothing(RELEASE_MS)

    def compress(depth: float) -> None:
        compressor.compress(one, level, highest - depth, RATIO, attack, release, gains)

    def excess(audio: np.ndarray) -> float:
        reached, reduction = _behind_limiter(audio, aim.loudness, aim.ceiling)
        return float(np.nanmax([reached - aim.peaks, reduction - aim.limiting]))

    def found(depth: float) -> float:
        compress(depth)
        return excess(audio * gains)

    if not excess(audio.copy()) > _LEAST_DB:
        return chain
    depth = _depth(found)
    compress(depth)
    audio *= gains
    used = Compressor(
        threshold_dbfs=round(highest - depth, 2),
        ratio=RATIO,
        attack_ms=ATTACK_MS,
        release_ms=RELEASE_MS,
        most_reduction_db=round(-20 * math.log10(float(gains.min())), 2),
    )
    return replace(chain, gains=gains, compressor=used)


def _depth(excess: Callable[[float], float]) -> float:
    """How far under the highest peak the threshold lies, in dB, for an excess of 0, or nearest to it."""
    low, best = 0.0, (math.inf, 0.0)
    for high in _DEPTHS_DB:
        missing = excess(high)
        if missing <= 0:
            break
        low, best = high, min(best, (missing, high))
    else:
        return best[1]
    for _ in range(_DEPTH_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if excess(middle) <= 0 else (middle, high)
    return high


def _peaks(audio: np.ndarray) -> float:
    """Mean of the highest peaks after onsets, in dBFS; NaN without onsets.

    As :func:`fxnorm.effects.compression.measure` has them, but for those that are as high as the 75th percentile: they
    count, because of a limited mix most are equal.
    """
    figures = []
    for channel, highest in zip(audio, peaks(audio), strict=True):
        levels = compression.onset_peaks(channel)[1] + decibels(highest) - compression.REFERENCE_PEAK_DBFS
        if levels.size:
            figures.append(levels[levels >= np.percentile(levels, _PERCENTILE)].mean())
    return float(np.mean(figures)) if figures else math.nan


def _reachable(audio: np.ndarray, aim: _Aim, highest: float) -> float:
    """The ceiling that is aimed for, or as far above as the loudness needs: that comes before the peaks."""

    def is_too_low(ceiling: float) -> bool:
        return _behind_limiter(audio.copy(), aim.loudness, ceiling)[1] > aim.limiting

    if aim.ceiling >= highest or not is_too_low(aim.ceiling):
        return min(aim.ceiling, highest)
    low, high = aim.ceiling, highest
    for _ in range(_CEILING_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_too_low(middle) else (low, middle)
    return high


def _behind_limiter(audio: np.ndarray, target: float, ceiling: float) -> tuple[float, float]:
    """Peaks over the loudness of ``audio`` at it, with no sample over the ceiling, and how far that turns them down.

    An estimate: samples are clipped, which costs a tenth of the limiter's time. ``audio`` is overwritten.
    """
    highest = np.float32(amplitude(ceiling))
    reduction = -ceiling + 20 * math.log10(float(peaks(audio).max()))
    for _ in range(_CLIPPING_STEPS):
        gain = target - loudness.measure(audio, SAMPLE_RATE)
        reduction += gain
        audio *= np.float32(amplitude(gain))
        np.clip(audio, -highest, highest, out=audio)
    return _peaks(audio) - target, reduction


def _is_near(after: _Measured, song: _Measured, target: float, chain: _Chain) -> bool:
    """Whether another pass would change little: all is near that is not at its limit."""
    free = np.abs(chain.bands) < MOST_EQUALIZATION_DB - _LEAST_DB
    if target - after.loudness > _LOUD_ENOUGH_LU:
        return False
    off = [*after.bands_off(song)[free]]
    if abs(chain.side_db) < MOST_SIDE_DB - _LEAST_DB:
        off.append(after.width - song.width)
    if chain.compressor is not None or after.peaks > song.peaks:
        off.append(after.peaks - song.peaks)
    return bool((np.abs(np.nan_to_num(off)) <= _ENOUGH_DB).all())


def _remarks(before: _Measured, after: _Measured, song: _Measured, chain: _Chain, is_held: bool) -> list[str]:
    """A sentence for all that was not reached."""
    remarks = []
    bands = after.bands_off(song)
    if (off := np.abs(np.nan_to_num(bands)) > _REACHED_DB).any():
        worst = float(bands[np.abs(np.nan_to_num(bands)).argmax()])
        held = bool((np.abs(chain.bands[off]) > MOST_EQUALIZATION_DB - _LEAST_DB).any())
        why = f": the equalizer turns no band by more than {MOST_EQUALIZATION_DB:g} dB" if held else ""
        remarks.append(f"thirds of an octave at {_hertz(off)} are off by up to {worst:+.1f} dB{why}")
    for empty, who in ((~song.known & before.known, "the song"), (~before.known & song.known, "the mix")):
        if empty.any():
            remarks.append(f"{who} has next to nothing at {_hertz(empty)}, which is not matched")
    if math.isnan(song.width) != math.isnan(before.width):
        remarks.append(
            "the song is mono: the width stays" if math.isnan(song.width) else "the mix is mono, and stays so"
        )
    elif abs(after.width - song.width) > _REACHED_DB:
        held = abs(chain.side_db) > MOST_SIDE_DB - _LEAST_DB
        why = f": the side is turned by no more than {MOST_SIDE_DB:g} dB" if held else ""
        remarks.append(f"the width is off by {after.width - song.width:+.1f} dB{why}")
    if abs(missing := after.peaks - song.peaks) > _REACHED_DB:
        why = "the true peak holds them" if is_held else "nothing is expanded"
        if missing > 0:
            why = "compressor and limiter reach no further"
        remarks.append(
            f"peaks stand {abs(missing):.1f} LU {'higher' if missing > 0 else 'lower'} than the song's: {why}"
        )
    return remarks


def _hertz(bands: np.ndarray) -> str:
    """Bands by their centres: the first to the last, or one."""
    named = [third_octaves.NOMINAL_HZ[index] for index in np.flatnonzero(bands)]
    return f"{named[0]:g} Hz" if len(named) == 1 else f"{named[0]:g} to {named[-1]:g} Hz"


def _by_centre(bands: np.ndarray) -> dict[str, float | None]:
    return {f"{hertz:g}": _rounded(float(level)) for hertz, level in zip(third_octaves.NOMINAL_HZ, bands, strict=True)}


def _rounded(value: float) -> float | None:
    """In hundredths; None for what JSON cannot represent."""
    return round(value, 2) if math.isfinite(value) else None

"""A look-ahead true-peak limiter, and the level that a mix is delivered at.

The true peak is that of the signal between its samples (ITU-R BS.1770-5, Annex 2), estimated here on a grid eight
times as fine, twice as fine as the standard asks for. The limiter works on a whole mix, so it looks ahead and back: its
gain is the least that any peak within 5 ms needs, recovers exponentially, and is averaged over 5 ms to either side. No
gain that is averaged so is higher than what the peak in its middle needs.

How far a mix may be driven into it is bounded by how much of the music it holds down, and for how long. A few strokes
that stand out may be turned down far, as in mastering, since what lasts milliseconds is little missed. A limiter that
holds most of the music down by several decibels flattens it: listeners rate the highest amounts of limiting worse at
equal loudness too (Croghan, Arehart and Kates, "Quality and loudness judgments for music subjected to compression
limiting", JASA 132(2), 2012).
"""

import functools
import math
from dataclasses import dataclass

import numpy as np

from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects import loudness
from fxnorm.effects.levels import amplitude, checked, decibels, peaks
from fxnorm.runtime.compiled import kernel

CRUSHING_DB = 6.0
"""Reduction, on average over 400 ms, from which on music counts as held down: half its amplitude. Meters of mastering
limiters show 2 to 6 dB in loud passages of loud masters, for moments; the figure is ours."""

MOST_CRUSHED = 0.5
"""The most of a mix that may be held down, as a share of its programme: the limiter then works all the time."""

MOST_REDUCTION_DB = 24.0
"""The limiter never turns a peak down by more. A stroke that stands out by as much is a fault of its recording."""

TOLERANCE_LU = 0.05
"""How far from its target the loudness of a delivered mix may lie."""

MARGIN_DB = 0.1
"""By which the ceiling is kept: meters interpolate with filters of their own, and those of noise up to half the sample
rate read half of it more or less."""

_OVERSAMPLING = 8
_TAPS = 32  # of each phase of the interpolation
_BLOCK = 64  # samples that are screened at once
_SAMPLES_AT_ONCE = 2**18  # whose peaks are measured: bounds the memory
_REACH_SECONDS = 0.005
_RELEASE_SECONDS = 0.08  # in which the gain recovers to a factor of e
_MOST_STEPS = 24  # of the search; it halves an interval of 60 dB at each, at worst
_GAIN_STEP_DB = 0.001  # in which a gain is searched
_USUAL_REDUCTION_DB = 12.0  # for which peaks are measured first; peaks for more take longer to measure
_BLOCK_SECONDS = 0.4
_FAINTEST = 1e-7  # mean square of a block that sounds: -70 dBFS
_MOST_CORRECTIONS = 4


@dataclass(frozen=True)
class Delivered:
    """A mix at the level that it is delivered at.

    Attributes:
        audio: (2, samples).
        gains: (samples,), float32: what each sample was multiplied by; parts of the mix that get the same gains add up
            to ``audio``.
        loudness_lufs: its integrated loudness; minus infinity where it has none.
        true_peak_dbtp: its true peak.
        gain_db: the gain before the limiter.
        reduction_db: the most by which the limiter turned a peak down, at least 0.
        shortfall_lu: how far under the target it stays, because more gain would crush it; 0 where it is reached.
        bound: what more gain would do, in words; None where the target is reached.
    """

    audio: np.ndarray
    gains: np.ndarray
    loudness_lufs: float
    true_peak_dbtp: float
    gain_db: float
    reduction_db: float
    shortfall_lu: float
    bound: str | None = None


def true_peak(audio: np.ndarray, gains: np.ndarray | None = None) -> float:
    """True peak in dBTP of ``audio`` (channels, samples), at any sample rate; digital silence gives -600.

    ``gains`` (samples,) are what samples are multiplied by first, without a copy of the audio.
    """
    audio = np.ascontiguousarray(audio, dtype=np.float32)
    highest = 0.0
    for start in range(0, audio.shape[1], _SAMPLES_AT_ONCE):
        first, stop = max(start - _TAPS, 0), start + _SAMPLES_AT_ONCE
        part = audio[:, first : stop + _TAPS]
        found = _peaks_between(part if gains is None else part * gains[first : stop + _TAPS], highest)
        highest = max(highest, float(found[start - first : stop - first].max()))
    return float(decibels(highest))


def limit(audio: np.ndarray, ceiling_dbtp: float, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """``audio`` (1 or 2 channels, samples) with no true peak over ``ceiling_dbtp``; all channels get one gain.

    Raises:
        AudioError: not one or two channels of samples.
    """
    audio = checked(audio, SAMPLE_RATE)
    return audio * _Limiter(audio, ceiling_dbtp, sample_rate).gains(1.0)


def deliver(
    audio: np.ndarray, own_lufs: float, target_lufs: float, ceiling_dbtp: float, out: np.ndarray | None = None
) -> Delivered:
    """``audio`` brought to a loudness by one gain and the limiter behind it.

    Args:
        audio: (channels, samples) at 44.1 kHz.
        own_lufs: its integrated loudness; minus infinity where it has none, which leaves it as it is.
        target_lufs: integrated loudness (ITU-R BS.1770-4).
        ceiling_dbtp: the highest true peak.
        out: where the result is written, which may be ``audio``, if given.

    Raises:
        AudioError: not one or two channels at 44.1 kHz.
    """
    audio = checked(audio, SAMPLE_RATE)
    limiter = _Limiter(audio, ceiling_dbtp)
    if not np.isfinite(own_lufs):
        ones = np.ones(audio.shape[1], dtype=np.float32)
        return Delivered(audio, ones, own_lufs, true_peak(audio), 0.0, 0.0, 0.0)
    gain = _search(limiter, target_lufs, target_lufs - own_lufs)
    gains = limiter.gains(float(amplitude(gain)))
    reduction, bound = max(0.0, gain - limiter.headroom_db), limiter.bound(gain)
    del limiter
    limited = np.multiply(audio, gains, out=out)
    reached = loudness.measure(limited, SAMPLE_RATE)
    shortfall = target_lufs - reached
    missed = shortfall > TOLERANCE_LU
    return Delivered(
        audio=limited,
        gains=gains,
        loudness_lufs=reached,
        true_peak_dbtp=true_peak(limited),
        gain_db=gain,
        reduction_db=reduction,
        shortfall_lu=shortfall if missed else 0.0,
        bound=bound if missed else None,
    )


@dataclass(frozen=True)
class Held:
    """A mix under a ceiling.

    Attributes:
        audio: (channels, samples).
        gain_db: by which all of it was turned down before the limiter, at most 0, lest it be crushed.
        reduction_db: the most by which the limiter turned a peak down.
        bound: what less of that would have done, in words; None where the gain is 0.
    """

    audio: np.ndarray
    gain_db: float
    reduction_db: float
    bound: str | None


def hold(audio: np.ndarray, ceiling_dbtp: float, sample_rate: int = SAMPLE_RATE) -> Held:
    """As :func:`limit`, of a mix that is turned down as a whole first where the limiter would crush it.

    Raises:
        AudioError: not one or two channels of samples.
    """
    audio = checked(audio, SAMPLE_RATE)
    limiter = _Limiter(audio, ceiling_dbtp, sample_rate)
    gain = 0.0
    if limiter.crushes(gain):
        gain, crushing = limiter.headroom_db, gain
        while crushing - gain > _GAIN_STEP_DB:
            middle = (gain + crushing) / 2
            gain, crushing = (gain, middle) if limiter.crushes(middle) else (middle, crushing)
    return Held(
        audio=audio * limiter.gains(float(amplitude(gain))),
        gain_db=gain,
        reduction_db=max(0.0, gain - limiter.headroom_db),
        bound=limiter.bound(gain) if gain else None,
    )


class _Limiter:
    """A limiter of one recording at any gain before it: the peaks are measured once, or twice for high gains."""

    def __init__(self, audio: np.ndarray, ceiling_dbtp: float, sample_rate: int = SAMPLE_RATE) -> None:
        self.audio = audio
        self.sample_rate = sample_rate
        self.ceiling = float(amplitude(ceiling_dbtp - MARGIN_DB))
        self._measure(_USUAL_REDUCTION_DB)
        self.highest = float(self.peaks.max(initial=0.0))
        self.headroom_db = float(decibels(self.ceiling) - decibels(self.highest))

    def _measure(self, most_reduction_db: float) -> None:
        """Look for peaks of the heights that are turned down where the highest is turned down by so much at most."""
        least = float(peaks(self.audio).max(initial=0.0) * amplitude(-most_reduction_db))
        self.peaks = np.zeros(0, np.float32)  # else those before would be there beside the new ones
        self.peaks = _peaks_between(self.audio, min(least, self.ceiling))
        self._most_reduction_db = most_reduction_db

    @functools.cached_property
    def _programme(self) -> np.ndarray:
        """Numbers of the blocks of 400 ms that hold the music: no more than 10 dB under the mean of what sounds.

        That is how BS.1770 gates loudness, without its weighting, which would be that of one sample rate.
        """
        size = self._block
        count = max(1, self.audio.shape[1] // size)
        powers = np.array(
            [np.square(self.audio[:, n * size : (n + 1) * size], dtype=np.float64).mean() for n in range(count)]
        )
        audible = powers > _FAINTEST
        return np.flatnonzero(audible & (powers > 0.1 * powers[audible].mean())) if audible.any() else np.arange(0)

    @property
    def _block(self) -> int:
        return round(_BLOCK_SECONDS * self.sample_rate)

    def crushes(self, gain_db: float, gains: np.ndarray | None = None) -> bool:
        """Whether a gain before the limiter drives the mix too far into it; ``gains`` are its :meth:`rough_gains`."""
        reduction = gain_db - self.headroom_db
        if reduction > MOST_REDUCTION_DB + _GAIN_STEP_DB:
            return True
        if reduction <= CRUSHING_DB or not self._programme.size:
            return False
        gains = self.rough_gains(float(amplitude(gain_db))) if gains is None else gains
        least = float(amplitude(gain_db - CRUSHING_DB))
        crushed = 0
        for number in self._programme:
            block = gains[number * self._block : (number + 1) * self._block]
            if block.min() < least:  # most blocks need no logarithm
                crushed += float(np.log(block).mean(dtype=np.float64)) < math.log(least)
        return crushed > MOST_CRUSHED * self._programme.size

    def bound(self, gain_db: float) -> str:
        """What more gain than this would do, in words."""
        if gain_db - self.headroom_db > MOST_REDUCTION_DB - 2 * _GAIN_STEP_DB:
            return f"turn its highest peak down by over {MOST_REDUCTION_DB:g} dB"
        return f"hold over {MOST_CRUSHED:.0%} of it down by over {CRUSHING_DB:g} dB"

    def gains(self, gain: float) -> np.ndarray:
        """What each sample is multiplied by, where a gain stands before the limiter: float32 (samples,).

        A gain that changes moves the peaks between samples a little; where one passes the ceiling by that, all is
        limited once more with a ceiling that is lower by as much.
        """
        return self._gains_under(self.ceiling, gain, _MOST_CORRECTIONS)

    def _gains_under(self, ceiling: float, gain: float, looks: int) -> np.ndarray:
        gains = self.rough_gains(gain, ceiling)
        highest = float(amplitude(true_peak(self.audio, gains)))
        if highest <= self.ceiling:
            return gains
        if looks == 1:
            gains *= np.float32(self.ceiling / highest)
            return gains
        del gains  # else they would be there beside the next ones
        return self._gains_under(ceiling * self.ceiling / highest * (1 - 1e-6), gain, looks - 1)

    def rough_gains(self, gain: float, ceiling: float | None = None) -> np.ndarray:
        """As :meth:`gains`, without the second look at the peaks between samples."""
        ceiling = ceiling or self.ceiling
        if gain * self.highest <= ceiling:
            return np.full(self.peaks.size, gain, dtype=np.float32)
        if float(decibels(gain * self.highest / self.ceiling)) > self._most_reduction_db:
            self._measure(MOST_REDUCTION_DB + _USUAL_REDUCTION_DB)
        reach = round(_REACH_SECONDS * self.sample_rate) // 2
        release = float(np.exp(-1 / (_RELEASE_SECONDS * self.sample_rate)))
        return _gains(self.peaks, gain, ceiling, reach, release)


def _search(limiter: _Limiter, target: float, start: float) -> float:
    """The gain in dB behind whose limiting the loudness is ``target``, or the most that does not crush the mix."""
    low, high = min(start, limiter.headroom_db), limiter.headroom_db + MOST_REDUCTION_DB
    gain = min(start, high)
    for _ in range(_MOST_STEPS):
        gains = limiter.rough_gains(float(amplitude(gain)))
        step = math.nan
        if limiter.crushes(gain, gains):
            high = gain
        else:
            energies = loudness.step_energies(limiter.audio, gains).sum(axis=0)
            missing = target - loudness.integrated(energies, gains.size)
            if abs(missing) <= TOLERANCE_LU / 5:
                return gain
            low, high = (gain, high) if missing > 0 else (low, gain)
            # limiting takes a part of each decibel of gain: what is missing is a lower bound of the step
            step = gain + 1.3 * missing
        del gains  # else they would be there beside the next ones
        if high - low < _GAIN_STEP_DB:
            break
        gain = step if low < step < high else (low + high) / 2
    return low


@functools.cache
def _interpolation() -> np.ndarray:
    """Filters (phases, taps) that give the signal between two samples: windowed sinc, Kaiser beta 8 (-80 dB)."""
    phases = np.arange(_OVERSAMPLING) / _OVERSAMPLING
    positions = np.arange(_TAPS) - (_TAPS // 2 - 1)
    distance = positions[None, :] - phases[:, None]
    half = _TAPS / 2
    window = np.i0(8.0 * np.sqrt(np.clip(1 - (distance / half) ** 2, 0, None))) / np.i0(8.0)
    return (np.sinc(distance) * window).astype(np.float32)


def _peaks_between(audio: np.ndarray, least: float) -> np.ndarray:
    """Highest magnitude of any channel from each sample to the next: float32 (samples,).

    Where the samples around a block show that no peak reaches ``least``, their own magnitudes stand instead.
    """
    filters = _interpolation()
    bound = float(np.abs(filters).sum(axis=1).max())
    found = np.empty(audio.shape[1], dtype=np.float32)
    for start in range(0, found.size, _SAMPLES_AT_ONCE):
        first, stop = max(start - _TAPS, 0), min(start + _SAMPLES_AT_ONCE, found.size)
        part = _oversampled_peaks(audio[:, first : stop + _TAPS], filters, bound, least)
        found[start:stop] = part[start - first : stop - first]
    return found


@kernel(fastmath=True, error_model="numpy")
def _oversampled_peaks(audio: np.ndarray, filters: np.ndarray, bound: float, least: float) -> np.ndarray:
    phases, taps = filters.shape
    before = taps // 2 - 1
    samples = audio.shape[1]
    found = np.zeros(samples, dtype=np.float32)
    padded = np.zeros(samples + taps, dtype=np.float32)
    for channel in audio:
        padded[:] = 0
        padded[before : before + samples] = channel
        for start in range(0, samples, _BLOCK):
            stop = min(start + _BLOCK, samples)
            around = 0.0
            for n in range(start, stop + taps):
                around = max(around, abs(padded[n])) if n < padded.size else around
            for n in range(start, stop):
                found[n] = max(found[n], abs(channel[n]))
            if around * bound <= least:
                continue
            for phase in range(1, phases):
                for n in range(start, stop):
                    value = np.float32(0.0)
                    for tap in range(taps):
                        value += filters[phase, tap] * padded[n + tap]
                    found[n] = max(found[n], abs(value))
    return found


@kernel(error_model="numpy")
def _gains(heights: np.ndarray, gain: float, ceiling: float, reach: int, release: float) -> np.ndarray:
    """What ``gain`` and a limiter multiply samples by whose peaks have these heights: float32 (samples,).

    The least gain that any peak within ``2 reach`` samples needs recovers exponentially, and is averaged over
    ``2 reach + 1`` samples twice, which see no further than that.
    """
    edge = 2 * reach
    needed = np.ones(heights.size + 2 * edge, dtype=np.float32)
    for n in range(heights.size):
        if gain * heights[n] > ceiling:
            needed[edge + n] = ceiling / (gain * heights[n])
    _least_around(needed, edge)
    current = 1.0
    for n in range(needed.size):
        current = min(needed[n], 1 - (1 - current) * release)
        needed[n] = current
    _average(needed, reach)
    _average(needed, reach)
    for n in range(heights.size):
        needed[n] = np.float32(gain) * needed[edge + n]
    return needed[: heights.size]


@kernel(error_model="numpy")
def _least_around(values: np.ndarray, reach: int) -> None:
    """The least of each value and its ``reach`` neighbours on both sides, in place, by a queue of what may be it."""
    count, room = values.size, 2 * reach + 2
    places = np.empty(room, dtype=np.int64)
    queue = np.empty(room, dtype=np.float32)
    first = last = 0
    for n in range(count + reach):
        if n < count:
            while last > first and queue[(last - 1) % room] >= values[n]:
                last -= 1
            places[last % room], queue[last % room] = n, values[n]
            last += 1
        if n >= reach:
            while places[first % room] < n - 2 * reach:
                first += 1
            values[n - reach] = queue[first % room]


@kernel(error_model="numpy")
def _average(values: np.ndarray, reach: int) -> None:
    """Means of ``2 reach + 1`` values around each, in place; those before the first and after the last count as 1."""
    count, room = values.size, reach + 1
    before = np.ones(room, dtype=np.float32)  # the last values that a mean has replaced
    total = reach + 1.0  # float64: whole steps of float32 add up in it without loss
    for n in range(min(reach, count)):
        total += values[n]
    total += max(0, reach - count)
    for n in range(count):
        total += (values[n + reach] if n + reach < count else 1.0) - before[n % room]
        before[n % room] = values[n]
        values[n] = total / (2 * reach + 1)

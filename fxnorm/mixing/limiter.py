"""A look-ahead true-peak limiter, and the level that a mix is delivered at.

The true peak is that of the signal between its samples (ITU-R BS.1770-5, Annex 2), estimated here on a grid eight
times as fine, twice as fine as the standard asks for. The limiter works on a whole mix, so it looks ahead and back: its
gain is the least that any peak within 5 ms needs, recovers exponentially, and is averaged over 5 ms to either side. No
gain that is averaged so is higher than what the peak in its middle needs.
"""

import functools
from dataclasses import dataclass

import numpy as np

from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects import loudness
from fxnorm.effects.levels import amplitude, checked, decibels, peaks
from fxnorm.runtime.compiled import kernel

MOST_REDUCTION_DB = 12.0
"""The limiter never turns a peak down by more: a mix that is driven further into it is crushed."""

TOLERANCE_LU = 0.05
"""How far from its target the loudness of a delivered mix may lie."""

MARGIN_DB = 0.1
"""By which the ceiling is kept: meters interpolate with filters of their own, and those of noise up to half the sample
rate read half of it more or less."""

_OVERSAMPLING = 8
_TAPS = 32  # of each phase of the interpolation
_BLOCK = 64  # samples that are screened at once
_SAMPLES_AT_ONCE = 2**20  # whose true peak is measured: bounds the memory
_REACH_SECONDS = 0.005
_RELEASE_SECONDS = 0.08  # in which the gain recovers to a factor of e
_MOST_STEPS = 24  # of the search; it halves an interval of 60 dB at each, at worst
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
        shortfall_lu: how far under the target it stays, because more gain would reduce peaks by more than
            ``MOST_REDUCTION_DB``; 0 where the target is reached.
    """

    audio: np.ndarray
    gains: np.ndarray
    loudness_lufs: float
    true_peak_dbtp: float
    gain_db: float
    reduction_db: float
    shortfall_lu: float


def true_peak(audio: np.ndarray) -> float:
    """True peak in dBTP of ``audio`` (channels, samples), at any sample rate; digital silence gives -600."""
    audio = np.ascontiguousarray(audio, dtype=np.float32)
    highest = 0.0
    for start in range(0, audio.shape[1], _SAMPLES_AT_ONCE):
        first, stop = max(start - _TAPS, 0), start + _SAMPLES_AT_ONCE
        found = _peaks_between(audio[:, first : stop + _TAPS], highest)
        highest = max(highest, float(found[start - first : stop - first].max()))
    return float(decibels(highest))


def limit(audio: np.ndarray, ceiling_dbtp: float, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """``audio`` (1 or 2 channels, samples) with no true peak over ``ceiling_dbtp``; all channels get one gain.

    Raises:
        AudioError: not one or two channels of samples.
    """
    audio = checked(audio, SAMPLE_RATE)
    return audio * _Limiter(audio, ceiling_dbtp, sample_rate).gains(1.0)


def deliver(audio: np.ndarray, own_lufs: float, target_lufs: float, ceiling_dbtp: float) -> Delivered:
    """``audio`` brought to a loudness by one gain and the limiter behind it.

    Args:
        audio: (channels, samples) at 44.1 kHz.
        own_lufs: its integrated loudness; minus infinity where it has none, which leaves it as it is.
        target_lufs: integrated loudness (ITU-R BS.1770-4).
        ceiling_dbtp: the highest true peak.

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
    limited = audio * gains
    reached = loudness.measure(limited, SAMPLE_RATE)
    shortfall = target_lufs - reached
    return Delivered(
        audio=limited,
        gains=gains,
        loudness_lufs=reached,
        true_peak_dbtp=true_peak(limited),
        gain_db=gain,
        reduction_db=max(0.0, gain - limiter.headroom_db),
        shortfall_lu=shortfall if shortfall > TOLERANCE_LU else 0.0,
    )


class _Limiter:
    """A limiter of one recording at any gain before it: the peaks are measured once."""

    def __init__(self, audio: np.ndarray, ceiling_dbtp: float, sample_rate: int = SAMPLE_RATE) -> None:
        self.audio = audio
        self.sample_rate = sample_rate
        self.ceiling = float(amplitude(ceiling_dbtp - MARGIN_DB))
        # the highest peak is turned down by so much at most, and peaks that are lower by as much not at all
        least = float(peaks(audio).max() * amplitude(-MOST_REDUCTION_DB))
        self.peaks = _peaks_between(audio, min(least, self.ceiling))
        self.highest = float(self.peaks.max(initial=0.0))
        self.headroom_db = float(decibels(self.ceiling) - decibels(self.highest))

    def gains(self, gain: float) -> np.ndarray:
        """What each sample is multiplied by, where a gain stands before the limiter: float32 (samples,).

        A gain that changes moves the peaks between samples a little; where one passes the ceiling by that, all is
        limited once more with a ceiling that is lower by as much.
        """
        ceiling = self.ceiling
        for _ in range(_MOST_CORRECTIONS):
            gains = self.rough_gains(gain, ceiling)
            highest = float(amplitude(true_peak(self.audio * gains)))
            if highest <= self.ceiling:
                return gains
            ceiling *= self.ceiling / highest * (1 - 1e-6)
        return gains * np.float32(self.ceiling / highest)

    def rough_gains(self, gain: float, ceiling: float | None = None) -> np.ndarray:
        """As :meth:`gains`, without the second look at the peaks between samples."""
        ceiling = ceiling or self.ceiling
        if gain * self.highest <= ceiling:
            return np.full(self.peaks.size, gain, dtype=np.float32)
        reach = round(_REACH_SECONDS * self.sample_rate) // 2
        release = float(np.exp(-1 / (_RELEASE_SECONDS * self.sample_rate)))
        return _gains(self.peaks, gain, ceiling, reach, release)


def _search(limiter: _Limiter, target: float, start: float) -> float:
    """The gain in dB behind whose limiting the loudness is ``target``, or the most that may be."""
    highest = limiter.headroom_db + MOST_REDUCTION_DB
    low, high = min(start, highest), highest
    gain = low
    for _ in range(_MOST_STEPS):
        reached = loudness.measure(limiter.audio * limiter.rough_gains(float(amplitude(gain))), SAMPLE_RATE)
        missing = target - reached
        if abs(missing) <= TOLERANCE_LU / 5:
            break
        low, high = (gain, high) if missing > 0 else (low, gain)
        if high - low < TOLERANCE_LU / 50:
            break
        # limiting takes a part of each decibel of gain: what is missing is a lower bound of the step
        step = gain + 1.3 * missing
        gain = step if low < step < high else (low + high) / 2
    return gain


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
    return _oversampled_peaks(audio, filters, float(np.abs(filters).sum(axis=1).max()), least)


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
    needed = _least_around(needed, edge)
    current = 1.0
    for n in range(needed.size):
        current = min(needed[n], 1 - (1 - current) * release)
        needed[n] = current
    needed = _averages(needed, reach)
    needed = _averages(needed, reach)
    for n in range(heights.size):
        needed[n] = np.float32(gain) * needed[edge + n]
    return needed[: heights.size]


@kernel(error_model="numpy")
def _least_around(values: np.ndarray, reach: int) -> np.ndarray:
    """The least of each value and its ``reach`` neighbours on both sides, by a queue of those that may still be it."""
    count, room = values.size, 2 * reach + 2
    least = np.empty(count, dtype=np.float32)
    queue = np.empty(room, dtype=np.int64)
    first = last = 0
    for n in range(count + reach):
        if n < count:
            while last > first and values[queue[(last - 1) % room]] >= values[n]:
                last -= 1
            queue[last % room] = n
            last += 1
        if n >= reach:
            while queue[first % room] < n - 2 * reach:
                first += 1
            least[n - reach] = values[queue[first % room]]
    return least


@kernel(error_model="numpy")
def _averages(values: np.ndarray, reach: int) -> np.ndarray:
    """Means of ``2 reach + 1`` values around each; those before the first and after the last count as 1."""
    count = values.size
    means = np.empty(count, dtype=np.float32)
    total = reach + 1.0  # float64: whole steps of float32 add up in it without loss
    for n in range(min(reach, count)):
        total += values[n]
    total += max(0, reach - count)
    for n in range(count):
        total += (values[n + reach] if n + reach < count else 1.0) - (values[n - reach - 1] if n > reach else 1.0)
        means[n] = total / (2 * reach + 1)
    return means

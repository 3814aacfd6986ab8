"""Compression: how high the peaks after a stem's onsets are, and a compressor set until they fit a target.

The peak statistic and the search over ratios and thresholds are those of Martínez-Ramírez et al., "Automatic music
mixing with deep learning and out-of-domain data" (ISMIR 2022).
"""

from dataclasses import dataclass

import numpy as np

from fxnorm.constants import SAMPLE_RATE, SILENCE_DBFS
from fxnorm.effects import compressor, onsets
from fxnorm.effects.controls import Control
from fxnorm.effects.levels import amplitude, checked, decibels, peaks, sounding_part
from fxnorm.runtime.compiled import kernel

REFERENCE_PEAK_DBFS = -10.0
"""dBFS that the highest sample is brought to before peaks are measured."""

_PERCENTILE = 75  # of the peaks; only what lies above counts
_THRESHOLDS = np.arange(-10.0, -40.5, -0.5)  # dB, tried in this order …
_HIGHEST_RATIO = 20  # … for ratios from the stem's lowest to this, in steps of 1
_MARGIN = 16 * onsets.FRAME  # samples of silence around a stem, in which the onset detection comes to rest


@dataclass(frozen=True)
class CompressionSettings:
    """A stem's compressor.

    Attributes:
        attack_ms: time constant of the gain going down, ms.
        release_ms: time constant of the gain coming back, ms.
        lowest_ratio: dB in per dB out over the threshold that the search starts from.
    """

    attack_ms: float
    release_ms: float
    lowest_ratio: int


PUBLISHED_SETTINGS = {
    "vocals": CompressionSettings(attack_ms=7.5, release_ms=400.0, lowest_ratio=4),
    "bass": CompressionSettings(attack_ms=10.0, release_ms=500.0, lowest_ratio=5),
    "drums": CompressionSettings(attack_ms=10.0, release_ms=180.0, lowest_ratio=6),
    "other": CompressionSettings(attack_ms=15.0, release_ms=666.0, lowest_ratio=4),
}


def measure(
    audio: np.ndarray, sample_rate: int, reference_peak: float | None = REFERENCE_PEAK_DBFS
) -> np.ndarray | None:
    """Mean and standard deviation in dB of the highest peaks after onsets: float64 (2,).

    Of the highest samples from each onset to the next, those above their 75th percentile count, per channel; the two
    figures are averaged over channels.

    Args:
        audio: float32 array (channels, samples).
        sample_rate: Hz, must be 44,100.
        reference_peak: dBFS that the highest sample is brought to first; ``None`` measures the audio as it is.

    Returns:
        peak and deviation; ``None`` if a channel has no onset.

    Raises:
        AudioError: not one or two channels at 44.1 kHz.
    """
    audio = checked(audio, sample_rate)
    highest = peaks(audio).max()
    if highest == 0:
        return None
    audio = audio[:, sounding_part(audio, onsets.FRAME, _MARGIN)]
    if reference_peak is not None:
        audio = audio * np.float32(amplitude(reference_peak) / highest)
    figures = [figure for channel in audio if (figure := _peak_statistic(channel, onsets.detect(channel)))]
    return np.mean(figures, axis=0) if len(figures) == len(audio) else None


def onset_peaks(audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times in s of the onsets of one channel, ``audio`` (samples,), and the highest level in dB from each to the next.

    The levels are at a peak of -10 dBFS, as :func:`measure` takes them.
    """
    audio = np.ascontiguousarray(audio, dtype=np.float32)
    starts = onsets.detect(audio)
    shift = REFERENCE_PEAK_DBFS - decibels(peaks(audio[None])[0])
    return starts / SAMPLE_RATE, decibels(_segment_peaks(audio, starts)) + shift


def match(
    audio: np.ndarray,
    sample_rate: int,
    target: np.ndarray,
    settings: CompressionSettings,
    out: np.ndarray | None = None,
    controls: list[Control] | None = None,
) -> np.ndarray:
    """``audio`` (channels, samples) at a peak of -10 dBFS per channel, compressed until its peaks fit ``target``.

    Peaks fit when their mean is under target[0] + target[1] (peak and deviation, dB). The first ratio and threshold
    that reaches this is taken, or the strongest of all if none does. What fits already is not compressed, and nothing
    is expanded. A channel that does not pass -50 dBFS stays as it is. The result is written to ``out``, which may be
    ``audio``, if given. What was done is added to ``controls``, if given.

    Raises:
        AudioError: not one or two channels at 44.1 kHz.
    """
    audio = checked(audio, sample_rate)
    part = sounding_part(audio, onsets.FRAME, _MARGIN)
    matched = np.empty_like(audio) if out is None else out
    channel_gains: list[np.ndarray | None] = []  # of each sample of the part that sounds; None where a channel stays
    for channel, highest in enumerate(peaks(audio)):
        gains = None
        if decibels(highest) > SILENCE_DBFS:
            to_reference = np.float32(amplitude(REFERENCE_PEAK_DBFS) / highest)
            sound = audio[channel, part] * to_reference
            gains = np.ones_like(sound) if controls is not None else None
            _compress_to_fit(sound, float(target[0] + target[1]), settings, matched[channel, part], gains)
            matched[channel, : part.start] = matched[channel, part.stop :] = 0
            if gains is not None:
                gains *= to_reference
        else:
            matched[channel] = audio[channel]
        channel_gains.append(gains)

    def same(other: np.ndarray) -> None:
        for samples, gains in zip(other, channel_gains, strict=True):
            if gains is not None:
                samples[part] *= gains
                samples[: part.start] = samples[part.stop :] = 0

    if controls is not None:
        controls.append(same)
    return matched


def _compress_to_fit(
    audio: np.ndarray,
    limit: float,
    settings: CompressionSettings,
    output: np.ndarray,
    gains: np.ndarray | None = None,
) -> None:
    """``audio`` (samples,) compressed with the first setting that brings the mean of its peaks under ``limit`` dB.

    The gain of each sample is written to ``gains`` (samples,), which holds ones.
    """
    starts = onsets.detect(audio)
    if _peak(audio, starts) < limit:
        output[:] = audio
        return
    search = _Search(audio, limit, settings, output)
    for ratio in range(settings.lowest_ratio, _HIGHEST_RATIO + 1):
        if search.run(ratio, starts):
            break
    if search.best_buffer is not output:
        output[:] = search.best_buffer
    if gains is not None:
        one = np.broadcast_to(np.float32(1), gains.shape)
        compressor.compress(one, search.level, *search.best_setting, *search.smoothing, gains)


class _Search:
    """Finds the first threshold that brings the peaks under a limit, as trying one after the other would.

    ``buffer`` (samples,) is one of the two buffers that results are written to; it may not be ``audio``.

    With the same onsets, peaks fall from each threshold to the next, because the reduction of every sample grows. So
    the onsets before compression give an estimate for all thresholds at once. Compression adds and takes away quiet
    onsets, though, which moves the figure: so the estimate's threshold and the one before are tried, with their own
    onsets, and if they are not where the peaks pass under the limit, the search goes on from there.
    """

    def __init__(self, audio: np.ndarray, limit: float, settings: CompressionSettings, buffer: np.ndarray) -> None:
        self.audio, self.limit = audio, limit
        self.smoothing = compressor.smoothing(settings.attack_ms), compressor.smoothing(settings.release_ms)
        self.level = compressor.levels(audio)
        # best_buffer holds the result of the latest threshold that fits, or else of the strongest. trial_buffer is
        # overwritten by every trial; a trial that is to be kept exchanges the two. Either may be ``buffer``.
        self.best_buffer, self._trial_buffer = np.empty_like(audio), buffer
        self.best_setting = 0.0, 1.0  # threshold in dB and ratio of what best_buffer holds

    def run(self, ratio: int, starts: np.ndarray) -> bool:
        """Whether a threshold fits with this ratio; ``starts`` are the onsets before compression."""
        failing, fitting = -1, self._estimate(ratio, starts, after=-1)
        while True:
            fits, starts = self._try(ratio, fitting)
            if fits:
                break
            if fitting == _THRESHOLDS.size - 1:
                return False
            failing, fitting = fitting, self._estimate(ratio, starts, after=fitting)
        middle = fitting - 1
        while fitting - failing > 1:
            if self._try(ratio, middle)[0]:
                fitting = middle
            else:
                failing = middle
            middle = (failing + fitting) // 2
        return True

    def _try(self, ratio: int, index: int) -> tuple[bool, np.ndarray]:
        """Whether a threshold fits, and the onsets after compression with it."""
        compressor.compress(self.audio, self.level, _THRESHOLDS[index], ratio, *self.smoothing, self._trial_buffer)
        starts = onsets.detect(self._trial_buffer)
        fits = _peak(self._trial_buffer, starts) < self.limit
        if fits or index == _THRESHOLDS.size - 1:
            self.best_buffer, self._trial_buffer = self._trial_buffer, self.best_buffer
            self.best_setting = float(_THRESHOLDS[index]), float(ratio)
        return fits, starts

    def _estimate(self, ratio: int, starts: np.ndarray, after: int) -> int:
        """The first threshold after this one that fits if the onsets are ``starts``; the last one if none does."""
        last = _THRESHOLDS.size - 1
        for first in range(after + 1, last, compressor.LANES):
            lanes = _THRESHOLDS[np.minimum(first + np.arange(compressor.LANES), last)].astype(np.float32)
            levels = compressor.segment_levels(self.level, starts, lanes, 1 - 1 / ratio, *self.smoothing)
            for lane in range(compressor.LANES):
                if _highest(levels[:, lane])[0] < self.limit:
                    return min(first + lane, last)
        return last


def _peak(audio: np.ndarray, starts: np.ndarray) -> float:
    """The peaks' mean in dB; minus infinity for audio without onsets, so that it is under any limit."""
    figure = _peak_statistic(audio, starts)
    return -np.inf if figure is None else figure[0]


def _peak_statistic(audio: np.ndarray, starts: np.ndarray) -> tuple[float, float] | None:
    """Mean and deviation in dB of the highest peaks after the onsets ``starts`` of one channel; None without onset."""
    if starts.size == 0:
        return None
    return _highest(decibels(_segment_peaks(audio, starts)))


@kernel(error_model="numpy")
def _highest(levels: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the levels above their 75th percentile, or of all if none is."""
    ordered = np.sort(levels)
    position = _PERCENTILE / 100 * (ordered.size - 1)
    below = int(position)
    percentile = ordered[below]
    if position > below:
        percentile += (ordered[below + 1] - ordered[below]) * (position - below)
    first = np.searchsorted(ordered, percentile, side="right")
    highest = ordered[first:] if first < ordered.size else ordered
    return highest.mean(), highest.std()


@kernel(fastmath=True, error_model="numpy")
def _segment_peaks(audio: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Highest absolute sample from each start to the next, the last one to the end."""
    highest = np.zeros(starts.size, dtype=np.float32)
    for segment in range(starts.size):
        stop = starts[segment + 1] if segment + 1 < starts.size else audio.size
        peak = np.float32(0)
        for sample in audio[starts[segment] : stop]:
            peak = max(peak, abs(sample))
        highest[segment] = peak
    return highest

"""Short-time spectra as the statistics are defined on them, and the smoothing of spectral curves.

No frame is centred or scaled, and the window is the square root of the periodic Hann window, so that analysis and
synthesis together make a Hann window, whose halves overlap to one.
"""

from collections.abc import Iterator
from functools import cache
from typing import Literal

import numpy as np
import scipy  # its parts are loaded at their first use: signal alone takes a second
from numpy.lib.stride_tricks import sliding_window_view

from fxnorm.effects.levels import sounding
from fxnorm.runtime.compiled import kernel

FFT_SIZE = 65_536
HOP = FFT_SIZE // 4
BINS = FFT_SIZE // 2 + 1
"""Number of values in an equalization or panning curve: 0 Hz to half the sample rate."""

Precision = Literal["float32", "float64"]

_FRAMES_AT_ONCE = 2  # of 65,536 samples; more do not fit the cache
_TINY = 1e-37


@cache
def window(fft_size: int, precision: Precision = "float32") -> np.ndarray:
    """Square root of the periodic Hann window, (fft_size,)."""
    return np.sqrt(scipy.signal.get_window("hann", fft_size, fftbins=True)).astype(precision)


def excerpt(audio: np.ndarray, start: int, length: int) -> np.ndarray:
    """``length`` samples of ``audio`` (channels, samples) from ``start``; outside of ``audio`` there is silence."""
    stop = start + length
    if start >= 0 and stop <= audio.shape[1]:
        return audio[:, start:stop]
    part = np.zeros((audio.shape[0], length), dtype=audio.dtype)
    first, last = max(start, 0), min(stop, audio.shape[1])
    part[:, first - start : last - start] = audio[:, first:last]
    return part


def frame_count(samples: int, fft_size: int, hop: int) -> int:
    """Number of whole frames in ``samples`` samples; one, partly silent, if a frame is longer."""
    return 1 + max(0, samples - fft_size) // hop


def frames(
    audio: np.ndarray, fft_size: int, hop: int, at_once: int, precision: Precision = "float32", padding: int = 0
) -> Iterator[np.ndarray]:
    """Spectra of ``audio`` (channels, samples), some frames at a time: complex (channels, frames, bins).

    Only whole frames count, except that audio shorter than one is filled up with silence; ``padding`` samples of
    silence are taken to stand before and after the audio.
    """
    count = frame_count(audio.shape[1] + 2 * padding, fft_size, hop)
    for first in range(0, count, at_once):
        length = (min(at_once, count - first) - 1) * hop + fft_size
        views = sliding_window_view(excerpt(audio, first * hop - padding, length), fft_size, axis=1)[:, ::hop]
        yield scipy.fft.rfft(views * window(fft_size, precision), overwrite_x=True)


def mean_magnitude(audio: np.ndarray) -> np.ndarray:
    """Mean over frames of the spectrum's magnitude, per channel of ``audio`` (channels, samples): (channels, bins).

    In single precision: bins more than 100 dB under a channel's loudest may be off by a thousandth.
    """
    total = np.zeros((audio.shape[0], BINS), dtype=np.float32)
    for spectra in frames(_sounding_frames(audio), FFT_SIZE, HOP, _FRAMES_AT_ONCE):
        _add_magnitudes(spectra, total)
    return total / np.float32(frame_count(audio.shape[1], FFT_SIZE, HOP))


def _sounding_frames(audio: np.ndarray) -> np.ndarray:
    """The part of ``audio`` that its frames cover which are not digital silence."""
    first, stop = sounding(audio)
    first_frame = max(0, (first - FFT_SIZE) // HOP + 1)
    last_frame = min(frame_count(audio.shape[1], FFT_SIZE, HOP), -(-stop // HOP)) - 1
    return audio[:, first_frame * HOP : last_frame * HOP + FFT_SIZE]


@kernel(fastmath=True, error_model="numpy")
def _add_magnitudes(spectra: np.ndarray, total: np.ndarray) -> None:
    for channel in range(spectra.shape[0]):
        for frame in range(spectra.shape[1]):
            values, sums = spectra[channel, frame], total[channel]
            for k in range(values.size):
                sums[k] += np.sqrt(values[k].real ** 2 + values[k].imag ** 2)


def mean_curves(audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What equalization and panning measure of ``audio`` (channels, samples), from one set of spectra.

    Returns:
        the mean over frames and channels of the magnitude, float64 (bins,), and the mean over frames of the
        similarity of left and right, 2 |L| |R| / (|L|^2 + |R|^2), float64 (bins,). The similarity is 1 for what is
        centred, 0 for what is on one side only, and 1 where both sides are silent.
    """
    magnitude, similarity = np.zeros(BINS), np.zeros(BINS)
    if len(audio) > 1 and np.array_equal(audio[0], audio[1]):
        audio = audio[:1]  # a mono recording on both sides: one spectrum, and the same bits
    silent = count = frame_count(audio.shape[1], FFT_SIZE, HOP)
    for spectra in frames(_sounding_frames(audio), FFT_SIZE, HOP, _FRAMES_AT_ONCE, "float64"):
        _accumulate(spectra[0], spectra[-1], magnitude, similarity)
        silent -= spectra.shape[1]
    return magnitude / count, (similarity + silent) / count


@kernel(fastmath=True, error_model="numpy")
def _accumulate(left: np.ndarray, right: np.ndarray, magnitude: np.ndarray, similarity: np.ndarray) -> None:
    for frame in range(left.shape[0]):
        for k in range(left.shape[1]):
            power_left = left[frame, k].real ** 2 + left[frame, k].imag ** 2
            power_right = right[frame, k].real ** 2 + right[frame, k].imag ** 2
            level_left, level_right = np.sqrt(power_left), np.sqrt(power_right)
            magnitude[k] += 0.5 * (level_left + level_right)
            similarity[k] += (2 * level_left * level_right + _TINY) / (power_left + power_right + _TINY)


def smooth(curve: np.ndarray, length: int) -> np.ndarray:
    """Savitzky-Golay smoothing of order 1 over ``length`` bins, odd, mirrored at both ends.

    A straight line fitted to a symmetric window has the window's mean at its centre, so this is a moving mean.
    """
    total = np.concatenate([[0.0], np.cumsum(np.pad(np.asarray(curve, dtype=np.float64), length // 2, mode="reflect"))])
    return (total[length:] - total[:-length]) / length

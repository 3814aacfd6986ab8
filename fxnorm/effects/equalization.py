"""Equalization: the mean spectrum of a stem, and a linear-phase filter that brings each channel to a target spectrum.

A curve holds the mean over frames of the STFT magnitude, FFT 65,536, of a stem brought to -30 LUFS. The filter is
designed from the square root of the target divided by the stem's spectrum, and runs forwards and backwards
(Martínez-Ramírez et al., "Automatic music mixing with deep learning and out-of-domain data", ISMIR 2022).
"""

from dataclasses import dataclass

import numpy as np
import scipy  # its parts are loaded at their first use: signal alone takes a second

from fxnorm.constants import SAMPLE_RATE, SILENCE_DBFS
from fxnorm.effects import loudness, spectrum
from fxnorm.effects.controls import Control
from fxnorm.effects.convolution import convolve
from fxnorm.effects.levels import amplitude, checked, decibels, peaks

REFERENCE_LOUDNESS = -30.0
"""LUFS that audio is brought to before its spectrum is measured, so that curves of different songs compare."""

_ROUNDING = 1e-7  # of the loudest bin: what single precision cannot distinguish from silence is not turned up further

_BAND_TAPS = 16_383  # resolves a third of an octave at 60 Hz
_BAND_CENTRES = 1000 * 2 ** (np.arange(-16, 14) / 3)  # Hz, 25 to 20,000 (IEC 61260, base 2)
_BAND_LIMIT_DB = 40.0  # most that a band is turned up or down
_BAND_STEPS, _BAND_STEP_SIZE = 30, 0.7  # of the fixed-point iteration; far more than it needs to get under 0.01 dB


@dataclass(frozen=True)
class EqualizationSettings:
    """How the matching filter is designed; the defaults are the published ones.

    The published filter follows the ratio of the target to the stem's spectrum bin by bin, but resolves only some 100
    Hz. Where a stem has partials, the valleys between them decide, and the partials end up to 10 dB too loud. With
    ``third_octaves`` a longer filter is designed until every third of an octave has the target's mean magnitude.

    Attributes:
        taps: length of the published filter in samples, odd.
        third_octaves: match the means over thirds of an octave instead.
    """

    taps: int = 1001
    third_octaves: bool = False


def measure(audio: np.ndarray, sample_rate: int, reference_loudness: float | None = REFERENCE_LOUDNESS) -> np.ndarray:
    """Mean magnitude spectrum of ``audio`` (channels, samples): float32 (32769,), 0 to 22,050 Hz.

    Args:
        audio: float32 array (channels, samples).
        sample_rate: Hz, must be 44,100.
        reference_loudness: LUFS that the audio is brought to first; ``None`` measures it as it is, and so is audio
            without loudness.

    Raises:
        AudioError: not one or two channels at 44.1 kHz.
    """
    audio = checked(audio, sample_rate)
    magnitude = spectrum.mean_curves(audio)[0]
    if reference_loudness is not None:
        level = loudness.measure(audio, sample_rate)
        magnitude *= loudness.gain_to(level, reference_loudness, float(peaks(audio).max()))
    return magnitude.astype(np.float32)


def match(
    audio: np.ndarray,
    sample_rate: int,
    target: np.ndarray,
    settings: EqualizationSettings | None = None,
    out: np.ndarray | None = None,
    controls: list[Control] | None = None,
) -> np.ndarray:
    """``audio`` (channels, samples) with each channel at -30 LUFS filtered towards the spectrum ``target`` (32769,).

    A channel that does not pass -50 dBFS stays as it is. Outside of ``audio`` is silence: what the filter needs of
    its surroundings, up to its own length at both ends, is taken as zero. The result is written to ``out``, which may
    be ``audio``, if given. What was done is added to ``controls``, if given.

    Raises:
        AudioError: not one or two channels at 44.1 kHz.
    """
    settings = settings or EqualizationSettings()
    audio = checked(audio, sample_rate)
    highest = peaks(audio)
    energies = loudness.step_energies(audio)
    magnitudes = spectrum.mean_magnitude(audio)
    matched = np.empty_like(audio) if out is None else out
    kernels: list[np.ndarray | None] = []  # by channel; None where it stays
    for channel in range(audio.shape[0]):
        level = loudness.integrated(energies[channel], audio.shape[1])
        if decibels(highest[channel]) <= SILENCE_DBFS or not np.isfinite(level):
            matched[channel] = audio[channel]
            kernels.append(None)
        else:
            gain = loudness.gain_to(level, REFERENCE_LOUDNESS, float(highest[channel]))
            kernel = gain * _design(gain * magnitudes[channel], target, settings)
            matched[channel] = convolve(audio[channel], kernel, start=kernel.size // 2)
            kernels.append(kernel)

    def same(other: np.ndarray) -> None:
        for samples, kernel in zip(other, kernels, strict=True):
            if kernel is not None:
                samples[:] = convolve(samples, kernel, start=kernel.size // 2)

    if controls is not None:
        controls.append(same)
    return matched


def _design(source: np.ndarray, target: np.ndarray, settings: EqualizationSettings) -> np.ndarray:
    """Symmetric kernel that takes the spectrum ``source`` to ``target``, both (bins,)."""
    source = np.maximum(source, max(_ROUNDING * source.max(), np.finfo(np.float32).tiny))
    if settings.third_octaves:
        return _linear_phase(_band_gains(source, target), _BAND_TAPS)
    # running the filter forwards and backwards is one convolution with its autocorrelation
    taps = _linear_phase(np.sqrt(target / source), settings.taps)
    return np.convolve(taps, taps)


def _linear_phase(gains: np.ndarray, taps: int) -> np.ndarray:
    return scipy.signal.firwin2(taps, np.linspace(0, 1, gains.size), gains)


def _band_gains(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Gain of each bin, a line in dB over log frequency between bands, that gives every band the target's mean."""
    frequencies = np.linspace(0, SAMPLE_RATE / 2, source.size)
    edges = np.append(_BAND_CENTRES * 2 ** (-1 / 6), _BAND_CENTRES[-1] * 2 ** (1 / 6))
    first, last = np.searchsorted(frequencies, [edges[:-1], edges[1:]])
    position = np.log2(np.maximum(frequencies, _BAND_CENTRES[0] / 2))

    def band_levels(magnitude: np.ndarray) -> np.ndarray:
        total = np.concatenate([[0.0], np.cumsum(magnitude)])
        return decibels((total[last] - total[first]) / (last - first))

    target_levels, band_gains, gains = band_levels(target), np.zeros(_BAND_CENTRES.size), np.ones(source.size)
    for _ in range(_BAND_STEPS):
        missing = target_levels - band_levels(gains * source)
        band_gains = np.clip(band_gains + _BAND_STEP_SIZE * missing, -_BAND_LIMIT_DB, _BAND_LIMIT_DB)
        gains = amplitude(np.interp(position, np.log2(_BAND_CENTRES), band_gains))
    return gains

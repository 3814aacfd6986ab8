"""Levels in thirds of an octave, as engineers read spectra: the bands of IEC 61260, base 2, from 25 Hz to 16 kHz."""

import numpy as np

from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects import spectrum
from fxnorm.effects.levels import checked, decibels

CENTRES_HZ = 1000 * 2 ** (np.arange(-16, 13) / 3)

NOMINAL_HZ = (
    25, 31.5, 40, 50, 63, 80, 100, 125, 160, 200, 250, 315, 400, 500, 630, 800,
    1_000, 1_250, 1_600, 2_000, 2_500, 3_150, 4_000, 5_000, 6_300, 8_000, 10_000, 12_500, 16_000,
)  # fmt: skip
"""What the bands are called."""

_FFT_SIZE = 2**15  # the lowest band spans four bins
_FRAMES_AT_ONCE = 4


def levels(magnitude: np.ndarray) -> np.ndarray:
    """Levels in dB (29,) of a spectrum's magnitude (bins,), from 0 Hz to half of 44.1 kHz."""
    bin_hertz = SAMPLE_RATE / 2 / (len(magnitude) - 1)
    lower, upper = (np.rint(CENTRES_HZ * 2**shift / bin_hertz).astype(int) for shift in (-1 / 6, 1 / 6))
    power = np.concatenate([[0.0], np.cumsum(np.square(magnitude, dtype=np.float64))])
    return decibels(np.sqrt(power[upper] - power[lower]))


def measure(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Levels in dB (29,) of the mean power of ``audio`` (channels, samples) in each band; each sample counts alike.

    Raises:
        AudioError: not one or two channels at 44.1 kHz.
    """
    return levels(np.sqrt(mean_power(audio, sample_rate).mean(axis=0)))


def mean_power(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Mean power of each channel of ``audio`` (channels, samples), (channels, bins), from 0 Hz to half of 44.1 kHz.

    Raises:
        AudioError: not one or two channels at 44.1 kHz.
    """
    audio = checked(audio, sample_rate)
    hop = _FFT_SIZE // 2  # squares of the windows add up to one
    power = np.zeros((len(audio), _FFT_SIZE // 2 + 1))
    for spectra in spectrum.frames(audio, _FFT_SIZE, hop, _FRAMES_AT_ONCE, padding=_FFT_SIZE):
        power += np.square(np.abs(spectra)).sum(axis=1, dtype=np.float64)
    return power * 2 / (_FFT_SIZE * audio.shape[1])

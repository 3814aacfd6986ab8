"""Levels and checks that all effects share. Levels are in decibels relative to full scale, an amplitude of 1."""

import numpy as np

from fxnorm.constants import SAMPLE_RATE, SILENCE_DBFS
from fxnorm.errors import AudioError
from fxnorm.runtime.compiled import kernel

_FLOOR = 1e-30  # keeps the logarithm finite: silence is -600 dB


def decibels(amplitude: np.ndarray | float) -> np.ndarray:
    """20 log10 of an amplitude; zero gives -600 dB instead of minus infinity."""
    return 20 * np.log10(np.asarray(amplitude, dtype=np.float64) + _FLOOR)


def amplitude(level: np.ndarray | float) -> np.ndarray:
    """The inverse of :func:`decibels`."""
    return np.power(10.0, np.asarray(level, dtype=np.float64) / 20)


def checked(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """``audio`` as a contiguous float32 array (channels, samples), which is what the compiled loops read.

    Raises:
        AudioError: a sample rate other than 44.1 kHz, or another shape than one or two channels of samples.
    """
    if sample_rate != SAMPLE_RATE:
        raise AudioError(f"effects work at {SAMPLE_RATE} Hz, found {sample_rate} Hz; resample the audio first")
    if audio.ndim != 2 or audio.shape[0] not in (1, 2) or audio.shape[1] == 0:
        raise AudioError(f"effects expect an array (channels, samples) of 1 or 2 channels, found shape {audio.shape}")
    return np.ascontiguousarray(audio, dtype=np.float32)


@kernel(fastmath=True, error_model="numpy")
def peaks(audio: np.ndarray) -> np.ndarray:
    """Highest absolute sample of each channel of ``audio`` (channels, samples), in one pass and without a copy."""
    highest = np.zeros(audio.shape[0], dtype=np.float32)
    for channel in range(audio.shape[0]):
        peak = np.float32(0.0)
        for sample in audio[channel]:
            peak = max(peak, abs(sample))
        highest[channel] = peak
    return highest


def is_silent(audio: np.ndarray) -> bool:
    """Whether no sample of ``audio`` passes -50 dBFS; what is silent is neither measured nor processed."""
    return bool(decibels(peaks(audio).max()) <= SILENCE_DBFS)


@kernel()
def sounding(audio: np.ndarray) -> tuple[int, int]:
    """First sample of ``audio`` (channels, samples) that is not digital silence, and where the silence after it begins.

    Padded stems are silent for seconds at both ends, where nothing has to be computed. Both are 0 for silence alone.
    """
    first, last = audio.shape[1], -1
    for channel in audio:
        for n in range(first):
            if channel[n] != 0:
                first = n
                break
        for n in range(channel.size - 1, last, -1):
            if channel[n] != 0:
                last = n
                break
    return (first, last + 1) if last >= 0 else (0, 0)


def sounding_part(audio: np.ndarray, grid: int, margin: int) -> slice:
    """Where ``audio`` (channels, samples) sounds, with ``margin`` samples of the silence before and after.

    It starts at a multiple of ``grid``, so that frames lie where they would lie in the whole. Empty for silence alone.
    """
    first, stop = sounding(audio)
    return slice(max(0, (first - margin) // grid * grid), min(audio.shape[1], stop + margin) if stop else 0)

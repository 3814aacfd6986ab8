"""The part of each song that is heard: where it begins, and how loud it is.

All mixes of a test have the same integrated loudness (ITU-R BS.1770-4), because the louder of two mixes is preferred
for that alone. None is limited for it: where one's true peak would pass the limit, the whole test is turned down.
"""

from collections.abc import Iterable

import numpy as np
import scipy.signal

from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects import loudness
from fxnorm.effects.levels import amplitude, decibels
from fxnorm.errors import AudioError

TRUE_PEAK_LIMIT = -1.0
"""dBTP (EBU R 128)."""

_FADE_SECONDS = 0.03
_OVERSAMPLING = 4  # ITU-R BS.1770-4, annex 2
_STEP_SECONDS = 0.1  # of loudness.step_energies


def true_peak(audio: np.ndarray) -> float:
    """Highest level between the samples of ``audio`` (channels, samples) in dBTP: at four times the rate."""
    oversampled = scipy.signal.resample_poly(audio.astype(np.float64), _OVERSAMPLING, 1, axis=1)
    return float(decibels(max(np.abs(oversampled).max(), np.abs(audio).max())))


def loudest_start(mixes: Iterable[np.ndarray], seconds: float) -> float:
    """Where the loudest excerpt begins, in seconds: by energy after K-weighting, each mix having the same say.

    Args:
        mixes: of one song, each (2, samples), of one length.
        seconds: the excerpt's length.
    """
    shares = [energies / max(energies.sum(), 1e-30) for energies in map(_step_energies, mixes)]
    together = np.sum(shares, axis=0)
    width = max(1, round(seconds / _STEP_SECONDS))
    if width >= len(together):
        return 0.0
    sums = np.convolve(together, np.ones(width), mode="valid")
    return float(np.argmax(sums)) * _STEP_SECONDS


def _step_energies(mix: np.ndarray) -> np.ndarray:
    energies: np.ndarray = loudness.step_energies(np.ascontiguousarray(mix)).sum(axis=0)
    return energies


def cut(audio: np.ndarray, start_seconds: float, seconds: float) -> np.ndarray:
    """That part of ``audio`` (channels, samples), faded in and out over 30 ms so that it can be looped."""
    start = round(start_seconds * SAMPLE_RATE)
    excerpt = np.array(audio[:, start : start + round(seconds * SAMPLE_RATE)], dtype=np.float32)
    length = min(round(_FADE_SECONDS * SAMPLE_RATE), excerpt.shape[1] // 2)
    ramp = np.sin(0.5 * np.pi * (np.arange(length) + 0.5) / length).astype(np.float32) ** 2
    excerpt[:, :length] *= ramp
    excerpt[:, excerpt.shape[1] - length :] *= ramp[::-1]
    return excerpt


def gain_to_zero(excerpt: np.ndarray, name: str) -> np.float32:
    """The factor that brings ``excerpt`` (2, samples) to 0 LUFS.

    Raises:
        AudioError: it is too quiet to have a loudness; ``name`` stands in the text.
    """
    measured = loudness.measure(excerpt, SAMPLE_RATE)
    if not np.isfinite(measured):
        raise AudioError(f"{name}: silent in this excerpt; choose another one with --start")
    return np.float32(amplitude(-measured))


def envelope(mixes: Iterable[np.ndarray], columns: int) -> list[float]:
    """Peaks of ``columns`` stretches, averaged over the mixes: a picture that fits them all. The highest is 1.

    One waveform is shown for all mixes, because each one's own would tell them apart.
    """
    curves = []
    for mix in mixes:
        starts = np.linspace(0, mix.shape[1], columns, endpoint=False, dtype=int)
        curves.append(np.maximum.reduceat(np.abs(mix).max(axis=0), starts))
    mean = np.mean(curves, axis=0)
    return [round(float(value), 3) for value in mean / max(mean.max(), 1e-30)]

"""The part of each song that is heard, and how loud it is.

All mixes of a test have the same integrated loudness (ITU-R BS.1770-4), because the louder of two mixes is preferred
for that alone. None is limited for it: where one's true peak would pass the limit, the whole test is turned down.
"""

from collections.abc import Iterable

import numpy as np

from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects import loudness, programme
from fxnorm.effects.levels import amplitude
from fxnorm.errors import AudioError

TRUE_PEAK_LIMIT = -1.0
"""dBTP (EBU R 128)."""

_FADE_SECONDS = 0.03


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
        AudioError: it carries no programme or is too quiet to have a loudness; ``name`` stands in the text.
    """
    measured = loudness.measure(excerpt, SAMPLE_RATE)
    if not np.isfinite(measured) or not programme.carried(excerpt, SAMPLE_RATE).any():
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

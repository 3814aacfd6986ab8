"""How far a recording's level moves: its short-term loudness, the range of that, and how far peaks stand out.

Sources: EBU Tech 3341 and 3342, with the K-weighting of ITU-R BS.1770.
"""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects import loudness
from fxnorm.effects.levels import checked, decibels, peaks

_STEP = SAMPLE_RATE // 10  # of loudness.step_energies
_SHORT_TERM_STEPS = 30  # EBU Tech 3341: a window of 3 s
_ABSOLUTE_GATE = -70.0  # EBU Tech 3342, LUFS
_RELATIVE_GATE = -20.0  # LU under the mean of what passes the absolute gate
_PERCENTILES = (10, 95)


def short_term(energies: np.ndarray, samples: int) -> np.ndarray:
    """Loudness of every window of 3 s, ten a second, in LUFS: (windows,), the first for 0 to 3 s.

    Args:
        energies: of :func:`fxnorm.effects.loudness.step_energies`, summed over channels.
        samples: that they are of; less than 3 s have no window. Digital silence gives -300.
    """
    whole = energies[: samples // _STEP]
    if len(whole) < _SHORT_TERM_STEPS:
        return np.empty(0)
    return loudness.level(sliding_window_view(whole, _SHORT_TERM_STEPS).mean(axis=-1) / _STEP)


def loudness_range(short_term_lufs: np.ndarray) -> float:
    """Loudness range in LU of what :func:`short_term` gives; NaN where no window reaches -70 LUFS."""
    audible = short_term_lufs[short_term_lufs >= _ABSOLUTE_GATE]
    if len(audible) == 0:
        return math.nan
    relative_gate = 10 * np.log10(np.mean(10 ** (audible / 10))) + _RELATIVE_GATE
    low, high = np.percentile(audible[audible >= relative_gate], _PERCENTILES, method="nearest")
    return float(high - low)


def crest_factor(audio: np.ndarray, sample_rate: int) -> float:
    """Peak over root mean square of all of ``audio`` (channels, samples), in dB; NaN of digital silence.

    Raises:
        AudioError: not one or two channels at 44.1 kHz.
    """
    audio = checked(audio, sample_rate)
    blocks = [block for channel in audio for block in np.array_split(channel, 1 + channel.size // _STEP)]
    energy = sum(float(np.dot(block, block)) for block in blocks)
    if energy == 0:
        return math.nan
    return float(decibels(float(peaks(audio).max())) - decibels(math.sqrt(energy / audio.size)))

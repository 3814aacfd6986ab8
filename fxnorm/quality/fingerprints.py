"""Finds recordings that come again: as MP3, at another sample rate or level, in mono, inverted, or trimmed.

A fingerprint is the peaks of a spectrogram at a low sample rate, as in A. Wang, "An industrial-strength audio search
algorithm" (ISMIR 2003). Two fingerprints are compared in two steps:

1. Pairs of neighbouring peaks are hashed. The hashes that two fingerprints have in common vote for the time between
   them. Only pairs of songs with enough votes for one time go on.
2. At that time, the peaks that both have at the same place are counted. The score is the share of them in the smaller
   fingerprint, that of fewer peaks.

**What counts as the same recording**: a score of :data:`SAME_RECORDING` or more. So the greater part of the shorter one
has to be in the other, at one time. An excerpt of a song is the same recording; two songs that share an intro, a loop or
a drum track are not.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

from fxnorm.io import audio as audio_io

SAME_RECORDING = 0.5

_RATE = 11_025  # Hz
_FRAME, _HOP = 1024, 256  # samples, 93 and 23 ms
_LOWEST_BIN, _HIGHEST_BIN = 10, 430  # 108 Hz to 4.6 kHz
_PEAK_BINS, _PEAK_FRAMES = 12, 10
_RANGE_DB = 50.0
_RANGE_FRAMES = 43
_FLOOR_DBFS = -80.0

_FAN_OUT = 6
_ZONE_FRAMES = (2, 63)
_ZONE_BINS = 63
_HASHES = 1 << 22


@dataclass(frozen=True, eq=False)
class Fingerprint:
    seconds: float
    frames: np.ndarray
    bins: np.ndarray


@dataclass(frozen=True, order=True)
class Match:
    first: str
    second: str
    offset_seconds: float
    score: float


def fingerprint(audio: np.ndarray, sample_rate: int) -> Fingerprint:
    low = audio_io.resample(audio_io.to_stereo(audio), sample_rate, _RATE)
    seconds = audio.shape[1] / sample_rate
    level = _spectrogram_db(low)
    if not level.size:
        return Fingerprint(seconds, np.empty(0, np.int32), np.empty(0, np.int16))
    loudest = ndimage.maximum_filter1d(level.max(axis=1), 2 * _RANGE_FRAMES + 1)
    floor = np.maximum(loudest - _RANGE_DB, _FLOOR_DBFS)[:, np.newaxis]
    above = ndimage.maximum_filter1d(level, 2 * _PEAK_BINS + 1, axis=1)
    # the first of equal levels is the peak
    width = _PEAK_FRAMES
    padded = np.pad(above, ((width, 0), (0, 0)), constant_values=-np.inf)
    before = ndimage.maximum_filter1d(padded, width, axis=0, origin=(width - 1) // 2 - (width - 1) + width // 2 if False else 0)
    before = np.lib.stride_tricks.sliding_window_view(padded, width, axis=0).max(axis=-1)[: len(level)]
    padded = np.pad(above, ((0, width), (0, 0)), constant_values=-np.inf)
    after = np.lib.stride_tricks.sliding_window_view(padded, width + 1, axis=0).max(axis=-1)
    frames, bins = np.nonzero((level >= above) & (level > before) & (level >= after) & (level > floor))
    return Fingerprint(seconds, frames.astype(np.int32), (bins + _LOWEST_BIN).astype(np.int16))


def _spectrogram_db(stereo: np.ndarray) -> np.ndarray:
    """Level (frames, bins) in dB: energy of both channels."""
    signal = stereo[0] + 1j * stereo[1]
    if signal.size < _FRAME:
        return np.empty((0, 0), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(signal, _FRAME)[::_HOP]
    window = np.hanning(_FRAME + 1)[:-1].astype(np.float32)
    window /= window.sum()
    spectrum = fft.fft(frames * window, axis=1)
    power = np.square(np.abs(spectrum))
    both = power[:, _LOWEST_BIN:_HIGHEST_BIN] + power[:, -_LOWEST_BIN : -_HIGHEST_BIN : -1]
    return 10 * np.log10(both + 1e-20)


def landmarks(f):
    n = len(f.frames)
    K = 40
    hs, ts = [], []
    taken = np.zeros(n, int)
    for k in range(1, min(K, n - 1) + 1):
        a = slice(0, n - k); b = slice(k, n)
        dt = f.frames[b] - f.frames[a]
        df = f.bins[b].astype(np.int32) - f.bins[a]
        ok = (dt >= _ZONE_FRAMES[0]) & (dt <= _ZONE_FRAMES[1]) & (np.abs(df) <= _ZONE_BINS) & (taken[a] < _FAN_OUT)
        taken[a][ok] += 1
        h = (f.bins[a].astype(np.uint32) << 13) | ((df + 64).astype(np.uint32) << 6) | dt.astype(np.uint32)
        hs.append(h[ok]); ts.append(f.frames[a][ok])
    if not hs: return np.empty(0, np.uint32), np.empty(0, np.int32)
    return np.concatenate(hs), np.concatenate(ts)

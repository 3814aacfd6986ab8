"""What a single file shows by itself: clipping, a constant offset, silence, equal channels, a band limit."""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects.levels import decibels
from fxnorm.io import audio
from fxnorm.quality.spectra import HZ_PER_BIN
from fxnorm.runtime.compiled import kernel

_FLAT = 4.6e-5  # 1.5 steps of 16 bit: samples that are that near to the peak are at it
_CORNER = 8 * _FLAT  # a smooth wave whose top is flat to _FLAT for some samples has left it by less than half of this
_SHORTEST_RUN = 3  # samples
_LEAST_PEAK = 0.01  # -40 dBFS: under it, steps of 16 bit are a large part of the wave
_BLOCK = SAMPLE_RATE // 10  # samples, of silences
_OFFSET_BLOCK = SAMPLE_RATE // 2  # samples, of offsets
_STEADY = 2.0  # times the deviation of the blocks' means that a constant offset has at least
_SMOOTHED_HZ = 150.0  # of the spectrum in which a limit is sought
_BELOW_HZ, _GAP_HZ, _ABOVE_HZ = 1000.0, 700.0, 1500.0  # before a limit, its slope, and after it
_LOWEST_LIMIT_HZ, _HIGHEST_LIMIT_HZ = 4_000.0, 19_800.0
_DROP_DB = 25.0  # within the slope; strings of analogue filters and instruments lose less than 10
_NOTHING_FOLLOWS_DB = 3.0  # what may come above, over the level after the slope
_NOISE_DB = -115.0  # of full scale a bin, under which there is rounding alone


@dataclass(frozen=True)
class FileMeasures:
    """A file's own figures.

    Attributes:
        peak_dbfs: highest sample.
        clipped_runs: runs of three and more equal samples at the peak of a channel, cut off with a corner.
        clipped_samples: the samples in them.
        clip_dbfs: the level at which they are cut off; NaN without any.
        clip_at: the first sample of the longest run; -1 without any.
        offset: mean of the channel in which a constant offset is larger, of full scale; 0 without any.
        equal_channels: whether there are two, and they are the same.
        longest_silence: (first, stop) sample of the longest stretch of digital or near silence (-80 dBFS).
    """

    peak_dbfs: float
    clipped_runs: int
    clipped_samples: int
    clip_dbfs: float
    clip_at: int
    offset: float
    equal_channels: bool
    longest_silence: tuple[int, int]


def measure(samples: np.ndarray) -> FileMeasures:
    """Measure audio (channels, samples) at its own rate."""
    runs = clipped = 0
    at, longest, level = -1, 0, float("nan")
    for channel in samples:
        for sign in (1, -1):
            found = _clipped(channel, sign)
            if found is None:
                continue
            count, total, start, length, peak = found
            runs, clipped = runs + count, clipped + total
            if length > longest:
                at, longest, level = start, length, float(decibels(np.float64(peak)))
    equal = samples.shape[0] == 2 and bool(np.array_equal(samples[0], samples[1])) and bool(np.any(samples))
    offsets = [_offset(channel) for channel in samples]
    return FileMeasures(
        audio.peak_dbfs(samples), runs, clipped, level, at, max(offsets, key=abs), equal, _longest_silence(samples)
    )


def _clipped(channel: np.ndarray, sign: int) -> tuple[int, int, int, int, float] | None:
    """Runs at the highest (or lowest) sample, samples in them, the longest one's start and length, and the level."""
    peak = float(sign * (channel.max() if sign > 0 else channel.min()))
    if peak < _LEAST_PEAK:
        return None
    runs, total, start, length = _runs(np.ascontiguousarray(channel), float(sign), peak - _FLAT, peak - _CORNER)
    return (runs, total, start, length, peak) if runs else None


@kernel(error_model="numpy")
def _runs(channel: np.ndarray, sign: float, flat: float, corner: float) -> tuple[int, int, int, int]:
    """Runs of samples over ``flat`` whose neighbours on both sides are under ``corner``."""
    runs = total = length = 0
    start = -1
    first = -1
    for index in range(channel.size + 1):
        if index < channel.size and sign * channel[index] >= flat:
            if first < 0:
                first = index
        elif first >= 0:
            count = index - first
            sharp = first > 0 and sign * channel[first - 1] < corner
            sharp = sharp and index < channel.size and sign * channel[index] < corner
            if count >= _SHORTEST_RUN and sharp:
                runs += 1
                total += count
                if count > length:
                    start, length = first, count
            first = -1
    return runs, total, start, length


def _offset(channel: np.ndarray) -> float:
    """The mean of a channel, if the means of half seconds agree on it; else 0."""
    count = len(channel) // _OFFSET_BLOCK
    if count < 2:
        return 0.0
    means = channel[: count * _OFFSET_BLOCK].reshape(count, -1).mean(axis=1, dtype=np.float64)
    centre = float(np.median(means))
    deviation = 1.4826 * float(np.median(np.abs(means - centre)))
    return centre if abs(centre) > _STEADY * deviation else 0.0


def _longest_silence(samples: np.ndarray) -> tuple[int, int]:
    count = -(-samples.shape[1] // _BLOCK)
    padded = np.pad(np.abs(samples).max(axis=0), (0, count * _BLOCK - samples.shape[1]))
    silent = padded.reshape(count, _BLOCK).max(axis=1) < 1e-4
    edges = np.flatnonzero(np.diff(np.concatenate([[False], silent, [False]]).astype(np.int8)))
    if not len(edges):
        return 0, 0
    starts, stops = edges[::2], edges[1::2]
    longest = int(np.argmax(stops - starts))
    return int(starts[longest]) * _BLOCK, min(int(stops[longest]) * _BLOCK, samples.shape[1])


def band_limit_hz(power: np.ndarray, frames: int) -> float | None:
    """Where a spectrum ends steeply, in Hz; None if it does not, or ends near half the sample rate.

    An encoder, or the filter of a lower sample rate, takes 25 dB and more within some hundred hertz, and above it
    there is nothing up to the end.

    Args:
        power: of :class:`fxnorm.quality.spectra.SongSpectra`, summed over frames, (bins,).
        frames: how many they are.
    """
    width = round(_SMOOTHED_HZ / HZ_PER_BIN)
    # a full-scale sine has a quarter of the squared sum of its window, whose squares sum up to half its length
    scale = frames * (len(power) - 1) * 2 * 0.25 * (len(power) - 1)
    level = 10 * np.log10(np.convolve(power, np.ones(width) / width, "same") / max(scale, 1.0) + 1e-30)
    level = np.maximum(level, _NOISE_DB)
    before, gap, after = (round(hertz / HZ_PER_BIN) for hertz in (_BELOW_HZ, _GAP_HZ, _ABOVE_HZ))
    first, last = round(_LOWEST_LIMIT_HZ / HZ_PER_BIN), round(_HIGHEST_LIMIT_HZ / HZ_PER_BIN)
    edges = np.arange(first, last)
    sums = np.concatenate([[0.0], np.cumsum(level)])
    highest_above = sliding_window_view(level, after).max(axis=1)[edges + gap]
    highest_of_all_above = np.maximum.accumulate(level[::-1])[::-1][edges + gap]
    drops = (sums[edges] - sums[edges - before]) / before - highest_above
    drops[highest_of_all_above > highest_above + _NOTHING_FOLLOWS_DB] = 0.0
    found = int(edges[np.argmax(drops)])
    if drops.max() < _DROP_DB:
        return None
    # the edge is where half of the drop is done
    middle = level[found] - 0.5 * (level[found] - level[found + gap])
    below = np.flatnonzero(level[found : found + gap + 1] < middle)
    return float((found + (below[0] if len(below) else 0)) * HZ_PER_BIN)

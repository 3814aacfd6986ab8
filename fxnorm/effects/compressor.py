"""A feed-forward dynamic range compressor with a hard knee and a branching smoother, in the logarithmic domain.

After D. Giannoulis, M. Massberg and J. Reiss, "Digital dynamic range compressor design: a tutorial and analysis"
(JAES 60, 2012), without look-ahead and make-up gain.
"""

import numpy as np

from fxnorm.constants import SAMPLE_RATE
from fxnorm.runtime.compiled import kernel

_FLOOR = np.float32(1e-6)  # what lies under counts as -120 dB
_SILENCE = -1000.0  # dB; under any level
_TINY = 1e-20  # dB; keeps the smoother's state out of the slow denormal numbers
_UNROLL = 4  # samples

LANES = 32
"""Thresholds that :func:`segment_levels` evaluates in one pass over the audio.

Each threshold has an element, or lane, of its own in the arrays of the innermost loop, which the compiler turns into
vector instructions: 32 float32 states take four registers with AVX2, two with AVX-512.
"""


def levels(audio: np.ndarray) -> np.ndarray:
    """Level of each sample of ``audio`` (samples,) in dB, float32 (samples,), never under -120 dB."""
    magnitude = np.abs(audio)
    np.maximum(magnitude, _FLOOR, out=magnitude)
    np.log10(magnitude, out=magnitude)
    magnitude *= 20
    return magnitude


def smoothing(time_ms: float) -> float:
    """Coefficient of the one-pole smoother at 44.1 kHz that covers all but 1/e of a step in ``time_ms``."""
    return float(np.exp(-1 / (0.001 * SAMPLE_RATE * time_ms)))


def compress(
    audio: np.ndarray,
    level: np.ndarray,
    threshold: float,
    ratio: float,
    attack: float,
    release: float,
    output: np.ndarray,
) -> None:
    """Compress ``audio`` into ``output``, both float32 (samples,).

    Args:
        audio: what is compressed.
        level: what :func:`levels` gives for it.
        threshold: dB.
        ratio: dB in per dB out above the threshold.
        attack: smoothing coefficient while the gain goes down.
        release: smoothing coefficient while it comes back.
        output: is written to; may not be ``audio``.
    """
    _reduce_gain(level, threshold, 1 - 1 / ratio, attack, release, output)
    output *= np.float32(-np.log2(10) / 20)
    np.exp2(output, out=output)
    output *= audio


# Smoothing moves the reduction towards its goal by a fraction of the distance: by the attack's, the greater one, if the
# goal is higher, by the release's if it is lower. Either way that is the higher of the two results.


@kernel(fastmath=True, error_model="numpy")
def _reduce_gain(
    level: np.ndarray, threshold: float, slope: float, attack: float, release: float, reduction: np.ndarray
) -> None:
    """Write the gain reduction in dB, of which ``slope`` dB are due per dB of ``level`` over the threshold."""
    attack_slope, release_slope = (1 - attack) * slope, (1 - release) * slope
    state = 0.0
    for n in range(level.size):
        over = max(level[n] - threshold, _TINY)
        state = max(attack * state + attack_slope * over, release * state + release_slope * over)
        reduction[n] = state


@kernel(fastmath=True, error_model="numpy")
def segment_levels(
    level: np.ndarray, starts: np.ndarray, thresholds: np.ndarray, slope: float, attack: float, release: float
) -> np.ndarray:
    """Highest compressed level in dB from each start to the next, for ``LANES`` thresholds in one pass: an estimate.

    Segments begin at multiples of four samples and states are in single precision, because the compiler then keeps
    them in vector registers over four samples. That is right to some 0.01 dB.

    Args:
        level: level of each sample in dB, float32 (samples,).
        starts: the segments' first samples, increasing; the last segment goes to the end.
        thresholds: dB, float32 (LANES,).
        slope: dB of reduction per dB over the threshold.
        attack: smoothing coefficient while the gain goes down.
        release: smoothing coefficient while it comes back.

    Returns:
        float32 (segments, LANES).
    """
    tiny, fast, slow = np.float32(_TINY), np.float32(attack), np.float32(release)
    attack_slope, release_slope = np.float32((1 - attack) * slope), np.float32((1 - release) * slope)
    highest = np.empty((starts.size, LANES), dtype=np.float32)
    states, peaks = np.zeros(LANES, dtype=np.float32), np.zeros(LANES, dtype=np.float32)
    for segment in range(-1, starts.size):  # -1 is what comes before the first start
        first = starts[segment] if segment >= 0 else 0
        stop = starts[segment + 1] if segment + 1 < starts.size else level.size
        peaks[:] = np.float32(_SILENCE)
        for n in range(first // _UNROLL * _UNROLL, stop // _UNROLL * _UNROLL, _UNROLL):
            for lane in range(LANES):
                state, peak = states[lane], peaks[lane]
                for step in range(_UNROLL):
                    over = max(level[n + step] - thresholds[lane], tiny)
                    state = max(fast * state + attack_slope * over, slow * state + release_slope * over)
                    peak = max(peak, level[n + step] - state)
                states[lane], peaks[lane] = state, peak
        if segment >= 0:
            highest[segment] = peaks
    return highest

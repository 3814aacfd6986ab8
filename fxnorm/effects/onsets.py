"""Onset detection by high frequency content, with the frame-wise peak picker of the aubio library's "hfc" method.

Written from the description of the method: the novelty is the high frequency content of Masri and Bateman (1996) on
log-compressed magnitudes; the peak picker with its moving low-pass, median and mean is that of P. Brossier,
"Automatic Annotation of Musical Audio for Interactive Applications" (2006), chapter 2.
"""

from functools import cache

import numpy as np
import scipy  # its parts are loaded at their first use: signal alone takes a second

from fxnorm.runtime.compiled import kernel

FRAME = 1024
"""Samples; frames do not overlap."""

_PICKER_LENGTH = 7  # frames that the peak picker sees
_PICKER_POSITION = 5  # the frame in question, counted from the oldest
_MEAN_WEIGHT = 0.058  # of the frames' mean, by which a peak must stand above their median
# The picker's smoothing filter. It was designed with the feedback -0.59488894, 0.23484048, but aubio runs it with the
# second value in the first one's place, and its onsets are only found with it like this.
_LOW_PASS = ((0.15998789, 0.31997577, 0.15998789), (1.0, 0.23484048, 0.0))
_MINIMUM_INTERVAL = 2205  # samples: 50 ms
_DELAY = 4403  # samples: 4.3 frames, by which the picker sees a peak late
_SILENCE_POWER = 1e-7  # -70 dB
_FRAMES_AT_ONCE = 64  # as many as fit the cache


@cache
def _window() -> np.ndarray:
    return scipy.signal.get_window("hann", FRAME, fftbins=True).astype(np.float32)


@cache
def _picker_smoothing() -> np.ndarray:
    """The picker's filter, run forwards and backwards from rest over its frames, as one matrix."""
    forwards = scipy.signal.lfilter(*_LOW_PASS, np.eye(_PICKER_LENGTH), axis=0)
    return np.ascontiguousarray(scipy.signal.lfilter(*_LOW_PASS, forwards[::-1], axis=0)[::-1])


def high_frequency_content(audio: np.ndarray) -> np.ndarray:
    """Sum over bins of ``bin number * log(1 + magnitude)``, per frame of ``audio`` (samples,); float32 (frames,)."""
    frames = audio[: audio.size // FRAME * FRAME].reshape(-1, FRAME)
    content = np.zeros(len(frames), dtype=np.float32)
    weights = np.arange(1, FRAME // 2 + 2, dtype=np.float32)
    for start in range(0, len(frames), _FRAMES_AT_ONCE):
        block = slice(start, start + _FRAMES_AT_ONCE)
        spectra = scipy.fft.rfft(frames[block] * _window(), overwrite_x=True)
        content[block] = np.log1p(np.abs(spectra)) @ weights
    return content


def detect(audio: np.ndarray) -> np.ndarray:
    """Times of the onsets in ``audio`` (samples,) at 44.1 kHz, in samples, increasing; int64 (onsets,)."""
    frames = audio[: audio.size // FRAME * FRAME].reshape(-1, FRAME)
    power = np.einsum("ij,ij->i", frames, frames) / FRAME
    return pick(high_frequency_content(audio), power < _SILENCE_POWER)


def pick(novelty: np.ndarray, silent: np.ndarray) -> np.ndarray:
    """Onset times in samples from the novelty of each frame and whether the frame is silent; int64 (onsets,)."""
    return _pick(novelty, silent, _picker_smoothing())


@kernel(error_model="numpy")
def _pick(novelty: np.ndarray, silent: np.ndarray, smoothing: np.ndarray) -> np.ndarray:
    recent = np.zeros(_PICKER_LENGTH)
    before, middle = 0.0, 0.0
    last = 0  # the latest onset, counted with the delay
    onsets = np.empty(novelty.size, dtype=np.int64)
    count = 0
    for frame in range(novelty.size):
        recent[:-1] = recent[1:]
        recent[-1] = novelty[frame]
        smooth = smoothing @ recent
        after = smooth[_PICKER_POSITION] - np.median(smooth) - _MEAN_WEIGHT * smooth.mean()
        now = frame * FRAME
        if middle > before and middle > after and middle > 0:
            position = 1 + 0.5 * (before - after) / (before - 2 * middle + after)
            onset = now + int(np.floor(position * FRAME + 0.5))
            if not silent[frame] and last + _MINIMUM_INTERVAL < onset:
                last = max(_DELAY, onset)
                onsets[count] = last - _DELAY
                count += 1
        elif now <= _DELAY and not silent[frame] and (now == 0 or last + _MINIMUM_INTERVAL < now):
            # sound from the very start has no rise to be seen: it counts as an onset
            last = now + _DELAY
            onsets[count] = now
            count += 1
        before, middle = middle, after
    return onsets[:count]

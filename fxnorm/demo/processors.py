"""Signal processors for the demo's mixes: filters, compressor, limiter, panner, reverberation. Audio is float64
(channels, samples).

Filters are those of R. Bristow-Johnson's "Audio EQ Cookbook"; the compressor is the feed-forward one of Giannoulis,
Massberg and Reiss, "Digital dynamic range compressor design" (JAES 60(6), 2012). They share no code with
:mod:`fxnorm.effects`, so that an error there cannot hide behind the same error in the demo's mixes.
"""

from typing import Literal, NamedTuple

import numpy as np
import pyloudnorm
from scipy import ndimage, signal

from fxnorm.constants import SAMPLE_RATE
from fxnorm.runtime.compiled import kernel

_FLOOR_DB = -120.0
_ACTIVE_FRAME = 2205  # samples, 50 ms
_ACTIVE_RANGE_DB = 30.0  # frames further than this under the loudest are rests and decays
_LIMITER_LOOK_AHEAD = 882  # samples, 20 ms


class Band(NamedTuple):
    """One band of an equalizer: frequency in Hz, gain in dB (none for the passes), Q."""

    kind: Literal["high_pass", "low_pass", "low_shelf", "high_shelf", "peak"]
    frequency: float
    gain_db: float = 0.0
    q: float = float(np.sqrt(0.5))


class Compressor(NamedTuple):
    """Settings of :func:`compression_gain`: threshold in dBFS, ratio (to 1), attack and release in seconds."""

    threshold_db: float
    ratio: float
    attack: float
    release: float
    knee_db: float = 6.0


# ---- levels


def db_to_gain(level_db: float) -> float:
    """Amplitude factor of a level in dB."""
    return float(10.0 ** (level_db / 20))


def loudness(audio: np.ndarray) -> float:
    """Integrated loudness in LUFS (ITU-R BS.1770); minus infinity for silence."""
    with np.errstate(divide="ignore"):
        return float(pyloudnorm.Meter(SAMPLE_RATE).integrated_loudness(audio.T))


def active_rms(audio: np.ndarray) -> float:
    """RMS over channels and over the 50 ms frames in which something plays; 0 for silence."""
    frames = audio.shape[-1] // _ACTIVE_FRAME
    power = (audio[:, : frames * _ACTIVE_FRAME] ** 2).reshape(len(audio), frames, _ACTIVE_FRAME).mean(axis=(0, 2))
    active = power[power > power.max() * 10 ** (-_ACTIVE_RANGE_DB / 10)]
    return float(np.sqrt(active.mean())) if active.size else 0.0


def stage(audio: np.ndarray, level_db: float = -20.0) -> np.ndarray:
    """``audio`` at an active RMS of ``level_db``, which is what thresholds are set for; silence stays."""
    level = active_rms(audio)
    return audio * (db_to_gain(level_db) / level) if level > 0 else audio


# ---- equalizer


def equalize(audio: np.ndarray, *bands: Band) -> np.ndarray:
    """``audio`` through the bands one after another."""
    return np.asarray(signal.sosfilt(np.array([_second_order_section(band) for band in bands]), audio))


def _second_order_section(band: Band) -> list[float]:
    """(b0, b1, b2, 1, a1, a2) of one cookbook filter."""
    omega = 2 * np.pi * band.frequency / SAMPLE_RATE
    alpha = np.sin(omega) / (2 * band.q)
    if band.kind in ("high_pass", "low_pass"):
        section = _pass_filter(np.cos(omega), alpha, 1 if band.kind == "high_pass" else -1)
    elif band.kind == "peak":
        section = _peak_filter(np.cos(omega), alpha, 10 ** (band.gain_db / 40))
    else:
        section = _shelf(np.cos(omega), alpha, 10 ** (band.gain_db / 40), 1 if band.kind == "high_shelf" else -1)
    return [coefficient / section[3] for coefficient in section]


def _pass_filter(cosine: float, alpha: float, side: int) -> list[float]:
    edge = (1 + side * cosine) / 2
    return [edge, -2 * side * edge, edge, 1 + alpha, -2 * cosine, 1 - alpha]


def _peak_filter(cosine: float, alpha: float, root_gain: float) -> list[float]:
    boost, cut = alpha * root_gain, alpha / root_gain
    return [1 + boost, -2 * cosine, 1 - boost, 1 + cut, -2 * cosine, 1 - cut]


def _shelf(cosine: float, alpha: float, root_gain: float, side: int) -> list[float]:
    """``side`` is 1 for a high shelf and -1 for a low one."""
    slope = 2 * np.sqrt(root_gain) * alpha
    above, below = root_gain + 1, root_gain - 1
    return [
        root_gain * (above + side * below * cosine + slope),
        -2 * side * root_gain * (below + side * above * cosine),
        root_gain * (above + side * below * cosine - slope),
        above - side * below * cosine + slope,
        2 * side * (below - side * above * cosine),
        above - side * below * cosine - slope,
    ]


# ---- dynamics


def compression_gain(audio: np.ndarray, settings: Compressor) -> np.ndarray:
    """Gain (samples,) of a compressor that hears the louder channel: soft knee, smoothed in dB, no make-up."""
    level_db = 20 * np.log10(np.maximum(np.abs(audio).max(axis=0), 10 ** (_FLOOR_DB / 20)))
    over_db = level_db - settings.threshold_db
    half_knee = settings.knee_db / 2
    kneed_db = np.clip(over_db + half_knee, 0, settings.knee_db) ** 2 / (2 * settings.knee_db)
    reduction_db = (1 - 1 / settings.ratio) * np.where(over_db > half_knee, over_db, kneed_db)
    return np.asarray(10 ** (-_attack_and_release(reduction_db, settings.attack, settings.release) / 20))


def compress(audio: np.ndarray, settings: Compressor) -> np.ndarray:
    """``audio`` under its own :func:`compression_gain`."""
    return audio * compression_gain(audio, settings)


def presence(audio: np.ndarray, attack: float, release: float) -> np.ndarray:
    """How much a track plays at each sample, (samples,) from 0 (not) to 1 (at its usual level or over it)."""
    usual = active_rms(audio)
    if usual == 0:
        return np.zeros(audio.shape[-1])
    return np.minimum(_attack_and_release(np.abs(audio).max(axis=0) / usual, attack, release), 1.0)


def limiter_gain(audio: np.ndarray, ceiling: float, look_ahead: int = _LIMITER_LOOK_AHEAD) -> np.ndarray:
    """Gain (samples,) of a limiter that looks ahead so many samples: under it no sample passes ``ceiling``.

    The least gain needed within the look-ahead either side, averaged over no more than that: so no average exceeds
    the gain needed in its middle.
    """
    needed_gain = np.minimum(1.0, ceiling / np.maximum(np.abs(audio).max(axis=0), ceiling))
    least_gain = ndimage.minimum_filter1d(needed_gain, 2 * look_ahead + 1, mode="nearest")
    averaged = ndimage.uniform_filter1d(least_gain, look_ahead - 1, mode="nearest")
    return np.asarray(ndimage.uniform_filter1d(averaged, look_ahead - 1, mode="nearest"))


def limit(audio: np.ndarray, ceiling_db: float) -> np.ndarray:
    """``audio`` under its own :func:`limiter_gain`; the ceiling in dBFS."""
    return audio * limiter_gain(audio, db_to_gain(ceiling_db))


def _attack_and_release(target: np.ndarray, attack: float, release: float) -> np.ndarray:
    attack_pole, release_pole = (float(np.exp(-1 / (SAMPLE_RATE * seconds))) for seconds in (attack, release))
    return np.asarray(_follow(np.ascontiguousarray(target), attack_pole, release_pole))


@kernel(nogil=False)
def _follow(target: np.ndarray, attack_pole: float, release_pole: float) -> np.ndarray:
    """One-pole smoothing with a pole for rising and one for falling."""
    smoothed = np.empty_like(target)
    state = 0.0
    for sample in range(target.size):
        pole = attack_pole if target[sample] > state else release_pole
        state = pole * state + (1.0 - pole) * target[sample]
        smoothed[sample] = state
    return smoothed


# ---- space


def pan(audio: np.ndarray, position: float) -> np.ndarray:
    """A mono track, (1, samples), placed between the channels by constant power: -1 left, 0 centre, 1 right."""
    angle = (position + 1) * np.pi / 4
    return audio * np.sqrt(2) * np.array([[np.cos(angle)], [np.sin(angle)]])


def widen(audio: np.ndarray, width: float) -> np.ndarray:
    """A stereo track with its side signal, half of left minus right, times ``width``; under 0 the sides swap."""
    side = (audio[:1] - audio[1:]) / 2
    middle = audio.mean(axis=0, keepdims=True)
    return np.concatenate([middle + width * side, middle - width * side])


def double(audio: np.ndarray, delay: float, position: float) -> np.ndarray:
    """A mono track and its copy ``delay`` seconds later on the opposite side, as if it had been played twice."""
    late = round(delay * SAMPLE_RATE)
    copy = np.pad(audio, ((0, 0), (late, 0)))[:, : audio.shape[-1]]
    return pan(audio, position) + pan(equalize(copy, Band("high_shelf", 3000.0, -2.0)), -position)


def reverberate(audio: np.ndarray, response: np.ndarray) -> np.ndarray:
    """The return of a mono send: the mean of the channels through the response's two, cut at the track's length."""
    send = audio.mean(axis=0, keepdims=True)
    return np.asarray(signal.oaconvolve(send, response, axes=-1)[:, : audio.shape[-1]])

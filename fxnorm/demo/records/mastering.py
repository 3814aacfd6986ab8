"""Masters a mix of the style "records": fades, bus compression, loudness and limiters, as one gain for all stems; and
leaves what formats of lossy codecs leave of it.

The gain is the same for all stems at every sample, so that they still add up to the mix, as in MUSDB18.
"""

from collections.abc import Mapping

import numpy as np
from scipy import signal

from fxnorm.constants import SAMPLE_RATE
from fxnorm.demo.processors import Compressor, compression_gain, db_to_gain, limiter_gain, loudness, stage
from fxnorm.demo.records.score import Dice

_LOUDNESS_RANGE = (-14.0, -7.0)  # LUFS
_CEILING_RANGE = (-1.0, -0.1)  # dBFS
_PASSES = 2  # the limiters take off a little of the loudness that was set before them
_LOOK_AHEADS = (441, 66)  # samples: a slow limiter takes most, a fast one the rest
_SLOW_SHARE_DB = 1.5  # that the slow limiter leaves to the fast one
_FADE_OUT_PROBABILITY, _FADE_IN_PROBABILITY = 0.2, 0.1
_SHORTEST_FADE_SECONDS = 0.005
_FADE_SHARE = 0.2  # of the song, at most


_UNMASTERED_PROBABILITY = 0.3
"""Of the multitracks that are to be had, many are rough mixes that nobody compressed or limited."""
_HEADROOM_DB = (0.0, 14.0)
"""How far multitracks are turned down when they are handed out, mixture and stems alike."""
_STEP = 1 / 32768
_CODEC_PROBABILITIES = (0.35, 0.4)
"""Of the two low-passes below; the others were never coded."""
_CODEC_LOW_PASSES_HZ = ((15_700.0, 16_100.0), (17_500.0, 20_300.0))
"""Where encoders of MP3 and AAC cut, at up to and over about 128 kbit/s."""
_CODEC_ORDER, _CODEC_RIPPLE_DB, _CODEC_STOP_DB = 10, 0.1, 80.0


def master(
    wet: Mapping[str, np.ndarray], dice: Dice, target: tuple[float, float], drive: float
) -> dict[str, np.ndarray]:
    """The stems (2, samples), mastered.

    Args:
        wet: the stems.
        dice: draws this song's loudness and ceiling.
        target: mean and standard deviation of the loudness in LUFS.
        drive: 0 for gentle to 1 for hard genres, which are louder.
    """
    if not any(audio.any() for audio in wet.values()):
        return dict(wet)
    released = _mastered(_coded(dice, wet), dice, target, drive)
    gain = db_to_gain(-dice.between(*_HEADROOM_DB))
    return {stem: _dithered(dice, audio * gain) for stem, audio in released.items()}


def _mastered(
    wet: Mapping[str, np.ndarray], dice: Dice, target: tuple[float, float], drive: float
) -> dict[str, np.ndarray]:
    samples = next(iter(wet.values())).shape[1]
    if dice.chance(_UNMASTERED_PROBABILITY):
        fades = _fades(dice, samples)
        faded = {stem: audio * fades for stem, audio in wet.items()}
        peak = max(np.abs(audio).max() for audio in (np.sum(list(faded.values()), axis=0), *faded.values()))
        gain = db_to_gain(_CEILING_RANGE[0]) / peak
        return {stem: audio * gain for stem, audio in faded.items()}
    total = np.sum(list(wet.values()), axis=0)
    lufs = float(np.clip(dice.vary(target[0] + 2.0 * (drive - 0.5), target[1]), *_LOUDNESS_RANGE))
    ceiling = db_to_gain(dice.between(*_CEILING_RANGE))
    compressor = Compressor(
        threshold_db=dice.between(-18, -10),
        ratio=dice.between(1.5, 3.0),
        attack=dice.between(0.01, 0.04),
        release=dice.between(0.1, 0.4),
    )
    gain = _fades(dice, samples)
    gain = gain * compression_gain(stage(total * gain, -16.0), compressor)
    loudest = np.abs(np.concatenate([total, *wet.values()])).max(axis=0, keepdims=True)
    for _ in range(_PASSES):
        gain = gain * db_to_gain(lufs - loudness(total * gain))
        for look_ahead, share_db in zip(_LOOK_AHEADS, (_SLOW_SHARE_DB, 0.0), strict=True):
            gain = gain * limiter_gain(loudest * gain, ceiling * db_to_gain(share_db), look_ahead)
    return {stem: audio * gain for stem, audio in wet.items()}


def _dithered(dice: Dice, audio: np.ndarray) -> np.ndarray:
    """The stem with the noise that recordings of 16 bits have, in each channel its own; silence stays silent.

    Triangular dither of two steps (Lipshitz, Wannamaker and Vanderkooy, JAES 40(5), 1992).
    """
    if not audio.any():
        return audio
    return audio + _STEP * (dice.rng.random(audio.shape) - dice.rng.random(audio.shape))


def _coded(dice: Dice, wet: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The stems without the frequencies that an encoder leaves out, the same for all."""
    drawn, low = dice.between(0, 1), 0.0
    for probability, band in zip(_CODEC_PROBABILITIES, _CODEC_LOW_PASSES_HZ, strict=True):
        if low <= drawn < low + probability:
            low_pass = signal.ellip(
                _CODEC_ORDER, _CODEC_RIPPLE_DB, _CODEC_STOP_DB, dice.between(*band), fs=SAMPLE_RATE, output="sos"
            )
            return {stem: signal.sosfilt(low_pass, audio) for stem, audio in wet.items()}
        low += probability
    return dict(wet)


def _fades(dice: Dice, samples: int) -> np.ndarray:
    """Some songs fade in or out; all others begin and end within milliseconds."""
    longest = _FADE_SHARE * samples / SAMPLE_RATE
    seconds_in = dice.between(0.5, 2.0) if dice.chance(_FADE_IN_PROBABILITY) else _SHORTEST_FADE_SECONDS
    seconds_out = dice.between(2.0, 5.0) if dice.chance(_FADE_OUT_PROBABILITY) else 0.4
    time = np.arange(samples) / SAMPLE_RATE
    rise = np.clip(time / min(seconds_in, longest), 0, 1)
    fall = np.clip((time[-1] - time) / min(seconds_out, longest), 0, 1)
    return np.asarray(np.sin(np.pi / 2 * rise) ** 2 * np.sin(np.pi / 2 * fall) ** 2)

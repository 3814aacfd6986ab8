"""Synthetic impulse responses of rooms: early reflections and a diffuse tail of decaying noise.

The tail follows Moorer ("About this reverberation business", Computer Music Journal 3(2), 1979): Gaussian noise under
an exponential, here in five bands, because air and walls take the high frequencies first. Both channels have their
own noise and reflections, which makes the response wide.
"""

import numpy as np
from scipy import signal

from fxnorm.constants import SAMPLE_RATE

_BAND_EDGES_HZ = (250.0, 1000.0, 4000.0, 9000.0)
_BAND_DECAYS = (1.15, 1.0, 0.85, 0.55, 0.3)
"""RT60 of the bands between the edges, relative to the nominal one; of the order of a plastered hall's."""

_LENGTH_OVER_RT60 = 1.1
_NEPERS_PER_60_DB = float(np.log(1000.0))
_REFLECTIONS = 14
_REFLECTIONS_SECONDS = 0.075  # after which they are too dense to be heard one by one
_TAIL_TO_DIRECT_DB = -3.0  # energy of everything that follows the direct sound, relative to it
_REFLECTIONS_TO_TAIL_DB = -6.0
_FADE_SECONDS = 0.05


def synthesize(rng: np.random.Generator, rt60: float, pre_delay: float, with_direct: bool = True) -> np.ndarray:
    """One stereo impulse response.

    Args:
        rng: draws reflections and noise.
        rt60: seconds in which the middle frequencies decay by 60 dB.
        pre_delay: seconds between the direct sound and the tail.
        with_direct: start with the direct sound, which is the response's peak; without it this is the return of a
            reverberation send.

    Returns:
        float64 array (2, samples), 1.1 RT60 long. Channels have the same energy; what follows the direct sound has
        half of the direct sound's energy.
    """
    length = round(_LENGTH_OVER_RT60 * rt60 * SAMPLE_RATE)
    tail = _unit_energy(_tail(rng, length, rt60, pre_delay))
    reflections = _unit_energy(_reflections(rng, length, pre_delay))
    response = _unit_energy(tail + 10 ** (_REFLECTIONS_TO_TAIL_DB / 20) * reflections) * 10 ** (_TAIL_TO_DIRECT_DB / 20)
    fade = round(_FADE_SECONDS * SAMPLE_RATE)
    response[:, -fade:] *= 0.5 + 0.5 * np.cos(np.linspace(0, np.pi, fade))
    if with_direct:
        response[:, 0] = 1.0
    return response


def _tail(rng: np.random.Generator, length: int, rt60: float, pre_delay: float) -> np.ndarray:
    time = np.arange(length) / SAMPLE_RATE
    noise = rng.standard_normal((2, length))
    tail = np.zeros((2, length))
    for band, decay in zip(_split_into_bands(noise), _BAND_DECAYS, strict=True):
        tail += band * np.exp(-_NEPERS_PER_60_DB * time / (decay * rt60))
    delay = round(pre_delay * SAMPLE_RATE)
    build_up = np.clip(time / _REFLECTIONS_SECONDS, 0.0, 1.0)
    return np.pad(tail * build_up, ((0, 0), (delay, 0)))[:, :length]


def _split_into_bands(noise: np.ndarray) -> list[np.ndarray]:
    """The noise in bands that add up to it: each low-pass is applied to what the lower bands leave."""
    bands, remainder = [], noise
    for edge in _BAND_EDGES_HZ:
        low = signal.sosfilt(signal.butter(2, edge, fs=SAMPLE_RATE, output="sos"), remainder)
        bands.append(low)
        remainder = remainder - low
    return [*bands, remainder]


def _reflections(rng: np.random.Generator, length: int, pre_delay: float) -> np.ndarray:
    """Single taps of falling level and either sign, at other times in each channel."""
    earliest = 0.3 * pre_delay + 0.001
    reflections = np.zeros((2, length))
    for channel in reflections:
        times = np.sort(rng.uniform(earliest, earliest + _REFLECTIONS_SECONDS, _REFLECTIONS))
        gains = rng.choice([-1.0, 1.0], _REFLECTIONS) * earliest / times * rng.uniform(0.5, 1.0, _REFLECTIONS)
        channel[np.minimum(np.round(times * SAMPLE_RATE).astype(int), length - 1)] = gains
    return signal.sosfilt(signal.butter(1, 7000.0, fs=SAMPLE_RATE, output="sos"), reflections)


def _unit_energy(response: np.ndarray) -> np.ndarray:
    return response / np.sqrt((response**2).sum(axis=1, keepdims=True))

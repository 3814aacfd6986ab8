"""Integrated loudness after ITU-R BS.1770-4, and bringing audio to it.

K-weighting (a shelf and a high-pass), mean square of blocks of 400 ms every 100 ms, an absolute loudness gate at
-70 LUFS and a relative one 10 LU under the mean of what passed it. The filters are those of pyloudnorm, with which the
published statistics were measured: RBJ's audio EQ cookbook at 1,500 and 38 Hz.
"""

import numpy as np

from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects.controls import Control
from fxnorm.effects.controls import gain as gain_of
from fxnorm.effects.filters import biquad
from fxnorm.effects.levels import amplitude, checked, peaks
from fxnorm.runtime.compiled import kernel

_STEP = SAMPLE_RATE // 10  # blocks start every 100 ms …
_STEPS_PER_BLOCK = 4  # … and last 400 ms
_ABSOLUTE_GATE = -70.0  # LUFS
_RELATIVE_GATE = -10.0  # LU
_OFFSET = -0.691  # LUFS of a mean square of 1 after K-weighting
_FAINTEST = 1e-30  # power; keeps the logarithm finite
_DEAD = 1e-30  # energy of 100 ms under which the filters are at rest


def measure(audio: np.ndarray, sample_rate: int) -> float:
    """Integrated loudness of ``audio`` (channels, samples) in LUFS.

    Audio shorter than 400 ms counts as one block filled up with silence. Audio that never passes the absolute
    loudness gate has no loudness: minus infinity.

    Raises:
        AudioError: not one or two channels at 44.1 kHz.
    """
    return integrated(step_energies(checked(audio, sample_rate)).sum(axis=0), audio.shape[1])


def match(
    audio: np.ndarray,
    sample_rate: int,
    target: float,
    out: np.ndarray | None = None,
    controls: list[Control] | None = None,
) -> np.ndarray:
    """``audio`` (channels, samples) at ``target`` LUFS, divided by its peak should that pass full scale.

    Audio without loudness comes back unchanged. The result is written to ``out``, which may be ``audio``, if given.
    What was done is added to ``controls``, if given.

    Raises:
        AudioError: not one or two channels at 44.1 kHz.
    """
    audio = checked(audio, sample_rate)
    gain = np.float32(gain_to(measure(audio, sample_rate), target, float(peaks(audio).max())))
    if controls is not None:
        controls.append(gain_of(gain))
    return np.multiply(audio, gain, out=out)


def gain_to(loudness: float, target: float, peak: float) -> float:
    """The factor that brings audio of this loudness and peak to ``target`` LUFS without passing full scale."""
    if not np.isfinite(loudness):
        return 1.0
    gain = float(amplitude(target - loudness))
    return gain / max(1.0, gain * peak)


def integrated(energies: np.ndarray, samples: int) -> float:
    """Gated loudness in LUFS from the energies of each 100 ms, summed over channels, of ``samples`` samples."""
    block = _STEP * _STEPS_PER_BLOCK
    blocks = max(1, round((samples - block) / _STEP) + 1)
    energies = np.pad(energies, (0, max(0, blocks + _STEPS_PER_BLOCK - 1 - energies.size)))
    powers = np.convolve(energies, np.ones(_STEPS_PER_BLOCK), mode="valid")[:blocks] / block
    audible = powers[powers >= _power(_ABSOLUTE_GATE)]
    if audible.size == 0:
        return -np.inf
    relative_gate = audible.mean() * 10 ** (_RELATIVE_GATE / 10)
    return float(_OFFSET + 10 * np.log10(audible[audible > relative_gate].mean()))


def level(power: np.ndarray | float) -> np.ndarray:
    """Loudness in LUFS of a mean square after K-weighting, summed over channels; silence lies far under both gates."""
    return np.asarray(_OFFSET + 10 * np.log10(np.asarray(power) + _FAINTEST))


def _power(loudness: float) -> float:
    return 10 ** ((loudness - _OFFSET) / 10)


def step_energies(audio: np.ndarray, gains: np.ndarray | None = None) -> np.ndarray:
    """Energy of the K-weighted ``audio`` (channels, samples) in each 100 ms: float64 (channels, steps).

    ``gains`` (samples,) are what samples are multiplied by first, without a copy of the audio.
    """
    return _step_energies(audio[0], audio[-1], gains, *weighting())[: audio.shape[0]]


def weighting() -> tuple[np.ndarray, np.ndarray]:
    """The sections (6,) of K-weighting: shelf and high-pass."""
    shelf = biquad("high_shelf", 1500.0, gain_db=4.0, quality=1 / np.sqrt(2))
    return shelf, biquad("high_pass", 38.0, quality=0.5)


@kernel(fastmath=True, error_model="numpy")
def _step_energies(
    left: np.ndarray, right: np.ndarray, gains: np.ndarray | None, shelf: np.ndarray, high_pass: np.ndarray
) -> np.ndarray:
    """Both channels side by side: each sample has to wait for the one before, but not for the other channel's."""
    energies = np.zeros((2, (left.size + _STEP - 1) // _STEP))
    b0, b1, b2, _, a1, a2 = shelf
    d0, d1, d2, _, c1, c2 = high_pass
    s1 = s2 = t1 = t2 = 0.0
    u1 = u2 = v1 = v2 = 0.0
    for step in range(energies.shape[1]):
        left_energy = right_energy = 0.0
        for n in range(step * _STEP, min((step + 1) * _STEP, left.size)):
            sample = left[n] if gains is None else left[n] * gains[n]
            shelved = b0 * sample + s1
            s1 = b1 * sample - a1 * shelved + s2
            s2 = b2 * sample - a2 * shelved
            passed = d0 * shelved + t1
            t1 = d1 * shelved - c1 * passed + t2
            t2 = d2 * shelved - c2 * passed
            left_energy += passed * passed
            sample = right[n] if gains is None else right[n] * gains[n]
            shelved = b0 * sample + u1
            u1 = b1 * sample - a1 * shelved + u2
            u2 = b2 * sample - a2 * shelved
            passed = d0 * shelved + v1
            v1 = d1 * shelved - c1 * passed + v2
            v2 = d2 * shelved - c2 * passed
            right_energy += passed * passed
        energies[0, step], energies[1, step] = left_energy, right_energy
        # what rings on in silence would end in denormal numbers, which are slow
        if left_energy < _DEAD:
            s1 = s2 = t1 = t2 = 0.0
        if right_energy < _DEAD:
            u1 = u2 = v1 = v2 = 0.0
    return energies

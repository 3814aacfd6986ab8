"""Panning: how alike left and right are per frequency, and re-panning every frame and bin to a target similarity.

The similarity of left and right is that of C. Avendano, "Frequency-domain source identification and manipulation in
stereo mixes" (2003); the matching is that of Martínez-Ramírez et al., "Automatic music mixing with deep learning and
out-of-domain data" (ISMIR 2022).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import scipy.fft

from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects import spectrum
from fxnorm.effects.controls import Control
from fxnorm.effects.levels import amplitude, checked, sounding_part
from fxnorm.errors import AudioError
from fxnorm.runtime.compiled import kernel

FFT_SIZE = 2048
HOP = FFT_SIZE // 2

_SIDE_BINS = slice(50 * FFT_SIZE // SAMPLE_RATE, 2500 * FFT_SIZE // SAMPLE_RATE)  # 50 to 2,500 Hz
_SMOOTHING = 501  # bins
_FAR, _NEAR = np.float32(0.3), np.float32(0.7)  # gains that put the stem on its own side before it is re-panned
_NARROWING_RATE = 8  # fraction of the side signal that is taken away per similarity that is missing at equal levels
_TINY = np.float32(1e-30)
_UNDERFLOW = np.float32(1e-36)  # power; a far channel with less would be turned up by more than it lacks
_FRAMES_AT_ONCE = 32


@dataclass(frozen=True)
class PanningSettings:
    """Where and how far a stem is re-panned; the defaults are the published ones, drums apart.

    Attributes:
        frequency_limit: Hz, from which up the similarity of left and right is left alone; ``None`` is no limit.
        scale: factor on the target similarity. The published experiments aim at a little less than the target, which
            they found to re-pan better; 1 aims at the target itself.
        refinements: how often the result is measured, and what is missing added to the similarity aimed at. Without,
            results lie some 0.05 under it, because they are measured with longer frames than they are panned with.
            Equal levels on both sides are as far as gains go; what is missing then comes from a weaker side signal.
        level_floor_db: dB; a frame whose loudest bin is under it is not re-panned bin by bin; ``None`` re-pans every
            frame. The statistics count every frame alike, so with a floor a stem with quiet stretches misses its
            target.
    """

    frequency_limit: float | None = 16_000.0
    scale: float = 0.9
    refinements: int = 0
    level_floor_db: float | None = -10.0

    @classmethod
    def precise(cls, frequency_limit: float | None) -> "PanningSettings":
        """What brings the mean similarity to the target itself, for all a stem holds, at four times the work."""
        return cls(frequency_limit, scale=1.0, refinements=3, level_floor_db=None)


PUBLISHED_LIMITS: Mapping[str, float | None] = MappingProxyType(
    {"vocals": 16_000.0, "bass": 16_000.0, "drums": 6_000.0, "other": 16_000.0}
)
"""Frequency limit of each stem in Hz."""


def measure(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Mean similarity of left and right of ``audio`` (channels, samples): float32 (32769,), 0 to 22,050 Hz.

    1 is centred (mono audio is everywhere), 0 is one side only.

    Raises:
        AudioError: not one or two channels at 44.1 kHz.
    """
    return spectrum.mean_curves(checked(audio, sample_rate))[1].astype(np.float32)


def match(
    audio: np.ndarray,
    sample_rate: int,
    target: np.ndarray,
    settings: PanningSettings | None = None,
    controls: list[Control] | None = None,
) -> np.ndarray:
    """``audio`` (2, samples) with every frame and bin panned towards the similarity ``target`` (32769,).

    The stem stays on the side it is on; what is in the centre goes to the right. What was done is added to
    ``controls``, if given: the gains of all frames and bins, three quarters of the audio's own memory.

    Raises:
        AudioError: not two channels at 44.1 kHz.
    """
    settings = settings or PanningSettings()
    audio = checked(audio, sample_rate)
    if audio.shape[0] != 2:
        raise AudioError("panning needs two channels, found one; repeat it first")
    # seen from the stem's own side there is only one case: the far channel first, the near one second
    order = slice(None) if _is_on_the_right(audio) else slice(None, None, -1)
    similarity = settings.scale * _coarse(target)
    for _ in range(settings.refinements):
        matched = _Panner(order, similarity, settings).repan(audio)
        measured = spectrum.smooth(spectrum.mean_curves(matched)[1], _SMOOTHING)
        similarity = similarity + settings.scale * _coarse(target) - _coarse(measured)
    panner = _Panner(order, similarity, settings, keeps=controls is not None)
    matched = panner.repan(audio)
    if controls is not None:
        controls.append(panner.repan_alike)
    return matched


def _coarse(curve: np.ndarray) -> np.ndarray:
    """A curve of 32,769 bins at the 1,025 bins of re-panning."""
    groups = np.asarray(curve[:-1], dtype=np.float64).reshape(FFT_SIZE // 2, -1).mean(axis=1)
    return np.append(groups, curve[-1])


class _Panner:
    """Pans frames to ``similarity`` (bins,), up to the limit, and with ``keeps`` others by the gains of these."""

    def __init__(self, order: slice, similarity: np.ndarray, settings: PanningSettings, keeps: bool = False) -> None:
        far = np.clip(similarity, 0, 1) / 2
        if settings.frequency_limit is not None:
            far = far[: int(settings.frequency_limit * FFT_SIZE / SAMPLE_RATE)]
        self._order = order
        self._level_floor = 0.0 if settings.level_floor_db is None else float(amplitude(settings.level_floor_db))
        self._gains = np.stack([far, 1 - far]).astype(np.float32)
        self._narrowing = np.clip(_NARROWING_RATE * (similarity[: far.size] - 1), 0, 1).astype(np.float32)
        self._part = slice(0, 0)
        # by group of frames that are panned at once: (far and near channel, frames, bins up to the limit)
        self._kept: list[np.ndarray] | None = [] if keeps else None

    def repan(self, audio: np.ndarray) -> np.ndarray:
        """``audio`` (2, samples) with its frames panned."""
        self._part = sounding_part(audio, grid=HOP, margin=HOP)
        repanned = np.zeros_like(audio)
        position = self._part.start - FFT_SIZE
        for spectra in self._frames(audio):
            kept = None
            if self._kept is not None:
                kept = np.empty((2, spectra.shape[1], self._gains.shape[1]), dtype=np.float32)
                self._kept.append(kept)
            _pan(spectra, self._gains, self._narrowing, self._level_floor, kept)
            position = self._add(spectra, repanned, position)
        return repanned

    def repan_alike(self, other: np.ndarray) -> None:
        """Overwrite another signal (2, samples), whose frames get the gains of those that were panned."""
        repanned = np.zeros_like(other)
        position = self._part.start - FFT_SIZE
        for spectra, kept in zip(self._frames(other), self._kept or [], strict=True):
            _pan_alike(spectra, kept, self._narrowing)
            position = self._add(spectra, repanned, position)
        other[:] = repanned

    def _frames(self, audio: np.ndarray) -> Iterator[np.ndarray]:
        yield from spectrum.frames(audio[self._order, self._part], FFT_SIZE, HOP, _FRAMES_AT_ONCE, padding=FFT_SIZE)

    def _add(self, spectra: np.ndarray, repanned: np.ndarray, position: int) -> int:
        """Add frames to what is panned from ``position`` on; where the next ones belong."""
        frames = scipy.fft.irfft(spectra, overwrite_x=True)
        _overlap_add(frames, spectrum.window(FFT_SIZE), repanned[self._order], position)
        return position + spectra.shape[1] * HOP


def _is_on_the_right(audio: np.ndarray) -> bool:
    lean = np.zeros(FFT_SIZE // 2 + 1)
    part = sounding_part(audio, grid=HOP, margin=HOP)
    for spectra in spectrum.frames(audio[:, part], FFT_SIZE, HOP, _FRAMES_AT_ONCE, padding=FFT_SIZE):
        _accumulate_lean(spectra, lean)
    lean /= spectrum.frame_count(audio.shape[1] + 2 * FFT_SIZE, FFT_SIZE, HOP)
    smooth = spectrum.smooth(lean, _SMOOTHING)[_SIDE_BINS]
    return bool(np.sign(smooth + 1e-10).mean() >= 0)


@kernel(fastmath=True, error_model="numpy")
def _accumulate_lean(spectra: np.ndarray, lean: np.ndarray) -> None:
    """Add up how far each bin is to one side: 1 - similarity, positive on the right."""
    for frame in range(spectra.shape[1]):
        left, right = spectra[0, frame], spectra[1, frame]
        for k in range(lean.size):
            power_left = left[k].real ** 2 + left[k].imag ** 2
            power_right = right[k].real ** 2 + right[k].imag ** 2
            product = np.sqrt(power_left) * np.sqrt(power_right)
            similarity = np.float32(2) * product / (power_left + power_right + _TINY)
            lean[k] += np.sign(power_right - power_left) * (np.float32(1) - similarity)


@kernel(fastmath=True, error_model="numpy")
def _pan(
    spectra: np.ndarray, gains: np.ndarray, narrowing: np.ndarray, level_floor: float, kept: np.ndarray | None
) -> None:
    """Pan every frame and bin of ``spectra`` (far and near channel, frames, bins) in place, as far as ``gains`` go.

    The factors, narrowing apart, are written to ``kept`` (far and near channel, frames, bins as far as ``gains`` go).
    The loops are many and small because the compiler vectorizes each of them.
    """
    bins = spectra.shape[2]
    far_gain, near_gain = np.empty(bins, dtype=np.float32), np.empty(bins, dtype=np.float32)
    for frame in range(spectra.shape[1]):
        far, near = spectra[0, frame], spectra[1, frame]
        loudest = np.float32(0)
        for k in range(bins):
            real = _FAR * far[k].real + _NEAR * near[k].real
            imaginary = _FAR * far[k].imag + _NEAR * near[k].imag
            loudest = max(loudest, real**2 + imaginary**2)
        far_gain[:], near_gain[:] = _FAR, _NEAR
        if loudest >= level_floor**2:
            for k in range(gains.shape[1]):
                power_far = _FAR**2 * (far[k].real ** 2 + far[k].imag ** 2)
                power_near = _NEAR**2 * (near[k].real ** 2 + near[k].imag ** 2)
                # the stem's own gains: product / total, half the similarity, in the far channel, and the rest in the
                # near one
                product = np.sqrt(power_far + _UNDERFLOW) * np.sqrt(power_near + _UNDERFLOW)
                total = power_far + power_near + _TINY
                far_gain[k] = _FAR * gains[0, k] * total / (product + _TINY)
                near_gain[k] = _NEAR * gains[1, k] * total / (total - product)
        if kept is not None:
            kept[0, frame], kept[1, frame] = far_gain[: gains.shape[1]], near_gain[: gains.shape[1]]
        for k in range(bins):
            far[k] = complex(far_gain[k] * far[k].real, far_gain[k] * far[k].imag)
        for k in range(bins):
            near[k] = complex(near_gain[k] * near[k].real, near_gain[k] * near[k].imag)
        for k in range(narrowing.size):
            if narrowing[k] > 0:
                half = np.float32(0.5) * narrowing[k] * (near[k] - far[k])
                far[k] += half
                near[k] -= half


@kernel(fastmath=True, error_model="numpy")
def _pan_alike(spectra: np.ndarray, kept: np.ndarray, narrowing: np.ndarray) -> None:
    """Pan ``spectra`` (far and near channel, frames, bins) in place by what :func:`_pan` kept."""
    for frame in range(spectra.shape[1]):
        far, near = spectra[0, frame], spectra[1, frame]
        for k in range(kept.shape[2]):
            far[k] *= kept[0, frame, k]
            near[k] *= kept[1, frame, k]
        for k in range(kept.shape[2], spectra.shape[2]):
            far[k] *= _FAR
            near[k] *= _NEAR
        for k in range(narrowing.size):
            if narrowing[k] > 0:
                half = np.float32(0.5) * narrowing[k] * (near[k] - far[k])
                far[k] += half
                near[k] -= half


@kernel(fastmath=True, error_model="numpy")
def _overlap_add(frames: np.ndarray, window: np.ndarray, audio: np.ndarray, position: int) -> None:
    """Add windowed ``frames`` (channels, frames, samples) from ``position`` on, as far as ``audio`` goes."""
    for channel in range(frames.shape[0]):
        for frame in range(frames.shape[1]):
            values, start = frames[channel, frame], position + frame * HOP
            for n in range(max(0, -start), min(FFT_SIZE, audio.shape[1] - start)):
                audio[channel, start + n] += window[n] * values[n]

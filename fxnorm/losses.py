"""Stereo-invariant losses between a mix and its target.

Both losses compare magnitudes of the sum and the difference of left and right, so that a mix with its sides swapped is
as good as the mix itself ("Automatic music mixing with deep learning and out-of-domain data", ISMIR 2022; after
Steinmetz et al., "Automatic multitrack mixing with a differentiable mixing console", ICASSP 2021). An A-weighting and a
low-pass filter go before the comparison.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import scipy
import torch
from torch import Tensor, nn
from torch.nn import functional

from fxnorm.constants import SAMPLE_RATE

FFT_SIZE = 4_096
HOP = 1_024

_A_WEIGHTING_TAPS = 101
_A_WEIGHTING_FIT_POINTS = 512
_A_WEIGHTING_POLES_HZ = (20.598997, 107.65265, 737.86223, 12_194.217)  # IEC 61672-1
_A_WEIGHTING_GAIN_AT_1_KHZ_DB = 1.9997
_LOW_PASS = (1.0, 0.85)

_BLOCK = 128
"""Samples that are filtered by one matrix product; at least half the taps."""

_LOG_FLOOR = 1e-30
_LOG_GRADIENT_FLOOR = 1e-8
"""Smaller magnitudes (far under a 24-bit file's rounding) pass no gradient: that of their log would swamp the rest."""
_SILENT_MAGNITUDE = 1e-3
"""Root mean square magnitude of a target at about -93 dBFS; quieter targets do not scale loss "a" up any further."""

_ROUNDING = 1e-4
"""Magnitude that the rounding to 16 bits stays around: what is quieter counts as equally silent in the matched loss."""
_ROUNDING_POWER = 1e-10
_SILENT_LEVEL = -8.0  # natural logarithm of the RMS, -70 dBFS
_MOST_GAIN = 1e3
_PANNING_BINS = tuple(
    (low * FFT_SIZE // SAMPLE_RATE, high * FFT_SIZE // SAMPLE_RATE)
    for low, high in ((0, 250), (250, 2_500), (2_500, 22_050), (0, 22_050))
)
_PANNING_WEIGHT = 2.0
_CENTRED = 1e-5
"""Square of how far off the middle counts as in the middle."""


class Loss(nn.Module, ABC):
    """``loss(output, target)`` of a batch of signals (batch, channels, samples), a scalar.

    It is a function of a few means over the examples. So a batch may be computed in parts of one size, on one device
    after another or on several: the means of the batch are the means of its parts' means, whatever the function is.
    """

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return self.of_means(self.means(output, target))

    @property
    @abstractmethod
    def is_mean(self) -> bool:
        """Whether the loss itself is a mean over the examples: its slope in the means is always the same."""

    @abstractmethod
    def means(self, output: Tensor, target: Tensor) -> Tensor:
        """The means of which the loss is a function, a tensor of one shape for all batches."""

    @abstractmethod
    def of_means(self, means: Tensor) -> Tensor:
        """The loss, a scalar."""


class AbsoluteLoss(Loss):
    """The mean absolute difference of the samples."""

    is_mean = True

    def means(self, output: Tensor, target: Tensor) -> Tensor:
        return (output - target).abs().mean()

    def of_means(self, means: Tensor) -> Tensor:
        return means


class StereoLoss(Loss):
    """``loss(output, target)`` for stereo signals (batch, 2, samples), a scalar; computed in float32.

    With X and Y the magnitudes of output and target, for sum and difference each, added up:

    - ``"a"``: norm(Y - X) / norm(Y) + mean abs(log X - log Y), Frobenius norms over the whole batch
    - ``"b"``: mean (X - Y)^2 + mean abs(log X - log Y)

    Args:
        kind: which of the two.
        a_weighting: filter both signals with the A-curve.
        low_pass: filter both signals with the FIR [1, 0.85].
        guard_frames: STFT frames left out at both ends.

    Raises:
        ValueError: an unknown kind; in ``forward``, signals too short to leave a frame.
    """

    def __init__(self, kind: str, a_weighting: bool = True, low_pass: bool = True, guard_frames: int = 0) -> None:
        super().__init__()
        if kind not in ("a", "b"):
            raise ValueError(f"kind: expected 'a' or 'b', found {kind!r}")
        self.kind = kind
        self.guard_frames = guard_frames
        self.banded: Tensor
        self.window: Tensor
        self.register_buffer("banded", _banded(_taps(a_weighting, low_pass)), persistent=False)
        self.register_buffer("window", torch.hann_window(FFT_SIZE).sqrt(), persistent=False)

    @property
    def is_mean(self) -> bool:
        return self.kind == "b"

    def means(self, output: Tensor, target: Tensor) -> Tensor:
        """Shape (3, 2), of sum and difference: (Y - X)^2, Y^2 and abs(log X - log Y)."""
        with torch.autocast(output.device.type, enabled=False):
            return _means(self.magnitudes(output.float()), self.magnitudes(target.float()))

    def of_means(self, means: Tensor) -> Tensor:
        return _distance(means, self.kind)

    def magnitudes(self, audio: Tensor) -> Tensor:
        """STFT magnitudes of sum and difference (batch, 2, bins, frames), filtered, without the guard frames."""
        return self.spectra(audio).abs()

    def spectra(self, audio: Tensor) -> Tensor:
        """What :meth:`magnitudes` are the magnitudes of."""
        left, right = audio.unbind(1)
        sides = _filter(torch.stack([left + right, left - right], 1).flatten(0, 1), self.banded)
        spectrum = torch.stft(sides, FFT_SIZE, HOP, window=self.window, center=False, return_complex=True)
        frames = spectrum.shape[-1]
        if frames <= 2 * self.guard_frames:
            raise ValueError(f"expected more than {2 * self.guard_frames} STFT frames, found {frames}")
        return spectrum[..., self.guard_frames : frames - self.guard_frames].unflatten(0, (-1, 2))


class MatchedLoss(Loss):
    """How far a mix is from its target at the target's level, of stereo signals (batch, 2, samples), a scalar.

    How loud records are is the engineer's choice and hardly to be heard in normalized stems, but decides the other
    losses. Here each mix is first brought to its target's weighted energy. Of sum and difference, as in
    :class:`StereoLoss`, then add up ``norm(Y - X) / norm(Y)`` of each example, once more of both together, as loss "b"
    weighs them, and ``mean abs(log X - log Y)``; of the channels' frames, the differences in the logarithms of their
    RMS and of their crest factor, which limiting changes and a spectrum hardly shows; and how far from the middle each
    frame's bins lie, in bands of low, middle and high frequencies (Avendano and Jot, JAES 52(7/8), 2004): the
    difference of the root mean squares over the target's.
    Errors of magnitudes alone are least where side is as loud as usual in every bin, which is narrower than a mix that
    has some parts far out and others in the middle.

    Args:
        guard_frames: STFT frames left out at both ends of the spectra.
    """

    is_mean = False  # panning is a ratio of two means

    def __init__(self, guard_frames: int = 0) -> None:
        super().__init__()
        self.stereo = StereoLoss("a", guard_frames=guard_frames)

    def means(self, output: Tensor, target: Tensor) -> Tensor:
        """Shape (12,): convergence and logarithms of the spectra, RMS and crest factor of the frames; of each band, the
        difference in panning, then the target's panning.
        """
        with torch.autocast(output.device.type, enabled=False):
            output, target = output.float(), target.float()
            spectra = self.stereo.spectra(output), self.stereo.spectra(target)
            x, y = (sides.abs() for sides in spectra)
            energy = x.square().mean((1, 2, 3)), y.square().mean((1, 2, 3))
            # silence is brought nowhere
            gain = _root(energy[1] / energy[0].clamp(min=_SILENT_MAGNITUDE**2)).clamp(max=_MOST_GAIN)
            x = x * gain[:, None, None, None]
            off_centre = _off_centre(spectra[0] * gain[:, None, None, None]), _off_centre(spectra[1])
            panning = (off_centre[0] - off_centre[1]).abs().mean((0, 2)), off_centre[1].mean((0, 2))
            of_each, of_both = (
                _root((x - y).square().mean(over)) / _root(y.square().mean(over)).clamp(min=_SILENT_MAGNITUDE)
                for over in ((2, 3), (1, 2, 3))
            )
            convergence = (of_each.sum(1) + of_both).mean()
            logs = (torch.log(x + _ROUNDING) - torch.log(y + _ROUNDING)).abs().mean((0, 2, 3)).sum()
            levels, target_levels = _frame_levels(output * gain[:, None, None]), _frame_levels(target)
            sounding = target_levels[0] > _SILENT_LEVEL
            rms, crest = (
                ((own - wanted).abs() * sounding).mean() for own, wanted in zip(levels, target_levels, strict=True)
            )
            return torch.cat([torch.stack([convergence, logs, rms, crest]), *panning])

    def of_means(self, means: Tensor) -> Tensor:
        others, difference, panning = means.split([4, len(_PANNING_BINS), len(_PANNING_BINS)])
        return others.sum() + _PANNING_WEIGHT * (difference / panning).mean()


def _off_centre(sides: Tensor) -> Tensor:
    """Root mean square of ``1 - phi`` over the bins of each band, (batch, bands, frames), of (batch, 2, bins, frames).

    ``phi = 2 |L| |R| / (|L|^2 + |R|^2)``. With sum M and difference S of the channels, ``4 L R = M^2 - S^2``.
    """
    total, difference = sides.unbind(1)
    power = (sides.real.square() + sides.imag.square()).sum(1)
    product = total * total - difference * difference
    # the slope of a magnitude is none at 0
    similarity = (product.real.square() + product.imag.square() + _ROUNDING**4).sqrt() / (power + _ROUNDING**2)
    off_centre = (1 - similarity).clamp(min=0).square()
    return torch.stack([(off_centre[:, low:high].mean(1) + _CENTRED).sqrt() for low, high in _PANNING_BINS], 1)


def _frame_levels(audio: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of the RMS and of the crest factor of frames of audio (batch, channels, samples)."""
    frames = audio.unfold(-1, FFT_SIZE, HOP)
    rms = torch.log(frames.square().mean(-1) + _ROUNDING_POWER) / 2
    return rms, torch.log(frames.abs().amax(-1) + _ROUNDING_POWER**0.5) - rms


def stereo_losses(outputs: Mapping[str, np.ndarray], target: np.ndarray) -> dict[str, dict[str, float]]:
    """Both losses, ``"a"`` and ``"b"``, of every output (2, samples), by name; the spectra are computed once for both.

    Signals that are shorter than a frame are compared with silence after them.
    """
    loss = StereoLoss("b")
    missing = max(0, FFT_SIZE - target.shape[1])

    def magnitudes(audio: np.ndarray) -> Tensor:
        return loss.magnitudes(
            torch.nn.functional.pad(torch.from_numpy(np.ascontiguousarray(audio))[None], (0, missing))
        )

    with torch.inference_mode():
        y = magnitudes(target)
        values = {}
        for name, output in outputs.items():
            x = magnitudes(output)
            means = _means(x, y)
            values[name] = {kind: float(_distance(means, kind)) for kind in ("a", "b")}
    return values


def _means(x: Tensor, y: Tensor) -> Tensor:
    everything = (0, 2, 3)
    logs = (_log(x) - _log(y)).abs()
    return torch.stack([part.mean(everything) for part in ((x - y).square(), y.square(), logs)])


def _distance(means: Tensor, kind: str) -> Tensor:
    difference, target, logs = means
    if kind == "b":
        return (difference + logs).sum()
    return (_root(difference) / _root(target).clamp(min=_SILENT_MAGNITUDE) + logs).sum()


def _root(square: Tensor) -> Tensor:
    """The square root, of slope 0 at 0, and not a number of what is none."""
    zero = square == 0
    return torch.where(zero, 1.0, square).sqrt() * ~zero


def _log(magnitude: Tensor) -> Tensor:
    trusted = torch.where(magnitude > _LOG_GRADIENT_FLOOR, magnitude, magnitude.detach())
    return torch.log(_LOG_FLOOR + trusted)


def _filter(signals: Tensor, banded: Tensor) -> Tensor:
    """FIR filtering (signals, samples) that keeps the length, as matrix products of blocks; see :func:`_banded`.

    Unlike a filter by FFT it leaves digital silence exactly silent, which the losses' logarithms need.
    """
    samples = signals.shape[-1]
    blocks = -(-samples // _BLOCK)
    after = blocks * _BLOCK - samples
    padded = functional.pad(signals, (_BLOCK, after + _BLOCK)).unflatten(-1, (-1, _BLOCK))
    filtered = padded[:, :-2] @ banded[0] + padded[:, 1:-1] @ banded[1] + padded[:, 2:] @ banded[2]
    return filtered.flatten(1)[:, :samples]


def _banded(taps: np.ndarray) -> Tensor:
    """What the previous, the same and the next block of input add to a block of output, (3, block, block).

    An odd number of taps is centred; of an even number, the first of the middle two is the tap without delay.
    """
    position = np.arange(_BLOCK)
    delay = np.stack([position - position[:, None] + shift * _BLOCK for shift in (1, 0, -1)])
    tap = delay + (len(taps) - 1) // 2
    inside = (tap >= 0) & (tap < len(taps))
    return torch.from_numpy(np.where(inside, taps[tap.clip(0, len(taps) - 1)], 0.0)).float()


def _taps(a_weighting: bool, low_pass: bool) -> np.ndarray:
    taps = _a_weighting_taps() if a_weighting else np.ones(1)
    return np.convolve(taps, _LOW_PASS) if low_pass else taps


@lru_cache
def _a_weighting_taps() -> np.ndarray:
    """Least-squares FIR fit to the magnitude of the bilinear-transformed A-weighting filter."""
    lowest, low, high, highest = (2 * np.pi * frequency for frequency in _A_WEIGHTING_POLES_HZ)
    gain = highest**2 * 10 ** (_A_WEIGHTING_GAIN_AT_1_KHZ_DB / 20)
    poles = np.array([-highest, -highest, -lowest, -lowest, -high, -low])
    b, a = scipy.signal.bilinear(gain * np.poly(np.zeros(4)), np.poly(poles), fs=SAMPLE_RATE)
    frequencies, response = scipy.signal.freqz(b, a, worN=_A_WEIGHTING_FIT_POINTS, fs=SAMPLE_RATE)
    return scipy.signal.firls(_A_WEIGHTING_TAPS, frequencies, np.abs(response), fs=SAMPLE_RATE)

"""A mixing console that a network operates: equalizers that move with the song, and a limiter on the sum.

The network draws no audio. It sets parameters, as in "Automatic multitrack mixing with a differentiable mixing console
of neural audio effects" (Steinmetz et al., ICASSP 2021): the gain of each stem in bands of the mel scale, a few dozen
times a second, and how hard the sum is driven into a limiter. It starts with all gains at 0 dB, so what it learns are
corrections of the sum of the stems. A mix is a sum over stems of what a linear filter makes of both
channels of each, times one gain: each stem stays as wide as it is, and what is on its left stays there.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.models.network import MixingNetwork, Progress, RunInSignal, StemTracks
from fxnorm.models.sizes import ConsoleSizes, refuse

_FFT_SIZE = 4_096
_HOP = _FFT_SIZE // 2  # squares of the window, half overlapping, add up to one
_BINS = _FFT_SIZE // 2 + 1
_SIDES = 2
"""Middle and side: the network sees both, and gives both the same gain. How wide records are differs more from song to
song than can be told from their normalized stems."""
_MOST_BANDS = 200  # beyond, bands at low frequencies have no bin of their own
_LOWEST_HZ, _MEL_CORNER_HZ = 40.0, 700.0

_POWER_FLOOR = 1e-9  # of a band's mean power, -90 dBFS: about the noise of 16 bits
_OFFSET_DB, _RANGE_DB = 45.0, 20.0  # bring levels near -1 to 1
_MOST_DB = 36.0  # of a gain; where an encoder left noise alone, normalization has raised it by over 20 dB
_DRIVE_AT_FIRST = math.log(4.0)
"""Of the sum of normalized stems, near -20 LUFS: so the limiter has something to do, and what it does can be learnt."""

_LIMITER_STEP = 64
"""Samples between two values of the limiter's envelope."""
_LIMITER_REACH = 10
"""Steps at either side of which the envelope is the highest level, and over which it is smoothed: 14.5 ms."""
_LIMITER_KNEE = 6.0

_FRAMES_AT_ONCE = 256
_LEVELS_FRACTION = 0.4
"""Of the time that mixing takes, for progress."""


class Limiter(nn.Module):
    """One gain for both channels that keeps every sample under full scale.

    The envelope is the highest absolute sample within a reach before and after, smoothed over that reach: so it looks
    ahead, and is nowhere below the signal. The gain is ``(1 + envelope^k)^(-1/k)``, a soft knee.
    """

    def __init__(self) -> None:
        super().__init__()
        window = torch.hann_window(2 * _LIMITER_REACH + 3, periodic=False)[1:-1]
        self.smoothing: Tensor
        self.register_buffer("smoothing", (window / window.sum())[None, None], persistent=False)

    def forward(self, mix: Tensor) -> Tensor:
        """Gains (batch, samples) for mixes (batch, 2, samples)."""
        samples = mix.shape[-1]
        gains = self.gains(self.peaks(mix))
        return self.between(functional.pad(gains, (1, 1), mode="replicate"))[..., :samples]

    def peaks(self, mix: Tensor) -> Tensor:
        """The highest absolute sample (batch, steps) of every step of mixes (batch, 2, samples)."""
        peaks = functional.pad(mix.abs().amax(1), (0, -mix.shape[-1] % _LIMITER_STEP))
        return peaks.unflatten(-1, (-1, _LIMITER_STEP)).amax(-1)

    def gains(self, peaks: Tensor) -> Tensor:
        """The gain (batch, steps) in the middle of each step, from all steps' peaks."""
        # one step further than it is smoothed: between two values, each has seen the samples around both
        reach = _LIMITER_REACH + 1
        highest = functional.max_pool1d(peaks[:, None], 2 * reach + 1, 1, reach)
        highest = functional.pad(highest, (_LIMITER_REACH, _LIMITER_REACH), mode="replicate")
        envelope = functional.conv1d(highest, self.smoothing)[:, 0]
        return (1 + envelope**_LIMITER_KNEE) ** (-1 / _LIMITER_KNEE)

    @staticmethod
    def between(gains: Tensor) -> Tensor:
        """Gains for each sample of steps, of which one more at either end is given."""
        scaled = functional.interpolate(gains[:, None], scale_factor=_LIMITER_STEP, mode="linear")
        return scaled[:, 0, _LIMITER_STEP:-_LIMITER_STEP]


class _Writer:
    """Puts the frames of one signal (2, samples) together, block after block of frames.

    The signal may be what the frames are of: what is still to be read is not overwritten.
    """

    def __init__(self, signal: Tensor) -> None:
        self.signal = signal
        self._rest: Tensor | None = None

    def add(self, frames: Tensor, first: int) -> None:
        """Add frames (2, frames, samples of a frame) of middle and side, of which the first has this number."""
        added = _left_and_right(_overlapped(frames))
        if self._rest is not None:
            added[..., :_HOP] += self._rest
        self._rest = added[..., -_HOP:]
        start = (first - 1) * _HOP
        known = added[..., max(-start, 0) : -_HOP]
        start = max(start, 0)
        stretch = self.signal[..., start : start + known.shape[-1]]
        stretch.copy_(known[..., : stretch.shape[-1]])


class TemporalBlock(nn.Module):
    """A residual block of a dilated convolution over frames (Bai et al., arXiv:1803.01271)."""

    def __init__(self, features: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.reach = (kernel - 1) // 2 * dilation
        self.norm = nn.LayerNorm(features)
        self.filter = nn.Conv1d(features, features, kernel, dilation=dilation)
        self.output = nn.Conv1d(features, features, 1)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.norm(features.transpose(1, 2)).transpose(1, 2)
        # a song goes on before its first and after its last frame much as it is there
        hidden = functional.pad(hidden, (self.reach, self.reach), mode="replicate")
        return features + self.output(functional.gelu(self.filter(hidden)))


class MixingConsole(MixingNetwork):
    """Stems (batch, 8, samples) to a stereo mix (batch, 2, samples), any length."""

    sizes: ConsoleSizes

    def __init__(self, sizes: ConsoleSizes) -> None:
        super().__init__()
        if sizes.kernel % 2 == 0:
            raise refuse(sizes.network, "kernel", "an odd number", sizes.kernel)
        if sizes.bands > _MOST_BANDS:
            raise refuse(sizes.network, "bands", f"at most {_MOST_BANDS}", sizes.bands)
        self.sizes = sizes
        levels = _SIDES * (len(STEMS) + 1) * sizes.bands + len(STEMS) + 1  # of the stems and their sum; and their peaks
        self.bands: Tensor
        self.window: Tensor
        self.register_buffer("bands", torch.from_numpy(mel_bands(sizes.bands)), persistent=False)
        self.register_buffer("window", torch.hann_window(_FFT_SIZE).sqrt(), persistent=False)
        self.of_song = nn.Sequential(
            nn.Linear(3 * levels, sizes.features),
            nn.GELU(),
            nn.Dropout(sizes.dropout),
            nn.Linear(sizes.features, sizes.features),
        )
        self.of_frame = nn.Conv1d(levels, sizes.features, 1)
        self.blocks = nn.Sequential(
            *(TemporalBlock(sizes.features, sizes.kernel, 2**block) for block in range(sizes.blocks))
        )
        self.dropout = nn.Dropout(sizes.dropout)
        self.gains = nn.Linear(sizes.features, len(STEMS) * sizes.bands)
        self.drive = nn.Linear(sizes.features, 1)
        self.limiter = Limiter()
        for layer in (self.gains, self.drive):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.constant_(self.drive.bias, _DRIVE_AT_FIRST)

    @property
    def edge_guard(self) -> int:
        return _FFT_SIZE

    def forward(self, stems: Tensor) -> Tensor:
        samples = stems.shape[-1]
        frames = _framed(_middle_and_side(stems))
        spectra = self._analyse(frames)
        gains, drive = self.parameters_of(self._levels(frames, spectra))
        mix = _left_and_right(self._synthesize(self._amplified(spectra, gains).sum(1), samples))
        mix = mix * drive[:, None, None]
        return mix * self.limiter(mix)[:, None]

    @torch.no_grad()
    def mix(self, stems: Tensor, run_in: int = 0, progress: Progress | None = None) -> Tensor:
        """As :meth:`MixingNetwork.mix`. Nothing is recurrent, hence no use for a run-in."""
        return self._mix(stems, None, None, progress or (lambda done: None))

    @torch.no_grad()
    def mix_parts(
        self,
        stems: Tensor,
        parts: Tensor,
        run_in: int = 0,
        progress: Progress | None = None,
        tracks: StemTracks | None = None,
    ) -> Tensor:
        """As :meth:`MixingNetwork.mix_parts`."""
        return self._mix(stems, parts, tracks, progress or (lambda done: None))

    def _mix(self, stems: Tensor, parts: Tensor | None, tracks: StemTracks | None, progress: Progress) -> Tensor:
        blocks = list(_blocks(stems.shape[-1]))
        levels = []
        for number, (first, last) in enumerate(blocks):
            frames = self._frames(stems, first, last)[None]
            levels.append(self._levels(frames, self._analyse(frames))[0])
            progress(_LEVELS_FRACTION * (number + 1) / len(blocks))
        gains, drive = (value[0] for value in self.parameters_of(torch.cat(levels, -1)[None]))
        mix = stems.new_empty(_SIDES, stems.shape[-1])
        writers = [_Writer(mix)]
        if parts is not None:
            writers += [_Writer(part) for part in parts]
        track_rows = None
        if tracks is not None:
            writers += [_Writer(track) for track in tracks.audio]
            track_rows = tracks.audio.flatten(0, 1)
        for number, (first, last) in enumerate(blocks):
            spectra = self._analyse(self._frames(stems, first, last))
            spectra = self._amplified(spectra, gains[..., first:last]) * drive
            sources = [spectra.sum(0)]
            if parts is not None:
                sources += spectra
            if tracks is not None and track_rows is not None:
                of_tracks = self._analyse(self._frames(track_rows, first, last).to(stems.device))
                sources += self._amplified(of_tracks, gains[list(tracks.stems), ..., first:last]) * drive
            for writer, source in zip(writers, sources, strict=True):
                writer.add(torch.fft.irfft(source, n=_FFT_SIZE).mul_(self.window), first)
            progress(1 + (1 - _LEVELS_FRACTION) * ((number + 1) / len(blocks) - 1))
        self._limit(mix, [writer.signal for writer in writers])
        return mix

    @staticmethod
    def _frames(rows: Tensor, first: int, last: int) -> Tensor:
        """Some frames (signals, 2, frames, samples of a frame) of middles and sides of (2 · signals, samples)."""
        around = RunInSignal(rows, 0).samples((first - 1) * _HOP, last * _HOP)
        return _middle_and_side(around).unfold(-1, _FFT_SIZE, _HOP)

    def _limit(self, mix: Tensor, signals: list[Tensor]) -> None:
        samples, block = mix.shape[-1], _FRAMES_AT_ONCE * _HOP
        peaks = [self.limiter.peaks(mix[None, :, start : start + block]) for start in range(0, samples, block)]
        gains = functional.pad(self.limiter.gains(torch.cat(peaks, -1)), (1, 1), mode="replicate")
        for start in range(0, samples, block):
            first, length = start // _LIMITER_STEP, min(block, samples - start)
            within = self.limiter.between(gains[:, first : first + -(-length // _LIMITER_STEP) + 2])[0, :length]
            for signal in signals:
                signal[..., start : start + length] *= within.to(signal.device)

    def parameters_of(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """What the network sets: gains (batch, 4, bands, frames) in dB, and the drive (batch,), linear.

        Args:
            levels: (batch, 10 · bands + 5, frames), in dB and scaled (:meth:`_levels`).
        """
        of_song = torch.cat([levels.mean(-1), levels.std(-1, correction=0), levels.amax(-1)], 1)
        context = self.of_song(of_song)
        features = self.dropout(functional.gelu(self.blocks(self.of_frame(levels) + context[..., None])))
        gains = _bounded(self.gains(features.transpose(1, 2)).float(), _MOST_DB).unflatten(-1, (len(STEMS), -1))
        drive = torch.exp(self.drive(functional.gelu(context)).float()[:, 0])
        return gains.permute(0, 2, 3, 1), drive

    def _analyse(self, frames: Tensor) -> Tensor:
        """Spectra (…, frames, bins) of frames (…, frames, samples)."""
        return torch.fft.rfft(frames * self.window)

    def _levels(self, frames: Tensor, spectra: Tensor) -> Tensor:
        """What the network sees of frames (batch, 4, 2, frames, samples of a frame) and of their spectra.

        Returns:
            levels in dB, scaled, (batch, 10 · bands + 5, frames): mean power of the stems' middles and sides in bands,
            then of their sum's; then the peak of each middle.
        """
        frames = torch.cat([frames[:, :, 0], frames[:, :, 0].sum(1, keepdim=True)], 1)
        spectra = torch.cat([spectra, spectra.sum(1, keepdim=True)], 1)
        power = _exactly(spectra.real.square() + spectra.imag.square(), self.weights)
        powers = [power.movedim(-2, -1).flatten(1, 3), frames.square().amax(-1)]
        return (10 * torch.log10(torch.cat(powers, 1) + _POWER_FLOOR) + _OFFSET_DB) / _RANGE_DB

    @property
    def weights(self) -> Tensor:
        """Of the bins in the mean power of each band, (bins, bands); a full-scale sine in a band has -3 dB."""
        return self.bands.T / (self.bands.sum(1) * (_FFT_SIZE * _FFT_SIZE / 4))

    def _amplified(self, spectra: Tensor, gains: Tensor) -> Tensor:
        """Spectra (…, signals, 2, frames, bins) with gains in dB (…, signals, bands, frames)."""
        per_bin = _exactly(gains.transpose(-2, -1), self.bands)
        return spectra * torch.exp(per_bin * (math.log(10) / 20)).unsqueeze(-3)

    def _synthesize(self, spectra: Tensor, samples: int) -> Tensor:
        """Signals (…, samples) of spectra (…, frames, bins), without the half frame before them."""
        frames = torch.fft.irfft(spectra, n=_FFT_SIZE) * self.window
        return _overlapped(frames)[..., _HOP : _HOP + samples]


def _blocks(samples: int) -> Iterator[tuple[int, int]]:
    """First frame and the one after the last of each block of a song's frames."""
    frames = -(-samples // _HOP) + 1
    for first in range(0, frames, _FRAMES_AT_ONCE):
        yield first, min(first + _FRAMES_AT_ONCE, frames)


def mel_bands(bands: int) -> np.ndarray:
    """How much of each band's gain counts at each bin, float32 (bands, bins): triangles over the mel scale.

    The scale is O'Shaughnessy's, ``log(1 + f / 700 Hz)``. At every bin they add up to one.
    """
    frequencies = np.arange(_BINS) * SAMPLE_RATE / _FFT_SIZE
    position = np.log1p(np.maximum(frequencies, _LOWEST_HZ) / _MEL_CORNER_HZ)
    centres = np.linspace(position[0], position[-1], bands)
    return np.stack([np.interp(position, centres, unit) for unit in np.eye(bands)]).astype(np.float32)


def _exactly(values: Tensor, weights: Tensor) -> Tensor:
    """Their matrix product in single precision, under autocast too: levels and gains in dB need more than 8 bits."""
    with torch.autocast(values.device.type, enabled=False):
        return values @ weights


def _bounded(values: Tensor, most: float) -> Tensor:
    """Gains in dB of what a linear layer gives: ``_RANGE_DB`` of it, or twice ``most`` if that is less, as long as they
    are small; never over ``most``."""
    return most * torch.tanh(values * min(_RANGE_DB / most, 2.0))


def _middle_and_side(stems: Tensor) -> Tensor:
    """Stems (…, 8, samples) as (…, 4, 2, samples), half the sum and half the difference of left and right."""
    left, right = stems.unflatten(-2, (-1, 2)).unbind(-2)
    return torch.stack([left + right, left - right], -2) / 2


def _left_and_right(sides: Tensor) -> Tensor:
    """The inverse, of (…, 2, samples)."""
    middle, side = sides.unbind(-2)
    return torch.stack([middle + side, middle - side], -2)


def _framed(signals: Tensor) -> Tensor:
    """Half overlapping frames (…, frames, samples of a frame) that see every sample of (…, samples) twice."""
    samples = signals.shape[-1]
    return functional.pad(signals, (_HOP, _HOP + -samples % _HOP)).unfold(-1, _FFT_SIZE, _HOP)


def _overlapped(frames: Tensor) -> Tensor:
    """The signals (…, samples) of half overlapping frames (…, frames, samples of a frame), added up."""
    first, second = frames.unflatten(-1, (2, _HOP)).unbind(-2)
    first, second = functional.pad(first, (0, 0, 0, 1)), functional.pad(second, (0, 0, 1, 0))
    return (first + second).flatten(-2)

"""The Wave-U-Net baseline: "Wave-U-Net: a multi-scale neural network for end-to-end audio source separation".

Stoller, Ewert and Dixon, ISMIR 2018, in the later variant with group norms, fixed sinc resampling and valid
convolutions; all stems go in together and the mix comes out.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from fxnorm.models import short_convolution
from fxnorm.models.network import MixingNetwork, Progress, RunInSignal
from fxnorm.models.short_convolution import ShortConvolution, Workspace
from fxnorm.models.sizes import INPUT_CHANNELS, OUTPUT_CHANNELS, WaveUNetSizes, refuse

_NORM_GROUP_CHANNELS = 8
_RESAMPLING_TAPS = 15
_SEQUENCE = 154_350
"""Samples of a song that are mixed at a time: 3.5 s, 0.46 GB of feature maps at the published sizes."""
_CROSS_FADE = 22_050
_RESAMPLING_REACH = (_RESAMPLING_TAPS - 1) // 2


class ConvolutionLayer(nn.Module):
    """Valid convolution, group norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.filter = nn.Conv1d(inputs, outputs, kernel)
        self.norm = nn.GroupNorm(outputs // _NORM_GROUP_CHANNELS, outputs)

    def forward(self, features: Tensor) -> Tensor:
        return functional.relu(self.norm(self.filter(features)), inplace=True)


class Resampling(nn.Module):
    """Decimation or interpolation by ``stride`` through a fixed low-pass filter, edges reflected."""

    def __init__(self, channels: int, stride: int, interpolate: bool) -> None:
        super().__init__()
        self.stride = stride
        self.interpolate = interpolate
        self.filter: Tensor
        self.register_buffer("filter", low_pass(stride).repeat(channels, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        if self.stride == 1:
            return features  # all that the low-pass filter passes
        channels = features.shape[1]
        padded = functional.pad(features, (_RESAMPLING_REACH, _RESAMPLING_REACH), mode="reflect")
        if not self.interpolate:
            return functional.conv1d(padded, self.filter, stride=self.stride, groups=channels)
        samples = (features.shape[-1] - 1) * self.stride + 1
        return _centre(functional.conv_transpose1d(padded, self.filter, stride=self.stride, groups=channels), samples)


class DownsamplingBlock(nn.Module):
    """Gives what goes down to the next level, and the shortcut to the upsampling block of the same level."""

    def __init__(self, inputs: int, features: int, outputs: int, sizes: WaveUNetSizes) -> None:
        super().__init__()
        self.before_shortcut = ConvolutionLayer(inputs, features, sizes.kernel)
        self.after_shortcut = ConvolutionLayer(features, outputs, sizes.kernel)
        self.resample = Resampling(outputs, sizes.stride, interpolate=False)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        shortcut = self.before_shortcut(features)
        return self.resample(self.after_shortcut(shortcut)), shortcut


class UpsamplingBlock(nn.Module):
    """Interpolates, and joins the shortcut of the same level."""

    def __init__(self, inputs: int, features: int, sizes: WaveUNetSizes) -> None:
        super().__init__()
        self.resample = Resampling(inputs, sizes.stride, interpolate=True)
        self.before_shortcut = ConvolutionLayer(inputs, features, sizes.kernel)
        self.after_shortcut = ConvolutionLayer(2 * features, features, sizes.kernel)

    def forward(self, features: Tensor, shortcut: Tensor) -> Tensor:
        upsampled = self.before_shortcut(self.resample(features))
        return self.after_shortcut(torch.cat([_centre(shortcut, upsampled.shape[-1]), upsampled], dim=1))


class WaveUNet(MixingNetwork):
    """Stems (batch, 8, samples) to a stereo mix (batch, 2, samples), any length.

    The convolutions are valid ones: ``forward`` puts zeros before and after the input, ``mix_valid`` takes the input as
    it is, context included, and gives the shorter output that the published network gives. In evaluation mode the mix
    is clamped to full scale.
    """

    sizes: WaveUNetSizes

    def __init__(self, sizes: WaveUNetSizes) -> None:
        super().__init__()
        if sizes.kernel % 2 == 0:
            raise refuse(sizes.network, "kernel", "an odd number", sizes.kernel)
        if sizes.features % _NORM_GROUP_CHANNELS:
            raise refuse(sizes.network, "features", f"a multiple of {_NORM_GROUP_CHANNELS}", sizes.features)
        self.sizes = sizes
        features = [sizes.features * 2**level for level in range(sizes.levels)]
        self.down = nn.ModuleList(
            DownsamplingBlock(inputs, width, width_below, sizes)
            for inputs, width, width_below in zip(
                [INPUT_CHANNELS, *features[1:-1]], features[:-1], features[1:], strict=True
            )
        )
        self.bottleneck = ConvolutionLayer(features[-1], features[-1], sizes.kernel)
        self.up = nn.ModuleList(
            UpsamplingBlock(width_below, width, sizes)
            for width_below, width in zip(features[:0:-1], features[-2::-1], strict=True)
        )
        self.output = nn.Conv1d(features[0], OUTPUT_CHANNELS, 1)

    @property
    def context(self) -> int:
        """Samples that the valid convolutions take off each end."""
        return self._reach(resampling_reach=0)

    @property
    def edge_guard(self) -> int:
        return self._reach(_RESAMPLING_REACH)

    def forward(self, stems: Tensor) -> Tensor:
        samples = stems.shape[-1]
        padded = functional.pad(stems, (self.context, self.context + self._spare(samples)))
        return self.mix_valid(padded)[..., :samples]

    def mix_valid(self, stems: Tensor) -> Tensor:
        """The mix of the middle of ``stems``, ``context`` samples shorter at each end."""
        mix = self._mix_valid(stems)
        return mix if self.training else mix.clamp(-1, 1)

    def _mix_valid(self, stems: Tensor) -> Tensor:
        features, shortcuts = stems, []
        for block in self.down:
            features, shortcut = block(features)
            shortcuts.append(shortcut)
        features = self.bottleneck(features)
        for block, shortcut in zip(self.up, reversed(shortcuts), strict=True):
            features = block(features, shortcut)
        return self.output(features)

    @torch.no_grad()
    def mix(self, stems: Tensor, run_in: int = 0, progress: Progress | None = None) -> Tensor:
        """As :meth:`MixingNetwork.mix`, in overlapping sequences that fade into each other.

        A song of these feature maps does not fit into memory, so group norms span a sequence, as in training. There is
        nothing recurrent, hence no use for a run-in.
        """
        signal, samples = RunInSignal(stems, 0), stems.shape[-1]
        length = min(samples, _SEQUENCE)
        last = samples - length
        starts = [*range(0, last, _SEQUENCE - _CROSS_FADE), last]
        ramp = torch.arange(1, _CROSS_FADE + 1, device=stems.device) / _CROSS_FADE
        mix = stems.new_empty(OUTPUT_CHANNELS, samples)
        mix_sequence = self._sequence_mixer(stems, length)
        for done, start in enumerate(starts, start=1):
            around = signal.samples(start - self.context, start + length + self.context + self._spare(length))
            sequence = mix_sequence(around)[:, :length]
            if start > 0:
                before = mix[:, start : start + _CROSS_FADE]
                sequence[:, :_CROSS_FADE] = before.lerp(sequence[:, :_CROSS_FADE], ramp)
            mix[:, start : start + length] = sequence
            if progress:
                progress(done / len(starts))
        return mix.clamp_(-1, 1)

    def _sequence_mixer(self, stems: Tensor, length: int) -> Callable[[Tensor], Tensor]:
        """What does as ``mix_valid`` does, of one item of such stems, that long at most, and does not clamp."""
        sizes = self.sizes
        if stems.device.type != "cpu" or sizes.stride > 1 or not short_convolution.takes(sizes.kernel):
            return lambda around: self._mix_valid(around[None])[0]
        layers: dict[nn.Module, ShortConvolution] = {
            layer: ShortConvolution(layer.filter, layer.norm)
            for layer in self.modules()
            if isinstance(layer, ConvolutionLayer)
        }
        longest = length + self._spare(length) + 2 * self.context
        workspace = Workspace(sizes.kernel, self.bottleneck.filter.out_channels, longest, stems)
        return lambda around: self._mix_short(around, workspace, layers)

    def _mix_short(self, stems: Tensor, workspace: Workspace, layers: Mapping[nn.Module, ShortConvolution]) -> Tensor:
        """As ``mix_valid`` without decimation; all feature maps but the shortcuts share one memory."""
        features, shortcuts = workspace.take(stems), []
        for down in self.down:
            assert isinstance(down, DownsamplingBlock)
            features = layers[down.before_shortcut].overwrite(features)
            shortcuts.append(features.kept())
            features = layers[down.after_shortcut].overwrite(features)
        features = layers[self.bottleneck].overwrite(features)
        for up in self.up:
            assert isinstance(up, UpsamplingBlock)
            features = layers[up.before_shortcut].overwrite(features)
            features = layers[up.after_shortcut].overwrite(features, shortcuts.pop())
        return self.output(features.signal())

    def _spare(self, samples: int) -> int:
        """Samples that a mix lacks to a length that every level can decimate, and reflect for its resampling."""
        sizes = self.sizes
        shortest = _RESAMPLING_REACH + 1
        for _ in range(sizes.levels - 1):
            shortest = max((shortest - 1) * sizes.stride + 1 - 2 * (sizes.kernel - 1), shortest)
        length = max(samples, shortest)
        return length - samples + -(length - 1 + self.context) % sizes.stride ** (sizes.levels - 1)

    def _reach(self, resampling_reach: int) -> int:
        sizes = self.sizes
        convolution = (sizes.kernel - 1) // 2
        scales = [sizes.stride**level for level in range(sizes.levels)]
        return (
            sum(4 * convolution * scale + resampling_reach * (scale + scale * sizes.stride) for scale in scales[:-1])
            + convolution * scales[-1]
        )


def _centre(features: Tensor, samples: int) -> Tensor:
    spare = (features.shape[-1] - samples) // 2
    return features[..., spare : spare + samples]


def low_pass(stride: int) -> Tensor:
    """Sinc of cut-off 1 / (2 stride) under a Hann window, the released networks' filter, shape (1, 1, taps)."""
    position = torch.arange(_RESAMPLING_TAPS) - _RESAMPLING_REACH
    window = 0.5 + 0.5 * torch.cos(math.pi * position / _RESAMPLING_REACH)
    taps = torch.sinc(position / stride) * window
    return (taps / taps.sum())[None, None]

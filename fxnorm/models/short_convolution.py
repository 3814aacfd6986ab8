"""Valid convolutions with short kernels on many channels, at less than half the multiplications.

A signal is cut into overlapping tiles of a few samples; in their Fourier transform, a convolution is a product for each
frequency, and a matrix product over channels for each (Winograd, "Arithmetic Complexity of Computations", 1980; Lavin
and Gray, "Fast algorithms for convolutional neural networks", CVPR 2016, with real points, which round worse). With
three products of real numbers for a complex one, a kernel of 5 takes 23 multiplications for 12 samples and not 60.

Signals lie as phases, (step, tiles, channels): sample ``tile * step + phase``. In this order every transform is one
matrix product, and none has to reorder anything: a layer's output is the next one's input. Group norms and ReLUs are
applied to what the next layer reads, block by block in the processor's cache.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

_TILE = 16
"""Samples; more of them save little more and round worse."""
_LONGEST_KERNEL = _TILE // 2
_BLOCK = 1 << 16
"""Samples of all channels of a phase that are worked on at a time."""


def takes(kernel: int) -> bool:
    """Whether a kernel is short enough to gain from it."""
    return kernel <= _LONGEST_KERNEL


@dataclass(frozen=True)
class Phases:
    """A signal (channels, samples) in the order of this module.

    Attributes:
        rows: (step, …), of each phase its samples, channel by channel, tile after tile.
        channels: how many.
        samples: how many; what follows them is of no account.
        scale, shift: what is still to be done to it, of each channel: ``relu(scale * signal + shift)``.
    """

    rows: Tensor
    channels: int
    samples: int
    scale: Tensor | None = None
    shift: Tensor | None = None

    @property
    def tiles(self) -> int:
        """How many the samples reach into."""
        return -(-self.samples // len(self.rows))

    def kept(self) -> "Phases":
        """A copy, in memory of its own, with a tile to spare."""
        return replace(self, rows=self.rows[:, : (self.tiles + 1) * self.channels].clone())

    def block(self, start: int, stop: int) -> Tensor:
        """Tiles of what the signal is to become, (step, tiles, channels), zeros behind its end."""
        step, count = len(self.rows), min(stop, self.tiles) - start
        read = self.rows[:, start * self.channels : (start + count) * self.channels].view(step, count, -1)
        block = self.rows.new_empty(step, stop - start, self.channels)
        block[:, count:] = 0
        inner = block[:, :count]
        if self.scale is None or self.shift is None:
            inner.copy_(read)
        else:
            torch.addcmul(self.shift, read, self.scale, out=inner).relu_()
        silence_behind(inner, self.samples - start * step)
        return block

    def signal(self) -> Tensor:
        """Shape (channels, samples)."""
        block = self.block(0, self.tiles)
        return block.permute(2, 1, 0).flatten(1)[:, : self.samples]


def silence_behind(block: Tensor, samples: int) -> None:
    """Silence in place what is behind the first samples of a block (step, tiles, channels)."""
    step, tiles, _ = block.shape
    if samples < step * tiles:
        for phase, row in enumerate(block):
            row[max(-(-(samples - phase) // step), 0) :] = 0


class Workspace:
    """Memory that a signal is in, layer after layer.

    Args:
        kernel: of all convolutions.
        channels: the most that the signal will have.
        samples: likewise.
        like: a tensor of the device and precision.
    """

    def __init__(self, kernel: int, channels: int, samples: int, like: Tensor) -> None:
        self.step = _TILE - kernel + 1
        tiles = -(-samples // self.step)
        self.rows = like.new_zeros(self.step, tiles * channels)  # not a number times 0 would be none

    def take(self, signal: Tensor) -> Phases:
        """A signal (channels, samples), copied."""
        channels, samples = signal.shape
        tiles = -(-samples // self.step)
        padded = functional.pad(signal, (0, tiles * self.step - samples)).unflatten(1, (tiles, self.step))
        self.rows[:, : tiles * channels].view(self.step, tiles, channels).copy_(padded.permute(2, 1, 0))
        return Phases(self.rows, channels, samples)


class ShortConvolution:
    """A valid convolution with group norm and ReLU, without gradients.

    Args:
        convolution: of a kernel that :func:`takes` takes.
        norm: of its outputs.
    """

    def __init__(self, convolution: nn.Conv1d, norm: nn.GroupNorm) -> None:
        weight = convolution.weight.detach()
        self.outputs, self.inputs, self.kernel = weight.shape
        assert convolution.bias is not None
        self.bias, self.norm = convolution.bias.detach(), norm
        forward, on_kernel, backward = _products(self.kernel)
        products = torch.einsum("pk,oik->pio", on_kernel.to(weight.device), weight.double())
        self.weight = products.to(weight.dtype).contiguous()
        self.forward, self.backward = (matrix.to(weight) for matrix in (forward, backward))

    def overwrite(self, source: Phases, shortcut: Phases | None = None) -> Phases:
        """The layer's output, in the memory of its input.

        Args:
            source: in the memory of a workspace.
            shortcut: in other memory; its channels come before those of the source, its middle samples to theirs.
        """
        step, samples = len(source.rows), source.samples - self.kernel + 1
        tiles = -(-samples // step)
        size = max(_BLOCK // max(self.inputs, self.outputs), 1)
        blocks = [(start, min(start + size, tiles)) for start in range(0, tiles, size)]
        if self.outputs > source.channels:
            blocks.reverse()  # what is written must not lie where something is still to be read
        moments = _Moments(samples, self.bias)
        for start, stop in blocks:
            products = self._products(source, 0, start, stop, slice(self.inputs - source.channels, self.inputs))
            if shortcut is not None:
                spare = (shortcut.samples - source.samples) // 2
                added = slice(0, shortcut.channels)
                products += self._products(shortcut, spare, start, stop, added)
            written = source.rows[:, start * self.outputs : stop * self.outputs]
            torch.mm(self.backward, products.flatten(1), out=written)
            moments.add(written.view(step, stop - start, self.outputs), samples - start * step)
        return Phases(source.rows, self.outputs, samples, *moments.normalizing(self.norm))

    def _products(self, source: Phases, first: int, start: int, stop: int, inputs: slice) -> Tensor:
        """Of tiles that begin at sample ``first``, times the kernels: (products, tiles, outputs)."""
        step, tiles, channels = len(source.rows), stop - start, source.channels
        reach = -(-(first + _TILE) // step) - 1  # tiles that a tile reaches into beyond its own
        block = source.block(start, stop + reach).flatten(1)
        transformed = block.new_empty(len(self.forward), tiles * channels)
        begun = False
        for shift in range(first // step, reach + 1):
            begin, end = max(shift * step - first, 0), min((shift + 1) * step - first, _TILE)
            phases = slice(begin + first - shift * step, end + first - shift * step)
            part = block[phases, shift * channels : (shift + tiles) * channels]
            if begun:
                transformed.addmm_(self.forward[:, begin:end], part)
            else:
                torch.mm(self.forward[:, begin:end], part, out=transformed)
            begun = True
        return torch.bmm(transformed.unflatten(1, (tiles, channels)), self.weight[:, inputs])


class _Moments:
    """Mean and variance of groups of channels, about the mean of the first block, so that little cancels."""

    def __init__(self, samples: int, bias: Tensor) -> None:
        self._samples = samples
        self._bias = bias.double()
        self._offset: Tensor | None = None
        self._sum = torch.zeros_like(self._bias)
        self._squares = torch.zeros_like(self._bias)

    def add(self, block: Tensor, samples: int) -> None:
        """The first samples of a block (step, tiles, channels)."""
        if self._offset is None:
            self._offset = block.mean((0, 1))
        around = block - self._offset
        silence_behind(around, samples)
        self._sum += around.sum((0, 1))
        self._squares += around.square_().sum((0, 1))

    def normalizing(self, norm: nn.GroupNorm) -> tuple[Tensor, Tensor]:
        """Scale and shift of each channel."""
        assert self._offset is not None
        means = self._offset + self._sum / self._samples + self._bias
        squares = self._squares - self._sum.square() / self._samples
        groups = means.unflatten(0, (norm.num_groups, -1))
        mean = groups.mean(1, keepdim=True)
        variance = squares.unflatten(0, groups.shape).mean(1, keepdim=True) / self._samples
        variance = variance + (groups - mean).square().mean(1, keepdim=True)
        weight, bias = norm.weight.double(), norm.bias.double()
        scale = weight / (variance + norm.eps).sqrt().expand_as(groups).flatten()
        shift = bias + scale * (self._bias - mean.expand_as(groups).flatten())
        return scale.to(norm.weight.dtype), shift.to(norm.weight.dtype)


def _products(kernel: int) -> tuple[Tensor, Tensor, Tensor]:
    """What gives the products of a tile, (products, tile), of a kernel, (products, kernel), and of them the samples,
    (step, products).

    The Fourier transform of a tile times the conjugate of a kernel's, (a + ib) (c + id), is c (a + b) - b (c + d) and,
    for the imaginary part, c (a + b) + a (d - c). The samples that do not wrap round are the convolution's.
    """
    tile, taps, output = (torch.arange(count, dtype=torch.float64) for count in (_TILE, kernel, _TILE - kernel + 1))

    def wave(frequency: int, position: Tensor) -> tuple[Tensor, Tensor]:
        phase = 2 * math.pi * frequency * position / _TILE
        return phase.cos(), phase.sin()

    on_tile, on_kernel, samples = list[Tensor](), list[Tensor](), list[Tensor]()
    for frequency in range(_TILE // 2 + 1):
        (a, minus_b), (c, d), (real, imaginary) = (wave(frequency, position) for position in (tile, taps, output))
        if frequency in (0, _TILE // 2):
            on_tile += [a]
            on_kernel += [c]
            samples += [real / _TILE]
            continue
        b = -minus_b
        on_tile += [a + b, a, b]
        on_kernel += [c, d - c, c + d]
        samples += [2 / _TILE * part for part in (real - imaginary, -imaginary, -real)]
    return torch.stack(on_tile), torch.stack(on_kernel), torch.stack(samples, 1)

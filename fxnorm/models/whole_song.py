"""CRAFx2 on a whole song at once, in little memory.

Group norms, recurrent layers and excitation span the song, so it cannot be cut into independent pieces. But only latent
frames have to be kept: the filter bank runs twice in blocks, once to measure and once to mix.
"""

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from fxnorm.models.envelopes import banded_matrices, smooth
from fxnorm.models.filter_bank import block_frames, same_padding, without_ends
from fxnorm.models.front_end import FrontEnd
from fxnorm.models.latent_mixer import LatentMixer
from fxnorm.models.network import Progress, RunInSignal, StemTracks
from fxnorm.models.sizes import OUTPUT_CHANNELS
from fxnorm.models.whole_latents import latent_rows, mask_in_place

_SYNTHESIS_FRACTION = 0.3
"""Of the time that mixing takes, for progress."""
_LINEAR = 1e-6
"""Samples under which tanh is the identity, to float32's precision."""
_PHASES = 4
"""Neighbouring samples of a subband that are computed side by side; 2 and 8 take as long within a tenth."""
_ANALYSIS_FRACTION = 0.5
"""Of the time before synthesis; the latent-space mixer takes the other half."""


def mix(
    front_end: FrontEnd, latent_mixer: LatentMixer, excitation: nn.Module, signal: RunInSignal, progress: Progress
) -> Tensor:
    """The mix (2, samples) of a song, its run-in cut off; the networks are those of :class:`fxnorm.models.CRAFx2`."""
    mask, squeezed = _mask(front_end, latent_mixer, signal, lambda done: progress((1 - _SYNTHESIS_FRACTION) * done))
    mask *= excitation(squeezed)[:, None]
    return _synthesize(front_end, signal, mask, lambda done: progress(1 + _SYNTHESIS_FRACTION * (done - 1)))


def mix_parts(
    front_end: FrontEnd,
    latent_mixer: LatentMixer,
    excitation: nn.Module,
    signal: RunInSignal,
    parts: Tensor,
    progress: Progress,
    tracks: StemTracks | None = None,
) -> Tensor:
    """As :func:`mix`, and what each stem contributes to it, in ``parts`` (stems, 2, samples), on any device.

    ``parts`` may have the memory of the song's stems, which are overwritten then. ``tracks`` that add up to the stems
    are overwritten with what each contributes.

    Once the mask is known, filter bank and synthesis are linear in the stems. The last tanh is one gain for all of them
    at each sample and channel, tanh(y) / y of their sum y.
    """
    mask, squeezed = _mask(front_end, latent_mixer, signal, lambda done: progress((1 - _SYNTHESIS_FRACTION) * done))
    mask *= excitation(squeezed)[:, None]
    mix = signal.stems.new_empty(parts.shape[1:])
    bank = _StemBank(front_end, len(parts))
    blocks = _part_blocks(front_end, bank, signal, mask, range(len(parts)))
    track_blocks: Iterator[tuple[int, Tensor] | None] = itertools.repeat(None)
    if tracks is not None and len(tracks.audio):
        rows = RunInSignal(tracks.audio.flatten(0, 1), signal.run_in)
        track_blocks = _part_blocks(front_end, bank, rows, mask, tracks.stems)
    for (start, block), track_block in zip(blocks, track_blocks, strict=False):
        stop = start + block.shape[-1]
        total = block.sum(0)
        mix[:, start:stop] = total.tanh()
        gain = torch.where(total.abs() > _LINEAR, mix[:, start:stop] / total, 1)
        parts[..., start:stop] = (block * gain).to(parts.device)
        if tracks is not None and track_block is not None:
            tracks.audio[..., start:stop] = (track_block[1] * gain).to(tracks.audio.device)
        progress(1 + _SYNTHESIS_FRACTION * (stop / mix.shape[-1] - 1))
    return mix


def _mask(
    front_end: FrontEnd, latent_mixer: LatentMixer, signal: RunInSignal, progress: Progress
) -> tuple[Tensor, Tensor]:
    """The mask (filters, frames) and the mean magnitude (filters,) of the subbands under it."""
    filters, frames = len(front_end.filters), -(-signal.length // front_end.pooling)
    latents = signal.stems.new_empty(latent_rows(latent_mixer), frames)
    # only means over a whole song are taken of these, in which half precision's errors average out
    magnitudes = torch.empty(filters, frames, dtype=torch.float16, device=signal.stems.device)
    _measure(front_end, signal, latents[:filters], magnitudes, lambda done: progress(_ANALYSIS_FRACTION * done))
    mask = mask_in_place(latent_mixer, latents, lambda done: progress(1 + (1 - _ANALYSIS_FRACTION) * (done - 1)))
    squeezed = torch.stack([row.dot(magnitude.float()) for row, magnitude in zip(mask, magnitudes, strict=True)])
    return mask, squeezed / frames


def _measure(front_end: FrontEnd, signal: RunInSignal, pooled: Tensor, magnitudes: Tensor, progress: Progress) -> None:
    """Fill in pooled envelopes and mean magnitudes, (filters, frames) each."""
    matrices = banded_matrices(front_end.smoothing[:, 0], front_end.pooling)
    reach, count = len(matrices) // 2, pooled.shape[-1]
    for start, stop in _blocks(front_end, 0, count):
        first = start - reach
        around = _subbands(front_end, signal, first, stop + reach).abs_()
        around[:, : max(-first, 0)] = 0  # the envelopes see silence where the song has no frames
        around[:, count - first :] = 0
        magnitudes[:, start:stop] = around[:, reach : reach + stop - start].mean(-1)
        pooled[:, start:stop] = functional.softplus(smooth(around, matrices).amax(-1))
        progress(stop / count)


def _synthesize(front_end: FrontEnd, signal: RunInSignal, mask: Tensor, progress: Progress) -> Tensor:
    filters = front_end.summing_filters()
    taps, frame, count = filters.shape[-1], front_end.pooling, mask.shape[-1]
    left, _ = same_padding(taps)
    first = max((signal.run_in - left) // frame, 0)  # earlier frames do not reach past the run-in
    mix = mask.new_zeros(filters.shape[1], (count - first) * frame + taps - 1)
    for start, stop in _blocks(front_end, first, count):
        masked = _subbands(front_end, signal, start, stop).mul_(mask[:, start:stop, None])
        masked = without_ends(masked, slice(start, stop), count, taps)
        reached = slice((start - first) * frame, (stop - first) * frame + taps - 1)
        mix[:, reached] += functional.conv_transpose1d(masked.flatten(1), filters)
        progress((stop - first) / (count - first))
    begin = left + signal.run_in - first * frame
    return mix[:, begin : begin + signal.stems.shape[-1]].tanh_()


def _part_blocks(
    front_end: FrontEnd, bank: "_StemBank", signal: RunInSignal, mask: Tensor, stems: Sequence[int]
) -> Iterator[tuple[int, Tensor]]:
    """What each part of a signal gives before the tanh, block by block: the first sample, and (parts, 2, samples).

    A part is two rows of the signal; ``stems`` are those whose filters the parts get.

    The samples that a block comes from, and those that the next one still needs, have been read when it is given: it
    may take their place.
    """
    taps, frame, count = front_end.filters.shape[-1], front_end.pooling, mask.shape[-1]
    left, _ = same_padding(taps)
    first = max((signal.run_in - left) // frame, 0)  # earlier frames do not reach past the run-in
    begin = left + signal.run_in - first * frame  # where the song begins in what follows
    reaching_over = mask.new_zeros(len(stems), OUTPUT_CHANNELS, taps - 1)
    blocks = list(_blocks(front_end, first, count))
    samples = _around(front_end, signal, *blocks[0]).to(mask.device)
    for number, (start, stop) in enumerate(blocks):
        block = mask.new_zeros(len(stems), OUTPUT_CHANNELS, (stop - start) * frame + taps - 1)
        for part, (stem, channels) in enumerate(zip(stems, samples.unflatten(0, (len(stems), -1)), strict=True)):
            if channels.any():  # silence stays silence
                block[part] = bank.masked(stem, channels, mask[:, start:stop], slice(start, stop), count)
        block[..., : taps - 1] += reaching_over
        whole = block.shape[-1] if stop == count else (stop - start) * frame
        reaching_over = block[..., whole:].clone()
        if stop < count:
            samples = _around(front_end, signal, *blocks[number + 1]).to(mask.device)
        position = (start - first) * frame - begin
        skipped = max(-position, 0)
        finished = block[..., skipped : min(whole, signal.stems.shape[-1] - position)]
        if finished.shape[-1]:
            yield position + skipped, finished


class _StemBank:
    """The filter bank for one stem at a time, whose two channels alone make matrices too narrow to be quick.

    So some neighbouring samples of each subband are computed side by side, by the same filters one sample apart.
    """

    def __init__(self, front_end: FrontEnd, stems: int) -> None:
        self.phases = math.gcd(front_end.pooling, _PHASES)
        self.frame = front_end.pooling
        self.taps = front_end.filters.shape[-1]
        self.analysis = [self._apart(filters) for filters in front_end.filters.unflatten(1, (stems, -1)).unbind(1)]
        self.synthesis = self._apart(front_end.summing_filters()).permute(1, 2, 0).flatten(0, 1).contiguous()

    def _apart(self, filters: Tensor) -> Tensor:
        """Filters (filters, channels, taps) with 0, 1, … zeros before them: (phases * filters, channels, …)."""
        last = self.phases - 1
        return torch.cat([functional.pad(filters, (phase, last - phase)) for phase in range(self.phases)])

    def masked(self, stem: int, channels: Tensor, mask: Tensor, block: slice, frames: int) -> Tensor:
        """A block of a signal of ``frames`` frames through analysis, mask and synthesis: (2, samples + taps - 1).

        Args:
            stem: whose filters.
            channels: (2, samples + taps - 1), what the subbands depend on.
            mask: (filters, frames of the block).
            block: its frames.
            frames: of the signal.
        """
        subbands = functional.conv1d(channels, self.analysis[stem], stride=self.phases)
        subbands.unflatten(-1, (mask.shape[1], -1)).mul_(mask.repeat(self.phases, 1)[..., None])
        self._silence_ends(subbands, block, frames)
        columns = (self.synthesis @ subbands)[None]
        kernel = (1, self.taps + self.phases - 1)
        return functional.fold(columns, (1, channels.shape[-1]), kernel, stride=(1, self.phases))[0, :, 0]

    def _silence_ends(self, subbands: Tensor, block: slice, frames: int) -> None:
        """As :func:`fxnorm.models.filter_bank.without_ends`, for neighbouring samples side by side."""
        left, right = same_padding(self.taps)
        before, end = max(left - block.start * self.frame, 0), (frames - block.start) * self.frame - right
        for phase, rows in enumerate(subbands.unflatten(0, (self.phases, -1))):
            rows[:, : -(-max(before - phase, 0) // self.phases)] = 0
            rows[:, -(-max(end - phase, 0) // self.phases) :] = 0


def _subbands(front_end: FrontEnd, signal: RunInSignal, start: int, stop: int) -> Tensor:
    """Frames ``start`` to ``stop`` of the subbands, (filters, frames, frame)."""
    samples = _around(front_end, signal, start, stop)
    return functional.conv1d(samples, front_end.filters).unflatten(-1, (-1, front_end.pooling))


def _around(front_end: FrontEnd, signal: RunInSignal, start: int, stop: int) -> Tensor:
    """The samples (8, …) that the subbands of frames ``start`` to ``stop`` depend on."""
    left, right = same_padding(front_end.filters.shape[-1])
    return signal.samples(start * front_end.pooling - left, stop * front_end.pooling + right)


def _blocks(front_end: FrontEnd, first: int, last: int) -> Iterator[tuple[int, int]]:
    step = block_frames(len(front_end.filters), front_end.pooling, front_end.filters.device)
    for start in range(first, last, step):
        yield start, min(start + step, last)

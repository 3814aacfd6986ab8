"""A bank of learned filters, used for analysis and, mirrored, for synthesis.

The sums are those of ``conv1d`` and ``conv_transpose1d``; the gradients are worked out here in blocks that fit a
processor's cache, as matrix products. Subbands are given as frames (batch, filters, frames, frame), so that a mask can
hold one value per frame.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

_CACHED_SAMPLES = 1 << 20
"""Samples of all subbands together that are worked on at a time on a CPU."""
_GPU_SAMPLES = 1 << 26
"""Likewise on a GPU, where memory is the limit."""
_CACHED_NEIGHBOURHOODS = 1 << 12
"""Samples whose neighbourhoods are laid out side by side for one matrix product on a CPU."""
_GPU_NEIGHBOURHOODS = 1 << 18


def analyse(signals: Tensor, filters: Tensor, frame: int) -> Tensor:
    """Subbands (batch, filters, frames, frame) of signals (batch, channels, samples), a multiple of ``frame`` long.

    ``filters`` (filters, channels, taps) are correlated with the signals, which are silent before and after. Under
    automatic mixed precision the subbands have its lower precision.
    """
    device = signals.device.type
    if torch.is_autocast_enabled(device):
        lower = torch.get_autocast_dtype(device)
        signals, filters = signals.to(lower), filters.to(lower)
    return _Analysis.apply(signals, filters, frame)


def synthesize(subbands: Tensor, mask: Tensor, filters: Tensor) -> Tensor:
    """Signals (batch, channels, samples): subbands times ``mask`` (batch, filters, frames) through mirrored filters.

    Samples of the subbands for which the analysis filters saw past an end of the signal are left out, as the published
    network does; so the signals fade in and out within the filters' length. The signals have the filters' precision:
    rounded to that of lower-precision subbands, a mix would be noise wherever it is quiet.
    """
    with torch.autocast(subbands.device.type, enabled=False):
        return _Synthesis.apply(subbands, mask.to(filters.dtype), filters)


def without_ends(masked: Tensor, block: slice, frames: int, taps: int) -> Tensor:
    """Silence in place what synthesis leaves out of a block (..., frames, frame) of a signal of ``frames`` frames."""
    left, right = same_padding(taps)
    frame = masked.shape[-1]
    samples = masked.flatten(-2)  # a view: blocks are contiguous
    samples[..., : max(left - block.start * frame, 0)] = 0
    samples[..., max((frames - block.start) * frame - right, 0) :] = 0
    return samples.unflatten(-1, (-1, frame))


def same_padding(taps: int) -> tuple[int, int]:
    """Zeros before and after a signal that keep its length."""
    return (taps - 1) // 2, taps // 2


def block_frames(subbands: int, frame: int, device: torch.device) -> int:
    """Frames of one item's subbands that are best worked on at a time."""
    samples = _CACHED_SAMPLES if device.type == "cpu" else _GPU_SAMPLES
    return max(samples // (subbands * frame), 1)


def cached_blocks(subbands: Tensor) -> Iterator[tuple[slice, slice]]:
    """Batch items and frames of blocks of subbands that fit a CPU's cache; a GPU takes everything at once."""
    batch, filters, frames, frame = subbands.shape
    if subbands.device.type != "cpu":
        yield slice(0, batch), slice(0, frames)
        return
    step = block_frames(filters, frame, subbands.device)
    for item in range(batch):
        for start in range(0, frames, step):
            yield slice(item, item + 1), slice(start, min(start + step, frames))


class _Analysis(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, signals: Tensor, filters: Tensor, frame: int) -> Tensor:
        taps = filters.shape[-1]
        padded = functional.pad(signals, same_padding(taps))
        ctx.save_for_backward(padded, filters)
        subbands = signals.new_empty(len(signals), len(filters), signals.shape[-1] // frame, frame)
        for items, block in cached_blocks(subbands):
            reached = padded[items, :, block.start * frame : block.stop * frame + taps - 1]
            subbands[items, :, block] = functional.conv1d(reached, filters).unflatten(-1, (-1, frame))
        return subbands

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:
        padded, filters = ctx.saved_tensors
        gradient = gradient.flatten(2)
        signals_gradient = None
        if ctx.needs_input_grad[0]:
            left, right = same_padding(filters.shape[-1])
            full = functional.conv_transpose1d(gradient, filters)
            signals_gradient = full[..., left : full.shape[-1] - right]
        return signals_gradient, _correlate(gradient, padded, filters), None


class _Synthesis(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, subbands: Tensor, mask: Tensor, filters: Tensor) -> Tensor:
        ctx.save_for_backward(subbands, mask, filters)
        batch, _, frames, frame = subbands.shape
        channels, taps = filters.shape[1:]
        signals = filters.new_zeros(batch, channels, frames * frame + taps - 1)
        for items, block in cached_blocks(subbands):
            masked = without_ends(subbands[items, :, block] * mask[items, :, block, None], block, frames, taps)
            reached = slice(block.start * frame, block.stop * frame + taps - 1)
            signals[items, :, reached] += functional.conv_transpose1d(masked.flatten(2), filters)
        left, right = same_padding(taps)
        return signals[..., left : signals.shape[-1] - right]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        subbands, mask, filters = ctx.saved_tensors
        (frames, frame), taps = subbands.shape[-2:], filters.shape[-1]
        padded = functional.pad(gradient, same_padding(taps))
        subbands_gradient, mask_gradient = torch.empty_like(subbands), torch.empty_like(mask)
        filters_gradient = torch.zeros_like(filters)
        for items, block in cached_blocks(subbands):
            reached = padded[items, :, block.start * frame : block.stop * frame + taps - 1]
            unmasked, gains = subbands[items, :, block], mask[items, :, block, None]
            masked_gradient = functional.conv1d(reached, filters).unflatten(-1, (-1, frame))
            masked_gradient = without_ends(masked_gradient, block, frames, taps)
            subbands_gradient[items, :, block] = masked_gradient * gains
            mask_gradient[items, :, block] = (masked_gradient * unmasked).sum(-1)
            masked = without_ends(unmasked * gains, block, frames, taps)
            filters_gradient += _correlate(masked.flatten(2), reached, filters)
        return subbands_gradient, mask_gradient, filters_gradient


def _correlate(subbands: Tensor, padded: Tensor, filters: Tensor) -> Tensor:
    """The gradient of ``conv1d(padded, filters)`` in its filters, where ``subbands`` is that in its result."""
    total = torch.zeros_like(filters, dtype=torch.promote_types(filters.dtype, torch.float32))
    taps = filters.shape[-1]
    step = _CACHED_NEIGHBOURHOODS if filters.device.type == "cpu" else _GPU_NEIGHBOURHOODS
    for item, signal in zip(subbands, padded, strict=True):
        for start in range(0, item.shape[-1], step):
            block = item[:, start : start + step]
            neighbours = signal[:, start : start + block.shape[-1] + taps - 1].unfold(-1, taps, 1)
            total += torch.einsum("fn,cnk->fck", block, neighbours)
    return total.to(filters.dtype)

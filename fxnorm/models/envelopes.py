"""Pooled envelopes of subbands: smooth the magnitudes with a filter per band, keep the maximum of each frame.

The smoothing filters are long (128 samples), and there is one per subband, which is what convolution libraries do
worst. Here a frame of output is the frames of input around it times banded matrices: plain matrix products, forwards
and backwards, in blocks that fit a processor's cache.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from fxnorm.models.filter_bank import cached_blocks


def pooled_envelopes(subbands: Tensor, smoothing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The maximum of each frame's smoothed magnitudes, its position in the frame, and the mean of its magnitudes.

    Args:
        subbands: (batch, filters, frames, frame), silent before and after.
        smoothing: (filters, 1, taps), correlated with the magnitudes; the length is kept.

    Returns:
        three tensors (batch, filters, frames).
    """
    return _PooledEnvelopes.apply(subbands, banded_matrices(smoothing[:, 0], subbands.shape[-1]))


def banded_matrices(smoothing: Tensor, frame: int) -> Tensor:
    """(2 reach + 1, filters, frame, frame): what samples of the frame ``shift - reach`` away add to those of a frame.

    ``reach`` is the number of frames to each side that a smoothing filter (filters, taps) reaches into.
    """
    taps = smoothing.shape[-1]
    reach = -(-(taps // 2) // frame)
    position = torch.arange(frame, device=smoothing.device)
    shift = torch.arange(-reach, reach + 1, device=smoothing.device)[:, None, None]
    tap = shift * frame + position[:, None] - position + (taps - 1) // 2
    inside = (tap >= 0) & (tap < taps)
    return (smoothing[:, tap.clamp(0, taps - 1)] * inside).transpose(0, 1)


def smooth(frames: Tensor, matrices: Tensor) -> Tensor:
    """Frames (..., filters, frames + 2 reach, frame) smoothed, without the outer ``reach`` frames at each end."""
    count = frames.shape[-2] - len(matrices) + 1
    smoothed = frames[..., :count, :] @ matrices[0]
    for shift, matrix in enumerate(matrices[1:], start=1):
        smoothed += frames[..., shift : shift + count, :] @ matrix
    return smoothed


class _PooledEnvelopes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, subbands: Tensor, matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        reach = len(matrices) // 2
        precision = torch.promote_types(subbands.dtype, torch.float32)
        maxima = torch.empty(subbands.shape[:3], dtype=precision, device=subbands.device)
        positions, means = torch.empty_like(maxima, dtype=torch.int64), torch.empty_like(maxima)
        for items, block in cached_blocks(subbands):
            index = (items, slice(None), block)
            smoothed = smooth(_with_neighbours(subbands[items], block, reach).abs(), matrices.to(subbands.dtype))
            maxima[index], positions[index] = smoothed.max(-1)
            means[index] = subbands[index].abs().mean(-1, dtype=precision)
        ctx.save_for_backward(subbands, matrices, positions)
        ctx.mark_non_differentiable(positions)
        return maxima, positions, means

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, maxima_gradient: Tensor, positions_gradient: Tensor, means_gradient: Tensor
    ) -> tuple[Tensor, Tensor]:
        subbands, matrices, positions = ctx.saved_tensors
        reach, frame = len(matrices) // 2, subbands.shape[-1]
        mirrored = matrices.flip(0).transpose(-1, -2).to(subbands.dtype)
        subbands_gradient = torch.empty_like(subbands)
        matrices_gradient = torch.zeros_like(matrices)
        for items, block in cached_blocks(subbands):
            count = block.stop - block.start
            at_maxima = _with_neighbours(maxima_gradient[items, ..., None].to(subbands.dtype), block, reach)
            block_positions = _with_neighbours(positions[items, ..., None], block, reach)
            smoothed_gradient = at_maxima.new_zeros(*block_positions.shape[:-1], frame).scatter_(
                -1, block_positions, at_maxima
            )

            magnitude_gradient = smooth(smoothed_gradient, mirrored)
            magnitude_gradient += means_gradient[items, :, block, None] / frame
            torch.mul(subbands[items, :, block].sign(), magnitude_gradient, out=subbands_gradient[items, :, block])

            magnitude = _with_neighbours(subbands[items], block, reach).abs()
            centre_gradient = smoothed_gradient[..., reach : reach + count, :]
            for shift in range(len(matrices)):
                shifted = magnitude[..., shift : shift + count, :]
                matrices_gradient[shift] += (shifted.transpose(-1, -2) @ centre_gradient).sum(0)
        return subbands_gradient, matrices_gradient


def _with_neighbours(frames: Tensor, block: slice, reach: int) -> Tensor:
    """A block of (..., frames, values) and ``reach`` frames to each side of it, zeros where there are none."""
    count = frames.shape[-2]
    before, after = max(reach - block.start, 0), max(block.stop + reach - count, 0)
    inner = frames[..., max(block.start - reach, 0) : min(block.stop + reach, count), :]
    return functional.pad(inner, (0, 0, before, after))

"""The latent-space mixer of CRAFx2 on a whole song at once, in little memory.

What lies between the temporal blocks is kept whole and updated in place. What is inside a block is worked out piece by
piece, and anew for each of its two norms, which span the song, and for its result.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn import functional

from fxnorm.models.latent_mixer import LatentMixer, TemporalBlock
from fxnorm.models.network import Progress

_FRAMES_AT_A_TIME = 1 << 11
_FRAMES_TO_KEEP_EXPANDED = 1 << 18
"""The first layer inside a block is computed once and kept, for songs of up to this many frames (6 minutes)."""


def latent_rows(latent_mixer: LatentMixer) -> int:
    """Rows of the tensor that :func:`mask_in_place` works in."""
    filters, features = latent_mixer.bottleneck.in_channels, latent_mixer.bottleneck.out_channels
    return max(2 * filters, features)


def mask_in_place(latent_mixer: LatentMixer, latents: Tensor, progress: Progress) -> Tensor:
    """The mask (filters, frames) of pooled frames, which are the first rows of ``latents`` (rows, frames).

    ``latents`` is overwritten: its memory serves one stage after the other, and last the mask.
    """
    filters, layers = latent_mixer.bottleneck.in_channels, latent_mixer.recurrent.num_layers
    blocks_fraction = len(latent_mixer.blocks) / (len(latent_mixer.blocks) + layers)
    skips = _run_blocks(latent_mixer, _bottleneck(latent_mixer, latents), lambda done: progress(blocks_fraction * done))
    features, states = latents[:filters], latents[filters : 2 * filters]
    for part in _parts(skips):
        features[:, part] = functional.softplus(latent_mixer.output(latent_mixer.output_activation(skips[:, part])))
    # Steps are so short that threads would spend them waiting for each other, and on a busy machine far longer.
    with threadpool_limits(1, user_api="openmp"):
        for layer in range(layers):
            _recur(latent_mixer.recurrent, layer, features, states)
            features, states = states, features
            progress(blocks_fraction + (1 - blocks_fraction) * (layer + 1) / layers)
    for part in _parts(features):
        features[:, part] = functional.softplus(features[:, part])
    return features


def _bottleneck(latent_mixer: LatentMixer, latents: Tensor) -> Tensor:
    pooled = latents[: latent_mixer.bottleneck.in_channels]
    residual = latents[: latent_mixer.bottleneck.out_channels]
    norm = _over_the_song(latent_mixer.norm, (pooled[:, part] for part in _parts(pooled)))
    for part in _parts(pooled):
        residual[:, part] = latent_mixer.bottleneck(norm(pooled[:, part]))
    return residual


def _run_blocks(latent_mixer: LatentMixer, residual: Tensor, progress: Progress) -> Tensor:
    """The sum of the temporal blocks' skips (skip, frames); ``residual`` (bottleneck, frames) is overwritten."""
    blocks, frames = list(latent_mixer.blocks), residual.shape[-1]
    skips = residual.new_zeros(latent_mixer.output.in_channels, frames)
    expanded_frames = residual.new_empty(latent_mixer.hidden, frames) if frames <= _FRAMES_TO_KEEP_EXPANDED else None
    for done, block in enumerate(blocks, start=1):
        assert isinstance(block, TemporalBlock)
        _add_block(block, residual, skips, expanded_frames)
        progress(done / len(blocks))
    return skips


def _add_block(block: TemporalBlock, residual: Tensor, skips: Tensor, expanded_frames: Tensor | None) -> None:
    """Add what a temporal block gives to ``residual`` (bottleneck, frames) and ``skips`` (skip, frames).

    ``expanded_frames`` (hidden, frames) is filled with the first layer's output; where it is None, that is computed
    anew each time it is needed.
    """
    depthwise = block.depthwise
    reach = depthwise.dilation[0] * (depthwise.kernel_size[0] - 1) // 2

    def expand(part: Tensor) -> Tensor:
        return block.expand_activation(block.expand(part))

    source, expanded = residual, expand
    if expanded_frames is not None:
        for part in _parts(residual):
            expanded_frames[:, part] = expand(residual[:, part])
        source, expanded = expanded_frames, nn.Identity()

    def filtered(around: Tensor, missing: tuple[int, int]) -> Tensor:
        hidden = functional.pad(expand_norm(expanded(around)), missing)
        hidden = functional.conv1d(
            hidden, depthwise.weight, depthwise.bias, dilation=depthwise.dilation, groups=depthwise.groups
        )
        return block.depthwise_activation(hidden)

    expand_norm = _over_the_song(block.expand_norm, (expanded(source[:, part]) for part in _parts(source)))
    depthwise_norm = _over_the_song(
        block.depthwise_norm, (filtered(around, missing) for _, around, missing in _surroundings(source, reach))
    )
    for part, around, missing in _surroundings(source, reach):
        hidden = depthwise_norm(filtered(around, missing))
        residual[:, part] += block.residual(hidden)
        skips[:, part] += block.skip(hidden)


def _recur(recurrent: nn.LSTM, layer: int, features: Tensor, states: Tensor) -> None:
    """Fill ``states`` with what one bidirectional layer makes of ``features``, both (filters, frames)."""
    units = recurrent.hidden_size
    for suffix, rows in (("", slice(0, units)), ("_reverse", slice(units, 2 * units))):
        direction = nn.LSTM(recurrent.input_size, units, device=features.device)
        for name, weight in direction.named_parameters():
            weight.copy_(getattr(recurrent, f"{name.removesuffix('_l0')}_l{layer}{suffix}"))
        memory = None
        parts = list(_parts(features))
        for part in reversed(parts) if suffix else parts:
            inputs = features[:, part].T
            outputs, memory = direction(inputs.flip(0) if suffix else inputs, memory)
            states[rows, part] = (outputs.flip(0) if suffix else outputs).T


def _over_the_song(norm: nn.GroupNorm, parts: Iterable[Tensor]) -> Callable[[Tensor], Tensor]:
    """A group norm of one group, with the mean and variance of all parts (features, frames) together."""
    count, mean, squares = 0, 0.0, 0.0
    for part in parts:
        # Chan, Golub and LeVeque's update: sums of squares about the mean add up without cancellation
        part_mean = float(part.mean())
        deviations = (part - part_mean).flatten()
        difference, total = part_mean - mean, count + part.numel()
        squares += float(deviations.dot(deviations)) + difference**2 * count * part.numel() / total
        mean += difference * part.numel() / total
        count = total
    deviation = (squares / count + norm.eps) ** 0.5
    weight, bias = norm.weight[:, None] / deviation, norm.bias[:, None]
    return lambda part: (part - mean) * weight + bias


def _parts(latents: Tensor) -> Iterator[slice]:
    for start in range(0, latents.shape[-1], _FRAMES_AT_A_TIME):
        yield slice(start, min(start + _FRAMES_AT_A_TIME, latents.shape[-1]))


def _surroundings(latents: Tensor, reach: int) -> Iterator[tuple[slice, Tensor, tuple[int, int]]]:
    """Parts of ``latents``, each with ``reach`` frames to its sides, and how many of those the song's ends lack.

    The caller may overwrite a part that it was given: those frames are kept for the next one.
    """
    before = latents[:, :0]
    for start in range(0, latents.shape[-1], max(_FRAMES_AT_A_TIME, reach)):
        part = slice(start, min(start + max(_FRAMES_AT_A_TIME, reach), latents.shape[-1]))
        around = torch.cat([before, latents[:, start : part.stop + reach]], dim=1)
        missing = reach - before.shape[1], part.stop + reach - min(part.stop + reach, latents.shape[-1])
        before = latents[:, max(part.stop - reach, 0) : part.stop].clone()
        yield part, around, missing

"""The latent-space mixer of CRAFx2: what turns pooled frames of all stems into a mask.

A temporal convolutional network as in Conv-TasNet (Luo and Mesgarani, IEEE/ACM TASLP 2019), then bidirectional
recurrent layers. Latent frames are (batch, features, frames).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from fxnorm.models.sizes import Crafx2Sizes

_NORM_EPSILON = 1e-8
_RECURRENT_LAYERS = 3
_RECURRENT_DROPOUT = 0.1
_INITIAL_CELL_SCALE = 0.1
"""Of the last layer's weights that fill its cells, where the mask is to start out constant."""
_LONGEST_MEMORY_FRAMES = 32
"""T of the chrono initialization (Tallec and Ollivier, ICLR 2018): forget biases are log U(1, T - 1)."""


class TemporalBlock(nn.Module):
    """A residual block of dilated depthwise convolution; gives the sum with its input, and the skip."""

    def __init__(self, sizes: Crafx2Sizes, dilation: int) -> None:
        super().__init__()
        hidden = sizes.hidden
        self.expand = nn.Conv1d(sizes.bottleneck, hidden, 1)
        self.expand_activation = nn.PReLU()
        self.expand_norm = nn.GroupNorm(1, hidden, eps=_NORM_EPSILON)
        self.depthwise = nn.Conv1d(
            hidden, hidden, sizes.kernel, dilation=dilation, padding=dilation * (sizes.kernel - 1) // 2, groups=hidden
        )
        self.depthwise_activation = nn.PReLU()
        self.depthwise_norm = nn.GroupNorm(1, hidden, eps=_NORM_EPSILON)
        self.skip = nn.Conv1d(hidden, sizes.skip, 1)
        self.residual = nn.Conv1d(hidden, sizes.bottleneck, 1)

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.expand_norm(self.expand_activation(self.expand(latent)))
        hidden = self.depthwise_norm(self.depthwise_activation(self.depthwise(hidden)))
        return latent + self.residual(hidden), self.skip(hidden)


class LatentMixer(nn.Module):
    """Pooled frames (batch, filters, frames) to a positive mask of the same shape."""

    def __init__(self, sizes: Crafx2Sizes) -> None:
        super().__init__()
        self.hidden = sizes.hidden
        self.norm = nn.GroupNorm(1, sizes.filters, eps=_NORM_EPSILON)
        self.bottleneck = nn.Conv1d(sizes.filters, sizes.bottleneck, 1)
        self.blocks = nn.ModuleList(
            TemporalBlock(sizes, 2**block) for _ in range(sizes.repeats) for block in range(sizes.blocks)
        )
        # Only the skips are used after the last block: its residual output has no effect on the mask, and its weights
        # no gradient. They are kept because the published checkpoints contain them.
        self.blocks[-1].residual.requires_grad_(False)
        self.output_activation = nn.PReLU()
        self.output = nn.Conv1d(sizes.skip, sizes.filters, 1)
        self.recurrent = nn.LSTM(
            sizes.filters,
            sizes.filters // 2,
            num_layers=_RECURRENT_LAYERS,
            dropout=_RECURRENT_DROPOUT,
            bidirectional=True,
            batch_first=True,
        )
        _initialize_memory(self.recurrent)

    def forward(self, pooled: Tensor) -> Tensor:
        latent = self.bottleneck(self.norm(pooled))
        skips = torch.zeros((), dtype=latent.dtype, device=latent.device)
        for block in self.blocks:
            latent, skip = block(latent)
            skips = skips + skip
        features = functional.softplus(self.output(self.output_activation(skips)))
        states, _ = self.recurrent(features.transpose(1, 2))
        return functional.softplus(states).transpose(1, 2)

    @torch.no_grad()
    def start_near_zero(self) -> None:
        """Make the last recurrent layer's cells fill slowly, so that an untrained mask is close to softplus(0)."""
        last = f"l{_RECURRENT_LAYERS - 1}"
        for name, weight in self.recurrent.named_parameters():
            if name.startswith("weight") and name.removesuffix("_reverse").endswith(last):
                cell = slice(weight.shape[0] // 2, 3 * weight.shape[0] // 4)
                weight[cell] *= _INITIAL_CELL_SCALE


@torch.no_grad()
def _initialize_memory(recurrent: nn.LSTM) -> None:
    """Chrono initialization of every bias; PyTorch orders the LSTM gates input, forget, cell, output."""
    for name, bias in recurrent.named_parameters():
        if name.startswith("bias"):
            units = bias.shape[0] // 4
            bias.zero_()
            memory = torch.log(torch.empty(units).uniform_(1, _LONGEST_MEMORY_FRAMES - 1))
            bias[:units] = -memory
            bias[units : 2 * units] = memory

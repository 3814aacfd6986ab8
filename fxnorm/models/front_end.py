"""The adaptive front-end and back-end of CRAFx2: one learned filter bank, used for analysis and synthesis.

Stems are (batch, 8, samples) with a length that is a multiple of the pooling. Subbands are what the filter bank gives
of them, cut into frames of ``pooling`` samples: (batch, filters, frames, pooling).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from fxnorm.models import filter_bank
from fxnorm.models.envelopes import pooled_envelopes
from fxnorm.models.lapped_transform import power_complementary
from fxnorm.models.sizes import INPUT_CHANNELS, OUTPUT_CHANNELS, Crafx2Sizes, refuse


class FrontEnd(nn.Module):
    """Filter bank, envelopes of its subbands, and the synthesis with the same filters.

    ``forward`` is the task of the pre-training: the stems are rebuilt from the subbands at their envelopes' maxima
    alone, and nothing but the filters takes part.
    """

    def __init__(self, sizes: Crafx2Sizes) -> None:
        super().__init__()
        self.pooling = sizes.pooling
        self.filters = nn.Parameter(torch.empty(sizes.filters, INPUT_CHANNELS, sizes.encoder_kernel))
        self.smoothing = nn.Parameter(torch.empty(sizes.filters, 1, 2 * sizes.encoder_kernel))
        nn.init.kaiming_uniform_(self.filters, a=5**0.5)  # as nn.Conv1d starts
        nn.init.kaiming_uniform_(self.smoothing, a=5**0.5)

    @torch.no_grad()
    def start_as_filter_bank(self, gain: float) -> None:
        """Filters that each see one channel, and that give the input back when every mask is ``gain``.

        The smoothing filters start as Hann windows.

        Raises:
            SettingsError: the filters cannot be shared out evenly among the channels.
        """
        filters, channels, taps = self.filters.shape
        if filters % channels:
            raise refuse(Crafx2Sizes.network, "filters", f"a multiple of {channels} (or front_end: random)", filters)
        bands = filters // channels
        self.filters.zero_()
        for channel in range(channels):
            self.filters[channel * bands : (channel + 1) * bands, channel] = power_complementary(bands, taps)
        self.filters.div_(gain**0.5)
        self.smoothing.copy_(torch.hann_window(self.smoothing.shape[-1]).expand_as(self.smoothing))

    def analyse(self, stems: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Subbands, their pooled envelopes and the mean magnitude of each frame, both (batch, filters, frames)."""
        subbands = filter_bank.analyse(stems, self.filters, self.pooling)
        maxima, _, means = pooled_envelopes(subbands, self.smoothing)
        return subbands, functional.softplus(maxima), means  # softplus is monotonic: after the maximum it is cheaper

    def synthesize(self, subbands: Tensor, mask: Tensor) -> Tensor:
        """The sum over stems (batch, 2, samples) of the subbands times a mask (batch, filters, frames)."""
        return filter_bank.synthesize(subbands, mask, self.summing_filters())

    def summing_filters(self) -> Tensor:
        """Synthesis filters (filters, 2, taps) that add the stems up: a linear filter bank may do so beforehand."""
        return self.filters.unflatten(1, (-1, OUTPUT_CHANNELS)).sum(1)

    def forward(self, stems: Tensor) -> Tensor:
        """Stems (batch, 8, samples) of any length, rebuilt."""
        samples = stems.shape[-1]
        padded = functional.pad(stems, (0, -samples % self.pooling))
        subbands = filter_bank.analyse(padded, self.filters, self.pooling)
        maxima, positions, _ = pooled_envelopes(subbands, self.smoothing)
        positions = positions[..., None]
        peaks = subbands.gather(-1, positions) * functional.softplus(maxima)[..., None]
        sparse = torch.zeros_like(subbands, dtype=peaks.dtype).scatter(-1, positions, peaks)
        return filter_bank.synthesize(sparse, torch.ones_like(maxima), self.filters)[..., :samples]

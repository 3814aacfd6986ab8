"""CRAFx2, the mixing network of "Automatic music mixing with deep learning and out-of-domain data" (ISMIR 2022).

A learned filter bank splits the eight channels into subbands; a temporal convolutional and recurrent network in the
pooled domain gives each subband a mask over time; the masked subbands go back through the same filters and add up to
the stereo mix.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from fxnorm.models import whole_song
from fxnorm.models.front_end import FrontEnd
from fxnorm.models.latent_mixer import LatentMixer
from fxnorm.models.network import MixingNetwork, Progress, RunInSignal, StemTracks
from fxnorm.models.sizes import Crafx2Sizes, refuse


class SqueezeExcitation(nn.Module):
    """One gain per filter from its mean magnitude over the whole signal (Hu et al., CVPR 2018)."""

    def __init__(self, filters: int, ratio: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(filters, ratio * filters)
        self.excite = nn.Linear(ratio * filters, filters)

    def forward(self, magnitude: Tensor) -> Tensor:
        return torch.sigmoid(self.excite(functional.relu(self.squeeze(magnitude))))


class CRAFx2(MixingNetwork):
    """Stems (batch, 8, samples) to a stereo mix (batch, 2, samples), any length.

    A length that is no multiple of the pooling is padded with zeros at its end and cut back; the published network
    only takes multiples.
    """

    sizes: Crafx2Sizes

    def __init__(self, sizes: Crafx2Sizes) -> None:
        super().__init__()
        if sizes.filters % 2:
            raise refuse(sizes.network, "filters", "an even number", sizes.filters)
        if sizes.kernel % 2 == 0:
            raise refuse(sizes.network, "kernel", "an odd number", sizes.kernel)
        self.sizes = sizes
        self.front_end = FrontEnd(sizes)
        self.latent_mixer = LatentMixer(sizes)
        self.excitation = SqueezeExcitation(sizes.filters, sizes.squeeze_ratio)
        if sizes.front_end == "perfect_reconstruction":
            self._start_as_sum()

    @property
    def edge_guard(self) -> int:
        sizes = self.sizes
        frames = 1 + sizes.repeats * (sizes.kernel - 1) * (2**sizes.blocks - 1)
        return frames * sizes.pooling + 2 * (sizes.encoder_kernel - 1)

    def forward(self, stems: Tensor) -> Tensor:
        samples = stems.shape[-1]
        subbands, pooled, magnitude = self.front_end.analyse(functional.pad(stems, (0, -samples % self.sizes.pooling)))
        mask = self.latent_mixer(pooled)
        # The mask is positive and constant within a frame, so frames' mean magnitudes are all the excitation needs.
        gains = self.excitation((mask * magnitude).mean(-1))
        return torch.tanh(self.front_end.synthesize(subbands, mask * gains[..., None]))[..., :samples]

    @torch.no_grad()
    def mix(self, stems: Tensor, run_in: int = 0, progress: Progress | None = None) -> Tensor:
        signal = RunInSignal.after_run_in(stems, run_in)
        return whole_song.mix(
            self.front_end, self.latent_mixer, self.excitation, signal, progress or (lambda done: None)
        )

    @torch.no_grad()
    def mix_parts(
        self,
        stems: Tensor,
        parts: Tensor,
        run_in: int = 0,
        progress: Progress | None = None,
        tracks: StemTracks | None = None,
    ) -> Tensor:
        signal = RunInSignal.after_run_in(stems, run_in)
        return whole_song.mix_parts(
            self.front_end, self.latent_mixer, self.excitation, signal, parts, progress or (lambda done: None), tracks
        )

    @torch.no_grad()
    def _start_as_sum(self) -> None:
        """Initial weights with which the network gives (nearly) the sum of the stems, and from which it learns freely.

        The excitation starts at exactly sigmoid(0), the recurrent layers' output close to 0 and the mask close to
        softplus(0); the filter bank's scale makes up for both. Neither sigmoid nor softplus is saturated there.
        """
        self.latent_mixer.start_near_zero()
        nn.init.zeros_(self.excitation.excite.weight)
        nn.init.zeros_(self.excitation.excite.bias)
        start = torch.zeros(())
        self.front_end.start_as_filter_bank(gain=float(functional.softplus(start) * torch.sigmoid(start)))

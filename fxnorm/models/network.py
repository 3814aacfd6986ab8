"""What the mixing networks have in common, and the signal of a whole song behind its run-in."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fxnorm.errors import ModelError
from fxnorm.models.sizes import NetworkSizes

Progress = Callable[[float], None]
"""Takes the fraction of the work that is done."""


class MixingNetwork(nn.Module, ABC):
    """Stems (batch, 8, samples) to a stereo mix (batch, 2, samples), of any length."""

    sizes: NetworkSizes

    @property
    def config(self) -> dict[str, Any]:
        """The arguments with which :func:`fxnorm.models.build` builds a network of this shape."""
        return {"name": self.sizes.network, **self.sizes.model_dump()}

    @property
    @abstractmethod
    def edge_guard(self) -> int:
        """Samples at each end of a sequence that see past it; losses leave them out."""

    @abstractmethod
    def mix(self, stems: Tensor, run_in: int = 0, progress: Progress | None = None) -> Tensor:
        """The mix (2, samples) of a whole song, as in evaluation and without gradients.

        Args:
            stems: (8, samples), at least one sample.
            run_in: samples of the song's end (at most all of it) that are put before its start and cut off the mix.
            progress: called with the fraction that is done, last with 1.
        """

    def mix_parts(
        self,
        stems: Tensor,
        parts: Tensor,
        run_in: int = 0,
        progress: Progress | None = None,
        tracks: "StemTracks | None" = None,
    ) -> Tensor:
        """As :meth:`mix`, and what each stem contributes: the parts add up to the mix.

        Args:
            stems: as in :meth:`mix`.
            parts: (stems, 2, samples), which is overwritten, on any device. It may be a view of ``stems``, whose memory
                it then takes.
            run_in: as in :meth:`mix`.
            progress: as in :meth:`mix`.
            tracks: signals that add up to the stems; they are overwritten with what each contributes.

        Raises:
            ModelError: the mix of this network is no sum over stems.
        """
        raise self.without_parts()

    @property
    def has_parts(self) -> bool:
        """Whether :meth:`mix_parts` works."""
        return type(self).mix_parts is not MixingNetwork.mix_parts

    def without_parts(self) -> ModelError:
        """What :meth:`mix_parts` raises where it does not work."""
        return ModelError(
            f"{self.sizes.network}: its mix is no sum of parts, one for each stem; expected a network that is: crafx2"
            " or console"
        )


@dataclass(frozen=True)
class StemTracks:
    """Signals, some of which add up to each stem.

    Attributes:
        audio: (tracks, 2, samples), on any device; of rows that follow each other in memory, as those of a file do.
        stems: of each, the position of its stem: 0 for the first of four.
    """

    audio: Tensor
    stems: Sequence[int]


@dataclass(frozen=True)
class RunInSignal:
    """Stems (8, samples) behind a run-in, without a copy: position 0 is where the run-in begins."""

    stems: Tensor
    run_in: int

    @classmethod
    def after_run_in(cls, stems: Tensor, run_in: int) -> "RunInSignal":
        """The stems of a song with a run-in that is not longer than the song."""
        return cls(stems, min(run_in, stems.shape[-1]))

    @property
    def length(self) -> int:
        """Samples, run-in included."""
        return self.run_in + self.stems.shape[-1]

    def samples(self, start: int, stop: int) -> Tensor:
        """Samples (8, stop - start), zeros before position 0 and behind the end."""
        length = self.stems.shape[-1]
        first, last = max(start, 0) - self.run_in, min(stop, self.length) - self.run_in
        silence = self.stems.new_zeros(len(self.stems), 1)
        return torch.cat(
            [
                silence.expand(-1, max(-start, 0)),
                self.stems[:, length + min(first, 0) : length + min(last, 0)],
                self.stems[:, max(first, 0) : max(last, 0)],
                silence.expand(-1, max(stop - self.length, 0)),
            ],
            dim=1,
        )

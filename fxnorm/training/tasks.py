"""What a run learns: to mix, or (before that) to rebuild stems with CRAFx2's front-end alone."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fxnorm import models
from fxnorm.errors import SettingsError
from fxnorm.losses import FFT_SIZE, HOP, AbsoluteLoss, Loss, MatchedLoss, StereoLoss
from fxnorm.models import CRAFx2, MixingNetwork
from fxnorm.settings import TrainSettings


@dataclass(frozen=True)
class Task:
    """The module that is trained, its target and its loss.

    Args:
        module: takes stems (batch, 8, samples).
        loss: of the module's output and its target, a scalar.
        rebuilds_stems: the target is the input itself, and not the mixture.
        edge_guard: samples at either end of a sequence that the loss leaves out.
    """

    module: nn.Module
    loss: Loss
    rebuilds_stems: bool = False
    edge_guard: int = 0

    def target(self, stems: Tensor, mixture: Tensor) -> Tensor:
        """What the module's output is compared with."""
        return stems if self.rebuilds_stems else mixture


def new_network(settings: TrainSettings) -> MixingNetwork:
    """The network that the settings describe, with the random weights of their seed.

    Raises:
        SettingsError: sizes that the network cannot have.
    """
    torch.manual_seed(settings.seed)
    try:
        return models.build(settings.network, **settings.sizes)
    except (RuntimeError, MemoryError) as error:
        detail = " ".join(str(error).split())
        raise SettingsError(f"train.sizes: a network of these sizes cannot be made here ({detail})") from error


def task(network: MixingNetwork, settings: TrainSettings) -> Task:
    """The task that the settings describe, with ``network`` or its part that learns.

    Raises:
        SettingsError: the network has no front-end to train.
    """
    if settings.task == "mix":
        guard = network.edge_guard
        frames = guard_frames(guard)
        loss = MatchedLoss(frames) if settings.loss == "matched" else StereoLoss(settings.loss, guard_frames=frames)
        return Task(network, loss, edge_guard=guard)
    if not isinstance(network, CRAFx2):
        raise SettingsError(f"train.task: front_end needs train.network crafx2, found {settings.network}")
    # time-domain L1, as published; the rest of the network takes no part
    return Task(network.front_end, AbsoluteLoss(), rebuilds_stems=True)


def guard_frames(edge_guard: int) -> int:
    """STFT frames at either end whose samples the network sees only part of the surroundings of (published formula)."""
    if edge_guard <= 0:
        return 0
    return max(math.ceil((edge_guard - FFT_SIZE) / HOP + 1) + 1, 0)

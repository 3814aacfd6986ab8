"""The training loop: steps over random crops, validation once an epoch, checkpoints, and the best weights at the end.

The published recipe is Adam with AMSGrad, clipped gradients, an epoch at learning rate 0 that only fills Adam's
moments, and learning rates that fall in steps; the weights with the best mean validation loss are kept.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from fxnorm import dataset
from fxnorm.constants import SAMPLE_RATE
from fxnorm.dataset import Song
from fxnorm.errors import FxnormError
from fxnorm.losses import StereoLoss
from fxnorm.settings import TrainSettings
from fxnorm.training.checkpoints import Checkpoints
from fxnorm.training.data import Consecutive, Example, RandomCrops, Sequences

Log = Callable[[int, Mapping[str, float]], None]
"""Takes the step and the values measured at it."""

_LOSS_FFT, _LOSS_HOP = 4_096, 1_024


@dataclass(frozen=True)
class Outcome:
    """What a training run ended with."""

    best_validation_loss: float
    best_step: int
    steps: int
    curve: list[dict[str, float]]
    """One row an epoch: step, learning rate, mean training loss, validation loss."""


def guard_frames(edge_guard: int) -> int:
    """STFT frames at either end whose samples the network sees only part of the surroundings of (published formula)."""
    if edge_guard <= 0:
        return 0
    return max(math.ceil((edge_guard - _LOSS_FFT) / _LOSS_HOP + 1) + 1, 0)


def train(
    network: nn.Module,
    settings: TrainSettings,
    training_songs: Sequence[Song],
    validation_songs: Sequence[Song],
    checkpoint_folder: Path,
    device: torch.device,
    log: Log,
) -> Outcome:
    """Train ``network`` in place; at the end it holds the weights with the best validation loss.

    Args:
        network: takes (batch, 8, samples), gives (batch, 2, samples); has ``edge_guard`` in samples.
        settings: the recipe.
        training_songs: normalized songs with mixtures.
        validation_songs: likewise.
        checkpoint_folder: a run that was stopped goes on from what lies there, if settings and data are the same.
        device: where to compute.
        log: called with what there is to plot, at each step.

    Raises:
        FxnormError: the loss is not a number, with the step and the songs of the batch; checkpoints stay.
    """
    run = _Run(network, settings, training_songs, validation_songs, checkpoint_folder, device, log)
    return run.to_the_end()


class _Run:
    def __init__(
        self,
        network: nn.Module,
        settings: TrainSettings,
        training_songs: Sequence[Song],
        validation_songs: Sequence[Song],
        checkpoint_folder: Path,
        device: torch.device,
        log: Log,
    ) -> None:
        self.network = network.to(device)
        self.settings = settings
        self.device = device
        self.log = log
        edge_guard = int(getattr(network, "edge_guard", 0))
        samples = round(settings.sequence_seconds * SAMPLE_RATE)
        self.crops = RandomCrops(training_songs, samples, settings.seed, settings.swap_channels)
        self.sequences = Sequences(validation_songs, samples, overlap=2 * edge_guard)
        self.loss = StereoLoss(settings.loss, guard_frames=guard_frames(edge_guard)).to(device)
        self.optimizer = torch.optim.Adam(
            network.parameters(), lr=0.0, weight_decay=settings.weight_decay, amsgrad=True
        )
        self.learning_rates = _learning_rates(settings)
        self.average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(settings.weight_average))
        fingerprint = f"{settings.model_dump_json()} {dataset.digest([*training_songs, *validation_songs])}"
        self.checkpoints = Checkpoints(checkpoint_folder, fingerprint)
        self.step = 0
        self.losses: list[float] = []
        self.best_loss, self.best_step = math.inf, 0
        self.best_weights = _copy(network)
        self.curve: list[dict[str, float]] = []

    def to_the_end(self) -> Outcome:
        self._go_on()
        total = len(self.learning_rates)
        with tqdm(
            total=total, initial=self.step, desc="train", unit="step", mininterval=2.0, dynamic_ncols=True
        ) as bar:
            start, began = self.step, time.monotonic()
            for stems, mixture in self._batches(total):
                loss = self._train_step(stems, mixture)
                speed = (self.step - start) * self.settings.batch_size / (time.monotonic() - began)
                self.log(self.step, {"train.loss": loss, "train.examples_per_second": speed})
                if self._epoch_ended():
                    self._validate()
                if self.step % self.settings.checkpoint_every == 0 or self.step == total:
                    self.checkpoints.save(self.step, self._state())
                validation = f"{self.best_loss:.3f}" if math.isfinite(self.best_loss) else "not yet"
                bar.set_postfix_str(f"loss {loss:.3f}, best validation {validation}, {speed:.2f} examples/s", False)
                bar.update()
        self.network.load_state_dict(self.best_weights)
        return Outcome(self.best_loss, self.best_step, self.step, self.curve)

    def _batches(self, total: int) -> Iterator[Example]:
        size = self.settings.batch_size
        return iter(
            DataLoader(
                self.crops,
                batch_size=size,
                sampler=Consecutive(self.step * size, total * size),
                num_workers=self.settings.loader_workers,
                pin_memory=self.device.type == "cuda",
                generator=torch.Generator(),  # its own: the loader must not draw from what dropout draws from
            )
        )

    def _train_step(self, stems: torch.Tensor, mixture: torch.Tensor) -> float:
        self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rates[self.step]
        loss = self._loss(self.network, stems, mixture)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FxnormError(self._not_a_number(value))
        nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_norm)
        self.optimizer.step()
        self.average.update_parameters(self.network)
        self.step += 1
        self.losses.append(value)
        return value

    def _loss(self, network: nn.Module, stems: torch.Tensor, mixture: torch.Tensor) -> torch.Tensor:
        stems = stems.to(self.device, non_blocking=True)
        mixture = mixture.to(self.device, non_blocking=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda"):
            output = network(stems)
        return self.loss(output.float(), mixture)

    def _epoch_ended(self) -> bool:
        warm_up, epoch = self.settings.warm_up_batches, self.settings.batches_per_epoch
        return self.step >= warm_up and (self.step - warm_up) % epoch == 0

    @torch.no_grad()
    def _validate(self) -> None:
        network = self.average.module.eval()
        loader = DataLoader(self.sequences, batch_size=self.settings.batch_size, generator=torch.Generator())
        total = sum(float(self._loss(network, stems, mixture)) * len(stems) for stems, mixture in loader)
        validation = total / len(self.sequences)
        if validation < self.best_loss:
            self.best_loss, self.best_step = validation, self.step
            self.best_weights = _copy(network)
        training = sum(self.losses) / len(self.losses) if self.losses else math.nan
        self.losses = []
        rate = self.learning_rates[max(self.step - 1, 0)]
        self.log(self.step, {"validation.loss": validation, "train.learning_rate": rate})
        row = {"step": self.step, "learning_rate": rate, "train_loss": training, "validation_loss": validation}
        self.curve.append({key: value for key, value in row.items() if math.isfinite(value)})

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
            "losses": self.losses,
            "best": {"loss": self.best_loss, "step": self.best_step, "weights": self.best_weights},
            "curve": self.curve,
        }

    def _go_on(self) -> None:
        """Take up the newest checkpoint of this very run; another run's are in the way and go."""
        state = self.checkpoints.newest()
        if state is None:
            self.checkpoints.clear()
            torch.manual_seed(self.settings.seed)
            if self._epoch_ended():  # no warm-up: what the untrained network gives is the first point of the curve
                self._validate()
            return
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state_all(state["cuda_random"])
        self.losses, self.curve = state["losses"], state["curve"]
        self.best_loss, self.best_step = state["best"]["loss"], state["best"]["step"]
        self.best_weights = state["best"]["weights"]
        tqdm.write(f"train: goes on at step {self.step} of {len(self.learning_rates)} from its checkpoint")

    def _not_a_number(self, value: float) -> str:
        size = self.settings.batch_size
        names = sorted({self.crops.song_of(number) for number in range(self.step * size, (self.step + 1) * size)})
        return (
            f"training: the loss is {value} at step {self.step + 1} (songs: {', '.join(names)}); try a lower"
            f" train.schedule learning_rate or train.gradient_norm; the checkpoints in {self.checkpoints.folder} stay"
        )


def _learning_rates(settings: TrainSettings) -> list[float]:
    """The learning rate of each step: the warm-up's zeros, then the schedule's."""
    rates = [0.0] * settings.warm_up_batches
    for part in settings.schedule:
        rates += [part.learning_rate] * (part.epochs * settings.batches_per_epoch)
    return rates


def _copy(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}

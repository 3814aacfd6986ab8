"""The training loop: steps over random crops, validation once an epoch, checkpoints, and the best weights at the end.

The published recipe is Adam with AMSGrad, clipped gradients, an epoch at learning rate 0 that only fills Adam's
moments, and learning rates that fall in steps; the weights with the best mean validation loss are kept.

A run that was ended, by a signal or without any warning, goes on from its newest checkpoint and finds the weights that
it would have found undisturbed: bit for bit on a CPU; on a GPU, only where its arithmetic is deterministic.
"""

import contextlib
import functools
import json
import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from fxnorm.constants import SAMPLE_RATE
from fxnorm.data.versions import code_digest, packages_of
from fxnorm.errors import DivergedError, FxnormError, StoppedError
from fxnorm.runtime.signals import signals_blocked
from fxnorm.settings import ResourcesSettings, TrainSettings
from fxnorm.training import preflight
from fxnorm.training.checkpoints import Checkpoints
from fxnorm.training.data import DistributedBatchSampler, Example, RandomCrops, Sequences
from fxnorm.training.distributed import Processes
from fxnorm.training.interruption import Interruption, leave_to
from fxnorm.training.tasks import Task

if TYPE_CHECKING:  # what is not imported here is not in a training's identity: see training.data
    from fxnorm.data.dataset import Song
    from fxnorm.training.reverberation import Reverberation

_log = logging.getLogger(__name__)

Log = Callable[[int, Mapping[str, float]], None]
"""Takes the step and the values measured at it."""

Validated = Callable[[int, float], None]
"""Takes the number of a validation, from 0, and its loss; may end the training by raising an FxnormError."""

_CODE = ("fxnorm.training.loop", "fxnorm.training.tasks")
_REVERBERATION_CODE = "fxnorm.training.reverberation"
"""What the weights depend on; the songs and the recipe's impulse responses come in by their content."""

_NOT_LEARNT_FROM = {"initial_weights", "run_in_seconds"}
"""Settings that may change while a run is interrupted. The weights it began with count by what they are, not by where
they lie."""


@dataclass(frozen=True)
class Outcome:
    """What a training run ended with."""

    best_validation_loss: float
    best_step: int
    steps: int
    curve: list[dict[str, float]]
    """One row an epoch: step, learning rate, mean training loss, validation loss."""


def identity(settings: TrainSettings, *digests: str) -> str:
    """What a run learns and from what: a checkpoint of the same identity can be gone on from.

    Args:
        settings: the recipe.
        digests: of all that the run reads.

    The code that learns is a part of it, so a run of other code begins anew, and whoever takes the code back goes on
    with the run that it had. The versions of packages are not: days of training should outlive an upgrade, and
    :func:`train` logs a warning when a package that computes was upgraded.
    """
    learnt_from = settings.model_dump(mode="json", exclude=_NOT_LEARNT_FROM)
    return "\n".join([json.dumps(learnt_from, sort_keys=True), code_digest(*_code(settings)), *digests])


def _code(settings: TrainSettings) -> list[str]:
    return [*_CODE, *([_REVERBERATION_CODE] if settings.reverberation else [])]


def train(
    task: Task,
    settings: TrainSettings,
    training_songs: "Sequence[Song]",
    validation_songs: "Sequence[Song]",
    checkpoints: Checkpoints,
    log: Log,
    *,
    resources: ResourcesSettings,
    processes: Processes,
    interruption: Interruption,
    reverberation: "Reverberation | None" = None,
    validated: Validated | None = None,
    before_checkpoint: Callable[[], None] = lambda: None,
) -> Outcome:
    """Train the task's module in place; at the end it holds the weights with the best validation loss.

    Args:
        task: what learns; every process has the same.
        settings: the recipe.
        training_songs: normalized songs with mixtures.
        validation_songs: likewise.
        checkpoints: of this very run; it goes on from the newest.
        log: called with the values to plot, at each step, in the first process.
        resources: readers, compilation, and how often a checkpoint is written.
        processes: each computes an equal part of every batch.
        interruption: notes the signals that end the run.
        reverberation: for the training crops, if any.
        validated: called after each validation in the first process. A training that goes on calls it again for
            validations that it does again.
        before_checkpoint: called in the first process before each is written: what was logged up to there is not
            logged again by a training that goes on from it.

    Raises:
        StoppedError: a signal came to any of the processes; the checkpoint is written.
        DivergedError: the loss is not a number, with the step and the songs of the batch; checkpoints stay.
        FxnormError: what ``validated`` raised, in all processes; checkpoints stay.
        SettingsError: the batch cannot be divided evenly.
    """
    preflight.check(settings, resources, task, processes)
    run = _Run(
        task,
        settings,
        training_songs,
        validation_songs,
        checkpoints,
        log if processes.first else lambda step, values: None,
        resources,
        processes,
        interruption,
        reverberation,
        validated,
        before_checkpoint,
    )
    return run.to_the_end()


class _Run:
    def __init__(
        self,
        task: Task,
        settings: TrainSettings,
        training_songs: "Sequence[Song]",
        validation_songs: "Sequence[Song]",
        checkpoints: Checkpoints,
        log: Log,
        resources: ResourcesSettings,
        processes: Processes,
        interruption: Interruption,
        reverberation: "Reverberation | None",
        validated: Validated | None,
        before_checkpoint: Callable[[], None],
    ) -> None:
        self.task = task
        self.settings = settings
        self.resources = resources
        self.processes = processes
        self.device = processes.device
        self.interruption = interruption
        self.log = log
        self.validated = validated
        self.before_checkpoint = before_checkpoint
        self.local_batch_size = processes.equal_part(settings.batch_size, "train.batch_size")
        self.bfloat16 = _uses_bfloat16(settings, self.device)
        samples = round(settings.sequence_seconds * SAMPLE_RATE)
        self.crops = RandomCrops(training_songs, samples, settings.seed, settings.swap_channels, reverberation)
        self.sequences = Sequences(validation_songs, samples, overlap=2 * task.edge_guard)
        numbers = range(processes.rank, len(self.sequences), processes.count)
        # one loader for all epochs, so that its reading processes stay
        self.validation = self._loader(self.sequences, self.local_batch_size, numbers)
        self.module = task.module.to(self.device)
        self.loss = task.loss.to(self.device)
        wrapped = processes.wrap(self.module)
        self.forward: Callable[[Tensor], Tensor] = torch.compile(wrapped) if resources.compile else wrapped
        self.optimizer = torch.optim.Adam(
            self.module.parameters(), lr=0.0, weight_decay=settings.weight_decay, amsgrad=True
        )
        self.learning_rates = learning_rates(settings)
        self.average = AveragedModel(self.module, multi_avg_fn=get_ema_multi_avg_fn(settings.weight_average))
        self.checkpoints = checkpoints
        self.step = self.saved_step = 0
        self.signal_number = 0
        self.losses: list[float] = []
        self.best_loss, self.best_step = math.inf, 0
        self.best_weights = _copy(self.module)
        self.curve: list[dict[str, float]] = []
        self.packages = packages_of(*_code(settings))

    def to_the_end(self) -> Outcome:
        self._go_on()
        with self._bar("train", "step", len(self.learning_rates), initial=self.step) as bar:
            self._validate_if_due()
            if not self._over():
                self._train(bar)
        self.module.load_state_dict(self.best_weights)
        return Outcome(self.best_loss, self.best_step, self.step, self.curve)

    def _train(self, bar: tqdm) -> None:
        first_step, began = self.step, time.monotonic()
        with _without_worker_traces():
            for stems, mixture in self._batches():
                loss, gradient_norm = self._train_step(stems, mixture)
                seconds = (time.monotonic() - began) / (self.step - first_step)
                speed = self.settings.batch_size / seconds
                measured = {
                    "train.loss": loss,
                    "train.gradient_norm": gradient_norm,
                    "train.examples_per_second": speed,
                    "train.hours_left": (len(self.learning_rates) - self.step) * seconds / 3600,
                }
                self.log(self.step, measured)
                self._stop_if_signalled()
                self._validate_if_due()
                over = self._over()
                if over or self.step % self.resources.checkpoint_every == 0:
                    self._save()
                validation = f"{self.best_loss:.4g}" if math.isfinite(self.best_loss) else "not yet"
                bar.set_postfix_str(f"loss {loss:.4g}, best validation {validation}, {speed:.3g} examples/s", False)
                bar.update()
                if over:
                    return
            self.signal_number = self.interruption.signal_number
            self._stop_if_signalled()

    def _over(self) -> bool:
        """Whether the schedule has ended, or no epoch of the last few has made it better."""
        if self.step >= len(self.learning_rates):
            return True
        patience = self.settings.early_stopping_epochs
        since_best = [row for row in self.curve if row["step"] > self.best_step]
        return 0 < patience <= len(since_best)

    def _batches(self) -> Iterator[Example]:
        size = self.settings.batch_size
        batches = range(self.step, len(self.learning_rates))
        sampler = DistributedBatchSampler(batches, size, self.processes.rank, self.processes.count)
        with signals_blocked():
            return self._interruptible(iter(self._loader(self.crops, self.local_batch_size, sampler)))

    def _interruptible(self, batches: Iterator[Example]) -> Iterator[Example]:
        """Batches of songs in a store end at a signal, also one that comes while the store does not answer.

        Several processes stop at the same step, which they agree on in it.
        """
        alone = self.processes.count == 1
        return self.interruption.before_signals(batches) if self.crops.is_remote and alone else batches

    def _loader(
        self, examples: RandomCrops | Sequences, batch_size: int, sampler: DistributedBatchSampler | Sequence[int]
    ) -> "DataLoader[Example]":
        workers = self.resources.loader_workers
        return DataLoader(
            examples,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=workers,
            worker_init_fn=functools.partial(leave_to, os.getpid()),
            # not forked from this process, which runs threads (PyTorch's, MLflow's): such a fork can hang
            multiprocessing_context="spawn" if workers else None,
            persistent_workers=workers > 0,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # its own: the loader must not draw from what dropout draws from
        )

    def _train_step(self, stems: Tensor, mixture: Tensor) -> tuple[float, float]:
        """The loss of the whole batch and the norm of its gradient, the same in all processes."""
        self.module.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rates[self.step]
        output, target = self._output_and_target(self.forward, stems, mixture)
        # Every process takes the loss of the whole batch (which for loss "a" is no mean over its examples) and the
        # gradient of its own part; their sum is the whole gradient, and the backward pass takes their mean.
        loss = self.loss(self.processes.gather(output), self.processes.gather(target))
        self.optimizer.zero_grad(set_to_none=True)
        (loss * self.processes.count).backward()
        norm = float(nn.utils.clip_grad_norm_(self.module.parameters(), self.settings.gradient_norm))
        value = float(loss.detach())
        broken = not (math.isfinite(value) and math.isfinite(norm))
        self.signal_number, any_broken = self.processes.highest(self.interruption.signal_number, broken)
        if any_broken:
            raise self.processes.agreed(DivergedError(self._not_a_number(value, norm)))
        self.optimizer.step()
        self.average.update_parameters(self.module)
        self.step += 1
        self.losses.append(value)
        return value, norm

    def _output_and_target(
        self, module: Callable[[Tensor], Tensor], stems: Tensor, mixture: Tensor
    ) -> tuple[Tensor, Tensor]:
        stems = stems.to(self.device, non_blocking=True)
        target = self.task.target(stems, mixture.to(self.device, non_blocking=True))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            output = module(stems)
        return output.float(), target

    def _validate_if_due(self) -> None:
        since_warm_up = self.step - self.settings.warm_up_batches
        epoch_ended = since_warm_up >= 0 and since_warm_up % self.settings.batches_per_epoch == 0
        if not epoch_ended or (self.curve and self.curve[-1]["step"] == self.step):
            return
        validation = self._validation_loss()
        self._stop_if_signalled()  # the validation begins anew then
        if not math.isfinite(validation):
            raise self.processes.agreed(
                DivergedError(f"training: the validation loss is {validation} after step {self.step}; {self._advice()}")
            )
        if validation < self.best_loss:
            self.best_loss, self.best_step = validation, self.step
            self.best_weights = _copy(self.average.module)
            if self.processes.first:
                self.checkpoints.save_best(self.best_weights, self.step, validation)
        training = sum(self.losses) / len(self.losses) if self.losses else math.nan
        self.losses = []
        rate = self.learning_rates[max(self.step - 1, 0)]
        self.log(self.step, {"validation.loss": validation, "train.learning_rate": rate})
        row = {"step": self.step, "learning_rate": rate, "train_loss": training, "validation_loss": validation}
        self.curve.append({key: value for key, value in row.items() if math.isfinite(value)})
        if self.validated is not None:
            validated, number = self.validated, len(self.curve) - 1
            self.processes.from_first(lambda: validated(number, validation))

    @torch.no_grad()
    def _validation_loss(self) -> float:
        """The mean over all sequences, each for itself, so that it depends on no batch; not a number at a signal."""
        module = self.average.module.eval()
        count = self.processes.count
        with signals_blocked():
            batches = self._interruptible(iter(self.validation))
        most_sequences = len(range(0, len(self.sequences), count))  # of any process
        rounds = -(-most_sequences // self.local_batch_size)
        losses = 0.0
        with (
            self._bar("validate", "sequence", len(self.sequences), leave=False, delay=2.0) as bar,
            _without_worker_traces(),
        ):
            for _ in range(rounds):
                batch = next(batches, None)
                if batch is not None:
                    outputs, targets = self._output_and_target(module, *batch)
                    pairs = zip(outputs.split(1), targets.split(1), strict=True)
                    losses += float(torch.stack([self.loss(output, target) for output, target in pairs]).sum())
                bar.update(min(self.local_batch_size * count, len(self.sequences) - bar.n))
                (self.signal_number,) = self.processes.highest(self.interruption.signal_number)
                if self.signal_number:
                    return math.nan
        (total,) = self.processes.total(losses)
        return total / len(self.sequences)

    def _save(self) -> None:
        random = self.processes.from_all(_random_state(self.device))
        if self.processes.first:
            state = {
                "step": self.step,
                "module": self.module.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "random": random,
                "losses": self.losses,
                "best": {"loss": self.best_loss, "step": self.best_step, "weights": self.best_weights},
                "curve": self.curve,
                "packages": self.packages,
            }
            self.before_checkpoint()
            self.checkpoints.save(self.step, state)
        self.saved_step = self.step

    def _go_on(self) -> None:
        """Take up the newest checkpoint, or begin."""
        torch.manual_seed(self.settings.seed + self.processes.rank)
        state = self.processes.from_first(self.checkpoints.newest)
        if state is None:
            return
        self.step = self.saved_step = state["step"]
        self.module.load_state_dict(state["module"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.losses, self.curve = state["losses"], state["curve"]
        self.best_loss, self.best_step = state["best"]["loss"], state["best"]["step"]
        self.best_weights = state["best"]["weights"]
        self._warn_of_other_packages(state.get("packages", {}))
        count = self.processes.count
        if len(state["random"]) == count:
            _set_random_state(state["random"][self.processes.rank], self.device)
        else:
            torch.manual_seed(hash((self.settings.seed, self.step, self.processes.rank)))
            self._report(f"with {count} processes instead of {len(state['random'])}, so dropout is drawn anew")
        self._report(f"goes on at step {self.step} of {len(self.learning_rates)} from its checkpoint")

    def _warn_of_other_packages(self, before: Mapping[str, str]) -> None:
        changed = [
            f"{name} {version} instead of {before[name]}"
            for name, version in self.packages.items()
            if before.get(name, version) != version
        ]
        if changed and self.processes.first:
            _log.warning(
                "train: goes on at step %d with %s: the weights may differ a little from those of one version alone;"
                " with another folder of checkpoints, training begins anew",
                self.step,
                ", ".join(changed),
            )

    def _stop_if_signalled(self) -> None:
        if not self.signal_number:
            return
        if self.step != self.saved_step or self.step == 0:
            self._save()
        raise self.processes.agreed(
            StoppedError(
                f"training: stopped by {signal.Signals(self.signal_number).name} after step {self.step} of"
                f" {len(self.learning_rates)}, not finished; the same command goes on from the checkpoint in"
                f" {self.checkpoints.location}",
                self.signal_number,
            )
        )

    def _not_a_number(self, loss: float, gradient_norm: float) -> str:
        size = self.settings.batch_size
        names = sorted({self.crops.song_of(number) for number in range(self.step * size, (self.step + 1) * size)})
        cause = f"the gradient's norm is {gradient_norm}" if math.isfinite(loss) else f"the loss is {loss}"
        return f"training: {cause} at step {self.step + 1} (songs: {', '.join(names)}); {self._advice()}"

    def _advice(self) -> str:
        return (
            "try a lower train.schedule learning_rate or train.gradient_norm, or train.precision float32; the"
            f" checkpoints in {self.checkpoints.location} stay"
        )

    def _report(self, text: str) -> None:
        if self.processes.first:
            tqdm.write(f"train: {text}")

    def _bar(self, description: str, unit: str, total: int, **options: Any) -> tqdm:
        if not self.processes.first:
            options["disable"] = True  # else it is for TQDM_DISABLE to say
        return tqdm(desc=description, unit=unit, total=total, mininterval=2.0, dynamic_ncols=True, **options)


def learning_rates(settings: TrainSettings) -> list[float]:
    """The learning rate of each step: the warm-up's zeros, then the schedule's."""
    rates = [0.0] * settings.warm_up_batches
    for part in settings.schedule:
        rates += [part.learning_rate] * (part.epochs * settings.batches_per_epoch)
    return rates


def _uses_bfloat16(settings: TrainSettings, device: torch.device) -> bool:
    if settings.precision == "auto":
        # not where it is emulated (V100, T4), which is slower than float32
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return settings.precision == "bfloat16"


def _random_state(device: torch.device) -> dict[str, Tensor]:
    cuda = {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
    return {"cpu": torch.get_rng_state(), **cuda}


def _set_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}


@contextlib.contextmanager
def _without_worker_traces() -> Iterator[None]:
    """PyTorch puts a reading process's whole trace into its error's text; only the last line is for the user."""
    try:
        yield
    except FxnormError as error:
        lines = str(error).strip().splitlines()
        if len(lines) == 1:
            raise
        raise FxnormError(lines[-1].partition(": ")[2]) from error

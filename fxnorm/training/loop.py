"""The training loop: steps over random crops, validation once an epoch, checkpoints, and the best weights at the end.

The published recipe is Adam with AMSGrad, clipped gradients, an epoch at learning rate 0 that only fills Adam's
moments, and learning rates that fall in steps; the weights with the best mean validation loss are kept.

No step waits for the device. What steps measure stays there until it is fetched for all of them together, every few
steps and before anything is kept of them: then it is logged, and looked at for what is no number.

A run that was ended, by a signal or without any warning, goes on from its newest checkpoint and finds the weights that
it would have found undisturbed: bit for bit on a CPU; on a GPU, only where its arithmetic is deterministic.
"""

import copy
import json
import logging
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm

from fxnorm.constants import SAMPLE_RATE
from fxnorm.data.versions import code_digest, packages_of
from fxnorm.errors import DivergedError, StoppedError
from fxnorm.models.sizes import INPUT_CHANNELS, OUTPUT_CHANNELS
from fxnorm.runtime.signals import signals_blocked
from fxnorm.settings import ResourcesSettings, TrainSettings
from fxnorm.training import preflight
from fxnorm.training.batches import Batch, Batches, readers_errors
from fxnorm.training.checkpoints import Checkpoints
from fxnorm.training.data import DistributedBatchSampler, RandomCrops, Sequences
from fxnorm.training.distributed import Processes
from fxnorm.training.gradients import Gradients
from fxnorm.training.interruption import Interruption
from fxnorm.training.optimizer import ClippedAdam
from fxnorm.training.random_state import random_state, set_random_state
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
        log: called with the values to plot of each step, of some steps together, in the first process.
        resources: readers, compilation, parts of a batch, and how often losses are fetched and checkpoints written.
        processes: each computes an equal part of every batch.
        interruption: notes the signals that end the run.
        reverberation: for the training crops, if any.
        validated: called after each validation in the first process. A training that goes on calls it again for
            validations that it does again.
        before_checkpoint: called in the first process before each is written: what was logged up to there is not
            logged again by a training that goes on from it.

    Raises:
        StoppedError: a signal came to any of the processes; the checkpoint is written.
        DivergedError: the loss is not a number, with the first such step and the songs of its batch; it is noticed when
            losses are fetched. Checkpoints stay, and none has weights from such a step.
        FxnormError: what ``validated`` raised, in all processes; checkpoints stay.
        SettingsError: the batch cannot be divided evenly.
        FxnormError: it is to be compiled, and cannot be.
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
        self.shapes = [(INPUT_CHANNELS, samples), (OUTPUT_CHANNELS, samples)]
        numbers = range(processes.rank, len(self.sequences), processes.count)
        # of all epochs, so that their readers stay
        self.validation = self._batches_of(self.sequences, self.local_batch_size // resources.accumulation, numbers)
        self.module = task.module.to(self.device)
        self.loss = task.loss.to(self.device)
        self.learning_rates = learning_rates(settings)
        # found once: to look for them takes as long as a small network's step
        self.weights = [weight for weight in self.module.parameters() if weight.requires_grad]
        self.optimizer = ClippedAdam(self.weights, settings.weight_decay, settings.gradient_norm)
        self.average = _Average(self.module, settings.weight_average)
        self.checkpoints = checkpoints
        self.step = self.saved_step = 0
        self.signal_number = 0
        self.losses: list[float] = []
        self.measured: list[Tensor] = []  # of each step its loss and its gradient's norm
        self.best_loss, self.best_step = math.inf, 0
        self.best_weights = _copy(self.module)
        self.curve: list[dict[str, float]] = []
        self.packages = packages_of(*_code(settings))

    def to_the_end(self) -> Outcome:
        self._go_on()
        steps = len(self.learning_rates) - self.step
        self.gradients = Gradients(self.task, self.bfloat16, self.resources, self.processes, steps, self._report)
        with self._bar("train", "step", len(self.learning_rates), initial=self.step) as bar:
            self._validate_if_due()
            if not self._over():
                self._train(bar)
        self.module.load_state_dict(self.best_weights)
        return Outcome(self.best_loss, self.best_step, self.step, self.curve)

    def _train(self, bar: tqdm) -> None:
        first_step, began = self.step, time.monotonic()

        def seconds_a_step() -> float:
            return (time.monotonic() - began) / (self.step - first_step)

        self.module.train()
        with readers_errors():
            for stems, mixture in self._on_device(self._batches()):
                self._train_step(stems, mixture)
                bar.update()
                if not self._is_report_due():
                    continue
                self._report_steps(bar, seconds_a_step)
                self._stop_if_signalled()
                self._validate_if_due()
                over = self._over()
                if over or self.step % self.resources.checkpoint_every == 0:
                    self._save()
                if over:
                    return
            # a signal has ended the wait for a batch
            if self.measured:
                self._report_steps(bar, seconds_a_step)
            self.signal_number = self.interruption.signal_number
            self._stop_if_signalled()

    def _is_report_due(self) -> bool:
        """Whether this step's losses are needed now; all processes find the same."""
        # alone, it need not ask others, and ends with the step at which the signal came
        signalled = self.processes.count == 1 and self.interruption.signal_number
        every = (self.resources.report_every, self.resources.checkpoint_every)
        return bool(signalled) or self._has_epoch_ended() or any(self.step % steps == 0 for steps in every)

    def _report_steps(self, bar: tqdm, seconds_a_step: Callable[[], float]) -> None:
        """Fetch and log what the steps since the last time have measured, and hear of signals.

        Raises:
            DivergedError: something is not a number.
        """
        measured: list[list[float]] = torch.stack(self.measured).view(-1, 2).tolist()
        first = self.step - len(measured) + 1
        self.measured = []
        broken = (step for step, values in enumerate(measured, first) if not all(map(math.isfinite, values)))
        none = self.step + 1
        self.signal_number, highest = self.processes.highest(self.interruption.signal_number, -next(broken, none))
        broken_step = -highest  # of all processes the first
        seconds = seconds_a_step()
        speed = self.settings.batch_size / seconds
        for step, (loss, norm) in enumerate(measured[: broken_step - first], first):
            values = {
                "train.loss": loss,
                "train.gradient_norm": norm,
                "train.examples_per_second": speed,
                "train.hours_left": (len(self.learning_rates) - step) * seconds / 3600,
            }
            self.log(step, values)
            self.losses.append(loss)
        if broken_step != none:
            raise self.processes.agreed(DivergedError(self._not_a_number(broken_step, *measured[broken_step - first])))
        validation = f"{self.best_loss:.4g}" if math.isfinite(self.best_loss) else "not yet"
        bar.set_postfix_str(f"loss {loss:.4g}, best validation {validation}, {speed:.3g} examples/s", False)

    def _over(self) -> bool:
        """Whether the schedule has ended, or no epoch of the last few has made it better."""
        if self.step >= len(self.learning_rates):
            return True
        patience = self.settings.early_stopping_epochs
        since_best = [row for row in self.curve if row["step"] > self.best_step]
        return 0 < patience <= len(since_best)

    def _batches(self) -> Iterator[Batch]:
        size = self.settings.batch_size
        batches = range(self.step, len(self.learning_rates))
        sampler = DistributedBatchSampler(batches, size, self.processes.rank, self.processes.count)
        with signals_blocked():
            return self._interruptible(iter(self._batches_of(self.crops, self.local_batch_size, sampler)))

    def _interruptible(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Batches of songs in a store end at a signal, also one that comes while the store does not answer.

        Several processes stop at the same step, which they agree on in it.
        """
        alone = self.processes.count == 1
        return self.interruption.before_signals(batches) if self.crops.is_remote and alone else batches

    def _batches_of(
        self, examples: RandomCrops | Sequences, batch_size: int, numbers: DistributedBatchSampler | Sequence[int]
    ) -> Batches:
        return Batches(examples, self.shapes, numbers, batch_size, self.resources.loader_workers, self.device)

    def _on_device(self, batches: Iterator[Batch]) -> Iterator[tuple[Tensor, ...]]:
        """Stems and mixtures of batches, on the device. A GPU copies each while it computes the step before."""
        if self.device.type != "cuda":
            yield from (batch.tensors for batch in batches)
            return
        copying = torch.cuda.Stream(self.device)
        copied_before: torch.cuda.Event | None = None
        for batch in batches:
            with torch.cuda.stream(copying):
                copied = batch.flat.to(self.device, non_blocking=True)
            if copied_before is not None:
                # copied during the last step; the next batch may be read to where it lay
                copied_before.synchronize()
            copied_before = copying.record_event()
            computing = torch.cuda.current_stream(self.device)
            computing.wait_stream(copying)
            copied.record_stream(computing)  # its memory is not given away before the step is over
            yield Batch.of(copied, self.shapes).tensors

    def _train_step(self, stems: Tensor, mixture: Tensor) -> None:
        """A step; of the whole batch, its loss and the norm of its gradient stay on the device, for all processes."""
        for weight in self.weights:
            weight.grad = None
        loss = self.gradients(stems, mixture)
        norm = self.optimizer.clipped_step(self.learning_rates[self.step])
        self.average.update()
        self.step += 1
        self.measured += [loss, norm]

    def _has_epoch_ended(self) -> bool:
        since_warm_up = self.step - self.settings.warm_up_batches
        return since_warm_up >= 0 and since_warm_up % self.settings.batches_per_epoch == 0

    def _validate_if_due(self) -> None:
        if not self._has_epoch_ended() or (self.curve and self.curve[-1]["step"] == self.step):
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
            batches = self._on_device(self._interruptible(iter(self.validation)))
        most_sequences = len(range(0, len(self.sequences), count))  # of any process
        rounds = -(-most_sequences // self.validation.batch_size)
        losses = torch.zeros((), dtype=torch.float64, device=self.device)
        with (
            self._bar("validate", "sequence", len(self.sequences), leave=False, delay=2.0) as bar,
            readers_errors(),
        ):
            for _ in range(rounds):
                batch = next(batches, None)
                if batch is not None:
                    outputs, targets = self.gradients.output_and_target(module, *batch)
                    pairs = zip(outputs.split(1), targets.split(1), strict=True)
                    losses += torch.stack([self.loss(output, target) for output, target in pairs]).sum()
                bar.update(min(self.validation.batch_size * count, len(self.sequences) - bar.n))
                (self.signal_number,) = self.processes.highest(self.interruption.signal_number)
                if self.signal_number:
                    return math.nan
        self.module.train()
        (total,) = self.processes.total(float(losses))
        return total / len(self.sequences)

    def _save(self) -> None:
        random = self.processes.from_all(random_state(self.device))
        if self.processes.first:
            state = {
                "step": self.step,
                "module": self.module.state_dict(),
                "average": self.average.state(),
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
        self.average.load_state(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.losses, self.curve = state["losses"], state["curve"]
        self.best_loss, self.best_step = state["best"]["loss"], state["best"]["step"]
        self.best_weights = state["best"]["weights"]
        self._warn_of_other_packages(state.get("packages", {}))
        count = self.processes.count
        if len(state["random"]) == count:
            set_random_state(state["random"][self.processes.rank], self.device)
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

    def _not_a_number(self, step: int, loss: float, gradient_norm: float) -> str:
        size = self.settings.batch_size
        names = sorted({self.crops.song_of(number) for number in range((step - 1) * size, step * size)})
        cause = f"the gradient's norm is {gradient_norm}" if math.isfinite(loss) else f"the loss is {loss}"
        return f"training: {cause} at step {step} (songs: {', '.join(names)}); {self._advice()}"

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


class _Average:
    """A moving average of a module's weights, which begins with those after the first step; without decay, these."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module) if decay else module
        self._decay = decay
        self._begun = False
        self._average = get_ema_multi_avg_fn(decay)
        self._weights = list(module.parameters())
        self._averages = list(self.module.parameters())

    @torch.no_grad()
    def update(self) -> None:
        if not self._decay:
            return
        if self._begun:
            self._average(self._averages, self._weights, None)
            return
        for average, weight in zip(self._averages, self._weights, strict=True):
            average.copy_(weight)
        self._begun = True

    def state(self) -> dict[str, Any]:
        return {"begun": self._begun, "module": self.module.state_dict() if self._decay else {}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._begun = state["begun"]
        if self._decay:
            self.module.load_state_dict(state["module"])


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


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}

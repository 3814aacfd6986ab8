"""The loss of a batch and its gradient, without waiting for the device.

The loss is a function of a few means over the examples (:class:`fxnorm.losses.Loss`), of which every process and every
part of a batch contributes its own. So the gradient is that of the whole batch, however it is shared out, for losses
that are no mean over examples too: by the chain rule, it is that of each part's means times the slope of the loss in
the batch's means. The slope takes one pass more without gradients, in which dropout draws what it draws in the other.

``torch.compile`` gets network and loss as one function. Whether that is faster is measured, on the first batch.
"""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fxnorm.errors import FxnormError, first_line
from fxnorm.settings import ResourcesSettings
from fxnorm.training.distributed import Processes
from fxnorm.training.random_state import random_state, set_random_state
from fxnorm.training.tasks import Task

Means = Callable[[Tensor, Tensor], Tensor]
"""Of a part of a batch, stems and mixture, the means that the loss is a function of."""

_WORTH_COMPILING_STEPS = 1_000
"""Compiling takes minutes, which a shorter training does not win back."""
_ROUNDS = 3
"""Of both, eager and compiled, in turns; the fastest counts."""
_AGREEMENT = {False: 1e-3, True: 2e-2}
"""How far loss and norm of the compiled step may be off, relatively, in float32 and with bfloat16."""

_log = logging.getLogger(__name__)


class Gradients:
    """``gradients(stems, mixture)`` leaves the gradient of a batch's loss in the module's parameters.

    Args:
        task: what learns.
        bfloat16: whether the network computes in mixed precision.
        resources: whether it is compiled, and in how many parts a batch is computed.
        processes: each computes an equal part of the batch.
        steps: how many are to come.
        report: takes a line for the user.
    """

    def __init__(
        self,
        task: Task,
        bfloat16: bool,
        resources: ResourcesSettings,
        processes: Processes,
        steps: int,
        report: Callable[[str], None],
    ) -> None:
        self._task = task
        self._bfloat16 = bfloat16
        self._parts = resources.accumulation
        self._processes = processes
        self._device = processes.device
        self._report = report
        self._wrapped = processes.wrap(task.module)
        self._means: Means = self._eager
        self._to_compile = resources.compile is True or (
            resources.compile == "auto" and is_worth_compiling(self._device, steps)
        )
        self._must_compile = resources.compile is True

    def __call__(self, stems: Tensor, mixture: Tensor) -> Tensor:
        """The loss of the batch of all processes, on the device, where this process's part of it is."""
        if self._to_compile:
            self._to_compile = False
            self._means = self._compiled_if_better(stems, mixture)
        return self._of(self._means, stems, mixture)

    def output_and_target(
        self, module: Callable[[Tensor], Tensor], stems: Tensor, mixture: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What ``module`` makes of stems on the device, in single precision, and what it is compared with."""
        with torch.autocast(self._device.type, torch.bfloat16) if self._bfloat16 else contextlib.nullcontext():
            output = module(stems)
        return output.float(), self._task.target(stems, mixture)

    def _eager(self, stems: Tensor, mixture: Tensor) -> Tensor:
        return self._task.loss.means(*self.output_and_target(self._wrapped, stems, mixture))

    def _of(self, means: Means, stems: Tensor, mixture: Tensor) -> Tensor:
        loss, count = self._task.loss, self._processes.count
        if self._parts == 1:
            # the backward pass takes the mean of the gradients over the processes; wanted is their sum
            value = loss.of_means(self._processes.mean(means(stems, mixture)))
            (value if count == 1 else value * count).backward()
            return value.detach()
        parts = list(zip(stems.chunk(self._parts), mixture.chunk(self._parts), strict=True))
        found, states = list[Tensor](), list[dict[str, Tensor]]()
        if not loss.is_mean:
            with torch.no_grad():
                for part in parts:
                    states.append(random_state(self._device))
                    found.append(means(*part))
            slope = self._slope(self._mean(found))
        for number, part in enumerate(parts):
            if states:
                set_random_state(states[number], self._device)
            last = number == len(parts) - 1
            with contextlib.nullcontext() if last else self._unshared():
                own = means(*part)
                if loss.is_mean:
                    found.append(own.detach())
                    slope = self._slope(own.detach())  # whatever they are
                ((own * slope).sum() / self._parts).backward()
        return loss.of_means(self._mean(found))

    def _mean(self, found: list[Tensor]) -> Tensor:
        return self._processes.mean(torch.stack(found).mean(0))

    def _slope(self, means: Tensor) -> Tensor:
        """The gradient of the loss in the means of the batch."""
        means.requires_grad_()
        (slope,) = torch.autograd.grad(self._task.loss.of_means(means), means)
        return slope

    def _unshared(self) -> contextlib.AbstractContextManager[None]:
        """While this lasts, gradients add up in this process, and no other is waited for."""
        if isinstance(self._wrapped, DistributedDataParallel):
            return self._wrapped.no_sync()
        return contextlib.nullcontext()

    def _compile(self) -> Means:
        """Network and loss as one function; of several processes, whose exchange is between them, as two."""
        if self._processes.count == 1:
            return torch.compile(self._eager, dynamic=False)
        wrapped = torch.compile(self._wrapped, dynamic=False)
        means = torch.compile(self._task.loss.means, dynamic=False)
        return lambda stems, mixture: means(*self.output_and_target(wrapped, stems, mixture))

    def _compiled_if_better(self, stems: Tensor, mixture: Tensor) -> Means:
        """What computes the means from now on; the state of the training stays as it is.

        Raises:
            FxnormError: it has to be compiled, and cannot be.
        """
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            try:
                compiled = self._compile()
                self._measured(compiled, stems, mixture)  # compiles
            except Exception as error:  # PyTorch's compilers raise whatever the tools behind them do
                reason = f"{type(error).__name__}: {first_line(error)}"
                if self._must_compile:
                    text = f"resources.compile: torch.compile fails here ({reason}); set auto or false"
                    raise self._processes.agreed(FxnormError(text)) from error
                _log.warning("train: torch.compile fails here, and the steps are not compiled (%s)", reason)
                return self._eager
            finally:
                self._task.module.zero_grad(set_to_none=True)
            if self._must_compile:
                return compiled
            with _without_dropout(self._task.module):  # of which each draws its own
                chosen = self._better(compiled, stems, mixture)
            self._task.module.zero_grad(set_to_none=True)
        return chosen

    def _better(self, compiled: Means, stems: Tensor, mixture: Tensor) -> Means:
        self._measured(compiled, stems, mixture)  # compiles what dropout was a part of once more
        times: dict[str, list[float]] = {"eager": [], "compiled": []}
        values: dict[str, tuple[float, float]] = {}
        for _ in range(_ROUNDS):
            for name, means in (("eager", self._eager), ("compiled", compiled)):
                seconds, *found = self._measured(means, stems, mixture)
                times[name].append(seconds)
                values[name] = (found[0], found[1])
        eager, fast = (1e3 * min(times[name]) for name in ("eager", "compiled"))
        pairs = zip(values["compiled"], values["eager"], strict=True)
        apart = max((abs(ours - theirs) / max(abs(theirs), 1e-30) for ours, theirs in pairs), key=_nan_last)
        agree = apart <= _AGREEMENT[self._bfloat16]
        taken = self._processes.from_first(lambda: agree and fast < eager)
        self._report(
            f"a compiled step takes {fast:.1f} ms instead of {eager:.1f}, its loss and gradient are within {apart:.1g}:"
            f" {'it is taken' if taken else 'it is not taken'}"
        )
        return compiled if taken else self._eager

    def _measured(self, means: Means, stems: Tensor, mixture: Tensor) -> tuple[float, float, float]:
        """Seconds of a step, its loss, and the norm of its gradient."""
        self._task.module.zero_grad(set_to_none=True)
        self._wait()
        start = time.perf_counter()
        loss = self._of(means, stems, mixture)
        self._wait()
        seconds = time.perf_counter() - start
        norm = nn.utils.get_total_norm(p.grad for p in self._task.module.parameters() if p.grad is not None)
        return seconds, float(loss), float(norm)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def is_worth_compiling(device: torch.device, steps: int) -> bool:
    """Whether compiled steps may win back the time that compiling takes."""
    return device.type == "cuda" and steps >= _WORTH_COMPILING_STEPS


def _nan_last(value: float) -> float:
    return math.inf if math.isnan(value) else value


@contextlib.contextmanager
def _without_dropout(module: nn.Module) -> Iterator[None]:
    places: list[tuple[nn.Module, str, float]]
    places = [(part, "dropout", part.dropout) for part in module.modules() if isinstance(part, nn.RNNBase)]
    places += [(part, "p", part.p) for part in module.modules() if isinstance(part, nn.Dropout)]
    try:
        for part, name, _ in places:
            setattr(part, name, 0.0)
        yield
    finally:
        for part, name, probability in places:
            setattr(part, name, probability)

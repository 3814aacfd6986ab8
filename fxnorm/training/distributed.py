"""One training run in several processes, one a GPU, as ``torchrun`` starts them.

Every process holds the whole network and computes an equal part of each batch. What ends the run (a signal, a loss that
is not a number) they decide together: if one process ended alone, the others would wait for it in their next collective
operation until the timeout of 30 minutes.
"""

import contextlib
import datetime
import os
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fxnorm.errors import FxnormError, SettingsError
from fxnorm.models.device import default_device

Value = TypeVar("Value")

_TIMEOUT = datetime.timedelta(minutes=30)
"""How long a process waits for the others; the first one hashes the data and talks to the tracking server alone."""


class Processes:
    """The processes of one run, seen from one of them.

    Args:
        device: where this process computes.
        rank: its number; the first, 0, alone writes and reports.
        count: how many there are.
    """

    def __init__(self, device: torch.device, rank: int = 0, count: int = 1) -> None:
        self.device = device
        self.rank = rank
        self.count = count
        self._agreed: FxnormError | None = None

    @classmethod
    @contextlib.contextmanager
    def joined(cls) -> Iterator["Processes"]:
        """The processes that ``torchrun`` started, or this one alone; NCCL connects CUDA devices, gloo the rest.

        Raises:
            FxnormError: there are more processes on this machine than CUDA devices.
        """
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            yield cls(default_device())
            return
        device = _own_device(int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"]))
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
        processes = cls(device, dist.get_rank(), dist.get_world_size())
        try:
            yield processes
            processes.wait()
        except FxnormError as error:
            if error is not processes._agreed:
                raise  # of this process alone: torchrun ends the others
            processes.wait()  # the others end only after the first process has reported the error
            if processes.rank:
                raise SystemExit(error.exit_status) from error
            raise
        dist.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def equal_part(self, total: int, name: str) -> int:
        """An equal part of ``total``.

        Raises:
            SettingsError: it cannot be divided evenly; the text names it as ``name``.
        """
        if total % self.count:
            raise self.agreed(
                SettingsError(f"{name}: expected a multiple of the {self.count} processes, found {total}")
            )
        return total // self.count

    def wrap(self, module: nn.Module) -> nn.Module:
        """``module`` such that its backward pass takes the mean of the gradients over the processes."""
        if self.count == 1:
            return module
        devices = [self.device] if self.device.type == "cuda" else None
        # its buffers are constants, which need not be sent at each step
        return DistributedDataParallel(module, device_ids=devices, broadcast_buffers=False)

    def mean(self, part: Tensor) -> Tensor:
        """The mean over the processes, on the device; gradients flow into this process's part alone."""
        if self.count == 1:
            return part
        total = part.detach().clone()
        dist.all_reduce(total)
        return (total + (part - part.detach())) / self.count

    def highest(self, *values: int) -> list[int]:
        """Of each value the highest of all processes."""
        return self._reduced(torch.tensor(values), dist.ReduceOp.MAX).tolist()

    def total(self, *values: float) -> list[float]:
        """Of each value the sum over all processes."""
        return self._reduced(torch.tensor(values, dtype=torch.float64), dist.ReduceOp.SUM).tolist()

    def wait(self) -> None:
        """Wait until all processes have called this."""
        self.highest(0)

    def from_all(self, value: Value) -> list[Value]:
        """Every process's value, in the order of their ranks."""
        if self.count == 1:
            return [value]
        values: list[Value] = [value] * self.count
        dist.all_gather_object(values, value)
        return values

    def from_first(self, compute: Callable[[], Value]) -> Value:
        """What the first process computes; an error that a user can cause is raised in all of them."""
        box: list[Value | FxnormError | None] = [None]
        if self.first:
            try:
                box = [compute()]
            except FxnormError as error:
                box = [error]
        if self.count > 1:
            dist.broadcast_object_list(box, src=0)
        (value,) = box
        if isinstance(value, FxnormError):
            raise self.agreed(value)
        return value  # type: ignore[return-value]

    def agreed(self, error: FxnormError) -> FxnormError:
        """``error`` as one that all processes raise together, and that the first alone reports."""
        self._agreed = error
        return error

    def _reduced(self, values: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
        if self.count > 1:
            dist.all_reduce(values, operation)
        return values


def _own_device(local_rank: int, local_count: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if local_count > torch.cuda.device_count():
        raise FxnormError(
            f"torchrun --nproc-per-node {local_count}: expected at most one process a CUDA device, found"
            f" {torch.cuda.device_count()} devices"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)

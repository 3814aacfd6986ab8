"""Batches in memory that is allocated once: readers fill it, and the training process computes from it where it lies.

A reader that hands each batch over as a tensor of its own makes the training process map it, take the page faults of
its first use, and unmap it: milliseconds of each step. Here all batches lie in a ring of slots in shared memory, the
n-th in slot n modulo their number, and what a reader hands over is that number alone.

Nothing is overwritten that is still computed from: PyTorch's loader asks its readers for one more batch only when the
training process asks it for the next one, and by then that process has given back the slot of the batch before. A
reader checks that it has.
"""

import contextlib
import ctypes
import functools
import itertools
import logging
import math
import multiprocessing
import os
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from fxnorm.errors import FxnormError, first_line
from fxnorm.training.interruption import leave_to

PREFETCHED_BATCHES = 2
"""Of each reader."""

_START = "spawn"  # not forked from this process, which runs threads (PyTorch's, MLflow's): such a fork can hang
_ALIGNMENT = 1_024  # numbers of a slot: its start is that of a page of 4 KB, where a batch of its own would lie
_ENDED_READER = "DataLoader worker"  # how PyTorch's errors begin that name a reader's end

_log = logging.getLogger(__name__)


class Examples(Protocol):
    """What is read: lists of numbers to examples, each of tensors of one shape."""

    def __getitems__(self, numbers: list[int]) -> list[Any]:
        """The examples of these numbers, each a tuple of tensors."""


def slots_of(readers: int, device: torch.device) -> int:
    """How many batches there are at once: those that readers prepare, and those that are computed from or copied."""
    return readers * PREFETCHED_BATCHES + _held(device)


def _held(device: torch.device) -> int:
    # while a GPU is given a batch, the copy of the one before it may not have ended
    return 2 if device.type == "cuda" else 1


@contextlib.contextmanager
def readers_errors() -> Iterator[None]:
    """What goes wrong in a reader, as an error of one line.

    Raises:
        FxnormError: an error that a user can cause, without the reader's trace, which PyTorch puts into its text; or a
            reader was ended from outside.
    """
    try:
        yield
    except FxnormError as error:
        lines = str(error).strip().splitlines()
        if len(lines) == 1:
            raise
        raise FxnormError(lines[-1].partition(": ")[2]) from error
    except RuntimeError as error:
        if not str(error).startswith(_ENDED_READER):
            raise
        raise FxnormError(
            f"training: a reader of resources.loader_workers was ended ({first_line(error)}), as the system does where"
            " memory is short; the same command goes on from the newest checkpoint"
        ) from error


class Batch(NamedTuple):
    """A batch in one piece: of all examples the first tensors, then the second ones; and these as they are used."""

    flat: Tensor
    tensors: tuple[Tensor, ...]
    """Each (examples, *shape)."""

    @classmethod
    def of(cls, flat: Tensor, shapes: Sequence[Sequence[int]]) -> "Batch":
        """A batch of examples with tensors of these shapes."""
        lengths = [math.prod(shape) for shape in shapes]
        examples = len(flat) // sum(lengths)
        pieces = flat.split([examples * length for length in lengths])
        return cls(flat, tuple(piece.view(examples, *shape) for piece, shape in zip(pieces, shapes, strict=True)))


class Batches:
    """The batches of a list of examples, again and again: each is valid until the next one is taken.

    For CUDA it is pinned, and valid until the next but one is taken, so that its copy to the device has a step's time.

    Args:
        examples: what is read, here or in the readers.
        shapes: of an example's tensors.
        numbers: of the examples, in their order.
        batch_size: examples of a batch; the last one may have fewer.
        readers: processes that read; 0 reads in this process.
        device: to which batches will be copied.
    """

    def __init__(
        self,
        examples: Examples,
        shapes: Sequence[Sequence[int]],
        numbers: "Sampler[int] | Sequence[int]",
        batch_size: int,
        readers: int,
        device: torch.device,
    ) -> None:
        self.batch_size = batch_size
        self._held = _held(device)
        self._shapes = shapes
        self._length = batch_size * sum(math.prod(shape) for shape in shapes)
        self._ring = _Ring(slots_of(readers, device), self._length, shared=readers > 0)
        if device.type == "cuda":
            self._ring.pin()
        # made once, as nearly all batches are whole
        self._whole = [Batch.of(slot[: self._length], shapes) for slot in self._ring.slots]
        self._loader = DataLoader(
            _Filling(examples, self._ring),
            batch_size=None,
            sampler=_Numbered(numbers, batch_size),
            num_workers=readers,
            worker_init_fn=functools.partial(leave_to, os.getpid()),
            multiprocessing_context=_START if readers else None,
            persistent_workers=readers > 0,
            prefetch_factor=PREFETCHED_BATCHES if readers else None,
            generator=torch.Generator(),  # its own: the loader must not draw from what dropout draws from
        )

    def __iter__(self) -> Iterator[Batch]:
        """All batches; readers begin at once."""
        self._ring.give_back(0)
        return self._of(iter(self._loader))

    def _of(self, filled: "Iterator[tuple[int, int]]") -> Iterator[Batch]:
        for asked_for in itertools.count():
            self._ring.give_back(max(asked_for + 1 - self._held, 0))
            number, length = next(filled, (0, 0))
            if not length:
                return
            batch = self._whole[number % len(self._whole)]
            yield batch if length == self._length else Batch.of(batch.flat[:length], self._shapes)


class _Ring:
    """Slots of equal size in one piece of memory, which readers share with the process that made it.

    Attributes:
        slots: (slots, numbers), at least as many as asked for.

    Args:
        slots: how many batches there are at once.
        numbers: of the largest batch, as float32.
        shared: whether other processes fill it.
    """

    def __init__(self, slots: int, numbers: int, shared: bool) -> None:
        self.slots = torch.empty(slots, -(-numbers // _ALIGNMENT) * _ALIGNMENT)
        self._given_back = multiprocessing.get_context(_START).RawValue(ctypes.c_int64)
        if shared:  # without a name, so that nothing is left of it after its last process, however that ends
            self.slots.share_memory_()

    def pin(self) -> None:
        """Have CUDA copy from it without waiting, as long as it exists."""
        cudart, address = torch.cuda.cudart(), self.slots.data_ptr()
        status = cudart.cudaHostRegister(address, self.slots.nbytes, 0)
        if int(status):
            _log.warning("train: CUDA cannot pin the memory of batches (error %d); steps wait for copies", int(status))
            return
        weakref.finalize(self, cudart.cudaHostUnregister, address).atexit = False  # the system does it then

    def give_back(self, number: int) -> None:
        """Nothing needs the batches before the n-th any more."""
        self._given_back.value = number

    def fill(self, number: int, parts: Sequence[Tensor]) -> int:
        """Put the n-th batch into its slot.

        Returns:
            how many numbers it has.

        Raises:
            RuntimeError: the batch that lies there is not given back.
        """
        overwritten = number - len(self.slots)
        if overwritten >= self._given_back.value:
            raise RuntimeError(f"batch {number} would overwrite batch {overwritten}, which is not given back")
        length = sum(part.numel() for part in parts)
        torch.cat([part.flatten() for part in parts], out=self.slots[number % len(self.slots)][:length])
        return length


class _Filling(Dataset[tuple[int, int]]):
    """Reads batches into a ring; the index is a batch's number and those of its examples."""

    def __init__(self, examples: Examples, ring: _Ring) -> None:
        self._examples = examples
        self._ring = ring

    def __getitem__(self, batch: tuple[int, list[int]]) -> tuple[int, int]:
        number, numbers = batch
        columns = zip(*self._examples.__getitems__(numbers), strict=True)
        return number, self._ring.fill(number, [tensor for column in columns for tensor in column])


class _Numbered(Sampler[tuple[int, list[int]]]):
    """Batches of numbers, each with its own number."""

    def __init__(self, numbers: "Sampler[int] | Sequence[int]", batch_size: int) -> None:
        self._numbers = numbers
        self._batch_size = batch_size

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        yield from enumerate(BatchSampler(self._numbers, self._batch_size, drop_last=False))

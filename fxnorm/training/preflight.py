"""Checks before a training begins: of the sequences' length, the processor's arithmetic, and the shared memory."""

import multiprocessing
import os
from pathlib import Path

import torch
from torch.nn import functional

from fxnorm.constants import SAMPLE_RATE
from fxnorm.errors import FxnormError, SettingsError
from fxnorm.losses import FFT_SIZE, HOP
from fxnorm.models.sizes import INPUT_CHANNELS, OUTPUT_CHANNELS
from fxnorm.settings import ResourcesSettings, TrainSettings
from fxnorm.training.batches import slots_of
from fxnorm.training.distributed import Processes
from fxnorm.training.tasks import Task, guard_frames

_SHARED_MEMORY = Path("/dev/shm")
_LOADERS = 2  # of training and of validation
_SAMPLE_BYTES = 4
_MEGABYTE = 1e6
_BFLOAT16_ERROR = 0.02  # relative; rounding makes 0.003


def check(settings: TrainSettings, resources: ResourcesSettings, task: Task, processes: Processes) -> None:
    """Raise before the work begins what would otherwise fail in the middle of it; all processes raise the same error.

    Raises:
        SettingsError: the batch cannot be divided evenly, by processes or by accumulation, a sequence has no STFT frame
            that the loss can see, or this processor's bfloat16 is not to be trusted.
        FxnormError: the machine has not the shared memory that the readers need.
    """
    local_batch_size = processes.equal_part(settings.batch_size, "train.batch_size")
    if local_batch_size % resources.accumulation:
        raise processes.agreed(
            SettingsError(
                f"resources.accumulation: expected a number that divides the {local_batch_size} examples of a step,"
                f" found {resources.accumulation}"
            )
        )
    processes.from_first(lambda: _check_length(settings, task))
    if settings.precision == "bfloat16" and processes.device.type == "cpu":
        processes.from_first(check_bfloat16)
    if resources.loader_workers:
        local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        readers = resources.loader_workers
        slots = slots_of(readers, processes.device)
        processes.from_first(lambda: _check_shared_memory(settings, readers, slots, local_batch_size, local))


def _check_length(settings: TrainSettings, task: Task) -> None:
    samples = round(settings.sequence_seconds * SAMPLE_RATE)
    shortest = 1 if task.rebuilds_stems else FFT_SIZE + 2 * guard_frames(task.edge_guard) * HOP
    if samples < shortest:
        raise SettingsError(
            f"train.sequence_seconds: expected at least {shortest / SAMPLE_RATE:.4g}, which this network's loss needs,"
            f" found {settings.sequence_seconds:g}"
        )


def check_bfloat16() -> None:
    """Refuse a processor on which PyTorch convolves wrongly in bfloat16.

    With PyTorch 2.13, oneDNN does on processors with AMX, for filters as long as those of CRAFx2's front-end.

    Raises:
        SettingsError: a convolution is further from that in float32 than rounding explains.
    """
    generator = torch.Generator().manual_seed(0)
    audio, filters = (torch.randn(shape, generator=generator) for shape in ((2, 8, 1000), (16, 8, 64)))
    exact = functional.conv1d(audio, filters)
    error = functional.conv1d(audio.bfloat16(), filters.bfloat16()).float() - exact
    if not float(error.norm()) < _BFLOAT16_ERROR * float(exact.norm()):
        raise SettingsError(
            "train.precision: PyTorch's convolutions in bfloat16 are wrong on this processor; set float32, or the"
            " environment's ONEDNN_MAX_CPU_ISA to AVX512_CORE_BF16, which leaves out AMX"
        )


def _check_shared_memory(
    settings: TrainSettings, readers: int, slots: int, local_batch_size: int, processes: int
) -> None:
    samples = round(settings.sequence_seconds * SAMPLE_RATE)
    batch = local_batch_size * (INPUT_CHANNELS + OUTPUT_CHANNELS) * samples * _SAMPLE_BYTES
    needed = processes * _LOADERS * slots * batch
    named = f"resources.loader_workers: the batches of {readers} readers"
    instead = "resources.loader_workers=0, which reads in the training process"
    try:
        multiprocessing.get_context().Semaphore()
        status = os.statvfs(_SHARED_MEMORY)
    except (OSError, ImportError) as error:
        raise FxnormError(
            f"{named} need {needed / _MEGABYTE:.0f} MB of shared memory, and this machine has none"
            f" ({_SHARED_MEMORY}: {error}); set {instead}"
        ) from error
    free = status.f_bavail * status.f_frsize
    if free < needed:
        raise FxnormError(
            f"{named} need {needed / _MEGABYTE:.0f} MB of shared memory, and {_SHARED_MEMORY} has"
            f" {free / _MEGABYTE:.0f} MB free; give the container more (docker run --shm-size, the pipeline's"
            f" shared_memory), or set {instead}"
        )

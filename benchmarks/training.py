"""Training steps: their time, what of it is the device's and what the host's, memory, and bytes read.

    python benchmarks/training.py [--network crafx2] [--sizes demo] [--steps 60] [--compile auto] [--json FILE]

Songs of noise are trained on by the training loop itself, with its readers, on the device that there is. The host's
time is the processor's in runs whose network and loss compute nothing to speak of, so that the loop, the optimizer and
the reading are left: once with two weights, once with as many as the network has, of one number each, over which the
optimizer goes. On a CPU the device is the processor: it counts as busy while this process computes. On CUDA, further
runs measure how long kernels ran (PyTorch's profiler) and how often a step waited for the device. Exit status 1: a
target is missed.
"""

import os

os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import yaml
from torch import Tensor, nn

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.data import dataset
from fxnorm.losses import AbsoluteLoss
from fxnorm.settings import ResourcesSettings, Settings, TrainSettings
from fxnorm.training import loop
from fxnorm.training.checkpoints import Checkpoints
from fxnorm.training.distributed import Processes
from fxnorm.training.interruption import Interruption
from fxnorm.training.tasks import Task, new_network, task

PARAMS = Path(__file__).parents[1] / "params.yaml"
WAVE_U_NET = {"features": 8, "levels": 4}
"""The demo's, which has none: as small as its CRAFx2."""
WARM_UP_STEPS = 10
HOST_MS = 2.0
"""The target for the host's time of a step at the demo's sizes."""
HOST_STEPS = 150
SONGS, SONG_SECONDS = 4, 30


class Stub(nn.Module):
    """So many weights, of one number each, and a mix that takes next to no time."""

    def __init__(self, weights: int) -> None:
        super().__init__()
        self.weights = nn.ParameterList(torch.ones(1) for _ in range(weights))
        self._all = (*self.weights,)  # to look them up takes longer than to compute with them

    def forward(self, stems: Tensor) -> Tensor:
        return stems[:, :2, :64] * torch.cat(self._all).sum()


class StubLoss(AbsoluteLoss):
    def means(self, output: Tensor, target: Tensor) -> Tensor:
        return super().means(output[..., :64], target[..., :64])


@dataclass
class Clock:
    """What passes between the validation after the warm-up and the last step."""

    steps: int
    began: dict[str, float] = field(default_factory=dict)
    passed: dict[str, float] = field(default_factory=dict)

    def validated(self, number: int, loss: float) -> None:
        if number == 0:
            self.began = self._now()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step == WARM_UP_STEPS + self.steps and "train.loss" in values:
            self.passed = {name: value - self.began[name] for name, value in self._now().items()}

    @staticmethod
    def _now() -> dict[str, float]:
        readers = multiprocessing.active_children()
        # a reader is a child of this process; without any, this process reads
        pids = [process.pid for process in readers] or [os.getpid()]
        return {"seconds": time.perf_counter(), "processor": time.process_time(), "read": sum(map(_bytes_read, pids))}


def _bytes_read(pid: int | None) -> int:
    try:
        lines = Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0  # another system
    return int(dict(line.split(": ") for line in lines)["rchar"])


def write_songs(folder: Path) -> None:
    """Float WAV, as ``fxnorm normalize`` writes it."""
    generator = np.random.default_rng(0)
    for split, songs in (("train", SONGS), ("val", 1)):
        for number in range(songs):
            place = folder / split / f"song {number}"
            place.mkdir(parents=True)
            seconds = SONG_SECONDS if split == "train" else 11  # a validation of one sequence
            for name in (*STEMS, "mixture"):
                noise = 0.1 * generator.standard_normal((seconds * SAMPLE_RATE, 2), np.float32)
                soundfile.write(place / f"{name}.wav", noise, SAMPLE_RATE, "FLOAT")


def settings_of(network: str, sizes: str, steps: int, batch_size: int | None) -> TrainSettings:
    """Of a training of so many steps, after those that warm up, with two validations."""
    demo = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))["train"]
    values: dict[str, Any] = {"network": network}
    if sizes == "demo":
        values |= {"sequence_seconds": demo["sequence_seconds"], "batch_size": demo["batch_size"]}
        values["sizes"] = demo["sizes"] if network == "crafx2" else WAVE_U_NET
    elif network == "wave_u_net":
        values["batch_size"] = 1  # as published
    values |= {} if batch_size is None else {"batch_size": batch_size}
    values |= {"warm_up_batches": WARM_UP_STEPS, "batches_per_epoch": steps}
    values["schedule"] = [{"epochs": 1, "learning_rate": 1e-4}]
    return TrainSettings.model_validate(values)


def train(work: Task, settings: TrainSettings, resources: ResourcesSettings, data: Path) -> Clock:
    clock = Clock(settings.batches_per_epoch)
    training_songs, validation_songs = (dataset.songs(data, split) for split in ("train", "val"))
    with tempfile.TemporaryDirectory() as folder, Interruption() as interruption, Processes.joined() as processes:
        loop.train(
            work,
            settings,
            training_songs,
            validation_songs,
            Checkpoints(Path(folder)),
            clock.log,
            resources=resources,
            processes=processes,
            interruption=interruption,
            validated=clock.validated,
        )
    return clock


def measured(settings: TrainSettings, resources: ResourcesSettings, data: Path) -> dict[str, float]:
    cuda, steps = torch.cuda.is_available(), settings.batches_per_epoch
    passed = train(task(new_network(settings), settings), settings, resources, data).passed
    network = task(new_network(settings), settings)
    weights = sum(weight.requires_grad for weight in network.module.parameters())
    memory = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    long = settings.model_copy(update={"batches_per_epoch": HOST_STEPS})
    host = {
        count: train(Task(Stub(count), StubLoss(), edge_guard=network.edge_guard), long, resources, data).passed
        for count in (2, weights)
    }
    found = {
        "ms_per_step": 1e3 * passed["seconds"] / steps,
        "examples_per_second": steps * settings.batch_size / passed["seconds"],
        "busy_percent": 100 * passed["processor"] / passed["seconds"] / torch.get_num_threads(),
        "processor_ms_per_step": 1e3 * passed["processor"] / steps,
        "host_ms_per_step": 1e3 * host[2]["processor"] / HOST_STEPS,
        "host_ms_per_step_all_weights": 1e3 * host[weights]["processor"] / HOST_STEPS,
        "weights": weights,
        "peak_gigabytes": memory / 1e9,
        "megabytes_read_per_second": passed["read"] / 1e6 / passed["seconds"],
        "megabytes_read_per_step": passed["read"] / 1e6 / steps,
    }
    return found | (on_cuda(settings, resources, data) if cuda else {})


def on_cuda(settings: TrainSettings, resources: ResourcesSettings, data: Path) -> dict[str, float]:
    """What of a run's time kernels took, and how often its steps waited, in runs of their own."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        passed = train(task(new_network(settings), settings), settings, resources, data).passed
    kernels = sum(event.self_device_time_total for event in profiler.events() if event.device_type == DeviceType.CUDA)
    share = settings.batches_per_epoch / (settings.batches_per_epoch + WARM_UP_STEPS)  # of the kernels
    step = loop._Run._train_step

    def watched(run: loop._Run, stems: Tensor, mixture: Tensor) -> None:
        torch.cuda.set_sync_debug_mode("warn" if run.step >= WARM_UP_STEPS else "default")
        step(run, stems, mixture)
        torch.cuda.set_sync_debug_mode("default")

    loop._Run._train_step = watched  # type: ignore[method-assign, assignment]
    with warnings.catch_warnings(record=True) as waits:
        warnings.simplefilter("always")
        train(task(new_network(settings), settings), settings, resources, data)
    loop._Run._train_step = step  # type: ignore[method-assign]
    named = [str(wait.message) for wait in waits if "synchroniz" in str(wait.message)]
    return {"busy_percent": min(100 * kernels / 1e6 * share / passed["seconds"], 100.0), "waits": len(named)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=["crafx2", "wave_u_net"], default="crafx2")
    parser.add_argument("--sizes", choices=["demo", "published"], default="demo")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch-size", type=int, help="else the demo's or the published one")
    parser.add_argument("--compile", choices=["auto", "true", "false"], default="auto")
    parser.add_argument("--accumulation", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    settings = settings_of(options.network, options.sizes, options.steps, options.batch_size)
    demo = Settings.load(PARAMS).resources
    choice = {"auto": "auto", "true": True, "false": False}[options.compile]
    changes = {"compile": choice, "accumulation": options.accumulation, "checkpoint_every": 10**9}
    resources = ResourcesSettings.model_validate(demo.model_dump() | changes)
    torch.set_num_threads(resources.threads or torch.get_num_threads())
    with tempfile.TemporaryDirectory() as folder:
        write_songs(Path(folder))
        found = measured(settings, resources, Path(folder))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    missed = []
    if options.sizes == "demo" and found["host_ms_per_step"] > HOST_MS:
        missed.append(f"host {found['host_ms_per_step']:.2f} ms a step, more than {HOST_MS:g}")
    if found.get("waits"):
        missed.append(f"steps waited for the device {found['waits']} times")
    print(
        f"{options.network}, {options.sizes} sizes, {settings.batch_size} x {settings.sequence_seconds:.3g} s, {device}"
    )
    for name, value in found.items():
        print(f"  {name:<28}{value:10.2f}")
    for line in missed:
        print(f"MISSED: {line}")
    if options.json:
        report = {"device": device, "settings": settings.model_dump(mode="json"), "found": found, "missed": missed}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()

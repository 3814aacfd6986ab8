"""Time and memory of CRAFx2 against a plain formulation of it in the same run, on CPU and, if there is one, GPU.

    python benchmarks/networks.py [--seconds 10] [--song-seconds 60] [--song-network NAME] [--threads 2] [--json FILE]
    python benchmarks/networks.py --song-seconds 600 --song-network crafx2

Times are seconds per second of audio, the fastest of some runs that take turns. A song is mixed once, in a process of
its own: its memory is that process's peak, Python and the song's 8 channels included. A mix should keep as many cores
busy as it has threads; where it does not, other processes ran as well, and its time says little.
"""

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fxnorm import models
from fxnorm.constants import SAMPLE_RATE
from fxnorm.losses import StereoLoss
from fxnorm.models import CRAFx2
from fxnorm.models.sizes import INPUT_CHANNELS

REPEATS = 3
RUN_IN_SECONDS = 30
SIZES: dict[str, dict[str, Any]] = {
    "published": {},
    "filters=64": {"filters": 64, "bottleneck": 64, "hidden": 64, "skip": 32, "blocks": 4, "repeats": 2},
    "filters=32": {"filters": 32, "bottleneck": 32, "hidden": 32, "skip": 32, "blocks": 4, "repeats": 2},
}
TARGETS = {"forward": None, "forward and backward": 0.7, "mix": 0.18}
SONG_GIGABYTES = 2.0
"""The target for songs of up to 10 minutes."""
RUN_INS = {"crafx2": RUN_IN_SECONDS, "wave_u_net": 0}
"""Seconds of run-in with which each network mixes a song; the Wave-U-Net has no use for one."""
GPU_BATCH = 4
WAVE_U_NET_SECONDS = 3.5
"""What it mixes at a time."""
WAVE_U_NET_RATIO = 1.8
"""The target for how much longer its forward pass takes, of PyTorch's convolutions."""


def plain_crafx2(network: CRAFx2, stems: Tensor) -> Tensor:
    """CRAFx2 as one would write it down first, with the weights of ``network``; length a multiple of the pooling."""
    filters, smoothing, pooling = network.front_end.filters, network.front_end.smoothing, network.sizes.pooling
    taps = filters.shape[-1]
    left, right = (taps - 1) // 2, taps // 2
    subbands = functional.conv1d(functional.pad(stems, (left, right)), filters)
    padded = functional.pad(subbands.abs(), (taps - 1, taps))
    envelopes = functional.softplus(functional.conv1d(padded, smoothing, groups=len(smoothing)))
    mask = network.latent_mixer(functional.max_pool1d(envelopes, pooling)).repeat_interleave(pooling, -1)
    masked = mask * subbands
    excited = masked * network.excitation(masked.abs().mean(-1))[..., None]
    channels = functional.conv_transpose1d(excited[..., left : excited.shape[-1] - right], filters)
    return torch.tanh(channels.unflatten(1, (-1, 2)).sum(1))


def fastest(runs: dict[str, Callable[[], object]], synchronize: Callable[[], object]) -> dict[str, float]:
    """Seconds of the fastest of some runs of each; they take turns, so that all meet the same machine."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(1 + REPEATS):
        for name, run in runs.items():
            synchronize()
            start = time.perf_counter()
            run()
            synchronize()
            times[name].append(time.perf_counter() - start)
    return {name: min(found[1:]) for name, found in times.items()}


def stems_like(batch: int, seconds: float, device: str) -> Tensor:
    samples = round(seconds * SAMPLE_RATE) // 64 * 64
    return 0.1 * torch.randn(batch, INPUT_CHANNELS, samples, device=device)


def step(forward: Callable[[Tensor], Tensor], network: CRAFx2, stems: Tensor, precision: torch.dtype) -> None:
    network.zero_grad()
    with torch.autocast(stems.device.type, precision, enabled=precision != torch.float32):
        mix = forward(stems)
    StereoLoss("b", guard_frames=1).to(stems.device)(mix, stems[:, :2]).backward()


def measure_cpu(sizes: dict[str, Any], seconds: float) -> dict[str, float]:
    """Seconds per second of audio."""
    network = models.build("crafx2", **sizes)
    assert isinstance(network, CRAFx2)
    stems = stems_like(1, seconds, "cpu")

    plain = partial(plain_crafx2, network)

    def evaluate(forward: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.no_grad():
            return forward(stems)

    runs: dict[str, Callable[[], object]] = {
        "forward": lambda: evaluate(network),
        "forward, plain": lambda: evaluate(plain),
        "mix": lambda: network.mix(stems[0]),
        "forward and backward": lambda: step(network, network, stems, torch.float32),
        "forward and backward, plain": lambda: step(plain, network, stems, torch.float32),
    }
    return {name: found / seconds for name, found in fastest(runs, lambda: None).items()}


def measure_wave_u_net() -> dict[str, float]:
    """Seconds per second of audio, and how many times longer a forward pass takes than a mix."""
    network = models.build("wave_u_net").eval()
    stems = stems_like(1, WAVE_U_NET_SECONDS, "cpu")

    def forward() -> Tensor:
        with torch.no_grad():
            return network(stems)

    runs: dict[str, Callable[[], object]] = {"mix": lambda: network.mix(stems[0]), "forward": forward}
    found = {name: value / WAVE_U_NET_SECONDS for name, value in fastest(runs, lambda: None).items()}
    return found | {"ratio": found["forward"] / found["mix"]}


def measure_gpu(sizes: dict[str, Any], seconds: float) -> dict[str, float]:
    """Milliseconds per training step of a batch of 4."""
    network = models.build("crafx2", **sizes).to("cuda")
    assert isinstance(network, CRAFx2)
    stems = stems_like(GPU_BATCH, seconds, "cuda")
    runs: dict[str, Callable[[], object]] = {}
    for precision in (torch.float32, torch.bfloat16):
        name = str(precision).removeprefix("torch.")
        runs[f"{name} step"] = partial(step, network, network, stems, precision)
        runs[f"{name} step, plain"] = partial(step, partial(plain_crafx2, network), network, stems, precision)
    return {name: 1e3 * found for name, found in fastest(runs, torch.cuda.synchronize).items()}


def mix_song(name: str, seconds: float, threads: int) -> dict[str, float]:
    torch.set_num_threads(threads)
    network = models.build(name).eval()
    song = torch.empty(INPUT_CHANNELS, round(seconds * SAMPLE_RATE)).normal_(0, 0.1)
    run_in = min(RUN_INS[name], seconds)
    start, busy_start = time.perf_counter(), time.process_time()
    network.mix(song, run_in=round(run_in * SAMPLE_RATE))
    elapsed, busy = time.perf_counter() - start, time.process_time() - busy_start
    return {
        "seconds": seconds,
        "run_in_seconds": run_in,
        "per_second": elapsed / seconds,
        "per_processed_second": elapsed / (seconds + run_in),
        "busy_cores": busy / elapsed,
        "peak_gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }


def measure_song(name: str, seconds: float, threads: int) -> dict[str, float]:
    """:func:`mix_song` in a fresh process."""
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(mix_song, name, seconds, threads).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--song-seconds", type=float, default=60.0)
    parser.add_argument("--song-network", choices=list(RUN_INS), help="mix a song with this network only")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    report: dict[str, Any] = {"threads": arguments.threads, "songs": {}, "cpu": {}, "gpu": {}}
    print(f"Songs of {arguments.song_seconds:g} s, {arguments.threads} threads, seconds per second of audio")
    # First of all: on Linux a new process starts with the peak memory of the one that starts it.
    for name in [arguments.song_network] if arguments.song_network else RUN_INS:
        song = report["songs"][name] = measure_song(name, arguments.song_seconds, arguments.threads)
        aim = f" (target {TARGETS['mix']})" if name == "crafx2" else ""
        print(
            f"  {name:<12}{song['per_processed_second']:.3f}{aim} of the song and its run-in of "
            f"{song['run_in_seconds']:g} s, {song['per_second']:.3f} of the song alone; "
            f"{song['busy_cores']:.2f} cores busy; peak {song['peak_gigabytes']:.2f} GB (target {SONG_GIGABYTES:g})",
            flush=True,
        )
    print(f"CPU, {arguments.threads} threads, {arguments.seconds:g} s, seconds per second of audio")
    for name, sizes in SIZES.items():
        found = report["cpu"][name] = measure_cpu(sizes, arguments.seconds)
        for what, target in TARGETS.items():
            plain = found.get(f"{what}, plain")
            notes = [f"plain {plain:.3f}"] if plain else []
            notes += [f"target {target}"] if target and name == "published" else []
            print(f"  {name:<12}{what:<24}{found[what]:.3f}  {', '.join(notes)}", flush=True)
    found = report["wave_u_net"] = measure_wave_u_net()
    print(
        f"  wave_u_net  mix {found['mix']:.3f}, a forward pass {found['forward']:.3f}: {found['ratio']:.2f} times"
        f" (target {WAVE_U_NET_RATIO})",
        flush=True,
    )
    if torch.cuda.is_available():
        print(f"GPU, {torch.cuda.get_device_name()}, {GPU_BATCH} x {arguments.seconds:g} s, ms")
        for name, sizes in SIZES.items():
            found = report["gpu"][name] = measure_gpu(sizes, arguments.seconds)
            print(f"  {name:<12}" + "  ".join(f"{what} {value:.1f}" for what, value in found.items()), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

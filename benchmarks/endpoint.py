"""The endpoint under load: throughput, latency, errors and memory at several numbers of clients.

A real server process (``mlflow models serve``) on this machine's loopback mixes songs of noise with a network of random
weights. Before the first and after every number of clients, ``Mixer.mix`` is called alone in this process for as long:
on a machine with other work, only figures beside each other compare, and processor time a song does so better than
songs a minute. At the end the first number of clients comes once more: memory that the server keeps shows there.
The exit status is 1 where a target is missed. Nothing leaves this machine.

``--watched PAIRS`` measures something else: a server with metrics, request log and another model in the shadow against
one without, in turn, each for ``--seconds``; and how long a scrape of the metrics takes meanwhile. Songs of 5 s do
(``--song-seconds``).
"""

import argparse
import base64
import binascii
import contextlib
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch

from fxnorm import Mixer, models
from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.effects.impulse_responses import ImpulseResponses
from fxnorm.errors import FxnormError
from fxnorm.io import audio
from fxnorm.normalization.recipe import Recipe
from fxnorm.registry import served_model
from fxnorm.settings import NormalizeSettings
from fxnorm.statistics import DatasetStatistics, measure_stem

NETWORKS: dict[str, dict[str, Any]] = {
    "published": {},
    "demo": {"filters": 32, "bottleneck": 64, "hidden": 64, "skip": 32, "blocks": 4, "repeats": 2, "squeeze_ratio": 4},
}
RUN_IN_SECONDS = {"published": 30.0, "demo": 5.0}
TEXT = (
    "{clients} clients: {songs} songs, {songs_per_minute:.2f} a minute, Mixer.mix alone {alone_per_minute:.2f}: "
    "{throughput:.0%} (target 90%)\n"
    "  processor time {processor_seconds:.1f} s a song, alone {alone_processor_seconds:.1f}: {processor:.0%}\n"
    "  p50 {p50_seconds:.1f} s, p95 {p95_seconds:.1f} s{few}, errors {error_count} (target 0)\n"
    "  memory at most {peak_mb:.0f} MB, last third of the time over the second {growth:+.1%} (target at most 5%)"
)
TEXT_AGAIN = (
    "  memory over the most that as many clients or more took before {kept:+.1%} (target at most 5%), "
    "over the first time {over_first:+.1%}"
)
THROUGHPUT = 0.9
GROWTH = 0.05
FEW = 20
"""Songs under which a 95th percentile is that of hardly any."""
WATCHED = 0.98
SCRAPE_SECONDS = 0.2
SCRAPE_PAUSE = 5.0
TEXT_WATCHED = (
    "{clients} clients, {pairs} pairs: watched over not watched, songs a minute: median {throughput:.3f} "
    "(95% interval {low:.3f} to {high:.3f}, target 0.98), processor time a song {processor:.3f}\n"
    "  scrapes: {scrapes}, median {scrape_median:.3f} s, longest {scrape_longest:.3f} s (target 0.2 s); errors "
    "{error_count} (target 0); in the shadow {shadow:.0f} songs, lines of the log {lines}"
)
SERVER_TIMEOUT = 3_600
START_SECONDS = 300


def noise(seconds: float, seed: int) -> np.ndarray:
    """Stereo noise that swells, so that it has onsets: float32 (2, samples)."""
    samples = round(seconds * SAMPLE_RATE)
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * 2 * np.arange(samples) / SAMPLE_RATE)
    return (0.1 * swell * np.random.default_rng(seed).standard_normal((2, samples))).astype(np.float32)


def make_mixer(network: str) -> Mixer:
    songs = DatasetStatistics()
    for seed in range(3):
        for number, stem in enumerate(STEMS):
            songs.add(stem, measure_stem(noise(5.0, 10 * seed + number), SAMPLE_RATE, stem))
    rooms = ImpulseResponses.synthesized()
    recipe = Recipe(songs, NormalizeSettings(), rooms, rooms, {"digest": "noise"})
    torch.manual_seed(0)
    built = models.build("crafx2", **NETWORKS[network]).eval()
    return Mixer(recipe, built, RUN_IN_SECONDS[network], torch.device("cpu"))


def watching(folder: Path) -> dict[str, str]:
    """Variables of a server that watches all there is, with the model in ``folder`` as the other one too."""
    import mlflow

    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = mlflow.MlflowClient(uri, uri)
    client.create_registered_model("noise")
    version = client.create_model_version("noise", (folder / "model").as_uri()).version
    client.set_registered_model_alias("noise", "challenger", version)
    return {
        "MLFLOW_TRACKING_URI": uri,
        "FXNORM_REQUEST_LOG": str(folder / "requests.jsonl"),
        "FXNORM_SHADOW": "models:/noise@challenger",
        "FXNORM_SHADOW_SHARE": "1",
    }


@contextlib.contextmanager
def serving(
    mixer: Mixer, threads: int, variables: Callable[[Path], dict[str, str]] = lambda folder: {}
) -> Iterator[tuple[str, int]]:
    """A server of the mixer, with variables that depend on its folder: its address and its process's id."""
    import mlflow

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mixer.save(folder / "mixer")
        mlflow.pyfunc.save_model(str(folder / "model"), **served_model.contents(folder / "mixer"))
        command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder / "model"), "-p", str(port)]
        command += ["--env-manager", "local", "--timeout", str(SERVER_TIMEOUT)]
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PATH": programs} | variables(folder)
        with open(folder / "log", "wb") as log:
            server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(address, server, folder / "log")
            yield address, served_by(port)
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait()


def wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(START_SECONDS):
        if server.poll() is not None:
            break
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/ping", timeout=5):
            return
        time.sleep(1)
    raise SystemExit(f"the server did not start\n{log.read_text()}")


def served_by(port: int) -> int:
    """The process whose command line has uvicorn and the port."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().split(b"\0")
            if str(port).encode() in command and any(part.endswith(b"uvicorn") for part in command):
                return int(process.name)
    raise SystemExit(f"no server at port {port}")


def memory_mb(process: int) -> float:
    """Resident memory now."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024 / 1e6


def processor_seconds(process: int) -> float:
    """Time that a process has spent on all cores."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def request_body(stems: dict[str, np.ndarray]) -> bytes:
    files = {
        stem: base64.b64encode(audio.encode(samples, SAMPLE_RATE, ".wav", subtype="PCM_16")).decode()
        for stem, samples in stems.items()
    }
    return json.dumps({"dataframe_records": [files]}).encode()


@dataclass
class Load:
    """What some clients saw.

    Attributes:
        latencies: seconds of each answered request.
        errors: what the others were answered.
        memory: the server's resident megabytes, once a second.
        elapsed: seconds until the last answer.
        processor: seconds on all cores that the server spent.
    """

    latencies: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    elapsed: float = 0.0
    processor: float = 0.0

    def growth(self) -> float:
        """Peak of the last third over that of the second: the first is the warm-up."""
        third = max(1, len(self.memory) // 3)
        return max(self.memory[-third:]) / max(self.memory[third : 2 * third]) - 1


def fault_of(content: bytes, samples: int) -> str | None:
    """What is wrong with an answer, which shall hold a mix of so many samples that is not silent."""
    try:
        mix, _ = audio.decode(base64.b64decode(json.loads(content)["predictions"][0]["mix"]), "mix")
    except (ValueError, KeyError, IndexError, TypeError, binascii.Error, FxnormError) as error:
        return f"an answer without a mix ({error!r})"
    if mix.shape != (2, samples) or not mix.any():
        return f"a mix of shape {mix.shape}, peak {audio.peak_dbfs(mix):.0f} dBFS"
    return None


def said(error: urllib.error.HTTPError) -> str:
    """The status and the beginning of what the server said with it."""
    try:
        return f"{error.code}: {error.read().decode('utf-8', 'replace')[:200]}"
    except (OSError, http.client.HTTPException) as broken:
        return f"{error.code}: {broken!r}"


def load(
    address: str, process: int, body: bytes, samples: int, clients: int, seconds: float, look_seconds: float = 1.0
) -> Load:
    """Let ``clients`` post one song of so many samples after another for so long; each waits for its answer."""
    found = Load()
    start, spent = time.perf_counter(), processor_seconds(process)

    def ask() -> None:
        request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": "application/json"})
        asked = 0.0
        while not asked or time.perf_counter() - start < seconds:  # each asks once at least
            asked = time.perf_counter()
            try:
                with urllib.request.urlopen(request, timeout=SERVER_TIMEOUT) as answer:
                    content = answer.read()
                took = time.perf_counter() - asked
                if (fault := fault_of(content, samples)) is None:
                    found.latencies.append(took)
                else:
                    found.errors.append(fault)
            except urllib.error.HTTPError as error:
                found.errors.append(said(error))
            except (OSError, http.client.HTTPException) as error:
                found.errors.append(repr(error))

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        found.memory.append(memory_mb(process))
        time.sleep(look_seconds)
    found.elapsed, found.processor = time.perf_counter() - start, processor_seconds(process) - spent
    return found


def scrape(address: str) -> tuple[float, str]:
    """Seconds that the metrics took, and their text."""
    start = time.perf_counter()
    with urllib.request.urlopen(f"{address}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    return time.perf_counter() - start, text


def counted(text: str, name: str, **labels: str) -> float:
    """The sum of a metric's values that have these labels."""
    return sum(
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith((f"{name}{{", f"{name} "))
        and all(f'{key}="{value}"' in line for key, value in labels.items())
    )


@contextlib.contextmanager
def scraping(address: str, found: list[float]) -> Iterator[None]:
    """Scrape within the block, three times as often as ``deploy/monitoring`` does, and note how long it took."""
    end = threading.Event()

    def keep_on() -> None:
        while not end.wait(SCRAPE_PAUSE):
            found.append(scrape(address)[0])

    thread = threading.Thread(target=keep_on)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def compare_watched(
    mixer: Mixer, threads: int, body: bytes, samples: int, clients: int, pairs: int, seconds: float
) -> dict[str, Any]:
    """Load a server that watches for some seconds, then one that does not, and so on; one of them runs at a time.

    Of two servers side by side, the one that waits would mix for the other model, as it does where nobody asks.
    """
    songs: dict[str, list[float]] = {"plain": [], "watched": []}
    processor: dict[str, list[float]] = {"plain": [], "watched": []}
    scrapes: list[float] = []
    errors: list[str] = []
    shadow = lines = 0.0
    for pair in range(pairs):
        for name in ("plain", "watched") if pair % 2 else ("watched", "plain"):
            folders: list[Path] = []

            def variables(
                folder: Path, watched: bool = name == "watched", folders: list[Path] = folders
            ) -> dict[str, str]:
                folders.append(folder)
                return watching(folder) if watched else {"FXNORM_METRICS": "0"}

            with serving(mixer, threads, variables) as (address, process):
                load(address, process, body, samples, clients, 1.0)
                with scraping(address, scrapes) if name == "watched" else contextlib.nullcontext():
                    turn = load(address, process, body, samples, clients, seconds)
                errors += turn.errors
                songs[name].append(len(turn.latencies) / turn.elapsed)
                processor[name].append(turn.processor / max(len(turn.latencies), 1))
                if name == "watched":
                    shadow += counted(scrape(address)[1], "fxnorm_shadow_songs_total", outcome="compared")
                    lines += len((folders[0] / "requests.jsonl").read_text().splitlines())
    ratios = [watched / plain for plain, watched in zip(songs["plain"], songs["watched"], strict=True)]
    costs = [watched / plain for plain, watched in zip(processor["plain"], processor["watched"], strict=True)]
    # other work of the machine makes some pairs useless: the median does not mind, and its interval is bootstrapped
    interval = scipy.stats.bootstrap((ratios,), np.median, rng=np.random.default_rng(0)).confidence_interval
    return {
        "clients": clients, "pairs": pairs, "throughput": statistics.median(ratios),
        "low": float(interval.low), "high": float(interval.high), "processor": statistics.median(costs),
        "scrapes": len(scrapes), "scrape_median": statistics.median(scrapes), "scrape_longest": max(scrapes),
        "errors": errors, "error_count": len(errors), "shadow": shadow, "lines": lines,
    }  # fmt: skip


def missed_watched(found: dict[str, Any]) -> list[str]:
    """The targets that watching missed, in words."""
    targets = {
        f"throughput {found['throughput']:.1%} of a server that does not watch": found["throughput"] >= WATCHED,
        f"a scrape took {found['scrape_longest']:.2f} s": found["scrape_longest"] <= SCRAPE_SECONDS,
        f"{found['error_count']} errors": found["error_count"] == 0,
    }
    return [words for words, met in targets.items() if not met]


def songs_alone(mixer: Mixer, stems: dict[str, np.ndarray], seconds: float) -> tuple[float, float]:
    """Songs per minute of ``Mixer.mix`` by itself, and its processor seconds per song."""
    start, spent = time.perf_counter(), time.process_time()
    songs = 0
    while not songs or time.perf_counter() - start < seconds:
        mixer.mix(stems, SAMPLE_RATE)
        songs += 1
    return 60 * songs / (time.perf_counter() - start), (time.process_time() - spent) / songs


def summary(clients: int, found: Load, alone: list[float]) -> dict[str, Any]:
    """The figures of one number of clients beside those of ``Mixer.mix`` before and after."""
    songs = len(found.latencies)
    if songs < 2:
        raise SystemExit(f"{clients} clients: {songs} songs in time, too few to say anything; errors: {found.errors}")
    centiles = statistics.quantiles(found.latencies, n=20, method="inclusive")
    return {
        "clients": clients,
        "songs": songs,
        "songs_per_minute": 60 * songs / found.elapsed,
        "alone_per_minute": alone[0],
        "throughput": 60 * songs / found.elapsed / alone[0],
        "processor_seconds": found.processor / songs,
        "alone_processor_seconds": alone[1],
        "processor": alone[1] * songs / found.processor,
        "p50_seconds": centiles[9],
        "p95_seconds": centiles[18],
        "few": f" (of {songs} songs, too few for a percentile)" if songs < FEW else "",
        "errors": found.errors,
        "error_count": len(found.errors),
        "peak_mb": max(found.memory),
        "growth": found.growth(),
    }


def missed(level: dict[str, Any]) -> list[str]:
    """The targets that one number of clients missed, in words."""
    targets = {
        f"throughput {level['throughput']:.0%} of Mixer.mix alone": level["throughput"] >= THROUGHPUT,
        f"{level['error_count']} errors": level["error_count"] == 0,
        f"memory grew by {level['growth']:+.1%}": level["growth"] <= GROWTH,
        f"{level.get('kept', 0.0):+.1%} of memory kept": level.get("kept", 0.0) <= GROWTH,
    }
    return [f"{level['clients']} clients: {words}" for words, met in targets.items() if not met]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="for each number of clients")
    parser.add_argument("--song-seconds", type=float, default=30.0)
    parser.add_argument("--network", choices=list(NETWORKS), default="published")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--watched", type=int, metavar="PAIRS", help="compare with a server that watches, so often")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    mixer = make_mixer(arguments.network)
    stems = {stem: noise(arguments.song_seconds, 100 + number) for number, stem in enumerate(STEMS)}
    body = request_body(stems)
    print(
        f"CRAFx2 of {arguments.network} size, random weights, run-in {mixer.run_in_seconds:g} s, {arguments.threads} "
        f"threads; songs of {arguments.song_seconds:g} s, requests of {len(body) / 1e6:.0f} MB",
        flush=True,
    )
    samples = max(stem.shape[1] for stem in stems.values())
    report: list[dict[str, Any]] = []
    if arguments.watched:
        for clients in arguments.clients:
            pairs = compare_watched(
                mixer, arguments.threads, body, samples, clients, arguments.watched, arguments.seconds
            )
            report.append(pairs)
            print(TEXT_WATCHED.format(**pairs), flush=True)
        return ended(arguments.json, report, [fault for pairs in report for fault in missed_watched(pairs)])
    with serving(mixer, arguments.threads) as (address, process):
        songs_alone(mixer, stems, 0)
        load(address, process, body, samples, 1, 0.001)
        before = songs_alone(mixer, stems, arguments.seconds)
        print(f"Mixer.mix alone: {before[0]:.2f} songs a minute, {before[1]:.1f} s of processor each", flush=True)
        for clients in [*arguments.clients, arguments.clients[0]]:
            found = load(address, process, body, samples, clients, arguments.seconds)
            after = songs_alone(mixer, stems, arguments.seconds)
            level = summary(clients, found, [statistics.mean(pair) for pair in zip(before, after, strict=True)])
            print(TEXT.format(**level), flush=True)
            if len(report) == len(arguments.clients):  # the first number once more
                before_mb = [other["peak_mb"] for other in report if other["clients"] >= clients]
                level["kept"] = level["peak_mb"] / max(before_mb) - 1
                level["over_first"] = level["peak_mb"] / before_mb[0] - 1
                print(TEXT_AGAIN.format(**level), flush=True)
            report.append(level)
            before = after
    return ended(arguments.json, report, [fault for level in report for fault in missed(level)])


def ended(file: Path | None, report: list[dict[str, Any]], faults: list[str]) -> int:
    """Write the report, say what was missed; gives the exit status."""
    if file:
        file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for fault in faults:
        print(f"target missed: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

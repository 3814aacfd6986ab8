"""How training reads normalized songs: WAV and FLAC, from the disk and from an object store.

    python benchmarks/reading.py [--seconds 240] [--songs 4] [--crops 40] [--crop-seconds 10] [--delay 0.2]
    python benchmarks/reading.py --train 8 --songs 16 --seconds 30

Songs are a rendered demo song, repeated and at the loudness of normalized ones. The store is a process of its own that
serves files in ranges as S3 does and does nothing else: moto's test server takes more of the processor than training.
Times are of the reader's processor, and by the clock, which counts the store's delay; 4 crops are a batch.
"""

import argparse
import multiprocessing
import os
import re
import shutil
import statistics
import tempfile
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from fxnorm import models
from fxnorm.constants import MIXTURE, SAMPLE_RATE, STEMS
from fxnorm.data import published
from fxnorm.data.splits import read_splits
from fxnorm.demo.dataset import render_dataset
from fxnorm.effects import loudness
from fxnorm.io import audio, remote
from fxnorm.io.blocks import BlockCache
from fxnorm.losses import StereoLoss
from fxnorm.settings import Settings
from fxnorm.training.data import RandomCrops

BATCH = 4
_SKIPPED = 12  # steps: what the reader holds of the next
_CATCHING_UP, _TURN = 3, 8  # steps
LEVELS = {"vocals": -25.0, "bass": -30.0, "drums": -28.0, "other": -30.0, MIXTURE: -14.0}  # LUFS


class Store(BaseHTTPRequestHandler):
    """Objects as files of a folder, to be read in ranges."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a header waits for its content
    folder = Path()
    delay = 0.0

    def do_GET(self) -> None:
        time.sleep(self.delay)
        path, size = self._path(), self._path().stat().st_size
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
        assert match is not None
        start, stop = int(match[1]), min(int(match[2]) + 1, size)
        self.send_response(206)
        self.send_header("ETag", '"stored"')
        self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        self.wfile.flush()
        with open(path, "rb") as file:
            self.connection.sendfile(file, start, stop - start)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""

    def _path(self) -> Path:
        return self.folder / urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).lstrip("/")


def serve(folder: Path, delay: float, port: Any) -> None:
    """Serve until the process is ended."""
    Store.folder, Store.delay = folder, delay
    server = ThreadingHTTPServer(("127.0.0.1", 0), Store)
    port.value = server.server_address[1]
    server.serve_forever()


def started(folder: Path, delay: float) -> tuple[multiprocessing.Process, str]:
    """A store and its address; before this process has threads."""
    port = multiprocessing.Value("i", 0)
    process = multiprocessing.Process(target=serve, args=(folder, delay, port), daemon=True)
    process.start()
    while not port.value:
        time.sleep(0.05)
    return process, f"http://127.0.0.1:{port.value}"


def use(address: str) -> None:
    """Read from this store."""
    names = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ.update({"AWS_ENDPOINT_URL": address, **names})
    remote._made.clear()


def songs(folder: Path, count: int, seconds: float) -> list[dict[str, np.ndarray]]:
    """Stems and mixtures of a demo song, repeated and from another place on in each, as loud as normalized ones."""
    render_dataset(folder, songs={"train": 1, "val": 0, "test": 0, "dry": 0}, seconds=(20.0, 20.0))
    (song,) = (folder / "wet/train").iterdir()
    made: list[dict[str, np.ndarray]] = [{} for _ in range(count)]
    for name in (*STEMS, MIXTURE):
        samples = loudness.match(audio.read(song / f"{name}.wav")[0], SAMPLE_RATE, LEVELS[name])
        repeated = np.tile(samples, int(np.ceil(seconds * SAMPLE_RATE / samples.shape[1])))
        for number, files in enumerate(made):
            files[name] = np.roll(repeated, number * SAMPLE_RATE, axis=1)[:, : round(seconds * SAMPLE_RATE)]
    return made


def written(made: list[dict[str, np.ndarray]], folder: Path, suffix: str) -> None:
    """Normalized songs as the stage writes them; prints what that costs."""
    began, size = time.process_time(), 0
    for number, files in enumerate(made):
        for name, samples in files.items():
            target = folder / "train" / f"song {number}" / f"{name}{suffix}"
            audio.write(target, samples, subtype="PCM_24", seek_table=True)
            size += target.stat().st_size
        (folder / "train" / f"song {number}" / "digest").write_text("x\n")
    minutes = sum(files[MIXTURE].shape[1] for files in made) / SAMPLE_RATE / 60
    seconds = time.process_time() - began
    print(f"{suffix[1:]:5} {size / 1e6 / minutes:7.1f} MB and {seconds / minutes:6.2f} s of encoding a minute of song")


def read(name: str, folder: Path, count: int, cache: BlockCache | None, samples: int) -> None:
    """Read batches; prints what a crop costs."""
    moved, requests, lock = 0, 0, threading.Lock()
    stretch = remote._stretch

    def counted(file: remote.RemoteFile, start: int, length: int) -> bytes:
        nonlocal moved, requests
        with lock:
            moved, requests = moved + length, requests + 1
        return stretch(file, start, length)

    remote._stretch = counted
    crops = RandomCrops(read_splits(folder, ("train",), cache)["train"], samples, 0, True)
    crops.__getitems__(list(range(BATCH)))  # imports, clients
    moved = requests = 0
    processor, clock, waits = time.process_time(), time.perf_counter(), []
    for first in range(BATCH, BATCH + count, BATCH):
        began = time.perf_counter()
        crops.__getitems__(list(range(first, first + BATCH)))
        waits.append(time.perf_counter() - began)
    remote._stretch = stretch
    processor, clock = time.process_time() - processor, time.perf_counter() - clock
    print(
        f"{name:26} {1e3 * processor / count:7.1f} ms of the processor and {1e3 * clock / count:7.1f} ms a crop,"
        f" {moved / 1e6 / count:6.2f} MB in {requests / count:5.1f} requests;"
        f" longest batch {1e3 * max(waits):6.0f} ms, median {1e3 * statistics.median(waits):6.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--songs", type=int, default=4)
    parser.add_argument("--crops", type=int, default=40)
    parser.add_argument("--crop-seconds", type=float, default=10.0)
    parser.add_argument("--delay", type=float, default=0.2)
    parser.add_argument("--train", type=int, default=0, metavar="TURNS", help="train instead, at the demo's size")
    arguments = parser.parse_args()
    samples = round(arguments.crop_seconds * SAMPLE_RATE)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        stores = {delay: started(work / "store", delay) for delay in (0.0, arguments.delay)}
        made = songs(work / "demo", arguments.songs, arguments.seconds)
        if arguments.train:
            trainings(made, work, stores, arguments.train)
        for suffix in () if arguments.train else (".wav", ".flac"):
            folder = work / suffix[1:]
            written(made, folder, suffix)
            read(f"{suffix[1:]}, disk", folder, arguments.crops, None, samples)
            publish(folder, work / "store")
            size = sum(file.stat().st_size for file in (work / "store").rglob(f"*{suffix}"))
            for delay in (0.0, arguments.delay):
                cache = BlockCache(work / f"cache{suffix}{delay}", size // 10)
                cache.prepare()
                use(stores[delay][1])
                title = f"{suffix[1:]}, store, {1e3 * delay:.0f} ms"
                read(title, folder, arguments.crops, cache, samples)
            warm = BlockCache(work / f"warm{suffix}", 10**11)
            warm.prepare()
            use(stores[0.0][1])
            for state in ("filling", "warm"):
                read(f"{suffix[1:]}, store, {state} cache", folder, arguments.crops, warm, samples)
        for process, _ in stores.values():
            process.terminate()


class Training:
    """A training as the demo's settings say, in turns with others, so that what else the machine does meets all.

    Args:
        folder: of normalized songs.
        cache: of those in a store.
    """

    def __init__(self, folder: Path, cache: BlockCache | None) -> None:
        settings = Settings.load(Path(__file__).parents[1] / "params.yaml")
        samples = round(settings.train.sequence_seconds * SAMPLE_RATE)
        self._network = models.build(settings.train.network, **settings.train.sizes)
        self._loss = StereoLoss(settings.train.loss)
        self._optimizer = torch.optim.Adam(self._network.parameters(), 1e-3, amsgrad=True)
        crops = RandomCrops(read_splits(folder, ("train",), cache)["train"], samples, 0, True)
        # more than are asked for: there is something to read ahead up to the last step
        loader = DataLoader(crops, BATCH, sampler=range(10**6), num_workers=1, multiprocessing_context="spawn")
        others = set(multiprocessing.active_children())
        self._batches = iter(loader)
        (self._reader,) = set(multiprocessing.active_children()) - others
        self.waits: list[float] = []
        self.times: list[float] = []
        self.processor: list[float] = []

    def turn(self, steps: int) -> float:
        """Train, after some steps in which the reader catches up; the mean seconds of a step."""
        for step in range(-_CATCHING_UP, steps):
            if step == 0:
                processor = self._used()
            began = time.perf_counter()
            stems, mixture = next(self._batches)
            learnt = time.perf_counter()
            self._optimizer.zero_grad()
            self._loss(self._network(stems), mixture).backward()
            self._optimizer.step()
            if step >= 0:
                self.waits.append(learnt - began)
                self.times.append(time.perf_counter() - began)
        self.processor.append((self._used() - processor) / steps)
        return statistics.mean(self.times[-steps:])

    def _used(self) -> float:
        """Seconds of the processor of this process and the reader."""
        fields = Path(f"/proc/{self._reader.pid}/stat").read_text().rpartition(")")[2].split()
        return time.process_time() + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def trainings(made: list[dict[str, np.ndarray]], work: Path, stores: dict[float, Any], turns: int) -> None:
    """Train from the disk and from the stores, with a cache of a tenth of the songs, by turns.

    The stores have a core of their own, as they are elsewhere: the trainings and their readers have the others.
    """
    cores = sorted(os.sched_getaffinity(0))
    local = work / "train.wav"
    written(made, local, ".wav")
    size = sum(file.stat().st_size for file in local.rglob("*.wav"))
    folders = {delay: work / f"published{delay}" for delay in stores}
    for delay, folder in folders.items():
        shutil.copytree(local, folder)
        publish(folder, work / "store")
        process = stores[delay][0]
        os.sched_setaffinity(process.pid, cores[-1:])
    os.sched_setaffinity(0, cores[:-1] or cores)
    torch.set_num_threads(max(len(cores) - 1, 1))
    disk, remotes = Training(local, None), {}
    disk.turn(_SKIPPED)
    for delay, folder in folders.items():
        use(stores[delay][1])
        cache = BlockCache(work / f"training{delay}", size // 10)
        cache.prepare()
        remotes[delay] = Training(folder, cache)
        remotes[delay].turn(_SKIPPED)  # its reader is a process that has the address now
    shares: dict[float, list[float]] = {delay: [] for delay in stores}
    for _ in range(turns):
        for delay, training in remotes.items():
            before, there, after = disk.turn(_TURN), training.turn(_TURN), disk.turn(_TURN)
            shares[delay].append((before + after) / 2 / there)
    for delay, training in remotes.items():
        share, all_shares = statistics.median(shares[delay]), " ".join(f"{100 * s:.1f}" for s in sorted(shares[delay]))
        processor = statistics.median(training.processor) / statistics.median(disk.processor)
        print(
            f"store, {1e3 * delay:.0f} ms: {100 * share:5.1f} % of the disk's speed (median of {all_shares}), with"
            f" {100 * processor:.1f} % of its processor time;"
            f" {100 * sum(training.waits) / sum(training.times):.2f} % of a step are waiting for songs,"
            f" from the disk {100 * sum(disk.waits) / sum(disk.times):.2f} %"
        )


def publish(folder: Path, store: Path) -> None:
    """Put songs where the store has them."""
    digests = dict.fromkeys((folder / "train").iterdir(), "x")
    for song in published.upload(folder, str(store / "bench"), "0" * 64, digests):
        shutil.rmtree(song.folder)
    listing = published.read(folder)
    assert listing is not None
    listing.address = listing.address.replace(str(store), "s3:/")
    for published_song in listing.songs["train"].values():
        for name, content in published_song.files.items():
            published_song.files[name] = content._replace(tag='"stored"')
    published.write(folder, listing)


if __name__ == "__main__":
    main()

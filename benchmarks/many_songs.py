"""A catalogue of 100,000 songs on its way through the pipeline's tasks, without its audio: time and memory.

    python benchmarks/many_songs.py [--songs 100000] [--shards 1000] [--json FILE]

A DVC repository tracks songs of five files that do not exist, as only their list is read. Listed are its songs, divided
into shards, and found by each shard; then a thousand shards' statistics are merged (of a few songs, whose file is read
again and again), their lists of normalized songs put together, and crops of all of them drawn. Each step has a process
of its own, whose memory is measured. The exit status is 1 where a target is missed.
"""

import argparse
import hashlib
import json
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

TARGET_SECONDS, TARGET_GB = 600.0, 2.0
SPLITS = {"train": 0.96, "val": 0.02, "test": 0.02}
FILES = ("vocals", "bass", "drums", "other", "mixture")
MERGED = "statistics.npz"
STATISTICS_FILES = 4
"""Different files of statistics: those of a thousand shards would be 14 GB."""


def make_repository(folder: Path, songs: int, shards: int) -> None:
    """A git repository with DVC's list of a data set."""
    entries, first = [], 0
    for split, share in SPLITS.items():
        for number in range(first, first := first + round(songs * share)):
            for name in FILES:
                path = f"wet/{split}/Song {number:06}/{name}.wav"
                entries.append({"md5": hashlib.md5(path.encode()).hexdigest(), "relpath": path})
    content = json.dumps(entries).encode()
    digest = f"{hashlib.md5(content).hexdigest()}.dir"
    for command in (["git", "init", "--quiet"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
        subprocess.run(command, cwd=folder, check=True)
    cached = folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    cached.parent.mkdir(parents=True)
    cached.write_bytes(content)
    tracked = f"outs:\n- md5: {digest}\n  nfiles: {len(entries)}\n  hash: md5\n  path: data\n"
    (folder / "data.dvc").write_text(tracked)
    author = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@example.org"]
    for command in (["git", "add", "."], ["git", *author, "commit", "--quiet", "--message", "Songs"]):
        subprocess.run(command, cwd=folder, check=True)


def list_songs(folder: Path, songs: int, shards: int) -> None:
    """The task ``list-songs``."""
    from fxnorm.stages import fetch

    repository = str(folder)
    fetch.list_songs(repository, fetch.resolve(repository, "HEAD")).save(folder / fetch.LISTING_FILE)


def divide(folder: Path, songs: int, shards: int) -> None:
    """The tasks ``refuse-unfit`` and ``divide``."""
    from fxnorm.data.listing import Listing
    from fxnorm.settings import Settings
    from fxnorm.stages import fetch

    listing, settings = Listing.load(folder / fetch.LISTING_FILE), Settings()
    fetch.refuse_unfit(listing, settings, tested=False)
    for stage in ("check", "statistics", "normalize"):
        assert len(fetch.divide(listing, settings, stage, shards)) == shards


def find_shards(folder: Path, songs: int, shards: int) -> None:
    """What each shard does before it brings its songs; the list is read once here, and by each shard there."""
    from fxnorm.data.dataset import shard_of
    from fxnorm.data.listing import Listing
    from fxnorm.stages import fetch

    listing = Listing.load(folder / fetch.LISTING_FILE)
    found = 0
    for number in range(1, shards + 1):
        part = shard_of(listing.layout("wet").present(["train", "val"]), (number, shards))
        found += sum(listing.files[listing.name_of(path)].md5 is not None for song in part for path in song.files)
    assert found == len(FILES) * (round(songs * SPLITS["train"]) + round(songs * SPLITS["val"]))


def merge_statistics(folder: Path, songs: int, shards: int) -> None:
    """The task ``merge-statistics``."""
    from fxnorm.constants import STEMS
    from fxnorm.effects.features import SHAPES
    from fxnorm.stages import statistics
    from fxnorm.statistics import DatasetStatistics

    generator = np.random.default_rng(0)
    for number in range(STATISTICS_FILES):
        part = DatasetStatistics()
        for _ in range(max(songs // shards, 1)):
            for stem in STEMS:
                part.add(stem, {effect: generator.uniform(0.1, 0.9, shape) for effect, shape in SHAPES.items()})
        part.save(folder / f"part{number}.npz")
    start = time.perf_counter()
    statistics.merge([folder / f"part{number % STATISTICS_FILES}.npz" for number in range(shards)], folder / MERGED)
    megabytes = (folder / MERGED).stat().st_size / 1e6
    print(f"  of which merging {time.perf_counter() - start:.1f} s, parts of {megabytes:.1f} MB")


def gather_songs(folder: Path, songs: int, shards: int) -> None:
    """The beginning of the task ``train``: lists of the shards' songs in a store, put together and drawn from."""
    from fxnorm.data import published
    from fxnorm.data.dataset import digest
    from fxnorm.data.splits import read_splits
    from fxnorm.effects.impulse_responses import ImpulseResponses
    from fxnorm.normalization.recipe import RECIPE_FOLDER, Recipe
    from fxnorm.settings import NormalizeSettings
    from fxnorm.stages import normalize
    from fxnorm.statistics import DatasetStatistics
    from fxnorm.training.data import RandomCrops

    statistics = DatasetStatistics.load(folder / MERGED)
    responses = ImpulseResponses.synthesized()
    recipe = Recipe(statistics, NormalizeSettings(), responses, responses, {"digest": "stub"})
    (folder / RECIPE_FOLDER).mkdir()
    recipe.save(folder / RECIPE_FOLDER)
    recipe_digest = recipe.digest(folder / RECIPE_FOLDER)
    names = {
        split: [f"Song {number:06}" for number in range(round(songs * SPLITS[split]))] for split in ("train", "val")
    }
    for shard in range(shards):
        part = folder / f"shard{shard}"
        part.mkdir()
        (part / RECIPE_FOLDER).symlink_to(folder / RECIPE_FOLDER)
        listed = {
            split: {name: _stored(f"{split}/{name}") for name in of_split[shard::shards]}
            for split, of_split in names.items()
        }
        published.write(part, published.Listing(address="s3://songs/stub", recipe=recipe_digest, songs=listed))
    start = time.perf_counter()
    normalize.gather([folder / f"shard{shard}" for shard in range(shards)], folder / "normalized")
    training, validation = read_splits(folder / "normalized", ("train", "val")).values()
    assert len(training) + len(validation) == sum(map(len, names.values()))
    digest(training)
    crops = RandomCrops(training, 441_000, 0, swap_channels=True)
    drawn = {crops.song_of(number) for number in range(10_000)}
    print(f"  of which gathering and drawing {time.perf_counter() - start:.1f} s; {len(drawn)} songs in 10,000 crops")


def _stored(name: str) -> Any:
    from fxnorm.data.published import Content, StoredSong

    files = {
        f"{file}.wav": Content(hashlib.sha256(f"{name}/{file}".encode()).hexdigest(), 63_504_044, 10_584_000, "tag")
        for file in FILES
    }
    return StoredSong(digest=hashlib.sha256(name.encode()).hexdigest(), files=files)


def schedule(folder: Path, songs: int, shards: int) -> None:
    """The pipeline compiled, and the parameters by which it loops over the shards."""
    from fxnorm.data.dataset import shard_names
    from fxnorm.pipeline import graph
    from fxnorm.pipeline.cluster import Cluster

    graph.compile_to(folder / "pipeline.yaml", Cluster())
    size = len(json.dumps(shard_names(list(range(songs)), shards)))  # type: ignore[arg-type]
    print(f"  {(folder / 'pipeline.yaml').stat().st_size / 1e3:.0f} kB of YAML, {size / 1e3:.0f} kB of names of shards")


STEPS: tuple[Callable[[Path, int, int], None], ...] = (
    make_repository, list_songs, divide, find_shards, merge_statistics, gather_songs, schedule,
)  # fmt: skip
PREPARATION = {"make_repository"}
"""Steps that make up what is worked on."""


def measured(step: Callable[[Path, int, int], None], *arguments: Any) -> tuple[float, float]:
    """Seconds and peak gigabytes of a step in a process of its own."""
    receiving, sending = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(sending, step, arguments))
    process.start()
    sending.close()
    try:
        found: tuple[float, float] = receiving.recv()
    except EOFError:
        raise SystemExit(f"{step.__name__} failed") from None
    process.join()
    return found


def _run(sending: Any, step: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    start = time.perf_counter()
    step(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    sending.send((time.perf_counter() - start, peak))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=100_000)
    parser.add_argument("--shards", type=int, default=1_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    report = {}
    with tempfile.TemporaryDirectory() as name:
        for step in STEPS:
            seconds, gigabytes = measured(step, Path(name), arguments.songs, arguments.shards)
            print(f"{step.__name__:20} {seconds:7.1f} s {gigabytes:6.2f} GB", flush=True)
            report[step.__name__] = {"seconds": seconds, "gigabytes": gigabytes}
        listing = next(Path(name).glob("listing*")).stat().st_size
    worked = {step: values for step, values in report.items() if step not in PREPARATION}
    total = sum(values["seconds"] for values in worked.values())
    most = max(values["gigabytes"] for values in worked.values())
    print(
        f"{total:.0f} s in all (target {TARGET_SECONDS:.0f}), at most {most:.2f} GB (target {TARGET_GB:g});"
        f" the list of the songs is {listing / 1e6:.1f} MB"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return int(total > TARGET_SECONDS or most > TARGET_GB)


if __name__ == "__main__":
    sys.exit(main())

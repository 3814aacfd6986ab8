"""Songs in an object store: training reads them in ranges, through a cache with a bound, as if they lay on disk.

Real HTTP: moto's S3 behind a gate that counts requests, waits, fails, breaks off and is silent.
"""

import contextlib
import functools
import json
import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from torch.utils.data import DataLoader

from fxnorm.cli import main
from fxnorm.constants import SAMPLE_RATE
from fxnorm.data import dataset, published
from fxnorm.data.splits import read_splits
from fxnorm.errors import DatasetError, SettingsError, StoreError
from fxnorm.io import audio, remote
from fxnorm.io.blocks import BlockCache
from fxnorm.mixing.mixer import mixer_digest
from fxnorm.stages import normalize
from fxnorm.training.data import RandomCrops, Sequences, StoredSong
from fxnorm.training.interruption import Interruption
from tests.commands import fxnorm
from tests.conftest import SIZES, noise
from tests.mixers import keep_averages
from tests.servers import s3_behind
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.system

ADDRESS = "s3://fxnorm/songs"
SAMPLES = SAMPLE_RATE
BOUND = 2_000_000


class Gate:
    """In front of an S3 store: counts what is read of objects, and answers badly when it is told to."""

    def __init__(self, store: Callable[..., Iterable[bytes]]) -> None:
        self.store = store
        self.clear()

    def clear(self) -> None:
        self.reads = 0
        self.bytes = 0
        self.seconds = 0.0
        self.failing: Callable[[int], str | None] = lambda number: None
        self.open = threading.Event()
        self.open.set()

    def __call__(self, request: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if "HTTP_RANGE" not in request:
            return self.store(request, start)
        self.reads += 1
        time.sleep(self.seconds)
        self.open.wait()
        status = self.failing(self.reads)
        if status == "broken off":
            return list(self.store(request, start))[:1] and [b"too short"]
        if status is not None:
            start(status, [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>later</Message></Error>"]
        content = list(self.store(request, start))
        self.bytes += sum(map(len, content))
        return content


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Gate, str]]:
    with s3_behind(Gate) as (gate, address):
        yield gate, address
        gate.open.set()


@pytest.fixture
def gate(served: tuple[Gate, str], monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate, address = served
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "tests")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(remote, "_made", {})
    monkeypatch.setattr(remote, "_heads", remote._Heads())
    monkeypatch.setattr(remote, "_FIRST_PAUSE", 0.01)
    boto3.client("s3").create_bucket(Bucket="fxnorm")
    gate.clear()
    return gate


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, mixer_folder: Path) -> Path:
    """Normalized songs, half of them FLAC, one of them mono in part and longer than its other files; not written to."""
    from fxnorm.normalization.recipe import Recipe

    folder = tmp_path_factory.mktemp("local") / "normalized"
    for number, song in enumerate(("train/A", "train/B", "train/C", "val/D")):
        suffix = ".flac" if number % 2 else ".wav"
        for index, name in enumerate(("vocals", "bass", "drums", "mixture")):
            samples = noise(6.0 + (index == 1), 0.3, 10 * number + index, channels=1 if index == 2 else 2)
            audio.write(folder / song / f"{name}{suffix}", samples, subtype="PCM_24", seek_table=True)
        (folder / song / "digest").write_text(f"{number:064} flac\n")
    (folder / "recipe").mkdir()
    Recipe.load(mixer_folder).save(folder / "recipe")
    keep_averages(folder / "recipe/statistics.npz", folder / "recipe/statistics.npz")
    return folder


@pytest.fixture
def folder(local: Path, tmp_path: Path, gate: Gate) -> Path:
    """The same songs in the store, and the folder that lists them."""
    shutil.copytree(local, tmp_path / "published")
    normalize.publish(tmp_path / "published", ADDRESS)
    gate.clear()
    return tmp_path / "published"


def crops(folder: Path, cache: BlockCache | None = None) -> RandomCrops:
    return RandomCrops(read_splits(folder, ("train", "val"), cache)["train"], SAMPLES, seed=1, swap_channels=True)


def same(one: Iterable[tuple[torch.Tensor, ...]], other: Iterable[tuple[torch.Tensor, ...]]) -> bool:
    pairs = [(a, b) for first, second in zip(one, other, strict=True) for a, b in zip(first, second, strict=True)]
    return all(torch.equal(a, b) for a, b in pairs)


def read_ahead(*examples: RandomCrops | Sequences) -> bool:
    """Whether all is read that was begun before it is asked for."""
    begun = [stretches for each in examples for stretches in each._ahead._begun.values()]
    return all(stretch.done() for stretches in begun for stretch in stretches)


def on_disk(cache: BlockCache) -> int:
    total = 0
    for file in cache.folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            total += file.stat().st_blocks * 512 if len(file.name) > 10 else 0
    return total


def test_a_published_folder_keeps_a_list_and_has_the_digests_of_its_songs(local: Path, folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["recipe", "stored.json"]
    for split in ("train", "val"):
        ours = read_splits(folder, ("train", "val"))[split]
        assert dataset.digest(ours) == dataset.digest(dataset.songs(local, split))
    keys = sorted(item.key for item in boto3.resource("s3").Bucket("fxnorm").objects.all())
    shutil.copytree(local, folder.parent / "again")
    normalize.publish(folder.parent / "again", ADDRESS)
    assert sorted(item.key for item in boto3.resource("s3").Bucket("fxnorm").objects.all()) == keys
    assert (folder.parent / "again/stored.json").read_bytes() == (folder / "stored.json").read_bytes()


def test_crops_and_sequences_are_those_of_the_disk_and_a_warm_cache_reads_nothing_again(
    local: Path, folder: Path, gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = BlockCache(tmp_path / "cache", 10**9)
    cache.prepare()
    numbers = [[number, number + 1] for number in range(0, 12, 2)]
    expected = [example for batch in numbers for example in crops(local).__getitems__(batch)]
    for again in (False, True):
        ours = crops(folder, cache)
        assert same(expected, [example for batch in numbers for example in ours.__getitems__(batch)])
        sequences = Sequences(read_splits(folder, ("train", "val"), cache)["val"], SAMPLES)
        of_the_disk = Sequences(dataset.songs(local, "val"), SAMPLES)
        assert same(sequences.__getitems__([0, 5, 6]), [of_the_disk[number] for number in (0, 5, 6)])
        assert gate.reads > 0 or again
        until(functools.partial(read_ahead, ours, sequences))
        gate.clear()
        monkeypatch.setattr(remote, "_heads", remote._Heads())  # as in another process
    assert gate.reads == 0


def test_a_stretch_of_a_file_is_one_request(folder: Path, gate: Gate) -> None:
    for song in map(StoredSong, read_splits(folder, ("train", "val"))["train"]):  # WAV and FLAC
        song.read(0, 1_000)  # the files' headers, which are kept
        gate.clear()
        song.read(SAMPLES, 3 * SAMPLES)
        assert gate.reads == 4


def test_the_cache_keeps_its_bound_with_several_readers_and_damage_is_read_again(
    local: Path, folder: Path, gate: Gate, tmp_path: Path
) -> None:
    cache = BlockCache(tmp_path / "cache", BOUND)
    cache.prepare()
    most = 0
    loader = DataLoader(crops(folder, cache), 2, sampler=range(40), num_workers=2, multiprocessing_context="spawn")
    read = []
    for batch in loader:
        read.append(batch)
        # one that gets its name meanwhile may be counted under both: several times in a row that is no chance
        most = max(most, min(on_disk(cache) for _ in range(5)))
    assert BOUND / 2 < most <= BOUND
    assert same(DataLoader(crops(local), 2, sampler=range(40)), read)
    for file in cache.folder.glob("blocks-1/*/*"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    assert same(crops(local).__getitems__([0, 1]), crops(folder, cache).__getitems__([0, 1]))


@pytest.mark.parametrize("status", ["503 Slow Down", "500 Internal Server Error", "broken off"])
def test_a_store_that_fails_is_asked_again(local: Path, folder: Path, gate: Gate, status: str) -> None:
    gate.failing = lambda number: status if number % 3 else None
    assert same(crops(local).__getitems__([0, 1]), crops(folder).__getitems__([0, 1]))


def test_a_silence_is_said_once_and_ended_once(
    local: Path,
    folder: Path,
    gate: Gate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(remote, "_QUIET_SECONDS", 0.1)
    monkeypatch.setattr("fxnorm.io.object_store._RANGE_READ_SECONDS", 0.3)
    cache = BlockCache(tmp_path / "cache", 10**9)
    cache.prepare()
    gate.open.clear()

    def open_once_it_is_said() -> None:
        until(lambda: caplog.records)
        gate.open.set()

    opening = threading.Thread(target=open_once_it_is_said)
    opening.start()
    with caplog.at_level(logging.WARNING):
        assert same(crops(local).__getitems__([0, 1]), crops(folder, cache).__getitems__([0, 1]))
    opening.join()
    assert [record.getMessage().count("answers again") for record in caplog.records] == [0, 1]


def test_patience_ends_in_one_line_that_names_the_object(
    folder: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PATIENCE_SECONDS", 0.2)
    gate.failing = lambda number: "503 Slow Down"
    with pytest.raises(
        StoreError, match=rf"^{ADDRESS}/\w+/\w\w/\w+\.(wav|flac): cannot be read \(.*asked for 0 minutes$"
    ):
        crops(folder)[0]


@pytest.mark.parametrize("how", ["another", "shorter", "gone", "not audio"])
def test_an_object_that_changed_is_an_error_that_names_it(folder: Path, gate: Gate, how: str) -> None:
    songs = read_splits(folder, ("train", "val"))["train"]
    file = songs[0].remote(songs[0].stems["bass"])
    assert file is not None
    item = boto3.resource("s3").Object(*file.address.removeprefix("s3://").split("/", 1))
    content = item.get()["Body"].read()
    if how == "gone":
        item.delete()
    elif how == "not audio":  # published so
        listing = json.loads((folder / "stored.json").read_text())
        item.put(Body=bytes(len(content)))
        listing["songs"]["train"]["A"]["files"]["bass.wav"][3] = item.e_tag
        item.reload()
        listing["songs"]["train"]["A"]["files"]["bass.wav"][3] = item.e_tag
        (folder / "stored.json").write_text(json.dumps(listing))
        songs = read_splits(folder, ("train", "val"))["train"]
    else:
        item.put(Body=content[: -1 if how == "shorter" else None][::-1])
    try:
        for read in (lambda: Sequences(songs[:1], SAMPLES)[0], songs[0].read_stems):
            with pytest.raises(DatasetError) as caught:
                read()
            assert str(caught.value).startswith(f"{file.address}: ") and "\n" not in str(caught.value)
    finally:
        item.put(Body=content)


def test_a_folder_that_machines_share_is_a_store_too(local: Path, tmp_path: Path) -> None:
    shutil.copytree(local, tmp_path / "published")
    with pytest.raises(SettingsError, match="expected s3://BUCKET/PREFIX or an absolute path"):
        normalize.publish(tmp_path / "published", "relative")
    normalize.publish(tmp_path / "published", str(tmp_path / "shared"))
    assert same(crops(local).__getitems__([0, 1]), crops(tmp_path / "published").__getitems__([0, 1]))


def test_lists_of_shards_become_one(local: Path, tmp_path: Path) -> None:
    parts = []
    for name in ("A", "B", "C", "D"):
        parts.append(tmp_path / name)
        split = "val" if name == "D" else "train"
        shutil.copytree(local / "recipe", parts[-1] / "recipe")
        shutil.copytree(local / split / name, parts[-1] / split / name)
        if name != "C":  # which stays where it is
            normalize.publish(parts[-1], str(tmp_path / "shared"))
    (tmp_path / "gathered").mkdir()
    normalize.gather(parts, tmp_path / "gathered")
    assert normalize.merge(parts, tmp_path / "merged") == []
    for folder in (tmp_path / "gathered", tmp_path / "merged"):
        assert same(crops(local).__getitems__([0, 1, 2, 3]), crops(folder).__getitems__([0, 1, 2, 3]))
    with pytest.raises(DatasetError, match="another shard has train/A as well"):
        published.merged([parts[0], parts[0]])


def test_a_signal_ends_the_wait_for_a_store() -> None:
    with Interruption() as interruption:
        begun, never = threading.Event(), threading.Event()

        def wait() -> bool:
            begun.set()
            return never.wait(PATIENCE)

        def tell() -> None:
            begun.wait()
            os.kill(os.getpid(), signal.SIGTERM)

        teller = threading.Thread(target=tell)
        teller.start()
        assert list(interruption.before_signals(iter(wait, None))) == []
        teller.join()
        assert interruption.signal_number == signal.SIGTERM


def test_training_from_the_store_is_that_from_the_disk_and_goes_on_with_it(
    local: Path, folder: Path, gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    settings = {"sizes": dict(SIZES), "sequence_seconds": 0.25, "batch_size": 2, "batches_per_epoch": 3}
    settings |= {"warm_up_batches": 1, "schedule": [{"epochs": 2, "learning_rate": 1e-3}]}
    resources = {"loader_workers": 0, "cache_folder": str(tmp_path / "cache"), "cache_gb": 0.002}
    Path("params.yaml").write_text(yaml.safe_dump({"train": settings, "resources": resources}))
    gate.seconds = 0.02
    for source, output in ((local, "disk"), (folder, "store")):
        result = CliRunner().invoke(main, ["train", str(source), output])
        assert result.exit_code == 0, result.output
    assert mixer_digest(Path("disk")) == mixer_digest(Path("store"))
    assert Path("disk/static_mix.json").read_bytes() == Path("store/static_mix.json").read_bytes()
    names = [[path.name for path in Path(f"{output}-checkpoints").iterdir()] for output in ("disk", "store")]
    assert names[0] == names[1], "a checkpoint of one is gone on from with the other"
    assert gate.reads > 0


def test_normalize_does_published_songs_not_again_and_flac_has_the_samples_of_wav(
    make_song: Callable[..., Path], tmp_path: Path
) -> None:
    for name, seed in (("train/A", 1), ("train/B", 2), ("val/C", 3)):
        make_song(f"dataset/{name}", seconds=1.0, seed=seed)
    fxnorm("statistics", tmp_path / "dataset", tmp_path / "s.npz")
    keep_averages(tmp_path / "s.npz", tmp_path / "s.npz")
    command = ("normalize", tmp_path / "dataset", tmp_path / "s.npz")
    options = ("--set", "normalize.effects=[loudness]")
    fxnorm(*command, tmp_path / "wav", *options)
    out = tmp_path / "flac"
    fxnorm(*command, out, *options, "--set", "normalize.format=flac")
    for song in dataset.songs(tmp_path / "wav"):
        for path in song.files:
            twin = (out / path.relative_to(tmp_path / "wav")).with_suffix(".flac")
            assert np.array_equal(audio.read(path)[0], audio.read(twin)[0])
    assert (out / "recipe/normalization.json").read_bytes() == (tmp_path / "wav/recipe/normalization.json").read_bytes()
    assert not list(out.glob("*/*/*.wav"))
    normalize.publish(out, str(tmp_path / "shared"))
    before = (out / "stored.json").read_bytes()
    fxnorm(*command, out, *options, "--set", "normalize.format=flac")
    assert not list(out.glob("*/*/*.flac")) and (out / "stored.json").read_bytes() == before
    shutil.rmtree(tmp_path / "dataset/train/B")
    fxnorm(*command, out, *options, "--set", "normalize.format=flac")
    listing = published.read(out)
    assert listing is not None and [*listing.songs["train"]] == ["A"]

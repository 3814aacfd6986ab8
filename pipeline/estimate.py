"""What a run of the pipeline takes: songs, hours of audio, bytes that are moved, memory, disk and time of each task.

Songs and their number are known from DVC's list of files; bytes and lengths are those of a sample of the songs. The
processor's time and the memory of measuring, normalizing and mixing are what was measured on one core at 2.5 GHz
(``docs/datasets.md``, ``docs/catalogues.md``), those of an evaluation beside its mixes and the memory of a training are
assumed: all are a first guess of what a node takes.
"""

import math
from dataclasses import dataclass
from typing import Any

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.data.dataset import Song
from fxnorm.data.listing import Listing
from fxnorm.pipeline.cluster import Cluster
from fxnorm.pipeline.parameters import Parameters
from fxnorm.settings import Settings, TrainSettings
from fxnorm.stages import fetch
from fxnorm.tracking import speeds

_SAMPLED = 24  # songs
_GB = 1e9
_GIB = 2**30

# of one core, a second of song: four stems
_CHECK_SECONDS, _STATISTICS_SECONDS, _NORMALIZE_SECONDS = 0.01, 0.01, 0.02
_MIX_SECONDS = {"crafx2": 0.07, "wave_u_net": 0.4, "console": 0.02}
_EVALUATE_FACTOR = 1.5  # mixes of two sums and the static mix, metrics and pictures beside the network's

_PROCESS_GB, _SECOND_GB = 0.6, 0.001  # of a process that measures or normalizes: without a song, a second of its song
_MIXING_GB, _MIXING_SECOND_GB = 0.75, 0.0025
_TRAINING_GB = 4.0  # main memory of a training process and its readers

_BYTES_A_SECOND = SAMPLE_RATE * 2 * 3 * (len(STEMS) + 1)  # normalized songs: stereo, 24 bits
_FLAC = 0.5
_STATISTICS_GB = 0.011  # a part
_SHARED_OUT = ("check", "statistics", "normalize")


@dataclass(frozen=True)
class Row:
    """What one of the pipeline's tasks takes.

    Attributes:
        task: its name.
        tasks: how many of it there are.
        read: GB that each reads from stores.
        written: GB that each writes to stores.
        hours: of one core, or of the accelerator for the training, each; None where it is not known.
        memory: GB that each needs.
        disk: GB that each has on its node, artifacts among them.
    """

    task: str
    tasks: int
    read: float
    written: float
    hours: float | None
    memory: float
    disk: float


@dataclass(frozen=True)
class Estimate:
    """What a run takes.

    Attributes:
        songs: number of songs by dataset and split, such as ``wet/train``.
        hours: of audio, of all songs.
        gigabytes: of all their files.
        longest: seconds of the longest song that was looked at.
        sampled: how many songs were looked at.
        rows: by task.
        training: what the training's hours are from.
    """

    songs: dict[str, int]
    hours: float
    gigabytes: float
    longest: float
    sampled: int
    rows: tuple[Row, ...]
    training: str

    @property
    def moved(self) -> float:
        """GB that all tasks together read from stores and write to them."""
        return sum(row.tasks * (row.read + row.written) for row in self.rows)

    def memory(self) -> str:
        """For ``memory`` in ``cluster.yaml``: what the largest task but the training needs."""
        return _gibibytes(max(row.memory for row in self.rows if row.task != "train"))

    def disk(self) -> str:
        """For ``disk`` in ``cluster.yaml``: the most songs that one of these tasks brings, without its artifacts."""
        return _gibibytes(max(row.read for row in self.rows if row.task in (*_SHARED_OUT, "evaluate")))

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "songs": self.songs, "hours": self.hours, "gigabytes": self.gigabytes, "moved_gigabytes": self.moved,
            "longest_seconds": self.longest, "sampled_songs": self.sampled, "training": self.training,
            "tasks": [vars(row) for row in self.rows], "memory": self.memory(), "disk": self.disk(),
        }  # fmt: skip

    def text(self) -> str:
        """As a table."""
        head = [
            f"{', '.join(f'{count:,} songs of {name}' for name, count in self.songs.items())}",
            f"{self.hours:,.1f} hours, {self.gigabytes:,.1f} GB; the longest of {self.sampled} songs has"
            f" {self.longest:.0f} s",
            "",
            f"{'task':18}{'tasks':>6}{'read GB':>10}{'written GB':>12}{'hours':>9}{'memory GB':>11}{'disk GB':>9}",
        ]
        lines = [
            f"{row.task:18}{row.tasks:6,}{row.read:10,.2f}{row.written:12,.2f}"
            f"{'?' if row.hours is None else format(row.hours, ',.2f'):>9}{row.memory:11,.1f}{row.disk:9,.1f}"
            for row in self.rows
        ]
        return "\n".join([
            *head, *lines, "",
            f"each of its tasks; {self.moved:,.1f} GB are moved in all. Hours are of one core; train: {self.training}",
            f"cluster.yaml: memory: {self.memory()}, disk: {self.disk()}",
        ])  # fmt: skip


def estimate(listing: Listing, parameters: Parameters, cluster: Cluster) -> Estimate:
    """What a run on the songs of a listing takes. A sample of its files is read: headers, or whole where those tell
    no length.

    Raises:
        DatasetError: songs that a stage needs are missing, or files of the sample cannot be read.
        FxnormError: the tracking server, which is asked for the speed of earlier trainings, does not answer.
    """
    settings = Settings.of(parameters.settings)
    fetch.refuse_unfit(listing, settings)
    shards = {stage: len(fetch.divide(listing, settings, stage, parameters.shards)) for stage in _SHARED_OUT}
    songs = {
        f"{dataset}/{split}" if split else dataset: len(part)
        for dataset, layout in listing.layouts.items()
        for split, part in (layout.splits or {"": layout.flat}).items()
    }
    every = [song for layout in listing.layouts.values() for song in layout.songs]
    sample = _evenly(every, _SAMPLED)
    looked = fetch.look_at(listing, sample)
    seconds = sum(one.seconds for one in looked) / len(looked)
    gigabytes = sum(one.bytes for one in looked) / len(looked) / _GB
    longest = max(one.seconds for one in looked)
    wet = listing.layout("wet")
    counts = {
        "check": len(wet.present(settings.check.splits)),
        "statistics": len(wet.of(settings.statistics.split)),
        "normalize": sum(len(wet.of(split)) for split in settings.normalize.splits),
        "evaluate": sum(len(layout.of(settings.evaluate.split)) for layout in listing.layouts.values()),
    }
    processes = max(1, math.floor(_cores(cluster.cpu)))
    measuring = processes * (_PROCESS_GB + _SECOND_GB * longest)
    hours, origin = _training_hours(settings)
    listed = len(listing.files) * 60e-9  # GB: a hash and what compression leaves of a name

    def of_shards(task: str, each_second: float, written_song: float) -> Row:
        each = math.ceil(counts[task] / shards[task])
        read, written = each * gigabytes + listed, each * written_song
        return Row(task, shards[task], read, written, each * seconds * each_second / 3600, measuring, read + written)

    normalized_song = seconds * _BYTES_A_SECOND * (_FLAC if settings.normalize.format == "flac" else 1.0) / _GB
    parts = shards["statistics"]
    stored = bool(parameters.store)
    normalized, cache = counts["normalize"] * normalized_song, settings.resources.cache_gb
    training = Row(
        "train",
        1,
        _read_of_store(settings.train, normalized, normalized_song / seconds, cache) if stored else normalized,
        0.05,
        hours,
        max(cluster.training.accelerators, 1) * _TRAINING_GB,
        min(cache, normalized) if stored else normalized,
    )
    tested = counts["evaluate"] * seconds
    rows = (
        Row("list-songs", 1, listed, listed, 0.0, 1.0 + 10 * listed, listed),
        of_shards("check", _CHECK_SECONDS, 0.0),
        of_shards("statistics", _STATISTICS_SECONDS, 0.0),
        Row("merge-statistics", 1, parts * _STATISTICS_GB, _STATISTICS_GB, 0.0, 1.0, parts * _STATISTICS_GB),
        of_shards("normalize", _NORMALIZE_SECONDS, normalized_song),
        training,
        Row(
            "evaluate",
            1,
            counts["evaluate"] * gigabytes + listed,
            counts["evaluate"] * 0.01,
            tested * _EVALUATE_FACTOR * _MIX_SECONDS[settings.train.network] / 3600,
            processes * (_MIXING_GB + _MIXING_SECOND_GB * longest),
            counts["evaluate"] * (gigabytes + 0.01),
        ),
    )
    return Estimate(songs, len(every) * seconds / 3600, len(every) * gigabytes, longest, len(looked), rows, origin)


def _evenly(songs: list[Song], most: int) -> list[Song]:
    return songs if len(songs) <= most else [songs[index * len(songs) // most] for index in range(most)]


def _read_of_store(train: TrainSettings, songs: float, a_second: float, cache: float) -> float:
    """GB that a training reads of a store: its crops, but for what a cache of so many GB has of the songs."""
    steps = train.warm_up_batches + sum(step.epochs for step in train.schedule) * train.batches_per_epoch
    crops = steps * train.batch_size * train.sequence_seconds * a_second
    return songs if cache >= songs else crops * (1 - cache / songs)


def _training_hours(settings: Settings) -> tuple[float | None, str]:
    train = settings.train
    examples = train.batch_size * (
        train.warm_up_batches + sum(step.epochs for step in train.schedule) * train.batches_per_epoch
    )
    speed = speeds.newest({name: str(value) for name, value in settings.flat("train").items()})
    if speed is None:
        return None, f"no earlier training of this network tells how long {examples:,} examples take"
    hours = examples / speed.examples_per_second / 3600
    return hours, f"{speed.examples_per_second:,.1f} examples a second, as run {speed.run} on {speed.device}"


def _cores(text: str) -> float:
    return float(text.removesuffix("m")) / 1000 if text.endswith("m") else float(text)


def _gibibytes(gigabytes: float) -> str:
    return f"{math.ceil(gigabytes * _GB / _GIB * 1.25)}Gi"

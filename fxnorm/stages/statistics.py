"""Stage 1: the average effects of a wet dataset; and how far other songs lie from them."""

import functools
import hashlib
import logging
import math
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fxnorm.constants import MIXTURE, SAMPLE_RATE, STEMS
from fxnorm.data import dataset
from fxnorm.data.dataset import Song
from fxnorm.data.parallel import available_cores, map_songs
from fxnorm.data.versions import made_by
from fxnorm.effects.features import SHAPES
from fxnorm.errors import DatasetError
from fxnorm.io import audio, locks, outputs
from fxnorm.io.bounded import read_npz
from fxnorm.io.files import beside, whole_file
from fxnorm.settings import StatisticsSettings
from fxnorm.statistics import EFFECTS, DatasetStatistics, Features, measure_mixture, measure_stem

_MERGED_AT_ONCE = 16
"""Parts of some megabytes each: a thread holds the sum of so many, and no more than one of them beside it."""
_KEPT = r"[0-9a-f]{64}\.npz"

_log = logging.getLogger(__name__)

SongFeatures = dict[str, Features]
"""What the stems of one song and its mixture measure, by name."""


@dataclass(frozen=True)
class Drift:
    """How far songs lie from statistics, by effect and stem, in units of the statistics' spread."""

    together: dict[str, dict[str, float]]
    songs: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)


def run(
    settings: StatisticsSettings,
    wet: Path,
    output: Path,
    plot: Path | None = None,
    workers: int = 0,
    skip_errors: bool = False,
    shard: tuple[int, int] | None = None,
    part: bool = False,
) -> dict[str, str]:
    """Measure the songs of a wet dataset and write their averages.

    What single songs measured is kept beside ``output`` until all are done, so that a run that was stopped goes on
    where it was.

    Args:
        settings: which split.
        wet: the dataset.
        output: the ``.npz`` file to write.
        plot: a ``.png`` file for the curves, if wanted.
        workers: processes; 0 for one a core.
        skip_errors: leave out songs that cannot be read instead of stopping at the first.
        shard: (number, of how many), from 1: measure only this part of the songs, for :func:`merge` to put together.
        part: the dataset is such a part itself, of which other splits are elsewhere.

    Returns:
        the reason for each song that was left out.

    Raises:
        OutputError: ``output`` or ``plot`` is no place to write to.
    """
    outputs.check_picture(plot)
    outputs.check([wet], files=[output, plot])
    layout = dataset.Layout.read(wet)
    songs = dataset.shard_of(layout.of(settings.split), shard)
    outputs.refuse_inputs([output, plot], [file for song in songs for file in song.files])
    layout.log_unused()
    if not part:
        _warn_of_missing_splits(layout)
    finished = beside(output, ".songs")
    with locks.held(output):
        measured, skipped = _measure(songs, workers, skip_errors, finished)
        statistics = _together(_read(file) for _, file in measured)
        if shard is None and not part:
            _refuse_nothing(statistics)
        statistics.save(output)
        outputs.remove_outputs(finished, _KEPT)
    if plot is not None:
        _draw(statistics, plot)
    return {str(song.folder): reason for song, reason in skipped}


def merge(parts: Sequence[Path], output: Path, plot: Path | None = None) -> None:
    """Put the statistics of shards together: the bytes are those of all songs measured at once.

    Thousands of parts are read by several threads, each of which puts some together.

    Raises:
        DatasetError: a part holds averages alone, or no song has a stem that sounds.
        ModelError: a part is missing or damaged.
        OutputError: ``output`` or ``plot`` is no place to write to.
    """
    outputs.check_picture(plot)
    outputs.check(parts, files=[output, plot])
    groups = [parts[first : first + _MERGED_AT_ONCE] for first in range(0, len(parts), _MERGED_AT_ONCE)]
    total = DatasetStatistics()
    pool = ThreadPoolExecutor(available_cores())  # decompressing and adding release the interpreter's lock
    try:
        for group in pool.map(_merged, groups):
            total.merge(group)
    finally:
        pool.shutdown(cancel_futures=True)
    _refuse_nothing(total)
    total.save(output)
    if plot is not None:
        _draw(total, plot)


def _merged(parts: Sequence[Path]) -> DatasetStatistics:
    total = DatasetStatistics()
    for part in parts:
        try:
            total.merge(DatasetStatistics.load(part, part=True))
        except DatasetError as error:
            raise DatasetError(f"{part}: {error}") from error
    return total


def drift(statistics_file: Path, songs_folder: Path, workers: int = 0) -> Drift:
    """Measure a dataset's songs (all splits) and compute how far they lie from the statistics, together and each."""
    known = DatasetStatistics.load(statistics_file)
    with tempfile.TemporaryDirectory() as folder:
        measured, _ = _measure(dataset.songs(songs_folder), workers, skip_errors=False, folder=Path(folder))
        songs = {str(song.folder): known.drift(_read(file)) for song, file in measured}
        together = _together(_read(file) for _, file in measured)
        _refuse_nothing(together)
        return Drift(known.drift(together), songs)


def _measure(
    songs: list[Song], workers: int, skip_errors: bool, folder: Path
) -> tuple[list[tuple[Song, Path]], list[tuple[Song, str]]]:
    """Songs with the files of ``folder`` that hold their features: those of a thousand songs would fill the memory."""
    work = functools.partial(_measure_song, folder=folder, code=made_by(__name__))
    return map_songs(work, songs, "statistics", workers or None, skip_errors)


def _measure_song(song: Song, folder: Path, code: str) -> Path:
    """The file of ``folder`` with one song's features, which an earlier run of this ``code`` may have left there."""
    digest = hashlib.sha256(f"{code} {song.digest()}".encode()).hexdigest()
    path = folder / f"{digest}.npz"
    if not path.is_file():
        # one stem at a time: a long song's four would fill the memory
        features = {stem: measure_stem(audio.read(file)[0], SAMPLE_RATE, stem) for stem, file in song.stems.items()}
        if song.mixture is not None:
            features[MIXTURE] = measure_mixture(song.read_mixture(), SAMPLE_RATE)
        arrays = {
            f"{stem}/{effect}": value
            for stem, features_of_stem in features.items()
            for effect, value in features_of_stem.items()
        }
        with whole_file(path) as temporary:
            np.savez(temporary, allow_pickle=False, **arrays)
    return path


def _read(path: Path) -> SongFeatures:
    features: SongFeatures = {}
    most = {f"{stem}/{effect}": math.prod(SHAPES[effect]) for stem in (*STEMS, MIXTURE) for effect in EFFECTS}
    try:
        arrays = read_npz(path, most)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: not what a song measured ({error}); remove it and start again") from error
    for key, value in arrays.items():
        stem, _, effect = key.partition("/")
        features.setdefault(stem, {})[effect] = value
    return features


def _together(songs: Iterable[SongFeatures]) -> DatasetStatistics:
    total = DatasetStatistics()
    for song in songs:
        for stem, features in song.items():
            total.add(stem, features)
    return total


def _warn_of_missing_splits(layout: dataset.Layout) -> None:
    """Warn before hours of measuring and days of training of splits that later stages need."""
    missing = [split for split in dataset.SPLITS if not layout.splits.get(split)]
    if layout.splits and missing:
        _log.warning(
            "%s: no songs in %s; 'fxnorm train' needs train and val, and 'fxnorm evaluate' test",
            layout.root,
            " and ".join(missing),
        )


def _refuse_nothing(statistics: DatasetStatistics) -> None:
    if all(stem == MIXTURE for _, stem in statistics):
        raise DatasetError("statistics: no song has a stem that sounds")


def _draw(statistics: DatasetStatistics, path: Path) -> None:
    # importing matplotlib takes longer than what most shards and merges do
    from fxnorm.statistics.plots import plot_statistics

    plot_statistics(statistics, path)

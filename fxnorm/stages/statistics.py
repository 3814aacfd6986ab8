"""Stage 1: the average effects of a wet dataset; and how far other songs lie from them."""

import functools
import hashlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from fxnorm import __version__, audio, dataset
from fxnorm.constants import SAMPLE_RATE
from fxnorm.dataset import Song
from fxnorm.errors import DatasetError
from fxnorm.parallel import map_songs
from fxnorm.settings import StatisticsSettings
from fxnorm.statistics import DatasetStatistics, measure_stem


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

    Returns:
        the reason for each song that was left out.
    """
    songs = dataset.songs(wet, settings.split)
    finished = output.with_name(f".{output.name}.songs")
    measured, skipped = _measure(songs, workers, skip_errors, finished)
    _merged(measured).save(output)
    shutil.rmtree(finished, ignore_errors=True)
    if plot is not None:
        DatasetStatistics.load(output).plot(plot)
    return {str(song.folder): reason for song, reason in skipped}


def drift(statistics_file: Path, songs_folder: Path, workers: int = 0) -> Drift:
    """Measure a dataset's songs (all splits) and say how far they lie from the statistics, together and each."""
    known = DatasetStatistics.load(statistics_file)
    measured, _ = _measure(dataset.songs(songs_folder), workers, skip_errors=False, finished=None)
    songs = {str(song.folder): known.drift(statistics) for song, statistics in measured}
    return Drift(known.drift(_merged(measured)), songs)


def _measure(
    songs: list[Song], workers: int, skip_errors: bool, finished: Path | None
) -> tuple[list[tuple[Song, DatasetStatistics]], list[tuple[Song, str]]]:
    work = functools.partial(_measure_song, finished=finished)
    return map_songs(work, songs, "statistics", workers or None, skip_errors)


def _measure_song(song: Song, finished: Path | None) -> DatasetStatistics:
    """One song's statistics, from ``finished`` if an earlier run has left them there."""
    name = hashlib.sha256(f"{__version__} {song.digest()}".encode()).hexdigest() if finished else ""
    kept = finished / f"{name}.npz" if finished else None
    if kept is not None and kept.is_file():
        return DatasetStatistics.load(kept)
    statistics = DatasetStatistics()
    for stem, path in song.stems.items():
        statistics.add(stem, measure_stem(audio.read(path)[0], SAMPLE_RATE, stem))
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        statistics.save(kept)
    return statistics


def _merged(measured: list[tuple[Song, DatasetStatistics]]) -> DatasetStatistics:
    total = DatasetStatistics()
    for _, statistics in measured:
        total.merge(statistics)
    if not list(total):
        raise DatasetError("statistics: no song has a stem that sounds")
    return total

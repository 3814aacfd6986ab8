"""Stage 1: the average effects of a wet dataset."""

from pathlib import Path

from fxnorm import audio, dataset
from fxnorm.constants import SAMPLE_RATE
from fxnorm.dataset import Song
from fxnorm.parallel import map_songs
from fxnorm.settings import StatisticsSettings
from fxnorm.statistics import DatasetStatistics, Features, measure_stem


def run(settings: StatisticsSettings, wet: Path, output: Path, plot: Path | None = None, workers: int = 0) -> None:
    """Measure the songs of a wet dataset and write their averages.

    Args:
        settings: which split.
        wet: the dataset.
        output: the ``.npz`` file to write.
        plot: a ``.png`` file for the curves, if wanted.
        workers: processes; 0 for one a core.
    """
    songs = dataset.songs(wet, settings.split)
    measured, _ = map_songs(_measure_song, songs, "statistics", workers or None)
    statistics = DatasetStatistics()
    for stems in measured.values():
        for stem, features in stems.items():
            statistics.add(stem, features)
    statistics.save(output)
    if plot is not None:
        statistics.plot(plot)


def _measure_song(song: Song) -> dict[str, Features]:
    return {stem: measure_stem(audio.read(path)[0], SAMPLE_RATE, stem) for stem, path in song.stems.items()}

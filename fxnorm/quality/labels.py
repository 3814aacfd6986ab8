"""Wrong labels: a stem whose sound is nearer to another stem's average than to that of its own name.

A stem is described by its spectrum at one loudness and by how much its level moves. The averages and deviations are
those of the same dataset, without the song that is judged (where a stem is in thousands of songs, with it). This finds
a bass in the drums' file and a song whose files were mixed up; it does not tell a guitar from a piano, which are both
``other``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fxnorm.constants import STEMS
from fxnorm.quality.spectra import BINS, HZ_PER_BIN, SongSpectra

_LOWEST_HZ, _HIGHEST_HZ, _BANDS = 40.0, 16_000.0, 18
_FLOOR_DB = -50.0  # of a band, under the sum of all
_LEAST_DEVIATION_DB = 4.0  # a few songs do not show how much others may differ
_QUIET_DB = 30.0  # under the loudest frame: frames that are pauses
_RATIO = 1.8  # of the distance from the own average to that from another one
_MANY_SONGS = 2000
_LEAST_DISTANCE = 1.4  # deviations from the own average, root mean square over features: outside of nine in ten


@dataclass(frozen=True)
class Doubt:
    """A stem that is nearer to another stem's average.

    Attributes:
        song: its number.
        stem: its name.
        nearest: the stem whose average is the nearest.
        distance: from its own average, in deviations (root mean square over features).
        nearest_distance: from the nearest one's.
        songs: how many the own average is of.
    """

    song: int
    stem: str
    nearest: str
    distance: float
    nearest_distance: float
    songs: int


def features(spectra: SongSpectra) -> dict[str, np.ndarray]:
    """Features (19,) in dB of each stem that sounds: the spectrum in bands, and the mean change of level in 46 ms."""
    edges = np.geomspace(_LOWEST_HZ, _HIGHEST_HZ, _BANDS + 1) / HZ_PER_BIN
    first = np.minimum(np.maximum(np.round(edges).astype(int), 1), BINS - 1)
    found = {}
    for name, power, levels in zip(spectra.names, spectra.powers, spectra.levels, strict=True):
        total = power[first[0] : first[-1]].sum()
        if name not in STEMS or total <= 0:
            continue
        bands = np.add.reduceat(power, first)[:-1] / np.maximum(np.diff(first), 1)
        shape = 10 * np.log10(bands / bands.sum() + 10 ** (_FLOOR_DB / 10))
        decibels = 10 * np.log10(levels / levels.max() + 10 ** (-_QUIET_DB / 10))
        sounding = decibels[1:] > -_QUIET_DB + 6
        change = np.abs(np.diff(decibels))[sounding].mean() if sounding.any() else 0.0
        found[name] = np.append(shape, 4 * change)  # weighs as much as a band that differs by as many dB
    return found


def spectrum(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The spectrum among features: centres of the bands in kHz, and levels in dB of all."""
    edges = np.geomspace(_LOWEST_HZ, _HIGHEST_HZ, _BANDS + 1) / 1000
    return np.sqrt(edges[:-1] * edges[1:]), values[:_BANDS]


def _is_many(rows: Sequence[object]) -> bool:
    """Whether one song more or less moves no median that could be seen, and leaving each out would take for ever."""
    return len(rows) > _MANY_SONGS


def _average(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Median and deviation of features (songs, 19), and of how many songs they are."""
    median = np.median(rows, axis=0)
    deviation = 1.4826 * np.median(np.abs(rows - median), axis=0)
    return median, np.maximum(deviation, _LEAST_DEVIATION_DB), len(rows)


def doubts(songs: Sequence[Mapping[str, np.ndarray]], fewest: int) -> list[Doubt]:
    """Stems that are nearer to another stem's average, by song and stem.

    Args:
        songs: the features of their stems.
        fewest: songs that a stem must be in, besides the one that is judged, for its average to count.
    """
    tables = {stem: [(number, song[stem]) for number, song in enumerate(songs) if stem in song] for stem in STEMS}
    of_all = {
        stem: _average(np.array([values for _, values in rows])) for stem, rows in tables.items() if _is_many(rows)
    }
    found = []
    for number, song in enumerate(songs):
        averages = {}
        for stem, rows in tables.items():
            if stem in of_all:
                averages[stem] = of_all[stem]
                continue
            others = np.array([values for other, values in rows if other != number])
            if len(others) >= fewest:
                averages[stem] = _average(others)
        for stem, values in song.items():
            if stem not in averages or len(averages) < 2:
                continue
            distances = {
                other: float(np.sqrt(np.mean(np.minimum(np.square((values - mean) / deviation), 16.0))))
                for other, (mean, deviation, _) in averages.items()
            }
            nearest = min((other for other in distances if other != stem), key=lambda other: distances[other])
            far = distances[stem] > max(_LEAST_DISTANCE, _RATIO * distances[nearest])
            if far:
                doubt = Doubt(number, stem, nearest, distances[stem], distances[nearest], averages[stem][2])
                found.append(doubt)
    return found

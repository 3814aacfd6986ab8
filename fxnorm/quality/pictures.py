"""Pictures of what is wrong: curves that come from the processes that measure, drawn where the report is written."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_MOST_POINTS = 400  # of a curve: more than a column of the page has pixels to show
_FLOOR_DB = -80.0


@dataclass(frozen=True)
class Curve:
    """A line of a picture: values over places, and its name in the legend; with ``marked`` its points are drawn."""

    name: str
    places: np.ndarray
    values: np.ndarray
    marked: bool = False


@dataclass(frozen=True)
class Picture:
    """Curves over one axis.

    Attributes:
        caption: what is seen, in a sentence.
        places: name of the horizontal axis, with its unit.
        values: name of the vertical axis, with its unit.
        curves: the lines; the first is the one that the others are compared with.
        mark: a place to be marked, if there is one.
        logarithmic: whether places have a logarithmic axis.
        least_range: how much the vertical axis shows at least, if values alone could make it show less.
    """

    caption: str
    places: str
    values: str
    curves: Sequence[Curve]
    mark: float | None = None
    logarithmic: bool = False
    least_range: float | None = None


def levels_over_time(name: str, audio: np.ndarray, sample_rate: int) -> Curve:
    """Root mean square in dBFS of audio (channels, samples), at 400 places."""
    starts = np.unique(np.linspace(0, audio.shape[1], _MOST_POINTS, endpoint=False, dtype=int))
    energy = np.add.reduceat(np.square(audio).mean(axis=0, dtype=np.float64), starts)
    counts = np.diff(np.append(starts, audio.shape[1]))
    level = 10 * np.log10(energy / counts + 10 ** (_FLOOR_DB / 10))
    return Curve(name, (starts + counts / 2) / sample_rate, level)


def level_over_frequency(name: str, power: np.ndarray, hz_per_bin: float) -> Curve:
    """A power spectrum (bins,) in dB under its highest value, at 400 places."""
    starts = np.unique(np.linspace(1, len(power), _MOST_POINTS, endpoint=False, dtype=int))
    means = np.add.reduceat(power, starts) / np.diff(np.append(starts, len(power)))
    level = 10 * np.log10(means / max(means.max(), 1e-30) + 10 ** (1.25 * _FLOOR_DB / 10))
    return Curve(name, starts * hz_per_bin / 1000, level)

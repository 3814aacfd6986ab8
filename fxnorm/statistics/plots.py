"""Pictures of effect features: the statistics of a dataset, and one song before and after normalization.

One row a stem, one column an effect. matplotlib's objects are used directly, without the pyplot module's global state,
so nothing needs a display and worker processes can draw.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.effects import compression, spectrum
from fxnorm.effects.features import EFFECTS, Features, measure_stem
from fxnorm.effects.levels import decibels
from fxnorm.io.files import whole_file
from fxnorm.statistics.dataset_statistics import DatasetStatistics

_COLUMN_INCHES, _ROW_INCHES, _DOTS_PER_INCH = 3.6, 2.4, 110
_LOWEST_HZ = 20.0
_UNITS = {
    "equalization": "magnitude at -30 LUFS, dB",
    "compression": "peak after onsets, dB",
    "panning": "similarity of left and right",
    "loudness": "loudness, LUFS",
}
_COLOURS = {"before": "#D55E00", "target": "black", "after": "#0072B2"}  # Okabe and Ito (2008)
_BEFORE, _TARGET, _AFTER = _COLOURS


def plot_statistics(statistics: DatasetStatistics, path: Path) -> None:
    """Draw targets, and one standard deviation to both sides where it is known, into an image file."""
    figure, axes = _sheet()
    for stem, row in zip(STEMS, axes, strict=True):
        for effect, axis in zip(EFFECTS, row, strict=True):
            if (effect, stem) in statistics:
                _draw_target(axis, statistics, effect, stem)
                axis.set_title(f"{stem}: {_songs(statistics.count(effect, stem))}", fontsize="small")
            if effect == "compression":
                axis.set_xticks([])
    _save(figure, path)


def plot_song(
    statistics: DatasetStatistics,
    before: Mapping[str, np.ndarray],
    after: Mapping[str, np.ndarray],
    sample_rate: int,
    path: Path,
) -> None:
    """Draw every stem's features before and after normalization beside the targets, into an image file.

    Args:
        statistics: the targets.
        before: stems as they came, by name, (channels, samples).
        after: the same stems normalized.
        sample_rate: Hz, must be 44,100.
        path: the image; its suffix determines the format.

    Raises:
        AudioError: a stem as the effects refuse it.
    """
    figure, axes = _sheet()
    for stem, row in zip(STEMS, axes, strict=True):
        for effect, axis in zip(EFFECTS, row, strict=True):
            axis.set_title(stem, fontsize="small")
            if (effect, stem) in statistics:
                _draw_target(axis, statistics, effect, stem)
        for name, stems in ((_BEFORE, before), (_AFTER, after)):
            if stem in stems:
                _draw_features(row, name, measure_stem(stems[stem], sample_rate, stem), stems[stem])
    handles, labels = axes[0, -1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    _save(figure, path)


def _sheet() -> tuple[Figure, np.ndarray]:
    figure = Figure(
        figsize=(_COLUMN_INCHES * len(EFFECTS), _ROW_INCHES * len(STEMS)), dpi=_DOTS_PER_INCH, layout="constrained"
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(STEMS), len(EFFECTS), squeeze=False)
    for row in axes:
        for effect, axis in zip(EFFECTS, row, strict=True):
            axis.set_ylabel(_UNITS[effect], fontsize="small")
            axis.grid(alpha=0.3)
            if effect in ("equalization", "panning"):
                axis.set_xscale("log")
                axis.set_xlim(_LOWEST_HZ, SAMPLE_RATE / 2)
                axis.set_xlabel("Hz", fontsize="small")
            elif effect == "loudness":
                axis.set_xticks([])
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    with whole_file(path) as temporary:
        figure.savefig(temporary)


def _songs(count: int) -> str:
    return f"{count} songs" if count else "number of songs unknown"


def _frequencies() -> np.ndarray:
    return np.linspace(0, SAMPLE_RATE / 2, spectrum.BINS)


def _draw_target(axis: Axes, statistics: DatasetStatistics, effect: str, stem: str) -> None:
    """The target as a black line, its spread as a grey band."""
    target, has_spread = statistics.target(effect, stem), statistics.count(effect, stem) > 0
    spread = statistics.standard_deviation(effect, stem) if has_spread else np.zeros_like(target)
    style: dict[str, Any] = {"color": _COLOURS[_TARGET], "label": _TARGET, "linewidth": 1.5}
    band: dict[str, Any] = {"color": "grey", "alpha": 0.3, "linewidth": 0}
    if effect == "equalization":
        axis.plot(_frequencies(), decibels(target), **style)
        highest = decibels(target + spread)
        # a spread wider than the mean would draw down to minus infinity
        axis.fill_between(_frequencies(), decibels(np.maximum(target - spread, target / 10)), highest, **band)
    elif effect == "panning":
        axis.plot(_frequencies(), target, **style)
        axis.fill_between(_frequencies(), target - spread, target + spread, **band)
    elif effect == "compression":
        axis.axhline(target[0], **style)
        axis.axhspan(target[0] - target[1], target[0] + target[1], **band)
    else:
        axis.axhline(float(target), **style)
        axis.axhspan(float(target - spread), float(target + spread), **band)


def _draw_features(row: np.ndarray, name: str, features: Features, audio: np.ndarray) -> None:
    """One stem's features into its row of axes; what could not be measured is left out."""
    style: dict[str, Any] = {"color": _COLOURS[name], "label": name}
    curves = {
        effect: spectrum.smooth(np.asarray(features[effect]), 401)
        for effect in ("equalization", "panning")
        if effect in features
    }
    for effect, axis in zip(EFFECTS, row, strict=True):
        if effect in curves:
            values = decibels(curves[effect]) if effect == "equalization" else curves[effect]
            axis.plot(_frequencies(), values, linewidth=0.8, **style)
        elif effect in features and effect == "compression":
            _draw_onset_peaks(axis, style, audio)
        elif effect in features:
            axis.axhline(float(features[effect]), linestyle="--", **style)


def _draw_onset_peaks(axis: Axes, style: Mapping[str, Any], audio: np.ndarray) -> None:
    """The highest level after each onset of the first channel, at a peak of -10 dBFS as it is measured."""
    times, levels = compression.onset_peaks(audio[0])
    axis.plot(times, levels, ".", markersize=3, **style)
    axis.set_xlabel("time, s", fontsize="small")

"""Box and violin plots of ratings: PNG files whose bytes depend on the ratings alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fxnorm.io.files import whole_file

_DOTS_PER_INCH = 125
_WIDTH_INCHES = 8.0
_SONGS_PER_ROW = 3
_COLOUR = "#0072B2"
_JITTER = 0.12  # of the distance between systems


Limits = tuple[float, float] | None


def plot_overall(values: np.ndarray, systems: list[str], label: str, limits: Limits, path: Path) -> None:
    """All ratings of each system: a violin for their density, a box for their quartiles, a dot for each.

    Args:
        values: (participants, songs, systems).
        systems: their names.
        label: of the axis of ratings.
        limits: of that axis; None for what the ratings need.
        path: the PNG file to write.
    """
    figure = Figure(figsize=(_WIDTH_INCHES, 4.2), dpi=_DOTS_PER_INCH, layout="constrained")
    axes = figure.add_subplot()
    _draw(axes, values.reshape(-1, len(systems)), systems)
    axes.set_ylabel(label)
    _limit(axes, limits)
    _write(figure, path)


def plot_songs(by_song: Mapping[str, np.ndarray], systems: list[str], label: str, limits: Limits, path: Path) -> None:
    """The same for each song, ``by_song`` having (participants, systems) of each."""
    columns = min(_SONGS_PER_ROW, len(by_song))
    rows = -(-len(by_song) // columns)
    figure = Figure(figsize=(_WIDTH_INCHES, 0.4 + 3.0 * rows), dpi=_DOTS_PER_INCH, layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, (song, values) in zip(grid.flat, by_song.items(), strict=False):
        _draw(axes, values, systems)
        axes.set_title(song, fontsize="medium", loc="left", parse_math=False)  # a "$" in a name is a "$"
        axes.tick_params("x", rotation=30)
        _limit(axes, limits)
    for axes in grid.flat[len(by_song) :]:
        axes.set_visible(False)
    figure.supylabel(label, fontsize="medium")
    _write(figure, path)


def _draw(axes: Axes, values: np.ndarray, systems: list[str]) -> None:
    """``values`` (ratings, systems), one column a system."""
    positions = np.arange(1, len(systems) + 1)
    varied = np.ptp(values, axis=0) > 0  # a density needs ratings that differ
    if varied.any():
        violins = axes.violinplot(values[:, varied], positions[varied], widths=0.8, showextrema=False)
        bodies: Any = violins["bodies"]
        for body in bodies:
            body.set(facecolor=_COLOUR, alpha=0.18, linewidth=0)
    axes.boxplot(
        values,
        positions=positions,
        widths=0.3,
        showfliers=False,
        showmeans=True,
        medianprops={"color": "black", "linewidth": 1.5},
        meanprops={"marker": "D", "markerfacecolor": "white", "markeredgecolor": "black", "markersize": 5},
    )
    spread = np.random.default_rng(0).uniform(-_JITTER, _JITTER, values.shape)
    axes.plot(positions + spread, values, "o", color=_COLOUR, alpha=0.35, markersize=3, markeredgewidth=0)
    axes.set_xticks(positions, systems, parse_math=False)
    axes.set_xlim(0.4, len(systems) + 0.6)
    axes.grid(axis="y", color="0.88")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _limit(axes: Axes, limits: Limits) -> None:
    if limits is not None:
        margin = 0.03 * (limits[1] - limits[0])  # for the dots at the ends
        axes.set_ylim(limits[0] - margin, limits[1] + margin)


def _write(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})

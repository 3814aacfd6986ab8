"""Pictures of mixes beside their reference, and of a table of metrics: SVG files, or PNGs of 1,000 pixels' width.

Everything is drawn with matplotlib's object-oriented interface, so no display and no global state is involved, and the
same input gives the same bytes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects import dynamics, loudness
from fxnorm.effects.spectrum import frames, window
from fxnorm.evaluation.metrics import prepared
from fxnorm.io.pictures import COLOURS, DOTS_PER_INCH, WIDTH_INCHES, prepare_axes, write

Mixes = Mapping[str, np.ndarray]
"""Audio (channels, samples) by name; the first is the reference, drawn in black."""

_REFERENCE_STYLE = {"color": "black", "linestyle": "-", "linewidth": 3.0}
_DASHES = ("-", "--", "-.", ":")

_FFT_SIZE, _HOP, _FRAMES_AT_ONCE = 16_384, 8192, 16
_BAND_OCTAVES = 1 / 6
_CENTRES = 20 * 2 ** np.arange(0, np.log2(1000), 1 / 24)  # Hz, up to 20 kHz
_FREQUENCY_TICKS = (20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)
_SPECTRUM_RANGE_DB = 80.0  # under the loudest band of all; what is quieter is drawn there
_LOUDNESS_FLOOR = -70.0  # LUFS; what is under the absolute loudness gate of BS.1770 is not drawn
_SHORT_TERM_SECONDS, _SHORT_TERM_STEP = 3.0, 0.1
_ENVELOPE_COLUMNS = 400
_METRICS_PER_ROW = 3


@dataclass(frozen=True)
class Curves:
    """What is drawn of a mix's spectrum and loudness.

    Attributes:
        loudness_lufs: integrated; minus infinity where it has none.
        levels: of bands of 1/6 octave, in dBFS.
        short_term: loudness of every window of 3 s, ten a second, in LUFS.
        seconds: its length.
    """

    loudness_lufs: float
    levels: np.ndarray
    short_term: np.ndarray
    seconds: float

    @classmethod
    def of(cls, audio: np.ndarray, name: str, sample_rate: int = SAMPLE_RATE) -> "Curves":
        """Those of ``audio`` (1 or 2 channels, samples), which errors call ``name``.

        Raises:
            AudioError: audio as :func:`fxnorm.io.audio.check` refuses it.
        """
        audio = prepared(audio, name, sample_rate)
        left, right, _ = _band_powers(audio)
        energies = loudness.step_energies(audio).sum(axis=0)
        samples = audio.shape[1]
        short_term = dynamics.short_term(energies, samples)
        return cls(loudness.integrated(energies, samples), _decibels(left + right), short_term, samples / SAMPLE_RATE)


def _curves(mixes: Mixes, sample_rate: int) -> dict[str, Curves]:
    return {name: Curves.of(audio, name, sample_rate) for name, audio in mixes.items()}


def plot_spectra(mixes: Mixes, sample_rate: int, path: Path) -> None:
    """Average spectra in bands of 1/6 octave at the first mix's loudness, and their differences from its spectrum.

    Args:
        mixes: audio (channels, samples) by name, the reference first.
        sample_rate: Hz.
        path: the ``.svg`` or ``.png`` file to write.

    Raises:
        AudioError: audio as :func:`fxnorm.io.audio.check` refuses it.
    """
    figure, (above, below) = _figure(4.8, [2, 1])
    draw_spectra(above, below, _curves(mixes, sample_rate))
    write(figure, path, legend_of=above)


def draw_spectra(above: Axes, below: Axes, curves: Mapping[str, Curves]) -> None:
    """What :func:`plot_spectra` shows, into axes of a figure."""
    target = next(iter(curves.values())).loudness_lufs
    levels = {}
    for name, curve in curves.items():
        gain = target - curve.loudness_lufs
        levels[name] = curve.levels + (gain if np.isfinite(gain) else 0.0)
    floor = np.max(list(levels.values())) - _SPECTRUM_RANGE_DB
    levels = {name: np.maximum(level, floor) for name, level in levels.items()}
    reference = next(iter(levels.values()))
    for name, style in _styles(curves):
        above.plot(_CENTRES, levels[name], label=name, **style)
        below.plot(_CENTRES, levels[name] - reference, **style)
    _frequency_axis(below)
    above.set_ylabel("Level per 1/6 octave, dBFS,\nat one loudness")
    below.set_ylabel("Difference, dB")


def plot_panning(mixes: Mixes, sample_rate: int, path: Path) -> None:
    """Similarity of the channels, 2 |L| |R| / (|L|² + |R|²), and balance of their power, over frequency.

    Both are averages over time, weighted by power, in bands of 1/6 octave. Arguments and errors as
    :func:`plot_spectra`.
    """
    figure, (above, below) = _figure(4.8, [1, 1])
    mixes = _prepared(mixes, sample_rate)
    for name, style in _styles(mixes):
        left, right, product = _band_powers(mixes[name])
        total = np.where(left + right > 0, left + right, np.nan)  # a gap in the line where a band is silent
        above.plot(_CENTRES, 2 * product / total, label=name, **style)
        below.plot(_CENTRES, (right - left) / total, **style)
    _frequency_axis(below)
    above.set(ylabel="Similarity of left and right\n(1: centred)", ylim=(-0.03, 1.03))
    below.set(ylabel="Balance", ylim=(-1.05, 1.05), yticks=(-1, 0, 1), yticklabels=("left", "centre", "right"))
    write(figure, path, legend_of=above)


def plot_loudness(mixes: Mixes, sample_rate: int, path: Path) -> None:
    """Short-term loudness over time (EBU Tech 3341, windows of 3 s); the legend gives integrated loudness.

    Arguments and errors as :func:`plot_spectra`.
    """
    figure, (axes,) = _figure(3.6, [1])
    draw_loudness(axes, _curves(mixes, sample_rate))
    write(figure, path, legend_of=axes)


def draw_loudness(axes: Axes, curves: Mapping[str, Curves]) -> None:
    """What :func:`plot_loudness` shows, into axes of a figure."""
    for name, style in _styles(curves):
        short_term, integrated = curves[name].short_term, curves[name].loudness_lufs
        seconds = _SHORT_TERM_SECONDS + _SHORT_TERM_STEP * np.arange(len(short_term))
        label = f"{name} ({integrated:.1f} LUFS)" if np.isfinite(integrated) else f"{name} (silent)"
        axes.plot(seconds, np.where(short_term >= _LOUDNESS_FLOOR, short_term, np.nan), label=label, **style)
    longest = max(curve.seconds for curve in curves.values())
    axes.set(xlabel="End of the 3 s window, s", ylabel="Short-term loudness, LUFS", xlim=(0, longest))


def plot_waveforms(mixes: Mixes, sample_rate: int, path: Path) -> None:
    """Envelopes of the waveforms, over both channels, one above the other.

    Arguments and errors as :func:`plot_spectra`.
    """
    mixes = _prepared(mixes, sample_rate)
    figure, rows = _figure(0.8 + 0.9 * len(mixes), [1] * len(mixes))
    highest = max(1.0, *(float(np.abs(audio).max()) for audio in mixes.values()))
    for axes, (name, style) in zip(rows, _styles(mixes), strict=True):
        seconds, low, high = _envelope(mixes[name])
        axes.fill_between(seconds, low, high, color=style["color"], step="post", linewidth=0.4)
        axes.set(ylim=(-highest, highest), yticks=(-1, 0, 1))
        axes.set_title(name, loc="left", fontsize="medium", pad=3)
    rows[-1].set_xlabel("Time, s")
    rows[-1].set_xlim(0, max(audio.shape[1] for audio in mixes.values()) / SAMPLE_RATE)
    figure.supylabel("Amplitude (full scale: 1)", fontsize="medium")
    write(figure, path)


def plot_metrics(
    table: Mapping[str, Mapping[str, float | None]],
    path: Path,
    intervals: Mapping[str, Mapping[str, tuple[float, float] | None]] | None = None,
) -> None:
    """A group of bars for each metric, on its own scale, with a bar for each system.

    Args:
        table: ``{system: {metric: value}}``; "none" stands where a system lacks a metric or has ``None``.
            Metrics whose name ends in ``_mape`` or ``_wape`` are fractions and shown in percent.
        path: the ``.svg`` or ``.png`` file to write.
        intervals: confidence intervals of the values, by system and metric, where there are any.
    """
    metrics = list(dict.fromkeys(metric for values in table.values() for metric in values))
    rows = -(-len(metrics) // _METRICS_PER_ROW)
    figure = Figure(figsize=(WIDTH_INCHES, 0.6 + 2.3 * rows), dpi=DOTS_PER_INCH, layout="constrained")
    for number, metric in enumerate(metrics, start=1):
        axes = figure.add_subplot(rows, _METRICS_PER_ROW, number)
        scale = 100 if metric.endswith(("_mape", "_wape")) else 1
        for position, (system, values) in enumerate(table.items()):
            value = values.get(metric)
            height = (value or 0.0) * scale
            bar = axes.bar(position, height, color=COLOURS[position % len(COLOURS)], label=system)
            axes.bar_label(bar, labels=["none" if value is None else f"{height:.2f}"], padding=2)
            interval = (intervals or {}).get(system, {}).get(metric)
            if interval is not None:
                axes.vlines(position, interval[0] * scale, interval[1] * scale, color="black", linewidth=1)
        axes.set_title(metric.removesuffix("_mape").removesuffix("_wape").replace("_", " "), fontsize="medium")
        label = f"{metric[-len('mape') :].upper()}, %" if scale == 100 else "Value"
        axes.set(xticks=[], xlim=(-0.6, len(table) - 0.4), ylabel=label)
        axes.margins(y=0.15)
        axes.spines[["top", "right"]].set_visible(False)
    write(figure, path, legend_of=figure.axes[0])


def _prepared(mixes: Mixes, sample_rate: int) -> dict[str, np.ndarray]:
    return {name: prepared(audio, name, sample_rate) for name, audio in mixes.items()}


def _styles(names: Iterable[str]) -> Iterator[tuple[str, dict]]:
    reference, *others = names
    yield reference, _REFERENCE_STYLE
    for number, name in enumerate(others):
        yield name, {"color": COLOURS[number % len(COLOURS)], "linestyle": _DASHES[number % len(_DASHES)]}


def _band_powers(audio: np.ndarray) -> np.ndarray:
    """Mean over time of |L|², |R|² and |L| |R| in each band, (3, bands); a full-scale sine has 1/2."""
    powers, count = np.zeros((3, _FFT_SIZE // 2 + 1)), 0
    for spectra in frames(audio, _FFT_SIZE, _HOP, _FRAMES_AT_ONCE):
        left, right = np.abs(spectra)
        powers += [np.square(left).sum(axis=0), np.square(right).sum(axis=0), (left * right).sum(axis=0)]
        count += left.shape[0]
    powers *= 2 / (count * _FFT_SIZE * np.square(window(_FFT_SIZE)).sum())
    # a bin's power is spread evenly over its width, so that bands narrower than a bin have their share of it
    bin_edges = (np.arange(powers.shape[1] + 1) - 0.5) * SAMPLE_RATE / _FFT_SIZE
    cumulative = np.pad(np.cumsum(powers, axis=1), ((0, 0), (1, 0)))
    half_band = 2 ** (_BAND_OCTAVES / 2)
    upper, lower = _CENTRES * half_band, _CENTRES / half_band
    bands = [np.interp(upper, bin_edges, row) - np.interp(lower, bin_edges, row) for row in cumulative]
    return np.maximum(bands, 0)  # rounding can leave a silent band a trace under nothing


def _decibels(power: np.ndarray) -> np.ndarray:
    return 10 * np.log10(power + 1e-30)


def _envelope(audio: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times in seconds, lowest and highest sample of the stretch that begins there."""
    starts = np.unique(np.linspace(0, audio.shape[1], _ENVELOPE_COLUMNS, endpoint=False, dtype=int))
    low = np.minimum.reduceat(audio.min(axis=0), starts)
    high = np.maximum.reduceat(audio.max(axis=0), starts)
    return starts / SAMPLE_RATE, low, high


def _figure(height_inches: float, row_heights: Sequence[float]) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(WIDTH_INCHES, height_inches), dpi=DOTS_PER_INCH, layout="constrained")
    rows = figure.subplots(len(row_heights), sharex=True, squeeze=False, height_ratios=row_heights)[:, 0]
    for axes in rows:
        prepare_axes(axes)
    return figure, rows


def _frequency_axis(axes: Axes) -> None:
    axes.set(xscale="log", xlabel="Frequency, Hz", xlim=(_CENTRES[0], 20_000))
    labels = [f"{tick // 1000}k" if tick >= 1000 else str(tick) for tick in _FREQUENCY_TICKS]
    axes.set_xticks(_FREQUENCY_TICKS, labels)
    axes.minorticks_off()

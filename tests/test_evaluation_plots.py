"""The pictures: whole PNG files, the same bytes each time, that stand odd input, and whose numbers are right."""

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from fxnorm.constants import SAMPLE_RATE
from fxnorm.errors import AudioError
from fxnorm.evaluation import plots

pytestmark = pytest.mark.filterwarnings("error")

Plot = Callable[[plots.Mixes, int, Path], None]
PLOTS_OF_MIXES = [plots.plot_spectra, plots.plot_panning, plots.plot_loudness, plots.plot_waveforms]
TABLE: dict[str, dict[str, float | None]] = {
    "input_sum": {"stereo_loss_b": 40.0, "panning_mape": 0.3, "loudness_mape": None},
    "crafx2": {"stereo_loss_b": 35.0, "panning_mape": 0.2, "spectral_mape": 0.1},
}


def noise(seconds: float, level: float, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return (level * generator.standard_normal((2, round(seconds * SAMPLE_RATE)))).astype(np.float32)


@pytest.fixture
def mixes() -> dict[str, np.ndarray]:
    return {"reference": noise(5, 0.1, 0), "input_sum": noise(5, 0.2, 1), "crafx2": noise(4, 0.1, 2)}


@pytest.mark.parametrize("plot", PLOTS_OF_MIXES)
def test_a_plot_is_a_png_1000_pixels_wide_and_the_same_bytes_each_time(
    plot: Plot, mixes: dict[str, np.ndarray], tmp_path: Path
) -> None:
    paths = [tmp_path / "first.png", tmp_path / "new folder" / "second.png"]
    for path in paths:
        plot(mixes, SAMPLE_RATE, path)
    assert imread(paths[0]).shape[1] == 1000
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_the_metrics_plot_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    paths = [tmp_path / "first.png", tmp_path / "second.png"]
    for path in paths:
        plots.plot_metrics(TABLE, path)
    assert imread(paths[0]).shape[1] == 1000
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("plot", PLOTS_OF_MIXES)
def test_silent_short_and_mono_mixes_are_drawn(plot: Plot, tmp_path: Path) -> None:
    silence, one_sample = np.zeros((2, SAMPLE_RATE), np.float32), np.ones((2, 1), np.float32)
    odd = {"mono": noise(1, 0.1, 1)[:1], "silent": silence, "one sample": one_sample}
    plot(odd, 48_000, tmp_path / "odd.png")
    plot({"silent": silence}, SAMPLE_RATE, tmp_path / "silent.png")
    assert len(list(tmp_path.glob("*.png"))) == 2


@pytest.mark.parametrize("plot", PLOTS_OF_MIXES)
def test_unusable_audio_is_named_and_leaves_no_file(plot: Plot, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="crafx2: holds NaN"):
        plot({"crafx2": np.full((2, 9), np.nan, np.float32)}, SAMPLE_RATE, tmp_path / "plot.png")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Plot, dict[str, np.ndarray]], Figure]:
    """Draws, and returns the figure in place of writing it."""

    def draw(plot: Plot, mixes: dict[str, np.ndarray]) -> Figure:
        figures: list[Figure] = []
        monkeypatch.setattr(plots, "write", lambda figure, path, legend_of=None: figures.append(figure))
        plot(mixes, SAMPLE_RATE, tmp_path / "unused.png")
        return figures[0]

    return draw


def test_a_sine_stands_in_the_spectrum_at_its_frequency_and_level(drawn: Callable) -> None:
    sine = 0.1 * np.sin(2 * np.pi * 1000 * np.arange(5 * SAMPLE_RATE) / SAMPLE_RATE)
    figure = drawn(plots.plot_spectra, {"reference": np.tile(sine, (2, 1)).astype(np.float32)})
    hertz, level = figure.axes[0].lines[0].get_data()
    assert level.max() == pytest.approx(-20, abs=0.1)
    assert np.ptp(np.log2(hertz[level > -23] / 1000)) < 1 / 6


def test_white_noise_rises_by_3_db_an_octave_and_a_louder_copy_does_not_differ(drawn: Callable) -> None:
    white = noise(20, 0.1, 0)
    figure = drawn(plots.plot_spectra, {"reference": white, "louder": 2 * white})
    hertz, level = figure.axes[0].lines[0].get_data()
    slope = np.polyfit(np.log2(hertz[hertz > 100]), level[hertz > 100], 1)[0]
    assert slope == pytest.approx(3.01, abs=0.1)
    np.testing.assert_allclose(figure.axes[1].lines[1].get_ydata(), 0, atol=0.01)


@pytest.mark.parametrize(("left", "right"), [(1.0, 1.0), (1.0, 0.5), (0.0, 1.0)])
def test_similarity_and_balance_follow_from_the_gains_of_the_channels(
    drawn: Callable, left: float, right: float
) -> None:
    panned = noise(3, 0.1, 0)[:1] * np.array([[left], [right]], np.float32)
    similarity, balance = (axes.lines[0].get_ydata() for axes in drawn(plots.plot_panning, {"mix": panned}).axes)
    np.testing.assert_allclose(similarity, 2 * left * right / (left**2 + right**2), atol=1e-4)
    np.testing.assert_allclose(balance, (right**2 - left**2) / (left**2 + right**2), atol=1e-4)


def test_the_loudness_of_a_steady_sine_is_a_level_line_from_3_s_on(drawn: Callable) -> None:
    sine = 10 ** (-23 / 20) * np.sin(2 * np.pi * 1000 * np.arange(6 * SAMPLE_RATE) / SAMPLE_RATE)
    line = drawn(plots.plot_loudness, {"mix": np.tile(sine, (2, 1)).astype(np.float32)}).axes[0].lines[0]
    assert line.get_label() == "mix (-23.0 LUFS)"
    assert line.get_xdata()[[0, -1]] == pytest.approx([3, 6])
    np.testing.assert_allclose(line.get_ydata(), -23, atol=0.1)


def test_the_waveform_envelope_reaches_every_extreme(drawn: Callable) -> None:
    clicks = np.zeros((2, SAMPLE_RATE), np.float32)
    clicks[0, 10_000], clicks[1, 30_000] = 0.9, -0.7
    (outline,) = drawn(plots.plot_waveforms, {"mix": clicks}).axes[0].collections[0].get_paths()
    assert outline.vertices[:, 1].max() == pytest.approx(0.9)
    assert outline.vertices[:, 1].min() == pytest.approx(-0.7)


def test_bars_of_metrics_are_as_high_as_their_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(plots, "write", lambda figure, path, legend_of=None: figures.append(figure))
    plots.plot_metrics(TABLE, tmp_path / "unused.png")
    heights = {
        axes.get_title(): [bar.get_height() for bars in axes.containers for bar in bars] for axes in figures[0].axes
    }
    assert heights == {"stereo loss b": [40, 35], "panning": [30, 20], "loudness": [0, 0], "spectral": [0, 10]}


def test_no_global_state_of_matplotlib_is_touched(tmp_path: Path) -> None:
    settings = dict(matplotlib.rcParams)
    plots.plot_metrics(TABLE, tmp_path / "metrics.png")
    plots.plot_waveforms({"mix": noise(1, 0.1, 0)}, SAMPLE_RATE, tmp_path / "waveforms.png")
    assert matplotlib.pyplot.get_fignums() == []
    assert dict(matplotlib.rcParams) == settings

"""One picture of a mix that was just made: spectra, loudness over time, and the reverberation that its stems got."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects.levels import is_silent
from fxnorm.evaluation import plots
from fxnorm.io import audio, pictures
from fxnorm.normalization.normalizer import EffectNormalizer

_DECAY_RANGE_DB = 80.0


@dataclass(frozen=True)
class Unmixed:
    """What is drawn of stems; measured before they are mixed, so that nobody has to keep them.

    Attributes:
        total: of their sum.
        impulse_responses: (1 or 2 channels, samples) by stem and use.
    """

    total: plots.Curves
    impulse_responses: dict[str, np.ndarray]

    @classmethod
    def of(cls, stems: Mapping[str, np.ndarray], normalizer: EffectNormalizer, seed: int, dry: bool) -> "Unmixed":
        """Measure stems.

        Args:
            stems: (1 or 2 channels, samples) at 44.1 kHz.
            normalizer: that of the Mixer.
            seed: with which the mix is made.
            dry: whether the stems are dry recordings.

        Raises:
            AudioError: audio as :func:`fxnorm.io.audio.check` refuses it.
        """
        total = np.zeros((2, max(stem.shape[1] for stem in stems.values())), np.float32)
        for stem in stems.values():
            total[:, : stem.shape[1]] += audio.to_stereo(stem)
        impulse_responses = {
            f"{stem}, {use}": response
            for stem, samples in stems.items()
            if not is_silent(samples)  # what is silent stays so
            for use, response in normalizer.impulse_responses(stem, seed=seed, dry=dry).items()
        }
        return cls(plots.Curves.of(total, "sum of the stems"), impulse_responses)


def plot_mix(mix: np.ndarray, stems: Unmixed, path: Path) -> None:
    """Draw a mix beside the sum of its stems, and the impulse responses of its normalization.

    Args:
        mix: (2, samples) at 44.1 kHz.
        stems: what it was made of.
        path: the ``.png`` or ``.svg`` file to write.

    Raises:
        AudioError: audio as :func:`fxnorm.io.audio.check` refuses it.
    """
    figure = Figure(figsize=(pictures.WIDTH_INCHES, 9.6), dpi=pictures.DOTS_PER_INCH, layout="constrained")
    spectra, difference, loudness, decay = figure.subplots(4, height_ratios=[3, 2, 3, 3])
    for axes in figure.axes:
        pictures.prepare_axes(axes)
    difference.sharex(spectra)
    curves = {"sum of the stems": stems.total, "mix": plots.Curves.of(mix, "mix")}
    plots.draw_spectra(spectra, difference, curves)
    plots.draw_loudness(loudness, curves)
    _draw_decays(decay, stems.impulse_responses)
    for axes in (loudness, decay):
        if axes.lines:
            axes.legend(frameon=False, fontsize="small")
    pictures.write(figure, path, legend_of=spectra)


def _draw_decays(axes: Axes, impulse_responses: Mapping[str, np.ndarray]) -> None:
    """Energy that is still to come, by Schroeder's backward integration ("New method of measuring reverberation time",
    JASA 37, 1965)."""
    axes.set(xlabel="Time, s", ylabel="Impulse response,\nenergy decay, dB", ylim=(-_DECAY_RANGE_DB, 3))
    axes.set_prop_cycle(color=pictures.COLOURS)
    for name, response in impulse_responses.items():
        power = np.square(response, dtype=np.float64).mean(axis=0)
        if not power.any():
            continue
        remaining = np.cumsum(power[::-1])[::-1]
        level = 10 * np.log10(remaining / remaining[0] + 1e-30)
        seconds = _rt60(level)
        label = name if seconds is None else f"{name} ({seconds:.1f} s)"
        axes.plot(np.arange(level.size) / SAMPLE_RATE, level, label=label)
    axes.set_xlim(left=0)
    if not impulse_responses:
        axes.set_title("No stem gets any reverberation", fontsize="medium")


def _rt60(level: np.ndarray) -> float | None:
    """Reverberation time in seconds: the line of least squares from -5 to -35 dB (ISO 3382-1, T30).

    ``None`` where the decay has no such stretch.
    """
    first, last = (int(np.argmax(level <= limit)) for limit in (-5.0, -35.0))
    if last - first < 2:
        return None
    slope, _ = np.polyfit(np.arange(last - first) / SAMPLE_RATE, level[first:last], 1)
    return float(-60 / slope)

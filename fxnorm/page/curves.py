"""What is drawn of something to listen to: spectrum, stereo image, loudness over time and waveform."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects import dynamics, loudness, third_octaves
from fxnorm.io import audio as audio_io
from fxnorm.mixing import limiter
from fxnorm.page.files import waveform

_WAVEFORM = 480  # values
_POINTS = 600  # of the loudness over time, at most
_RANGE_DB = 70.0  # levels further under the loudest band are not drawn
_WINDOW_SECONDS = 3.0
_FAINTEST_LUFS = -70.0


@dataclass(frozen=True)
class Figures:
    """What is drawn.

    Attributes:
        loudness_lufs: integrated (ITU-R BS.1770-4); None for what never passes its absolute gate.
        true_peak_dbtp: None for silence.
        levels_db: (29,) in thirds of an octave.
        side_to_middle_db: (29,), energy of the side over that of the middle.
        right_to_left_db: (29,), energy of the right channel over that of the left.
        heard: (29,), whether a band is loud enough to be drawn.
        short_term_lufs: loudness of windows of 3 s, ten a second.
        waveform: highest samples, 255 at full scale.
    """

    loudness_lufs: float | None
    true_peak_dbtp: float | None
    levels_db: np.ndarray
    side_to_middle_db: np.ndarray
    right_to_left_db: np.ndarray
    heard: np.ndarray
    short_term_lufs: np.ndarray
    waveform: list[int]

    def as_json(self) -> dict[str, Any]:
        """As the page reads it; null where there is nothing to draw."""
        hertz = list(third_octaves.NOMINAL_HZ)
        step = max(1, -(-len(self.short_term_lufs) // _POINTS))
        short_term = self.short_term_lufs[::step]
        seconds = _WINDOW_SECONDS + np.arange(len(short_term)) * step / 10
        return {
            "spectrum": {"hertz": hertz, "db": _listed(self.levels_db, self.heard)},
            "stereo": {
                "hertz": hertz,
                "side_to_middle_db": _listed(self.side_to_middle_db, self.heard),
                "balance_db": _listed(self.right_to_left_db, self.heard),
            },
            "loudness": {
                "seconds": seconds.round(1).tolist(),
                "lufs": _listed(short_term, short_term > _FAINTEST_LUFS),
            },
            "waveform": self.waveform,
            "loudness_lufs": self.loudness_lufs,
            "true_peak_dbtp": self.true_peak_dbtp,
        }


def measure(audio: np.ndarray) -> Figures:
    """The figures of ``audio`` (1 or 2 channels, samples) at 44.1 kHz."""
    audio = audio_io.to_stereo(audio)
    energies = loudness.step_energies(audio).sum(axis=0)
    integrated = loudness.integrated(energies, audio.shape[1])
    left, right = (_levels(power) for power in third_octaves.mean_power(audio, SAMPLE_RATE))
    sides = np.stack([audio[0] + audio[1], audio[0] - audio[1]]) / np.float32(2)
    middle, side = (_levels(power) for power in third_octaves.mean_power(sides, SAMPLE_RATE))
    levels = 10 * np.log10((10 ** (left / 10) + 10 ** (right / 10)) / 2)
    peak = limiter.true_peak(audio)
    return Figures(
        loudness_lufs=round(integrated, 2) if np.isfinite(integrated) else None,
        true_peak_dbtp=round(peak, 2) if audio.any() else None,
        levels_db=levels,
        side_to_middle_db=side - middle,
        right_to_left_db=right - left,
        heard=(levels > levels.max() - _RANGE_DB) & audio.any(),
        short_term_lufs=dynamics.short_term(energies, audio.shape[1]),
        waveform=waveform(audio, _WAVEFORM),
    )


def _levels(power: np.ndarray) -> np.ndarray:
    return third_octaves.levels(np.sqrt(power))


def _listed(values: np.ndarray, drawn: np.ndarray) -> list[float | None]:
    return [round(float(value), 2) if shown else None for value, shown in zip(values, drawn, strict=True)]

"""What brings the average of the songs to the average of real records: a fixed correction for each stem and style.

Mixed by rule alone, songs lie near records, but not on their average. The table beside this module holds, for each
style and stem, a gain of the middle and of the side signal in thirds of an octave. It is the same for all songs of a
style, so that their differences stay. ``benchmarks/calibration.py`` measures songs and corrects the table.

The table also holds each stem's usual spectrum on records. An engineer's equalizer takes every song part of the way
there (:meth:`Correction.apply`), as engineers do: without it, synthesizers differ more than recordings.
"""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy import ndimage, signal

from fxnorm.constants import SAMPLE_RATE, STEMS

BANDS = 29
"""Thirds of an octave from 25 Hz to 16 kHz, as :mod:`fxnorm.effects.third_octaves` has them."""

TABLE = Path(__file__).with_name("calibration.json")
"""Style -> stem -> ``middle_db``, ``side_db`` and ``usual_db``, 29 numbers each."""

_CENTRES_HZ = 1000 * 2 ** (np.arange(-16, 13) / 3)
_FFT_SIZE, _TAPS = 16384, 4096
_FADE = 1024
_MOST_BOOST_DB, _MOST_CUT_DB = 8.0, 20.0
_SPECTRUM_SIZE = 16384


@dataclass(frozen=True)
class Correction:
    """Gains in dB (29,) of a stem's middle and side signal, and its usual spectrum in dB, up to a constant."""

    middle_db: tuple[float, ...] = (0.0,) * BANDS
    side_db: tuple[float, ...] = (0.0,) * BANDS
    usual_db: tuple[float, ...] = ()

    def apply(self, audio: np.ndarray, strength: float, offsets_db: np.ndarray) -> np.ndarray:
        """``audio`` (2, samples), corrected.

        Args:
            audio: the stem.
            strength: how far it is taken towards the usual spectrum, 0 not at all to 1 all the way.
            offsets_db: (29,), this song's own deviation.
        """
        own_db = offsets_db + self._towards_usual(audio, strength)
        middle = _filtered((audio[0] + audio[1]) / 2, np.array(self.middle_db) + own_db)
        side = _filtered((audio[0] - audio[1]) / 2, np.array(self.side_db) + own_db)
        return np.stack([middle + side, middle - side])

    def _towards_usual(self, audio: np.ndarray, strength: float) -> np.ndarray:
        """An engineer's equalizer: broad, and rather cutting than boosting."""
        if not self.usual_db:
            return np.zeros(BANDS)
        missing = np.array(self.usual_db) - (_spectrum_db(audio) + np.array(self.middle_db))
        missing = ndimage.gaussian_filter1d(missing - np.median(missing), 1.0, mode="nearest")
        return np.clip(strength * missing, -_MOST_CUT_DB, _MOST_BOOST_DB)


@cache
def corrections(style: str) -> Mapping[str, Correction]:
    """A style's correction of each stem; none where the table has none."""
    table = json.loads(TABLE.read_text(encoding="utf-8")).get(style, {})
    return {
        stem: Correction(**{key: tuple(gains) for key, gains in table[stem].items()}) if stem in table else Correction()
        for stem in STEMS
    }


def _spectrum_db(audio: np.ndarray) -> np.ndarray:
    """Mean magnitude in thirds of an octave, dB (29,)."""
    frequencies, _, spectra = signal.stft(audio.mean(axis=0), SAMPLE_RATE, nperseg=_SPECTRUM_SIZE)
    magnitude = np.abs(spectra).mean(axis=1)
    edges = np.searchsorted(frequencies, np.append(_CENTRES_HZ * 2 ** (-1 / 6), _CENTRES_HZ[-1] * 2 ** (1 / 6)))
    bands = [magnitude[low : max(high, low + 1)].mean() for low, high in itertools.pairwise(edges)]
    return 20 * np.log10(np.maximum(bands, 1e-9))


def _filtered(audio: np.ndarray, gains_db: np.ndarray) -> np.ndarray:
    return convolve(audio, _minimum_phase(gains_db))


def _minimum_phase(gains_db: np.ndarray) -> np.ndarray:
    """A minimum-phase FIR (4096,) through the gains: the folded real cepstrum (A. Oppenheim and R. Schafer,
    "Discrete-time signal processing", section 13.5)."""
    frequencies = np.fft.rfftfreq(_FFT_SIZE, 1 / SAMPLE_RATE)
    curve = np.interp(np.log(np.maximum(frequencies, 1.0)), np.log(_CENTRES_HZ), gains_db) * np.log(10) / 20
    cepstrum = np.fft.irfft(curve)
    cepstrum[1 : _FFT_SIZE // 2] *= 2
    cepstrum[_FFT_SIZE // 2 + 1 :] = 0
    response = np.fft.irfft(np.exp(np.fft.rfft(cepstrum)))[:_TAPS]
    response[-_FADE:] *= np.linspace(1, 0, _FADE)
    return np.asarray(response)


def convolve(audio: np.ndarray, response: np.ndarray) -> np.ndarray:
    """``audio`` (..., samples) through a response, cut at its length; in single precision, for half the time."""
    convolved = signal.oaconvolve(audio.astype(np.float32), response.astype(np.float32), axes=-1)
    return np.asarray(convolved[..., : audio.shape[-1]], dtype=np.float64)

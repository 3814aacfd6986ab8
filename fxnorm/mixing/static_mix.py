"""A mix without a network: one gain, balance and equalizer for each stem, the same for all songs and all of a song.

They are what least squares finds on the normalized stems and mixtures of the training songs. How loud each source is in
a mix of which the result is known was found in this way by Barchiesi and Reiss ("Reverse engineering of a mix", JAES
58, 2010); here one set of gains has to do for all songs. A network that does not beat it has learnt nothing that two
rows of faders and equalizers do not know.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import scipy  # its parts are loaded at their first use: signal alone takes a second
from pydantic import BaseModel, ConfigDict, Field

from fxnorm.constants import MIXTURE, SAMPLE_RATE, STEMS
from fxnorm.data.dataset import Song
from fxnorm.data.parallel import map_songs
from fxnorm.effects.convolution import convolve
from fxnorm.effects.spectrum import frames
from fxnorm.effects.third_octaves import CENTRES_HZ
from fxnorm.errors import DatasetError, ModelError, first_line
from fxnorm.io import audio, bounded
from fxnorm.io.files import write_json

STATIC_MIX_FILE = "static_mix.json"
"""In a Mixer directory."""

_FFT_SIZE = 8192
_HOP = _FFT_SIZE // 2  # squares of the windows add up to one
_FRAMES_AT_ONCE = 16
_CHANNELS = 2
_RIDGE = 1e-6  # of the energy in a band: a stem 60 dB under the others there gets no gain that is made of rounding
_MOST_SONGS = 100
"""Of more, evenly spaced ones are measured: 232 gains do not get better from more songs, whose whole files are read."""
_FEW_SONGS = 8  # are measured sooner than processes start
_GAIN = Annotated[float, Field(ge=-1000, le=1000, allow_inf_nan=False)]
_BANDS = len(CENTRES_HZ)


class _File(BaseModel):
    """``static_mix.json``: for each stem, the gains of its left and its right channel in each band."""

    model_config = ConfigDict(extra="forbid")

    songs: Annotated[int, Field(ge=1)]
    centres_hz: list[float]
    gains: dict[str, list[Annotated[list[_GAIN], Field(min_length=_BANDS, max_length=_BANDS)]]]


@dataclass(frozen=True)
class Correlations:
    """What least squares needs of songs: products of spectra, summed over time. Those of several songs are added.

    Attributes:
        stems: (2 channels, 4 stems, 4 stems, bins), of each pair of stems.
        mixture: (2 channels, 4 stems, bins), of each stem and the mixture.
        songs: how many.
    """

    stems: np.ndarray
    mixture: np.ndarray
    songs: int = 1

    @classmethod
    def of(cls, stems: np.ndarray, mixture: np.ndarray) -> "Correlations":
        """Measure a song.

        Args:
            stems: float32 (8, samples), in the order of STEMS with left before right.
            mixture: float32 (2, samples).
        """
        count, bins = len(STEMS), _FFT_SIZE // 2 + 1
        together = np.concatenate([stems, mixture])
        pairs, targets = np.zeros((_CHANNELS, count, count, bins)), np.zeros((_CHANNELS, count, bins))
        for spectra in frames(together, _FFT_SIZE, _HOP, _FRAMES_AT_ONCE, padding=_FFT_SIZE):
            for channel in range(_CHANNELS):
                of_channel = spectra[channel::_CHANNELS]
                parts = np.concatenate([of_channel.real, of_channel.imag], axis=1)
                for first in range(count):
                    products = (parts[first] * parts[first:]).sum(axis=1, dtype=np.float64)
                    pairs[channel, first, first:] += products[:-1]
                    pairs[channel, first:, first] = pairs[channel, first, first:]
                    targets[channel, first] += products[-1]
        return cls(pairs, targets)

    def __add__(self, other: "Correlations") -> "Correlations":
        return Correlations(self.stems + other.stems, self.mixture + other.mixture, self.songs + other.songs)


@dataclass(frozen=True)
class StaticMix:
    """Gains of each stem's channels in thirds of an octave.

    Attributes:
        gains: (4 stems, 2 channels, 29 bands), linear; between the bands' centres they go straight over the logarithm
            of the frequency. One below 0 turns the polarity.
        songs: how many they were fitted on.
    """

    gains: np.ndarray
    songs: int

    @classmethod
    def fit(cls, songs: Sequence[Song]) -> "StaticMix":
        """The gains with the least squared difference from the mixtures, over all songs together.

        Args:
            songs: normalized stems with mixtures; those without a mixture are left out, and so are some of more than
                a hundred.

        Raises:
            DatasetError: no song has a mixture.
        """
        with_mixture = [song for song in songs if song.mixture]
        if not with_mixture:
            raise DatasetError(f"expected songs with a {MIXTURE} to fit the static mix on, found none")
        count = min(len(with_mixture), _MOST_SONGS)
        with_mixture = [with_mixture[number * len(with_mixture) // count] for number in range(count)]
        workers = 1 if len(with_mixture) <= _FEW_SONGS else None
        measured, _ = map_songs(_correlations, with_mixture, "fit the static mix", workers)
        return cls.solve(functools.reduce(Correlations.__add__, (correlations for _, correlations in measured)))

    @classmethod
    def solve(cls, correlations: Correlations) -> "StaticMix":
        """The gains of least squares for what was measured."""
        gains = [_solve(*of_channel) for of_channel in zip(correlations.stems, correlations.mixture, strict=True)]
        return cls(np.stack(gains, axis=1), correlations.songs)

    def mix(self, normalized: np.ndarray) -> np.ndarray:
        """The mix, float32 (2, samples), of normalized stems, float32 (8, samples) as the network is given them."""
        mixed = np.zeros((_CHANNELS, normalized.shape[1]), dtype=np.float32)
        for number, row in enumerate(normalized):
            stem, channel = divmod(number, _CHANNELS)
            if not self.gains[stem, channel].any():
                continue
            mixed[channel] += convolve(row, self._impulse_response(stem, channel), _FFT_SIZE // 2)
        return mixed

    def save(self, folder: Path) -> None:
        """Write the gains into an existing folder, as text."""
        content = _File(
            songs=self.songs,
            centres_hz=[round(float(centre), 2) for centre in CENTRES_HZ],
            gains={stem: self.gains[number].round(6).tolist() for number, stem in enumerate(STEMS)},
        )
        write_json(folder / STATIC_MIX_FILE, content.model_dump())

    @classmethod
    def load(cls, folder: Path) -> "StaticMix | None":
        """What :meth:`save` wrote; None if there is nothing, as in a Mixer of imported weights.

        Raises:
            ModelError: the file holds something else.
        """
        file = folder / STATIC_MIX_FILE
        if not file.is_file():
            return None
        try:
            content = _File.model_validate(bounded.read_json(file))
            gains = np.array([content.gains[stem] for stem in STEMS])
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"{file}: not the gains of a static mix ({first_line(error)})") from error
        if gains.shape != (len(STEMS), _CHANNELS, _BANDS):
            raise ModelError(f"{file}: expected the gains of two channels for each stem, found {gains.shape[1]}")
        return cls(gains, content.songs)

    def _impulse_response(self, stem: int, channel: int) -> np.ndarray:
        """Of a filter with these gains and no delay but that of its middle, (8192,)."""
        response = scipy.fft.irfft(self.gains[stem, channel] @ _shapes(), _FFT_SIZE)
        faded = np.roll(response, _FFT_SIZE // 2) * scipy.signal.get_window("hann", _FFT_SIZE)
        return np.asarray(faded, dtype=np.float32)


def _correlations(song: Song) -> Correlations:
    """Of a song of normalized stems; a missing stem is silent."""
    stems, mixture = song.read_stems(), song.read_mixture()
    length = max(signal.shape[1] for signal in (*stems.values(), mixture))
    rows = np.zeros((_CHANNELS * len(STEMS), length), dtype=np.float32)
    for number, stem in enumerate(STEMS):
        if stem in stems:
            samples = audio.to_stereo(stems.pop(stem))
            rows[_CHANNELS * number : _CHANNELS * (number + 1), : samples.shape[1]] = samples
    return Correlations.of(rows, audio.pad_to(mixture, length))


def _solve(pairs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Gains of one channel, (4 stems, 29 bands), of products (4, 4, bins) and (4, bins)."""
    shapes = _shapes()
    matrix = np.einsum("bf,stf,cf->sbtc", shapes, pairs, shapes, optimize=True)
    vector = targets @ shapes.T
    energy = np.einsum("sbsb->b", matrix)
    size = len(STEMS) * _BANDS
    flat = matrix.reshape(size, size) + np.diag(np.tile(_RIDGE * energy, len(STEMS)))
    # a band in which nothing sounds has no equation, and gets no gain
    return np.linalg.lstsq(flat, vector.reshape(size))[0].reshape(len(STEMS), _BANDS)


@functools.cache
def _shapes() -> np.ndarray:
    """How much of each band's gain counts at each bin, (29, bins): triangles over the logarithm of the frequency."""
    frequencies = np.arange(_FFT_SIZE // 2 + 1) * SAMPLE_RATE / _FFT_SIZE
    position = np.log(np.clip(frequencies, CENTRES_HZ[0], CENTRES_HZ[-1]))
    return np.stack([np.interp(position, np.log(CENTRES_HZ), unit) for unit in np.eye(_BANDS)])

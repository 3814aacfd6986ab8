"""Bleed: one stem within another one, as the same sound at a lower level and perhaps a little later.

The filters from all other stems to one are identified together, as in :mod:`fxnorm.quality.sums`: what two stems have
in common by way of a third is not counted twice. Sound that got from one microphone into another came on one way, so
its filter is a short impulse; notes and beats that coincide give filters without a peak. The peak has to be at the same
place in both halves of the song.
"""

from dataclasses import dataclass

import numpy as np

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.quality.spectra import SIZE, SongSpectra

_LATEST = round(0.03 * SAMPLE_RATE)  # samples: sound takes 30 ms for 10 m
_HALF_WIDTH = 64  # samples on both sides that belong to the peak
_DIRECT = 256  # samples on both sides that belong to the direct sound, 6 ms: down to some hundred hertz
_PEAK = 12.0  # times the root mean square of the rest; coinciding notes stay under 7
_SAME_PLACE = 2  # samples
_RIDGE = 1e-4  # of a stem's mean power, added to it
_NOTHING = 1e-7  # of the loudest stem's energy


@dataclass(frozen=True)
class Bleed:
    """A stem that can be heard in another one.

    Attributes:
        source: the stem that is heard.
        target: the stem that it is heard in.
        level_db: its level there against its own.
        delay_samples: by how much it is later there.
        clearness: height of the peak, in root mean squares of the rest of the filter.
    """

    source: str
    target: str
    level_db: float
    delay_samples: int
    clearness: float


def find(spectra: SongSpectra, least_clear: float = _PEAK) -> list[Bleed]:
    """Stems within other stems, whatever their level, by target and source."""
    stems = [number for number, name in enumerate(spectra.names) if name in STEMS]
    powers = spectra.powers
    energies = powers[stems].sum(axis=1)
    stems = [number for number, energy in zip(stems, energies, strict=True) if energy > _NOTHING * energies.max()]
    found = []
    for target in stems:
        sources = [number for number in stems if number != target]
        if not sources:
            continue
        # what gets into another microphone is quieter there: where the source is not the louder one, the filter would
        # show the way back
        louder = powers[sources] > powers[target]
        whole = _filters(spectra.cross.sum(axis=0), sources, target, louder)
        halves = [_filters(half, sources, target, louder) for half in spectra.cross]
        for position, source in enumerate(sources):
            peaks = [_peak(filters[position]) for filters in (whole, *halves)]
            lag, clearness = peaks[0]
            steady = all(abs(other - lag) <= _SAME_PLACE for other, _ in peaks[1:])
            if clearness >= least_clear and steady:
                level = _level_db(whole[position], lag, powers[source] * louder[position])
                found.append(Bleed(spectra.names[source], spectra.names[target], level, lag, clearness))
    return found


def _filters(cross: np.ndarray, sources: list[int], target: int, bins: np.ndarray) -> np.ndarray:
    """Impulse responses (sources, SIZE), circular, from the sources to the target, of the ``bins`` of each source."""
    inputs = cross[:, sources][:, :, sources].transpose(0, 2, 1).astype(np.complex128)
    diagonal = np.arange(len(sources))
    inputs[:, diagonal, diagonal] += _RIDGE * inputs[:, diagonal, diagonal].real.mean(axis=0) + 1e-20
    transfer = np.linalg.solve(inputs, cross[:, target, sources, None])[..., 0]
    return np.fft.irfft(transfer.T * bins, SIZE, axis=1)


def _peak(response: np.ndarray) -> tuple[int, float]:
    """Delay of the highest peak in the range of delays, and its height in root mean squares of what is around it."""
    centred = np.roll(response, SIZE // 2)
    window = slice(SIZE // 2 - _LATEST, SIZE // 2 + _LATEST + 1)
    index = int(np.argmax(np.abs(centred[window]))) + window.start
    rest = np.abs(np.arange(SIZE) - index) > _HALF_WIDTH
    level = np.sqrt(np.mean(np.square(centred[rest])))
    return index - SIZE // 2, float(abs(centred[index]) / (level + 1e-20))


def _level_db(response: np.ndarray, lag: int, power: np.ndarray) -> float:
    """Energy that the direct part of a filter passes of a source, against the source's."""
    centred = np.roll(response, SIZE // 2 - lag)
    direct = centred[SIZE // 2 - _DIRECT : SIZE // 2 + _DIRECT + 1]
    passed = np.square(np.abs(np.fft.rfft(direct, SIZE))) * power
    return float(10 * np.log10(passed.sum() / (power.sum() + 1e-20) + 1e-12))

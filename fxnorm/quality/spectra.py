"""Cross spectra of all files of a song, from one pass: what bleed, band limits and labels are measured on."""

from dataclasses import dataclass

import numpy as np

from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects.spectrum import frame_count, frames

SIZE, HOP = 4096, 2048  # samples; with these frames' window, each sample counts the same
BINS = SIZE // 2 + 1
HZ_PER_BIN = SAMPLE_RATE / SIZE
_FEWEST_AT_ONCE, _MOST_AT_ONCE = 8, 64  # frames
_HALVES, _STRETCHES = 2, 4  # of a short song there are as many stretches, for both halves to have some


@dataclass(frozen=True)
class SongSpectra:
    """Spectra of a song's files, in one channel each.

    Attributes:
        names: the stems' and, if there is one, the mixture's.
        cross: complex64 (2, bins, files, files): sums over frames of the products of one file's spectrum with the
            conjugate of another's; of every other stretch of some seconds, and of those between.
        levels: float32 (files, frames): energy of each frame.
    """

    names: tuple[str, ...]
    cross: np.ndarray
    levels: np.ndarray

    @property
    def powers(self) -> np.ndarray:
        """Power spectra (files, bins)."""
        return np.ascontiguousarray(np.diagonal(self.cross.sum(axis=0), axis1=1, axis2=2).real.T.astype(np.float64))


def measure(files: dict[str, np.ndarray]) -> SongSpectra:
    """Spectra of files (2, samples) of one length: of both channels' mean, or of the left one where that is silent."""
    mono = np.stack([_one_channel(audio) for audio in files.values()])
    count = len(mono)
    cross = np.zeros((_HALVES, BINS, count, count), np.complex64)
    levels = []
    at_once = min(max(frame_count(mono.shape[1], SIZE, HOP) // _STRETCHES, _FEWEST_AT_ONCE), _MOST_AT_ONCE)
    for number, spectra in enumerate(frames(mono, SIZE, HOP, at_once)):
        by_bin = np.ascontiguousarray(spectra.transpose(2, 0, 1))
        cross[number % _HALVES] += by_bin @ by_bin.conj().transpose(0, 2, 1)
        levels.append((np.square(spectra.real) + np.square(spectra.imag)).sum(axis=2))
    return SongSpectra(tuple(files), cross, np.concatenate(levels, axis=1))


def _one_channel(audio: np.ndarray) -> np.ndarray:
    middle = audio.mean(axis=0)
    return middle if np.any(middle) else audio[0]

"""The tracks of a session, which become their shares of a mix, in a file: they may be more than memory holds."""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fxnorm.constants import SAMPLE_RATE
from fxnorm.errors import OutputError
from fxnorm.io.audio import MAX_CHANNELS
from fxnorm.io.files import writing

_GIGABYTE = 1e9


@dataclass(frozen=True)
class TrackSignals:
    """Tracks of a session, which add up to its stems: at first as they are in them, later their shares of a mix.

    Attributes:
        audio: float32 (tracks, 2, samples), as long as the longest stem. It may lie in a file.
        stems: the stem of each.
        files: the name of each.
    """

    audio: np.ndarray
    stems: Sequence[str]
    files: Sequence[str]

    def of(self, stem: str) -> list[np.ndarray]:
        """Those of one stem, (2, samples) each, to be overwritten."""
        return [audio for audio, own in zip(self.audio, self.stems, strict=True) if own == stem]


def room(stems: Mapping[str, str], samples: int, folder: Path, sample_rate: int = SAMPLE_RATE) -> TrackSignals:
    """Silence for tracks, in a file that has no name, and so is gone as soon as nobody holds it.

    It lies on the disk that the shares are written to, because temporary folders may lie in memory.

    Args:
        stems: the stem of each track, by file.
        samples: length of the longest stem.
        folder: where the shares will be written.
        sample_rate: of the mix, in Hz.

    Raises:
        OutputError: there is not enough room for this file and for the shares, or the system refuses to make it.
    """
    shape = len(stems), MAX_CHANNELS, samples
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(np.float32).itemsize
    needed = size + size * sample_rate // SAMPLE_RATE
    place = folder.absolute().parent
    while not place.is_dir():
        place = place.parent
    with writing(folder):
        free = shutil.disk_usage(place).free
        if needed > free:
            raise OutputError(
                f"{folder}: the shares of {len(stems)} tracks need {needed / _GIGABYTE:.2f} GB of the disk while they"
                f" are made, found {free / _GIGABYTE:.2f} GB"
            )
        with tempfile.TemporaryFile(dir=place) as file:
            if hasattr(os, "posix_fallocate"):  # not on macOS; without it, a disk that fills up ends the process later
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            audio = np.asarray(np.memmap(file, np.float32, "r+", shape=shape))
    return TrackSignals(audio, tuple(stems.values()), tuple(stems))

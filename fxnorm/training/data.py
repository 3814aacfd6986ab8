"""Random crops for training and fixed sequences for validation, read straight from disk.

Which crop the n-th example is depends on the seed and on n alone, so a run that goes on from a checkpoint sees what an
uninterrupted one would have seen, with any number of reading processes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch.utils.data import Dataset, Sampler

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.dataset import Song
from fxnorm.errors import DatasetError

Example = tuple[torch.Tensor, torch.Tensor]
"""Stems (8, samples), in the order of STEMS with left before right, and the mixture (2, samples)."""


class StoredSong:
    """A normalized song of which any stretch can be read without reading the rest.

    Args:
        song: stems and mixture as WAV or FLAC at the library's sample rate.

    Raises:
        DatasetError: there is no mixture, or a file is not at the library's sample rate.
    """

    def __init__(self, song: Song) -> None:
        if song.mixture is None:
            raise DatasetError(f"{song.folder}: expected a mixture beside the stems, found none; training needs it")
        self.name = song.name
        self._stems = [song.stems.get(stem) for stem in STEMS]
        self._mixture = song.mixture
        self.samples = max(_length(path) for path in song.files)

    def read(self, start: int, samples: int) -> Example:
        """``samples`` from ``start`` on; past the song's end it goes on at its beginning."""
        stems = [self._stretch(path, start, samples) for path in self._stems]
        return torch.from_numpy(np.concatenate(stems)), torch.from_numpy(self._stretch(self._mixture, start, samples))

    def _stretch(self, path: Path | None, start: int, samples: int) -> np.ndarray:
        stretch = np.zeros((2, samples), dtype=np.float32)
        if path is None:
            return stretch
        with soundfile.SoundFile(path) as file:
            filled, position = 0, start % self.samples
            while filled < samples:
                wanted = min(samples - filled, self.samples - position)
                if position < file.frames:
                    file.seek(position)
                    found = file.read(min(wanted, file.frames - position), dtype="float32", always_2d=True).T
                    stretch[:, filled : filled + found.shape[1]] = found  # a mono file fills both channels
                filled, position = filled + wanted, 0
        return stretch


class RandomCrops(Dataset[Example]):
    """Crops of random songs at random places; the n-th is the same whenever it is asked for.

    Args:
        songs: normalized songs with mixtures.
        samples: length of a crop.
        seed: of all draws.
        swap_channels: swap left and right of stems and mixture together in half of the crops.
    """

    def __init__(self, songs: Sequence[Song], samples: int, seed: int, swap_channels: bool) -> None:
        self.songs = [StoredSong(song) for song in songs]
        self.samples = samples
        self._seed = seed
        self._swap_channels = swap_channels

    def song_of(self, number: int) -> str:
        """The name of the song that the crop is from."""
        return self._draw(number)[0].name

    def __getitem__(self, number: int) -> Example:
        song, start, swapped = self._draw(number)
        stems, mixture = song.read(start, self.samples)
        if swapped:
            return stems.unflatten(0, (-1, 2)).flip(1).flatten(0, 1), mixture.flip(0)
        return stems, mixture

    def _draw(self, number: int) -> tuple[StoredSong, int, bool]:
        generator = np.random.default_rng((self._seed, number))
        song = self.songs[generator.integers(len(self.songs))]
        start = int(generator.integers(song.samples))
        return song, start, self._swap_channels and bool(generator.integers(2))


class Consecutive(Sampler[int]):
    """Example numbers from ``first`` up to ``end``: where a run goes on is where its sampler starts."""

    def __init__(self, first: int, end: int) -> None:
        self._range = range(first, end)

    def __iter__(self) -> Iterator[int]:
        return iter(self._range)

    def __len__(self) -> int:
        return len(self._range)


class Sequences(Dataset[Example]):
    """Songs cut end to end into sequences of one length, for validation; the last one wraps round.

    Args:
        songs: normalized songs with mixtures.
        samples: length of a sequence.
        overlap: samples that neighbouring sequences share, because the loss leaves out their edges.
    """

    def __init__(self, songs: Sequence[Song], samples: int, overlap: int = 0) -> None:
        stored = [StoredSong(song) for song in songs]
        self.samples = samples
        self.places = [(song, start) for song in stored for start in range(0, song.samples, max(samples - overlap, 1))]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> Example:
        song, start = self.places[number]
        return song.read(start, self.samples)


def _length(path: Path) -> int:
    try:
        found = soundfile.info(str(path))
    except soundfile.LibsndfileError as error:
        raise DatasetError(f"{path}: not readable as audio ({error})") from error
    if found.samplerate != SAMPLE_RATE:
        raise DatasetError(f"{path}: expected {SAMPLE_RATE} Hz, found {found.samplerate}; run 'fxnorm normalize' first")
    return int(found.frames)

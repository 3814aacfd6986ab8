"""Random crops for training and fixed sequences for validation, read straight from disk.

Which crop the n-th example is depends on the seed and on n alone, so a run that goes on from a checkpoint sees what an
uninterrupted one would have seen, with any number of reading processes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
import torch
from torch.utils.data import Dataset, Sampler

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.errors import AudioError, DatasetError
from fxnorm.io import audio as audio_io

# a training's identity has the code that this module imports: a song comes in by its content, and a training without
# reverberation has nothing of the effects
if TYPE_CHECKING:
    from fxnorm.data.dataset import Song
    from fxnorm.training.reverberation import Reverberation

Example = tuple[torch.Tensor, torch.Tensor]
"""Stems (8, samples), in the order of STEMS with left before right, and the mixture (2, samples)."""


def __getattr__(name: str) -> Any:
    if name != "Reverberation":  # it was defined in this module before
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("fxnorm.training.reverberation").Reverberation


class StoredSong:
    """A normalized song of which any stretch can be read without reading the rest.

    Args:
        song: stems and mixture as WAV or FLAC at the library's sample rate.

    Raises:
        DatasetError: there is no mixture, or a file is not at the library's sample rate.
    """

    def __init__(self, song: "Song") -> None:
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
        try:
            with soundfile.SoundFile(path) as file:
                filled, position = 0, start % self.samples
                while filled < samples:
                    length = min(samples - filled, self.samples - position)
                    if position < file.frames:
                        file.seek(position)
                        block = file.read(min(length, file.frames - position), dtype="float32", always_2d=True).T
                        stretch[:, filled : filled + block.shape[1]] = block  # a mono file fills both channels
                    filled, position = filled + length, 0
        except soundfile.LibsndfileError as error:
            raise DatasetError(f"{path}: cannot be read any more ({error})") from error
        return stretch


@dataclass(frozen=True)
class _Draw:
    """What the n-th example is."""

    song: StoredSong
    start: int
    swapped: bool
    reverberated: dict[str, int]


class RandomCrops(Dataset[Example]):
    """Crops of random songs at random positions; the n-th is always the same.

    Args:
        songs: normalized songs with mixtures.
        samples: length of a crop.
        seed: of all draws.
        swap_channels: swap left and right of stems and mixture together in half of the crops.
        reverberation: what some stems (never the mixture) get, if anything.
    """

    def __init__(
        self,
        songs: "Sequence[Song]",
        samples: int,
        seed: int,
        swap_channels: bool,
        reverberation: "Reverberation | None" = None,
    ) -> None:
        self.songs = [StoredSong(song) for song in songs]
        self.samples = samples
        self._seed = seed
        self._swap_channels = swap_channels
        self._reverberation = reverberation

    def song_of(self, number: int) -> str:
        """The name of the song that the crop is from."""
        return self._draw(number).song.name

    def __getitem__(self, number: int) -> Example:
        draw = self._draw(number)
        stems, mixture = draw.song.read(draw.start, self.samples)
        if self._reverberation is not None and draw.reverberated:
            lead = self._reverberation.lead_samples
            longer, _ = draw.song.read(draw.start - lead, lead + self.samples)
            for stem, seed in draw.reverberated.items():
                channels = slice(2 * STEMS.index(stem), 2 * STEMS.index(stem) + 2)
                reverberated = self._reverberation.apply(longer[channels].numpy(), stem, seed)
                stems[channels] = torch.from_numpy(reverberated[:, lead:])
        if draw.swapped:
            return stems.unflatten(0, (-1, 2)).flip(1).flatten(0, 1), mixture.flip(0)
        return stems, mixture

    def _draw(self, number: int) -> _Draw:
        generator = np.random.default_rng((self._seed, number))
        song = self.songs[generator.integers(len(self.songs))]
        start = int(generator.integers(song.samples))
        swapped = self._swap_channels and bool(generator.integers(2))
        return _Draw(song, start, swapped, self._reverberation.draw(generator) if self._reverberation else {})


class DistributedBatchSampler(Sampler[int]):
    """The numbers of the examples that one of several processes computes, batch after batch.

    Batch b of all processes together holds the examples from b · ``batch_size`` on; each process takes an equal part,
    in the order of the ranks. A run that is resumed starts with a later batch.

    Args:
        batches: numbers of the batches.
        batch_size: of all processes together; a multiple of ``count``.
        rank: of this process.
        count: of processes.
    """

    def __init__(self, batches: range, batch_size: int, rank: int = 0, count: int = 1) -> None:
        self._batches = batches
        self._batch_size = batch_size
        self._local_batch_size = batch_size // count
        self._offset = rank * self._local_batch_size

    def __iter__(self) -> Iterator[int]:
        for batch in self._batches:
            first = batch * self._batch_size + self._offset
            yield from range(first, first + self._local_batch_size)

    def __len__(self) -> int:
        return len(self._batches) * self._local_batch_size


class Sequences(Dataset[Example]):
    """Songs cut end to end into sequences of one length, for validation; the last one wraps round.

    Args:
        songs: normalized songs with mixtures.
        samples: length of a sequence.
        overlap: samples that neighbouring sequences share, because the loss leaves out their edges.
    """

    def __init__(self, songs: "Sequence[Song]", samples: int, overlap: int = 0) -> None:
        stored = [StoredSong(song) for song in songs]
        self.samples = samples
        self.places = [(song, start) for song in stored for start in range(0, song.samples, max(samples - overlap, 1))]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> Example:
        song, start = self.places[number]
        return song.read(start, self.samples)


def _length(path: Path) -> int:
    """Samples of a stored file; its header has to state their number, since stretches are read by it."""
    try:
        samples, sample_rate = audio_io.length(path)
    except AudioError as error:
        raise DatasetError(str(error)) from error
    if sample_rate != SAMPLE_RATE:
        raise DatasetError(f"{path}: expected {SAMPLE_RATE} Hz, found {sample_rate}; run 'fxnorm normalize' first")
    try:
        announced = soundfile.info(str(path)).frames
    except soundfile.LibsndfileError as error:
        raise DatasetError(f"{path}: of this format, no stretch is read; run 'fxnorm normalize' first") from error
    if announced != samples:
        raise DatasetError(f"{path}: {announced} samples announced, {samples} found; run 'fxnorm normalize' first")
    return samples

"""Random crops for training and fixed sequences for validation, read straight from disk or from a store.

Which crop the n-th example is depends on the seed and on n alone, so a run that goes on from a checkpoint sees what an
uninterrupted one would have seen, with any number of reading processes.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
import soundfile
import torch
from torch.utils.data import Dataset, Sampler

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.errors import AudioError, DatasetError, system_reason
from fxnorm.io import audio as audio_io
from fxnorm.io import pcm, remote
from fxnorm.io.remote import RangedFile

# a training's identity has the code that this module imports: a song comes in by its content, and a training without
# reverberation has nothing of the effects
if TYPE_CHECKING:
    from fxnorm.data.dataset import Song
    from fxnorm.training.reverberation import Reverberation

_WAV = ("WAV", "WAVEX", "RF64")  # soundfile's names
_MOST_BATCHES_AHEAD = 8
_MOST_BYTES_AHEAD = 2**28
"""What a reading process holds of the batches after the next, as samples; one batch in any case."""

Example = tuple[torch.Tensor, torch.Tensor]
"""Stems (8, samples), in the order of STEMS with left before right, and the mixture (2, samples)."""


def __getattr__(name: str) -> Any:
    if name != "Reverberation":  # it was defined in this module before
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("fxnorm.training.reverberation").Reverberation


class StoredSong:
    """A normalized song of which any stretch can be read without reading the rest.

    Args:
        song: stems and mixture as WAV or FLAC at the library's sample rate, on disk or in a store.

    Raises:
        DatasetError: there is no mixture, or a file is not at the library's sample rate.
    """

    def __init__(self, song: "Song") -> None:
        if song.mixture is None:
            raise DatasetError(f"{song.folder}: expected a mixture beside the stems, found none; training needs it")
        self.name = song.name
        self.is_remote = song.remote(song.mixture) is not None
        self._song = song
        self._files = [*(song.stems.get(stem) for stem in STEMS), song.mixture]
        self.samples = max(song.samples_of(path) or _length(path) for path in song.files)

    def read(self, start: int, samples: int) -> Example:
        """``samples`` from ``start`` on; past the song's end it goes on at its beginning."""
        return self.joined([stretch() for stretch in self.stretches(start, samples)])

    def stretches(self, start: int, samples: int) -> "list[Callable[[], np.ndarray]]":
        """What gives each file's part of :meth:`read`, to be called in any thread."""
        return [functools.partial(self._stretch, path, start, samples) for path in self._files]

    def joined(self, stretches: Sequence[np.ndarray]) -> Example:
        """The stretches of the stems and the mixture as an example."""
        return torch.from_numpy(np.concatenate(stretches[:-1])), torch.from_numpy(stretches[-1])

    def _stretch(self, path: Path | None, start: int, samples: int) -> np.ndarray:
        stretch = np.zeros((2, samples), dtype=np.float32)
        if path is None:
            return stretch
        file = self._song.remote(path)
        remote_file = None if file is None else RangedFile(file, self._song.cache)
        try:
            with contextlib.ExitStack() as opened:
                source: BinaryIO | RangedFile | Path = remote_file or path
                if remote_file is None and path.suffix == ".wav":
                    source = opened.enter_context(open(path, "rb", buffering=0))
                sound = opened.enter_context(_SoundFile(source))
                filled, position = 0, start % self.samples
                while filled < samples:
                    length = min(samples - filled, self.samples - position)
                    if position < sound.frames:
                        block = _block(sound, source, position, min(length, sound.frames - position))
                        stretch[:, filled : filled + block.shape[1]] = block  # a mono file fills both channels
                    filled, position = filled + length, 0
        except (soundfile.LibsndfileError, ValueError, OSError) as error:
            if remote_file is not None:
                remote_file.raise_error()
            reason = system_reason(error) if isinstance(error, OSError) else error
            raise DatasetError(f"{file.address if file else path}: cannot be read any more ({reason})") from error
        if remote_file is not None:
            remote_file.raise_error()
        return stretch


def _block(sound: soundfile.SoundFile, source: "BinaryIO | RangedFile | Path", start: int, count: int) -> np.ndarray:
    """Samples (channels, count) of an open file."""
    width = sound.channels * pcm.WIDTHS.get(sound.subtype, 0)
    if isinstance(source, Path) or sound.format not in _WAV or sound.endian == "BIG" or not width:
        if isinstance(source, RangedFile):  # before the decoder reads there, to find the place
            source.expect(*audio_io.place_of(cast("BinaryIO", source), sound.frames, start, count))
        sound.seek(start)
        return sound.read(count, dtype="float32", always_2d=True).T
    sound.seek(start)
    place = source.tell()  # where the decoder would read on
    stop = place + count * width
    content = source.stretch(place, stop) if isinstance(source, RangedFile) else source.read(count * width)
    if len(content) != count * width:
        raise ValueError(f"{len(content)} of {count * width} bytes came")
    return pcm.decode(content, sound.subtype).reshape(-1, sound.channels).T


class _SoundFile(soundfile.SoundFile):
    """Without soundfile's own seek behind each read, which for FLAC decodes once more."""

    def seekable(self) -> bool:
        return False


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
        self.is_remote = any(song.is_remote for song in self.songs)
        self._ahead = _ReadAhead(self, samples)
        self._seed = seed
        self._swap_channels = swap_channels
        self._reverberation = reverberation

    def song_of(self, number: int) -> str:
        """The name of the song that the crop is from."""
        return self._draw(number).song.name

    def __getitem__(self, number: int) -> Example:
        return self.finished(number, [stretch() for stretch in self.stretches(number)])

    def __getitems__(self, numbers: list[int]) -> list[Example]:
        return self._ahead.examples(numbers) if self.is_remote else [self[number] for number in numbers]

    def stretches(self, number: int) -> "list[Callable[[], np.ndarray]]":
        """What reads the files of an example, to be called in any thread."""
        draw, lead = self._draw(number), self._lead(number)
        return draw.song.stretches(draw.start - lead, lead + self.samples)

    def finished(self, number: int, stretches: Sequence[np.ndarray]) -> Example:
        """The example of what was read for it."""
        draw, lead = self._draw(number), self._lead(number)
        longer, mixture = draw.song.joined(stretches)
        stems, mixture = longer[:, lead:].contiguous(), mixture[:, lead:].contiguous()
        if self._reverberation is not None:
            for stem, seed in draw.reverberated.items():
                channels = slice(2 * STEMS.index(stem), 2 * STEMS.index(stem) + 2)
                reverberated = self._reverberation.apply(longer[channels].numpy(), stem, seed)
                stems[channels] = torch.from_numpy(reverberated[:, lead:])
        if draw.swapped:
            return stems.unflatten(0, (-1, 2)).flip(1).flatten(0, 1), mixture.flip(0)
        return stems, mixture

    def _lead(self, number: int) -> int:
        """Samples before the crop that are heard in it."""
        return self._reverberation.lead_samples if self._reverberation and self._draw(number).reverberated else 0

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
        self.is_remote = any(song.is_remote for song in stored)
        self._ahead = _ReadAhead(self, samples)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> Example:
        song, start = self.places[number]
        return song.read(start, self.samples)

    def __getitems__(self, numbers: list[int]) -> list[Example]:
        return self._ahead.examples(numbers) if self.is_remote else [self[number] for number in numbers]

    def stretches(self, number: int) -> "list[Callable[[], np.ndarray]]":
        """What reads the files of a sequence, to be called in any thread; none behind the last sequence."""
        if number >= len(self.places):
            return []
        song, start = self.places[number]
        return song.stretches(start, self.samples)

    def finished(self, number: int, stretches: Sequence[np.ndarray]) -> Example:
        """The sequence of what was read for it."""
        return self.places[number][0].joined(stretches)


class _ReadAhead:
    """Reads examples in threads, and those that will be asked for next before they are.

    Which these are follows from the last two lists of numbers: they differ by as much as the next two will. A wrong
    guess costs reading, and changes nothing.

    Args:
        examples: what is read.
        samples: of an example.
    """

    def __init__(self, examples: "RandomCrops | Sequences", samples: int) -> None:
        self._examples = examples
        self._bytes = (2 * len(STEMS) + 2) * samples * 4
        self._threads: remote.Threads[np.ndarray] | None = None
        self._begun: dict[int, list[Future[np.ndarray]]] = {}
        self._last: list[int] = []

    def examples(self, numbers: list[int]) -> list[Example]:
        """The examples of a batch."""
        self._threads = self._threads or remote.Threads()
        batch = {number: self._reading(number) for number in numbers}
        self._begun = {number: self._reading(number) for number in self._next(numbers)}
        self._last = numbers
        return [self._examples.finished(number, [stretch.result() for stretch in batch[number]]) for number in numbers]

    def _reading(self, number: int) -> "list[Future[np.ndarray]]":
        begun = self._begun.pop(number, None)
        if begun is None:
            assert self._threads is not None
            begun = [self._threads.submit(stretch) for stretch in self._examples.stretches(number)]
        return begun

    def _next(self, numbers: list[int]) -> list[int]:
        steps = {number - last for number, last in zip(numbers, self._last, strict=False)}
        if len(steps) != 1 or min(steps) <= 0:
            return []
        (step,) = steps
        most = max(1, min(_MOST_BATCHES_AHEAD, _MOST_BYTES_AHEAD // (len(numbers) * self._bytes)))
        return [number + ahead * step for ahead in range(1, most + 1) for number in numbers]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_threads": None, "_begun": {}, "_last": []}  # of one process


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

"""Songs and their stems on disk.

A dataset is a folder of songs, or of splits (``train``, ``val``, ``test``) that hold songs, as MUSDB18-HQ has it. A
song is a folder with at least one stem: ``vocals``, ``bass``, ``drums`` or ``other`` as ``.wav``, ``.flac`` or
``.mp3``, and usually the finished ``mixture``. A stem that is not there is silent.
"""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fxnorm import audio
from fxnorm.constants import MIXTURE, SAMPLE_RATE, SILENCE_DBFS, STEMS
from fxnorm.errors import AudioError, DatasetError, SettingsError

SPLITS = ("train", "val", "test")
_HASH_BLOCK = 1 << 20
_MIXTURE_TOLERANCE_SECONDS = 0.1


@dataclass(frozen=True)
class Song:
    """One song on disk: its folder, the stems that are there, and its mixture if there is one."""

    name: str
    folder: Path
    stems: dict[str, Path]
    mixture: Path | None

    @property
    def seconds(self) -> float:
        """Length of the longest file, in seconds."""
        return max(audio.duration_seconds(path) for path in self.files)

    @property
    def files(self) -> list[Path]:
        """The stems' files in the library's order, then the mixture's."""
        return [*self.stems.values(), *([self.mixture] if self.mixture else [])]

    def read_stems(self) -> dict[str, np.ndarray]:
        """The stems that are there, each (1 or 2 channels, samples) at the library's sample rate."""
        return {stem: audio.read(path)[0] for stem, path in self.stems.items()}

    def read_mixture(self) -> np.ndarray:
        """The mixture as (2, samples) at the library's sample rate.

        Raises:
            DatasetError: the song has none.
        """
        if self.mixture is None:
            raise DatasetError(f"{self.folder}: expected a {MIXTURE}.wav (or .flac, .mp3) beside the stems, found none")
        return audio.to_stereo(audio.read(self.mixture)[0])

    def digest(self) -> str:
        """A hash of the song's file names and contents, the same wherever the song lies."""
        total = hashlib.sha256()
        for path in self.files:
            total.update(path.name.encode())
            total.update(_file_digest(path))
        return total.hexdigest()


def songs(root: str | Path, split: str | None = None) -> list[Song]:
    """The songs of a dataset, by name.

    Args:
        root: a folder of splits, or of songs.
        split: the split wanted. A folder of songs without splits serves for any; None asks for all songs there are.

    Raises:
        DatasetError: the folder, the split or any song in it is missing.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; expected a dataset (songs, or {'/'.join(SPLITS)} with songs)")
    present = [name for name in SPLITS if (root / name).is_dir()]
    if not present:
        folders = [root]
    elif split is None:
        folders = [root / name for name in present]
    elif split in present:
        folders = [root / split]
    else:
        raise DatasetError(f"{root}: expected a split {split!r}, found {', '.join(present)}")
    found = [song for folder in folders for song in _songs_in(folder)]
    if not found:
        where = ", ".join(str(folder) for folder in folders)
        raise DatasetError(f"{where}: expected song folders with {'.wav, '.join(STEMS)}.wav, found none")
    return found


def shard_of(songs: list[Song], shard: tuple[int, int] | None) -> list[Song]:
    """Every ``shard[1]``-th song, from the ``shard[0]``-th on; all without a shard.

    Raises:
        SettingsError: there is no such shard, or fewer songs than shards.
    """
    if shard is None:
        return songs
    number, count = shard
    if not 1 <= number <= count:
        raise SettingsError(f"shard {number}/{count}: expected a number from 1 to {count}")
    if count > len(songs):
        raise SettingsError(f"shard {number}/{count}: expected at most as many shards as songs, found {len(songs)}")
    return songs[number - 1 :: count]


def parse_shard(text: str) -> tuple[int, int]:
    """``2/8`` as (2, 8).

    Raises:
        SettingsError: another text.
    """
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal()):
        raise SettingsError(f"shard {text}: expected NUMBER/COUNT, such as 2/8")
    return int(number), int(count)


def shard_names(songs: list[Song], count: int) -> list[str]:
    """The names of ``count`` shards, or of as many as there are songs."""
    count = max(1, min(count, len(songs)))
    return [f"{number}/{count}" for number in range(1, count + 1)]


def digest(dataset: Iterable[Song]) -> str:
    """A hash of many songs' names and contents: what a cached result depends on."""
    dataset = list(dataset)
    total = hashlib.sha256()
    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter's lock
        for song, value in zip(dataset, pool.map(Song.digest, dataset), strict=True):
            total.update(f"{song.name}\0{value}\n".encode())
    return total.hexdigest()


def find_problems(song: Song) -> tuple[list[str], list[str]]:
    """What is wrong with a song (no stage can use it) and what is worth knowing (it can be used all the same).

    Every file is read to its end, so a truncated or damaged one is found here rather than in the middle of a run.
    """
    problems, remarks = [], [f"no {stem}: taken as silence" for stem in STEMS if stem not in song.stems]
    lengths: dict[str, int] = {}
    for path in song.files:
        try:
            samples, found_rate = audio.read(path, sample_rate=None)
        except AudioError as error:
            problems.append(str(error))
            continue
        lengths[path.name] = round(samples.shape[1] * SAMPLE_RATE / found_rate)
        if found_rate != SAMPLE_RATE:
            remarks.append(f"{path.name}: {found_rate} Hz, will be resampled to {SAMPLE_RATE} Hz")
        if audio.peak_dbfs(samples) <= SILENCE_DBFS:
            remarks.append(f"{path.name}: silent (peak at or under {SILENCE_DBFS:g} dBFS)")
    if lengths and max(lengths.values()) - min(lengths.values()) > _MIXTURE_TOLERANCE_SECONDS * SAMPLE_RATE:
        listed = ", ".join(f"{name} {length / SAMPLE_RATE:.2f} s" for name, length in lengths.items())
        remarks.append(f"lengths differ ({listed}): shorter files are taken to end in silence")
    if song.mixture is None:
        remarks.append(f"no {MIXTURE}: usable for mixing and statistics, not for training")
    return problems, remarks


def _songs_in(folder: Path) -> list[Song]:
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [song for path in folders if (song := _song_at(path)) is not None]


def _song_at(folder: Path) -> Song | None:
    stems = {stem: path for stem in STEMS if (path := _find(folder, stem)) is not None}
    return Song(folder.name, folder, stems, _find(folder, MIXTURE)) if stems else None


def _find(folder: Path, name: str) -> Path | None:
    candidates = (folder / f"{name}{suffix}" for suffix in audio.AUDIO_SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def _file_digest(path: Path) -> bytes:
    total = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(_HASH_BLOCK):
                total.update(block)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from error
    return total.digest()

"""Songs and their stems on disk.

A dataset is a folder of songs, or of splits (``train``, ``val``, ``test``) that hold songs, as MUSDB18-HQ has it. A
song is a folder with at least one stem: ``vocals``, ``bass``, ``drums`` or ``other`` as ``.wav``, ``.flac`` or in
another format that is read (:data:`fxnorm.io.audio.AUDIO_SUFFIXES`), and usually the finished ``mixture``. A missing
stem is silent. Upper and lower case make no difference, and a split may have another usual name (``valid``, ``dev``,
…). Files and folders that are not read are logged.

A song to test with may have more mixtures, ``mixture_NAME``: other mixes of the same stems. What they are for is told
in :mod:`fxnorm.evaluation.songs`.
"""

import hashlib
import logging
import re
import unicodedata
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fxnorm.constants import MIXTURE, STEMS
from fxnorm.errors import DatasetError, SettingsError
from fxnorm.io import audio
from fxnorm.io.blocks import BlockCache
from fxnorm.io.folders import entries, files_below, is_foreign
from fxnorm.io.remote import RemoteFile

SPLITS = ("train", "val", "test")
_SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_OTHER_AUDIO = frozenset(
    f".{name}"
    for name in (
        "3gp", "ac3", "aiffc", "amr", "dff", "dsf", "dts", "m4b", "mkv", "mov", "mpc", "ofr", "ra", "sd2", "shn", "spx",
        "tak", "tta", "voc",
    )
)  # fmt: skip
"""Suffixes of audio that is not read, but reported as unused."""
_RECIPE_MARK = "normalization.json"
"""In the folder that ``fxnorm normalize`` leaves beside the splits."""
_HASH_BLOCK = 1 << 20
_MOST_LISTED = 3

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Song:
    """One song on disk: its folder, the files of its stems, and that of its mixture if there is one.

    ``other_mixtures`` are further mixes that a network's mix can be compared with, by name.
    """

    name: str
    folder: Path
    stems: dict[str, Path]
    mixture: Path | None
    other_mixtures: tuple[Path, ...] = ()

    @property
    def seconds(self) -> float:
        """Length of the longest file, in seconds."""
        return max(audio.duration_seconds(path) for path in self.files)

    @property
    def files(self) -> list[Path]:
        """The stems' files in the library's order, then the mixture's and those of other mixtures."""
        return [*self.stems.values(), *self.references.values()]

    @property
    def references(self) -> dict[str, Path]:
        """All mixtures by the names of their files without suffix, ``mixture`` first."""
        return ({MIXTURE: self.mixture} if self.mixture else {}) | {path.stem: path for path in self.other_mixtures}

    def read_stems(self) -> dict[str, np.ndarray]:
        """The stems that have a file, each (1 or 2 channels, samples) at the library's sample rate."""
        return {stem: self.read_file(path) for stem, path in self.stems.items()}

    def read_mixture(self) -> np.ndarray:
        """The mixture as (2, samples) at the library's sample rate.

        Raises:
            DatasetError: the song has none.
        """
        if self.mixture is None:
            raise DatasetError(f"{self.folder}: expected a {MIXTURE}.wav (or .flac, …) beside the stems, found none")
        return audio.to_stereo(self.read_file(self.mixture))

    def digest(self) -> str:
        """A hash of the song's file names and contents, the same wherever the song lies."""
        total = hashlib.sha256()
        for path in self.files:
            total.update(path.name.encode())
            total.update(self.digest_of(path))
        return total.hexdigest()

    def read_file(self, path: Path) -> np.ndarray:
        """One of the song's files, (1 or 2 channels, samples) at the library's sample rate."""
        return audio.read(path)[0]

    @property
    def cache(self) -> BlockCache | None:
        """Through which files are read that are not on disk."""
        return None

    def remote(self, path: Path) -> RemoteFile | None:
        """Where one of the song's files is, if that is not on disk."""
        return None

    def samples_of(self, path: Path) -> int | None:
        """Samples of one of the song's files, if they are known without looking into it."""
        return None

    def size_of(self, path: Path) -> int:
        """Bytes of one of the song's files."""
        return path.stat().st_size

    def digest_of(self, path: Path) -> bytes:
        """SHA-256 of one of the song's files."""
        return file_digest(path)


@dataclass(frozen=True)
class Unused:
    """Something in a dataset that no stage reads."""

    path: Path
    reason: str
    holds_audio: bool
    is_file: bool = False


@dataclass(frozen=True)
class Layout:
    """The contents of a dataset folder: its songs, what is not read, and what cannot be.

    Attributes:
        root: the folder.
        splits: the songs of each split that has a folder, in the order of ``SPLITS``; empty for a folder of songs.
        flat: the songs that lie in ``root`` itself.
        unused: folders and audio files that are not read.
        problems: ambiguities and broken links, by path; a line each.
        folders: where the splits lie.
    """

    root: Path
    splits: dict[str, list[Song]] = field(default_factory=dict)
    flat: list[Song] = field(default_factory=list)
    unused: list[Unused] = field(default_factory=list)
    problems: dict[Path, str] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)

    @classmethod
    def read(cls, root: str | Path) -> "Layout":
        """Look at every folder of a dataset; no audio is read.

        Raises:
            DatasetError: the folder is missing, or the system does not let it be read.
        """
        layout = cls(Path(root))
        if not layout.root.is_dir():
            raise DatasetError(f"{root}: no such folder; expected a dataset (songs, or {'/'.join(SPLITS)} with songs)")
        try:
            layout._read_root()
        except OSError as error:
            raise DatasetError(f"{error.filename}: cannot be read ({error.strerror})") from error
        return layout

    @property
    def songs(self) -> list[Song]:
        """All songs: those of the splits, or those of a folder of songs."""
        return [song for songs in self.splits.values() for song in songs] if self.splits else self.flat

    def of(self, split: str | None) -> list[Song]:
        """The songs of a split, or of all; of a folder of songs without splits, all in any case.

        Raises:
            DatasetError: the split, or any song in it, is missing, or it is unclear what one of them is.
        """
        if split is None or not self.splits:
            songs, folder = self.songs, self.root
        else:
            name = split_name(split)
            if name not in self.splits:
                message = f"{self.root}: expected a split {split!r}, found {', '.join(self.splits)}"
                if name == "val" and "train" in self.splits:
                    message += f"; 'fxnorm split {self.root} --val N' takes N of the training songs"
                raise DatasetError(message + self._not_read())
            songs, folder = self.splits[name], self.folder_of(name)
        for path, problem in self.problems.items():
            if path.is_relative_to(folder) or path.parent == self.root:
                raise DatasetError(problem)
        if not songs:
            expected = f"{folder}: expected song folders with {'.wav, '.join(STEMS)}.wav, found none"
            raise DatasetError(expected + self._not_read())
        return songs

    def present(self, splits: Sequence[str]) -> list[Song]:
        """The songs of those of the splits that there are, of all if none is named; whatever else is unclear.

        Raises:
            SettingsError: a name of no split.
        """
        if not self.splits or not splits:
            return self.songs
        wanted = {split_name(split) for split in splits}
        return [song for split, songs in self.splits.items() if split in wanted for song in songs]

    def log_unused(self) -> None:
        """Log in one line which files and folders hold audio and are not read."""
        if not_read := self._not_read():
            _log.warning("%s%s", self.root, not_read.replace("; ", ": ", 1))

    def _not_read(self) -> str:
        names = [
            f"{unused.path.relative_to(self.root)} ({unused.reason})" for unused in self.unused if unused.holds_audio
        ]
        if not names:
            return ""
        more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
        return f"; not read: {', '.join(names[:_MOST_LISTED])}{more}; 'fxnorm check {self.root}' lists all"

    def folder_of(self, split: str) -> Path:
        """Where a split lies, or would lie if it has no folder yet."""
        return self.folders.get(split, self.root / split)

    def _read_root(self) -> None:
        for path in self._folders_in(self.root):
            split = _SPLIT_NAMES.get(plain_name(path.name))
            songs = self._songs_in(path, split) if split is not None else []
            if split is None or (not songs and _has_stem(path)):
                self._add_flat(path)
            elif split in self.folders:
                names = f"{self.folders[split].name} and {path.name}"
                self.problems[path] = f"{self.root}: expected one folder of the split {split!r}, found {names}"
            else:
                self.folders[split] = path
                self.splits[split] = songs
        for split in [name for name in SPLITS if name in self.splits]:
            self.splits[split] = self.splits.pop(split)
        if self.splits:
            beside = f"a song beside the splits {', '.join(self.splits)}"
            self.unused.extend(Unused(song.folder, beside, holds_audio=True) for song in self.flat)

    def _add_flat(self, path: Path) -> None:
        """A folder of the dataset that is no split."""
        if (path / _RECIPE_MARK).is_file():
            return
        song = self._song_at(path, None)
        if song is not None:
            self.flat.append(song)
        elif any(_has_stem(below) for below in entries(path) if below.is_dir()):
            names = ", ".join(_SPLIT_NAMES)
            self.unused.append(Unused(path, f"holds songs, but is no split: {names}", holds_audio=True))
        else:
            self._add_songless(path)

    def _songs_in(self, folder: Path, split: str) -> list[Song]:
        songs = []
        for path in self._folders_in(folder):
            song = self._song_at(path, split)
            if song is None:
                self._add_songless(path)
            else:
                songs.append(song)
        return songs

    def _folders_in(self, folder: Path) -> list[Path]:
        """The folders in a folder; adds other audio and hidden songs to ``unused``, broken links to ``problems``."""
        folders = []
        for path in sorted(folder.iterdir()):
            is_folder = path.is_dir()
            if is_foreign(path.name, is_folder):
                if is_folder and _has_stem(path) and not _is_temporary(path.name):
                    self.unused.append(Unused(path, "a hidden folder, or one of the system's", holds_audio=True))
            elif is_folder:
                folders.append(path)
            elif not path.exists():
                self.problems[path] = f"{path}: a link to nothing"
            elif is_audio(path):
                self.unused.append(Unused(path, "lies in no song's folder", holds_audio=True, is_file=True))
        return folders

    def _song_at(self, folder: Path, split: str | None) -> Song | None:
        """The song in a folder, if that has a stem; adds what else the folder holds to ``unused`` and ``problems``."""
        files: dict[str, list[Path]] = {}
        unused_files: list[Unused] = []
        for path in entries(folder):
            name, suffix = plain_name(path.stem), path.suffix.lower()
            is_read = name in (*STEMS, MIXTURE) or (_is_other_mixture(name) and split in (None, "test"))
            if is_read and suffix in audio.AUDIO_SUFFIXES:
                if path.is_file():
                    files.setdefault(name, []).append(path)
                else:
                    entry = "a folder" if path.is_dir() else "a link to nothing" if not path.exists() else "no file"
                    self.problems[path] = f"{path}: expected an audio file, found {entry}"
            elif path.is_dir():
                if any(is_audio(below) for below in files_below(path)):
                    unused_files.append(Unused(path, "a folder in a song's folder", holds_audio=True))
            elif is_audio(path):
                unused_files.append(Unused(path, _why_not(path), holds_audio=True))
        for name, candidates in files.items():
            candidates.sort(key=lambda path: audio.AUDIO_SUFFIXES.index(path.suffix.lower()))
            for path in candidates[1:]:
                if path.suffix.lower() == candidates[0].suffix.lower():
                    self.problems[folder] = (
                        f"{folder}: expected one file of {name}, found {candidates[0].name} and {path.name}"
                    )
                unused_files.append(Unused(path, f"{candidates[0].name} is read", holds_audio=True))
        stems = {stem: files[stem][0] for stem in STEMS if stem in files}
        if not stems:
            return None
        self.unused.extend(unused_files)
        others = tuple(candidates[0] for name, candidates in sorted(files.items()) if _is_other_mixture(name))
        return Song(folder.name, folder, stems, files[MIXTURE][0] if MIXTURE in files else None, others)

    def _add_songless(self, folder: Path) -> None:
        """A folder where a song could be, without a stem."""
        if any(is_audio(path) for path in files_below(folder)):
            suffixes = sorted({path.suffix for path in files_below(folder) if path.suffix.lower() in _OTHER_AUDIO})
            formats = f", but {', '.join(suffixes)}, which is not read" if suffixes else ""
            reason = f"no {', '.join(STEMS)} in it{formats}"
            self.unused.append(Unused(folder, reason, holds_audio=True))
        elif not any(path.is_relative_to(folder) for path in self.problems):
            self.unused.append(Unused(folder, "no audio in it", holds_audio=False))


def split_name(name: str) -> str:
    """``train``, ``val`` or ``test``, for any of the usual names.

    Raises:
        SettingsError: another name.
    """
    try:
        return _SPLIT_NAMES[plain_name(name)]
    except KeyError:
        raise SettingsError(f"{name!r}: no name of a split; expected one of {', '.join(_SPLIT_NAMES)}") from None


def songs(root: str | Path, split: str | None = None) -> list[Song]:
    """The songs of a dataset, by name. What is not read is logged in one line.

    Args:
        root: a folder of splits, or of songs.
        split: one of its usual names; None for all songs. A folder of songs without splits serves for any.

    Raises:
        DatasetError: the folder, the split or any song in it is missing, or it is unclear what a song or split is.
    """
    layout = Layout.read(root)
    selected = layout.of(split)
    layout.log_unused()
    return selected


def shard_of(songs: list[Song], shard: tuple[int, int] | None) -> list[Song]:
    """Every ``shard[1]``-th song, from the ``shard[0]``-th on; all without a shard.

    With more shards than songs the last ones are empty: the number of shards may have been chosen for another split.

    Raises:
        SettingsError: there is no such shard.
    """
    if shard is None:
        return songs
    number, count = shard
    if not 1 <= number <= count:
        raise SettingsError(f"shard {number}/{count}: expected a number from 1 to {count}")
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
    pool = ThreadPoolExecutor()  # hashing releases the interpreter's lock
    try:
        digests = pool.map(lambda song: song.digest(), dataset)
        return digest_of((song.name, value) for song, value in zip(dataset, digests, strict=True))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C does not wait for all the others


def digest_of(songs: Iterable[tuple[str, str]]) -> str:
    """As :func:`digest`, of the names of songs and what :meth:`Song.digest` gave for each."""
    total = hashlib.sha256()
    for name, value in songs:
        total.update(f"{name}\0{value}\n".encode())
    return total.hexdigest()


def plain_name(name: str) -> str:
    """A name without differences of case and of how accents are encoded (macOS has other codes for them)."""
    return unicodedata.normalize("NFC", name).casefold()


def is_audio(path: Path) -> bool:
    """Whether a file's name has the suffix of audio, in a format that is read or in another."""
    return path.suffix.lower() in audio.AUDIO_SUFFIXES or path.suffix.lower() in _OTHER_AUDIO


def _has_stem(folder: Path) -> bool:
    """Whether a file lies directly in a folder that is a stem by its name."""
    return any(
        plain_name(path.stem) in STEMS and path.suffix.lower() in audio.AUDIO_SUFFIXES for path in entries(folder)
    )


def _is_temporary(name: str) -> bool:
    """Whether a folder has a name of :func:`fxnorm.io.files.whole_folder`: a killed run leaves such a folder."""
    return re.fullmatch(r"\..+\.[a-z0-9_]{8}", name) is not None


def _is_other_mixture(name: str) -> bool:
    return name.startswith(f"{MIXTURE}_") and len(name) > len(MIXTURE) + 1


def _why_not(path: Path) -> str:
    if path.suffix.lower() in _OTHER_AUDIO:
        return f"{path.suffix} is not read: expected .wav, .flac or another format that is"
    if _is_other_mixture(plain_name(path.stem)):
        return f"only a song to test with may have more than its {MIXTURE}"
    return f"expected {', '.join(STEMS)} or {MIXTURE}"


def file_digest(path: Path) -> bytes:
    """SHA-256 of a file's content."""
    total = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(_HASH_BLOCK):
                total.update(block)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from error
    return total.digest()

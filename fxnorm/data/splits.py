"""The splits of one training: no song may be in two of them.

A network is judged by songs that it has not seen. Where a song of ``train`` is in ``val`` as well, the best weights are
those that know it by heart, and the loss does not show it; so this is refused before any work is done.
"""

import contextlib
import itertools
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fxnorm.constants import SILENCE_DBFS
from fxnorm.data import published
from fxnorm.data.dataset import Layout, Song, plain_name, split_name
from fxnorm.errors import AudioError, DatasetError, SettingsError
from fxnorm.io import audio
from fxnorm.io.blocks import BlockCache

_log = logging.getLogger(__name__)

_MOST_LISTED = 3


def read_splits(root: Path, splits: Sequence[str], cache: BlockCache | None = None) -> dict[str, list[Song]]:
    """The songs of splits of a dataset, by the splits' own names; none is in another split of that dataset.

    Args:
        root: the dataset; the songs of a normalized one may be in a store (:mod:`fxnorm.data.published`).
        splits: by any of their usual names. A folder of songs without splits serves for a single one.
        cache: of what is read of a store.

    Raises:
        DatasetError: a split or its songs are missing, or a song is in two splits.
        SettingsError: no split, one that is named twice, or a name of none.
    """
    layout = Layout.read(root)
    published.add_to(layout, cache)
    songs = songs_of(layout, splits)
    layout.log_unused()
    refuse_shared(layout.splits, root)
    return songs


def songs_of(layout: Layout, splits: Sequence[str]) -> dict[str, list[Song]]:
    """As :func:`read_splits`, of a dataset that was read; songs in two splits are not looked for.

    Raises:
        DatasetError: a split or its songs are missing.
        SettingsError: no split, one that is named twice, or a name of none.
    """
    root = layout.root
    names = [split_name(split) for split in splits]
    if not names:
        raise SettingsError(f"{root}: expected at least one split, found none")
    for split, name in zip(splits, names, strict=True):
        if names.count(name) > 1:
            raise SettingsError(f"{split!r}: the split {name} is named twice in {', '.join(splits)}")
    if not layout.splits and len(names) > 1 and layout.flat:
        raise DatasetError(
            f"{root}: expected the folders {' and '.join(names)} with songs, found songs alone, which would be in each"
            f" of them; 'fxnorm split {root} --val N' puts N of the songs into val and the others into train"
        )
    return {name: layout.of(name) for name in names}


def refuse_tested_before(layout: Layout, split: str) -> None:
    """See to it that the songs of a split are in no other split of their dataset.

    Raises:
        DatasetError: one is.
    """
    if layout.splits:
        refuse_shared(layout.splits, layout.root, split_name(split))


def refuse_shared(
    splits: Mapping[str, Sequence[Song]],
    root: Path,
    of: str | None = None,
    digests: Mapping[Path, bytes] | None = None,
    sounds: Callable[[Song, Path], bool] | None = None,
) -> None:
    """Refuse a song whose sound is in two splits; a name or one stem that two songs have in common is logged.

    Files are read only where another split has one of the same size.

    Args:
        splits: split -> songs.
        root: the dataset, for errors.
        of: look only for what this split has in common with the others.
        digests: hashes of files, where they are known without their being read. A file without one is not compared.
        sounds: whether a file is more than silence, likewise; it is asked once for each content that two splits have.

    Raises:
        DatasetError: a song is in two splits.
    """
    entries = [_SongInSplit(split, song) for split, songs in splits.items() for song in songs]
    for first, second in itertools.islice(
        _pairs(entries, of, lambda entry: [plain_name(entry.song.name)]), _MOST_LISTED
    ):
        _log.warning("%s: %s and %s have one name: are they different songs? Else remove one", root, first, second)
    known = _digests_of_suspects(entries, of) if digests is None else digests
    sounding = _shared_sounds(entries, of, known, sounds or is_audible)
    shared: list[str] = []
    for first, second in _pairs(
        entries, of, lambda entry: [known[path] for path in entry.song.files if known.get(path) in sounding]
    ):
        common_files = [(path, second.files[name]) for name, path in first.files.items() if name in second.files]
        same = [path for path, twin in common_files if path in known and known[path] == known.get(twin)]
        audible = [path for path in same if known[path] in sounding]
        if not audible:
            continue
        if any(path in audible for path in first.song.references.values()) or len(same) == len(common_files):
            raise DatasetError(
                f"{root}: expected each song in one split, found {first} and {second} with the same sound; remove one"
            )
        shared.append(f"{first} and {second} ({', '.join(path.name for path in audible)})")
    if shared:
        more = f" and {len(shared) - _MOST_LISTED} more" if len(shared) > _MOST_LISTED else ""
        _log.warning(
            "%s: songs of two splits have a stem in common: %s%s", root, ", ".join(shared[:_MOST_LISTED]), more
        )


def _shared_sounds(
    entries: Sequence["_SongInSplit"],
    of: str | None,
    digests: Mapping[Path, bytes],
    sounds: Callable[[Song, Path], bool],
) -> set[bytes]:
    """The hashes of files in two splits that are more than silence."""
    found: dict[bytes, tuple[Song, Path, set[str]]] = {}
    for entry in entries:
        for path in entry.song.files:
            if path in digests:
                found.setdefault(digests[path], (entry.song, path, set()))[2].add(entry.split)
    return {
        value
        for value, (song, path, splits) in found.items()
        if len(splits) > 1 and (of is None or of in splits) and sounds(song, path)
    }


@dataclass(frozen=True)
class _SongInSplit:
    """A song in a split."""

    split: str
    song: Song

    @property
    def files(self) -> dict[str, Path]:
        """The stems' files and the mixtures', by name."""
        return self.song.stems | self.song.references

    def __str__(self) -> str:
        return f"{self.split}/{self.song.name}"


def _digests_of_suspects(entries: Sequence[_SongInSplit], of: str | None) -> dict[Path, bytes]:
    """The hashes of those files that have the size of a file of another split."""
    by_size: defaultdict[int, list[tuple[_SongInSplit, Path]]] = defaultdict(list)
    for entry in entries:
        for path in entry.song.files:
            by_size[entry.song.size_of(path)].append((entry, path))
    suspects: list[tuple[_SongInSplit, Path]] = []
    for files in by_size.values():
        splits = {entry.split for entry, _ in files}
        if len(splits) > 1 and (of is None or of in splits):
            suspects += files
    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter's lock
        digests = pool.map(lambda suspect: suspect[0].song.digest_of(suspect[1]), suspects)
        return {path: digest for (_, path), digest in zip(suspects, digests, strict=True)}


def _pairs(
    entries: Sequence[_SongInSplit], of: str | None, keys: Callable[[_SongInSplit], Sequence[object]]
) -> Iterator[tuple[_SongInSplit, _SongInSplit]]:
    """Songs of two splits (one is ``of``, if that is not None) that have a key in common; each pair once."""
    by_key: defaultdict[object, list[int]] = defaultdict(list)
    for number, entry in enumerate(entries):
        for key in dict.fromkeys(keys(entry)):
            by_key[key].append(number)
    pairs = dict.fromkeys(pair for sharing in by_key.values() for pair in itertools.combinations(sharing, 2))
    for i, j in pairs:
        splits = {entries[i].split, entries[j].split}
        if len(splits) > 1 and (of is None or of in splits):
            yield entries[i], entries[j]


def is_audible(song: Song, path: Path) -> bool:
    """Whether a song's file is more than silence: silent stems of equal length have equal files.

    A file that cannot be read counts as silence; the stage that reads it reports it.
    """
    with contextlib.suppress(AudioError):
        return audio.peak_dbfs(song.read_file(path)) > SILENCE_DBFS
    return False

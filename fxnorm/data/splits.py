"""The splits of one training: no song may be in two of them.

A network is judged by songs that it has not seen. Where a song of ``train`` is in ``val`` as well, the best weights are
those that know it by heart, and nothing in the loss tells; so this is refused before any work is done.
"""

import contextlib
import itertools
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fxnorm.constants import MIXTURE, SILENCE_DBFS
from fxnorm.data.dataset import Layout, Song, file_digest, plain_name, split_name
from fxnorm.errors import AudioError, DatasetError, SettingsError
from fxnorm.io import audio

_log = logging.getLogger(__name__)

_MOST_SAID = 3


def read_splits(root: Path, splits: Sequence[str]) -> dict[str, list[Song]]:
    """The songs of splits of a dataset, by the splits' own names; none is in another split of that dataset.

    Args:
        root: the dataset.
        splits: by any of their usual names. A folder of songs without splits serves for a single one.

    Raises:
        DatasetError: a split or its songs are missing, or a song is in two splits.
        SettingsError: no split, one that is named twice, or a name of none.
    """
    names = [split_name(split) for split in splits]
    if not names:
        raise SettingsError(f"{root}: expected at least one split, found none")
    for split, name in zip(splits, names, strict=True):
        if names.count(name) > 1:
            raise SettingsError(f"{split!r}: the split {name} is named twice in {', '.join(splits)}")
    layout = Layout.read(root)
    if not layout.splits and len(names) > 1 and layout.flat:
        raise DatasetError(
            f"{root}: expected the folders {' and '.join(names)} with songs, found songs alone, which would be in each"
            f" of them; 'fxnorm split {root} --val N' puts N of the songs into val and the others into train"
        )
    found = {name: layout.of(name) for name in names}
    layout.say_unused()
    refuse_shared(layout.splits, root)
    return found


def refuse_tested_before(layout: Layout, split: str) -> None:
    """See to it that the songs of a split are in no other split of their dataset.

    Raises:
        DatasetError: one is.
    """
    if layout.splits:
        refuse_shared(layout.splits, layout.root, split_name(split))


def refuse_shared(splits: Mapping[str, Sequence[Song]], root: Path, of: str | None = None) -> None:
    """Refuse a song whose sound is in two splits; a name or one stem that two songs have in common is logged.

    Files are read only where another split has one of the same size.

    Args:
        splits: split -> songs.
        root: stands in the errors.
        of: look only for what this split has in common with the others.

    Raises:
        DatasetError: a song is in two splits.
    """
    placed = [_Placed(split, song) for split, songs in splits.items() for song in songs]
    for one, other in itertools.islice(_pairs(placed, of, lambda place: [plain_name(place.song.name)]), _MOST_SAID):
        _log.warning("%s: %s and %s have one name: are they different songs? Else remove one", root, one, other)
    digests = _digests_of_suspects(placed, of)
    shared: list[str] = []
    for one, other in _pairs(placed, of, lambda place: [digests[path] for path in place.song.files if path in digests]):
        both = [(path, other.files[name]) for name, path in one.files.items() if name in other.files]
        same = [path for path, twin in both if path in digests and digests[path] == digests.get(twin)]
        heard = [path for path in same if _sounds(path)]
        if not heard:
            continue
        if one.song.mixture in heard or len(same) == len(both):
            raise DatasetError(
                f"{root}: expected each song in one split, found {one} and {other} with the same sound; remove one"
            )
        shared.append(f"{one} and {other} ({', '.join(path.name for path in heard)})")
    if shared:
        more = f" and {len(shared) - _MOST_SAID} more" if len(shared) > _MOST_SAID else ""
        _log.warning("%s: songs of two splits have a stem in common: %s%s", root, ", ".join(shared[:_MOST_SAID]), more)


@dataclass(frozen=True)
class _Placed:
    """A song in a split."""

    split: str
    song: Song

    @property
    def files(self) -> dict[str, Path]:
        """The stems' files and the mixture's, by name."""
        return self.song.stems | ({MIXTURE: self.song.mixture} if self.song.mixture else {})

    def __str__(self) -> str:
        return f"{self.split}/{self.song.name}"


def _digests_of_suspects(placed: Sequence[_Placed], of: str | None) -> dict[Path, bytes]:
    """The hashes of those files that have the size of a file of another split."""
    by_size: defaultdict[int, list[tuple[str, Path]]] = defaultdict(list)
    for place in placed:
        for path in place.song.files:
            by_size[path.stat().st_size].append((place.split, path))
    suspects = []
    for found in by_size.values():
        splits = {split for split, _ in found}
        if len(splits) > 1 and (of is None or of in splits):
            suspects += [path for _, path in found]
    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter's lock
        return dict(zip(suspects, pool.map(file_digest, suspects), strict=True))


def _pairs(
    placed: Sequence[_Placed], of: str | None, keys: Callable[[_Placed], Sequence[object]]
) -> Iterator[tuple[_Placed, _Placed]]:
    """Songs of two splits (one is ``of``, if that is not None) that have a key in common; each pair once."""
    by_key: defaultdict[object, list[int]] = defaultdict(list)
    for number, place in enumerate(placed):
        for key in dict.fromkeys(keys(place)):
            by_key[key].append(number)
    pairs = dict.fromkeys(pair for sharing in by_key.values() for pair in itertools.combinations(sharing, 2))
    for i, j in pairs:
        splits = {placed[i].split, placed[j].split}
        if len(splits) > 1 and (of is None or of in splits):
            yield placed[i], placed[j]


def _sounds(path: Path) -> bool:
    """Whether there is anything to hear: silent stems of equal length are alike. What cannot be read is said later."""
    with contextlib.suppress(AudioError):
        return audio.peak_dbfs(audio.read(path, sample_rate=None)[0]) > SILENCE_DBFS
    return False

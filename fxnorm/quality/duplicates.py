"""The same song twice: the same samples, the same recording in another form, one stem in two songs, or one name."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path

from fxnorm.constants import MIXTURE
from fxnorm.data.dataset import Song, plain_name
from fxnorm.data.importers.plan import plain_song
from fxnorm.quality.findings import Finding, Severity
from fxnorm.quality.fingerprints import find_same
from fxnorm.quality.songs import CheckedSong
from fxnorm.settings import FindingCode

_NEAR_SECONDS = 0.1  # offsets under it are those of encoders
_LARGE_GROUP = 12


def find(songs: Sequence[CheckedSong]) -> list[Finding]:
    """Songs, of one dataset or of several, that have a recording, a stem or a name in common.

    A pair is one finding, of the song that comes later. The same recording in two splits is an error, and in one split
    a warning. Where more than 12 songs have something in common, each is paired with the first of them in each split.
    """
    findings: list[Finding] = []
    known: set[tuple[int, int]] = set()
    repeated: defaultdict[int, set[int]] = defaultdict(set)  # song -> songs of its split with the same samples after it
    for first, second in _sharing(songs, lambda one: one.digests.items()):
        shared = sorted(
            name for name, value in songs[first].digests.items() if songs[second].digests.get(name) == value
        )
        is_song = MIXTURE in shared or (bool(shared) and set(shared) == _both(songs[first], songs[second]))
        if is_song:
            known.add((first, second))
            if songs[first].split == songs[second].split:
                repeated[first].add(second)
            findings.append(_twice(songs[first], songs[second], "the same samples as"))
        else:
            message = f"has {', '.join(shared)} in common with {_path(songs[first])}"
            findings.append(_finding("duplicate", "warning", songs[second], message))
    left_out = {number for copies in repeated.values() if len(copies) >= _LARGE_GROUP for number in copies}
    numbers = {
        str(number): one.fingerprint
        for number, one in enumerate(songs)
        if one.fingerprint is not None and number not in left_out
    }
    for match in find_same(numbers):
        first, second = sorted((int(match.first), int(match.second)))
        offset = match.offset_seconds if int(match.first) == first else -match.offset_seconds
        if (first, second) not in known:
            known.add((first, second))
            where = f", which it joins at {offset:.1f} s" if offset > _NEAR_SECONDS else ""
            where = f", which begins {-offset:.1f} s later" if offset < -_NEAR_SECONDS else where
            figures = {"offset_seconds": round(offset, 2), "score": round(match.score, 3)}
            findings.append(_twice(songs[first], songs[second], "the same recording as", where, figures))
    for first, second in _sharing(songs, lambda one: [plain_song(plain_name(one.song.name))]):
        if (first, second) not in known and songs[first].split != songs[second].split:
            message = f"has the name of {_path(songs[first])}: are they different songs?"
            findings.append(_finding("same-name", "warning", songs[second], message))
    return findings


def _twice(
    first: CheckedSong, second: CheckedSong, what: str, where: str = "", figures: dict[str, float] | None = None
) -> Finding:
    leak = first.split != second.split
    code: FindingCode = "leak" if leak else "duplicate"
    return _finding(code, "error" if leak else "warning", second, f"{what} {_path(first)}{where}", figures)


def _finding(
    code: FindingCode, severity: Severity, song: CheckedSong, message: str, figures: dict[str, float] | None = None
) -> Finding:
    return Finding(code, severity, str(song.song.folder), message, "", figures or {}, song.split)


def _path(song: CheckedSong) -> Path:
    return song.song.folder


def _both(first: CheckedSong, second: CheckedSong) -> set[str]:
    """The stems and mixtures that both songs have files of, or that sound in one of them."""
    return (set(_names(first.song)) & set(_names(second.song))) & (set(first.digests) | set(second.digests))


def _names(song: Song) -> list[str]:
    return [*song.stems, *([MIXTURE] if song.mixture else [])]


def _sharing(
    songs: Sequence[CheckedSong], keys: Callable[[CheckedSong], Iterable[Hashable]]
) -> Iterator[tuple[int, int]]:
    """Pairs of songs, the earlier one first, that have a key in common; each pair once.

    Of a large group all pairs would be too many: each song is paired with the first of each split.
    """
    by_key: defaultdict[Hashable, list[int]] = defaultdict(list)
    for number, song in enumerate(songs):
        for key in dict.fromkeys(keys(song)):
            by_key[key].append(number)
    pairs: set[tuple[int, int]] = set()
    for sharing in by_key.values():
        if len(sharing) <= _LARGE_GROUP:
            pairs.update(itertools.combinations(sharing, 2))
            continue
        firsts: dict[str, int] = {}
        for number in sharing:
            pairs.update((first, number) for first in firsts.values())
            firsts.setdefault(songs[number].split, number)
    yield from sorted(pairs)

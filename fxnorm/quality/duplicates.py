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


def find(songs: Sequence[CheckedSong]) -> list[Finding]:
    """Songs, of one dataset or of several, that have a recording, a stem or a name in common.

    A pair is one finding, of the song that comes later. The same recording in two splits is an error, and in one split
    a warning.
    """
    findings: list[Finding] = []
    known: set[tuple[int, int]] = set()
    for first, second in _sharing(songs, lambda one: one.digests.items()):
        shared = sorted(
            name for name, value in songs[first].digests.items() if songs[second].digests.get(name) == value
        )
        is_song = MIXTURE in shared or (bool(shared) and set(shared) == _both(songs[first], songs[second]))
        if is_song:
            known.add((first, second))
            findings.append(_twice(songs[first], songs[second], "the same samples as"))
        else:
            message = f"has {', '.join(shared)} in common with {_path(songs[first])}"
            findings.append(_finding("duplicate", "warning", songs[second], message))
    numbers = {str(number): one.fingerprint for number, one in enumerate(songs) if one.fingerprint is not None}
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
    """Pairs of songs, the earlier one first, that have a key in common; each pair once."""
    by_key: defaultdict[Hashable, list[int]] = defaultdict(list)
    for number, song in enumerate(songs):
        for key in dict.fromkeys(keys(song)):
            by_key[key].append(number)
    pairs = dict.fromkeys(pair for sharing in by_key.values() for pair in itertools.combinations(sharing, 2))
    yield from sorted(pairs)

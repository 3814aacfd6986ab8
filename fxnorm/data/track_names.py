"""What the tracks of a recording session are, by the names of their files: ``07_OH_L.wav`` is the drums' left side.

A name is cut into words, and the words that studios use say which of the four stems a track belongs to. Where a name
has a doubtful word or none that is known, the group is a guess that a person should confirm. Names also tell the halves
of stereo pairs, and tracks that are not for the mix: clicks, talkback, triggers, and takes that another track replaces.
"""

import itertools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from fxnorm.data.track_words import (
    CHANNELS,
    COMPOUNDS,
    DOUBLED,
    DRUMS,
    EQUIPMENT,
    GLUED_SOURCES,
    HOOK,
    KEYS_WITH_A_BASS,
    LOW_WINDS,
    NAMES_OF_PEOPLE,
    NEUTRAL,
    NO_TRACK,
    NUMBERED_VERSIONS,
    PHRASES,
    PLAIN_VERSION,
    ROOM,
    SECTIONS,
    SUNG,
    SYNTHETIC,
    TRIGGERS,
    UNUSED,
    VERSIONS,
    WHOLE_BAND,
    WORDS,
    Weight,
)

By = Literal["word", "guess"]
Side = Literal["left", "right"]


@dataclass(frozen=True)
class Track:
    """What the name of a track says.

    Attributes:
        name: of the file.
        group: ``vocals``, ``bass``, ``drums`` or ``other``.
        by: ``word`` if a word of the name says so, ``guess`` where a person should confirm it.
        side: for one of two tracks that are a stereo pair, its channel.
        pair: the name of the pair's other track.
        set_aside: why the track should not be mixed; empty if it should.
        source: what plays: microphones of one instrument, doubles, and both sides of a pair have the same.
    """

    name: str
    group: str
    by: By
    side: Side | None = None
    pair: str | None = None
    set_aside: str = ""
    source: str = ""


_LEFT = ("l", "left", "lft", "links", "gauche", "izq", "izquierda", "sx", "esq", "esquerda", "hidari")
_RIGHT = ("r", "right", "rgt", "rechts", "droite", "derecha", "dx", "direita", "migi")
_SIDES: dict[str, Side] = {**dict.fromkeys(_LEFT, "left"), **dict.fromkeys(_RIGHT, "right")}
_PARTS = re.compile(r"[A-Z]{2,}s(?![a-z])|[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_LEADING_NUMBER = re.compile(r"\d{1,3}(?=\D|$)")
_KNOWN = (NEUTRAL, NO_TRACK, TRIGGERS, VERSIONS, WHOLE_BAND, UNUSED, _SIDES)
_LEADING = frozenset(("lead", "ld", "leads"))
_SHORTEST_GLUED, _LONGEST_GLUED = 2, 24
_MOST_OF_ONE_KIND = 40  # guitars; greater numbers are those of microphones and amplifiers


def group_of(name: str) -> tuple[str, By]:
    """The group of a track by its name alone, and whether a word of it says so.

    Args:
        name: of a file; folders before it and its suffix are passed over.
    """
    return _group(_words(name))


def names_a_group_alone(name: str) -> bool:
    """Whether all words of a name, of a folder of tracks, say what tracks are: ``Drums`` or ``02_Backing Vox``."""
    words = [word for word in _words(name) if not word.isdigit()]
    return any(map(_entry, words)) and all(_entry(word) or word in NEUTRAL or ROOM.fullmatch(word) for word in words)


def sort_tracks(names: Sequence[str]) -> list[Track]:
    """What the names of a session's tracks say: the group of each, stereo pairs, and what is not for the mix.

    Args:
        names: of files; all of one session, since a take is only replaced by another one of the same session.

    Returns:
        a track a name, in their order. None is dropped.
    """
    words = [_words(name) for name in names]
    aside = [_no_track(list_) for list_ in words]
    for number, reason in _replaced(words, names).items():
        aside[number] = aside[number] or reason
    pairs = _pairs(words, [not reason for reason in aside])
    tracks = []
    for number, name in enumerate(names):
        group, by = _group(words[number])
        other = pairs.get(number)
        tracks.append(
            Track(
                name=name,
                group=group,
                by=by,
                side=None if other is None else _side(words[number]),
                pair=None if other is None else names[other],
                set_aside=aside[number],
                source=_source(words[number]),
            )
        )
    return tracks


def source_of(name: str) -> str:
    """What plays on a track by its name alone: ``kick`` for ``01_KickIn.wav`` and for ``02_Kick Out D112.wav``.

    Words for places of microphones, equipment, takes, doubles and sides do not count, nor do numbers behind them. A
    number behind the instrument does: ``Gtr1DI`` and ``Gtr1 57`` are one source, ``Gtr2`` is another.
    """
    return _source(_words(name))


def side_of(name: str) -> Side | None:
    """The channel that a name says a track is of, if it is half of a stereo pair."""
    position = _position_of_side(words := _words(name))
    return None if position is None else _SIDES[words[position]]


def contested_sides(names: Sequence[str]) -> list[list[str]]:
    """Tracks that would be one stereo pair, were there not more files for one side than for the other."""
    words = [_words(name) for name in names]
    replaced = _replaced(words, names)
    usable = [not _no_track(list_) and number not in replaced for number, list_ in enumerate(words)]
    return [
        [names[number] for number in sorted((*found["left"], *found["right"]))]
        for found in _by_pair(words, usable)
        if found["left"] and found["right"] and len(found["left"]) != len(found["right"])
    ]


def _words(name: str) -> list[str]:
    """The words of a name, in lower case; numbers are words too, but for that in front.

    ``07_LeadVoxDT2.wav`` -> lead, vox, dt, 2.
    """
    stem = PurePosixPath(name.replace("\\", "/")).name
    stem = re.sub(r"\.[A-Za-z][A-Za-z0-9]{1,4}$", "", stem)
    ascii_letters = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode("ascii")
    parts = [part.lower() for part in _PARTS.findall(ascii_letters)]
    if len(parts) > 1 and _LEADING_NUMBER.match(ascii_letters.lstrip()) and parts[0] not in WORDS:
        del parts[0]
    return _joined([word for part in parts for word in _unglued(part)])


def _joined(parts: list[str]) -> list[str]:
    """Puts one word in the place of words that mean something else together."""
    words: list[str] = []
    while parts:
        for length in (3, 2):
            phrase = tuple(parts[:length])
            if phrase in PHRASES:
                words += PHRASES[phrase]
                parts = parts[length:]
                break
        else:
            words.append(parts[0])
            parts = parts[1:]
    return words


def _unglued(word: str) -> list[str]:
    """``snaretop`` -> snare, top: a name without capitals, if all of it is words that are known."""
    if _is_known(word) or not _SHORTEST_GLUED < len(word) <= _LONGEST_GLUED or not word.isalpha():
        return [word]
    return _split(word) or [word]


def _split(word: str) -> list[str]:
    """The known words that ``word`` is made of, trying long first words before short ones; none if it is not."""
    for length in range(len(word) - 1, _SHORTEST_GLUED - 1, -1):
        first, rest = word[:length], word[length:]
        if not _is_known(first):
            continue
        if _is_known(rest) and (len(rest) >= _SHORTEST_GLUED or rest in ("l", "r")):
            found = [first, rest]
        else:
            more = _split(rest) if len(rest) > _SHORTEST_GLUED else []
            found = [first, *more] if more else []
        # short words alone make up too much: "oh" and "st" are no "ohst"
        long = [part for part in found if len(part) > _SHORTEST_GLUED and (_entry(part) or ROOM.fullmatch(part))]
        if long or (found and rest in ("l", "r") and _entry(first)):
            return found
    return []


def _is_known(word: str) -> bool:
    return _entry(word) is not None or any(word in table for table in _KNOWN)


def _entry(word: str) -> tuple[str, Weight] | None:
    """The group of a word, its plural included."""
    if word in WORDS:
        return WORDS[word]
    if word.endswith("s") and word[:-1] in WORDS:
        return WORDS[word[:-1]]
    if SUNG.fullmatch(word):
        return "vocals", Weight.STRONG
    # from the second letter on: what stands alone is a word of its own
    ends = [word[start:] for start in range(1, len(word)) if word[start:] in COMPOUNDS]
    return WORDS[COMPOUNDS[ends[0]]] if ends else None


def _group(words: Sequence[str]) -> tuple[str, By]:
    hits = [(word, *entry) for word in words if (entry := _entry(word)) is not None]
    if not hits:
        if _is_sung(words):
            return "vocals", "guess"
        return ("drums" if any(map(ROOM.fullmatch, words)) else "other"), "guess"
    hits = _without_adjectives(words, hits)
    strongest = max(weight for _, _, weight in hits)
    by: By = "guess" if strongest == Weight.DOUBTFUL else "word"
    groups = [group for _, group, weight in hits if weight == strongest]
    if strongest == Weight.STRONG and _is_sub_bass(hits):
        return "bass", by
    if set(groups) == {"bass", "other"}:  # SynthBass, BassSynth, AcBassGtr
        return "bass", by
    return groups[0], by


def _without_adjectives(words: Sequence[str], hits: list[tuple[str, str, Weight]]) -> list[tuple[str, str, Weight]]:
    """Hits without words that say which one of another word is meant: a bass clarinet, a synthetic tom, Tom's voice."""
    dropped: set[str] = set()
    if any(group == "vocals" and weight == Weight.STRONG for _, group, weight in hits):
        dropped |= NAMES_OF_PEOPLE
    if any(word in _LEADING for word, _, _ in hits) and any(
        group != "vocals" and weight == Weight.WEAK for _, group, weight in hits
    ):
        dropped |= _LEADING
    for first, second in itertools.pairwise(words):
        if first in ("bass", "bs") and (second in LOW_WINDS or second.removesuffix("s") in LOW_WINDS):
            dropped.add(first)
        if first in SYNTHETIC and second in DRUMS:
            dropped.add(first)
        if first in KEYS_WITH_A_BASS and second in ("bass", "bs"):
            dropped.add(second)
    kept = [hit for hit in hits if hit[0] not in dropped]
    return kept or hits


def _is_sung(words: Sequence[str]) -> bool:
    """Whether a name without a word of a group is that of a voice: a hook, a second verse, doubles of a chorus."""
    if HOOK in words or (len(words) > 1 and words[0] == "v" and words[1].isdigit()):
        return True
    return any(word in SECTIONS for word in words) and any(word in DOUBLED for word in words)


def _is_sub_bass(hits: Sequence[tuple[str, str, Weight]]) -> bool:
    """Whether a sub is a synthesizer's: ``SubSynth``; beside a drum or a voice it says something of those."""
    groups = {group for _, group, weight in hits if weight == Weight.STRONG}
    return groups == {"other"} and any(word == "sub" for word, _, _ in hits)


def _no_track(words: Sequence[str]) -> str:
    """Why a track is not for the mix whatever else there is; empty if it is."""
    found = [_entry(word) for word in words]
    said = any(entry is not None and entry[1] != Weight.DOUBTFUL for entry in found)
    for word in words:
        if word in TRIGGERS:
            return "a trigger, which doubles a drum"
        if word in UNUSED:
            return "its name says that it is not used"
        if word == "guide" or (word in NO_TRACK and not said):
            return NO_TRACK[word]
        if word in ("talkback", "timecode", "smpte"):
            return NO_TRACK[word]
    if words and "scratch" in words and any(entry is not None and entry[0] == "vocals" for entry in found):
        return "a guide track"
    room = any(map(ROOM.fullmatch, words))
    if not any(found) and not room and any(word in WHOLE_BAND for word in words):
        return "a mix, or microphones for the whole band"
    return ""


def _replaced(words: Sequence[Sequence[str]], names: Sequence[str]) -> dict[int, str]:
    """number of a track -> reason, for versions of a recording that another version stands for."""
    versions: defaultdict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
    for number, list_ in enumerate(words):
        key, rank = _version(list_)
        if key:
            versions[key].append((rank, number))
    reasons = {}
    for found in versions.values():
        ranks = {rank for rank, _ in found}
        if len(found) < 2 or ranks in ({PLAIN_VERSION}, {0}):
            continue
        best = min(ranks)
        first = min(number for rank, number in found if rank == best)
        for rank, number in found:
            if rank != best or (best > PLAIN_VERSION and number != first):
                reasons[number] = f"another version of {names[first]}"
    return reasons


def _version(words: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """The words of a recording without those of its version, and how far that version is from what is mixed."""
    rest: list[str] = []
    rank = PLAIN_VERSION
    numbered = False
    for word in words:
        if word in VERSIONS:
            rank = VERSIONS[word] if rank == PLAIN_VERSION else max(rank, VERSIONS[word])
            numbered = word in NUMBERED_VERSIONS
            continue
        if not (numbered and word.isdigit()):
            rest.append(word)
        numbered = False
    return tuple(rest), rank


def _pairs(words: Sequence[Sequence[str]], usable: Sequence[bool]) -> dict[int, int]:
    """number of a track -> that of the other half of its stereo pair, in both directions.

    Names of a pair differ in one word that is a side. Where several tracks have the same name, but for the number in
    front, they are paired in their order; where there are more of one side, none is.
    """
    pairs: dict[int, int] = {}
    for found in _by_pair(words, usable):
        if len(found["left"]) == len(found["right"]):
            for left, right in zip(found["left"], found["right"], strict=True):
                pairs[left], pairs[right] = right, left
    return pairs


def _by_pair(words: Sequence[Sequence[str]], usable: Sequence[bool]) -> list[dict[Side, list[int]]]:
    """The numbers of tracks whose names are the same but for their side, by that."""
    sides: defaultdict[tuple[str, ...], dict[Side, list[int]]] = defaultdict(lambda: {"left": [], "right": []})
    for number, list_ in enumerate(words):
        position = _position_of_side(list_)
        if usable[number] and position is not None:
            key = (*list_[:position], "*", *list_[position + 1 :], str(len(list_[position]) > 1))
            sides[key][_SIDES[list_[position]]].append(number)
    return list(sides.values())


def _source(words: Sequence[str]) -> str:
    kept: list[str] = []
    number_counts = False
    if len(words) > 2 and words[0] in CHANNELS and words[1].isdigit():
        words = words[2:]
    for word in words:
        if word.isdigit() and word not in WORDS:
            if number_counts and int(word) <= _MOST_OF_ONE_KIND:
                kept.append(word)
            number_counts = False
            continue
        aside = word in NEUTRAL or word in EQUIPMENT or word in DOUBLED or word in VERSIONS or word in _SIDES
        # "hi", "lo" and the like are places of microphones; "reverse" or "clean" is another part
        number_counts = not (aside or ROOM.fullmatch(word))
        if number_counts:
            kept.append(GLUED_SOURCES.get(word, word))
    return " ".join(kept) or " ".join(word for word in words if word not in _SIDES)


def _position_of_side(words: Sequence[str]) -> int | None:
    """Where the last word stands that is a side; a name of nothing but a side has none."""
    positions = [position for position, word in enumerate(words) if word in _SIDES]
    return positions[-1] if positions and len(words) > 1 else None


def _side(words: Sequence[str]) -> Side:
    position = _position_of_side(words)
    assert position is not None  # of a pair
    return _SIDES[words[position]]

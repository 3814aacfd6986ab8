"""What the tracks of a recording session are, by the names of their files: ``07_OH_L.wav`` is the drums' left side.

The rules follow how studios name files. A name is cut into words; words say which of the four stems a track belongs to.
Where only room, a doubtful word or nothing is said, the group is a guess that a person should confirm. Names also tell
the halves of stereo pairs, and tracks that are not for the mix: clicks, talkback, triggers, and takes that another track
replaces.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import PurePosixPath
from typing import Literal

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
    """

    name: str
    group: str
    by: By
    side: Side | None = None
    pair: str | None = None
    set_aside: str = ""


class _Weight(IntEnum):
    """How much a word says of the group beside a word of another group."""

    DOUBTFUL = 0
    """Gives way to any other, and alone is a guess: ``sd`` is a snare, or "studio delivery"."""
    WEAK = 1
    """Gives way to a strong one: a ``lead`` is a voice, a ``lead guitar`` is not."""
    STRONG = 2


_STRONG_WORDS = {
    "vocals": """
        vox voc vocs vocal vocalist vocalists voice singer singers vx vocoder backing backings backvox bvox bvx bv bgv bgvx
        bgvox bkgvox bkv bvoc bgvoc ldvox ldv ldvx leadvox lvox lv vo choir choirs rap rapper adlib shout scream growl
        speech spoken whisper chant falsetto hum humming ooh aah ah yeah hey woah whoa acapella narration narrator dialog
        dialogue beatbox beatboxing voix gesang stimme stimmen voz voces coro coros choeur choeurs vozes voce
    """,
    "bass": """
        bass basses bassdi bassamp bassmic basspod contrabass upbass bs bassguitar bassgtr bss cbass kontrabass basse bajo
        baixo
    """,
    "drums": """
        kick kik kck kic bd bassdrum snare snr sn snre hihat hihats hat hats hh hhat tom toms rototom rototoms cymbal cymb
        cym cyms ride crash china splash overhead overheads oh ohs ovh ovhd drum drums drm drms drumkit kit perc percs
        percussion shaker shkr shake tamb tambo tambourine tamborine clap claps handclap conga congas bongo bongos djembe
        cajon cowbell maraca maracas woodblock timp timpani taiko timbale timbales cabasa guiro clave claves rim rimshot
        sidestick xstick stick sticks snap snaps stomp stomps brush brushes tabla gong dhol darbuka doumbek dumbek sleigh
        castanet castanets vibraslap rainstick triangle agogo surdo pandeiro udu caxixi cuica bodhran fok schlagzeug
        bateria batterie caja bombo
    """,
    "other": """
        gtr gtrs gt guitar guit git egtr agtr elgtr acgtr gitarre guitarra guitare strat dobro piano pno klavier
        keys key keyboard keyb keybs kbd teclado teclados synth syn synths synthesizer supersaw organ org orgel hammond leslie rhodes
        wurli wurly wurlitzer clav clavinet epiano epno harpsichord celeste celesta mellotron mello melotron moog juno
        prophet nord korg jupiter virus pad pads arp arps arpeggio lick string strings strs violin violins vln vlns viola
        violas vla vlas cello celli cellos vlc fiddle harp sax saxes saxophone trumpet trumpets tpt trombone trombones tbn
        bone bones tuba sousaphone horn horns hrn brass flute flutes flt clarinet clar oboe bassoon bsn piccolo recorder
        harmonica accordion accord akkordeon bandoneon concertina melodica harmonium banjo mandolin mando mandola uke
        ukulele sitar bouzouki charango oud zither dulcimer autoharp bell bells glock glocken glockenspiel vibes vibraphone
        vibe xylo xylophone marimba kalimba chime chimes whistle bagpipe bagpipes pipes didgeridoo theremin sfx fx noise
        sweep swell riser uplifter downlifter stab stabs pluck drone orchestra orch woodwind woodwinds winds scratch
        scratches turntable foley atmos atmosphere texture
    """,
}
_WEAK_WORDS = {
    "vocals": """
        lead ld leads bg bgs back bkg bkgd harm harms harmony harmonies gang crowd group soprano alto tenor baritone duet
    """,
    "bass": "sub",
    "drums": "loop loops beat beats break breaks fill fills 808 909 mpc rack floor flr",
}
_DOUBTFUL_WORDS = {
    "vocals": "male female girl girls boys kids",
    "bass": "upright fretless",
    "drums": "sd beater batter reso crotch trash knee",
    "other": """
        sample samples smp acoustic acou acc ac acstc electric elec el nylon crunch distorted dist clean rhythm rhy rhtm
        solo riff slide twang tele telecaster marshall fender mesa amp reverse
    """,
}
_NEUTRAL = frozenset(
    """
    dt dbl double doubled dup di mic mics close in out inside outside up down top bot bottom btm hi high lo low mid l r left
    right stereo mono st take tk alt comp dry wet verse vrs chorus cho chrs bridge brdg intro outro pre hook end ver chr
    main pair room rooms amb ambient ambience far near chamber spot track trk audio new final edit ed print hard soft long
    short big small fat front rear center centre loud quiet
    ssl api neve sm beta akg ak neumann royer coles shure senn senne sennheiser ribbon condenser tube pzm dpa
    """.split()
)
"""Words that say nothing of the group, listed for names that are written without a break: ``kickout``."""

_WORDS: dict[str, tuple[str, _Weight]] = {
    word: (group, weight)
    for weight, table in (
        (_Weight.DOUBTFUL, _DOUBTFUL_WORDS), (_Weight.WEAK, _WEAK_WORDS), (_Weight.STRONG, _STRONG_WORDS),
    )
    for group, words in table.items()
    for word in words.split()
}  # fmt: skip

_PHRASES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("bass", "drum"): ("bassdrum",),
    ("bass", "drums"): ("bassdrum",),
    ("grosse", "caisse"): ("kick",),
    ("caisse", "claire"): ("snare",),
    ("cow", "bell"): ("cowbell",),
    ("cow", "bells"): ("cowbell",),
    ("sleigh", "bells"): ("sleigh",),
    ("jingle", "bells"): ("sleigh",),
    ("jingle", "bell"): ("sleigh",),
    ("wood", "block"): ("woodblock",),
    ("wood", "blocks"): ("woodblock",),
    ("rain", "stick"): ("rainstick",),
    ("side", "stick"): ("sidestick",),
    ("cross", "stick"): ("sidestick",),
    ("x", "stick"): ("sidestick",),
    ("hi", "hat"): ("hihat",),
    ("hi", "hats"): ("hihat",),
    ("high", "hat"): ("hihat",),
    ("h", "hat"): ("hihat",),
    ("over", "head"): ("overhead",),
    ("over", "heads"): ("overhead",),
    ("o", "h"): ("overhead",),
    ("sub", "kick"): ("kick",),
    ("kick", "sub"): ("kick",),
    ("steel", "drum"): ("marimba",),
    ("steel", "drums"): ("marimba",),
    ("steel", "pan"): ("marimba",),
    ("hand", "pan"): ("marimba",),
    ("tongue", "drum"): ("marimba",),
    ("pedal", "steel"): ("guitar",),
    ("lap", "steel"): ("guitar",),
    ("music", "box"): ("glock",),
    ("beat", "box"): ("beatbox",),
    ("ad", "lib"): ("adlib",),
    ("ad", "libs"): ("adlib",),
    ("a", "capella"): ("acapella",),
    ("a", "cappella"): ("acapella",),
    ("voice", "over"): ("voice",),
    ("vox", "organ"): ("organ",),
    ("vox", "continental"): ("organ",),
    ("vox", "ac"): ("amp",),
    ("talk", "back"): ("talkback",),
    ("count", "in"): ("countin",),
    ("count", "off"): ("countin",),
    ("click", "track"): ("click",),
    ("time", "code"): ("timecode",),
    ("rough", "mix"): ("mixdown",),
    ("stereo", "mix"): ("mixdown",),
    ("un", "tuned"): ("untuned",),
    ("no", "tune"): ("untuned",),
    ("not", "tuned"): ("untuned",),
    ("non", "tuned"): ("untuned",),
}
"""Words that together mean something else than each, with a word of that meaning."""

_SAX = frozenset(("sax", "saxes", "saxophone"))
_LOW_WINDS = frozenset((
    *_SAX, "clarinet", "clar", "trombone", "tbn", "bone", "flute", "flt", "recorder", "harmonica", "marimba", "oboe", "tuba",
))  # fmt: skip
"""Instruments that have a bass among them: a bass clarinet is no bass."""
_REAL_DRUMS = frozenset(_STRONG_WORDS["drums"].split())
_SYNTHETIC = frozenset(("synth", "syn"))

_ROOM = re.compile(r"rooms?|rms?|amb\w*|far|chamber")
_INTERJECTION = re.compile(r"h?a{2,}h*|a+h{2,}|o{2,}h*|oh{2,}s?|m{2,}h*|hmm+|wh?oah?|ye+a+h*")
"""Sung syllables in any length: ``Haaaa``, ``ooooh``; ``oh`` alone is an overhead."""
_NO_TRACK = {
    "talkback": "talkback", "tb": "talkback", "slate": "talkback", "click": "a click track", "metronome": "a click track",
    "metro": "a click track", "timecode": "time code", "smpte": "time code", "ltc": "time code",
    "countin": "a count-in", "guide": "a guide track", "cue": "a cue track",
}  # fmt: skip
_MIXED = frozenset(("mix", "mixdown", "master", "mastered", "main", "pair", "decca", "spot", "bounce", "preview", "remix"))
"""Without a word of a group: the whole band, or a mix of it."""
_TRIGGERS = frozenset(("trigger", "triggers", "trig", "trigs", "triggered", "trg"))
_UNUSED = frozenset(("unused", "outtake", "outtakes", "rejected", "delete", "mute", "muted"))

_VERSIONS = {
    "tuned": 0, "comp": 0, "comped": 0, "take": 2, "tk": 2, "alt": 3, "alternate": 3, "alternative": 3, "untuned": 4,
    "notune": 4,
}  # fmt: skip
"""Words of one recording's versions, by how far they are from what is mixed; 1 is a name without such a word."""
_PLAIN_VERSION = 1
_NUMBERED_VERSIONS = frozenset(("take", "tk", "alt", "alternate", "alternative", "comp"))

_SIDES: dict[str, Side] = {"l": "left", "left": "left", "lft": "left", "r": "right", "right": "right", "rgt": "right"}
_PARTS = re.compile(r"[A-Z]{2,}s(?![a-z])|[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_LEADING_NUMBER = re.compile(r"\d{1,3}(?=\D|$)")
_SHORTEST_GLUED, _LONGEST_GLUED = 2, 24


def group_of(name: str) -> tuple[str, By]:
    """The group of a track by its name alone, and whether a word of it says so.

    Args:
        name: of a file; folders before it and its suffix are passed over.
    """
    return _group(_words(name))


def names_a_group_alone(name: str) -> bool:
    """Whether all words of a name, of a folder of tracks, say what tracks are: ``Drums`` or ``02_Backing Vox``."""
    words = [word for word in _words(name) if not word.isdigit()]
    return any(map(_entry, words)) and all(_entry(word) or word in _NEUTRAL or _ROOM.fullmatch(word) for word in words)


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
            )
        )
    return tracks


def _words(name: str) -> list[str]:
    """The words of a name, in lower case; numbers are words too, but for that in front.

    ``07_LeadVoxDT2.wav`` -> lead, vox, dt, 2.
    """
    stem = PurePosixPath(name.replace("\\", "/")).name
    stem = re.sub(r"\.[A-Za-z][A-Za-z0-9]{1,4}$", "", stem)
    ascii_letters = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode("ascii")
    parts = [part.lower() for part in _PARTS.findall(ascii_letters)]
    if len(parts) > 1 and _LEADING_NUMBER.match(ascii_letters.lstrip()) and parts[0] not in _WORDS:
        del parts[0]
    return _joined([word for part in parts for word in _unglued(part)])


def _joined(parts: list[str]) -> list[str]:
    """Puts one word in the place of words that mean something else together."""
    words: list[str] = []
    while parts:
        for length in (3, 2):
            phrase = tuple(parts[:length])
            if phrase in _PHRASES:
                words += _PHRASES[phrase]
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
    """Known words that ``word`` is made of, the longest first one first; none if there are no such words."""
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
        long = [part for part in found if len(part) > _SHORTEST_GLUED and (_entry(part) or _ROOM.fullmatch(part))]
        if long or (found and rest in ("l", "r") and _entry(first)):
            return found
    return []


def _is_known(word: str) -> bool:
    return (
        _entry(word) is not None or word in _NEUTRAL or word in _NO_TRACK or word in _TRIGGERS or word in _VERSIONS
        or word in _MIXED or word in _UNUSED or word in _SIDES
    )  # fmt: skip


def _entry(word: str) -> tuple[str, _Weight] | None:
    """The group of a word, its plural included."""
    if word in _WORDS:
        return _WORDS[word]
    if word.endswith("s") and len(word) > 3 and word[:-1] in _WORDS:
        return _WORDS[word[:-1]]
    if _INTERJECTION.fullmatch(word):
        return "vocals", _Weight.STRONG
    return None


def _group(words: Sequence[str]) -> tuple[str, By]:
    hits = [(word, *entry) for word in words if (entry := _entry(word)) is not None]
    if not hits:
        return ("drums" if any(map(_ROOM.fullmatch, words)) else "other"), "guess"
    hits = _without_bass_winds(words, hits)
    strongest = max(weight for _, _, weight in hits)
    by: By = "guess" if strongest == _Weight.DOUBTFUL else "word"
    groups = [group for _, group, weight in hits if weight == strongest]
    if strongest == _Weight.STRONG and _is_sub_bass(hits):
        return "bass", by
    if set(groups) == {"bass", "other"}:  # SynthBass, BassSynth, AcBassGtr
        return "bass", by
    return groups[0], by


def _without_bass_winds(
    words: Sequence[str], hits: list[tuple[str, str, _Weight]]
) -> list[tuple[str, str, _Weight]]:
    """Hits without adjectives: the bass of a bass clarinet, the tenor of a tenor saxophone, the synth of a synth tom."""
    dropped = set()
    for first, second in zip(words, words[1:], strict=False):
        if first in ("bass", "bs") and (second in _LOW_WINDS or second.removesuffix("s") in _LOW_WINDS):
            dropped.add(first)
        if first in _SYNTHETIC and second in _REAL_DRUMS:
            dropped.add(first)
    kept = [hit for hit in hits if hit[0] not in dropped]
    return kept or hits


def _is_sub_bass(hits: Sequence[tuple[str, str, _Weight]]) -> bool:
    """Whether a sub is a synthesizer's: ``SubSynth``; beside a drum or a voice it says something of those."""
    groups = {group for _, group, weight in hits if weight == _Weight.STRONG}
    return groups == {"other"} and any(word == "sub" for word, _, _ in hits)


def _no_track(words: Sequence[str]) -> str:
    """Why a track is not for the mix whatever else there is; empty if it is."""
    found = [_entry(word) for word in words]
    said = any(entry is not None and entry[1] != _Weight.DOUBTFUL for entry in found)
    for word in words:
        if word in _TRIGGERS:
            return "a trigger, which doubles a drum"
        if word in _UNUSED:
            return "its name says that it is not used"
        if word == "guide" or (word in _NO_TRACK and not said):
            return _NO_TRACK[word]
        if word in ("talkback", "timecode", "smpte"):
            return _NO_TRACK[word]
    if words and "scratch" in words and any(entry is not None and entry[0] == "vocals" for entry in found):
        return "a guide track"
    room = any(map(_ROOM.fullmatch, words))
    if not any(found) and not room and any(word in _MIXED for word in words):
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
        if len(found) < 2 or ranks == {_PLAIN_VERSION} or ranks == {0}:
            continue
        best = min(ranks)
        first = min(number for rank, number in found if rank == best)
        for rank, number in found:
            if rank != best or (best > _PLAIN_VERSION and number != first):
                reasons[number] = f"another version of {names[first]}"
    return reasons


def _version(words: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """The words of a recording without those of its version, and how far that version is from what is mixed."""
    rest: list[str] = []
    rank = _PLAIN_VERSION
    numbered = False
    for word in words:
        if word in _VERSIONS:
            rank = _VERSIONS[word] if rank == _PLAIN_VERSION else max(rank, _VERSIONS[word])
            numbered = word in _NUMBERED_VERSIONS
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
    sides: defaultdict[tuple[str, ...], dict[Side, list[int]]] = defaultdict(lambda: {"left": [], "right": []})
    for number, list_ in enumerate(words):
        if not usable[number]:
            continue
        position = _position_of_side(list_)
        if position is not None:
            key = (*list_[:position], "*", *list_[position + 1 :], str(len(list_[position]) > 1))
            sides[key][_SIDES[list_[position]]].append(number)
    pairs: dict[int, int] = {}
    for found in sides.values():
        if len(found["left"]) == len(found["right"]):
            for left, right in zip(found["left"], found["right"], strict=True):
                pairs[left], pairs[right] = right, left
    return pairs


def _position_of_side(words: Sequence[str]) -> int | None:
    """Where the last word stands that is a side; a name of nothing but a side has none."""
    positions = [position for position, word in enumerate(words) if word in _SIDES]
    return positions[-1] if positions and len(words) > 1 else None


def _side(words: Sequence[str]) -> Side:
    position = _position_of_side(words)
    assert position is not None  # of a pair
    return _SIDES[words[position]]

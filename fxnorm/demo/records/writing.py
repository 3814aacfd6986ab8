"""Patterns of one bar or one phrase: grooves, bass lines, chords and melodies, drawn from a genre's words.

All are in sixteenths of a bar; :mod:`fxnorm.demo.records.composition` puts them into songs.
"""

from collections.abc import Sequence
from typing import NamedTuple

from fxnorm.demo.records.genres import Genre
from fxnorm.demo.records.score import STEPS_PER_BAR, Dice

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
}
_DEGREES = {
    "major": (0, 3, 4, 5, 1, 2),
    "mixolydian": (0, 6, 3, 4, 1),
    "minor": (0, 5, 2, 6, 3, 4),
    "dorian": (0, 3, 6, 2, 4),
    "phrygian": (0, 1, 6, 5, 2),
}
"""Roots that progressions use, the most usual first."""

KICK, STICK, SNARE, CLOSED_HAT, OPEN_HAT, CRASH, RIDE = 36, 37, 38, 42, 46, 49, 51
TOMS = (48, 47, 45, 43)

_ACCENT, _STROKE, _SOFT, _GHOST = 118, 98, 78, 46


class Hit(NamedTuple):
    """A drum stroke: step of the bar (may lie between two), key, velocity."""

    step: float
    key: int
    velocity: int


class Tone(NamedTuple):
    """A note of a bass or chord pattern: step, length in steps, semitones over the root, velocity."""

    step: float
    length: float
    interval: int
    velocity: int


def progression(dice: Dice, mode: str) -> tuple[int, ...]:
    """Roots of two or four bars as scale degrees, none twice in a row, mostly from the tonic."""
    degrees = _DEGREES[mode]
    roots = [0 if dice.chance(0.7) else dice.choose(degrees)]
    while len(roots) < 4:
        weights = [root for rank, root in enumerate(degrees) for _ in range(len(degrees) - rank) if root != roots[-1]]
        roots.append(dice.choose(weights))
    return tuple(roots if dice.chance(0.8) else (roots[0], roots[0], roots[1], roots[1]))


# ---- drums


def groove(dice: Dice, genre: Genre) -> list[Hit]:
    """One bar of kick, snare and hats."""
    return [*_kick(dice, genre), *_snare(dice, genre), *_hats(dice, genre)]


def _kick(dice: Dice, genre: Genre) -> list[Hit]:
    word = dice.choose(genre.kicks)
    fixed = {
        "four": (0, 4, 8, 12),
        "rock": (0, 8),
        "driving": (0, 2, 8, 10),
        "quarters": (0, 8),
        "sparse": (0,),
        "busy": (0, 6, 8),
        "broken": (0, 10),
    }[word]
    optional, probability = {
        "four": ((14,), 0.15),
        "rock": ((2, 6, 7, 10, 11, 14), 0.25),
        "driving": ((6, 14), 0.4),
        "quarters": ((10,), 0.2),
        "sparse": ((6, 7, 8, 10, 11), 0.35),
        "busy": ((2, 3, 7, 9, 10, 11, 14), 0.45),
        "broken": ((2, 3, 6, 7, 11, 14), 0.3),
    }[word]
    steps = [*fixed, *(step for step in optional if dice.chance(probability))]
    return [Hit(step, KICK, _ACCENT if step % 8 == 0 else _STROKE) for step in sorted(set(steps))]


def _snare(dice: Dice, genre: Genre) -> list[Hit]:
    beats = {"double": (4, 12), "half": (8,), "none": ()}[genre.backbeat]
    key = STICK if genre.drive < 0.3 and dice.chance(0.4) else SNARE
    ghosts = [step for step in (2, 6, 7, 9, 11, 14, 15) if dice.chance(genre.ghosts) and step not in beats]
    return [*(Hit(step, key, _ACCENT) for step in beats), *(Hit(step, SNARE, _GHOST) for step in ghosts)]


def _hats(dice: Dice, genre: Genre) -> list[Hit]:
    word = dice.choose(genre.hats)
    key = RIDE if word == "ride" else CLOSED_HAT
    steps: Sequence[float] = {
        "eighths": range(0, 16, 2),
        "ride": range(0, 16, 2),
        "quarters": range(0, 16, 4),
        "sixteenths": range(16),
        "offbeats": range(2, 16, 4),
        "rolls": range(0, 16, 2),
    }[word]
    hits = [Hit(step, key, _STROKE if step % 4 == 0 else (_SOFT if step % 2 == 0 else _SOFT - 16)) for step in steps]
    if word == "rolls":
        start = dice.choose((6, 10, 12, 14))
        hits += [Hit(start + third * 2 / 3, key, _SOFT) for third in (1, 2)] + [Hit(start + 1, key, _SOFT)]
    if word == "offbeats" and dice.chance(0.6):
        return [hit._replace(key=OPEN_HAT) for hit in hits]
    if word in ("eighths", "sixteenths") and dice.chance(0.4):
        opened = dice.choose((6, 14))
        hits = [hit._replace(key=OPEN_HAT, velocity=_STROKE) if hit.step == opened else hit for hit in hits]
    return hits


def fill(dice: Dice) -> list[Hit]:
    """A bar's last beat or two, on snare and toms, getting louder."""
    first = dice.choose((8, 12, 12, 14))
    steps = range(first, STEPS_PER_BAR, dice.choose((1, 2)) if first < 14 else 1)
    toms = dice.chance(0.6)
    hits = []
    for index, step in enumerate(steps):
        share = index / max(len(steps) - 1, 1)
        hits.append(Hit(step, TOMS[int(share * 3.99)] if toms else SNARE, int(82 + 34 * share)))
    return hits


# ---- bass and chords


def bass_line(dice: Dice, genre: Genre, hits: Sequence[Hit]) -> list[Tone]:
    """One bar over a root; ``hits`` are the drums', whose kick it may follow."""
    word = dice.choose(genre.basses)
    kicks = sorted({hit.step for hit in hits if hit.key == KICK}) or [0, 8]
    fifth = dice.choose((7, 7, 12, 5))
    if word in ("eighths", "sixteenths", "octaves"):
        stride = 1 if word == "sixteenths" else 2
        kept = [step for step in range(0, 16, stride) if step % 4 == 0 or dice.chance(0.85)]
        jump = 12 if word == "octaves" else 0
        return [
            Tone(step, stride * 0.85, jump * ((step // 2) % 2), _STROKE if step % 4 == 0 else _SOFT) for step in kept
        ]
    if word == "offbeats":
        return [Tone(step, 1.6, 0, _STROKE) for step in range(2, 16, 4)]
    if word == "walking":
        return [
            Tone(4 * beat, 3.6, interval, _STROKE)
            for beat, interval in enumerate((0, dice.choose((4, 7, 0)), 7, fifth))
        ]
    if word == "held":
        return (
            [Tone(0, 15.5, 0, _STROKE)] if dice.chance(0.6) else [Tone(0, 10, 0, _STROKE), Tone(12, 3.5, fifth, _SOFT)]
        )
    steps = [0, 8] if word == "roots" else kicks
    ends = [*steps[1:], STEPS_PER_BAR]
    return [
        Tone(step, 0.9 * (end - step), 0 if step % 8 == 0 or dice.chance(0.7) else fifth, _STROKE)
        for step, end in zip(steps, ends, strict=True)
    ]


def chord_rhythm(dice: Dice, genre: Genre) -> list[Tone]:
    """When chords are struck in a bar; the interval is not used."""
    word = dice.choose(genre.chords)
    steps: Sequence[float] = {
        "held": (0,),
        "quarters": (0, 4, 8, 12),
        "eighths": range(0, 16, 2),
        "chug": range(16),
        "offbeats": (2, 6, 10, 14),
        "syncopated": dice.choose(((0, 3, 6, 10), (0, 6, 12), (0, 3, 8, 11), (2, 5, 8, 14), (0, 7, 10))),
        "stab": dice.choose(((0, 6), (4, 12), (0, 3, 6), (6, 14))),
        "strum": (0, 4, 6, 8, 10, 12, 14),
        "scratch": (0, 3, 4, 6, 7, 10, 12, 14, 15),
        "arpeggio": range(0, 16, 2),
    }[word]
    if word in ("chug", "scratch", "strum"):
        steps = [step for step in steps if step % 4 == 0 or dice.chance(0.75)]
    length = {"offbeats": 1.2, "scratch": 0.8, "stab": 1.5, "chug": 0.8, "eighths": 1.9}.get(word)
    ends = [*list(steps)[1:], STEPS_PER_BAR]
    return [
        Tone(step, length or 0.95 * (end - step), 0, _ACCENT - 8 if step % 4 == 0 else _SOFT)
        for step, end in zip(steps, ends, strict=True)
    ]


# ---- melodies


def motif(dice: Dice, density: float) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """One bar of melody: onsets in sixteenths, and steps along the scale between notes."""
    strength = {0: 3.0, 2: 1.4, 1: 0.5, 3: 0.5}
    onsets = [step for step in range(STEPS_PER_BAR) if dice.chance(min(0.95, density * strength[step % 4] / 5.4))]
    if not onsets:
        onsets = [dice.choose((0, 2, 4))]
    return tuple(onsets), tuple(dice.choose((-2, -1, -1, 0, 0, 1, 1, 2, 3)) for _ in onsets)


def nearest_chord_tone(degree: int, root: int) -> int:
    """The degree of the triad on ``root`` that is nearest to ``degree``."""
    tones = [root + 2 * third + 7 * octave for octave in range(-4, 4) for third in range(3)]
    return min(tones, key=lambda tone: abs(tone - degree))

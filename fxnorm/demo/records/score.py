"""What a song of the style "records" is before it is played: notes, parts, sections, and dice to draw them with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from fxnorm.demo.composition import Note

STEPS_PER_BAR = 16
"""Sixteenths of a bar of four beats, in which all patterns are written."""

_KEY_NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")

_Choice = TypeVar("_Choice")


class Dice:
    """Draws from one random generator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def choose(self, options: Sequence[_Choice]) -> _Choice:
        """One of ``options``, each as likely as the others."""
        return options[int(self.rng.integers(len(options)))]

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return bool(self.rng.random() < probability)

    def between(self, low: float, high: float) -> float:
        """A number drawn evenly from a range."""
        return float(self.rng.uniform(low, high))

    def vary(self, value: float, deviation: float) -> float:
        """Normally distributed round ``value``, within two standard deviations."""
        return value + deviation * float(np.clip(self.rng.standard_normal(), -2, 2))


@dataclass(frozen=True)
class Part:
    """What one player plays.

    Attributes:
        stem: vocals, bass, drums or other.
        role: what the mix treats it as, such as ``lead``, ``backing``, ``guitar``, ``pad`` or ``drums``.
        instrument: one of :mod:`fxnorm.demo.records.playing`'s.
        notes: in seconds.
        takes: how often it is played: 2 for a double-tracked part.
    """

    stem: str
    role: str
    instrument: Any
    notes: tuple[Note, ...]
    takes: int = 1


@dataclass(frozen=True)
class Section:
    """A stretch of a song in seconds, and how full it is: 0 sparse, 1 everything plays."""

    start: float
    end: float
    intensity: float


@dataclass(frozen=True)
class Song:
    """A song before it is played."""

    genre: str
    seconds: float
    tempo: float
    tonic: int
    mode: str
    sections: tuple[Section, ...]
    parts: tuple[Part, ...]

    @property
    def key_name(self) -> str:
        """The tonic's name."""
        return _KEY_NAMES[self.tonic]

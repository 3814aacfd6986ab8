"""Plays the parts of a song: soundfonts through midirenderer, synthesizers, machines and voices as they are."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from fxnorm.constants import SAMPLE_RATE
from fxnorm.demo import rendering
from fxnorm.demo.composition import Note
from fxnorm.demo.records import drum_machines
from fxnorm.demo.records.drum_machines import Machine
from fxnorm.demo.records.score import Part, Song
from fxnorm.errors import FxnormError

_LAYERS = (40, 70, 96, 120)  # velocities at which a kit is sampled
_DRUMMER_DB = 1.3  # between strokes that are written alike
_LONG_STROKES = (46, 49, 51, 57)
_SLOT_SECONDS, _LONG_SLOT_SECONDS = 1.0, 3.0
_TAKE_TIMING_SECONDS, _TAKE_VELOCITY = 0.009, 6.0  # between the takes of a doubled part


@dataclass(frozen=True)
class Sampled:
    """An instrument of a soundfont: which of the song's soundfonts, and General MIDI's program."""

    font: int
    program: int

    def play(self, notes: Sequence[Note], samples: int, fonts: Sequence[Path]) -> np.ndarray:
        """The notes, (2, samples)."""
        return rendering.play_soundfont(
            read_font(fonts[self.font % len(fonts)]), notes, self.program, False, samples / SAMPLE_RATE, samples, False
        )


@dataclass(frozen=True)
class Kit:
    """A drum kit of a soundfont, sampled at four velocities."""

    font: int
    program: int

    def play(
        self, notes: Sequence[Note], samples: int, rng: np.random.Generator, fonts: Sequence[Path]
    ) -> dict[str, np.ndarray]:
        """Piece -> (2, samples)."""
        keys = tuple(sorted({note.key for note in notes}))
        sounds = {key: _strokes(fonts[self.font % len(fonts)], self.program, key) for key in keys}
        return drum_machines.place(notes, sounds, samples, rng, _DRUMMER_DB)


@cache
def read_font(path: Path) -> bytes:
    """A soundfont's bytes."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FxnormError(f"{path}: cannot be read ({error.strerror or error})") from error
    return content


def digest(path: Path) -> str:
    """SHA-256 of a soundfont."""
    return hashlib.sha256(read_font(path)).hexdigest()


def play(
    song: Song, rng: np.random.Generator, fonts: Sequence[Path]
) -> list[tuple[Part, Mapping[str, list[np.ndarray]]]]:
    """Every part as it is played: its pieces (one with the part's role, the drums' several) and their takes,
    float64 (channels, samples) each."""
    samples = round(song.seconds * SAMPLE_RATE)
    played: list[tuple[Part, Mapping[str, list[np.ndarray]]]] = []
    for part in song.parts:
        pieces: dict[str, list[np.ndarray]] = {}
        for take in range(part.takes):
            notes = part.notes if take == 0 else _play_again(part.notes, rng)
            instrument = part.instrument
            if isinstance(instrument, Kit):
                sounds = instrument.play(notes, samples, rng, fonts)
            elif isinstance(instrument, Machine):
                sounds = instrument.play(notes, samples, rng)
            elif isinstance(instrument, Sampled):
                sounds = {part.role: instrument.play(notes, samples, fonts)}
            else:
                sounds = {part.role: instrument.play(notes, samples, rng)}
            for piece, audio in sounds.items():
                pieces.setdefault(piece, []).append(audio)
        played.append((part, pieces))
    return played


def _play_again(notes: Sequence[Note], rng: np.random.Generator) -> tuple[Note, ...]:
    """Another take: not quite the same times and velocities."""
    return tuple(
        replace(
            note,
            start=max(0.0, note.start + float(rng.normal(0, _TAKE_TIMING_SECONDS))),
            velocity=int(np.clip(note.velocity + rng.normal(0, _TAKE_VELOCITY), 1, 127)),
        )
        for note in notes
    )


@cache
def _strokes(font: Path, program: int, key: int) -> list[np.ndarray]:
    """One drum at each velocity, (2, samples), at the level of full velocity."""
    seconds = _LONG_SLOT_SECONDS if key in _LONG_STROKES else _SLOT_SECONDS
    notes = [Note(key, index * seconds, 0.4, velocity) for index, velocity in enumerate(_LAYERS)]
    samples = round(seconds * len(_LAYERS) * SAMPLE_RATE)
    audio = rendering.play_soundfont(read_font(font), notes, program, True, seconds * len(_LAYERS), samples, False)
    slot = samples // len(_LAYERS)
    fade = np.minimum(1.0, np.arange(slot, 0, -1) / 2205)
    strokes = []
    for index, velocity in enumerate(_LAYERS):
        stroke = audio[:, index * slot : (index + 1) * slot] * fade
        strokes.append(stroke / (velocity / 127) ** 1.4)
    return strokes

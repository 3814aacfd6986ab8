"""Scores by rule: the form, harmony, melody, bass line, drum groove and chord parts of one short song.

Everything is drawn from one random generator around a single number, the song's energy: near 0 lies a slow, sparse
ballad and near 1 a fast, dense number. The mix of a song (:mod:`fxnorm.demo.mixing`) depends on the
same number, so that a network can learn how a song is mixed from how it sounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from fxnorm.demo import patterns
from fxnorm.demo.patterns import BEATS_PER_BAR

_CALM_TEMPO, _DRIVING_TEMPO = 72.0, 136.0  # beats a minute
_LEAD_IN_SECONDS = 0.08  # so that a note played early does not start before the song
# what the last chord gets: the lesser of the time and the fraction of the song
_RING_OUT_SECONDS, _RING_OUT_FRACTION = 2.0, 0.2
_TIMING_DEVIATION_SECONDS, _TIMING_LIMIT_SECONDS = 0.006, 0.015
_VELOCITY_DEVIATION = 5.0
_MELODY_LOWEST_CENTRE, _MELODY_HIGHEST_CENTRE = 62, 70  # MIDI keys
_MELODY_REACH = 6  # scale steps either side of its centre
_BASS_LOWEST = 28  # MIDI key of a bass guitar's low E
_CHORD_CENTRE, _PAD_CENTRE, _ARPEGGIO_CENTRE = 58, 64, 66  # MIDI keys

_Choice = TypeVar("_Choice")


@dataclass(frozen=True)
class Note:
    """One note: MIDI key and velocity; start and length in seconds (in beats as long as a part is being written)."""

    key: int
    start: float
    length: float
    velocity: int


@dataclass(frozen=True)
class Part:
    """What one instrument plays; ``program`` is General MIDI's, or that of a kit where ``is_drum``."""

    stem: str
    name: str
    program: int
    is_drum: bool
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Section:
    """A stretch of a song, in seconds, and the stems that play in it."""

    name: str
    start: float
    end: float
    stems: frozenset[str]


@dataclass(frozen=True)
class Score:
    """A song before it is played; ``energy`` is 0 for a ballad and 1 for a driving song."""

    seconds: float
    energy: float
    tempo: float
    sections: tuple[Section, ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class _Bar:
    index: int
    section: str
    stems: frozenset[str]
    position: int  # within its section
    is_last: bool  # of its section
    root: int  # scale degree of the chord

    @property
    def start(self) -> float:
        return self.index * BEATS_PER_BAR


@dataclass(frozen=True)
class Scale:
    """A key: tonic in semitones over C, and the scale's semitones over the tonic."""

    tonic: int
    semitones: tuple[int, ...]

    def key(self, degree: int) -> int:
        """MIDI key of a scale degree; degree 0 is the tonic in the octave of middle C."""
        octave, step = divmod(degree, len(self.semitones))
        return 60 + self.tonic + 12 * octave + self.semitones[step]

    def nearest_degree(self, key: int) -> int:
        """The degree whose MIDI key is nearest to ``key``."""
        return min(range(-28, 29), key=lambda degree: abs(self.key(degree) - key))

    def chord(self, root: int, tones: int, centre: int) -> list[int]:
        """MIDI keys of stacked thirds over a root, each in the octave round ``centre``: chords then move little."""
        lowest = centre - 6
        return sorted(lowest + (self.key(root + 2 * third) - lowest) % 12 for third in range(tones))


def compose(rng: np.random.Generator, energy: float, seconds: float) -> Score:
    """A song of ``seconds``, its last chord's ringing included, whose character follows ``energy`` (0 to 1)."""
    ring_out = min(_RING_OUT_SECONDS, _RING_OUT_FRACTION * seconds)
    playing_seconds = seconds - ring_out - _LEAD_IN_SECONDS
    target_tempo = _CALM_TEMPO + (_DRIVING_TEMPO - _CALM_TEMPO) * energy + rng.normal(0, 4)
    bar_count = max(1, round(playing_seconds * target_tempo / 60 / BEATS_PER_BAR))
    tempo = 60 * BEATS_PER_BAR * bar_count / playing_seconds

    mode = _choose(rng, tuple(patterns.SCALES))
    scale = Scale(int(rng.integers(-5, 7)), patterns.SCALES[mode])
    bars = _lay_out_bars(rng, bar_count, patterns.PROGRESSIONS[mode])
    parts = [
        *_write_vocals(rng, bars, scale, energy),
        _write_bass(rng, bars, scale, energy),
        *_write_drums(rng, bars, energy),
        *_write_chord_parts(rng, bars, scale, energy),
    ]
    swing = float(rng.uniform(0.03, 0.16)) if rng.random() < 0.3 else 0.0  # beats by which off-beats come late
    return Score(
        seconds=seconds,
        energy=energy,
        tempo=tempo,
        sections=_sections_of(bars, tempo, seconds),
        parts=tuple(_perform(rng, part, bars, tempo, swing) for part in parts if part.notes),
    )


def _choose(rng: np.random.Generator, options: Sequence[_Choice]) -> _Choice:
    return options[int(rng.integers(len(options)))]


def _row_for(rng: np.random.Generator, table: Sequence[_Choice], energy: float) -> _Choice:
    """The row of a table from calm to driving that fits the energy, sometimes a neighbour of it."""
    return table[int(np.clip(len(table) * energy + rng.normal(0, 0.2), 0, len(table) - 1))]


def _choose_for(rng: np.random.Generator, table: Sequence[Sequence[_Choice]], energy: float) -> _Choice:
    return _choose(rng, _row_for(rng, table, energy))


# ---- form


def _lay_out_bars(rng: np.random.Generator, count: int, progressions: Sequence[tuple[int, ...]]) -> list[_Bar]:
    """Bars with section, resting stems and chord: a bar for each section, the others shared out by weight."""
    fitting = [form for form in patterns.FORMS if len(form) <= count]
    form = _choose(rng, fitting) if fitting else patterns.SHORT_FORM[-count:]
    weights = np.cumsum([0, *(patterns.SECTION_WEIGHTS[section] for section in form)])
    edges = np.arange(len(form) + 1) + (count - len(form)) * weights // weights[-1]
    progression_of = {section: _choose(rng, progressions) for section in patterns.SECTION_WEIGHTS}
    bars = []
    for section, first, end in zip(form, edges[:-1], edges[1:], strict=True):
        stems = frozenset(_choose(rng, patterns.SECTION_STEMS[section]))
        progression = progression_of[section]
        bars += [
            _Bar(
                index=int(index),
                section=section,
                stems=stems,
                position=int(index - first),
                is_last=bool(index == end - 1),
                root=progression[(index - first) % len(progression)],
            )
            for index in range(first, end)
        ]
    return bars


def _sections_of(bars: Sequence[_Bar], tempo: float, seconds: float) -> tuple[Section, ...]:
    starts = [bar for bar in bars if bar.position == 0]
    times = [_LEAD_IN_SECONDS + bar.start * 60 / tempo for bar in starts]
    times[0] = 0.0
    return tuple(
        Section(bar.section, start, end, bar.stems)
        for bar, start, end in zip(starts, times, [*times[1:], seconds], strict=True)
    )


# ---- vocals


def _write_vocals(rng: np.random.Generator, bars: Sequence[_Bar], scale: Scale, energy: float) -> list[Part]:
    program = _choose_for(rng, patterns.VOCAL_PROGRAMS, energy)
    melody = _write_melody(rng, [bar for bar in bars if "vocals" in bar.stems], scale, energy)
    third = _choose(rng, (2, -2, -5))  # scale steps: the harmony sings above, below, or a sixth below
    chorus_starts = {bar.start for bar in bars if bar.section == "chorus"}
    harmony = [
        replace(note, key=note.key + third, velocity=note.velocity - 14)
        for note in melody
        if note.start // BEATS_PER_BAR * BEATS_PER_BAR in chorus_starts
    ]
    return [
        Part("vocals", name, program, False, tuple(replace(note, key=scale.key(note.key)) for note in notes))
        for name, notes in (("lead", melody), ("harmony", harmony))
    ]


def _write_melody(rng: np.random.Generator, bars: Sequence[_Bar], scale: Scale, energy: float) -> list[Note]:
    """Phrases of two bars, whose second ends with a held note and a breath; keys are scale degrees."""
    motifs = {section: _draw_motif(rng, energy) for section in patterns.SECTION_WEIGHTS}
    centre = scale.nearest_degree(int(rng.integers(_MELODY_LOWEST_CENTRE, _MELODY_HIGHEST_CENTRE + 1)))
    degree = centre
    melody = []
    for bar in bars:
        onsets, steps = motifs[bar.section]
        bar_centre = centre + (2 if bar.section == "chorus" else 0)
        ends_phrase = bar.position % 2 == 1 or bar.is_last
        if ends_phrase:
            onsets = tuple(onset for onset in onsets if onset < BEATS_PER_BAR / 2)
        bar_end = BEATS_PER_BAR - 1.0 if ends_phrase else BEATS_PER_BAR
        degree = _nearest_chord_tone(degree, bar.root)
        for note_index, (onset, following) in enumerate(zip(onsets, (*onsets[1:], bar_end), strict=True)):
            if note_index > 0:
                degree += steps[note_index]
            if note_index == len(onsets) - 1:
                degree = _nearest_chord_tone(degree, bar.root)
            degree = int(np.clip(degree, bar_centre - _MELODY_REACH, bar_centre + _MELODY_REACH))
            velocity = 100 if onset % 1 == 0 else 90
            melody.append(Note(degree, bar.start + onset, 0.93 * (following - onset), velocity))
    return melody


def _draw_motif(rng: np.random.Generator, energy: float) -> tuple[tuple[float, ...], tuple[int, ...]]:
    onsets = _choose_for(rng, patterns.MELODY_RHYTHMS, energy)
    return onsets, tuple(_choose(rng, patterns.MELODY_STEPS) for _ in onsets)


def _nearest_chord_tone(degree: int, root: int) -> int:
    tones = [root + 2 * third + 7 * octave for octave in range(-4, 4) for third in range(3)]
    return min(tones, key=lambda tone: abs(tone - degree))


# ---- bass and drums


def _write_bass(rng: np.random.Generator, bars: Sequence[_Bar], scale: Scale, energy: float) -> Part:
    rhythms = {section: _choose_for(rng, patterns.BASS_PATTERNS, energy) for section in patterns.SECTION_WEIGHTS}
    notes = [
        Note(
            _BASS_LOWEST + (scale.key(bar.root) - _BASS_LOWEST) % 12 + semitones,
            bar.start + start,
            length,
            104 if start == 0 else 94,
        )
        for bar in bars
        if "bass" in bar.stems
        for start, length, semitones in rhythms[bar.section]
    ]
    if "bass" in bars[-1].stems:
        last_key = _BASS_LOWEST + (scale.key(0) - _BASS_LOWEST) % 12
        notes.append(Note(last_key, bars[-1].start + BEATS_PER_BAR, BEATS_PER_BAR, 100))
    return Part("bass", "bass", _choose_for(rng, patterns.BASS_PROGRAMS, energy), False, tuple(notes))


def _write_drums(rng: np.random.Generator, bars: Sequence[_Bar], energy: float) -> list[Part]:
    kit = _choose_for(rng, patterns.DRUM_KITS, energy)
    row = _row_for(rng, patterns.GROOVES, energy)
    grooves = {section: _choose(rng, row) for section in patterns.SECTION_WEIGHTS}
    pieces: dict[str, list[Note]] = {"kick": [], "snare": [], "toms": [], "cymbals": []}
    for bar in (bar for bar in bars if "drums" in bar.stems):
        groove = grooves[bar.section]
        fill_start = _choose(rng, (2, 3)) if bar.is_last and bar.position > 0 else BEATS_PER_BAR
        pieces["kick"] += _strike(groove.kick, patterns.KICK, bar.start)
        pieces["snare"] += _strike(groove.snare[: 4 * fill_start], groove.snare_key, bar.start)
        pieces["cymbals"] += _strike(groove.cymbal[: 4 * fill_start], groove.cymbal_key, bar.start)
        pieces["toms"] += _write_fill(rng, bar.start + fill_start, bar.start + BEATS_PER_BAR)
        if bar.position == 0 and bar.section in ("verse", "chorus"):
            pieces["cymbals"].append(Note(patterns.CRASH, bar.start, 2.0, 96))
    if "drums" in bars[-1].stems:
        end = bars[-1].start + BEATS_PER_BAR
        pieces["kick"].append(Note(patterns.KICK, end, 0.2, 110))
        pieces["cymbals"].append(Note(patterns.CRASH, end, 4.0, 104))
    return [Part("drums", name, kit, True, tuple(notes)) for name, notes in pieces.items()]


def _strike(steps: str, key: int, start: float) -> list[Note]:
    return [
        Note(key, start + step / 4, 0.2, patterns.STROKES[stroke]) for step, stroke in enumerate(steps) if stroke != "."
    ]


def _write_fill(rng: np.random.Generator, start: float, end: float) -> list[Note]:
    """Down the toms in sixteenths or eighths, getting louder; nothing where the times are equal."""
    onsets = np.arange(start, end, _choose(rng, (0.25, 0.5)))
    toms = np.linspace(0, len(patterns.FILL_TOMS) - 1, len(onsets)).astype(int)
    velocities = np.linspace(84, 116, len(onsets)).astype(int)
    return [
        Note(patterns.FILL_TOMS[tom], float(onset), 0.2, int(velocity))
        for tom, onset, velocity in zip(toms, onsets, velocities, strict=True)
    ]


# ---- keys, guitars, pads


def _write_chord_parts(rng: np.random.Generator, bars: Sequence[_Bar], scale: Scale, energy: float) -> list[Part]:
    """Chords throughout, and an arpeggio, a pad or both, which may wait for the chorus."""
    playing = [bar for bar in bars if "other" in bar.stems]
    tones = _choose(rng, (3, 3, 4))
    chords = Part(
        "other",
        "chords",
        _choose_for(rng, patterns.CHORD_PROGRAMS, energy),
        False,
        _write_chords(rng, playing, scale, tones, energy),
    )
    colours = _choose(rng, (("arpeggio",), ("pad",), ("arpeggio", "pad")))
    waits = rng.random() < 0.5
    coloured = [bar for bar in playing if bar.section != "verse"] if waits else playing
    parts = [chords]
    if "arpeggio" in colours:
        program = _choose_for(rng, patterns.ARPEGGIO_PROGRAMS, energy)
        parts.append(Part("other", "arpeggio", program, False, _write_arpeggio(rng, coloured, scale)))
    if "pad" in colours:
        program = _choose_for(rng, patterns.PAD_PROGRAMS, energy)
        parts.append(Part("other", "pad", program, False, _write_pad(coloured, scale, tones)))
    return parts


def _write_chords(
    rng: np.random.Generator, bars: Sequence[_Bar], scale: Scale, tones: int, energy: float
) -> tuple[Note, ...]:
    rhythms = {section: _choose_for(rng, patterns.CHORD_PATTERNS, energy) for section in patterns.SECTION_WEIGHTS}
    notes = [
        Note(key, bar.start + start, length, 96 if start % 1 == 0 else 84)
        for bar in bars
        for start, length in rhythms[bar.section]
        for key in scale.chord(bar.root, tones, _CHORD_CENTRE)
    ]
    if bars:
        end = bars[-1].start + BEATS_PER_BAR
        notes += [Note(key, end, BEATS_PER_BAR, 92) for key in scale.chord(0, tones, _CHORD_CENTRE)]
    return tuple(notes)


def _write_arpeggio(rng: np.random.Generator, bars: Sequence[_Bar], scale: Scale) -> tuple[Note, ...]:
    order = _choose(rng, patterns.ARPEGGIOS)
    notes = []
    for bar in bars:
        triad = scale.chord(bar.root, 3, _ARPEGGIO_CENTRE)
        tones = [*triad, triad[0] + 12]
        notes += [
            Note(tones[order[step % len(order)]], bar.start + step / 2, 0.45, 92 if step % 4 == 0 else 80)
            for step in range(2 * BEATS_PER_BAR)
        ]
    return tuple(notes)


def _write_pad(bars: Sequence[_Bar], scale: Scale, tones: int) -> tuple[Note, ...]:
    return tuple(
        Note(key, bar.start, BEATS_PER_BAR - 0.1, 84)
        for bar in bars
        for key in scale.chord(bar.root, tones, _PAD_CENTRE)
    )


# ---- performance


def _perform(rng: np.random.Generator, part: Part, bars: Sequence[_Bar], tempo: float, swing: float) -> Part:
    """The part as a player plays it: in seconds, swung, not quite in time, every note at a velocity of its own."""
    seconds_per_beat = 60 / tempo
    beats = np.array([note.start for note in part.notes])
    late = swing * (np.abs(beats % 1 - 0.5) < 1e-6)
    timing = rng.normal(0, _TIMING_DEVIATION_SECONDS, beats.size)
    timing = timing.clip(-_TIMING_LIMIT_SECONDS, _TIMING_LIMIT_SECONDS)
    starts = _LEAD_IN_SECONDS + (beats + late) * seconds_per_beat + timing
    bar_intensities = np.array([patterns.SECTION_INTENSITY[bar.section] for bar in bars])
    intensities = bar_intensities[np.minimum(beats // BEATS_PER_BAR, len(bars) - 1).astype(int)]
    written = np.array([note.velocity for note in part.notes])
    velocities = np.clip(np.round(written * intensities + rng.normal(0, _VELOCITY_DEVIATION, beats.size)), 1, 127)
    notes = tuple(
        Note(note.key, float(start), note.length * seconds_per_beat, int(velocity))
        for note, start, velocity in zip(part.notes, starts, velocities, strict=True)
    )
    return replace(part, notes=notes)

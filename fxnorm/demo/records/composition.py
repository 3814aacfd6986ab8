"""Composes songs of the style "records": a genre, a key and a tempo, sections, and what each player plays.

What a song draws is its own: patterns are made of words of the genre (:mod:`fxnorm.demo.records.writing`), so that
hardly two songs share a groove or a melody.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fxnorm.demo.composition import Note, Scale
from fxnorm.demo.records import palette, writing
from fxnorm.demo.records.drum_machines import Machine
from fxnorm.demo.records.genres import Genre
from fxnorm.demo.records.score import STEPS_PER_BAR, Dice, Part, Section, Song
from fxnorm.demo.records.writing import Hit

_BASS_LOWEST = 28  # MIDI key of a bass guitar's low E
_POWER_CHORD_LOWEST = 40  # of a guitar's
_TIMING_LIMIT_SECONDS = 0.03
_DRUM_TIMING, _PART_TIMING = (0.0, 0.006), (0.003, 0.012)  # deviations in seconds: of machines and of people
_LEAD_IN_SECONDS = 0.06
_RING_OUT_SECONDS, _RING_OUT_SHARE = 1.5, 0.2  # for the last chord: the lesser of a time and a share of the song
_FEWEST_SECTION_BARS = 2
_POWER_KINDS = ("distorted", "overdriven", "crunch")
_PAD_KINDS = ("strings", "choir", "saw_pad")
_STRUM_SECONDS = 0.012  # between strings


@dataclass(frozen=True)
class _Bar:
    index: int
    section: int
    position: int  # in its section
    is_last: bool  # of its section
    intensity: float
    root: int
    plays: frozenset[str]

    @property
    def start(self) -> float:
        """In sixteenths."""
        return float(self.index * STEPS_PER_BAR)


@dataclass(frozen=True)
class _Plan:
    """What all players know."""

    genre: Genre
    scale: Scale
    bars: tuple[_Bar, ...]
    step_seconds: float
    swing: float

    def seconds(self, step: float) -> float:
        """When a step of the song sounds; off-beats late by the swing."""
        late = 4 * self.swing if abs(step % 4 - 2) < 1e-6 else 0.0
        return _LEAD_IN_SECONDS + (step + late) * self.step_seconds


def compose(rng: np.random.Generator, genres: Mapping[str, Genre], seconds: float) -> Song:
    """A song of ``seconds``, of one of ``genres``, with all that its players play."""
    dice = Dice(rng)
    name = dice.choose(sorted(genres))
    genre = genres[name]
    ring_out = min(_RING_OUT_SECONDS, _RING_OUT_SHARE * seconds)
    count = max(1, round((seconds - ring_out - _LEAD_IN_SECONDS) * dice.between(*genre.tempo) / 240))
    tempo = 240 * count / (seconds - ring_out - _LEAD_IN_SECONDS)  # so that whole bars fill the song
    mode = dice.choose(genre.modes)
    scale = Scale(int(rng.integers(-5, 7)), writing.SCALES[mode])
    bars = _lay_out(dice, count, mode)
    plan = _Plan(genre, scale, bars, 15 / tempo, dice.between(0, genre.swing))
    grooves = [writing.groove(dice, genre) for _ in range(bars[-1].section + 1)]
    parts = [
        *_write_drums(dice, plan, grooves),
        _write_bass(dice, plan, grooves),
        *_write_vocals(dice, plan),
        *_write_harmony(dice, plan),
    ]
    return Song(
        genre=name,
        seconds=seconds,
        tempo=tempo,
        tonic=scale.tonic % 12,
        mode=mode,
        sections=_sections(plan, seconds),
        parts=tuple(part for part in parts if part.notes),
    )


def _lay_out(dice: Dice, count: int, mode: str) -> tuple[_Bar, ...]:
    """Sections of 2 to 8 bars, a verse's and a chorus's progression taking turns; stems rest in some of them."""
    progressions = [writing.progression(dice, mode) for _ in range(2)]
    is_chorus = dice.chance(0.4)
    bars: list[_Bar] = []
    section = 0
    while len(bars) < count:
        length = min(dice.choose((4, 4, 8, 8, 2)), count - len(bars))
        if count - len(bars) - length < _FEWEST_SECTION_BARS:
            length = count - len(bars)
        intensity = dice.between(0.8, 1.0) if is_chorus else dice.between(0.35, 0.85)
        resting = {
            stem
            for stem, probability in (("drums", 0.14), ("bass", 0.1), ("vocals", 0.18), ("other", 0.03))
            if not is_chorus and dice.chance(probability)
        }
        if len(resting) == 4:
            resting = set()
        plays = frozenset({"vocals", "bass", "drums", "other"} - resting)
        roots = progressions[is_chorus]
        bars += [
            _Bar(len(bars) + i, section, i, i == length - 1, intensity, roots[i % len(roots)], plays)
            for i in range(length)
        ]
        is_chorus = not is_chorus
        section += 1
    never = frozenset(("vocals", "bass", "drums", "other")) - frozenset().union(*(bar.plays for bar in bars))
    return tuple(replace(bar, plays=bar.plays | never) for bar in bars)


def _sections(plan: _Plan, seconds: float) -> tuple[Section, ...]:
    firsts = [bar for bar in plan.bars if bar.position == 0]
    starts = [0.0, *(plan.seconds(bar.start) for bar in firsts[1:])]
    return tuple(
        Section(start, end, bar.intensity)
        for bar, start, end in zip(firsts, starts, [*starts[1:], seconds], strict=True)
    )


def _perform(
    dice: Dice, plan: _Plan, notes: Sequence[tuple[float, float, int, int]], timing: float, feel: float = 0.0
) -> tuple[Note, ...]:
    """(start, length in steps, key, velocity) as a player plays them: early or late by ``feel``, never quite alike."""
    performed = []
    for start, length, key, velocity in notes:
        bar = plan.bars[min(int(start // STEPS_PER_BAR), len(plan.bars) - 1)]
        late = (
            float(np.clip(dice.rng.normal(feel, timing), -_TIMING_LIMIT_SECONDS, _TIMING_LIMIT_SECONDS))
            if timing
            else 0.0
        )
        loudness = velocity * (0.72 + 0.28 * bar.intensity) + dice.rng.normal(0, 9)
        performed.append(
            Note(
                key,
                max(0.0, plan.seconds(start) + late),
                max(0.03, length * plan.step_seconds),
                int(np.clip(loudness, 1, 127)),
            )
        )
    return tuple(performed)


# ---- drums and bass


def _write_drums(dice: Dice, plan: _Plan, grooves: Sequence[Sequence[Hit]]) -> list[Part]:
    kind = dice.choose(plan.genre.drums)
    if kind == "none":
        return []
    kit = palette.draw_kit(dice, kind)
    hits: list[tuple[float, float, int, int]] = []
    for bar in plan.bars:
        if "drums" not in bar.plays:
            continue
        has_fill = bar.is_last and dice.chance(0.6)
        ending = writing.fill(dice) if has_fill else []
        until = min((hit.step for hit in ending), default=STEPS_PER_BAR)
        kept = [hit for hit in grooves[bar.section] if hit.step < until or hit.key == writing.KICK]
        hits += [(bar.start + step, 1.0, key, velocity) for step, key, velocity in [*kept, *ending]]
        if bar.position == 0 and bar.index > 0 and dice.chance(0.7):
            hits.append((bar.start, 8.0, writing.CRASH, 108))
    if "drums" in plan.bars[-1].plays:
        end = float(len(plan.bars) * STEPS_PER_BAR)
        hits += [(end, 1.0, writing.KICK, 110), (end, 8.0, writing.CRASH, 104)]
    timing = dice.between(0.0, 0.001) if isinstance(kit, Machine) else dice.between(*_DRUM_TIMING)
    return [Part("drums", "drums", kit, _perform(dice, plan, hits, timing))]


def _write_bass(dice: Dice, plan: _Plan, grooves: Sequence[Sequence[Hit]]) -> Part:
    kind = dice.choose(plan.genre.bass)
    lines = [writing.bass_line(dice, plan.genre, groove) for groove in grooves]
    lowest = _BASS_LOWEST + (dice.choose((0, 3, 5)) if kind == "sub" else 0)
    notes: list[tuple[float, float, int, int]] = []
    for bar in plan.bars:
        if "bass" in bar.plays:
            root = lowest + (plan.scale.key(bar.root) - lowest) % 12
            notes += [
                (bar.start + tone.step, tone.length, root + tone.interval, tone.velocity) for tone in lines[bar.section]
            ]
    if "bass" in plan.bars[-1].plays:
        notes.append((float(len(plan.bars) * STEPS_PER_BAR), 12.0, lowest + (plan.scale.key(0) - lowest) % 12, 100))
    instrument = palette.draw(dice, kind)
    return Part(
        "bass", "bass", instrument, _perform(dice, plan, notes, dice.between(*_PART_TIMING), dice.vary(0, 0.004))
    )


# ---- vocals


def _write_vocals(dice: Dice, plan: _Plan) -> list[Part]:
    """A lead, and backing vocals that double it, sing thirds, or hold chords."""
    tension = 0.25 + 0.6 * plan.genre.drive
    singer = palette.draw_singer(dice, tension)
    melody = _write_melody(dice, plan, singer.register == "high")
    timing, feel = dice.between(0.006, 0.02), dice.vary(0.005, 0.008)

    def sung(notes: Sequence[tuple[float, float, int, int]]) -> tuple[Note, ...]:
        performed = [(start, length, plan.scale.key(degree), velocity) for start, length, degree, velocity in notes]
        return _perform(dice, plan, performed, timing, feel)

    parts = [Part("vocals", "lead", singer, sung(melody))]
    if dice.chance(plan.genre.backing):
        loud = [note for note in melody if plan.bars[min(int(note[0] // 16), len(plan.bars) - 1)].intensity > 0.75]
        interval = dice.choose((2, 2, -2, 0, 5))
        backing_singer = replace(palette.draw_singer(dice, tension), octave=singer.octave, register=singer.register)
        harmony = [(start, length, degree + interval, velocity - 12) for start, length, degree, velocity in loud]
        parts.append(Part("vocals", "backing", backing_singer, sung(harmony), takes=dice.choose((1, 2, 2))))
    if dice.chance(0.3 * plan.genre.backing):
        doubled = replace(singer, looseness=1.3 * singer.looseness)
        parts.append(Part("vocals", "backing", doubled, parts[0].notes, takes=2))
    return parts


def _write_melody(dice: Dice, plan: _Plan, high: bool) -> list[tuple[float, float, int, int]]:
    """(start, length, scale degree, velocity): phrases of two bars, the second half of which rests or holds."""
    density = plan.genre.density * dice.between(0.7, 1.3) * min(1.0, 110 / (15 / plan.step_seconds))
    motifs = [[writing.motif(dice, density) for _ in range(2)] for _ in range(plan.bars[-1].section + 1)]
    centre = plan.scale.nearest_degree(dice.choose((59, 61, 63, 65) if high else (63, 65, 67, 69)))
    degree = centre
    melody: list[tuple[float, float, int, int]] = []
    for bar in plan.bars:
        if "vocals" not in bar.plays:
            continue
        onsets, steps = motifs[bar.section][bar.position % 2]
        if bar.position % 4 == 3:
            onsets = tuple(onset for onset in onsets if onset < 8) or (0,)
        middle = centre + (2 if bar.intensity > 0.8 else 0)
        degree = writing.nearest_chord_tone(degree, bar.root)
        end = 13 if bar.position % 2 else STEPS_PER_BAR
        for index, (onset, following) in enumerate(zip(onsets, [*onsets[1:], max(end, onsets[-1] + 2)], strict=True)):
            degree += steps[index] if index else 0
            if index == len(onsets) - 1:
                degree = writing.nearest_chord_tone(degree, bar.root)
            degree = int(np.clip(degree, middle - 5, middle + 5))
            melody.append((bar.start + onset, 0.96 * (following - onset), degree, 104 if onset % 4 == 0 else 92))
    return melody


# ---- guitars, keys, pads, leads


def _write_harmony(dice: Dice, plan: _Plan) -> list[Part]:
    count = dice.choose((1, 2, 2, 3))
    kinds = [str(kind) for kind in dice.rng.permutation(plan.genre.harmony)[:count]]
    parts = [_write_chords(dice, plan, kind, index > 0) for index, kind in enumerate(kinds)]
    for kind in dice.rng.permutation(plan.genre.extras)[: dice.choose((0, 1, 1, 2))]:
        write = _write_pad if kind in _PAD_KINDS else _write_line
        parts.append(write(dice, plan, str(kind)))
    return parts


def _playing(dice: Dice, plan: _Plan, waits: bool) -> list[_Bar]:
    """The bars in which an instrument plays; one that waits leaves the sparse ones out."""
    return [bar for bar in plan.bars if "other" in bar.plays and not (waits and bar.intensity < 0.6)]


def _write_chords(dice: Dice, plan: _Plan, kind: str, waits: bool) -> Part:
    rhythms = [writing.chord_rhythm(dice, plan.genre) for _ in range(plan.bars[-1].section + 1)]
    is_power = kind in _POWER_KINDS
    tones, centre = dice.choose((3, 3, 4)), dice.choose((55, 58, 62, 66))
    strummed = "guitar" in kind and not is_power
    notes: list[tuple[float, float, int, int]] = []
    bars = _playing(dice, plan, waits and dice.chance(0.5))
    for bar in bars:
        keys = _chord_keys(plan, bar.root, tones, centre, is_power)
        rhythm = rhythms[bar.section]
        broken = len(rhythm) == 8 and strummed and dice.chance(0.3)
        for index, tone in enumerate(rhythm):
            chosen = [keys[index % len(keys)]] if broken else keys
            spread = _STRUM_SECONDS / plan.step_seconds if strummed else 0.0
            order = chosen if index % 2 == 0 else chosen[::-1]
            notes += [
                (bar.start + tone.step + string * spread, tone.length, key, tone.velocity)
                for string, key in enumerate(order)
            ]
    if bars and bars[-1].index == len(plan.bars) - 1:
        end = float(len(plan.bars) * STEPS_PER_BAR)
        notes += [(end, 14.0, key, 96) for key in _chord_keys(plan, 0, tones, centre, is_power)]
    takes = 2 if is_power and dice.chance(0.8) else (2 if "guitar" in kind and dice.chance(0.35) else 1)
    role = "guitar" if is_power or "guitar" in kind else ("pad" if kind in _PAD_KINDS else "keys")
    return _part(dice, plan, role, kind, notes, takes)


def _chord_keys(plan: _Plan, root: int, tones: int, centre: int, is_power: bool) -> list[int]:
    if not is_power:
        return plan.scale.chord(root, tones, centre)
    lowest = _POWER_CHORD_LOWEST + (plan.scale.key(root) - _POWER_CHORD_LOWEST) % 12
    return [lowest, lowest + 7, lowest + 12]


def _write_pad(dice: Dice, plan: _Plan, kind: str) -> Part:
    centre = dice.choose((60, 64, 69))
    notes = [
        (bar.start, STEPS_PER_BAR - 0.3, key, 84)
        for bar in _playing(dice, plan, dice.chance(0.5))
        for key in plan.scale.chord(bar.root, 3, centre)
    ]
    return _part(dice, plan, "pad", kind, notes, 1)


def _write_line(dice: Dice, plan: _Plan, kind: str) -> Part:
    """A riff, an arpeggio, or answers to the voice."""
    bars = _playing(dice, plan, dice.chance(0.6))
    centre = plan.scale.nearest_degree(dice.choose((64, 69, 74)))
    notes: list[tuple[float, float, int, int]] = []
    if dice.chance(0.45):
        order, stride = dice.choose(((0, 1, 2, 3), (0, 2, 1, 3), (3, 2, 1, 0), (0, 2, 3, 1))), dice.choose((1, 2, 2))
        for bar in bars:
            triad = plan.scale.chord(bar.root, 3, dice.choose((66,)))
            keys = [*triad, triad[0] + 12]
            notes += [
                (bar.start + step, 0.9 * stride, keys[order[step // stride % 4]], 96 if step % 4 == 0 else 82)
                for step in range(0, STEPS_PER_BAR, stride)
            ]
        return _part(dice, plan, "line", kind, notes, 1)
    motifs = [writing.motif(dice, dice.between(0.6, 1.6)) for _ in range(2)]
    answers = dice.chance(0.4)
    degree = centre
    for bar in bars:
        if answers and bar.position % 2 == 0 and "vocals" in bar.plays:
            continue
        onsets, steps = motifs[bar.position % 2]
        degree = writing.nearest_chord_tone(degree, bar.root)
        for index, (onset, following) in enumerate(zip(onsets, [*onsets[1:], STEPS_PER_BAR], strict=True)):
            degree = int(np.clip(degree + (steps[index] if index else 0), centre - 6, centre + 6))
            notes.append((bar.start + onset, 0.9 * (following - onset), plan.scale.key(degree), 98))
    return _part(dice, plan, "line", kind, notes, 1)


def _part(
    dice: Dice, plan: _Plan, role: str, kind: str, notes: Sequence[tuple[float, float, int, int]], takes: int
) -> Part:
    instrument: Any = palette.draw(dice, kind)
    timing = dice.between(*_PART_TIMING)
    return Part("other", role, instrument, _perform(dice, plan, notes, timing, dice.vary(0, 0.004)), takes)

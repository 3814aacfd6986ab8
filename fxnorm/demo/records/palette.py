"""Instruments by kind: which soundfont programs and synthesizer settings a kind is drawn from.

Every draw gives another instrument: programs differ, and settings of synthesizers vary round those of their kind.
"""

from collections.abc import Callable
from typing import Any

from fxnorm.demo.processors import Band
from fxnorm.demo.records.drum_machines import Machine
from fxnorm.demo.records.playing import Kit, Sampled
from fxnorm.demo.records.score import Dice
from fxnorm.demo.records.synthesizers import FrequencyModulation, Plucked, Subtractive
from fxnorm.demo.records.voices import Singer

_PROGRAMS = {
    "piano": (0, 1, 2, 3),
    "electric_piano": (4, 5),
    "clavinet": (7,),
    "bells": (9, 11, 12, 14, 98),
    "organ": (16, 17, 18, 19),
    "accordion": (21, 23),
    "nylon_guitar": (24,),
    "acoustic_guitar": (24, 25),
    "clean_guitar": (26, 27),
    "crunch": (29,),
    "overdriven": (29, 30),
    "distorted": (30, 29),
    "finger": (33,),
    "pick": (34,),
    "slap": (36, 37),
    "fretless": (35,),
    "upright": (32,),
    "saw": (38, 39),
    "fm": (38, 39),
    "strings": (48, 49, 50, 51),
    "choir": (52, 91, 54),
    "brass": (61, 62, 63, 56),
    "flute": (73, 71, 68, 75),
    "lead_guitar": (29, 30),
    "saw_lead": (81, 84, 87),
    "saw_pad": (89, 90, 95, 50),
    "stab": (62, 63, 55),
    "pluck": (45, 46, 107, 98),
}
"""General MIDI's programs, counted from 0, that a kind may be played with."""

_SYNTHESIZED = {
    "saw": 0.85,
    "sub": 1.0,
    "fm": 0.8,
    "saw_pad": 0.75,
    "saw_lead": 0.8,
    "stab": 0.75,
    "pluck": 0.6,
    "electric_piano": 0.5,
    "bells": 0.5,
    "distorted": 0.75,
    "overdriven": 0.7,
    "crunch": 0.6,
    "lead_guitar": 0.6,
    "acoustic_guitar": 0.35,
    "nylon_guitar": 0.3,
    "clean_guitar": 0.35,
    "strings": 0.15,
    "brass": 0.2,
    "pick": 0.25,
    "slap": 0.0,
}
"""Probability that a kind is synthesized; 0 for all others."""

_KITS = {"acoustic": (0, 8, 16, 0), "electronic": (24,), "brushes": (40, 32), "808": (25,), "909": (24, 25)}
_SYNTHESIZED_KITS = {"808": 0.85, "909": 0.85, "electronic": 0.5}


def draw(dice: Dice, kind: str) -> Any:
    """An instrument of a kind."""
    if dice.chance(_SYNTHESIZED.get(kind, 0.0)):
        return _SYNTHESIZERS[kind](dice)
    return Sampled(int(dice.rng.integers(16)), dice.choose(_PROGRAMS[kind]))


def draw_kit(dice: Dice, kind: str) -> Kit | Machine:
    """A drum kit or machine of a kind."""
    if not dice.chance(_SYNTHESIZED_KITS.get(kind, 0.0)):
        return Kit(int(dice.rng.integers(16)), dice.choose(_KITS[kind]))
    low = kind == "808"
    return Machine(
        kick_hz=dice.between(40, 52) if low else dice.between(46, 62),
        kick_sweep=dice.between(2, 4) if low else dice.between(3, 7),
        kick_seconds=dice.between(0.12, 0.5) if low else dice.between(0.08, 0.2),
        kick_click=dice.between(0.0, 0.3) if low else dice.between(0.2, 0.6),
        kick_drive=dice.between(0.8, 3.0),
        snare_hz=dice.between(150, 240),
        snare_noise=dice.between(0.4, 0.8),
        snare_seconds=dice.between(0.06, 0.2),
        hat_seconds=dice.between(0.02, 0.07),
        hat_metal=dice.between(0.2, 0.9),
        clap=dice.chance(0.4),
    )


def draw_singer(dice: Dice, tension: float) -> Singer:
    """A voice; ``tension`` from 0 to 1 is what the genre asks for."""
    high = dice.chance(0.45)
    return Singer(
        register="high" if high else "low",
        size=dice.between(0.92, 1.1),
        breath=10 ** dice.between(-1.6, -0.4),
        air=10 ** dice.between(-1.2, -0.3),
        tension=min(1.0, max(0.0, dice.vary(tension, 0.2))),
        vibrato_hz=dice.between(4.6, 6.4),
        vibrato_cents=dice.between(5, 55),
        consonants=dice.between(0.5, 1.3),
        octave=0 if high else -1,
        looseness=dice.between(0.3, 1.6),
    )


# ---- settings of synthesizers


def _saw_bass(dice: Dice) -> Subtractive:
    return Subtractive(
        voices=dice.choose((1, 2, 2)),
        detune_cents=dice.between(3, 14),
        pulse=dice.choose((0.0, 0.0, 1.0)),
        sub=dice.between(0.2, 1.0),
        cutoff=dice.between(250, 1400),
        sweep_octaves=dice.between(0.5, 3),
        sweep_seconds=dice.between(0.05, 0.3),
        resonance=dice.between(0.6, 3),
        poles=dice.choose((2, 4)),
        attack=0.003,
        decay=dice.between(0.1, 0.8),
        sustain=dice.between(0.3, 0.9),
        release=dice.between(0.02, 0.1),
        drive=dice.choose((0.0, 1.5, 3.0)),
    )


def _sub_bass(dice: Dice) -> Subtractive:
    return Subtractive(
        voices=0,
        sub=1.5,
        cutoff=6000.0,
        attack=0.004,
        decay=dice.between(0.3, 1.5),
        sustain=dice.between(0.2, 0.9),
        release=dice.between(0.05, 0.15),
        drive=dice.between(0.8, 5),
    )


def _fm_bass(dice: Dice) -> FrequencyModulation:
    return FrequencyModulation(
        ratios=(dice.choose((1.0, 2.0, 0.5)), dice.choose((1.0, 3.0))),
        indices=(dice.between(1, 3.5), dice.between(0.5, 2)),
        balance=dice.between(0.2, 0.5),
        decay=dice.between(0.3, 0.9),
        brightness_seconds=dice.between(0.05, 0.3),
        release=0.04,
    )


def _saw_pad(dice: Dice) -> Subtractive:
    return Subtractive(
        voices=dice.choose((4, 5, 6)),
        detune_cents=dice.between(6, 22),
        spread=dice.between(0.4, 1.0),
        cutoff=dice.between(500, 4500),
        sweep_octaves=dice.between(-1.5, 1.0),
        sweep_seconds=dice.between(0.3, 1.5),
        resonance=dice.between(0.6, 1.6),
        poles=dice.choose((2, 4)),
        attack=dice.between(0.02, 0.35),
        decay=0.8,
        sustain=0.8,
        release=dice.between(0.1, 0.35),
    )


def _stab(dice: Dice) -> Subtractive:
    return Subtractive(
        voices=dice.choose((3, 5)),
        detune_cents=dice.between(6, 20),
        spread=dice.between(0.3, 0.9),
        pulse=dice.choose((0.0, 1.0)),
        cutoff=dice.between(600, 3000),
        sweep_octaves=dice.between(0.5, 2.5),
        sweep_seconds=dice.between(0.06, 0.25),
        resonance=dice.between(0.7, 2),
        attack=0.003,
        decay=dice.between(0.1, 0.4),
        sustain=dice.between(0.0, 0.5),
        release=dice.between(0.05, 0.2),
    )


def _saw_lead(dice: Dice) -> Subtractive:
    return Subtractive(
        voices=dice.choose((2, 3, 5)),
        detune_cents=dice.between(4, 18),
        spread=dice.between(0.0, 0.7),
        pulse=dice.choose((0.0, 0.5, 1.0)),
        cutoff=dice.between(1200, 5000),
        sweep_octaves=dice.between(0, 1.5),
        resonance=dice.between(0.6, 2.5),
        attack=dice.between(0.003, 0.04),
        decay=0.5,
        sustain=dice.between(0.5, 0.9),
        release=dice.between(0.05, 0.2),
        drive=dice.choose((0.0, 0.0, 1.5)),
    )


def _pluck(dice: Dice) -> Subtractive:
    return Subtractive(
        voices=dice.choose((1, 2, 3)),
        detune_cents=dice.between(4, 14),
        spread=dice.between(0.2, 0.9),
        pulse=dice.choose((0.0, 1.0)),
        cutoff=dice.between(400, 1800),
        sweep_octaves=dice.between(1.5, 3.5),
        sweep_seconds=dice.between(0.04, 0.15),
        resonance=dice.between(0.7, 3),
        attack=0.002,
        decay=dice.between(0.08, 0.3),
        sustain=0.0,
        release=dice.between(0.05, 0.2),
    )


def _electric_piano(dice: Dice) -> FrequencyModulation:
    return FrequencyModulation(
        ratios=(1.0, dice.choose((7.0, 13.0, 14.0))),
        indices=(dice.between(0.5, 2.2), dice.between(0.2, 0.9)),
        balance=dice.between(0.15, 0.4),
        decay=dice.between(0.7, 1.8),
        brightness_seconds=dice.between(0.2, 0.8),
        tremolo_hz=dice.between(2, 6),
        tremolo=dice.choose((0.0, dice.between(0.1, 0.5))),
    )


def _bells(dice: Dice) -> FrequencyModulation:
    return FrequencyModulation(
        ratios=(dice.choose((3.5, 1.41, 2.76)), dice.choose((5.0, 7.1))),
        indices=(dice.between(0.6, 2), dice.between(0.3, 1.2)),
        balance=dice.between(0.2, 0.5),
        decay=dice.between(0.6, 1.6),
        brightness_seconds=dice.between(0.3, 1),
        release=0.4,
    )


def _cabinet(dice: Dice) -> tuple[Band, ...]:
    """A closed box with twelve-inch loudspeakers behind a dynamic microphone, roughly."""
    return (
        Band("high_pass", dice.between(70, 100)),
        Band("peak", dice.between(100, 140), dice.between(1, 4), 1.0),
        Band("peak", dice.between(350, 550), dice.between(-5, -1), 0.9),
        Band("peak", dice.between(2000, 3300), dice.between(3, 7), 1.1),
        Band("low_pass", dice.between(4200, 6000)),
        Band("low_pass", dice.between(5000, 7000)),
    )


def _electric_guitar(lowest_gain: float, highest_gain: float) -> Callable[[Dice], Plucked]:
    def drawn(dice: Dice) -> Plucked:
        gain = lowest_gain * (highest_gain / lowest_gain) ** dice.between(0, 1)
        return Plucked(
            decay=dice.between(2.5, 5),
            damping=dice.between(0.2, 0.6),
            pick=dice.between(0.08, 0.25),
            gain=gain,
            body=_cabinet(dice),
        )

    return drawn


def _clean_guitar(dice: Dice) -> Plucked:
    body = (
        Band("high_pass", 80.0),
        Band("peak", dice.between(1800, 3500), dice.between(1, 5), 0.8),
        Band("low_pass", dice.between(5000, 8000)),
    )
    return Plucked(
        decay=dice.between(2, 4),
        damping=dice.between(0.3, 0.7),
        pick=dice.between(0.1, 0.3),
        gain=dice.choose((0.0, 0.8)),
        body=body,
    )


def _acoustic_guitar(dice: Dice) -> Plucked:
    body = (
        Band("high_pass", 70.0),
        Band("peak", dice.between(90, 120), 6.0, 3.0),
        Band("peak", dice.between(190, 230), 4.0, 3.0),
        Band("peak", dice.between(380, 450), 2.0, 2.0),
        Band("high_shelf", 5000.0, dice.between(0, 5)),
    )
    return Plucked(decay=dice.between(1.5, 3), damping=dice.between(0.2, 0.7), pick=dice.between(0.12, 0.35), body=body)


def _pick_bass(dice: Dice) -> Plucked:
    body = (
        Band("peak", dice.between(70, 110), 4.0, 0.8),
        Band("peak", dice.between(700, 1200), 3.0, 1.0),
        Band("low_pass", dice.between(2500, 5000)),
    )
    return Plucked(
        decay=dice.between(3, 6),
        damping=dice.between(0.5, 0.95),
        pick=dice.between(0.1, 0.25),
        gain=dice.choose((0.0, 0.0, 1.5)),
        body=body,
    )


_SYNTHESIZERS: dict[str, Callable[[Dice], Any]] = {
    "saw": _saw_bass,
    "sub": _sub_bass,
    "fm": _fm_bass,
    "saw_pad": _saw_pad,
    "saw_lead": _saw_lead,
    "stab": _stab,
    "pluck": _pluck,
    "electric_piano": _electric_piano,
    "bells": _bells,
    "distorted": _electric_guitar(12, 60),
    "overdriven": _electric_guitar(5, 20),
    "crunch": _electric_guitar(2, 7),
    "lead_guitar": _electric_guitar(6, 40),
    "acoustic_guitar": _acoustic_guitar,
    "nylon_guitar": _acoustic_guitar,
    "clean_guitar": _clean_guitar,
    "strings": _saw_pad,
    "brass": _stab,
    "pick": _pick_bass,
}

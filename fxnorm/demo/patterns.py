"""The vocabulary from which :mod:`fxnorm.demo.composition` writes songs: forms, harmony, rhythms, grooves, instruments.

Where a table has three rows they go from calm over middling to driving. Programs and drum keys are General MIDI's
(MIDI Manufacturers Association, General MIDI System Level 1, 1991), counted from 0 as the messages count them.
Rhythms are in beats of a four-beat bar.
"""

from typing import NamedTuple

BEATS_PER_BAR = 4

# ---- form

FORMS = (
    ("intro", "verse", "chorus", "break", "chorus"),
    ("verse", "chorus", "break", "chorus"),
    ("intro", "verse", "chorus", "verse", "chorus"),
    ("intro", "verse", "break", "chorus"),
)
SHORT_FORM = ("intro", "verse", "chorus")
"""For a song of too few bars for any of the forms; it loses sections from the front."""

SECTION_WEIGHTS = {"intro": 1, "verse": 2, "chorus": 2, "break": 1}
"""How much of a song a section takes, relative to the others."""

SECTION_STEMS = {
    "intro": (("other",), ("other", "bass"), ("other", "drums"), ("bass", "drums")),
    "verse": (
        ("vocals", "bass", "drums", "other"),
        ("vocals", "bass", "drums"),
        ("vocals", "drums", "other"),
        ("vocals", "bass", "other"),
    ),
    "chorus": (("vocals", "bass", "drums", "other"),),
    "break": (("vocals", "other"), ("other", "bass"), ("bass", "drums"), ("vocals", "drums")),
}
"""Which stems may play in a section; one of the choices is drawn each time the section comes."""

SECTION_INTENSITY = {"intro": 0.82, "verse": 0.88, "chorus": 1.0, "break": 0.78}
"""Factor on the velocities of all notes of a section."""

# ---- harmony: semitones of the scales; chords as scale degrees of their roots, one a bar

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
}
PROGRESSIONS = {
    "major": ((0, 4, 5, 3), (5, 3, 0, 4), (0, 5, 3, 4), (0, 2, 3, 4), (3, 0, 4, 5)),
    "mixolydian": ((0, 6, 3, 0), (0, 3, 6, 3), (0, 4, 6, 3)),
    "minor": ((0, 5, 2, 6), (0, 3, 5, 6), (0, 6, 5, 6), (5, 6, 0, 0), (0, 2, 6, 3)),
    "dorian": ((0, 3, 0, 6), (0, 2, 3, 0), (0, 6, 3, 0)),
}

# ---- melody: onsets of one bar of a phrase; its second bar keeps those of the first half and holds the last note

MELODY_RHYTHMS = (
    ((0, 2), (0, 1.5, 2), (0.5, 1, 2), (0, 1, 2, 3)),
    ((0, 0.5, 1, 2, 2.5), (0, 1, 1.5, 2.5, 3), (0.5, 1, 1.5, 2, 3), (0, 1.5, 2, 3, 3.5)),
    ((0, 0.5, 1, 1.5, 2, 2.5, 3), (0, 0.75, 1.5, 2, 2.75, 3.5), (0, 0.5, 0.75, 1.5, 2, 3, 3.5)),
)
MELODY_STEPS = (-2, -1, -1, 0, 1, 1, 2, 3)
"""Steps along the scale between notes, drawn evenly: mostly conjunct, leaps rather upwards."""

# ---- bass and chords: (start, length) in beats; the bass adds semitones over the root

BASS_PATTERNS = (
    (((0, 3.7, 0),), ((0, 2.8, 0), (3, 0.9, 7)), ((0, 1.9, 0), (2, 1.8, 7))),
    (
        ((0, 1.4, 0), (1.5, 0.9, 0), (2.5, 0.5, 7), (3, 0.9, 0)),
        ((0, 1.9, 0), (2, 1.4, 0), (3.5, 0.45, 12)),
        ((0, 0.9, 0), (1, 0.9, 7), (2, 0.9, 12), (3, 0.9, 7)),
    ),
    (
        tuple((step / 2, 0.42, 0) for step in range(8)),
        tuple((step / 2, 0.4, 12 * (step % 2)) for step in range(8)),
        ((0, 0.4, 0), (0.75, 0.4, 0), (1.5, 0.4, 12), (2, 0.4, 0), (2.75, 0.4, 7), (3.25, 0.2, 12), (3.5, 0.4, 7)),
    ),
)
CHORD_PATTERNS = (
    (((0, 3.9),), ((0, 1.9), (2, 1.9)), ((0, 0.9), (1, 0.9), (2, 0.9), (3, 0.9))),
    (
        ((0, 1.4), (1.5, 0.9), (2.5, 1.4)),
        ((0.5, 0.35), (1.5, 0.35), (2.5, 0.35), (3.5, 0.35)),
        ((0, 0.9), (1.5, 0.4), (2, 0.9), (3.5, 0.4)),
    ),
    (
        tuple((step / 2, 0.4) for step in range(8)),
        ((0, 0.6), (0.75, 0.6), (1.5, 0.4), (2, 0.6), (2.75, 0.6), (3.5, 0.4)),
        ((0, 1.9), (2, 1.4), (3.5, 0.4)),
    ),
)
ARPEGGIOS = ((0, 1, 2, 3), (0, 2, 1, 3), (3, 2, 1, 0), (0, 3, 2, 1))
"""Orders in which the four tones of a broken chord follow one another."""

# ---- drums: sixteen steps a bar; "x" an accent, "o" a stroke, "-" a ghost note

STROKES = {"x": 112, "o": 92, "-": 52}
"""Velocities of the strokes."""

KICK, SIDE_STICK, SNARE = 36, 37, 38
CLOSED_HAT, OPEN_HAT, CRASH, RIDE = 42, 46, 49, 51
FILL_TOMS = (48, 47, 45, 43)
"""From high to low, one a beat or half a beat."""


class Groove(NamedTuple):
    """One bar of a drum part."""

    kick: str
    snare: str
    cymbal: str
    snare_key: int
    cymbal_key: int


GROOVES = (
    (
        Groove("x.........o.....", "....o.......o...", "o...o...o...o...", SIDE_STICK, CLOSED_HAT),
        Groove("x.....o.........", "........x.......", "x.o.x.o.x.o.x.o.", SIDE_STICK, RIDE),
        Groove("x..............o", "........x.......", "o.-.o.-.o.-.o.-.", SNARE, CLOSED_HAT),
    ),
    (
        Groove("x.....o.x.......", "....x.......x...", "x.o.x.o.x.o.x.o.", SNARE, CLOSED_HAT),
        Groove("x.....o.x.o.....", "....x.......x..-", "x.o.x.o.x.o.x.o.", SNARE, CLOSED_HAT),
        Groove("x.o...o...o.x...", "....x..-.-..x...", "x.o.x.o.x.o.x.o.", SNARE, RIDE),
    ),
    (
        Groove("x...x...x...x...", "....x.......x...", "o-x-o-x-o-x-o-x-", SNARE, CLOSED_HAT),
        Groove("x.o...o.x.o...o.", "....x.......x.o.", "x.x.x.x.x.x.x.x.", SNARE, RIDE),
        Groove("x..o..x...x..o..", "....x..-.-..x..-", "xoxoxoxoxoxoxoxo", SNARE, CLOSED_HAT),
    ),
)

# ---- instruments

VOCAL_PROGRAMS = ((53, 54, 73, 68), (85, 53, 66, 22), (85, 81, 56, 84))
"""What sings: oohs, synth voice, flute, oboe; solo vox, tenor saxophone, harmonica; saw and charang leads, trumpet."""

BASS_PROGRAMS = ((32, 35, 33), (33, 34, 39), (34, 38, 37))
CHORD_PROGRAMS = ((0, 4, 24, 26), (0, 5, 16, 25), (30, 29, 16, 62))
ARPEGGIO_PROGRAMS = ((11, 24, 4), (27, 12, 98, 25), (81, 7, 99, 28))
PAD_PROGRAMS = ((49, 89, 94), (48, 50, 51), (50, 90, 93))
DRUM_KITS = ((40, 32, 0), (0, 8, 24), (16, 25, 8))

"""Genres of the style "records": tempi, densities, and who plays. The rules a and b have genres of their own.

Grooves are told by words that :mod:`fxnorm.demo.records.writing` turns into patterns of sixteenths.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Genre:
    """What songs of a genre have in common.

    Attributes:
        tempo: lowest and highest, in beats a minute.
        modes: of the keys.
        kicks, hats, basses, chords: words for patterns.
        backbeat: ``double`` (beats 2 and 4), ``half`` (beat 3) or ``none``.
        drums: kinds of kits: ``acoustic``, ``808``, ``909``, ``electronic``, ``brushes``.
        bass: kinds of basses: ``finger``, ``pick``, ``slap``, ``fretless``, ``upright``, ``saw``, ``sub``, ``fm``.
        harmony: kinds of instruments that play chords, one to three of which are drawn.
        extras: kinds that may come on top: riffs, arpeggios, pads.
        ghosts: probability of a ghost note.
        swing: the most by which off-beats come late, in beats.
        density: of the melody, notes a beat at middle.
        backing: probability of backing vocals.
        drive: how hard it is mixed, 0 soft to 1 loud.
    """

    tempo: tuple[float, float]
    kicks: tuple[str, ...]
    hats: tuple[str, ...]
    basses: tuple[str, ...]
    chords: tuple[str, ...]
    drums: tuple[str, ...]
    bass: tuple[str, ...]
    harmony: tuple[str, ...]
    extras: tuple[str, ...]
    modes: tuple[str, ...] = ("major", "minor")
    backbeat: str = "double"
    ghosts: float = 0.1
    swing: float = 0.0
    density: float = 1.2
    backing: float = 0.5
    drive: float = 0.5


GENRES_A = {
    "rock": Genre(
        (96, 156),
        ("rock", "rock", "busy"),
        ("eighths", "eighths", "quarters", "ride"),
        ("eighths", "kick", "roots"),
        ("eighths", "held", "syncopated"),
        ("acoustic",),
        ("finger", "pick"),
        ("overdriven", "crunch", "acoustic_guitar"),
        ("lead_guitar", "organ", "piano", "strings"),
        ("major", "minor", "mixolydian"),
        backing=0.6,
        drive=0.75,
    ),
    "metal": Genre(
        (110, 190),
        ("busy", "rock", "driving"),
        ("eighths", "quarters", "ride"),
        ("eighths", "kick", "sixteenths"),
        ("chug", "eighths", "held"),
        ("acoustic",),
        ("pick",),
        ("distorted",),
        ("lead_guitar", "strings", "choir"),
        ("minor", "phrygian"),
        density=1.0,
        backing=0.3,
        drive=1.0,
    ),
    "pop": Genre(
        (88, 126),
        ("rock", "four", "sparse"),
        ("eighths", "sixteenths", "offbeats"),
        ("kick", "roots", "eighths"),
        ("held", "syncopated", "quarters"),
        ("acoustic", "electronic", "909", "808"),
        ("finger", "saw", "sub"),
        ("piano", "saw_pad", "acoustic_guitar", "electric_piano", "clean_guitar"),
        ("pluck", "strings", "saw_lead", "bells"),
        density=1.5,
        backing=0.8,
        drive=0.6,
    ),
    "ballad": Genre(
        (58, 88),
        ("sparse", "rock"),
        ("eighths", "quarters", "ride"),
        ("held", "roots"),
        ("held", "quarters", "arpeggio"),
        ("acoustic", "brushes"),
        ("finger", "fretless", "upright"),
        ("piano", "acoustic_guitar", "electric_piano", "strings"),
        ("strings", "bells", "choir", "clean_guitar"),
        density=0.9,
        backing=0.5,
        drive=0.2,
    ),
    "house": Genre(
        (118, 130),
        ("four",),
        ("offbeats", "sixteenths"),
        ("offbeats", "sixteenths", "octaves"),
        ("syncopated", "offbeats", "held"),
        ("909", "909", "808"),
        ("saw", "sub", "fm"),
        ("saw_pad", "piano", "stab", "organ"),
        ("pluck", "saw_lead", "bells"),
        ("minor", "dorian"),
        density=0.9,
        backing=0.4,
        drive=0.8,
    ),
    "trap": Genre(
        (64, 82),
        ("sparse", "broken"),
        ("sixteenths", "rolls"),
        ("held", "kick"),
        ("held", "arpeggio"),
        ("808", "808", "electronic"),
        ("sub",),
        ("bells", "saw_pad", "piano", "electric_piano", "pluck"),
        ("strings", "choir", "pluck"),
        ("minor", "phrygian"),
        backbeat="half",
        density=2.2,
        backing=0.6,
        drive=0.8,
    ),
    "funk": Genre(
        (96, 118),
        ("broken", "busy"),
        ("sixteenths", "eighths"),
        ("sixteenths", "octaves", "walking"),
        ("scratch", "syncopated", "offbeats"),
        ("acoustic",),
        ("slap", "finger"),
        ("clean_guitar", "clavinet", "electric_piano", "organ"),
        ("brass", "strings", "saw_lead"),
        ("dorian", "mixolydian"),
        ghosts=0.35,
        swing=0.05,
        density=1.4,
        backing=0.6,
        drive=0.5,
    ),
    "folk": Genre(
        (76, 132),
        ("sparse", "quarters"),
        ("quarters", "eighths"),
        ("roots", "walking"),
        ("strum", "arpeggio", "quarters"),
        ("brushes", "acoustic", "none"),
        ("upright", "finger"),
        ("acoustic_guitar", "piano", "nylon_guitar"),
        ("strings", "flute", "accordion", "nylon_guitar"),
        ("major", "mixolydian", "dorian"),
        density=1.3,
        backing=0.5,
        drive=0.15,
    ),
    "soul": Genre(
        (66, 104),
        ("rock", "broken"),
        ("eighths", "sixteenths", "ride"),
        ("kick", "walking", "held"),
        ("held", "syncopated", "quarters"),
        ("acoustic", "808"),
        ("finger", "fretless", "sub"),
        ("electric_piano", "organ", "clean_guitar", "piano"),
        ("brass", "strings", "bells"),
        ("minor", "dorian", "major"),
        ghosts=0.25,
        swing=0.12,
        density=1.5,
        backing=0.8,
        drive=0.4,
    ),
    "synthwave": Genre(
        (82, 122),
        ("four", "rock"),
        ("eighths", "sixteenths"),
        ("eighths", "octaves", "sixteenths"),
        ("held", "arpeggio", "eighths"),
        ("909", "electronic", "808"),
        ("saw", "fm"),
        ("saw_pad", "stab", "electric_piano"),
        ("saw_lead", "pluck", "bells", "lead_guitar"),
        ("minor", "dorian"),
        density=1.0,
        backing=0.4,
        drive=0.65,
    ),
}

GENRES_B = {
    "indie": Genre(
        (92, 148),
        ("driving", "rock", "four"),
        ("sixteenths", "eighths", "ride"),
        ("eighths", "walking", "kick"),
        ("strum", "eighths", "syncopated"),
        ("acoustic",),
        ("pick", "finger"),
        ("crunch", "clean_guitar", "piano"),
        ("organ", "strings", "bells", "lead_guitar"),
        ("major", "mixolydian", "minor"),
        density=1.3,
        backing=0.6,
        drive=0.6,
    ),
    "country": Genre(
        (84, 140),
        ("quarters", "rock"),
        ("eighths", "quarters"),
        ("walking", "roots"),
        ("strum", "quarters", "arpeggio"),
        ("acoustic", "brushes"),
        ("finger", "upright"),
        ("acoustic_guitar", "clean_guitar", "piano"),
        ("nylon_guitar", "accordion", "strings", "organ"),
        ("major", "mixolydian"),
        density=1.4,
        backing=0.7,
        drive=0.4,
    ),
    "reggae": Genre(
        (66, 92),
        ("sparse", "four"),
        ("eighths", "offbeats"),
        ("kick", "roots", "octaves"),
        ("offbeats",),
        ("acoustic", "808"),
        ("finger", "sub"),
        ("clean_guitar", "organ", "piano"),
        ("brass", "organ", "bells"),
        ("minor", "major", "dorian"),
        backbeat="half",
        swing=0.1,
        density=1.2,
        backing=0.5,
        drive=0.4,
    ),
    "drum_and_bass": Genre(
        (158, 176),
        ("broken",),
        ("eighths", "sixteenths", "ride"),
        ("held", "kick", "octaves"),
        ("held", "syncopated"),
        ("acoustic", "909"),
        ("sub", "saw"),
        ("saw_pad", "electric_piano", "stab"),
        ("pluck", "saw_lead", "strings"),
        ("minor", "dorian"),
        density=0.7,
        backing=0.3,
        drive=0.85,
    ),
    "punk": Genre(
        (150, 200),
        ("driving", "rock"),
        ("eighths", "quarters"),
        ("eighths",),
        ("eighths", "chug"),
        ("acoustic",),
        ("pick",),
        ("distorted", "overdriven"),
        ("lead_guitar", "organ"),
        ("major", "mixolydian"),
        density=1.2,
        backing=0.6,
        drive=0.95,
    ),
    "synthpop": Genre(
        (98, 132),
        ("four", "rock"),
        ("offbeats", "sixteenths", "eighths"),
        ("octaves", "sixteenths", "eighths"),
        ("stab", "held", "arpeggio"),
        ("electronic", "909", "808"),
        ("fm", "saw"),
        ("saw_pad", "stab", "electric_piano", "clean_guitar"),
        ("bells", "pluck", "saw_lead", "choir"),
        ("major", "minor", "dorian"),
        density=1.3,
        backing=0.7,
        drive=0.65,
    ),
    "jazz_pop": Genre(
        (72, 126),
        ("sparse", "broken"),
        ("ride", "eighths"),
        ("walking", "roots"),
        ("syncopated", "held"),
        ("brushes", "acoustic"),
        ("upright", "fretless"),
        ("piano", "electric_piano", "clean_guitar"),
        ("brass", "flute", "strings"),
        ("dorian", "major", "mixolydian"),
        ghosts=0.3,
        swing=0.16,
        density=1.3,
        backing=0.3,
        drive=0.2,
    ),
}

"""A project of the DAW REAPER: audio files on tracks, as plain text.

The format is REAPER's own ("<CHUNK" … ">", a line a setting), of which a reader takes what it knows and defaults for
the rest. A text is quoted by whichever of " ' ` is not in it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

HEADER = '<REAPER_PROJECT 0.1 "fxnorm" 0'
"""The first line of a project as it is written here; REAPER puts its own version there when it saves."""


@dataclass(frozen=True)
class Track:
    """A track with one file, from the beginning on.

    Attributes:
        name: what the track is called.
        file: its audio, WAV, by a path from the project on.
        seconds: length of the audio.
        gain: of the track's fader, as a factor.
        pan: -1 is left, 1 is right.
        muted: it is not heard.
    """

    name: str
    file: str
    seconds: float
    gain: float = 1.0
    pan: float = 0.0
    muted: bool = False


@dataclass(frozen=True)
class FolderTrack:
    """A track without audio of its own, whose fader is for the tracks below it.

    Attributes:
        name: what the track is called.
        tracks: those below it, at least one.
    """

    name: str
    tracks: Sequence[Track]


def project(tracks: Iterable[Track | FolderTrack], sample_rate: int) -> str:
    """The text of a project file (.rpp, UTF-8) with these tracks at a sample rate in Hz."""
    lines = [HEADER, f"  SAMPLERATE {sample_rate} 1 0"]
    for track in tracks:
        if isinstance(track, Track):
            lines += [*_head(track), *_item(track), "  >"]
            continue
        lines += [*_head(Track(track.name, "", 0.0)), "    ISBUS 1 1", "  >"]
        for below in track.tracks:
            ending = ["    ISBUS 2 -1"] if below is track.tracks[-1] else []
            lines += [*_head(below), *ending, *_item(below), "  >"]
    return "\n".join([*lines, ">", ""])


def _head(track: Track) -> list[str]:
    return [
        "  <TRACK",
        f"    NAME {quoted(track.name)}",
        f"    VOLPAN {_number(track.gain)} {_number(track.pan)} -1 -1 1",
        f"    MUTESOLO {int(track.muted)} 0 0",
        "    NCHAN 2",
    ]


def _item(track: Track) -> list[str]:
    return [
        "    <ITEM",
        "      POSITION 0",
        f"      LENGTH {_number(track.seconds)}",
        "      LOOP 0",
        f"      NAME {quoted(track.name)}",
        "      <SOURCE WAVE",
        f"        FILE {quoted(track.file)}",
        "      >",
        "    >",
    ]


def quoted(text: str) -> str:
    """A text as one word of a project; characters that a line cannot hold become blanks.

    The format has no escapes: of a text with all three quotes, those of the kind ` become '.
    """
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    for quote in "\"'`":
        if quote not in plain:
            return f"{quote}{plain}{quote}"
    return f"`{plain.replace('`', chr(39))}`"


def _number(value: float) -> str:
    return f"{value:.10f}".rstrip("0").rstrip(".")

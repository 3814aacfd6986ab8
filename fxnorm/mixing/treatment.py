"""What a mix did to each stem, in the figures and words of an engineer: level, width, balance, spectrum, dynamics.

A network has no faders and no equalizers. So the stem as it came in is measured, and what it contributes to the mix;
the differences are what settings of a mixing desk would have to do, on average over the song.
"""

import math

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects import dynamics, loudness, third_octaves, width
from fxnorm.effects.levels import is_silent
from fxnorm.io.audio import to_stereo

_RANGE_DB = 60.0  # under a stem's loudest third of an octave; what is quieter says nothing of an equalizer
_AUDIBLE_RANGE_DB = 40.0  # the same, of bands that a sentence names

_LEAST_GAIN_DB = 0.5
_LEAST_BALANCE_DB = 0.5
_LEAST_WIDTH_DB = 1.0
_LEAST_EQUALIZATION_DB = 1.5
_LEAST_CREST_DB = 1.0
_MONO_DB = -60.0  # of the side over the middle
"""What a sentence calls changed: about the least differences that trained listeners hear in music."""


class Described(BaseModel):
    """What is written of a mix into JSON files, and read back: known keys alone, and no NaN, which JSON lacks."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Character(Described):
    """What a stem sounds like; null where a figure has no value."""

    loudness_lufs: float | None = Field(description="integrated loudness (ITU-R BS.1770-4)")
    loudness_range_lu: float | None = Field(description="loudness range (EBU Tech 3342); null under 3 s")
    crest_factor_db: float | None = Field(description="highest sample over the root mean square")
    side_to_middle_db: float | None = Field(description="width: energy of the side over that of the middle; null: mono")
    right_to_left_db: float | None = Field(description="balance: energy of the right channel over that of the left")


class Treatment(Described):
    """What a mix did to a stem."""

    before: Character = Field(description="the stem as it came in, a mono one on both sides")
    after: Character = Field(description="the stem's part of the mix")
    gain_db: float | None = Field(description="loudness after less loudness before, LU")
    equalization_db: dict[str, float | None] = Field(
        description="by centre in Hz of each third of an octave (IEC 61260): level after less level before, and less"
        " gain_db; null where the stem has next to nothing, 60 dB under its loudest band"
    )
    sentence: str = Field(description="the same in words")


class Measured:
    """A stem or a part, measured."""

    def __init__(self, audio: np.ndarray) -> None:
        """Measure ``audio`` (1 or 2 channels, samples) at 44.1 kHz."""
        audio = to_stereo(audio)
        self.silent = is_silent(audio)
        energies = loudness.step_energies(audio).sum(axis=0)
        samples = audio.shape[1]
        self.character = Character(
            loudness_lufs=_finite(loudness.integrated(energies, samples)),
            loudness_range_lu=_finite(dynamics.loudness_range(dynamics.short_term(energies, samples))),
            crest_factor_db=_finite(dynamics.crest_factor(audio, SAMPLE_RATE)),
            side_to_middle_db=_finite(width.side_to_middle_db(audio)),
            right_to_left_db=_finite(width.right_to_left_db(audio)),
        )
        self.bands = third_octaves.measure(audio, SAMPLE_RATE)


def compare(before: Measured, after: Measured) -> Treatment:
    """What was done to a stem between two measurements of it."""
    gain = None
    if before.character.loudness_lufs is not None and after.character.loudness_lufs is not None:
        gain = after.character.loudness_lufs - before.character.loudness_lufs
    change = after.bands - before.bands - (gain or 0.0)
    clear = _within(before.bands, _RANGE_DB) & _within(after.bands, _RANGE_DB) & (gain is not None)
    bands = {
        f"{hertz:g}": round(float(value), 2) if known else None
        for hertz, value, known in zip(third_octaves.NOMINAL_HZ, change, clear, strict=True)
    }
    audible = clear & _within(before.bands, _AUDIBLE_RANGE_DB)
    return Treatment(
        before=_rounded(before.character),
        after=_rounded(after.character),
        gain_db=None if gain is None else round(gain, 2),
        equalization_db=bands,
        sentence=_sentence(before, after, gain, np.where(audible, change, 0.0)),
    )


def table(treatments: dict[str, Treatment]) -> list[str]:
    """Lines of a table of what was done to each stem, by name."""
    heads = ("gain dB", "width dB", "balance dB", "crest dB", "range LU")
    lines = [f"{'':<8}" + "".join(f"{head:>16}" for head in heads)]
    for stem, done in treatments.items():
        before, after = done.before, done.after
        cells = [
            "-" if done.gain_db is None else f"{done.gain_db:+.1f}",
            _change(before.side_to_middle_db, after.side_to_middle_db),
            _change(before.right_to_left_db, after.right_to_left_db),
            _change(before.crest_factor_db, after.crest_factor_db),
            _change(before.loudness_range_lu, after.loudness_range_lu),
        ]
        lines.append(f"{stem:<8}" + "".join(f"{cell:>16}" for cell in cells))
    return lines


def _change(before: float | None, after: float | None) -> str:
    return " to ".join("-" if value is None else f"{value:.1f}" for value in (before, after))


def _sentence(before: Measured, after: Measured, gain: float | None, change: np.ndarray) -> str:
    if before.silent:
        return "silent"
    if gain is None:
        return "not to be heard in the mix"
    first, last = before.character, after.character
    phrases = [_in_words(gain, _LEAST_GAIN_DB, "louder", "quieter") or "level as it was"]
    mono = [(figures.side_to_middle_db or -math.inf) <= _MONO_DB for figures in (first, last)]
    if mono[0] != mono[1]:
        phrases.append("mono" if mono[1] else f"wider, from mono to a side of {last.side_to_middle_db:.1f} dB")
    elif not mono[0]:
        phrases.append(_in_words(_less(last.side_to_middle_db, first.side_to_middle_db), _LEAST_WIDTH_DB, *_WIDTH))
    phrases.append(_in_words(_less(last.right_to_left_db, first.right_to_left_db), _LEAST_BALANCE_DB, *_BALANCE))
    named = third_octaves.NOMINAL_HZ
    for extreme, word in ((int(change.argmax()), "up to"), (int(change.argmin()), "down to")):
        if (change[extreme] > 0) == (word == "up to") and abs(change[extreme]) >= _LEAST_EQUALIZATION_DB:
            phrases.append(f"equalized {word} {change[extreme]:+.1f} dB, at {_hertz(named[extreme])}")
    phrases.append(_in_words(_less(last.crest_factor_db, first.crest_factor_db), _LEAST_CREST_DB, *_PEAKS))
    return "; ".join(phrase for phrase in phrases if phrase)


_WIDTH = ("wider", "narrower")
_BALANCE = ("further right", "further left")
_PEAKS = ("more between average and peaks", "less between average and peaks")


def _in_words(change: float, least: float, more: str, less: str) -> str:
    """A phrase on a change in dB; empty where it is not worth one."""
    return "" if abs(change) < least else f"{abs(change):.1f} dB {more if change > 0 else less}"


def _less(last: float | None, first: float | None) -> float:
    return 0.0 if last is None or first is None else last - first


def _hertz(value: float) -> str:
    return f"{value:g} Hz" if value < 1_000 else f"{value / 1_000:g} kHz"


def _within(levels: np.ndarray, range_db: float) -> np.ndarray:
    return levels > levels.max() - range_db


def _rounded(character: Character) -> Character:
    """In hundredths: more digits would say nothing, and differ between processors."""
    return Character(**{name: None if value is None else round(value, 2) for name, value in character})


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None

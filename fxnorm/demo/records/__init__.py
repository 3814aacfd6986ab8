"""Songs in the style of records: many genres and instruments, mixed with a record's spread and calibrated to its
averages.

:func:`render` makes one song; :mod:`fxnorm.demo.dataset` writes them.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fxnorm.demo.records import mixing, playing
from fxnorm.demo.records.calibration import corrections
from fxnorm.demo.records.composition import compose
from fxnorm.demo.records.playing import digest
from fxnorm.demo.records.rules import RULES, soundfonts
from fxnorm.demo.records.score import Song

STYLES = tuple(RULES)
"""``records`` and ``records-check``."""

__all__ = ["STYLES", "digest", "render", "soundfonts"]


def render(
    style: str, generators: Sequence[np.random.Generator], seconds: float, fonts: Sequence[Path]
) -> tuple[Song, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """One song of a style.

    Args:
        style: one of :data:`STYLES`.
        generators: the composer's, the players' and the engineer's.
        seconds: its duration.
        fonts: soundfonts, as :func:`soundfonts` gives them.

    Returns:
        the song; its stems as they were played, float64 (channels, samples), without those that never play; and as
        they were mixed, float64 (2, samples), silence for those.
    """
    composer, player, engineer = generators
    rules = RULES[style]
    song = compose(composer, rules.genres, seconds)
    played = playing.play(song, player, fonts)
    drive = rules.genres[song.genre].drive
    wet = mixing.mix(song, played, engineer, rules, drive, corrections(style))
    raw: dict[str, np.ndarray] = {}
    for part, pieces in played:
        for takes in pieces.values():
            for audio in takes:
                mono = audio.mean(axis=0, keepdims=True)
                raw[part.stem] = raw.get(part.stem, np.zeros_like(mono)) + mono
    return song, raw, wet

"""Excerpts of a song's mixes for the report's players: the same seconds of each, small, and at matched loudness."""

import base64
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile

from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects import loudness, programme
from fxnorm.evaluation.metrics import true_peak_dbtp
from fxnorm.io import audio as audio_io

BYTES_PER_SECOND = 24_000 * 4 / 3
"""Of an MP3 file at 192 kbit/s as text (base64) in a page."""

_COMPRESSION = 4 / 9  # libsndfile's scale from 320 to 32 kbit/s: 192 kbit/s
_COLUMNS = 400  # of the waveform behind a player
_FADE_SECONDS = 0.01
_MATCHED_LUFS = -18.0  # or less, so that no mix has to pass the true peak below
_HIGHEST_DBTP = -1.0
_SHORTEST_SECONDS = 4.0
_STEP_SECONDS = 0.1  # of loudness.step_energies


@dataclass(frozen=True)
class Excerpts:
    """Excerpts of all mixes of one song.

    Attributes:
        start_seconds: where they begin in the song.
        seconds: how long they are.
        turned_down_db: by how much all mixes of the song were turned down so that none clips.
        mixes: by name ``audio`` (an MP3 file as base64), ``gain_db`` that brings it to the matched loudness,
            ``loudness_lufs`` before it was turned down (``None`` of silence), and the waveform, ``low`` and ``high`` in
            127ths of full scale.
    """

    start_seconds: float
    seconds: float
    turned_down_db: float
    mixes: dict[str, dict[str, Any]]

    @classmethod
    def of(cls, mixes: Mapping[str, np.ndarray], seconds: float, turned_down_db: float = 0.0) -> "Excerpts":
        """The ``seconds`` in which the first of ``mixes`` (2, samples), all equally long, is loudest.

        The mixes are at the level at which they are played.
        """
        first = next(iter(mixes.values()))
        length = min(first.shape[1], round(seconds * SAMPLE_RATE))
        start = min(round(loudest_start([first], seconds) * SAMPLE_RATE), first.shape[1] - length)
        stop = start + length
        parts = {name: mix[:, start:stop] for name, mix in mixes.items()}
        levels = {name: loudness.measure(part, SAMPLE_RATE) for name, part in parts.items()}
        heard = {name: level for name, level in levels.items() if programme.carried(parts[name], SAMPLE_RATE).any()}
        gains = dict.fromkeys(parts, 0.0) | matched_gains_db(
            heard, {name: true_peak_dbtp(parts[name]) for name in heard}
        )
        return cls(
            start / SAMPLE_RATE,
            (stop - start) / SAMPLE_RATE,
            round(turned_down_db, 2),
            {
                name: {
                    "audio": base64.b64encode(_mp3(_faded(part))).decode("ascii"),
                    "gain_db": round(gains[name], 3),
                    "loudness_lufs": round(levels[name] + turned_down_db, 2) if math.isfinite(levels[name]) else None,
                    **_waveform(part),
                }
                for name, part in parts.items()
            },
        )


def affordable_seconds(longest: float, megabytes: float, mixes: int) -> float:
    """How many seconds excerpts of ``mixes`` mixes may last in a page of ``megabytes`` at most; at least 4."""
    return max(min(longest, _SHORTEST_SECONDS), min(longest, megabytes * 1e6 / (BYTES_PER_SECOND * max(1, mixes))))


def loudest_start(mixes: Iterable[np.ndarray], seconds: float) -> float:
    """Where the loudest excerpt begins, in seconds: by energy after K-weighting, each mix counting equally.

    Args:
        mixes: of one song, each (2, samples), of one length.
        seconds: the excerpt's length.
    """
    shares = [energies / max(energies.sum(), 1e-30) for energies in map(_step_energies, mixes)]
    together = np.sum(shares, axis=0)
    width = max(1, round(seconds / _STEP_SECONDS))
    if width >= len(together):
        return 0.0
    sums = np.convolve(together, np.ones(width), mode="valid")
    return float(np.argmax(sums)) * _STEP_SECONDS


def _step_energies(mix: np.ndarray) -> np.ndarray:
    energies: np.ndarray = loudness.step_energies(np.ascontiguousarray(mix)).sum(axis=0)
    return energies


def matched_gains_db(levels: Mapping[str, float], true_peaks: Mapping[str, float]) -> dict[str, float]:
    """Gains to one loudness, at which no true peak passes -1 dBTP; 0 for what is too quiet to be programme.

    Args:
        levels: integrated loudness in LUFS by name.
        true_peaks: dBTP by name.
    """
    audible = [name for name, level in levels.items() if level >= programme.LEAST_LOUDNESS]
    limits = [levels[name] - true_peaks[name] + _HIGHEST_DBTP for name in audible]
    target = min([_MATCHED_LUFS, *limits])
    return {name: target - level if name in audible else 0.0 for name, level in levels.items()}


def _faded(part: np.ndarray) -> np.ndarray:
    """Excerpts are looped: without fades they would click where they begin anew."""
    length = min(round(_FADE_SECONDS * SAMPLE_RATE), part.shape[1] // 2)
    envelope = np.ones(part.shape[1], dtype=np.float32)
    envelope[:length] = np.linspace(0, 1, length, dtype=np.float32)
    return part * envelope * envelope[::-1]


def _mp3(part: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(
        buffer,
        part.T,
        SAMPLE_RATE,
        format="MP3",
        subtype="MPEG_LAYER_III",
        bitrate_mode="CONSTANT",
        compression_level=_COMPRESSION,
    )
    return buffer.getvalue()


def _waveform(part: np.ndarray) -> dict[str, list[int]]:
    """Lowest and highest sample of each column, over both channels."""
    part = audio_io.pad_to(part, _COLUMNS)
    starts = np.linspace(0, part.shape[1], _COLUMNS, endpoint=False, dtype=int)
    low = np.minimum.reduceat(part.min(axis=0), starts)
    high = np.maximum.reduceat(part.max(axis=0), starts)
    return {"low": _steps(low), "high": _steps(high)}


def _steps(values: np.ndarray) -> list[int]:
    return [int(value) for value in np.rint(127 * np.clip(values, -1, 1))]

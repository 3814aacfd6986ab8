"""The report on a mix: levels, and how far its stems lie from what the network was trained on.

A network mixes well what resembles its training songs. Normalization makes most stems resemble them. A stem that lies
far from them before normalization may differ from them after it as well, so the report contains a warning.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fxnorm.constants import SAMPLE_RATE, SILENCE_DBFS
from fxnorm.effects import loudness, programme
from fxnorm.effects.features import EFFECTS, Features
from fxnorm.effects.levels import is_silent
from fxnorm.errors import DatasetError
from fxnorm.io.audio import to_stereo
from fxnorm.mixing.delivery import DeliveredMix
from fxnorm.statistics import DatasetStatistics, measure_stem

FAR = 4.0
"""Spreads from the training songs' average from which a stem lies far outside: Chebyshev's inequality puts less than a
sixteenth of any distribution there, and of a normal one less than a ten-thousandth."""


@dataclass(frozen=True)
class MixReport:
    """Levels of a mix and its stems.

    Attributes:
        loudness_lufs: of the mix; ``None`` for one that never passes the absolute loudness gate, -70 LUFS.
        true_peak_dbtp: of the mix; ``None`` for silence.
        gain_db: that the network's mix got before the limiter.
        reduction_db: by which the limiter turned the highest peak down.
        stem_loudness_lufs: of each stem as it came in, a mono one on both sides, as it is mixed; ``None`` for a silent
            one.
        drift: by effect and stem, in units of the spread between the training songs (see
            :meth:`DatasetStatistics.drift`); ``None`` where these did not differ at all. Empty where the model knows
            averages alone, without their spread.
        warnings: a sentence for each stem that lies far outside, of which something cannot be compared, or that carries
            no programme and so was not normalized; and one where the mix stays under the loudness that it was to have.
            The endpoint adds one where the mix is cut off at full scale.
    """

    loudness_lufs: float | None
    true_peak_dbtp: float | None
    gain_db: float
    reduction_db: float
    stem_loudness_lufs: dict[str, float | None]
    drift: dict[str, dict[str, float | None]]
    warnings: list[str]


@dataclass(frozen=True)
class MeasuredStem:
    """A stem as it came in.

    Attributes:
        loudness_lufs: ``None`` for a silent one.
        features: of :func:`fxnorm.statistics.measure_stem`, also of one that carries no programme.
        sounds: it is more than digital silence.
        silent: it counts as silence.
        remark: on a channel without programme, if it has one.
    """

    loudness_lufs: float | None
    features: Features
    sounds: bool
    silent: bool
    remark: str | None


def measure_stems(stems: Mapping[str, np.ndarray]) -> dict[str, MeasuredStem]:
    """Measure the stems (1 or 2 channels, samples) of a mix at 44.1 kHz, by name, as they came in."""
    return {
        stem: MeasuredStem(
            loudness_lufs=_finite(loudness.measure(to_stereo(audio), SAMPLE_RATE)),
            features=measure_stem(audio, SAMPLE_RATE, stem, residue=True),
            sounds=bool(audio.any()),
            silent=is_silent(audio),
            remark=programme.remark(audio, SAMPLE_RATE),
        )
        for stem, audio in stems.items()
    }


def describe(stems: Mapping[str, MeasuredStem], mix: DeliveredMix, statistics: DatasetStatistics) -> MixReport:
    """Measure a mix, and compare the stems it was made of with those of the training songs.

    Args:
        stems: what :func:`measure_stems` found.
        mix: as it was delivered.
        statistics: of the training songs.
    """
    try:
        drifts = statistics.drift({stem: measured.features for stem, measured in stems.items() if measured.features})
    except DatasetError:  # published averages come without spread
        drifts = {}
    warnings = [text for stem, measured in stems.items() if (text := _warning(stem, measured, drifts)) is not None]
    return MixReport(
        loudness_lufs=_finite(mix.loudness_lufs),
        true_peak_dbtp=mix.true_peak_dbtp if mix.audio.any() else None,
        gain_db=mix.gain_db,
        reduction_db=mix.reduction_db,
        stem_loudness_lufs={stem: measured.loudness_lufs for stem, measured in stems.items()},
        drift={effect: {stem: _finite(value) for stem, value in by_stem.items()} for effect, by_stem in drifts.items()},
        warnings=warnings if mix.remark is None else [*warnings, f"mix: {mix.remark}"],
    )


def _warning(stem: str, measured: MeasuredStem, drifts: Mapping[str, Mapping[str, float]]) -> str | None:
    """A sentence on a stem that lies far outside in some effect, or cannot be compared; digital silence is no stem."""
    if not measured.features:
        if not measured.sounds:
            return None
        if measured.silent:
            return f"{stem}: counts as silence, because its peak does not pass {SILENCE_DBFS:g} dBFS"
        return f"{stem}: too quiet to be compared with the training songs"
    effects = [
        f"{effect} by {value:.1f}" if math.isfinite(value) else f"{effect} beyond any, because they do not differ"
        for effect, by_stem in drifts.items()
        if abs(value := by_stem.get(stem, 0.0)) > FAR
    ]
    sentences = []
    if effects:
        sentences.append(f"far from the training songs, in units of their spread: {', '.join(effects)}")
    if missing := [effect for effect in EFFECTS if effect not in measured.features]:
        sentences.append(f"not to be compared with the training songs: {', '.join(missing)}")
    if measured.remark:
        sentences.append(measured.remark)
    return f"{stem}: {'; '.join(sentences)}" if sentences else None


def _finite(value: float) -> float | None:
    """``None`` for what JSON cannot represent: NaN and infinity."""
    return value if math.isfinite(value) else None

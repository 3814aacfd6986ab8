"""What is heard on a session's tracks: silence, copies of another track, and which group a track sounds like.

Each track is listened to once, by itself; what is kept of it takes some 20 kB, so that a session may be of any size.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.effects import third_octaves
from fxnorm.effects.features import measure_stem
from fxnorm.effects.levels import is_silent
from fxnorm.statistics import DatasetStatistics

SAME_RECORDING = 0.995
"""Correlation from which on two tracks are one recording: a copy in another format or at another level. Two microphones
of one source, or a signal before and after an amplifier, stay under 0.95."""

ONE_SIDED, OPPOSED = 0.99, -0.5
"""Correlations of a stereo pair: one recording on both sides, and sides that cancel each other in mono."""

CLEARLY_NEARER_DB = 3.0
"""By how much the nearest group's spectrum has to be nearer than the next one's, to decide where no word does."""
FAR_NEARER_DB = 10.0
"""By how much another group's spectrum has to be nearer than that of the name's group, to be remarked on."""
_NEAR_DB = 12.0  # further from every group's average than this, a track sounds like none of them

_SKETCH = 2_048
_CHUNK = 2**18  # samples; a multiple of the sketch's size
_BANDS = slice(3, 28)  # of thirds of an octave: 50 Hz to 12.5 kHz
_RANGE_DB = 50.0  # levels further under the loudest band do not count


@dataclass(frozen=True, eq=False)
class Heard:
    """What is kept of a track that was listened to.

    Attributes:
        samples: at 44.1 kHz.
        silent: no sample passes -50 dBFS.
        distances: by group, how far the spectrum is from the group's average, in decibels; empty where that is not
            known.
        sketch: random sums of the samples, by which tracks are correlated.
    """

    samples: int
    silent: bool
    distances: dict[str, float] = field(default_factory=dict)
    sketch: np.ndarray = field(default_factory=lambda: np.zeros(_SKETCH))

    @property
    def nearest(self) -> str | None:
        """The group whose average is nearest; None where none is near."""
        group = min(self.distances, key=lambda group: self.distances[group], default=None)
        return group if group is not None and self.distances[group] <= _NEAR_DB else None

    @property
    def lead(self) -> float:
        """By how many decibels the nearest group is nearer than the next one."""
        nearest, *others = sorted(self.distances.values())
        return others[0] - nearest if others else 0.0


def listen(samples: np.ndarray, averages: Mapping[str, np.ndarray]) -> Heard:
    """Listen to a track.

    Args:
        samples: float32 (1 or 2 channels, samples) at 44.1 kHz.
        averages: of :func:`group_spectra`; may be empty.
    """
    if is_silent(samples):
        return Heard(samples.shape[1], silent=True)
    distances = {}
    if averages:
        features = measure_stem(samples, SAMPLE_RATE, STEMS[0])
        if "equalization" in features:
            own = _levels(np.asarray(features["equalization"], np.float64))
            distances = {group: _distance(own, average) for group, average in averages.items()}
    return Heard(samples.shape[1], silent=False, distances=distances, sketch=_sketch(samples))


def group_spectra(statistics: DatasetStatistics | None) -> dict[str, np.ndarray]:
    """The groups' average spectra in thirds of an octave, (25,) in decibels, of those that the statistics have."""
    if statistics is None:
        return {}
    known = [stem for stem in STEMS if ("equalization", stem) in statistics]
    return {stem: _levels(statistics.mean("equalization", stem)) for stem in known}


def correlation(first: Heard, second: Heard) -> float:
    """The correlation of two tracks that begin at one time, -1 to 1; 0 where one of them is digital silence.

    It is estimated from the sketches: within 0.02 where it is near 0, and within (1 - r²) / 45 else (standard errors).
    """
    product = np.linalg.norm(first.sketch) * np.linalg.norm(second.sketch)
    return float(first.sketch @ second.sketch / product) if product > 0 else 0.0


def copies(tracks: Mapping[str, Heard]) -> dict[str, str]:
    """Name -> name of the earlier track that it is a copy of, at whatever level and polarity."""
    names = [name for name, heard in tracks.items() if not heard.silent]
    found: dict[str, str] = {}
    if not names:
        return found
    sketches = np.stack([tracks[name].sketch for name in names])
    sketches /= np.maximum(np.linalg.norm(sketches, axis=1, keepdims=True), 1e-30)
    alike = np.abs(sketches @ sketches.T) >= SAME_RECORDING
    for number, name in enumerate(names):
        first = int(np.argmax(alike[number]))
        if first < number:
            found[name] = found.get(names[first], names[first])
    return found


def _sketch(samples: np.ndarray) -> np.ndarray:
    """A count sketch of the middle of the channels: each sample, with a random sign, is added to one of 2,048 sums.

    The scalar product of two sketches is that of the signals on average (Charikar, Chen and Farach-Colton, "Finding
    frequent items in data streams", 2004).
    """
    generator = np.random.default_rng(0)
    sums = np.zeros(_SKETCH)
    for start in range(0, samples.shape[1], _CHUNK):
        part = samples[:, start : start + _CHUNK]
        middle = part[0] if len(part) == 1 else part.mean(axis=0)
        signs = np.unpackbits(np.frombuffer(generator.bytes(_CHUNK // 8), np.uint8)).astype(np.float32)
        signed = np.zeros(_CHUNK, np.float32)
        signed[: middle.size] = middle * (2 * signs[: middle.size] - 1)
        sums += signed.reshape(-1, _SKETCH).sum(axis=0, dtype=np.float64)
    return sums


def _levels(magnitude: np.ndarray) -> np.ndarray:
    """Levels (25,) in decibels, in thirds of an octave, of a magnitude spectrum (32769,)."""
    levels = third_octaves.levels(magnitude)[_BANDS]
    return np.maximum(levels, levels.max() - _RANGE_DB)


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    """Standard deviation of the difference of two curves in decibels: their shape counts, their level does not."""
    return float(np.std(first - second))

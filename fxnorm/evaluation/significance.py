"""What a few songs show about songs in general: confidence intervals of means, and paired tests between systems.

Intervals are bootstrapped over songs, bias-corrected and accelerated (Efron and Tibshirani, "An Introduction to the
Bootstrap", 1993). Two systems are compared on the same songs by Wilcoxon's signed-rank test (1945), and the p-values of
all pairs are corrected together by Holm's method (1979).
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import scipy

CONFIDENCE = 0.95
FEWEST_SONGS = 10
"""For an interval. Of samples from a normal distribution, those of ten values hold the mean 91 times in a hundred,
those of three 70 times.
"""

LEVEL = 0.05
"""A p-value under it counts as a difference."""

_RESAMPLES = 9_999
_SEED = 0


@dataclass(frozen=True)
class PairedTest:
    """Two systems on the songs that both have.

    Attributes:
        first: a system's name.
        second: the other's.
        songs: how many.
        mean_difference: of the metric, first less second.
        first_lower: on how many songs the first has the lower value.
        second_lower: on how many the second has.
        p_value: Wilcoxon's, two-sided; 1 where no song differs.
        corrected_p_value: after Holm's correction for all pairs of the family.
    """

    first: str
    second: str
    songs: int
    mean_difference: float
    first_lower: int
    second_lower: int
    p_value: float
    corrected_p_value: float

    def as_dict(self) -> dict[str, Any]:
        """Its attributes by name."""
        return asdict(self)


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % confidence interval of the mean; ``None`` for fewer than ten values. The same for the same values."""
    if len(values) < FEWEST_SONGS:
        return None
    sample = np.asarray(values, dtype=np.float64)
    if np.ptp(sample) <= 1e-12 * np.abs(sample).max():
        return float(sample.min()), float(sample.max())  # without spread the acceleration is 0 / 0
    result = scipy.stats.bootstrap(
        (sample,), np.mean, confidence_level=CONFIDENCE, n_resamples=_RESAMPLES, rng=np.random.default_rng(_SEED)
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def compare_pairs(values: Mapping[str, Mapping[str, float]]) -> list[PairedTest]:
    """Every pair of systems on the songs that both have, the p-values corrected for the number of pairs.

    Args:
        values: one metric's, by system and song.
    """
    pairs = []
    for first, second in itertools.combinations(values, 2):
        songs = [song for song in values[first] if song in values[second]]
        if songs:
            differences = np.array([values[first][song] - values[second][song] for song in songs])
            pairs.append((first, second, differences))
    p_values = [_wilcoxon(differences) for _, _, differences in pairs]
    return [
        PairedTest(first, second, len(d), float(d.mean()), int((d < 0).sum()), int((d > 0).sum()), p_value, corrected)
        for (first, second, d), p_value, corrected in zip(pairs, p_values, holm(p_values), strict=True)
    ]


def p_value_of_lower(differences: np.ndarray) -> float:
    """The p-value of differences (songs,) for the claim that they are under 0, as large as the two-sided one: 1 where
    their ranks speak against it, whatever their mean, and where none differs.
    """
    return min(1.0, 2 * _wilcoxon(differences, "less"))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, in the order of ``p_values``."""
    corrected = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def smallest_p_value(songs: int) -> float:
    """The least that the signed-rank test can give: every one of ``songs`` on the same side."""
    return min(1.0, 2.0 ** (1 - songs))


def songs_needed(pairs: int, level: float = LEVEL) -> int:
    """How many songs it takes until ``pairs`` comparisons can have a p-value under ``level`` after the correction."""
    return next(songs for songs in itertools.count(1) if max(1, pairs) * smallest_p_value(songs) < level)


def caution(songs: int, pairs: int) -> str:
    """What ``songs`` songs can show about ``pairs`` pairs of systems, and what they cannot."""
    intervals = "" if songs >= FEWEST_SONGS else f" Intervals of a mean are shown from {FEWEST_SONGS} songs on."
    if not pairs:
        return f"{_songs(songs)} without a reference mix: the means describe them, and nothing is tested.{intervals}"
    needed = songs_needed(pairs)
    of_pairs = "a comparison of two systems" if pairs == 1 else f"{pairs} comparisons between systems"
    take = "takes" if pairs == 1 else "take"
    if songs < needed:
        return (
            f"{_songs(songs)} cannot show a difference between systems: even if one of them were better on every song, "
            f"Wilcoxon's test would give p = {smallest_p_value(songs):.2g}, and {of_pairs} at the 5 % level "
            f"{take} at least {needed} songs. Read the means as a description of these songs.{intervals}"
        )
    return (
        f"{_songs(songs)} are enough for {of_pairs} at the 5 % level, which {take} at least {needed}. A p-value over "
        "5 % does not show that two systems are alike, and the songs speak for others only as far as they resemble "
        f"them.{intervals}"
    )


def _songs(count: int) -> str:
    return "One song" if count == 1 else f"{count} songs"


def _wilcoxon(differences: np.ndarray, alternative: str = "two-sided") -> float:
    return float(scipy.stats.wilcoxon(differences, alternative=alternative).pvalue) if differences.any() else 1.0

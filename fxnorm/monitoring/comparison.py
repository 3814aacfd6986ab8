"""A period of the request log beside the training songs and beside another period: has what comes in moved?

Two periods are compared by the two-sample Kolmogorov-Smirnov test (Smirnov, 1939), whose statistic, the largest
difference of the two distributions, is also the size of the effect. The training songs are known by their average and
spread alone, in whose units drift is: over these songs the loudness' drift has mean 0, and the square of every other
effect's has mean 1; so the period is held against these by Student's t-test. All p-values together are corrected by
Holm's method (1979).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
import scipy

from fxnorm.constants import STEMS
from fxnorm.effects.features import EFFECTS
from fxnorm.evaluation.significance import LEVEL, holm
from fxnorm.mixing.report import FAR
from fxnorm.monitoring.records import PHASES, LoggedRequest, LoggedSong

Verdict = Literal["unchanged", "moved", "too few"]

FEWEST_SONGS = 20
"""Of a period, for a verdict; and half as many of a stem, to be compared."""
LEAST_DISTANCE = 0.25
"""Between two periods' distributions, for a change that matters: two normal ones that are 0.64 spreads apart."""
LEAST_DRIFT = 2.0
"""Of a period on the whole, for inputs that are not those of the training: twice the spread of its songs."""

_SERVER_ERROR = 500
_REFUSED = 400
_BEFORE, _TRAINING = "the period before", "the training songs"
_MOST_NAMED = 3


@dataclass(frozen=True)
class Change:
    """One figure of the period beside another's.

    Attributes:
        figure: such as ``drift loudness bass``.
        against: what it is compared with.
        value: its mean over the period; of drift, but of loudness, the root mean square.
        other: the same of what it is compared with.
        effect: the distance of two distributions, 0 to 1; or the drift itself, where it is compared with the training.
        p_value: of the test.
        corrected_p_value: for the number of comparisons.
        counts: it is to be told from chance, large enough to matter, and away from the training songs.
    """

    figure: str
    against: str
    value: float
    other: float
    effect: float
    p_value: float
    corrected_p_value: float = math.nan
    counts: bool = False


@dataclass(frozen=True)
class Figures:
    """What a period's requests were.

    Attributes:
        since: its begin.
        until: its end, which is not part of it.
        requests: how many.
        failed: share of those that the server did not answer as it should have (500 and higher, too busy included).
        refused: share of those that it refused for what they were.
        songs: that were mixed.
        songs_per_hour: of them.
        audio_hours: that they lasted.
        median_seconds: of the mixed requests, from arrival to answer.
        slow_seconds: in which 95 of 100 were answered.
        phases: mean seconds of each phase.
        loudness_lufs: by stem, mean and spread.
        drift: by effect and stem; the mean of loudness, the root mean square of others.
        far: share of the songs with a stem beyond 4 spreads.
        versions: of the model, and how many requests each mixed.
    """

    since: datetime
    until: datetime
    requests: int
    failed: float
    refused: float
    songs: int
    songs_per_hour: float
    audio_hours: float
    median_seconds: float | None
    slow_seconds: float | None
    phases: dict[str, float]
    loudness_lufs: dict[str, tuple[float, float]]
    drift: dict[str, dict[str, float]]
    far: float
    versions: dict[str, int]

    @classmethod
    def of(cls, since: datetime, until: datetime, requests: Sequence[LoggedRequest]) -> "Figures":
        """Of the requests of a period."""
        songs = _songs(requests)
        mixed = [request for request in requests if request.songs]
        seconds = [request.seconds for request in mixed]
        versions: dict[str, int] = {}
        for request in mixed:
            versions[request.version] = versions.get(request.version, 0) + 1
        hours = (until - since) / timedelta(hours=1)
        return cls(
            since=since,
            until=until,
            requests=len(requests),
            failed=_share(requests, lambda request: request.status >= _SERVER_ERROR),
            refused=_share(requests, lambda request: _REFUSED <= request.status < _SERVER_ERROR),
            songs=len(songs),
            songs_per_hour=len(songs) / hours,
            audio_hours=sum(song.seconds for song in songs) / 3_600,
            median_seconds=float(np.median(seconds)) if seconds else None,
            slow_seconds=float(np.quantile(seconds, 0.95)) if seconds else None,
            phases={
                phase: float(np.mean([request.phases.get(phase, 0.0) for request in mixed]))
                for phase in PHASES
                if mixed
            },
            loudness_lufs={
                stem: (float(found.mean()), float(found.std()))
                for stem in STEMS
                if (found := _loudness(songs, stem)).size
            },
            drift={
                effect: {stem: _size(effect, found) for stem in STEMS if (found := _drift(songs, effect, stem)).size}
                for effect in EFFECTS
            },
            far=_share(songs, _is_far),
            versions=versions,
        )


@dataclass(frozen=True)
class Comparison:
    """What was found.

    Attributes:
        verdict: in a word.
        sentence: the verdict and its reason.
        period: that is judged.
        before: the other one.
        changes: every figure that could be compared, those that count first.
        remarks: on errors and durations.
    """

    verdict: Verdict
    sentence: str
    period: Figures
    before: Figures
    changes: list[Change] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain values by name; times as text."""
        found = asdict(self)
        for period in (found["period"], found["before"]):
            period |= {name: period[name].isoformat() for name in ("since", "until")}
        return found

    def lines(self) -> list[str]:
        """For people: a table of the two periods, and the comparisons that count or nearly do."""
        rows = [("", "period", "before"), *_rows(self.period, self.before)]
        lines = [f"{name:<22}{value:>26}{other:>26}" for name, value, other in rows]
        for change in self.changes:
            if change.corrected_p_value < LEVEL:
                remark = "" if change.counts else ", does not count"
                lines.append(
                    f"{change.figure}: {change.value:.2f}, {change.against} {change.other:.2f}; effect "
                    f"{change.effect:.2f}, p {change.corrected_p_value:.2g}{remark}"
                )
        return [*lines, *self.remarks]


def compare(
    period: tuple[datetime, datetime, Sequence[LoggedRequest]],
    before: tuple[datetime, datetime, Sequence[LoggedRequest]],
) -> Comparison:
    """Compare a period with another one and with the training songs.

    Args:
        period: its begin and end, and its requests.
        before: the other's.
    """
    figures, other = Figures.of(*period), Figures.of(*before)
    songs, other_songs = _songs(period[2]), _songs(before[2])
    changes = _corrected([*_between(songs, other_songs), *_to_training(songs)])
    remarks = _service(period[2], before[2])
    if len(songs) < FEWEST_SONGS:
        sentence = f"too few requests to tell: {len(songs)} songs, expected {FEWEST_SONGS} or more"
        return Comparison("too few", sentence, figures, other, changes, remarks)
    if len(other_songs) < FEWEST_SONGS:
        remarks.append(f"the period before has {len(other_songs)} songs, too few to compare with")
    counting = [change for change in changes if change.counts]
    if counting:
        named = ", ".join(f"{change.figure} against {change.against}" for change in counting[:_MOST_NAMED])
        more = f" and {len(counting) - _MOST_NAMED} more" if len(counting) > _MOST_NAMED else ""
        sentence = f"inputs have moved: time to train again ({named}{more})"
        return Comparison("moved", sentence, figures, other, changes, remarks)
    return Comparison("unchanged", "nothing changed in what comes in", figures, other, changes, remarks)


def _songs(requests: Sequence[LoggedRequest]) -> list[LoggedSong]:
    return [song for request in requests for song in request.songs]


def _share(values: Sequence[Any], holds: Callable[[Any], bool]) -> float:
    return sum(map(holds, values)) / len(values) if values else 0.0


def _is_far(song: LoggedSong) -> bool:
    return any(abs(value or 0.0) > FAR for by_stem in song.drift.values() for value in by_stem.values())


def _loudness(songs: Sequence[LoggedSong], stem: str) -> np.ndarray:
    return _present([song.loudness_lufs.get(stem) for song in songs])


def _drift(songs: Sequence[LoggedSong], effect: str, stem: str) -> np.ndarray:
    return _present([song.drift.get(effect, {}).get(stem) for song in songs])


def _present(values: Sequence[float | None]) -> np.ndarray:
    return np.array([value for value in values if value is not None], dtype=np.float64)


def _size(effect: str, drift: np.ndarray) -> float:
    """Of loudness, whose drift has a sign, the mean; of others the root mean square; 0 of none."""
    if not drift.size:
        return 0.0
    return float(drift.mean()) if effect == "loudness" else float(np.sqrt(np.mean(drift**2)))


def _between(songs: Sequence[LoggedSong], other: Sequence[LoggedSong]) -> list[tuple[Change, bool]]:
    """Two periods, and of each figure whether the change leads away from the training songs."""
    changes = []
    for stem in STEMS:
        values = _loudness(songs, stem), _loudness(other, stem)
        distances = [abs(_size("loudness", _drift(some, "loudness", stem))) for some in (songs, other)]
        means = [float(found.mean()) if found.size else 0.0 for found in values]
        changes += _tested(f"loudness {stem}", *values, means, distances[0] >= distances[1])
    for effect in EFFECTS:
        for stem in STEMS if effect != "loudness" else ():
            values = _drift(songs, effect, stem), _drift(other, effect, stem)
            sizes = [_size(effect, found) for found in values]
            changes += _tested(f"drift {effect} {stem}", *values, sizes, sizes[0] >= sizes[1])
    return changes


def _tested(
    figure: str, values: np.ndarray, others: np.ndarray, sizes: Sequence[float], away: bool
) -> list[tuple[Change, bool]]:
    if min(len(values), len(others)) < FEWEST_SONGS // 2:
        return []
    found = scipy.stats.ks_2samp(values, others)
    counts = bool(found.statistic >= LEAST_DISTANCE and away)
    return [(Change(figure, _BEFORE, sizes[0], sizes[1], float(found.statistic), float(found.pvalue)), counts)]


def _to_training(songs: Sequence[LoggedSong]) -> list[tuple[Change, bool]]:
    changes = []
    for effect in EFFECTS:
        for stem in STEMS:
            drift = _drift(songs, effect, stem)
            if len(drift) < FEWEST_SONGS // 2:
                continue
            size = _size(effect, drift)
            if np.ptp(drift) == 0:
                p_value = 0.0  # without spread the test's statistic is infinite
            elif effect == "loudness":
                p_value = float(scipy.stats.ttest_1samp(drift, 0.0).pvalue)
            else:
                p_value = float(scipy.stats.ttest_1samp(drift**2, 1.0).pvalue)
            expected = 0.0 if effect == "loudness" else 1.0
            change = Change(f"drift {effect} {stem}", _TRAINING, size, expected, abs(size), p_value)
            changes.append((change, abs(size) >= LEAST_DRIFT))
    return changes


def _corrected(changes: Sequence[tuple[Change, bool]]) -> list[Change]:
    p_values = holm([change.p_value for change, _ in changes])
    corrected = [
        Change(**(asdict(change) | {"corrected_p_value": p_value, "counts": p_value < LEVEL and large}))
        for (change, large), p_value in zip(changes, p_values, strict=True)
    ]
    return sorted(corrected, key=lambda change: (not change.counts, change.corrected_p_value))


def _service(requests: Sequence[LoggedRequest], before: Sequence[LoggedRequest]) -> list[str]:
    """Sentences on errors and durations that differ from those before."""
    if not requests or not before:
        return []
    failed = [sum(request.status >= _SERVER_ERROR for request in some) for some in (requests, before)]
    table = [[count, len(some) - count] for count, some in zip(failed, (requests, before), strict=True)]
    seconds = [[request.seconds for request in some if request.songs] for some in (requests, before)]
    p_values = [float(scipy.stats.fisher_exact(table).pvalue), 1.0]
    if min(map(len, seconds)) >= FEWEST_SONGS // 2:
        p_values[1] = float(scipy.stats.mannwhitneyu(*seconds).pvalue)
    errors, durations = holm(p_values)
    remarks = []
    if errors < LEVEL:
        shares = [100 * count / len(some) for count, some in zip(failed, (requests, before), strict=True)]
        remarks.append(
            f"the server failed {shares[0]:.1f} % of the requests, before {shares[1]:.1f} % (p {errors:.2g})"
        )
    if durations < LEVEL:
        medians = [float(np.median(some)) for some in seconds]
        remarks.append(f"a mix took {medians[0]:.1f} s, before {medians[1]:.1f} s (p {durations:.2g})")
    return remarks


def _rows(period: Figures, before: Figures) -> list[tuple[str, str, str]]:
    def both(name: str, cell: Callable[[Figures], str]) -> tuple[str, str, str]:
        return name, cell(period), cell(before)

    def loudness(stem: str) -> Callable[[Figures], str]:
        return lambda figures: "{:.1f} ± {:.1f}".format(*found) if (found := figures.loudness_lufs.get(stem)) else "-"

    def drift(effect: str) -> Callable[[Figures], str]:
        return lambda figures: " ".join(
            f"{found:.1f}" if (found := figures.drift[effect].get(stem)) is not None else "-" for stem in STEMS
        )

    return [
        both("from", lambda figures: f"{figures.since:%Y-%m-%d %H:%M %Z}"),
        both("requests", lambda figures: str(figures.requests)),
        both("failed, refused", lambda figures: f"{figures.failed:.1%}, {figures.refused:.1%}"),
        both("songs, an hour", lambda figures: f"{figures.songs}, {figures.songs_per_hour:.1f}"),
        both("audio hours", lambda figures: f"{figures.audio_hours:.2f}"),
        both("seconds p50, p95", lambda figures: f"{_number(figures.median_seconds)}, {_number(figures.slow_seconds)}"),
        *(both(f"  {phase}", lambda figures, phase=phase: _number(figures.phases.get(phase))) for phase in PHASES),  # type: ignore[misc]
        *(both(f"{stem} LUFS", loudness(stem)) for stem in STEMS),
        *(both(f"drift {effect}", drift(effect)) for effect in EFFECTS),
        both("songs beyond 4", lambda figures: f"{figures.far:.1%}"),
        both("versions", lambda figures: ", ".join(sorted(figures.versions)) or "-"),
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"

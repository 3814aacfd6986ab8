"""Which systems differ, on each attribute: a mixed-effects model, and rank tests that assume less.

The participants are a sample of listeners, so both take them as the unit. The model has the systems as fixed effects
and random intercepts of participants, songs and each participant's taste for each system, without which many ratings
by few people would count as many people; its p-values and intervals are those of Student's t with one degree of
freedom less than there are participants. The rank tests are Friedman's over all systems and Wilcoxon's signed-rank
test of every pair, on each participant's means over songs. The p-values of all pairs on all attributes are corrected
together after Holm (1979), each test's, because the verdicts on the attributes are read side by side. Nothing else is
corrected: neither the intervals nor the tests of all systems at once.
"""

import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.stats

from fxnorm.errors import SettingsError, missing_package
from fxnorm.evaluation.significance import holm
from fxnorm.listening_test.formats import Attribute

LEVEL = 0.05
"""Of significance."""

_METHODS = ("powell", "nm", "bfgs")  # the first two need no gradient, which has no zero at a variance of zero
_NOTHING = 1e-9  # points


@dataclass(frozen=True)
class System:
    """How one system was rated; the interval of the mean is over participants, at 95 %."""

    mean: float
    low: float | None
    high: float | None
    median: float


@dataclass(frozen=True)
class Pair:
    """Two systems; differences are those of the first from the second."""

    first: str
    second: str
    difference: float
    low: float | None
    """Of the model's interval, at 95 %, like ``high``; not corrected for the number of pairs."""
    high: float | None
    p_model: float | None
    """This and the next are corrected for the number of pairs on all attributes."""
    p_wilcoxon: float | None
    rank_biserial: float | None
    """Effect size of the signed-rank test: -1 to 1; 1 if all participants prefer the first."""

    @property
    def shown(self) -> bool:
        """Whether the tests show a difference: both, or the one that could be made."""
        made = [p for p in (self.p_model, self.p_wilcoxon) if p is not None]
        return bool(made) and all(p < LEVEL for p in made)


@dataclass(frozen=True)
class Friedman:
    """The rank test of all systems at once."""

    chi_square: float
    degrees_of_freedom: int
    p: float
    kendall_w: float
    """Effect size: 0 to 1; 1 if all participants rank the systems alike."""


@dataclass(frozen=True)
class Model:
    """What the mixed-effects model finds beside the systems' means: standard deviations, None of what it leaves out."""

    participants: float | None
    songs: float | None
    taste: float | None
    residual: float
    p: float | None
    """Of all systems being alike (Wald's test, F distribution)."""


@dataclass(frozen=True)
class AttributeComparison:
    """The systems compared on one attribute: their ratings, every pair, and both tests."""

    systems: dict[str, System]
    pairs: list[Pair]
    friedman: Friedman | None
    model: Model | None
    remarks: list[str]


def compare(ratings: Mapping[Attribute, np.ndarray], names: list[str]) -> dict[Attribute, AttributeComparison]:
    """Compare systems by ``ratings`` (participants, songs, systems) on each attribute.

    Raises:
        SettingsError: statsmodels is not installed.
    """
    tests = len(ratings) * math.comb(len(names), 2)
    comparisons = {attribute: _compare(values, names, tests) for attribute, values in ratings.items()}
    pairs = [pair for comparison in comparisons.values() for pair in comparison.pairs]
    p_model, p_wilcoxon = _corrected([pair.p_model for pair in pairs]), _corrected([pair.p_wilcoxon for pair in pairs])
    corrected = iter(
        replace(pair, p_model=model, p_wilcoxon=wilcoxon)
        for pair, model, wilcoxon in zip(pairs, p_model, p_wilcoxon, strict=True)
    )
    return {
        attribute: replace(comparison, pairs=[next(corrected) for _ in comparison.pairs])
        for attribute, comparison in comparisons.items()
    }


def _corrected(p_values: Sequence[float | None]) -> list[float | None]:
    """For the number of tests that could be made."""
    corrected = iter(holm([p for p in p_values if p is not None]))
    return [None if p is None else next(corrected) for p in p_values]


def _compare(values: np.ndarray, names: list[str], tests: int) -> AttributeComparison:
    """On one attribute, the p-values of pairs as they are; ``tests`` of pairs are made on all attributes."""
    means = values.mean(axis=1).round(9)  # so that equal means are equal
    pairs = list(itertools.combinations(range(len(names)), 2))
    remarks = _remarks(len(values), tests)
    friedman, signed_ranks = _friedman(means), _signed_ranks(means, pairs)
    model, contrasts = _fit(values, pairs) if len(values) > 1 else (None, [(None, None, None)] * len(pairs))
    if len(values) > 1 and model is None:
        remarks.append("The mixed-effects model cannot be fitted to these ratings; the signed-rank test decides alone.")
    return AttributeComparison(
        systems={name: _system(values[..., at], means[:, at]) for at, name in enumerate(names)},
        pairs=[
            Pair(
                names[first],
                names[second],
                float(means[:, first].mean() - means[:, second].mean()),
                *contrast,
                *signed_rank,
            )
            for (first, second), contrast, signed_rank in zip(pairs, contrasts, signed_ranks, strict=True)
        ],
        friedman=friedman,
        model=model,
        remarks=remarks,
    )


def _remarks(participants: int, tests: int) -> list[str]:
    """What so few participants cannot show."""
    if participants == 1:
        return ["One participant: nothing can be said about others."]
    smallest = tests * 2.0 ** (1 - participants)
    if smallest < LEVEL:
        return []
    needed = math.floor(math.log2(2 * tests / LEVEL)) + 1
    return [
        f"With {participants} participants no corrected p-value of the signed-rank test can fall under"
        f" {min(1.0, smallest):.2f}, however clear the ratings are: to show any difference at {LEVEL:g} in"
        f" {tests} comparisons of pairs, over all attributes, it takes {needed}."
    ]


def _system(ratings: np.ndarray, means: np.ndarray) -> System:
    mean, low, high = float(means.mean()), None, None
    if len(means) > 1:
        half = float(scipy.stats.t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means)))
        low, high = mean - half, mean + half
    return System(mean, low, high, float(np.median(ratings)))


def _friedman(means: np.ndarray) -> Friedman | None:
    """None with fewer than three systems or two participants, or where nobody prefers any."""
    participants, systems = means.shape
    if systems < 3 or participants < 2 or not np.ptp(means, axis=1).any():
        return None
    result = scipy.stats.friedmanchisquare(*means.T)
    degrees = systems - 1
    return Friedman(
        float(result.statistic), degrees, float(result.pvalue), float(result.statistic) / (participants * degrees)
    )


def _signed_ranks(means: np.ndarray, pairs: list[tuple[int, int]]) -> list[tuple[float | None, float | None]]:
    """p-value and rank-biserial correlation of each pair."""
    if len(means) < 2:
        return [(None, None)] * len(pairs)
    differences = [means[:, first] - means[:, second] for first, second in pairs]
    # without any difference there are no ranks, and nothing speaks against the systems being alike
    values = [float(scipy.stats.wilcoxon(each).pvalue) if each.any() else 1.0 for each in differences]
    return [(p, _rank_biserial(each)) for p, each in zip(values, differences, strict=True)]


def _rank_biserial(differences: np.ndarray) -> float:
    """The share of ranks in favour less the share against (Kerby, "The simple difference formula", 2014)."""
    nonzero = differences[differences != 0]
    if not nonzero.size:
        return 0.0
    ranks = scipy.stats.rankdata(np.abs(nonzero))
    return float((np.sign(nonzero) * ranks).sum() / ranks.sum())


Contrast = tuple[float | None, float | None, float | None]
"""Lower and upper end of the interval, p-value."""


def _fit(values: np.ndarray, pairs: list[tuple[int, int]]) -> tuple[Model | None, list[Contrast]]:
    """The mixed-effects model and its contrasts of pairs; None where the ratings leave nothing to estimate from."""
    fitted = _fitted(values)
    if fitted is None:
        return None, [(None, None, None)] * len(pairs)
    participants, _, systems = values.shape
    contrasts = np.zeros((len(pairs), systems))
    for row, (first, second) in zip(contrasts, pairs, strict=True):
        row[first], row[second] = 1, -1
    covariance = np.asarray(fitted.cov_params())[:systems, :systems]
    differences = contrasts @ np.asarray(fitted.fe_params)
    errors = np.sqrt(np.einsum("ij,jk,ik->i", contrasts, covariance, contrasts))
    degrees = participants - 1
    p_values = [float(p) for p in 2 * scipy.stats.t.sf(np.abs(differences / errors), degrees)]
    half = scipy.stats.t.ppf(0.975, degrees) * errors
    deviations = dict(zip(fitted.model.exog_vc.names, np.sqrt(np.maximum(fitted.vcomp, 0)).tolist(), strict=True))
    from_first = contrasts[: systems - 1]  # the first system with each other: spans all differences
    wald = differences[: systems - 1] @ np.linalg.solve(
        from_first @ covariance @ from_first.T, differences[: systems - 1]
    )
    model = Model(
        participants=deviations.get("participant"),
        songs=deviations.get("song"),
        taste=deviations.get("taste"),
        residual=float(np.sqrt(fitted.scale)),
        p=float(scipy.stats.f.sf(wald / (systems - 1), systems - 1, degrees * (systems - 1))),
    )
    ends = zip(differences - half, differences + half, p_values, strict=True)
    return model, [(float(low), float(high), p) for low, high, p in ends]


def _fitted(values: np.ndarray) -> Any:
    """statsmodels' result, by restricted maximum likelihood; None if it does not converge or nothing varies."""
    try:
        import pandas as pd
        from statsmodels.formula.api import mixedlm
    except ImportError as error:
        sentence = missing_package(error, "the analysis", "listening-test")
        if sentence is None:
            raise
        raise SettingsError(sentence) from error

    participant, song, system = (index.ravel() for index in np.indices(values.shape))
    table = pd.DataFrame({"rating": values.ravel(), "participant": participant, "song": song, "system": system})
    effects = {}
    if np.ptp(values.mean(axis=(1, 2))) > _NOTHING:  # normalized ratings leave the participants no effect of their own
        effects["participant"] = "0 + C(participant)"
    if values.shape[1] > 1:  # of a single song, its own effect is in the means, and tastes are in the residual
        effects |= {"song": "0 + C(song)", "taste": "0 + C(participant):C(system)"}
    if not effects or np.ptp(values - values.mean(axis=(0, 1))) < _NOTHING:
        return None
    model = mixedlm("rating ~ 0 + C(system)", table, groups=np.zeros(len(table)), vc_formula=effects, use_sparse=False)
    for method in _METHODS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an effect of no variance lies on the boundary, of which it warns
            try:
                fitted = model.fit(reml=True, method=method)
            except np.linalg.LinAlgError:  # a step went to a variance of zero
                continue
        if fitted.converged and fitted.scale > 0:
            return fitted
    return None

"""Measures of a mix that need no reference mix: its levels, its width, its spectral balance, what is masked in it.

The balance is held against the average spectrum of the training mixtures, as Pestana et al. did with half a century of
hits ("Spectral characteristics of popular commercial recordings 1950-2010", AES 135, 2013).
"""

import math
from collections.abc import Mapping

import numpy as np

from fxnorm.constants import MIXTURE, SAMPLE_RATE
from fxnorm.effects import third_octaves
from fxnorm.effects.features import measure_mixture
from fxnorm.effects.third_octaves import NOMINAL_HZ
from fxnorm.evaluation.masking import masked_shares
from fxnorm.evaluation.metrics import mix_levels, prepared
from fxnorm.statistics import DatasetStatistics

BALANCE = "balance_"
"""Begins the names of the features that are levels in bands."""

_RANGE_DB = 60.0  # under the loudest third of an octave; what is quieter, as over a coder's cut-off, counts as that

Description = dict[str, float | None]
"""Measures by name; ``None`` where one has no value, as levels of silence."""


def describe(
    mixes: Mapping[str, np.ndarray],
    stems: Mapping[str, np.ndarray],
    sample_rate: int,
    statistics: DatasetStatistics | None = None,
    balances: Mapping[str, np.ndarray | None] | None = None,
) -> dict[str, Description]:
    """Measures of each of a song's mixes, by name.

    Args:
        mixes: arrays (channels, samples) by name, all of the same stems.
        stems: the song's stems, arrays (1 or 2 channels, samples).
        sample_rate: Hz, must be 44,100.
        statistics: of the training songs; the balance needs those that hold their mixtures' average spectrum.
        balances: what :func:`balance_of` gives of each mix, if it is known already.

    Returns:
        by mix: ``integrated_loudness_lufs``, ``loudness_range_lu``, ``true_peak_dbtp``, ``side_to_middle_db``;
        ``spectral_balance_db``, the root mean square over thirds of an octave of the mix's spectrum less the training
        mixtures' average, without their mean difference; and ``masked_STEM`` for each stem, the share of its loudness
        that the others hide. A gain changes loudness and true peak alone, swapping left and right nothing.

    Raises:
        AudioError: not one or two channels, no samples, or samples that are not finite.
    """
    mixes = {name: prepared(mix, name, sample_rate) for name, mix in mixes.items()}
    target = training_balance(statistics)
    shares = masked_shares(mixes, stems, sample_rate)
    described = {}
    for name, mix in mixes.items():
        levels = {key: value if math.isfinite(value) else None for key, value in mix_levels(mix).items()}
        balance = None if target is None else balance_of(mix) if balances is None else balances[name]
        difference = None if balance is None or target is None else balance_difference_db(balance, target)
        masked = {f"masked_{stem}": share for stem, share in shares[name].items()}
        described[name] = {**levels, "spectral_balance_db": difference, **masked}
    return described


def training_balance(statistics: DatasetStatistics | None) -> np.ndarray | None:
    """Levels in thirds of an octave of the average training mixture, in dB; ``None`` if the statistics lack it."""
    if statistics is None or ("equalization", MIXTURE) not in statistics:
        return None
    return third_octaves.levels(statistics.mean("equalization", MIXTURE))


def balance_of(mix: np.ndarray) -> np.ndarray | None:
    """Levels in thirds of an octave of ``mix`` (channels, samples) at 44.1 kHz, in dB; ``None`` of a silent one.

    Measured as those of the training mixtures are, at -30 LUFS.
    """
    features = measure_mixture(mix, SAMPLE_RATE)
    return third_octaves.levels(np.asarray(features["equalization"])) if features else None


def features(description: Description, balance: np.ndarray | None) -> dict[str, float]:
    """What mixes are like, whatever song they are of: what :func:`describe` and :func:`balance_of` found, by name.

    Returns:
        ``loudness_range_lu``, ``peak_to_loudness_db``, ``side_to_middle_db`` and, in thirds of an octave, levels in dB
        less their mean, ``balance_25_hz`` to ``balance_16000_hz``. None changes with a gain. What has no value is left
        out.
    """
    loudness, peak = description["integrated_loudness_lufs"], description["true_peak_dbtp"]
    found = {name: description[name] for name in ("loudness_range_lu", "side_to_middle_db")}
    found["peak_to_loudness_db"] = None if loudness is None or peak is None else peak - loudness
    if balance is not None:
        levels = _limited(balance)
        levels -= levels.mean()
        found |= {f"{BALANCE}{hertz:g}_hz": float(level) for hertz, level in zip(NOMINAL_HZ, levels, strict=True)}
    return {name: value for name, value in found.items() if value is not None}


def balance_difference_db(balance: np.ndarray, target: np.ndarray) -> float:
    """Root mean square difference in dB of two balances' shapes."""
    difference = _limited(balance) - _limited(target)
    return float(np.std(difference))


def _limited(levels: np.ndarray) -> np.ndarray:
    return np.maximum(levels, levels.max() - _RANGE_DB)

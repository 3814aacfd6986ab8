"""What every metric and system is called where people read of it, and which value of a metric is the better one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fxnorm.constants import STEMS

REFERENCE, INPUT_SUM, NORMALIZED_SUM, STATIC_MIX = "reference", "input_sum", "normalized_sum", "static_mix"
SUMS = (INPUT_SUM, NORMALIZED_SUM)
"""Baselines that anyone could make, brought to the reference mix's loudness before they are compared."""

BASELINES = (*SUMS, STATIC_MIX)
"""What a network is compared with; the last is what it has to beat to be worth its name."""

MATCHED = "_matched"
"""Ends the names of metrics for which each mix is brought to the loudness of its reference first."""

DECISIVE = f"stereo_loss_b{MATCHED}"
"""The metric that the verdict is about."""

RESIDUAL = "residual"
"""Root mean square of a mix less the reference over that of the reference."""

SAME_MIX = 0.01
"""With a residual under it, 40 dB down, a mix is the reference itself, but for rounding."""

SYSTEM_TITLES = {
    REFERENCE: "reference mix",
    INPUT_SUM: "sum of the input stems",
    NORMALIZED_SUM: "sum of the normalized stems",
    STATIC_MIX: "static mix",
    "crafx2": "CRAFx2",
    "wave_u_net": "Wave-U-Net",
    "console": "mixing console",
}
SPLIT_TITLES = {"test_wet": "Stems of finished songs", "test_dry": "Dry recordings"}


@dataclass(frozen=True)
class Metric:
    """A metric as it is shown.

    Attributes:
        title: its name.
        unit: of the shown value; empty for none.
        meaning: one sentence on what it measures.
        scale: the shown value over the stored one.
        digits: after the decimal point.
        best: the value that is best; ``None`` where there is no better and worse.
        sums_match: the two sums are brought to the reference in this very respect, and so cannot win in it.
    """

    title: str
    unit: str
    meaning: str
    scale: float = 1.0
    digits: int = 2
    best: float | None = 0.0
    sums_match: bool = False

    def shown(self, value: float) -> str:
        """``value`` as a page shows it, with a true minus sign."""
        return f"{self.scale * value:.{self.digits}f}".replace("-", "\N{MINUS SIGN}")


def _percentage(title: str, meaning: str, sums_match: bool = False) -> Metric:
    return Metric(title, "%", meaning, scale=100.0, digits=1, sums_match=sums_match)


_AT_ONE_LOUDNESS = "with the mix at the reference's loudness."
_ROBUST = "The same features without silent frames; errors over the mean, so that values near 0 do not decide."
COMPARED: dict[str, Metric] = {
    f"stereo_loss_b{MATCHED}": Metric("Stereo loss b, matched", "", f"Stereo loss b, {_AT_ONE_LOUDNESS}"),
    f"stereo_loss_a{MATCHED}": Metric("Stereo loss a, matched", "", f"Stereo loss a, {_AT_ONE_LOUDNESS}"),
    "spectral_wape": _percentage("Spectrum, robust", _ROBUST),
    "panning_wape": _percentage("Panning, robust", _ROBUST),
    "dynamic_wape": _percentage("Dynamics, robust", _ROBUST),
    "stereo_loss_b": Metric(
        "Stereo loss b", "", "Loss b of the training: squared difference of A-weighted magnitudes of middle and side."
    ),
    "stereo_loss_a": Metric(
        "Stereo loss a", "", "Loss a of the training: the same, relative to the reference's energy."
    ),
    "spectral_mape": _percentage(
        "Spectrum, published", "Error of centroid, bandwidth, contrast, roll-off and flatness."
    ),
    "panning_mape": _percentage("Panning, published", "Error of the distance from the centre, in four bands."),
    "dynamic_mape": _percentage("Dynamics, published", "Error of RMS level, dynamic spread and crest factor."),
    "loudness_mape": _percentage("Loudness, published", "Error of the integrated loudness.", sums_match=True),
    "multi_resolution_stft": Metric(
        "Multi-resolution STFT", "", "Spectral convergence and log-magnitude distance at three resolutions."
    ),
    "loudness_error_lu": Metric(
        "Loudness difference", "LU", "Absolute difference of the integrated loudness.", sums_match=True
    ),
    f"true_peak_error_db{MATCHED}": Metric(
        "True peak difference, matched", "dB", f"Absolute difference of the true peak, {_AT_ONE_LOUDNESS}", digits=1
    ),
    "true_peak_error_db": Metric("True peak difference", "dB", "Absolute difference of the true peak.", digits=1),
    "loudness_range_error_lu": Metric("Loudness range difference", "LU", "Absolute difference of the loudness range."),
    "side_to_middle_error_db": Metric(
        "Width difference", "dB", "Absolute difference of the energy of the side over the middle.", digits=1
    ),
}
"""Distances from the reference mix, which lies at 0."""

DESCRIBED: dict[str, Metric] = {
    "integrated_loudness_lufs": Metric("Loudness", "LUFS", "Integrated loudness, ITU-R BS.1770.", digits=1, best=None),
    "loudness_range_lu": Metric("Loudness range", "LU", "EBU Tech 3342.", digits=1, best=None),
    "true_peak_dbtp": Metric("True peak", "dBTP", "ITU-R BS.1770, four times oversampled.", digits=1, best=None),
    "side_to_middle_db": Metric("Side over middle", "dB", "Energy of the side over the middle.", digits=1, best=None),
    "spectral_balance_db": Metric(
        "Balance off the training mixtures",
        "dB",
        "Root mean square over thirds of an octave of the spectrum less the training mixtures' average.",
        digits=1,
        best=None,
    ),
    **{
        f"masked_{stem}": Metric(
            f"Masked: {stem}",
            "%",
            f"Share of the loudness of {stem} that the other stems hide.",
            scale=100.0,
            digits=0,
            best=None,
        )
        for stem in STEMS
    },
}
"""What can be measured without a reference mix."""

DISTRIBUTED: dict[str, Metric] = {
    "feature_distance": Metric(
        "Distance of all mixes from all references",
        "",
        "Wasserstein distance between the features of a system's mixes and those of the reference mixes, whichever "
        "song they are of, in standard deviations of the references, as a mean over features.",
    ),
}
"""Of all songs of a split together: a song has many good mixes, and this asks only whether mixes are like mixes."""

METRICS: dict[str, Metric] = {**COMPARED, **DISTRIBUTED, **DESCRIBED}


def title_of(system: str) -> str:
    """A system's name in words; one that was named on the command line keeps its name."""
    return SYSTEM_TITLES.get(system, system)


def split_title(split: str) -> str:
    """A split's name in words."""
    return SPLIT_TITLES.get(split, split)


def rivals(systems: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The systems that can win: not the reference, nor the sum of wet stems where it is the reference itself."""
    return [
        name
        for name, metrics in systems.items()
        if name != REFERENCE and not (name in SUMS and metrics.get(RESIDUAL, 1.0) < SAME_MIX)
    ]


def winners(metric: str, systems: Mapping[str, Mapping[str, float]]) -> set[str]:
    """The rivals with the best mean of a metric; none where there is no better and worse, or no two to compare."""
    shown = METRICS[metric]
    if shown.best is None:
        return set()
    distances = {
        name: abs(systems[name][metric] - shown.best)
        for name in rivals(systems)
        if metric in systems[name] and not (shown.sums_match and name in SUMS)
    }
    if len(distances) < 2:
        return set()
    return {name for name, value in distances.items() if value == min(distances.values())}


def present(names: Iterable[str], systems: Iterable[Mapping[str, float]]) -> list[str]:
    """Those of the metrics ``names`` that any of ``systems`` has."""
    all_metrics = list(systems)
    return [name for name in names if any(name in metrics for metrics in all_metrics)]

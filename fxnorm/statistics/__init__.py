"""Statistics of a dataset: the averages that effect normalization brings stems to."""

from fxnorm.effects.features import EFFECTS, Features, measure_mixture, measure_stem
from fxnorm.statistics.dataset_statistics import DatasetStatistics
from fxnorm.statistics.reference import import_reference_statistics

__all__ = [
    "EFFECTS",
    "DatasetStatistics",
    "Features",
    "import_reference_statistics",
    "measure_mixture",
    "measure_stem",
]

"""Automatic music mixing learnt from finished multitracks.

The names below are loaded when they are first used, because PyTorch takes seconds to import.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fxnorm.mixing.mixer import Mixer
    from fxnorm.normalization.normalizer import EffectNormalizer
    from fxnorm.statistics import DatasetStatistics, measure_stem

__all__ = ["DatasetStatistics", "EffectNormalizer", "Mixer", "measure_stem"]
__version__ = "0.1.0"

_HOMES = {
    "DatasetStatistics": "fxnorm.statistics",
    "EffectNormalizer": "fxnorm.normalization.normalizer",
    "Mixer": "fxnorm.mixing.mixer",
    "measure_stem": "fxnorm.statistics",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

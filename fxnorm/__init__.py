"""Automatic music mixing learnt from finished multitracks.

The names below are loaded when they are first used, because PyTorch and librosa take seconds to import.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fxnorm.mixer import Mixer
    from fxnorm.normalization import EffectNormalizer
    from fxnorm.statistics import DatasetStatistics

__all__ = ["DatasetStatistics", "EffectNormalizer", "Mixer"]
__version__ = "0.1.0"

_HOMES = {
    "DatasetStatistics": "fxnorm.statistics",
    "EffectNormalizer": "fxnorm.normalization",
    "Mixer": "fxnorm.mixer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

"""Averages in the files of the reference implementation."""

from pathlib import Path

import numpy as np

from fxnorm.constants import STEMS
from fxnorm.effects.features import SHAPES
from fxnorm.errors import ModelError
from fxnorm.statistics.array_pickle import read_array_pickle
from fxnorm.statistics.dataset_statistics import DatasetStatistics, as_shape

_REFERENCE_NAMES = {
    "equalization": ("eq", "equalization", "equalisation"),
    "compression": ("compression", "compressor", "drc"),
    "panning": ("panning", "pan", "imager"),
    "loudness": ("loudness", "lufs"),
}
"""Names of the effects in these files."""


def import_reference_statistics(path: str | Path) -> DatasetStatistics:
    """Averages from a ``.npy`` of the reference implementation, such as the published ``features_MUSDB18.npy``.

    Such a file is a pickle of nested dictionaries of arrays. Only arrays, numbers and plain containers are admitted;
    a pickle that names any other function is refused before that is called.

    Raises:
        ModelError: the file is missing, no such file, names more than arrays, or lacks an effect or stem.
    """
    content = read_array_pickle(path)
    averages: dict[tuple[str, str], np.ndarray] = {}
    for effect, names in _REFERENCE_NAMES.items():
        stems = next((content[name] for name in names if name in content), None)
        if not isinstance(stems, dict):
            raise ModelError(f"{path}: expected a dictionary of stems under {' or '.join(names)}")
        for stem in STEMS:
            if stem not in stems:
                raise ModelError(f"{path}: {effect}: no {stem}")
            averages[effect, stem] = as_shape(path, f"{effect}/{stem}", SHAPES[effect], stems[stem])
    return DatasetStatistics.of_averages(averages)

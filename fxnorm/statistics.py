"""What the stems of a wet dataset have in common: mean, spread and count of every effect's feature, per stem.

The means are the targets of effect normalization (Martínez-Ramírez et al., "Automatic music mixing with deep learning
and out-of-domain data", ISMIR 2022, section 3).
"""

import itertools
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fxnorm.array_pickle import read_array_pickle
from fxnorm.constants import STEMS
from fxnorm.effects import spectrum
from fxnorm.effects.features import EFFECTS, SHAPES, Features, measure_stem
from fxnorm.errors import DatasetError, ModelError
from fxnorm.files import whole_file

__all__ = [
    "EFFECTS",
    "DatasetStatistics",
    "Features",
    "import_reference_statistics",
    "measure_stem",
    "plot_normalization",
]

_EQUALIZATION_SMOOTHING = {"vocals": 401, "bass": 151, "drums": 151, "other": 401}  # bins
_PANNING_SMOOTHING = 501  # bins
_REFERENCE_NAMES = {
    "equalization": ("eq", "equalization", "equalisation"),
    "compression": ("compression", "compressor", "drc"),
    "panning": ("panning", "pan", "imager"),
    "loudness": ("loudness", "lufs"),
}
"""How files of the reference implementation call the effects."""


@dataclass(frozen=True)
class _Moments:
    """Count, mean and sum of squared deviations of features; float64 arrays.

    ``squares`` is None where only a mean is known, as in a file of published averages.
    """

    count: int
    mean: np.ndarray
    squares: np.ndarray | None

    def merged(self, other: "_Moments") -> "_Moments":
        """Of both together; Chan, Golub and LeVeque (1979), which does not lose the spread to rounding."""
        if self.squares is None or other.squares is None:
            raise DatasetError("statistics without spread and count, such as published averages, cannot be merged")
        count = self.count + other.count
        difference = other.mean - self.mean
        mean = self.mean + difference * (other.count / count)
        squares = self.squares + other.squares + difference**2 * (self.count * other.count / count)
        return _Moments(count, mean, squares)


class DatasetStatistics:
    """Mean, standard deviation and count of every effect's feature, per stem, over the songs added so far."""

    def __init__(self) -> None:
        self._moments: dict[tuple[str, str], _Moments] = {}

    def add(self, stem: str, features: Mapping[str, np.ndarray | float]) -> None:
        """Count in what :func:`measure_stem` found for one stem of one song.

        Raises:
            DatasetError: an unknown effect or stem, or a feature of another shape.
        """
        for effect, feature in features.items():
            value = np.asarray(feature, dtype=np.float64)
            if effect not in EFFECTS or stem not in STEMS:
                raise DatasetError(f"statistics: unknown {effect}/{stem}; expected a name like equalization/vocals")
            if value.shape != SHAPES[effect] or not np.isfinite(value).all():
                raise DatasetError(f"statistics: {effect}/{stem}: expected finite numbers of shape {SHAPES[effect]}")
            self._merge_moments((effect, stem), _Moments(1, value, np.zeros_like(value)))

    def merge(self, other: "DatasetStatistics") -> None:
        """Count in the songs of ``other``; in what order and parts songs come together makes no difference."""
        for key, moments in other._moments.items():
            self._merge_moments(key, moments)

    def _merge_moments(self, key: tuple[str, str], moments: _Moments) -> None:
        known = self._moments.get(key)
        self._moments[key] = known.merged(moments) if known else moments

    def __contains__(self, key: tuple[str, str]) -> bool:
        """Whether an (effect, stem) is there."""
        return key in self._moments

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """The (effect, stem) pairs that are there, always in the same order."""
        return iter([(effect, stem) for effect in EFFECTS for stem in STEMS if (effect, stem) in self._moments])

    def _get(self, effect: str, stem: str) -> _Moments:
        try:
            return self._moments[effect, stem]
        except KeyError:
            raise DatasetError(f"statistics: no {effect}/{stem}; no song of the dataset has it") from None

    def count(self, effect: str, stem: str) -> int:
        """Number of songs behind the mean; 0 if that is not known."""
        moments = self._get(effect, stem)
        return 0 if moments.squares is None else moments.count

    def mean(self, effect: str, stem: str) -> np.ndarray:
        """Mean feature over songs, float64, as measured: not smoothed.

        Raises:
            DatasetError: no song had this effect and stem.
        """
        return self._get(effect, stem).mean

    def standard_deviation(self, effect: str, stem: str) -> np.ndarray:
        """Standard deviation of the feature over songs, float64.

        Raises:
            DatasetError: no song had this effect and stem, or only averages are known.
        """
        moments = self._get(effect, stem)
        if moments.squares is None:
            raise DatasetError(f"statistics: the spread of {effect}/{stem} is not known, only its average")
        return np.sqrt(moments.squares / moments.count)

    def target(self, effect: str, stem: str) -> np.ndarray:
        """What a stem is brought to: the mean, its curves smoothed over frequency (Savitzky-Golay of order 1).

        Raises:
            DatasetError: no song had this effect and stem.
        """
        mean = self.mean(effect, stem)
        if effect == "equalization":
            return spectrum.smooth(mean, _EQUALIZATION_SMOOTHING[stem])
        if effect == "panning":
            return spectrum.smooth(mean, _PANNING_SMOOTHING)
        return mean

    def drift(self, other: "DatasetStatistics | Mapping[str, Features]") -> dict[str, dict[str, float]]:
        """How far other songs lie from these ones, in units of these songs' spread.

        A curve's drift is the root mean square over its bins, and so is compression's over its two figures; a loudness
        has a sign. Where the songs here do not differ at all, any difference is an infinite drift.

        Args:
            other: statistics of other songs, or what :func:`measure_stem` found for the stems of one song, by name.

        Returns:
            the drift by effect and stem, of what both have.

        Raises:
            DatasetError: only averages are known here.
        """
        if not isinstance(other, DatasetStatistics):
            song, other = other, DatasetStatistics()
            for stem, features in song.items():
                other.add(stem, features)
        drifts: dict[str, dict[str, float]] = {effect: {} for effect in EFFECTS}
        for effect, stem in self:
            if (effect, stem) in other:
                difference = other.mean(effect, stem) - self.mean(effect, stem)
                spread = self.standard_deviation(effect, stem)
                units = np.where(difference == 0, 0.0, np.copysign(np.inf, difference))
                np.divide(difference, spread, out=units, where=spread > 0)
                drifts[effect][stem] = float(units if units.ndim == 0 else np.sqrt(np.mean(units**2)))
        return drifts

    def save(self, path: str | Path) -> None:
        """Write an npz with keys ``equalization/vocals``, ``spread/…`` and ``count/…``; same statistics, same bytes."""
        arrays: dict[str, np.ndarray] = {}
        for effect, stem in self:
            moments = self._moments[effect, stem]
            arrays[f"{effect}/{stem}"] = moments.mean
            if moments.squares is not None:
                arrays[f"spread/{effect}/{stem}"] = self.standard_deviation(effect, stem)
                arrays[f"count/{effect}/{stem}"] = np.array(moments.count)
        with whole_file(Path(path)) as temporary:
            np.savez(temporary, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> "DatasetStatistics":
        """Read what :meth:`save` wrote, or an npz of averages alone; nothing in it is unpickled.

        Raises:
            ModelError: the file is missing or no npz, or a key is unknown, missing or of another shape.
        """
        statistics = cls()
        arrays = _read_npz(path)
        for effect, stem in itertools.product(EFFECTS, STEMS):
            if f"{effect}/{stem}" in arrays:
                statistics._moments[effect, stem] = _stored_moments(path, f"{effect}/{stem}", SHAPES[effect], arrays)
        known = {f"{part}{effect}/{stem}" for part in ("", "spread/", "count/") for effect, stem in statistics}
        if not known or set(arrays) - known:
            unknown = ", ".join(sorted(set(arrays) - known)) or "none"
            raise ModelError(f"{path}: expected keys like equalization/vocals, found beside these: {unknown}")
        return statistics

    def plot(self, path: str | Path) -> None:
        """Draw the four effects of every stem, mean and spread, into an image file."""
        # drawing is rare, and importing matplotlib takes longer than loading statistics
        from fxnorm.effect_plots import plot_statistics

        plot_statistics(self, Path(path))


def _read_npz(path: str | Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ModelError(f"{path}: not readable as statistics, expected an npz file ({error})") from error


def _stored_moments(path: str | Path, name: str, shape: tuple[int, ...], arrays: dict[str, np.ndarray]) -> _Moments:
    mean = _as_shape(path, name, shape, arrays[name])
    spread, count = arrays.get(f"spread/{name}"), arrays.get(f"count/{name}")
    if spread is None and count is None:
        return _Moments(0, mean, None)
    if spread is None or count is None or count.shape != () or count < 1:
        raise ModelError(f"{path}: {name} needs both a spread and a count of at least 1 beside its mean")
    return _Moments(int(count), mean, _as_shape(path, f"spread/{name}", shape, spread) ** 2 * int(count))


def _as_shape(path: str | Path, name: str, shape: tuple[int, ...], array: Any) -> np.ndarray:
    try:
        values = np.asarray(array, dtype=np.float64).reshape(shape)
    except (TypeError, ValueError):
        raise ModelError(f"{path}: {name}: expected numbers of shape {shape}, found {np.shape(array)}") from None
    if not np.isfinite(values).all():
        raise ModelError(f"{path}: {name}: holds values that are not finite")
    return values


def import_reference_statistics(path: str | Path) -> DatasetStatistics:
    """Averages from a ``.npy`` of the reference implementation, such as the published ``features_MUSDB18.npy``.

    Such a file is a pickle of nested dictionaries of arrays. Only arrays, numbers and plain containers are admitted;
    a pickle that asks for anything else is refused before it is called.

    Raises:
        ModelError: the file is missing or of another kind, asks for more than arrays, or lacks an effect or stem.
    """
    content = read_array_pickle(path)
    statistics = DatasetStatistics()
    for effect, names in _REFERENCE_NAMES.items():
        stems = next((content[name] for name in names if name in content), None)
        if not isinstance(stems, dict):
            raise ModelError(f"{path}: expected a dictionary of stems under {' or '.join(names)}")
        for stem in STEMS:
            if stem not in stems:
                raise ModelError(f"{path}: {effect}: no {stem}")
            mean = _as_shape(path, f"{effect}/{stem}", SHAPES[effect], stems[stem])
            statistics._moments[effect, stem] = _Moments(0, mean, None)
    return statistics


def plot_normalization(
    statistics: DatasetStatistics,
    before: Mapping[str, np.ndarray],
    after: Mapping[str, np.ndarray],
    sample_rate: int,
    path: str | Path,
) -> None:
    """Draw what one song's stems measured before and after normalization, beside the targets, into an image file.

    Args:
        statistics: the targets.
        before: stems as they came, by name, (channels, samples).
        after: the same stems normalized.
        sample_rate: Hz, must be 44,100.
        path: the image; its suffix says the format.
    """
    # as in DatasetStatistics.plot
    from fxnorm.effect_plots import plot_song

    plot_song(statistics, before, after, sample_rate, Path(path))

"""Statistics of a wet dataset: mean, spread and count of every effect's feature, per stem; and the mean spectrum and
loudness of its mixtures.

The means are the targets of effect normalization (Martínez-Ramírez et al., "Automatic music mixing with deep learning
and out-of-domain data", ISMIR 2022, section 3).
"""

import functools
import itertools
import math
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fxnorm.constants import MIXTURE, STEMS
from fxnorm.effects import spectrum
from fxnorm.effects.features import EFFECTS, SHAPES, Features
from fxnorm.errors import DatasetError, ModelError
from fxnorm.io.bounded import read_npz
from fxnorm.io.files import whole_file

_EQUALIZATION_SMOOTHING = {"vocals": 401, "bass": 151, "drums": 151, "other": 401}  # bins
_PANNING_SMOOTHING = 501  # bins
_OF_MIXTURES = (("equalization", MIXTURE), ("loudness", MIXTURE))
_KEYS = (*itertools.product(EFFECTS, STEMS), *_OF_MIXTURES)
"""What statistics may hold. The mixtures' spectrum and loudness are no targets of normalization: mixes are compared
with the one, and delivered at the other."""

_STEPS_PER_UNIT = 2**29
"""Features are counted in whole steps of 2e-9, because sums of whole numbers do not depend on their order."""
_LARGEST = 2**46  # steps, which is 131,072 units: more than any audio within full scale measures
_HALF_BITS = 23  # steps are squared in two halves
_SONGS_OF_ONE_NUMBER = 2**16
"""Up to so many songs, no sum can overflow 64 bits; of more, each is kept in two numbers."""
_LIMB_BITS = 32
_MOST_SONGS = 2**40  # whose sums cannot overflow two numbers


@dataclass(frozen=True)
class _Sums:
    """Features of some songs added up.

    Attributes:
        count: of songs.
        totals: int64 (4, ...): the sums of steps, and of the high halves' squares, the products of high and low halves,
            and the low halves' squares, of which squares of steps consist. Of more than 65,536 songs it is
            (2, 4, ...): the sums divided by 2**32, rounded down, and what is left of each, from 0 to 2**32 - 1.
    """

    count: int
    totals: np.ndarray

    @classmethod
    def of_song(cls, feature: np.ndarray) -> "_Sums":
        steps = np.rint(feature * _STEPS_PER_UNIT).astype(np.int64)
        high, low = steps >> _HALF_BITS, steps & (2**_HALF_BITS - 1)
        return cls(1, np.stack([steps, high * high, high * low, low * low]))

    @staticmethod
    def shape_of(count: int, feature: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the sums of ``count`` songs' features of a shape."""
        return (4, *feature) if count <= _SONGS_OF_ONE_NUMBER else (2, 4, *feature)

    def merged(self, other: "_Sums") -> "_Sums":
        count = self.count + other.count
        if count <= _SONGS_OF_ONE_NUMBER:
            return _Sums(count, self.totals + other.totals)
        high, low = self._limbs() + other._limbs()
        return _Sums(count, np.stack([high + (low >> _LIMB_BITS), low & (2**_LIMB_BITS - 1)]))

    def within_bounds(self) -> bool:
        """Whether songs can have these sums: what is merged with them would overflow else."""
        largest = self.count * _LARGEST
        if self.count <= _SONGS_OF_ONE_NUMBER:
            return bool((self.totals <= largest).all() and (self.totals >= -largest).all())
        high, low = self.totals
        within = (high <= largest >> _LIMB_BITS).all() and (high >= -largest >> _LIMB_BITS).all()
        return bool(within and (low >= 0).all() and (low < 2**_LIMB_BITS).all())

    def _limbs(self) -> np.ndarray:
        if self.count > _SONGS_OF_ONE_NUMBER:
            return self.totals
        return np.stack([self.totals >> _LIMB_BITS, self.totals & (2**_LIMB_BITS - 1)])

    def _exact(self) -> np.ndarray:
        """The sums as unbounded integers (4, ...)."""
        if self.count <= _SONGS_OF_ONE_NUMBER:
            return self.totals.astype(object)
        high, low = self.totals.astype(object)
        return np.asarray((high << _LIMB_BITS) + low, dtype=object)

    @property
    def mean(self) -> np.ndarray:
        if self.count <= _SONGS_OF_ONE_NUMBER:
            return np.asarray(self.totals[0] / (self.count * _STEPS_PER_UNIT))
        return np.asarray(self._exact()[0] / (self.count * _STEPS_PER_UNIT), dtype=np.float64)

    @functools.cached_property
    def standard_deviation(self) -> np.ndarray:
        # unbounded integers, since the difference of the two is far smaller than they are
        total, high, mixed, low = self._exact()
        squares = (high << 2 * _HALF_BITS) + (mixed << _HALF_BITS + 1) + low
        variance = np.asarray(self.count * squares - total * total, dtype=np.float64)
        return np.asarray(np.sqrt(variance) / (self.count * _STEPS_PER_UNIT))


class DatasetStatistics:
    """Mean, standard deviation and count of every effect's feature, per stem, over the songs added so far."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], _Sums] = {}
        self._averages: dict[tuple[str, str], np.ndarray] = {}
        """Means without spread and count, as in a file of published averages."""

    def add(self, stem: str, features: Mapping[str, np.ndarray | float]) -> None:
        """Count in what :func:`fxnorm.statistics.measure_stem` found for one stem of one song.

        Raises:
            DatasetError: an unknown effect or stem, or a feature of another shape or beyond all bounds.
        """
        for effect, feature in features.items():
            value = np.asarray(feature, dtype=np.float64)
            if (effect, stem) not in _KEYS:
                raise DatasetError(f"statistics: unknown {effect}/{stem}; expected a name like equalization/vocals")
            if value.shape != SHAPES[effect] or not (np.abs(value) < _LARGEST / _STEPS_PER_UNIT).all():
                raise DatasetError(f"statistics: {effect}/{stem}: expected finite numbers of shape {SHAPES[effect]}")
            self._add((effect, stem), _Sums.of_song(value))

    def merge(self, other: "DatasetStatistics") -> None:
        """Count in the songs of ``other``; in what order and parts songs come together makes no difference at all.

        Raises:
            DatasetError: one of the two holds averages alone, or there are more than 2**40 songs.
        """
        if self._averages or other._averages:
            raise DatasetError("statistics without spread and count, such as published averages, cannot be merged")
        for key, sums in other._sums.items():
            self._add(key, sums)

    @classmethod
    def of_averages(cls, averages: Mapping[tuple[str, str], np.ndarray]) -> "DatasetStatistics":
        """Statistics of means by (effect, stem) alone, without spread and count, as the published ones."""
        statistics = cls()
        statistics._averages.update(averages)
        return statistics

    def _add(self, key: tuple[str, str], sums: _Sums) -> None:
        added_before = self._sums.get(key)
        if added_before is not None and added_before.count + sums.count > _MOST_SONGS:
            raise DatasetError(f"statistics: more than {_MOST_SONGS} songs")
        self._sums[key] = added_before.merged(sums) if added_before else sums

    def __contains__(self, key: tuple[str, str]) -> bool:
        """Whether there are statistics of an (effect, stem)."""
        return key in self._sums or key in self._averages

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """The (effect, stem) pairs that there are statistics of, always in the same order."""
        return iter([key for key in _KEYS if key in self])

    def count(self, effect: str, stem: str) -> int:
        """Number of songs behind the mean; 0 if that is not known.

        Raises:
            DatasetError: no song had this effect and stem.
        """
        self._require(effect, stem)
        return self._sums[effect, stem].count if (effect, stem) in self._sums else 0

    def mean(self, effect: str, stem: str) -> np.ndarray:
        """Mean feature over songs, float64, as measured: not smoothed.

        Raises:
            DatasetError: no song had this effect and stem.
        """
        self._require(effect, stem)
        sums = self._sums.get((effect, stem))
        return self._averages[effect, stem] if sums is None else sums.mean

    def standard_deviation(self, effect: str, stem: str) -> np.ndarray:
        """Standard deviation of the feature over songs, float64.

        Raises:
            DatasetError: no song had this effect and stem, or only averages are known.
        """
        self._require(effect, stem)
        if (effect, stem) not in self._sums:
            raise DatasetError(f"statistics: the spread of {effect}/{stem} is not known, only its average")
        return self._sums[effect, stem].standard_deviation

    def _require(self, effect: str, stem: str) -> None:
        if (effect, stem) not in self:
            raise DatasetError(f"statistics: no {effect}/{stem}; no song of the dataset has it")

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
            other: statistics of other songs, or what :func:`fxnorm.statistics.measure_stem` found for the stems of one
                song, by name.

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
        """Write an npz; the same songs, in whatever order and parts they came, give the same bytes.

        Its keys are ``equalization/vocals`` and so on for the means, and with ``spread/``, ``count/`` and ``sums/``
        before them for standard deviations, numbers of songs, and the exact sums that parts are merged from.
        """
        arrays: dict[str, np.ndarray] = {}
        for effect, stem in self:
            arrays[f"{effect}/{stem}"] = self.mean(effect, stem)
            if sums := self._sums.get((effect, stem)):
                arrays[f"spread/{effect}/{stem}"] = sums.standard_deviation
                arrays[f"count/{effect}/{stem}"] = np.array(sums.count)
                arrays[f"sums/{effect}/{stem}"] = sums.totals
        with (
            whole_file(Path(path)) as temporary,
            zipfile.ZipFile(
                # NumPy's own savez_compressed takes five times as long, for a file that is a twentieth smaller
                temporary,
                "w",
                zipfile.ZIP_DEFLATED,
                compresslevel=1,
            ) as archive,
        ):
            for name, values in arrays.items():
                with archive.open(f"{name}.npy", "w") as file:
                    np.lib.format.write_array(file, values, allow_pickle=False)

    @classmethod
    def load(cls, path: str | Path, part: bool = False) -> "DatasetStatistics":
        """Read what :meth:`save` wrote, or an npz of averages alone; nothing in it is unpickled.

        Args:
            path: the ``.npz`` file.
            part: whether it is the part of a shard, which may have no song in it.

        Raises:
            ModelError: the file is missing or no npz, or a key is unknown, missing or of another shape.
        """
        statistics = cls()
        arrays = _read_npz(path)
        for effect, stem in _KEYS:
            name = f"{effect}/{stem}"
            if name in arrays:
                average = as_shape(path, name, SHAPES[effect], arrays[name])
                if sums := _stored_sums(path, name, average, arrays):
                    statistics._sums[effect, stem] = sums
                else:
                    statistics._averages[effect, stem] = average
        known_keys = {f"{part}{effect}/{stem}" for part in ("", *_PARTS) for effect, stem in statistics}
        if (not known_keys and not part) or set(arrays) - known_keys:
            unknown = ", ".join(sorted(set(arrays) - known_keys)) or "none"
            raise ModelError(f"{path}: expected keys like equalization/vocals, found beside these: {unknown}")
        return statistics


_PARTS = ("spread/", "count/", "sums/")


def _read_npz(path: str | Path) -> dict[str, np.ndarray]:
    most = {}
    for effect, stem in _KEYS:
        numbers = math.prod(SHAPES[effect])
        for part, times in (("", 1), ("spread/", 1), ("count/", 1), ("sums/", 8)):
            most[f"{part}{effect}/{stem}"] = times * numbers
    try:
        return read_npz(path, most)
    except (OSError, ValueError) as error:
        detail = f"expected an npz file with keys like equalization/vocals ({error})"
        raise ModelError(f"{path}: not readable as statistics, {detail}") from error


def _stored_sums(path: str | Path, name: str, mean: np.ndarray, arrays: dict[str, np.ndarray]) -> _Sums | None:
    """The sums behind a mean, if the file holds more than averages."""
    parts = [arrays.get(f"{part}{name}") for part in _PARTS]
    if all(part is None for part in parts):
        return None
    _, count, totals = parts
    if any(part is None for part in parts) or count is None or totals is None:
        raise ModelError(f"{path}: {name} needs a spread, a count and sums beside its mean, or none of them")
    if count.shape != () or count.dtype != np.int64 or not 1 <= count <= _MOST_SONGS:
        raise ModelError(f"{path}: count/{name}: expected a whole number from 1 to {_MOST_SONGS}")
    shape = _Sums.shape_of(int(count), mean.shape)
    if totals.shape != shape or totals.dtype != np.int64:
        raise ModelError(f"{path}: sums/{name}: expected whole numbers of shape {shape}")
    sums = _Sums(int(count), totals)
    if not sums.within_bounds():
        raise ModelError(f"{path}: sums/{name}: more than {count} songs can have together")
    if not np.allclose(sums.mean, mean, rtol=1e-12, atol=0):
        raise ModelError(f"{path}: {name}: is not the mean of its sums")
    return sums


def as_shape(path: str | Path, name: str, shape: tuple[int, ...], array: Any) -> np.ndarray:
    """Finite float64 numbers of a shape, out of what a file holds under a name.

    Raises:
        ModelError: it holds something else.
    """
    try:
        values = np.asarray(array, dtype=np.float64).reshape(shape)
    except (TypeError, ValueError):
        raise ModelError(f"{path}: {name}: expected numbers of shape {shape}, found {np.shape(array)}") from None
    if not np.isfinite(values).all():
        raise ModelError(f"{path}: {name}: holds values that are not finite")
    return values

"""The metrics of mixing systems over the songs of a split, with their statistics; and one Mixer measured by itself."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fxnorm.errors import DatasetError
from fxnorm.evaluation import significance
from fxnorm.evaluation.catalogue import COMPARED, METRICS, REFERENCE, SUMS, rivals
from fxnorm.evaluation.datasets import songs_of
from fxnorm.evaluation.reference_free import BALANCE
from fxnorm.evaluation.songs import MetricsBySystem, distances, finite, nearest_references, read_references
from fxnorm.io import audio
from fxnorm.mixing.mixer import Mixer
from fxnorm.normalization.recipe import song_seed

_FEWEST_SONGS = 3


@dataclass
class SplitMetrics:
    """Every metric of every song and system of one split."""

    songs: dict[str, MetricsBySystem] = field(default_factory=dict)
    """song -> system -> metric -> value"""
    references: dict[str, dict[str, str]] = field(default_factory=dict)
    """song -> system -> which reference mix it was compared with; only songs that have several"""
    features: dict[str, MetricsBySystem] = field(default_factory=dict)
    """song -> system -> what its mix is like, by :func:`fxnorm.evaluation.reference_free.features`"""

    def values(self) -> dict[str, dict[str, list[float]]]:
        """system -> metric -> values of the songs that have it.

        A distance from the reference counts on songs alone on which every system has it: a mix that is silent, and has
        none in loudness, would else better the mean of its system.
        """
        values: dict[str, dict[str, list[float]]] = {}
        for systems in self.songs.values():
            for system, metrics in systems.items():
                by_metric = values.setdefault(system, {})
                for metric, value in metrics.items():
                    others = [other for name, other in systems.items() if name != REFERENCE]
                    if metric not in COMPARED or all(metric in other for other in others):
                        by_metric.setdefault(metric, []).append(value)
        return values

    def means(self) -> MetricsBySystem:
        """system -> metric -> mean over the songs that have it; of all songs together, :data:`DISTRIBUTED`."""
        means = {
            system: {metric: float(np.mean(measured)) for metric, measured in metrics.items()}
            for system, metrics in self.values().items()
        }
        for system, distance in feature_distances(list(self.features.values())).items():
            means[system]["feature_distance"] = distance
        return means

    def intervals(self) -> dict[str, dict[str, tuple[float, float] | None]]:
        """system -> metric -> confidence interval of the mean, if there is one."""
        return {
            system: {metric: significance.interval(measured) for metric, measured in metrics.items()}
            for system, metrics in self.values().items()
        }

    def pairs(self) -> dict[str, list[significance.PairedTest]]:
        """metric -> the tests between all systems that can differ in it."""
        tests = {}
        compared = rivals(self.means())
        for metric in COMPARED:
            values: dict[str, dict[str, float]] = {}
            for song, systems in self.songs.items():
                for system in compared:
                    if metric in systems[system] and not (METRICS[metric].sums_match and system in SUMS):
                        values.setdefault(system, {})[song] = systems[system][metric]
            if len(values) > 1:
                tests[metric] = significance.compare_pairs(values)
        return tests


def feature_distances(songs: Sequence[MetricsBySystem]) -> dict[str, float]:
    """How far a system's mixes are from the reference mixes as two collections, whichever song each mix is of.

    The Wasserstein distance (of order 1) between a feature's values of the mixes and of the references, in standard
    deviations of the references. The levels in thirds of an octave count together as much as each other feature. Even
    two collections of the same kind are not at 0 as long as they are few.

    Args:
        songs: for each song, by system, what :func:`fxnorm.evaluation.reference_free.features` gives; those without a
            reference mix are left out.

    Returns:
        by system; empty for fewer than three songs with a reference mix.
    """
    import scipy.stats  # a second, which a registration need not wait for

    songs = [systems for systems in songs if REFERENCE in systems]
    if len(songs) < _FEWEST_SONGS:
        return {}
    values: dict[str, dict[str, list[float]]] = {}
    for systems in songs:
        for system, found in systems.items():
            for name, value in found.items():
                values.setdefault(system, {}).setdefault(name, []).append(value)
    references = values.pop(REFERENCE)
    spreads = {
        name: float(np.std(of_references, ddof=1))
        for name, of_references in references.items()
        if len(of_references) > 1
    }
    distances = {}
    for system, by_name in values.items():
        by_family: dict[str, list[float]] = {}
        for name, spread in spreads.items():
            if spread > 0 and name in by_name:
                distance = scipy.stats.wasserstein_distance(by_name[name], references[name]) / spread
                by_family.setdefault(BALANCE if name.startswith(BALANCE) else name, []).append(distance)
        if by_family:
            distances[system] = float(np.mean([np.mean(family) for family in by_family.values()]))
    return distances


def measure(mixer: Mixer, data: Path, split: str, name: str) -> dict[str, dict[str, float]]:
    """The metrics of a Mixer alone, as an evaluation has them: by song.

    Args:
        mixer: the Mixer.
        data: a folder with ``wet`` and ``dry`` datasets (either may be missing), or one wet dataset.
        split: the setting ``evaluate.split``.
        name: ``test_wet`` or ``test_dry``.

    Raises:
        DatasetError: ``data`` has no such songs, or none with a reference mix.
    """
    songs = [song for song in songs_of(data, split, name) if song.references]
    if not songs:
        raise DatasetError(f"{data}: expected songs of {name} with a reference mix, found none")
    metrics = {}
    for song in tqdm(songs, desc="evaluate the champion", unit="song", dynamic_ncols=True):
        seed = song_seed(mixer.recipe.settings.seed, song.name)
        normalized = mixer.normalize(song.read_stems(), name.endswith("dry"), seed)
        mix = finite(mixer.mix_normalized(normalized), "the champion", str(song.folder))
        references = read_references(song)
        length = max(audible.shape[1] for audible in (mix, *references.values()))
        mixes = {name: audio.pad_to(mix, length)}
        references = {name: audio.pad_to(reference, length) for name, reference in references.items()}
        nearest = nearest_references(mixes, references)[name] if len(references) > 1 else next(iter(references))
        metrics[song.name] = distances(mixes, references[nearest])[name]
    return metrics

"""The metrics of mixing systems over the songs of a split, with their statistics; and one Mixer measured by itself."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fxnorm.errors import DatasetError
from fxnorm.evaluation import significance
from fxnorm.evaluation.catalogue import COMPARED, METRICS, REFERENCE, SUMS, rivals
from fxnorm.evaluation.datasets import songs_of
from fxnorm.evaluation.songs import MetricsBySystem, distances, finite, nearest_references, read_references
from fxnorm.io import audio
from fxnorm.mixing.mixer import Mixer
from fxnorm.normalization.recipe import song_seed


@dataclass
class SplitMetrics:
    """Every metric of every song and system of one split."""

    songs: dict[str, MetricsBySystem] = field(default_factory=dict)
    """song -> system -> metric -> value"""
    references: dict[str, dict[str, str]] = field(default_factory=dict)
    """song -> system -> which reference mix it was compared with; only songs that have several"""

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
        """system -> metric -> mean over the songs that have it."""
        return {
            system: {metric: float(np.mean(measured)) for metric, measured in metrics.items()}
            for system, metrics in self.values().items()
        }

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


def measure(mixer: Mixer, data: Path, split: str, name: str) -> dict[str, float]:
    """The metrics of a Mixer alone, as an evaluation has them: means over the songs.

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
    metrics = SplitMetrics()
    for song in tqdm(songs, desc="evaluate the champion", unit="song", dynamic_ncols=True):
        seed = song_seed(mixer.recipe.settings.seed, song.name)
        normalized = mixer.normalize(song.read_stems(), name.endswith("dry"), seed)
        mix = finite(mixer.mix_normalized(normalized), "the champion", str(song.folder))
        references = read_references(song)
        length = max(audible.shape[1] for audible in (mix, *references.values()))
        mixes = {name: audio.pad_to(mix, length)}
        references = {name: audio.pad_to(reference, length) for name, reference in references.items()}
        nearest = nearest_references(mixes, references)[name] if len(references) > 1 else next(iter(references))
        metrics.songs[song.name] = distances(mixes, references[nearest])
    return metrics.means()[name]

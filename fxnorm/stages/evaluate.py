"""Stage 4: the network's mixes of unseen songs against the reference mixes, beside two sums that anyone could make."""

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from fxnorm import audio, dataset
from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.dataset import Song
from fxnorm.effects import loudness
from fxnorm.errors import DatasetError
from fxnorm.evaluation import compare_mixes, plots, report
from fxnorm.files import whole_file, whole_folder, write_json
from fxnorm.losses import StereoLoss
from fxnorm.mixer import Mixer
from fxnorm.recipe import song_seed
from fxnorm.settings import SECTIONS, Settings
from fxnorm.tracking import DESCRIPTION_TAG, run_of
from fxnorm.versions import data_version

METRICS_FILE, TABLE_FILE, REPORT_FILE = "metrics.json", "songs.csv", "report.html"
TEST_DATA_FILE = "test_data.json"
RUN_FOLDER = "evaluation"
"""Of the run's artifacts."""
REFERENCE, INPUT_SUM, NORMALIZED_SUM = "reference", "input_sum", "normalized_sum"
_FAMILIES = ("loudness", "spectral", "panning", "dynamic")
_LISTENING_PEAK = 0.99

Metrics = dict[str, dict[str, dict[str, float]]]
"""split -> system -> metric -> value"""

Versions = dict[str, dict[str, str]]
"""split -> what is known of the version of its songs"""


@dataclass
class Comparison:
    """What was measured and kept of one split."""

    songs: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    """song -> system -> metric -> value"""

    def means(self) -> dict[str, dict[str, float]]:
        """system -> metric -> mean over the songs that have it."""
        values: dict[str, dict[str, list[float]]] = {}
        for systems in self.songs.values():
            for system, metrics in systems.items():
                found = values.setdefault(system, {})
                for metric, value in metrics.items():
                    found.setdefault(metric, []).append(value)
        return {
            system: {metric: float(np.mean(measured)) for metric, measured in metrics.items()}
            for system, metrics in values.items()
        }


def run(settings: Settings, mixer_folder: Path, data: Path, output: Path) -> list[str]:
    """Mix the test songs, compare, and write metrics, tables, plots, mixes and the report.

    Args:
        settings: of all stages; the split to test on is ``evaluate.split``.
        mixer_folder: what stage 3 wrote.
        data: a folder with ``wet`` and ``dry`` datasets (either may be missing), or one wet dataset.
        output: the folder for ``metrics.json``, ``songs.csv``, ``report.html``, ``plots`` and ``mixes``.

    Returns:
        a sentence on each split: who is better, with the numbers.
    """
    mixer = Mixer.load(mixer_folder)
    splits = _splits(data, settings.evaluate.split)
    comparisons = {name: Comparison() for name in splits}
    output.mkdir(parents=True, exist_ok=True)
    total = sum(len(songs) for songs in splits.values())
    with (
        whole_folder(output / "mixes") as mixes,
        whole_folder(output / "plots") as pictures,
        tqdm(total=total, desc="evaluate", unit="song", dynamic_ncols=True) as bar,
    ):
        for split, songs in splits.items():
            for song in songs:
                bar.set_postfix_str(song.name)
                comparisons[split].songs[song.name] = _evaluate_song(
                    mixer, song, split.endswith("dry"), mixes / split / song.name, pictures / split / song.name
                )
                bar.update()
        metrics = {split: comparison.means() for split, comparison in comparisons.items()}
        for split, systems in metrics.items():
            if not any(systems.values()):
                continue  # no song of the split has a reference mix
            plots.plot_metrics(systems, pictures / f"{split}.png")
    versions = {split: data_version(data, songs) for split, songs in splits.items()}
    write_json(output / METRICS_FILE, metrics)
    write_json(output / TEST_DATA_FILE, versions)
    _write_table(comparisons, output / TABLE_FILE)
    report.write(
        output / REPORT_FILE,
        {split: comparison.songs for split, comparison in comparisons.items()},
        metrics,
        {**settings.flat(*SECTIONS), **flat_versions(versions)},
    )
    verdicts = [report.verdict(split, systems, comparisons[split].songs) for split, systems in metrics.items()]
    with run_of(mixer_folder, "evaluation") as tracked:
        description = {DESCRIPTION_TAG: "\n".join(f"- {verdict}" for verdict in verdicts)}
        tracked.set_tags(flat_versions(versions) | description)
        for split, version in versions.items():
            tracked.add_dataset(split, version, "evaluation")
        tracked.log(0, flat(metrics))
        for folder in ("mixes", "plots"):
            tracked.add_folder(output / folder, f"{RUN_FOLDER}/{folder}")
        for file in (METRICS_FILE, TEST_DATA_FILE, TABLE_FILE, REPORT_FILE):
            tracked.add_file(output / file, RUN_FOLDER)
        tracked.add_table(f"{RUN_FOLDER}/songs.json", _table(comparisons, settings.register_.metric))
    return verdicts


def measure(mixer: Mixer, data: Path, split: str, name: str) -> dict[str, float]:
    """The metrics of a Mixer alone, as :func:`run` has them: means over the songs.

    Args:
        mixer: the Mixer.
        data: as for :func:`run`.
        split: the setting ``evaluate.split``.
        name: ``test_wet`` or ``test_dry``.

    Raises:
        DatasetError: ``data`` has no such songs, or none with a reference mix.
    """
    songs = [song for song in songs_of(data, split, name) if song.mixture]
    if not songs:
        raise DatasetError(f"{data}: expected songs of {name} with a reference mix, found none")
    comparison = Comparison()
    for song in tqdm(songs, desc="evaluate the champion", unit="song", dynamic_ncols=True):
        mix, reference = _mix(mixer, song, name.endswith("dry")), song.read_mixture()
        length = max(mix.shape[1], reference.shape[1])
        pair = audio.pad_to(mix, length), audio.pad_to(reference, length)
        comparison.songs[song.name] = {name: _metrics(*pair)}
    return comparison.means()[name]


def songs_of(data: Path, split: str, name: str) -> list[Song]:
    """The songs of ``test_wet`` or ``test_dry``.

    Raises:
        DatasetError: ``data`` has none.
    """
    splits = _splits(data, split)
    if name not in splits:
        raise DatasetError(f"{data}: expected songs of {name}, found {', '.join(splits)}")
    return splits[name]


def read_metrics(report: Path) -> Metrics:
    """What :func:`run` left in ``metrics.json``.

    Raises:
        DatasetError: there is no such file.
    """
    metrics: Metrics = _read(report / METRICS_FILE)
    return metrics


def read_test_data(report: Path) -> Versions:
    """Which songs :func:`run` measured on, from ``test_data.json``.

    Raises:
        DatasetError: there is no such file.
    """
    versions: Versions = _read(report / TEST_DATA_FILE)
    return versions


def flat(metrics: Metrics) -> dict[str, float]:
    """Under the names that experiment trackers show: ``split.system.metric``."""
    return {
        f"{split}.{system}.{metric}": value
        for split, systems in metrics.items()
        for system, found in systems.items()
        for metric, value in found.items()
    }


def flat_versions(versions: Versions) -> dict[str, str]:
    """The songs' hashes under the names of their splits, and DVC's, which stands for all of the data."""
    tracked = {version["dvc"] for version in versions.values() if "dvc" in version}
    together = {"test_data.dvc": ", ".join(sorted(tracked))} if tracked else {}
    return {f"{split}.digest": version["digest"] for split, version in versions.items()} | together


def _read(file: Path) -> Any:
    if not file.is_file():
        raise DatasetError(f"{file}: no such file; 'fxnorm evaluate' writes it")
    return json.loads(file.read_text(encoding="utf-8"))


def _splits(data: Path, split: str) -> dict[str, list[Song]]:
    """``test_wet`` and ``test_dry``, as far as they are there."""
    kinds = [kind for kind in ("wet", "dry") if (data / kind).is_dir()]
    if not kinds:
        return {"test_wet": dataset.songs(data, split)}
    return {f"test_{kind}": dataset.songs(data / kind, split) for kind in kinds}


def _evaluate_song(mixer: Mixer, song: Song, dry: bool, mixes: Path, pictures: Path) -> dict[str, dict[str, float]]:
    """Metrics of each system, none where the song has no reference mix; mixes and pictures are written on the way."""
    reference = song.read_mixture() if song.mixture else None
    systems = _mix_all(mixer, song, dry, reference)
    together = systems if reference is None else {REFERENCE: reference, **systems}
    length = max(mix.shape[1] for mix in together.values())
    together = {name: audio.pad_to(mix, length) for name, mix in together.items()}
    _write_mixes(together, mixes)
    pictures.mkdir(parents=True)
    plots.plot_spectra(together, SAMPLE_RATE, pictures / "spectra.png")
    plots.plot_panning(together, SAMPLE_RATE, pictures / "panning.png")
    plots.plot_loudness(together, SAMPLE_RATE, pictures / "loudness.png")
    plots.plot_waveforms(together, SAMPLE_RATE, pictures / "waveforms.png")
    if reference is None:
        return {name: {} for name in systems}
    return {name: _metrics(together[name], together[REFERENCE]) for name in systems}


def _mix_all(mixer: Mixer, song: Song, dry: bool, reference: np.ndarray | None) -> dict[str, np.ndarray]:
    """The network's mix, and both sums at the loudness of the reference mix (of the network's, if there is none)."""
    stems = song.read_stems()
    normalized = mixer.normalize(stems, dry, song_seed(mixer.recipe.settings.seed, song.name))
    mix = mixer.mix_normalized(normalized)
    target = loudness.measure(mix if reference is None else reference, SAMPLE_RATE)
    return {
        INPUT_SUM: _at_loudness(_sum(stems), target),
        NORMALIZED_SUM: _at_loudness(normalized.reshape(len(STEMS), 2, -1).sum(axis=0), target),
        str(mixer.network.config["name"]): mix,
    }


def _mix(mixer: Mixer, song: Song, dry: bool) -> np.ndarray:
    seed = song_seed(mixer.recipe.settings.seed, song.name)
    return mixer.mix_normalized(mixer.normalize(song.read_stems(), dry, seed))


def _sum(stems: dict[str, np.ndarray]) -> np.ndarray:
    length = max(stem.shape[1] for stem in stems.values())
    return np.sum([audio.pad_to(audio.to_stereo(stem), length) for stem in stems.values()], axis=0)


def _at_loudness(mix: np.ndarray, target: float) -> np.ndarray:
    """Only scaled: a baseline that had to be limited to reach the level would lose by the limiting."""
    return mix * np.float32(10 ** ((target - loudness.measure(mix, SAMPLE_RATE)) / 20))


def _metrics(mix: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    pair = [torch.from_numpy(np.ascontiguousarray(signal))[None] for signal in (mix, reference)]
    families = compare_mixes(mix, reference, SAMPLE_RATE)
    errors = {f"{family}_mape": families[family]["mape_mean"] for family in _FAMILIES}
    return {
        "stereo_loss_a": float(StereoLoss("a")(*pair)),
        "stereo_loss_b": float(StereoLoss("b")(*pair)),
        **{name: value for name, value in errors.items() if value is not None},  # None: the reference has no such thing
    }


def _write_mixes(mixes: dict[str, np.ndarray], folder: Path) -> None:
    """16-bit FLAC files; a song's mixes are turned down together where one would clip."""
    peak = max(float(np.abs(mix).max()) for mix in mixes.values())
    gain = np.float32(min(1.0, _LISTENING_PEAK / peak)) if peak else np.float32(1.0)
    for name, mix in mixes.items():
        audio.write(folder / f"{name}.flac", mix * gain, subtype="PCM_16")


def _table(comparisons: dict[str, Comparison], first: str) -> list[dict[str, Any]]:
    """One row a song, under which MLflow's pages put runs side by side; the columns of the metric ``first`` first.

    A column's name has no dot, because those pages take what follows one for a part of the value.
    """
    rows = []
    for split, comparison in comparisons.items():
        for song, systems in comparison.songs.items():
            names = {metric: None for metrics in systems.values() for metric in metrics}
            cells = {
                f"{system} {metric}": metrics[metric]
                for metric in sorted(names, key=lambda name: name != first)
                for system, metrics in reversed(systems.items())  # the network stands last
                if metric in metrics
            }
            rows.append({"song": f"{split}/{song}", **cells})
    return rows


def _write_table(comparisons: dict[str, Comparison], path: Path) -> None:
    with whole_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["split", "song", "system", "metric", "value"])
        for split, comparison in comparisons.items():
            for song, systems in comparison.songs.items():
                for system, metrics in systems.items():
                    writer.writerows([split, song, system, metric, value] for metric, value in metrics.items())

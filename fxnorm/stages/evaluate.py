"""Stage 4: the mixes of one network, or several, of unseen songs against the reference mixes and two plain sums."""

import contextlib
import csv
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, TypeAdapter, ValidationError
from tqdm import tqdm

from fxnorm import __version__, audio, dataset, locks, outputs, registry
from fxnorm.dataset import Song
from fxnorm.errors import DatasetError, FxnormError, SettingsError, printable
from fxnorm.evaluation import plots, report, significance
from fxnorm.evaluation.catalogue import COMPARED, METRICS, REFERENCE, SUMS, present
from fxnorm.evaluation.excerpts import affordable_seconds
from fxnorm.evaluation.songs import MIXES, PICTURES, Result, SystemMetrics, Task, distances, evaluate, finite
from fxnorm.files import copy_file, whole_file, whole_folder, write_json
from fxnorm.folders import entries
from fxnorm.mixer import Mixer
from fxnorm.mixer_digest import mixer_digest
from fxnorm.models.device import default_device
from fxnorm.names import SONG_FILE, address_part, addresses, check_text
from fxnorm.parallel import map_songs
from fxnorm.recipe import song_seed
from fxnorm.settings import SECTIONS, Settings
from fxnorm.splits import refuse_tested_before
from fxnorm.tracking import DESCRIPTION_TAG, RUN_FILE, TrackedRun, run_of
from fxnorm.versions import code_digest, code_version, data_version

METRICS_FILE, TABLE_FILE, REPORT_FILE = "metrics.json", "songs.csv", "report.html"
TEST_DATA_FILE, SIGNIFICANCE_FILE, MIXER_FILE = "test_data.json", "significance.json", "evaluated_mixer.json"
RUN_FOLDER = "evaluation"
"""Of the run's artifacts."""
_FINISHED = ".songs"
_SYSTEM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_COLUMNS = ("split", "song", "system", "metric", "value")
_WORKERS_OF_A_DEVICE = 2  # one song is measured while the next is mixed

Metrics = dict[str, dict[str, dict[str, float]]]
"""split -> system -> metric -> value"""

Versions = dict[str, dict[str, str]]
"""split -> what is known of the version of its songs"""


class _EvaluatedMixer(BaseModel):
    digest: str
    verdicts: list[str] = []
    code: str | None = None


_EVALUATED_MIXER = TypeAdapter(_EvaluatedMixer)
_METRICS, _VERSIONS = TypeAdapter(Metrics), TypeAdapter(Versions)
_Content = TypeVar("_Content")


@dataclass
class Comparison:
    """What was measured and kept of one split."""

    songs: dict[str, SystemMetrics] = field(default_factory=dict)
    """song -> system -> metric -> value"""

    def values(self) -> dict[str, dict[str, list[float]]]:
        """system -> metric -> values of the songs that have it.

        A distance from the reference counts on songs alone on which every system has it: a mix that is silent, and has
        none in loudness, would else better the mean of its system.
        """
        values: dict[str, dict[str, list[float]]] = {}
        for systems in self.songs.values():
            for system, metrics in systems.items():
                found = values.setdefault(system, {})
                for metric, value in metrics.items():
                    others = [other for name, other in systems.items() if name != REFERENCE]
                    if metric not in COMPARED or all(metric in other for other in others):
                        found.setdefault(metric, []).append(value)
        return values

    def means(self) -> SystemMetrics:
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

    def pairs(self) -> dict[str, list[significance.Comparison]]:
        """metric -> the tests between all systems that can differ in it."""
        tests = {}
        rivals = report.rivals(self.means())
        for metric in COMPARED:
            values: dict[str, dict[str, float]] = {}
            for song, systems in self.songs.items():
                for system in rivals:
                    if metric in systems[system] and not (METRICS[metric].sums_match and system in SUMS):
                        values.setdefault(system, {})[song] = systems[system][metric]
            if len(values) > 1:
                tests[metric] = significance.compare_pairs(values)
        return tests


def run(
    settings: Settings,
    mixer_folder: Path,
    data: Path,
    output: Path,
    also: dict[str, str] | None = None,
    workers: int = 0,
) -> list[str]:
    """Mix the test songs, compare, and write metrics, tables, plots, mixes and the report.

    A song that was finished before the stage was stopped is not done again.

    Args:
        settings: of all stages; what is done is in the section ``evaluate``.
        mixer_folder: what stage 3 wrote.
        data: a folder with ``wet`` and ``dry`` datasets (either may be missing), or one wet dataset.
        output: the folder for ``metrics.json``, ``significance.json``, ``test_data.json``,
            ``evaluated_mixer.json``, ``songs.csv``, ``report.html``, ``plots`` and ``mixes``.
        also: other Mixers by name, directories or ``models:/NAME@ALIAS``, beside those of the settings.
        workers: processes; 0 for one a core, or two for a CUDA device.

    Returns:
        a sentence on each split: who is better, with the numbers.

    Raises:
        SettingsError: a name that cannot be another Mixer's.
        DatasetError: there are no such songs, some of them are in another split as well, or a name cannot be written
            into a table.
        OutputError: ``output`` holds something else than an evaluation, or is no place to write to.
    """
    others = {**settings.evaluate.also, **(also or {})}
    read = [data / kind for kind in _kinds(data)] or [data]
    outputs.check([mixer_folder, *read, *others.values()], [outputs.Folder(output, _refuse_others, whole=False)])
    with locks.held(output):
        return _run(settings, mixer_folder, data, output, others, workers)


def _run(
    settings: Settings, mixer_folder: Path, data: Path, output: Path, others: dict[str, str], workers: int
) -> list[str]:
    mixer = Mixer.load(mixer_folder, torch.device("cpu"))
    own = str(mixer.network.config["name"])
    _check_names(others, own)
    digest = mixer_digest(mixer_folder)
    layouts = _layouts(data)
    splits = {name: layout.of(settings.evaluate.split) for name, layout in layouts.items()}
    for song in (song for songs in splits.values() for song in songs):
        check_text(song.name)
    versions = {split: data_version(data, songs) for split, songs in splits.items()}
    for name, layout in layouts.items():
        layout.say_unused()
        refuse_tested_before(layout, settings.evaluate.split)
        if not layout.splits and versions[name]["digest"] == mixer.recipe.data.get("digest"):
            raise DatasetError(f"{layout.root}: expected songs to test with, found those {mixer_folder} learnt from")
    with contextlib.ExitStack() as downloads:
        mixers = {name: downloads.enter_context(registry.mixer_directory(place)) for name, place in others.items()}
        for folder in mixers.values():
            Mixer.load(folder, torch.device("cpu"))  # what is wrong with it is said before hours of mixing
        results = _evaluate(settings, {own: mixer_folder, **mixers}, splits, output, workers)
    comparisons = {
        split: Comparison({name: result.metrics() for name, result in songs.items()})
        for split, songs in results.items()
    }
    metrics = {split: comparison.means() for split, comparison in comparisons.items()}
    shown = {
        split: report.Split(found.songs, metrics[split], found.intervals(), found.pairs(), results[split])
        for split, found in comparisons.items()
    }
    write_json(output / METRICS_FILE, metrics)
    write_json(output / SIGNIFICANCE_FILE, {split: _significance(found) for split, found in shown.items()})
    _write_table(comparisons, output / TABLE_FILE)
    _collect(shown, output)
    write_json(output / TEST_DATA_FILE, versions)
    verdicts = [report.verdict(split, found) for split, found in shown.items()]
    write_json(output / MIXER_FILE, {"digest": digest, "code": measuring_code(), "verdicts": verdicts})
    report.write(output / REPORT_FILE, shown, _facts(settings, mixer_folder, others, flat_versions(versions)))
    with run_of(mixer_folder, output, "evaluation") as tracked:
        publish(output, tracked, settings.register_.metric)
    # not before: a server that is not there must not cost hours of mixing
    outputs.remove_made(output / _FINISHED, r"[0-9a-f]{64}")
    return verdicts


def publish(output: Path, tracked: TrackedRun, metric: str) -> None:
    """Put what :func:`run` left in ``output`` into an MLflow run: into one more, if it was put into another before.

    Args:
        output: the report; what an older version did not write is left out.
        tracked: the run.
        metric: whose columns stand first in the table of songs.
    """
    versions = read_test_data(output)
    description = "\n".join(f"- {verdict}" for verdict in _read(output / MIXER_FILE, _EVALUATED_MIXER).verdicts)
    tracked.set_tags(flat_versions(versions) | ({DESCRIPTION_TAG: description} if description else {}))
    for split, version in versions.items():
        tracked.add_dataset(split, version, "evaluation")
    tracked.log(0, flat(read_metrics(output)))
    for folder in (MIXES, PICTURES):
        if (output / folder).is_dir():
            tracked.add_folder(output / folder, f"{RUN_FOLDER}/{folder}")
    if (output / TABLE_FILE).is_file():
        tracked.add_table(f"{RUN_FOLDER}/songs.json", _table(_read_table(output / TABLE_FILE), metric))
    # the metrics last: where they are, the rest is
    for file in (SIGNIFICANCE_FILE, TEST_DATA_FILE, MIXER_FILE, TABLE_FILE, REPORT_FILE, METRICS_FILE):
        if (output / file).is_file():
            tracked.add_file(output / file, RUN_FOLDER)


def is_published(tracked: TrackedRun) -> bool:
    """Whether :func:`publish` put a whole report into a run, and its files are there still."""
    return tracked.has_file(f"{RUN_FOLDER}/{METRICS_FILE}")


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
        seed = song_seed(mixer.recipe.settings.seed, song.name)
        normalized = mixer.normalize(song.read_stems(), name.endswith("dry"), seed)
        mix = finite(mixer.mix_normalized(normalized), "the champion", str(song.folder))
        reference = song.read_mixture()
        length = max(mix.shape[1], reference.shape[1])
        comparison.songs[song.name] = distances({name: audio.pad_to(mix, length)}, audio.pad_to(reference, length))
    return comparison.means()[name]


def songs_of(data: Path, split: str, name: str) -> list[Song]:
    """The songs of ``test_wet`` or ``test_dry``.

    Raises:
        DatasetError: ``data`` has none.
    """
    layouts = _layouts(data)
    if name not in layouts:
        raise DatasetError(f"{data}: expected songs of {name}, found {', '.join(layouts)}")
    return layouts[name].of(split)


def read_metrics(report: Path) -> Metrics:
    """What :func:`run` left in ``metrics.json``.

    Raises:
        DatasetError: there is no such file, or it holds something else.
    """
    return _read(report / METRICS_FILE, _METRICS)


def read_test_data(report: Path) -> Versions:
    """Which songs :func:`run` measured on, from ``test_data.json``.

    Raises:
        DatasetError: there is no such file, or it holds something else.
    """
    return _read(report / TEST_DATA_FILE, _VERSIONS)


def read_mixer_digest(report: Path) -> str:
    """Which Mixer :func:`run` evaluated, as :func:`fxnorm.mixer_digest.mixer_digest` tells it.

    Raises:
        DatasetError: there is no such file, or it holds something else.
    """
    return _read(report / MIXER_FILE, _EVALUATED_MIXER).digest


def read_measuring_code(report: Path) -> str | None:
    """Which code measured what a report holds, as :func:`measuring_code` tells it; None if the report does not say.

    Raises:
        DatasetError: there is no such file, or it holds something else.
    """
    return _read(report / MIXER_FILE, _EVALUATED_MIXER).code


def measuring_code() -> str:
    """A hash of the code that mixes and measures here: metrics compare only with those of the same."""
    return code_digest("fxnorm.evaluation.songs")


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


def _read(file: Path, content: TypeAdapter[_Content]) -> _Content:
    if not file.is_file():
        raise DatasetError(f"{file}: no such file; evaluate again, as 'fxnorm evaluate' writes it")
    try:
        return content.validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DatasetError(
            f"{file}: expected what 'fxnorm evaluate' writes, found {where or 'no JSON'} ({first['msg']})"
        ) from error


def _layouts(data: Path) -> dict[str, dataset.Layout]:
    """The datasets of ``test_wet`` and ``test_dry``, as far as they are there; an empty folder is none."""
    kinds = _kinds(data)
    if not kinds:
        return {"test_wet": dataset.Layout.read(data)}
    return {f"test_{kind}": dataset.Layout.read(data / kind) for kind in kinds}


def _kinds(data: Path) -> list[str]:
    return [kind for kind in ("wet", "dry") if (data / kind).is_dir() and entries(data / kind)]


def _check_names(others: dict[str, str], own: str) -> None:
    taken = {own, REFERENCE, *SUMS}
    for name in others:
        if not _SYSTEM_NAME.fullmatch(name):
            raise SettingsError(f"evaluate.also: {name!r}: expected a name of letters, digits, '_' and '-'")
        if address_part(name) != name:
            raise SettingsError(f"evaluate.also: {printable(name)!r}: expected a shorter name, or one of no device")
        if name.casefold() in taken:
            raise SettingsError(f"evaluate.also: {name!r}: the report has a system of this name already")
        taken.add(name.casefold())  # their files lie in one folder, for some file systems in one case


def _evaluate(
    settings: Settings, mixers: dict[str, Path], splits: dict[str, list[Song]], output: Path, workers: int
) -> dict[str, dict[str, Result]]:
    """Results by split and song."""
    if not workers and default_device().type == "cuda":
        workers = _WORKERS_OF_A_DEVICE
    songs = [song for found in splits.values() for song in found]
    mixes = len(songs) * (len(mixers) + len(SUMS) + 1)
    seconds = affordable_seconds(settings.evaluate.excerpt_seconds, settings.evaluate.report_megabytes, mixes)
    dry = frozenset(song.folder for split, found in splits.items() if split.endswith("dry") for song in found)
    task = Task(mixers, dry, seconds, output / _FINISHED)
    evaluated, _ = map_songs(functools.partial(evaluate, task=task), songs, "evaluate", workers or None)
    results = {song.folder: result for song, result in evaluated}
    return {split: {song.name: results[song.folder] for song in found} for split, found in splits.items()}


def _collect(splits: dict[str, report.Split], output: Path) -> None:
    """Put the songs' mixes and pictures together, with one of the metrics of each split."""
    with (
        whole_folder(output / MIXES, _MIXES.refuse_others) as mixes,
        whole_folder(output / PICTURES, _PICTURES.refuse_others) as pictures,
    ):
        for split, found in splits.items():
            folders = addresses(found.results)
            for song, result in found.results.items():
                for kept, folder in ((MIXES, mixes), (PICTURES, pictures)):
                    for file in entries(result.folder / kept):
                        copy_file(file, folder / split / folders[song] / file.name)
                if folders[song] != song:
                    write_json(mixes / split / folders[song] / SONG_FILE, {"name": song})
            rivals = report.rivals(found.means)
            if names := present(report.PLOTTED, [found.means[system] for system in rivals]):
                table = {system: {name: found.means[system].get(name) for name in names} for system in rivals}
                plots.plot_metrics(table, pictures / f"{split}.svg", found.intervals)
        outputs.mark(mixes, "evaluate")


def _refuse_others(output: Path) -> None:
    """Refuse a folder with anything that no evaluation made, but for the decision that is written beside it."""
    _CONTENTS.refuse_others(output)
    _MIXES.refuse_others(output / MIXES)
    _PICTURES.refuse_others(output / PICTURES)


def _foreign(output: Path) -> str | None:
    """A file by a name that is others' as well, unless one of the files is an evaluation's."""
    if any(_holds(read, output) for read in (read_metrics, read_test_data, read_mixer_digest, _head)):
        return None
    return next((name for name in (METRICS_FILE, TABLE_FILE, REPORT_FILE) if (output / name).exists()), None)


def _holds(read: Callable[[Path], object], output: Path) -> bool:
    try:
        return bool(read(output))
    except (FxnormError, OSError, UnicodeDecodeError):
        return False


def _head(output: Path) -> bool:
    with open(output / TABLE_FILE, encoding="utf-8") as file:
        return file.readline().strip() == ",".join(_COLUMNS)


def _mix_of_another(mixes: Path) -> str | None:
    """Of mixes without a list of them, the first of a system that the metrics beside them do not name."""
    known = {REFERENCE, *SUMS, "crafx2", "wave_u_net"}
    with contextlib.suppress(FxnormError):
        known |= {system for systems in read_metrics(mixes.parent).values() for system in systems}
    return next((name for name in outputs.files_in(mixes) if Path(name).stem not in known), None)


_SONG = r"test_(?:wet|dry)/[^/]+"
_MIXES = outputs.Contents(
    "an evaluation's mixes", rf"{_SONG}/{_SYSTEM_NAME.pattern}\.flac", _mix_of_another, "evaluate"
)
_PICTURES = outputs.Contents(
    "an evaluation's plots", rf"test_(?:wet|dry)\.svg|{_SONG}/(?:spectra|panning|loudness|waveforms)\.svg"
)
_CONTENTS = outputs.Contents(
    "an evaluation",
    "|".join([
        *map(re.escape, (METRICS_FILE, TABLE_FILE, REPORT_FILE, TEST_DATA_FILE, SIGNIFICANCE_FILE, MIXER_FILE)),
        re.escape(RUN_FILE),
        r"registration\.json|\.gitignore",
        f"(?:{MIXES}|{PICTURES})/.*",
        rf"{re.escape(_FINISHED)}/[0-9a-f]{{64}}/.*",
    ]),
    _foreign,
)  # fmt: skip


def _significance(split: report.Split) -> dict[str, Any]:
    return {
        "confidence": significance.CONFIDENCE,
        "intervals": split.intervals,
        "pairs": {metric: [pair.as_dict() for pair in pairs] for metric, pairs in split.pairs.items()},
    }


def _facts(settings: Settings, mixer: Path, others: dict[str, str], versions: dict[str, str]) -> dict[str, Any]:
    return {
        "Mixer": mixer,
        **{f"Mixer {name}": place for name, place in others.items()},
        **versions,
        "fxnorm": __version__,
        **{f"Code, {key}": value for key, value in code_version().items() if key.startswith("git.")},
        **settings.flat(*SECTIONS),
    }


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
        writer.writerow(_COLUMNS)
        for split, comparison in comparisons.items():
            for song, systems in comparison.songs.items():
                for system, metrics in systems.items():
                    writer.writerows([split, song, system, metric, value] for metric, value in metrics.items())


def _read_table(path: Path) -> dict[str, Comparison]:
    """What :func:`_write_table` wrote.

    Raises:
        DatasetError: it is another table.
    """
    comparisons: dict[str, Comparison] = {}
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                songs = comparisons.setdefault(row["split"], Comparison()).songs
                systems = songs.setdefault(row["song"], {})
                systems.setdefault(row["system"], {})[row["metric"]] = float(row["value"])
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise DatasetError(f"{path}: expected what 'fxnorm evaluate' writes, found another table") from error
    return comparisons

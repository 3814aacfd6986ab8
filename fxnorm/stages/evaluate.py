"""Stage 4: the mixes of networks of unseen songs against the reference mixes, two plain sums and a static mix."""

import contextlib
import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fxnorm import __version__
from fxnorm.data.dataset import Song
from fxnorm.data.parallel import map_songs
from fxnorm.data.splits import refuse_tested_before
from fxnorm.data.versions import code_version, data_version
from fxnorm.errors import DatasetError, FxnormError, SettingsError, printable
from fxnorm.evaluation import plots, report, significance
from fxnorm.evaluation.catalogue import BASELINES, REFERENCE, SYSTEM_TITLES, present
from fxnorm.evaluation.comparison import SplitMetrics
from fxnorm.evaluation.datasets import kinds_of, layouts_of
from fxnorm.evaluation.excerpts import affordable_seconds
from fxnorm.evaluation.results import (
    COLUMNS,
    HEADLINE_FILE,
    METRICS_FILE,
    MIXER_FILE,
    REFERENCE_COLUMN,
    REPORT_FILE,
    SIGNIFICANCE_FILE,
    TABLE_FILE,
    TEST_DATA_FILE,
    flat_versions,
    headline,
    read_metrics,
    read_mixer_digest,
    read_test_data,
    write_evaluated_mixer,
    write_table,
)
from fxnorm.evaluation.songs import MIXES, PICTURES, EvaluationTask, Result, evaluate
from fxnorm.io import locks, outputs
from fxnorm.io.files import copy_file, whole_folder, write_json
from fxnorm.io.folders import entries
from fxnorm.io.names import SONG_FILE, address_part, addresses, check_text
from fxnorm.mixing.mixer import Mixer, mixer_digest
from fxnorm.models.device import default_device
from fxnorm.registry import registered
from fxnorm.settings import SECTIONS, Settings
from fxnorm.tracking.evaluations import publish, run_for
from fxnorm.tracking.runs import RUN_FILE, run_of

_FINISHED = ".songs"
_SYSTEM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_WORKERS_OF_A_DEVICE = 2  # one song is measured while the next is mixed


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
    datasets = [data / kind for kind in kinds_of(data)] or [data]
    outputs.check([mixer_folder, *datasets, *others.values()], [outputs.Folder(output, _refuse_others, whole=False)])
    with locks.held(output):
        return _run(settings, mixer_folder, data, output, others, workers)


def _run(
    settings: Settings, mixer_folder: Path, data: Path, output: Path, others: dict[str, str], workers: int
) -> list[str]:
    mixer = Mixer.load(mixer_folder, torch.device("cpu"))
    network_name = str(mixer.network.config["name"])
    _check_names(others, network_name)
    digest = mixer_digest(mixer_folder)
    layouts = layouts_of(data)
    splits = {name: layout.of(settings.evaluate.split) for name, layout in layouts.items()}
    for song in (song for songs in splits.values() for song in songs):
        check_text(song.name)
        for name in song.references:
            check_text(name, f"a mixture of {song.name}")
    versions = {split: data_version(data, songs) for split, songs in splits.items()}
    for name, layout in layouts.items():
        layout.log_unused()
        refuse_tested_before(layout, settings.evaluate.split)
        if not layout.splits and versions[name]["digest"] == mixer.recipe.data.get("digest"):
            raise DatasetError(f"{layout.root}: expected songs to test with, found those {mixer_folder} learnt from")
    with contextlib.ExitStack() as downloads:
        mixers = {
            name: downloads.enter_context(registered.mixer_directory(mixer_path)) for name, mixer_path in others.items()
        }
        for folder in mixers.values():
            Mixer.load(folder, torch.device("cpu"))  # so that an error in it is raised before hours of mixing
        compared_with = {name: mixer_digest(folder) for name, folder in mixers.items()}
        results = _evaluate(settings, {network_name: mixer_folder, **mixers}, splits, output, workers)
    metrics_by_split = {
        split: SplitMetrics(
            {name: result.metrics() for name, result in songs.items()},
            {name: references for name, result in songs.items() if (references := result.references())},
            {name: result.features() for name, result in songs.items()},
        )
        for split, songs in results.items()
    }
    means = {split: metrics.means() for split, metrics in metrics_by_split.items()}
    shown = {
        split: report.Split(metrics.songs, means[split], metrics.intervals(), metrics.pairs(), results[split])
        for split, metrics in metrics_by_split.items()
    }
    write_json(output / METRICS_FILE, means)
    write_json(output / SIGNIFICANCE_FILE, {split: _significance(content) for split, content in shown.items()})
    write_table(metrics_by_split, output / TABLE_FILE)
    _collect(shown, output)
    write_json(output / TEST_DATA_FILE, versions)
    verdicts = [report.verdict(split, content) for split, content in shown.items()]
    write_evaluated_mixer(output, digest, verdicts, compared_with)
    report.write(output / REPORT_FILE, shown, _facts(settings, mixer_folder, others, flat_versions(versions)))
    trained = run_of(mixer_folder, output, "evaluation")
    with trained.adding(), run_for(output, trained) as tracked:
        publish(output, tracked, settings.register_.metric)
        write_json(output / HEADLINE_FILE, headline(means, network_name) | {"mlflow_run": tracked.run_id})
    # not before: a server that is not there must not cost hours of mixing
    outputs.remove_outputs(output / _FINISHED, r"[0-9a-f]{64}")
    return verdicts


def _check_names(others: dict[str, str], network_name: str) -> None:
    taken = {network_name, REFERENCE, *BASELINES}
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
    songs = [song for part in splits.values() for song in part]
    mixes = len(songs) * (len(mixers) + len(BASELINES) + 1)
    seconds = affordable_seconds(settings.evaluate.excerpt_seconds, settings.evaluate.report_megabytes, mixes)
    dry = frozenset(song.folder for split, part in splits.items() if split.endswith("dry") for song in part)
    task = EvaluationTask(mixers, dry, seconds, output / _FINISHED)
    evaluated, _ = map_songs(functools.partial(evaluate, task=task), songs, "evaluate", workers or None)
    results = {song.folder: result for song, result in evaluated}
    return {split: {song.name: results[song.folder] for song in part} for split, part in splits.items()}


def _collect(splits: dict[str, report.Split], output: Path) -> None:
    """Put the songs' mixes and pictures together, with one of the metrics of each split."""
    with (
        whole_folder(output / MIXES, _MIXES.refuse_others) as mixes,
        whole_folder(output / PICTURES, _PICTURES.refuse_others) as pictures,
    ):
        for split, content in splits.items():
            folders = addresses(content.results)
            for song, result in content.results.items():
                for kept, folder in ((MIXES, mixes), (PICTURES, pictures)):
                    for file in entries(result.folder / kept):
                        copy_file(file, folder / split / folders[song] / file.name)
                if folders[song] != song:
                    write_json(mixes / split / folders[song] / SONG_FILE, {"name": song})
            rivals = report.rivals(content.means)
            if names := present(report.PLOTTED, [content.means[system] for system in rivals]):
                table = {system: {name: content.means[system].get(name) for name in names} for system in rivals}
                plots.plot_metrics(table, pictures / f"{split}.svg", content.intervals)
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
        return file.readline().strip() in (",".join(COLUMNS), ",".join((*COLUMNS, REFERENCE_COLUMN)))


def _mix_of_another(mixes: Path) -> str | None:
    """Of mixes without a list of them, the first of a system that the metrics beside them do not name."""
    known = set(SYSTEM_TITLES)
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
        *map(re.escape, (METRICS_FILE, HEADLINE_FILE, TABLE_FILE, REPORT_FILE)),
        *map(re.escape, (TEST_DATA_FILE, SIGNIFICANCE_FILE, MIXER_FILE)),
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
        **{f"Mixer {name}": path for name, path in others.items()},
        **versions,
        "fxnorm": __version__,
        **{f"Code, {key}": value for key, value in code_version().items() if key.startswith("git.")},
        **settings.flat(*SECTIONS),
    }

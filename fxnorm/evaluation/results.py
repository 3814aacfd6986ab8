"""What an evaluation leaves on disk, and which code it is of."""

import csv
import hashlib
import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from fxnorm.data.versions import code_digest
from fxnorm.errors import DatasetError
from fxnorm.evaluation.catalogue import DECISIVE, STATIC_MIX
from fxnorm.evaluation.comparison import SplitMetrics
from fxnorm.io.files import whole_file, write_json

METRICS_FILE, TABLE_FILE, REPORT_FILE = "metrics.json", "songs.csv", "report.html"
TEST_DATA_FILE, SIGNIFICANCE_FILE, MIXER_FILE = "test_data.json", "significance.json", "evaluated_mixer.json"
HEADLINE_FILE = "headline.json"
COLUMNS = ("split", "song", "system", "metric", "value")
"""Of the table."""

REFERENCE_COLUMN = "reference"
"""One more if a song has several reference mixes: the one that the system was compared with."""

Metrics = dict[str, dict[str, dict[str, float]]]
"""split -> system -> metric -> value"""

Versions = dict[str, dict[str, str]]
"""split -> what is known of the version of its songs"""


class _EvaluatedMixer(BaseModel):
    digest: str
    verdicts: list[str] = []
    code: str | None = None
    compared_with: dict[str, str] = {}
    """Name of another Mixer -> its digest."""


_EVALUATED_MIXER = TypeAdapter(_EvaluatedMixer)
_METRICS, _VERSIONS = TypeAdapter(Metrics), TypeAdapter(Versions)
_Content = TypeVar("_Content")


def read_metrics(report: Path) -> Metrics:
    """What an evaluation left in ``metrics.json``.

    Raises:
        DatasetError: there is no such file, or it holds something else.
    """
    return _read(report / METRICS_FILE, _METRICS)


def read_test_data(report: Path) -> Versions:
    """Which songs an evaluation measured on, from ``test_data.json``.

    Raises:
        DatasetError: there is no such file, or it holds something else.
    """
    return _read(report / TEST_DATA_FILE, _VERSIONS)


def read_mixer_digest(report: Path) -> str:
    """Which Mixer was evaluated, as :func:`fxnorm.mixing.mixer.mixer_digest` identifies it.

    Raises:
        DatasetError: there is no such file, or it holds something else.
    """
    return _read(report / MIXER_FILE, _EVALUATED_MIXER).digest


def read_measuring_code(report: Path) -> str | None:
    """Which code measured what a report holds, as :func:`measuring_code` identifies it; None if it names none.

    Raises:
        DatasetError: there is no such file, or it holds something else.
    """
    return _read(report / MIXER_FILE, _EVALUATED_MIXER).code


def identity(report: Path) -> str:
    """A hash of what a report is of, beside the Mixer: the songs, the code that measured, and the other Mixers.

    Raises:
        DatasetError: there is no such report, or it holds something else.
    """
    evaluated = _read(report / MIXER_FILE, _EVALUATED_MIXER)
    songs = {split: version.get("digest") for split, version in read_test_data(report).items()}
    content = json.dumps([songs, evaluated.code, evaluated.compared_with], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def measuring_code() -> str:
    """A hash of the code that mixes and measures here: metrics compare only with those of the same."""
    return code_digest("fxnorm.evaluation.songs")


HEADLINES = (DECISIVE, "spectral_wape", "panning_wape", "dynamic_wape", "loudness_error_lu")
"""Metrics by which a person chooses between networks, of a split."""
RATIO = f"{DECISIVE}_over_static"
"""Of the network over that of the static mix: under 1 the network is better."""


def headline(metrics: Metrics, system: str) -> dict[str, dict[str, float]]:
    """The few numbers of one system that experiments are compared by: split -> metric -> mean over songs.

    What has no value, as without a reference mix, is left out.
    """
    chosen = {}
    for split, systems in metrics.items():
        values = {name: systems[system][name] for name in HEADLINES if name in systems[system]}
        baseline = systems.get(STATIC_MIX, {}).get(DECISIVE)
        if DECISIVE in values and baseline:
            values[RATIO] = values[DECISIVE] / baseline
        chosen[split] = values
    return chosen


def flat(metrics: Metrics) -> dict[str, float]:
    """Under the names that experiment trackers show: ``split.system.metric``."""
    return {
        f"{split}.{system}.{metric}": value
        for split, systems in metrics.items()
        for system, means in systems.items()
        for metric, value in means.items()
    }


def flat_versions(versions: Versions) -> dict[str, str]:
    """The songs' hashes under the names of their splits, and DVC's, which stands for all of the data."""
    tracked = {version["dvc"] for version in versions.values() if "dvc" in version}
    together = {"test_data.dvc": ", ".join(sorted(tracked))} if tracked else {}
    return {f"{split}.digest": version["digest"] for split, version in versions.items()} | together


def read_verdicts(report: Path) -> list[str]:
    """A sentence on each split: who is better.

    Raises:
        DatasetError: there is no such file, or it holds something else.
    """
    return _read(report / MIXER_FILE, _EVALUATED_MIXER).verdicts


def write_evaluated_mixer(report: Path, digest: str, verdicts: list[str], compared_with: dict[str, str]) -> None:
    """Record which Mixer was evaluated, by which code, with which verdicts, and the digests of others by name."""
    code = measuring_code()
    write_json(
        report / MIXER_FILE,
        {"digest": digest, "code": code, "verdicts": verdicts, "compared_with": compared_with},
    )


def write_table(metrics_by_split: dict[str, SplitMetrics], path: Path) -> None:
    """Write every metric of every song, split and system: a row each.

    If a song has several reference mixes, a last column names the one that its systems were compared with.
    """
    several = any(split_metrics.references for split_metrics in metrics_by_split.values())
    with whole_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, REFERENCE_COLUMN] if several else COLUMNS)
        for split, split_metrics in metrics_by_split.items():
            for song, systems in split_metrics.songs.items():
                references = split_metrics.references.get(song, {})
                for system, metrics in systems.items():
                    last = [references.get(system, "")] if several else []
                    writer.writerows([split, song, system, metric, value, *last] for metric, value in metrics.items())


def read_table(path: Path) -> dict[str, SplitMetrics]:
    """What :func:`write_table` wrote.

    Raises:
        DatasetError: it is another table.
    """
    metrics_by_split: dict[str, SplitMetrics] = {}
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                split_metrics = metrics_by_split.setdefault(row["split"], SplitMetrics())
                systems = split_metrics.songs.setdefault(row["song"], {})
                systems.setdefault(row["system"], {})[row["metric"]] = float(row["value"])
                if reference := row.get(REFERENCE_COLUMN):
                    split_metrics.references.setdefault(row["song"], {})[row["system"]] = reference
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise DatasetError(f"{path}: expected what 'fxnorm evaluate' writes, found another table") from error
    return metrics_by_split


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

"""An evaluation in its MLflow run: metrics, the datasets, and its files among the artifacts.

The first evaluation of a Mixer stands in the run that trained it. One with other songs, by other code or against other
Mixers has a run of its own within that, so that it replaces nothing.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fxnorm.evaluation.comparison import SplitMetrics
from fxnorm.evaluation.results import (
    METRICS_FILE,
    MIXER_FILE,
    REPORT_FILE,
    SIGNIFICANCE_FILE,
    TABLE_FILE,
    TEST_DATA_FILE,
    flat,
    flat_versions,
    identity,
    read_metrics,
    read_table,
    read_test_data,
    read_verdicts,
)
from fxnorm.evaluation.songs import MIXES, PICTURES
from fxnorm.tracking import kubeflow_runs
from fxnorm.tracking.runs import DESCRIPTION_TAG, TrackedRun

RUN_FOLDER = "evaluation"
"""Of the run's artifacts."""


EVALUATION_TAG = "evaluation.identity"
"""Of a run: of which songs, by which code and against which other Mixers its evaluation is."""


@contextlib.contextmanager
def run_for(output: Path, trained: TrackedRun) -> Iterator[TrackedRun]:
    """The run for what an evaluation left in ``output``.

    Args:
        output: the report.
        trained: the run that trained the Mixer, within a ``with`` block of its own.
    """
    evaluation = identity(output)
    if trained.tags().get(EVALUATION_TAG) == evaluation or not is_published(trained):
        trained.set_tags({EVALUATION_TAG: evaluation} | kubeflow_runs.tags())
        yield trained
        return
    with trained.child("another evaluation", EVALUATION_TAG, evaluation).adding() as own:
        if tags := kubeflow_runs.tags():
            own.set_tags(tags)
        yield own


def publish(output: Path, tracked: TrackedRun, metric: str) -> None:
    """Put what an evaluation left in ``output`` into an MLflow run: into one more, if it was put into another before.

    Args:
        output: the report; what an older version did not write is left out.
        tracked: the run.
        metric: whose columns stand first in the table of songs.
    """
    versions = read_test_data(output)
    description = "\n".join(f"- {verdict}" for verdict in read_verdicts(output))
    tracked.set_tags(flat_versions(versions) | ({DESCRIPTION_TAG: description} if description else {}))
    for split, version in versions.items():
        tracked.add_dataset(split, version, "evaluation")
    tracked.log(0, flat(read_metrics(output)))
    for folder in (MIXES, PICTURES):
        if (output / folder).is_dir():
            tracked.add_folder(output / folder, f"{RUN_FOLDER}/{folder}")
    if (output / TABLE_FILE).is_file():
        tracked.add_table(f"{RUN_FOLDER}/songs.json", _table(read_table(output / TABLE_FILE), metric))
    # the metrics last: where they are, the rest is
    for file in (SIGNIFICANCE_FILE, TEST_DATA_FILE, MIXER_FILE, TABLE_FILE, REPORT_FILE, METRICS_FILE):
        if (output / file).is_file():
            tracked.add_file(output / file, RUN_FOLDER)


def is_published(tracked: TrackedRun) -> bool:
    """Whether :func:`publish` put a whole report into a run, and its files still exist."""
    return tracked.has_file(f"{RUN_FOLDER}/{METRICS_FILE}")


def _table(metrics_by_split: dict[str, SplitMetrics], first: str) -> list[dict[str, Any]]:
    """One row a song, under which MLflow's pages put runs side by side; the columns of the metric ``first`` first.

    A column's name has no dot, because those pages take what follows one for a part of the value.
    """
    rows = []
    for split, split_metrics in metrics_by_split.items():
        for song, systems in split_metrics.songs.items():
            names = {metric: None for metrics in systems.values() for metric in metrics}
            cells = {
                f"{system} {metric}": metrics[metric]
                for metric in sorted(names, key=lambda name: name != first)
                for system, metrics in reversed(systems.items())  # the network stands last
                if metric in metrics
            }
            rows.append({"song": f"{split}/{song}", **cells})
    return rows

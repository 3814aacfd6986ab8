"""The MLflow run of one pipeline execution.

``train`` opens the run and leaves its id in the Mixer directory; ``evaluate`` and ``register`` write into the same run.
Where the tracking server does not know that run, they share one whose id stays with the report.
Without ``MLFLOW_TRACKING_URI`` everything goes to ``mlflow.db`` (SQLite) and ``mlartifacts`` in the working directory.
"""

import contextlib
import getpass
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.entities import Dataset, DatasetInput, InputTag, LifecycleStage, Metric, Param, RunTag
from mlflow.environment_variables import MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_RUN_NOTE, MLFLOW_SOURCE_NAME, MLFLOW_USER
from mlflow.utils.validation import MAX_DATASET_DIGEST_SIZE
from tqdm import tqdm

from fxnorm import __version__, object_store, system_metrics
from fxnorm.errors import FxnormError, ModelError, StoppedError
from fxnorm.files import write_json
from fxnorm.mixer_digest import mixer_digest
from fxnorm.mlflow_errors import first_line, one_line, server, shown, unless_missing
from fxnorm.system_metrics import SystemMetrics
from fxnorm.versions import code_version

DEFAULT_URI = "sqlite:///mlflow.db"
DEFAULT_EXPERIMENT = "fxnorm"
RUN_FILE = "mlflow_run.json"
NETWORK_TAG = "network"
DESCRIPTION_TAG = MLFLOW_RUN_NOTE
"""The text on the run's page, in Markdown."""

_MIXER_KEY = "mixer"
_ARTIFACTS = "mlartifacts"
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # else its pages are those for language models
_BATCH = 500  # a request to the server may hold 1,000 metrics
_FLUSH_SECONDS = 5.0
_RETRY_SECONDS = 600.0
_FINISHED, _FAILED, _STOPPED = "FINISHED", "FAILED", "KILLED"


def configure() -> str:
    """Point MLflow to the tracking server, or to the embedded default, and return the address."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    mlflow.set_tracking_uri(uri)
    object_store.ask_plainly()  # where artifacts lie in an S3 store, MLflow asks it itself
    if shown(uri) != uri:
        MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)  # else MLflow prints it whole, credentials included
    return uri


class TrackedRun:
    """One MLflow run that can be left and taken up again by its id.

    Metrics are sent in batches; leaving the ``with`` block sends the rest and sets the run's status. While the tracking
    server does not answer, metrics wait here: what is computed in the meantime does not depend on it. Whatever else the
    server does not take is an FxnormError.
    """

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self._client = mlflow.MlflowClient()
        self._waiting: list[Metric] = []
        self._last_steps: dict[str, int] = {}
        self._system_metrics: SystemMetrics | None = None
        self._sent_at = time.monotonic()
        self._retry_at = 0.0

    @classmethod
    def start(cls, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> "TrackedRun":
        """A new run with its parameters and tags, beside what is known of the code's version."""
        uri = configure()
        with one_line(f"{server()}: MLflow cannot start a run"):
            client = mlflow.MlflowClient()
            created = client.create_run(_experiment(client, uri), run_name=name)
        run = cls(created.info.run_id)
        run.set_params(params)
        run.set_tags({MLFLOW_SOURCE_NAME: f"fxnorm {__version__}", **_user(), **code_version(), **tags})
        return run

    @classmethod
    def resume(cls, folder: Path) -> "TrackedRun | None":
        """The run whose id was left in ``folder``; None if that run is not known to this tracking server.

        Raises:
            ModelError: the file that names the run is not as :meth:`leave_in` writes it.
        """
        configure()
        left = _left_in(folder)
        if left is None:
            return None
        run_id = left["run_id"]
        with one_line(f"{server()}: MLflow cannot look up run {run_id}"):
            run = unless_missing(mlflow.MlflowClient().get_run, run_id)
        return None if run is None or run.info.lifecycle_stage == LifecycleStage.DELETED else cls(run_id)

    def leave_in(self, folder: Path, **more: str) -> None:
        """Write the run's id into a folder, with what more is to be known there."""
        write_json(folder / RUN_FILE, {"run_id": self.run_id, **more})

    def go_on(self) -> None:
        """Leave out the steps that the run has already: those that are done again after an interruption."""
        with self._one_line("read"):
            # a metric's last step stands nowhere else but at the end of its whole history
            for metric in self._client.get_run(self.run_id).data._metric_objs:
                self._last_steps[metric.key] = metric.step

    def watch_system(self) -> None:
        """Measure what the machine does until the ``with`` block ends, unless that is switched off."""
        if system_metrics.wanted():
            done = [step for name, step in self._last_steps.items() if name.startswith(system_metrics.PREFIX)]
            self._system_metrics = SystemMetrics(self._note, max(done, default=-1) + 1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Note values at a step; they are sent every few seconds."""
        self._note(step, values)
        seconds = time.monotonic()
        if seconds >= self._retry_at and (len(self._waiting) >= _BATCH or seconds - self._sent_at > _FLUSH_SECONDS):
            self._send_or_keep()

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Parameters of the whole execution; values that are set already must be the same."""
        with self._one_line("written"):
            self._client.log_batch(self.run_id, params=[Param(name, str(value)) for name, value in params.items()])

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Tags of the run; a later value replaces an earlier one."""
        with self._one_line("written"):
            self._client.log_batch(self.run_id, tags=[RunTag(name, str(value)) for name, value in tags.items()])

    def params(self) -> dict[str, str]:
        """All parameters of the run."""
        with self._one_line("read"):
            return dict(self._client.get_run(self.run_id).data.params)

    def tags(self) -> dict[str, str]:
        """All tags of the run."""
        with self._one_line("read"):
            return dict(self._client.get_run(self.run_id).data.tags)

    def add_dataset(self, name: str, version: Mapping[str, str], context: str) -> None:
        """Note what the run has read.

        Args:
            name: which part of which dataset.
            version: as :func:`fxnorm.versions.data_version` gives it. DVC's hash stands beside the name where there is
                one, else the hash of the songs.
            context: what for, such as ``training``.
        """
        digest = version.get("dvc", version["digest"])[:MAX_DATASET_DIGEST_SIZE]
        dataset = Dataset(name, digest, source_type="code", source=CodeDatasetSource(dict(version)).to_json())
        given = DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, context)])
        with self._one_line("written"):
            self._client.log_inputs(self.run_id, datasets=[given])

    def add_file(self, path: Path, folder: str | None = None) -> None:
        """Keep a file with the run, in ``folder`` of its artifacts."""
        with self._one_line("written"):
            self._client.log_artifact(self.run_id, str(path), folder)

    def add_folder(self, path: Path, folder: str | None = None) -> None:
        """Keep the files of a folder with the run, in ``folder`` of its artifacts."""
        with self._one_line("written"):
            self._client.log_artifacts(self.run_id, str(path), folder)

    def add_text(self, name: str, text: str) -> None:
        """Keep a text file with the run, as ``name`` among its artifacts; it replaces an earlier one."""
        with self._one_line("written"):
            self._client.log_text(self.run_id, text, name)

    def add_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """A table that MLflow's pages show as one; it replaces an earlier one.

        Args:
            name: of the artifact, with the suffix ``.json``.
            rows: columns and values; a value that is not there stays empty.
        """
        table = pd.DataFrame(rows)
        folder, _, _ = name.rpartition("/")
        with self._one_line("written"):
            if name in {file.path for file in self._client.list_artifacts(self.run_id, folder or None)}:
                # MLflow would append the rows to those of before
                self._client.log_dict(self.run_id, json.loads(table.to_json(orient="split", index=False)), name)
            else:
                self._client.log_table(self.run_id, table, name)

    def __enter__(self) -> "TrackedRun":
        with self._one_line("written"):
            self._client.update_run(self.run_id, status="RUNNING")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._system_metrics is not None:
            self._system_metrics.stop()
        try:
            with self._one_line("completed"):
                self._send()
                self._finish(kind)
        except FxnormError as error:
            if kind is None:
                raise
            tqdm.write(str(error))  # the error that ends the block is the one to be seen

    def _finish(self, kind: type[BaseException] | None) -> None:
        stopped = kind is not None and issubclass(kind, StoppedError)
        self._client.set_terminated(self.run_id, _FINISHED if kind is None else _STOPPED if stopped else _FAILED)

    def _note(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        new = {name: value for name, value in values.items() if step > self._last_steps.get(name, -1)}
        self._waiting += [Metric(name, value, now, step) for name, value in new.items()]

    def _send_or_keep(self) -> None:
        try:
            self._send()
        except MlflowException as error:
            # the client has waited minutes for the server by now, which not every step should do
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            tqdm.write(f"MLflow: metrics cannot be sent ({first_line(error)}); they wait for {_RETRY_SECONDS:.0f} s")

    def _send(self) -> None:
        while self._waiting:
            batch = self._waiting[:_BATCH]  # the system's metrics may be appended while these are on their way
            self._client.log_batch(self.run_id, metrics=batch)
            del self._waiting[: len(batch)]
        self._sent_at = time.monotonic()

    def _one_line(self, done: str) -> contextlib.AbstractContextManager[None]:
        return one_line(f"MLflow: run {self.run_id} cannot be {done}")


def run_of(mixer: Path, report: Path, name: str) -> TrackedRun:
    """The run that trained ``mixer``, or, said aloud, a new one where the tracking server does not know that run.

    The new run's id stays in ``report``, where the next stage finds it; in the Mixer it would change what ``train``
    made.
    """
    run = TrackedRun.resume(mixer)
    if run is None:
        digest = mixer_digest(mixer)
        left = _left_in(report)
        if left is not None and left.get(_MIXER_KEY) == digest:  # not that of a Mixer that was evaluated there before
            run = TrackedRun.resume(report)
        if run is None:
            tqdm.write(f"{mixer}: its MLflow run is not known to {server()}; a new one is started")
            run = TrackedRun.start(name, {}, {})
            run.leave_in(report, **{_MIXER_KEY: digest})
    return run


def _left_in(folder: Path) -> dict[str, str] | None:
    """What :meth:`TrackedRun.leave_in` wrote into a folder, if it did."""
    file = folder / RUN_FILE
    if not file.is_file():
        return None
    try:
        left = {str(key): str(value) for key, value in json.loads(file.read_text(encoding="utf-8")).items()}
    except (ValueError, AttributeError) as error:
        raise ModelError(f"{file}: expected the id of an MLflow run, found no JSON object") from error
    if "run_id" not in left:
        raise ModelError(f"{file}: expected the id of an MLflow run, found none")
    return left


def _experiment(client: mlflow.MlflowClient, uri: str) -> str:
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
    found = client.get_experiment_by_name(name)
    if found is None:
        # a server chooses where artifacts go; an embedded database would put them into ./mlruns
        location = Path(_ARTIFACTS).absolute().as_uri() if uri.startswith("sqlite:") else None
        try:
            return str(client.create_experiment(name, location, _EXPERIMENT_TAGS))
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)  # perhaps made by another process, a moment ago


def _user() -> dict[str, str]:
    try:
        return {MLFLOW_USER: getpass.getuser()}
    except (KeyError, OSError):  # containers run as users without a name
        return {}

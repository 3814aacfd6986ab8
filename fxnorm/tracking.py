"""The MLflow run of one pipeline execution.

``train`` opens the run and leaves its id in the Mixer directory; ``evaluate`` and ``register`` write into the same run.
Without ``MLFLOW_TRACKING_URI`` everything goes to ``mlflow.db`` (SQLite) and ``mlartifacts`` in the working directory.
"""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from tqdm import tqdm

from fxnorm.errors import FxnormError, StoppedError
from fxnorm.files import write_json
from fxnorm.versions import code_version

DEFAULT_URI = "sqlite:///mlflow.db"
DEFAULT_EXPERIMENT = "fxnorm"
RUN_FILE = "mlflow_run.json"
NETWORK_TAG = "network"

_ARTIFACTS = "mlartifacts"
_BATCH = 500  # a request to the server may hold 1,000 metrics
_FLUSH_SECONDS = 5.0
_RETRY_SECONDS = 600.0
_FINISHED, _FAILED, _STOPPED = "FINISHED", "FAILED", "KILLED"


def configure() -> str:
    """Point MLflow to the tracking server, or to the embedded default, and return the address."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    mlflow.set_tracking_uri(uri)
    return uri


class TrackedRun:
    """One MLflow run that can be left and taken up again by its id.

    Metrics are sent in batches; leaving the ``with`` block sends the rest and sets the run's status. While the tracking
    server does not answer, metrics wait here: what is computed in the meantime does not depend on it.
    """

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self._client = mlflow.MlflowClient()
        self._waiting: list[Metric] = []
        self._sent_at = time.monotonic()
        self._retry_at = 0.0

    @classmethod
    def start(cls, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> "TrackedRun":
        """A new run with its parameters and tags, beside what is known of the code's version."""
        uri = configure()
        client = mlflow.MlflowClient()
        try:
            created = client.create_run(_experiment(client, uri), run_name=name)
        except MlflowException as error:
            raise FxnormError(f"{uri}: MLflow cannot start a run ({_first_line(error)})") from error
        run = cls(created.info.run_id)
        run.set_params(params)
        run.set_tags({**code_version(), **tags})
        return run

    @classmethod
    def resume(cls, mixer: Path) -> "TrackedRun | None":
        """The run that trained the Mixer in ``mixer``; None if that run is not known to this tracking server."""
        configure()
        file = mixer / RUN_FILE
        if not file.is_file():
            return None
        run_id = json.loads(file.read_text(encoding="utf-8"))["run_id"]
        try:
            mlflow.MlflowClient().get_run(run_id)
        except MlflowException:
            return None
        return cls(run_id)

    def leave_in(self, mixer: Path) -> None:
        """Write the run's id into a Mixer directory."""
        write_json(mixer / RUN_FILE, {"run_id": self.run_id})

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Note values at a step; they are sent every few seconds."""
        now = int(time.time() * 1000)
        self._waiting += [Metric(name, value, now, step) for name, value in values.items()]
        seconds = time.monotonic()
        if seconds >= self._retry_at and (len(self._waiting) >= _BATCH or seconds - self._sent_at > _FLUSH_SECONDS):
            self._send_or_keep()

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Parameters of the whole execution; values that are set already must be the same."""
        self._client.log_batch(self.run_id, params=[Param(name, str(value)) for name, value in params.items()])

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Tags of the run; a later value replaces an earlier one."""
        self._client.log_batch(self.run_id, tags=[RunTag(name, str(value)) for name, value in tags.items()])

    def tags(self) -> dict[str, str]:
        """All tags of the run."""
        return dict(self._client.get_run(self.run_id).data.tags)

    def add_file(self, path: Path, folder: str | None = None) -> None:
        """Keep a file with the run, in ``folder`` of its artifacts."""
        self._client.log_artifact(self.run_id, str(path), folder)

    def add_folder(self, path: Path, folder: str | None = None) -> None:
        """Keep the files of a folder with the run, in ``folder`` of its artifacts."""
        self._client.log_artifacts(self.run_id, str(path), folder)

    def __enter__(self) -> "TrackedRun":
        self._client.update_run(self.run_id, status="RUNNING")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._send()
            self._finish(kind)
        except MlflowException as exception:
            message = f"MLflow: run {self.run_id} cannot be completed ({_first_line(exception)})"
            if kind is None:
                raise FxnormError(message) from exception
            tqdm.write(message)  # the error that ends the block is the one to be seen

    def _finish(self, kind: type[BaseException] | None) -> None:
        stopped = kind is not None and issubclass(kind, StoppedError)
        self._client.set_terminated(self.run_id, _FINISHED if kind is None else _STOPPED if stopped else _FAILED)

    def _send_or_keep(self) -> None:
        try:
            self._send()
        except MlflowException as error:
            # the client has waited minutes for the server by now, which not every step should do
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            tqdm.write(f"MLflow: metrics cannot be sent ({_first_line(error)}); they wait for {_RETRY_SECONDS:.0f} s")

    def _send(self) -> None:
        while self._waiting:
            self._client.log_batch(self.run_id, metrics=self._waiting[:_BATCH])
            del self._waiting[:_BATCH]
        self._sent_at = time.monotonic()


def run_of(mixer: Path, name: str) -> TrackedRun:
    """The run that trained ``mixer``, or, said aloud, a new one where the tracking server does not know that run."""
    run = TrackedRun.resume(mixer)
    if run is None:
        tqdm.write(f"{mixer}: its MLflow run is not known to {mlflow.get_tracking_uri()}; a new one is started")
        run = TrackedRun.start(name, {}, {})
        run.leave_in(mixer)
    return run


def _experiment(client: mlflow.MlflowClient, uri: str) -> str:
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    # a server chooses where artifacts go; an embedded database would put them into ./mlruns
    location = Path(_ARTIFACTS).absolute().as_uri() if uri.startswith("sqlite:") else None
    return str(client.create_experiment(name, artifact_location=location))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]

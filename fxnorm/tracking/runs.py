"""The MLflow run of one pipeline execution.

``train`` opens the run and leaves its id beside the Mixer directory; ``evaluate`` and ``register`` write into the same
run. Where the tracking server does not know that run, they share another, which begins with the same parameters and
whose id stays with the report. The id is no part of the Mixer: a training that is repeated gives the same Mixer.
Without ``MLFLOW_TRACKING_URI`` everything goes to ``mlflow.db`` (SQLite) and ``mlartifacts`` in the working directory,
or in the project's where that is another workspace of it.
"""

import contextlib
import csv
import getpass
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.entities import Dataset, DatasetInput, InputTag, LifecycleStage, Metric, Param, RunStatus, RunTag
from mlflow.environment_variables import MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import (
    MLFLOW_DATASET_CONTEXT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NOTE,
    MLFLOW_SOURCE_NAME,
    MLFLOW_USER,
)
from mlflow.utils.validation import MAX_DATASET_DIGEST_SIZE
from pydantic import BaseModel, ValidationError
from tqdm import tqdm

from fxnorm import __version__
from fxnorm.data import provenance
from fxnorm.data.versions import code_version
from fxnorm.errors import DatasetError, FxnormError, ModelError, PrunedError, StoppedError
from fxnorm.io import object_store
from fxnorm.io.files import write_json
from fxnorm.io.folders import files_below
from fxnorm.io.names import file_part
from fxnorm.tracking import embedded_store, system_metrics
from fxnorm.tracking.errors import as_user_error, first_line, server, shown, unless_missing
from fxnorm.tracking.system_metrics import SystemMetrics

DEFAULT_EXPERIMENT = "fxnorm"
RUN_FILE = "mlflow_run.json"
"""In a folder of checkpoints, in a report, and in a Mixer directory that is passed on alone."""
_BESIDE = "-run.json"
"""What the file beside a Mixer directory is called after that."""
PARAMS_FILE = "params.yaml"
"""Among the run's artifacts: all settings, as ``--params`` takes them."""
MIXER_TAG = "mixer.digest"
"""Of the run that trained a Mixer or was begun for one that was trained elsewhere, and of a registered version."""
NETWORK_TAG = "network"
DATASETS_TAG = "data.datasets"
LICENCES_TAG = "data.licences"
"""Of a run, and of a registered version whose data's licences are known."""
DESCRIPTION_TAG = MLFLOW_RUN_NOTE
"""The text on the run's page, in Markdown."""
PARENT_TAG = MLFLOW_PARENT_RUN_ID
"""The run that a run is shown within."""

_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # else its pages are those for language models
_DVC_EXPERIMENT = {"dvc.experiment": "DVC_EXP_NAME", "dvc.baseline": "DVC_EXP_BASELINE_REV"}
"""Tag -> variable that DVC sets for the commands of an experiment."""
_CURVES = {
    "learning_rate": "train/learning_rate",
    "train_loss": "train/loss",
    "validation_loss": "validation/loss",
}
"""Column of the file of the loss over epochs -> metric."""
_BATCH = 500  # a request to the server may hold 1,000 metrics
_FLUSH_SECONDS = 5.0
_RETRY_SECONDS = 600.0
_FINISHED, _FAILED, _STOPPED = "FINISHED", "FAILED", "KILLED"


def configure() -> str:
    """Point MLflow to the tracking server, or to the embedded default, and return the address."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        uri = embedded_store.DEFAULT_URI
        embedded_store.share()
    mlflow.set_tracking_uri(uri)
    object_store.send_required_checksums_only()  # where artifacts lie in an S3 store, MLflow asks it itself
    for address in {uri, mlflow.get_registry_uri()}:
        embedded_store.settle(address)
    if shown(uri) != uri:
        MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)  # else MLflow prints it whole, credentials included
    return uri


class Experiment(BaseModel):
    """What a run begins with, here and in each store to which its results are brought later."""

    name: str
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    settings: str = ""
    """YAML, for :data:`PARAMS_FILE`."""
    data: dict[str, dict[str, str]] = {}
    """Name of what is read for the training -> its version."""


class _Left(BaseModel):
    """What is written of a run where the next stage, or the next start of the same one, looks for it."""

    run_id: str
    mixer: str | None = None
    experiment: Experiment | None = None


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
        self._keeps_status = False
        self.experiment: Experiment | None = None
        """What it began with, where that is known."""

    @classmethod
    def start(cls, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> "TrackedRun":
        """A new run with its parameters and tags, beside what is known of the code's version."""
        uri = configure()
        with as_user_error(f"{server()}: MLflow cannot start a run"):
            client = mlflow.MlflowClient()
            experiment = _experiment(client, uri)
        return cls._started(experiment, name, params, tags)

    @classmethod
    def _started(
        cls, experiment: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str], parent: str | None = None
    ) -> "TrackedRun":
        nested = {} if parent is None else {MLFLOW_PARENT_RUN_ID: parent}
        with as_user_error(f"{server()}: MLflow cannot start a run"):
            created = mlflow.MlflowClient().create_run(experiment, run_name=name, tags=nested)
        run = cls(created.info.run_id)
        run.set_params(params)
        own = {MLFLOW_SOURCE_NAME: f"fxnorm {__version__}", **_user(), **code_version(), **_experiment_of_dvc()}
        run.set_tags({**own, **tags})
        return run

    @classmethod
    def begin(cls, experiment: Experiment) -> "TrackedRun":
        """A new run with all that it begins with."""
        run = cls.start(experiment.name, experiment.params, experiment.tags)
        run.experiment = experiment
        if experiment.settings:
            run.add_text(PARAMS_FILE, experiment.settings)
        for name, version in experiment.data.items():
            run.add_dataset(name, version, "training")
        return run

    @classmethod
    def resume(cls, folder: Path, experiment: Experiment | None = None) -> "TrackedRun | None":
        """The run whose id was left in ``folder``.

        Args:
            folder: that :meth:`leave_in` wrote into.
            experiment: a run that began with other parameters is another one.

        Returns:
            None if that run is another one, or not known to this tracking server.

        Raises:
            ModelError: the file that names the run is not as :meth:`leave_in` writes it.
        """
        configure()
        left = _read(folder / RUN_FILE)
        if left is None or not is_alive(left.run_id):
            return None
        if experiment is not None and left.experiment is not None and left.experiment.params != experiment.params:
            return None
        run = cls(left.run_id)
        run.experiment = left.experiment
        return run

    def leave_in(self, folder: Path, mixer: str | None = None) -> None:
        """Write the run's id into a folder, with what it began with and the digest of its Mixer."""
        self._leave(folder / RUN_FILE, mixer)

    def leave_beside(self, mixer: Path, digest: str | None) -> None:
        """Write the run's id beside what it trained, with what it began with and the Mixer's digest."""
        if digest is not None:
            self.set_tags({MIXER_TAG: digest})  # by which the run of a copy is found that lies elsewhere
        self._leave(file_beside(mixer), digest)

    def _leave(self, file: Path, mixer: str | None) -> None:
        left = _Left(run_id=self.run_id, mixer=mixer, experiment=self.experiment)
        write_json(file, left.model_dump(exclude_none=True))

    def child(self, what: str, tag: str, value: str) -> "TrackedRun":
        """The run within this one that has a tag of this value, or a new one, with this one's name and parameters."""
        with self._as_user_error("read"):
            parent = self._client.get_run(self.run_id)
            experiment = parent.info.experiment_id
            condition = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{self.run_id}' and tags.`{tag}` = '{value}'"
            found = self._client.search_runs([experiment], condition, max_results=1)
        if found:
            return TrackedRun(found[0].info.run_id)
        name = f"{parent.info.run_name}: {what}"
        return self._started(experiment, name, parent.data.params, {tag: value}, parent=self.run_id)

    def is_finished(self) -> bool:
        """Whether the run has ended well."""
        with self._as_user_error("read"):
            return bool(self._client.get_run(self.run_id).info.status == _FINISHED)

    def adding(self) -> "TrackedRun":
        """This run, for a ``with`` block that leaves its status and its end as they are, if it has ended.

        They are those of its training, whatever comes of what is added to it later.
        """
        with self._as_user_error("read"):
            status = self._client.get_run(self.run_id).info.status
        self._keeps_status = RunStatus.is_terminated(RunStatus.from_string(status))
        return self

    def go_on(self) -> None:
        """Leave out the steps that the run has already: those that are done again after an interruption."""
        with self._as_user_error("read"):
            # The last step of each metric, which MLflow's public interface gives only with the metric's whole history.
            # Read in MLflow 3.17.2: RunData._metric_objs holds the newest value of each metric, with its step. If that
            # changes, a resumed training cannot begin; tests/test_private_interfaces.py names what was used.
            for metric in self._client.get_run(self.run_id).data._metric_objs:
                self._last_steps[metric.key] = metric.step

    def watch_system(self) -> None:
        """Measure what the machine does until the ``with`` block ends, unless that is switched off."""
        if system_metrics.enabled():
            done = [step for name, step in self._last_steps.items() if name.startswith(system_metrics.PREFIX)]
            self._system_metrics = SystemMetrics(self._note, max(done, default=-1) + 1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Note values at a step; they are sent every few seconds."""
        self._note(step, values)
        seconds = time.monotonic()
        if seconds >= self._retry_at and (len(self._waiting) >= _BATCH or seconds - self._sent_at > _FLUSH_SECONDS):
            self._send_or_keep()

    def send(self) -> None:
        """Send what was noted, unless the server did not answer a moment ago."""
        if time.monotonic() >= self._retry_at:
            self._send_or_keep()

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Parameters of the whole execution; values that are set already must be the same."""
        with self._as_user_error("written"):
            self._client.log_batch(self.run_id, params=[Param(name, str(value)) for name, value in params.items()])

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Tags of the run; a later value replaces an earlier one."""
        with self._as_user_error("written"):
            self._client.log_batch(self.run_id, tags=[RunTag(name, str(value)) for name, value in tags.items()])

    def params(self) -> dict[str, str]:
        """All parameters of the run."""
        with self._as_user_error("read"):
            return dict(self._client.get_run(self.run_id).data.params)

    def tags(self) -> dict[str, str]:
        """All tags of the run."""
        with self._as_user_error("read"):
            return dict(self._client.get_run(self.run_id).data.tags)

    def add_dataset(self, name: str, version: Mapping[str, str], context: str) -> None:
        """Note what the run has read.

        Args:
            name: which part of which dataset.
            version: as :func:`fxnorm.data.versions.data_version` gives it. DVC's hash stands beside the name
                where there is one, else the hash of the songs.
            context: what for, such as ``training``.
        """
        digest = version.get("dvc", version["digest"])[:MAX_DATASET_DIGEST_SIZE]
        dataset = Dataset(name, digest, source_type="code", source=CodeDatasetSource(dict(version)).to_json())
        dataset_input = DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, context)])
        with self._as_user_error("written"):
            self._client.log_inputs(self.run_id, datasets=[dataset_input])

    def replay(self, curve: Path) -> None:
        """Note the loss over epochs from the file that the training wrote, as the training notes it.

        Raises:
            DatasetError: it is another file.
        """
        try:
            with open(curve, newline="", encoding="utf-8") as file:
                rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
            for row in rows:
                self.log(int(row["step"]), {_CURVES[name]: row[name] for name in _CURVES if name in row})
        except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
            raise DatasetError(f"{curve}: expected the loss over epochs, as 'fxnorm train' writes it") from error
        validated = [row for row in rows if "validation_loss" in row]
        if validated:
            best = min(validated, key=lambda row: row["validation_loss"])
            values = {"validation/best_loss": best["validation_loss"], "validation/best_step": best["step"]}
            self.log(int(rows[-1]["step"]), values)

    def has_metric(self, name: str) -> bool:
        """Whether the run has a value of this name."""
        with self._as_user_error("read"):
            return name in self._client.get_run(self.run_id).data.metrics

    def has_file(self, name: str) -> bool:
        """Whether ``name`` is among the run's artifacts."""
        folder, _, _ = name.rpartition("/")
        with self._as_user_error("read"):
            return name in {file.path for file in self._client.list_artifacts(self.run_id, folder or None)}

    def add_file(self, path: Path, folder: str | None = None) -> None:
        """Keep a file with the run, in ``folder`` of its artifacts."""
        with self._as_user_error("written"), _safely_named(path) as file:
            self._client.log_artifact(self.run_id, str(file), folder)

    def add_folder(self, path: Path, folder: str | None = None) -> None:
        """Keep the files of a folder with the run, in ``folder`` of its artifacts.

        Files get the names that :func:`fxnorm.io.names.file_part` makes of theirs.
        """
        with self._as_user_error("written"), _safely_named(path) as safe:
            self._client.log_artifacts(self.run_id, str(safe), folder)

    def add_text(self, name: str, text: str) -> None:
        """Keep a text file with the run, as ``name`` among its artifacts; it replaces an earlier one."""
        with self._as_user_error("written"):
            self._client.log_text(self.run_id, text, name)

    def add_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """A table that MLflow's pages show as one; it replaces an earlier one.

        Args:
            name: of the artifact, with the suffix ``.json``.
            rows: columns and values; a value that is not there stays empty.
        """
        table = pd.DataFrame(rows)
        is_there = self.has_file(name)
        with self._as_user_error("written"):
            if is_there:
                # MLflow would append the rows to those of before
                self._client.log_dict(self.run_id, json.loads(table.to_json(orient="split", index=False)), name)
            else:
                self._client.log_table(self.run_id, table, name)

    def __enter__(self) -> "TrackedRun":
        if not self._keeps_status:
            with self._as_user_error("written"):
                self._client.update_run(self.run_id, status="RUNNING")
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        if self._system_metrics is not None:
            self._system_metrics.stop()
        try:
            with self._as_user_error("completed"):
                self._send()
                if not self._keeps_status:
                    self._finish(error_type)
        except FxnormError as error:
            if error_type is None:
                raise
            tqdm.write(str(error))  # the error that ends the block is the one to be seen

    def _report_other_experiment(self) -> None:
        """Report it to the user if the run is in another experiment than ``MLFLOW_EXPERIMENT_NAME`` names now."""
        with self._as_user_error("read"):
            experiment = self._client.get_experiment(self._client.get_run(self.run_id).info.experiment_id).name
        if experiment != _experiment_name():
            tqdm.write(
                f"MLflow: run {self.run_id} is in the experiment {experiment!r}, not in {_experiment_name()!r};"
                " results go to where it is"
            )

    def _finish(self, error_type: type[BaseException] | None) -> None:
        stopped = error_type is not None and issubclass(error_type, StoppedError | PrunedError)
        self._client.set_terminated(self.run_id, _FINISHED if error_type is None else _STOPPED if stopped else _FAILED)

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

    def _as_user_error(self, done: str) -> contextlib.AbstractContextManager[None]:
        return as_user_error(f"MLflow: run {self.run_id} cannot be {done}")


def file_beside(mixer: Path) -> Path:
    """Where the id of the run that trained a Mixer lies."""
    folder = mixer.resolve() if mixer.name in ("", "..") else mixer
    return folder.with_name(f"{folder.name}{_BESIDE}")


def pack(mixer: Path) -> None:
    """Move the file that lies beside a Mixer directory into it, where that alone is passed on."""
    file_beside(mixer).replace(mixer / RUN_FILE)


def run_of(mixer: Path, report: Path, name: str) -> TrackedRun:
    """The run that trained ``mixer``, or, with a message, a new one where the tracking server does not know that run.

    The new run begins as the training's did. Its id stays in ``report``, where the next stage finds it.
    """
    from fxnorm.mixing.mixer import mixer_digest  # PyTorch takes seconds to import, and others than stages come here

    configure()
    digest = mixer_digest(mixer)
    left = _left_of(mixer, digest)
    if left is not None and is_alive(left.run_id):
        run = TrackedRun(left.run_id)
    else:
        known = _begun_for(digest, report)
        if known is None:
            tqdm.write(f"{mixer}: its MLflow run is not known to {server()}; a new one is started")
            known = TrackedRun.begin(_experiment_of(mixer, left, name, digest))
        run = known
        run.leave_in(report, mixer=digest)
    run._report_other_experiment()
    return run


def run_of_imported(mixer: Path, name: str, tags: Mapping[str, str]) -> TrackedRun:
    """The run of a Mixer that others trained: the one that is known for it, or a new one.

    Its id stays beside the Mixer, where ``evaluate`` and ``register`` find it.

    Args:
        mixer: the Mixer directory.
        name: of a new run.
        tags: of a new run, beside those that the Mixer itself gives.
    """
    from fxnorm.mixing.mixer import mixer_digest

    configure()
    digest = mixer_digest(mixer)
    left = _left_of(mixer, digest)
    if left is not None and is_alive(left.run_id):
        return TrackedRun(left.run_id)
    run = _of_mixer(digest)
    if run is None:
        experiment = _experiment_of(mixer, None, name, digest)
        run = TrackedRun.begin(experiment.model_copy(update={"tags": {**experiment.tags, **tags}}))
    run.leave_beside(mixer, digest)
    return run


def source_tags(learnt: provenance.TrainedOn) -> dict[str, str]:
    """Tags for the datasets and licences that a network learnt from."""
    return {DATASETS_TAG: ", ".join(learnt.datasets), LICENCES_TAG: ", ".join(learnt.licences)}


def store() -> dict[str, str]:
    """Which store results go to: addresses without credentials, the experiment, and when that was made.

    A store that was deleted and made anew is another one, at the same address. An experiment that is not there is made.
    """
    uri = configure()
    with as_user_error(f"{server()}: MLflow does not tell of its experiments"):
        client = mlflow.MlflowClient()
        experiment = client.get_experiment(_experiment(client, uri))
    return {
        "tracking": _address(mlflow.get_tracking_uri()),
        "registry": _address(mlflow.get_registry_uri()),
        "experiment": experiment.name,
        "since": str(experiment.creation_time),
    }


def _address(uri: str) -> str:
    """Without credentials; of an embedded store without its folder, with which it may move."""
    database = embedded_store.database_of(uri)
    return shown(uri) if database is None else f"sqlite:///{database.name}"


def is_alive(run_id: str) -> bool:
    """Whether the tracking server knows a run, and has not deleted it."""
    with as_user_error(f"{server()}: MLflow cannot look up run {run_id}"):
        run = unless_missing(mlflow.MlflowClient().get_run, run_id)
    return run is not None and run.info.lifecycle_stage != LifecycleStage.DELETED


def _begun_for(digest: str, report: Path) -> TrackedRun | None:
    """The run that a report names for a Mixer, or the newest of the experiment that is the Mixer's, if there is one."""
    left = _read(report / RUN_FILE)
    if left is not None and left.mixer == digest and is_alive(left.run_id):  # not an earlier Mixer's
        run = TrackedRun(left.run_id)
        run.experiment = left.experiment
        return run
    return _of_mixer(digest)


def _of_mixer(digest: str) -> TrackedRun | None:
    """The newest run of the experiment that is a Mixer's, if there is one."""
    with as_user_error(f"{server()}: MLflow cannot look up the runs of a Mixer"):
        client = mlflow.MlflowClient()
        experiment = client.get_experiment_by_name(_experiment_name())
        if experiment is None:
            return None
        runs = client.search_runs([experiment.experiment_id], f"tags.`{MIXER_TAG}` = '{digest}'", max_results=1)
    return TrackedRun(runs[0].info.run_id) if runs else None


def _experiment_of(mixer: Path, left: _Left | None, name: str, digest: str) -> Experiment:
    """What the training of a Mixer began with, or what can be read from the Mixer itself."""
    if left is not None and left.experiment is not None:
        experiment = left.experiment
    else:
        import torch

        from fxnorm.mixing.mixer import Mixer

        opened = Mixer.load(mixer, torch.device("cpu"))
        sizes = {f"train.sizes.{key}": str(value) for key, value in opened.network.config.items() if key != "name"}
        experiment = Experiment(
            name=name,
            params={"train.network": str(opened.network.config["name"]), **sizes},
            tags={f"data.{key}": value for key, value in opened.recipe.data.items()}
            | source_tags(provenance.read(mixer)),
        )
    return experiment.model_copy(update={"tags": {**experiment.tags, MIXER_TAG: digest}})


@contextlib.contextmanager
def _safely_named(path: Path) -> Iterator[Path]:
    """A file, or a folder of files, under names that are addresses as they stand; itself, if they are.

    Files that are no results, such as a command's list of what it made in a folder, are left out.
    """
    present = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    files = files_below(path) if path.is_dir() else [path]
    parts = {file: (file.relative_to(path).parts if path.is_dir() else (file.name,)) for file in files}
    safe = {file: tuple(map(file_part, names)) for file, names in parts.items()}
    if safe == parts and len(files) == len(present):
        yield path
        return
    with tempfile.TemporaryDirectory() as temporary:
        for file in files:
            linked = Path(temporary, *safe[file])
            linked.parent.mkdir(parents=True, exist_ok=True)
            linked.symlink_to(file.absolute())
        yield Path(temporary) if path.is_dir() else linked


def _left_of(mixer: Path, digest: str) -> _Left | None:
    """What its training left of a Mixer with this digest, beside it or in it, if that is there."""
    beside = _read(file_beside(mixer))
    return beside if beside is not None and beside.mixer == digest else _read(mixer / RUN_FILE)


def _read(file: Path) -> _Left | None:
    if not file.is_file():
        return None
    try:
        return _Left.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise ModelError(f"{file}: expected the id of an MLflow run, found none") from error


def _experiment_name() -> str:
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT


def _experiment(client: mlflow.MlflowClient, uri: str) -> str:
    name = _experiment_name()
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        # a server chooses where artifacts go; an embedded database would put them into ./mlruns
        location = embedded_store.new_location() if uri.startswith("sqlite:") else None
        try:
            created = str(client.create_experiment(name, location, _EXPERIMENT_TAGS))
            embedded_store.settle(uri)  # MLflow makes any address absolute
            return created
        except MlflowException:
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    return str(experiment.experiment_id)  # perhaps made by another process, a moment ago


def _experiment_of_dvc() -> dict[str, str]:
    """Tags for the DVC experiment that a run is made in: its name, and the commit that it starts from."""
    values = {tag: os.environ.get(variable) for tag, variable in _DVC_EXPERIMENT.items()}
    return {tag: value for tag, value in values.items() if value}


def _user() -> dict[str, str]:
    try:
        return {MLFLOW_USER: getpass.getuser()}
    except (KeyError, OSError):  # containers run as users without a name
        return {}

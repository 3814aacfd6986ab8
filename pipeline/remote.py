"""The pipeline on a cluster: started once or by a schedule, through Kubeflow's API, and watched until it ends."""

import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import kfp
import kfp_server_api
import yaml

from fxnorm.errors import FxnormError, SettingsError, StoppedError
from fxnorm.pipeline import graph
from fxnorm.pipeline.client import Connection, UnavailableError
from fxnorm.pipeline.cluster import Cluster
from fxnorm.pipeline.parameters import BatchParameters, Parameters, SearchParameters

_FINISHED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
_PATIENCE_SECONDS = 300.0
_CRON_FIELDS = 6

Report = Callable[[str], None]
"""Takes a line for the user."""


class RunError(FxnormError):
    """The run ended otherwise than well, or not in time."""


@dataclass(frozen=True)
class Job:
    """What to start, and under which names."""

    cluster: Cluster
    parameters: Parameters | BatchParameters | SearchParameters
    experiment: str
    name: str | None = None
    """Of the run; the pipeline's with the time if None."""
    service_account: str | None = None
    """Kubernetes service account of the tasks; Kubeflow's own choice if None."""
    cache: bool = True
    """Whether tasks may take over results of earlier runs."""


@dataclass(frozen=True)
class Patience:
    """How a run is waited for."""

    poll_seconds: float = 10.0
    timeout_seconds: float | None = None
    """None waits for as long as it takes."""


def start(connection: Connection, job: Job, patience: Patience | None, report: Report) -> None:
    """Start a run now and, with ``patience``, wait for its end.

    Raises:
        SettingsError: something given does not fit; nothing was started.
        ServerError: Kubeflow cannot be reached or refused.
        RunError: the run ended otherwise than well, or not in time.
        StoppedError: Ctrl-C while waiting; the run goes on.
    """
    client, experiment = _prepare(connection, job)
    with _compiled(job) as package:
        run = client.run_pipeline(
            experiment.experiment_id,
            job.name or f"{_name_of(job)} {datetime.now():%Y-%m-%d %H-%M-%S}",
            pipeline_package_path=str(package),
            params=job.parameters.arguments(),
            service_account=job.service_account,
        )
        names = _task_names(package) if patience is not None else frozenset()
    report(f"run {run.run_id}: started")
    if patience is not None:
        _Watch(client, run.run_id, _link(connection, run.run_id), names, report).until_end(patience)


def schedule(connection: Connection, job: Job, cron: str, max_concurrency: int, report: Report) -> None:
    """Start a run at each time that ``cron`` names (in the zone of Kubeflow's controller, UTC as installed).

    Args:
        connection: to Kubeflow.
        job: what to start each time.
        cron: six fields, from seconds to the day of the week, or one of cron's names such as ``@daily``.
        max_concurrency: how many of its runs may go at a time, 1 to 10.
        report: takes lines for the user.

    Raises:
        SettingsError: something given does not fit; nothing was scheduled.
        ServerError: Kubeflow cannot be reached or refused.
    """
    # Kubeflow takes five fields too, but reads them from seconds on: '0 3 * * *' would be each hour
    if len(cron.split()) != _CRON_FIELDS and not cron.startswith("@"):
        raise SettingsError(
            f"--schedule {cron!r}: expected six fields: second, minute, hour, day, month, day of the week"
        )
    client, experiment = _prepare(connection, job)
    with _compiled(job) as package:
        recurring = client.create_recurring_run(
            experiment.experiment_id,
            job.name or _name_of(job),
            cron_expression=cron,
            max_concurrency=max_concurrency,
            no_catchup=True,  # after a pause, the newest data once, not as often as was missed
            pipeline_package_path=str(package),
            params=job.parameters.arguments(),
            service_account=job.service_account,
        )
    report(f"recurring run {recurring.recurring_run_id}: {cron}, {max_concurrency} at a time")
    report(f"{connection.host.rstrip('/')}/#/recurringrun/details/{recurring.recurring_run_id}")


def _name_of(job: Job) -> str:
    return graph.PIPELINES[job.parameters.graph].name


def _prepare(connection: Connection, job: Job) -> tuple[kfp.Client, kfp_server_api.V2beta1Experiment]:
    client = connection.open()
    try:
        return client, client.create_experiment(job.experiment)
    except ValueError as error:  # several of this name, of users who share a namespace
        raise SettingsError(f"--experiment {job.experiment}: {error}") from error


@contextmanager
def _compiled(job: Job) -> Iterator[Path]:
    """The pipeline's YAML, for as long as the block lasts."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "pipeline.yaml"
        graph.compile_to(package, job.cluster, job.parameters.graph)
        if not job.cache:
            _forbid_cache(package)
        yield package


def _forbid_cache(package: Path) -> None:
    """Switch caching off for every task; kfp's own switch leaves out those within loops."""
    documents = list(yaml.safe_load_all(package.read_text(encoding="utf-8")))
    for _, task in _tasks(documents[0]):
        task["cachingOptions"] = {}
    package.write_text(yaml.safe_dump_all(documents), encoding="utf-8")


def _tasks(pipeline: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for component in (pipeline["root"], *pipeline["components"].values()):
        yield from component.get("dag", {}).get("tasks", {}).items()


def _task_names(package: Path) -> frozenset[str]:
    """Names, as they are shown, of the tasks that do something, as opposed to loops and conditions round them."""
    pipeline = next(yaml.safe_load_all(package.read_text(encoding="utf-8")))
    components = pipeline["components"]
    return frozenset(
        task["taskInfo"]["name"]
        for _, task in _tasks(pipeline)
        if "executorLabel" in components[task["componentRef"]["name"]]
    )


def _link(connection: Connection, run_id: str) -> str:
    return f"{connection.host.rstrip('/')}/#/runs/details/{run_id}"


class _Watch:
    """Reports what changes in a run, until it ends."""

    def __init__(self, client: kfp.Client, run_id: str, link: str, names: frozenset[str], report: Report) -> None:
        self._client = client
        self._run_id = run_id
        self._link = link
        self._names = names
        self._report = report
        self._start = time.monotonic()
        self._states: dict[str, str] = {}
        self._titles: dict[str, str] = {}
        self._seen: Counter[str] = Counter()

    def until_end(self, patience: Patience) -> None:
        try:
            run = self._wait(patience)
        except KeyboardInterrupt as error:
            raise StoppedError(f"run {self._run_id} goes on; watch it at {self._link}", signal.SIGINT) from error
        if run.state != "SUCCEEDED":
            raise RunError(f"run {self._run_id} {run.state} after {self._elapsed()}: {self._reason(run)}; {self._link}")

    def _wait(self, patience: Patience) -> kfp_server_api.V2beta1Run:
        timeout = patience.timeout_seconds
        while True:
            run = self._current(patience.poll_seconds)
            self._report_changes(run)
            if run.state in _FINISHED:
                return run
            passed = time.monotonic() - self._start
            if timeout is not None and passed >= timeout:
                raise RunError(
                    f"run {self._run_id} is still {run.state} after {timeout:g} s (--timeout); it goes on: {self._link}"
                )
            time.sleep(patience.poll_seconds if timeout is None else min(patience.poll_seconds, timeout - passed))

    def _current(self, poll_seconds: float) -> kfp_server_api.V2beta1Run:
        """The run as it is now. A server that does not answer for a while does not end the wait."""
        give_up = time.monotonic() + _PATIENCE_SECONDS
        silent = False
        while True:
            try:
                return self._client.get_run(self._run_id)
            except UnavailableError as error:
                if time.monotonic() > give_up:
                    raise RunError(f"{error}; run {self._run_id} goes on: {self._link}") from error
                if not silent:
                    self._report_line(f"{error}; asking again for {_PATIENCE_SECONDS:.0f} s")
                silent = True
                time.sleep(poll_seconds)
            except FxnormError as error:
                raise RunError(f"{error}; run {self._run_id} goes on: {self._link}") from error

    def _report_changes(self, run: kfp_server_api.V2beta1Run) -> None:
        """A line for the run and for each of its tasks whose state has changed."""
        for task in self._details(run):
            if task.task_id not in self._titles:
                self._seen[task.display_name] += 1
                count = self._seen[task.display_name]
                self._titles[task.task_id] = task.display_name if count == 1 else f"{task.display_name} {count}"
            self._report_state(task.task_id, self._titles[task.task_id], task.state)
        self._report_state("", "run", run.state)

    def _report_state(self, key: str, title: str, state: str | None) -> None:
        if state and self._states.get(key) != state:
            self._states[key] = state
            self._report_line(f"{title}: {state}")

    def _report_line(self, text: str) -> None:
        self._report(f"{self._elapsed()}  {text}")

    def _details(self, run: kfp_server_api.V2beta1Run) -> list[kfp_server_api.V2beta1PipelineTaskDetail]:
        """The pipeline's own tasks, in the order they came; Kubeflow also lists its drivers, loops and attempts."""
        return [task for task in _all_details(run) if task.display_name in self._names]

    def _reason(self, run: kfp_server_api.V2beta1Run) -> str:
        """The task that failed first and the server's message on it, which is often empty."""
        failed = [task for task in self._details(run) if task.state == "FAILED"]
        # without a task of ours, a driver has failed: an image or a secret may be missing
        failed = failed or [task for task in _all_details(run) if task.state == "FAILED"]
        failed.sort(key=lambda task: (task.end_time is None, task.end_time and task.end_time.timestamp()))
        parts = []
        if failed:
            parts.append(self._titles.get(failed[0].task_id, failed[0].display_name))
        messages = (_message(part) for part in [*failed[:1], run])
        parts.append(next(filter(None, messages), "the task's log says why" if failed else "no reason given"))
        return ": ".join(parts)

    def _elapsed(self) -> str:
        return str(timedelta(seconds=int(time.monotonic() - self._start)))


def _all_details(run: kfp_server_api.V2beta1Run) -> list[kfp_server_api.V2beta1PipelineTaskDetail]:
    details = (run.run_details and run.run_details.task_details) or []
    return sorted(details, key=lambda task: (task.start_time is None, task.start_time and task.start_time.timestamp()))


def _message(thing: kfp_server_api.V2beta1Run | kfp_server_api.V2beta1PipelineTaskDetail) -> str:
    """The error of a run or task, in one line, where the server has put it; empty if nowhere."""
    errors = [thing.error, *(status.error for status in reversed(thing.state_history or []))]
    return next((" ".join(error.message.split()) for error in errors if error is not None and error.message), "")

"""Names of other packages that are not in their public interface and that this project uses nevertheless.

Each was read in the version given here. After an upgrade, a test that fails names what has to be read again, and what
breaks otherwise.
"""

import contextlib
import importlib.util
import sqlite3
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

import kfp
import kfp_server_api
import optuna
import pytest
from fastapi import FastAPI
from kfp.local.docker_task_handler import DockerTaskHandler
from mlflow.entities import RunData
from mlflow.store.db import utils
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.utils import requirements_utils
from starlette.applications import Starlette

from fxnorm.pipeline import client
from fxnorm.serving import request_limiter
from fxnorm.tracking import embedded_store
from tests import stores


class Private(NamedTuple):
    """A private name that is used here."""

    name: str
    package: str
    read_in: str
    """The version of the package whose source was read."""
    is_there: Callable[[], bool]
    breaks: str
    """What happens here if the package changes it."""


def _uses(function: Any, *names: str) -> bool:
    """Whether the function refers to all these attributes or globals."""
    assert isinstance(function, FunctionType)
    return set(names) <= set(function.__code__.co_names)


def _has_columns() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "mlflow.db"
        stores.new_database(database)
        with contextlib.closing(sqlite3.connect(database)) as connection:
            present = embedded_store._columns(connection)
    return present >= {(table, column) for table, columns in embedded_store._ADDRESSES.items() for column in columns}


def _trial_is_taken_up() -> bool:
    study = optuna.create_study()
    study.ask()
    optuna.Trial(study, study.trials[0]._trial_id).set_user_attr("taken", "up")
    return study.trials[0].user_attrs == {"taken": "up"}


PRIVATE = [
    Private(
        "RunData._metric_objs", "mlflow", "3.17.2",
        lambda: hasattr(RunData(metrics=[]), "_metric_objs"),
        "fxnorm.tracking.runs: a training that is resumed cannot find the last step of each metric",
    ),
    Private(
        "mlflow.system_metrics: collect_metrics, aggregate_metrics, clear_metrics", "mlflow", "3.17.2",
        lambda: all(hasattr(CPUMonitor, name) for name in ("collect_metrics", "aggregate_metrics", "clear_metrics")),
        "fxnorm.tracking.system_metrics: no load of the machine is measured",
    ),
    Private(
        "addresses in MLflow's tables", "mlflow", "3.17.2",
        _has_columns,
        "fxnorm.tracking.embedded_store: a project that was moved reads artifacts where it lay before",
    ),
    Private(
        "mlflow.pyfunc.scoring_server.app", "mlflow", "3.17.2",
        lambda: importlib.util.find_spec(request_limiter._SCORING_SERVER) is not None,
        "serving.request_limiter: the server is not recognized, and requests are served without limits",
    ),
    Private(
        "FastAPI.build_middleware_stack, called when an application gets its first message", "fastapi", "0.165.0",
        lambda: hasattr(FastAPI, "build_middleware_stack") and _uses(Starlette.__call__, "build_middleware_stack"),
        "serving.request_limiter: requests are served without limits",
    ),
    Private(
        "kfp.local.docker_task_handler.run_docker_container", "kfp", "2.17.0",
        lambda: _uses(DockerTaskHandler.run, "run_docker_container"),
        "pipeline.local: a container that has ended early counts as one that succeeded",
    ),
    Private(
        "kfp.Client._healthz_api and _existing_config", "kfp", "2.17.0",
        lambda: _uses(kfp.Client.__init__, "_healthz_api", "_existing_config", "get_kfp_healthz"),
        "pipeline.client: 'fxnorm pipeline submit' cannot connect",
    ),
    Private(
        "kfp.Client._context_setting", "kfp", "2.17.0",
        lambda: (
            _uses(kfp.Client.__init__, "_load_context_setting_or_default", "_context_setting")
            and _uses(kfp.Client.get_user_namespace, "_context_setting")
        ),
        "pipeline.client: a namespace is read from the home folder, or written into it",
    ),
    Private(
        "ApiClient.rest_client", "kfp-server-api", "2.17.3",
        lambda: (
            _uses(kfp_server_api.ApiClient.__init__, "rest_client")
            and _uses(kfp_server_api.ApiClient.request, "rest_client")
            and issubclass(client._Rest, kfp_server_api.rest.RESTClientObject)
        ),
        "pipeline.client: requests wait without end for a server that does not answer",
    ),
    Private(
        "FrozenTrial._trial_id, and optuna.Trial of a study and that", "optuna", "5.0.0",
        _trial_is_taken_up,
        "fxnorm.search.study: a trial that a killed process left cannot be gone on with",
    ),
    Private(
        "mlflow.store.db.utils._initialize_tables and _is_empty_database", "mlflow", "3.17.2",
        lambda: all(hasattr(utils, name) for name in ("_initialize_tables", "_is_empty_database")),
        "tests.stores: the tables of each test's database are made by MLflow's migrations, a second each",
    ),
    Private(
        "mlflow.utils.requirements_utils._get_installed_version", "mlflow", "3.17.2",
        lambda: _uses(requirements_utils._check_requirement_satisfied, "_get_installed_version"),
        "tests.stores: MLflow reads the versions of a hundred packages for each model that a test registers",
    ),
    Private(
        "mlflow.store.db.utils.MAX_RETRY_COUNT", "mlflow", "3.17.2",
        lambda: _uses(utils.create_sqlalchemy_engine_with_retry, "MAX_RETRY_COUNT"),
        "tests.test_mlflow_errors: a test waits minutes for a database that is not there",
    ),
]  # fmt: skip


@pytest.mark.parametrize("private", PRIVATE, ids=lambda private: private.name)
def test_what_is_used_of_other_packages_beside_their_interface_exists(private: Private) -> None:
    assert private.is_there(), (
        f"{private.name}: not in {private.package} {version(private.package)} as it was read in {private.read_in};"
        f" breaks {private.breaks}"
    )

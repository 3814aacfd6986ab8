"""Errors of a tracking server whose address has a password: they go into files and pages that others read."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
import yaml
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from fxnorm.errors import FxnormError, SettingsError, first_line
from fxnorm.io import audio, bounded
from fxnorm.pipeline.cluster import Cluster
from fxnorm.registry import aliases, registered
from fxnorm.settings import Settings
from fxnorm.tracking import errors, runs
from fxnorm.tracking.errors import shown, without_credentials
from fxnorm.tracking.runs import RUN_FILE, TrackedRun
from tests import servers

PASSWORD = "s3cret/p@ss"
SPELLED = "s3cret%2Fp%40ss"


@pytest.fixture(autouse=True)
def _address_of_before() -> Iterator[None]:
    before = mlflow.get_tracking_uri()
    yield
    mlflow.set_tracking_uri(before)


@pytest.mark.parametrize(
    "uri, expected",
    [
        ("http://alice:s3cret@mlflow.org:5000/path", "http://mlflow.org:5000/path"),
        ("https://token@mlflow.org", "https://mlflow.org"),
        ("http:/alice:s3cret@mlflow.org", "http:/mlflow.org"),
        ("http://alice:s3@cret@mlflow.org", "http://mlflow.org"),
        ("postgresql+psycopg2://alice:s3/cret@host:5432/db", "postgresql+psycopg2://host:5432/db"),
        ("postgresql://host/db?user=alice&password=s3cret", "postgresql://host/db"),
        ("http://mlflow.org:5000", "http://mlflow.org:5000"),
        ("sqlite:////home/a:b@c/mlflow.db", "sqlite:////home/a:b@c/mlflow.db"),
        ("mlruns", "mlruns"),
    ],
)
def test_an_address_is_shown_without_its_credentials(uri: str, expected: str) -> None:
    assert shown(uri) == expected


def test_a_text_is_told_without_credentials() -> None:
    mlflow.set_tracking_uri(f"postgresql://alice:{SPELLED}@host/db")
    told = without_credentials(
        f"postgresql://alice:{SPELLED}@host/db: no {PASSWORD} or {SPELLED}; s3://key:word@bucket/a; models:/x@champion"
    )
    assert told == "postgresql://host/db: no *** or ***; s3://bucket/a; models:/x@champion"


@pytest.mark.parametrize(
    "error, expected",
    [
        (MlflowException(""), "MlflowException"),
        (ModuleNotFoundError(), "ModuleNotFoundError"),
        (MlflowException("\n \n  the server is away\n  at line 3"), "the server is away"),
        (MlflowException("\n\n"), "MlflowException"),
        (ValueError("\u2028"), "ValueError"),
        (SQLAlchemyError(""), "SQLAlchemyError"),
    ],
)
def test_an_error_that_says_nothing_is_told_by_its_kind(error: Exception, expected: str) -> None:
    """The kind: a line is taken from a text that has none, and another error hides the one to be told."""
    assert first_line(error) == expected
    assert errors.first_line(error) == expected


def test_readers_tell_of_errors_without_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object, **__: object) -> None:
        raise yaml.YAMLError

    (tmp_path / "file.yaml").write_text("train: {}")
    with monkeypatch.context() as patch:
        patch.setattr(bounded, "load_yaml", silent)
        for read in (Settings.load, Cluster.load):
            with pytest.raises(SettingsError, match=r"file.yaml: not readable as YAML \(YAMLError\)"):
                read(tmp_path / "file.yaml")
    assert audio._reason(OSError()) == "OSError"
    assert audio._reason(EOFError("")) == "EOFError"


def _resume() -> None:
    Path(RUN_FILE).write_text(json.dumps({"run_id": "a" * 32}))
    TrackedRun.resume(Path())


def _challenge() -> None:
    runs.configure()
    aliases.challenge("name", "1")


@pytest.mark.parametrize("scheme", ["http", "postgresql+psycopg2", "unheard-of", "mssql+unheard-of"])
@pytest.mark.parametrize(
    "ask",
    [
        lambda: TrackedRun.start("a run", {}, {}),
        _resume,
        lambda: (runs.configure(), aliases.version_at("name", "champion")),
        _challenge,
        lambda: registered.open_mixer("models:/name@champion"),
    ],
)
def test_no_error_has_the_password(
    scheme: str, ask: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = f"127.0.0.1:{servers.free_port()}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}://alice:{SPELLED}@{host}/db")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    # read in MLflow 3.17.2, which else tries ten times, waiting longer each time
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 0)
    with pytest.raises(FxnormError) as raised:
        ask()
    message = str(raised.value)
    assert f"{scheme}://{host}/db" in message
    assert "\n" not in message
    assert not [word for word in ("alice", PASSWORD, SPELLED) if word in message]


def test_a_served_model_which_has_no_package_for_databases_reports_errors_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy.exc", None)
    with (
        pytest.raises(FxnormError, match=r"^model: not to be had \(no such model\)$"),
        errors.as_user_error("model: not to be had"),
    ):
        raise MlflowException("no such model")

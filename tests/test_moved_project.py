"""A project that is renamed, moved or copied works where it lies now, and touches nothing where it lay before.

The kind: something that travels with a project keeps the address of the folder that it was made in. The embedded MLflow
store did, in five columns of its database; MLflow's own commands have to find everything as ours do.
"""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import urllib.parse
from pathlib import Path

import mlflow
import pytest
from mlflow.utils.file_utils import local_file_uri_to_path

from fxnorm.errors import FxnormError
from fxnorm.pipeline import local
from fxnorm.tracking import embedded_store, runs
from fxnorm.tracking.runs import TrackedRun

pytestmark = pytest.mark.system

MODEL = "models:/fxnorm-automix@champion"
FOLDERS = ["plain", "with a blank", "half #1", "100%", "a%20b", "Who?", "Größe & Maß", "it's"]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project as versions before made it: a run with a file, a logged model, and a version, at absolute addresses."""
    folder = tmp_path_factory.mktemp("original") / "project"
    folder.mkdir()
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setattr(embedded_store, "settle", lambda uri: None)
        run = TrackedRun.start("a run", {}, {})
        run.add_text("note.txt", "of the original")
        (folder / "run").write_text(run.run_id)
        client = mlflow.MlflowClient()
        experiment = client.get_run(run.run_id).info.experiment_id
        model = client.create_logged_model(experiment, "model", run.run_id)
        location = Path(local_file_uri_to_path(model.artifact_location))
        location.mkdir(parents=True)
        (location / "MLmodel").write_text("flavors: {}\n")
        client.create_registered_model("a model")
        client.create_model_version("a model", f"models:/{model.model_id}", model_id=model.model_id)
    assert all(str(folder) in address for address in addresses(folder) if not address.startswith("models:"))
    return folder


def addresses(project: Path) -> list[str]:
    """All addresses of artifacts in the embedded store."""
    columns = ["experiments.artifact_location", "runs.artifact_uri", "logged_models.artifact_location"]
    columns += ["model_versions.source", "model_versions.storage_location"]
    found = []
    with contextlib.closing(sqlite3.connect(project / "mlflow.db")) as connection:
        for table, column in (name.split(".") for name in columns):
            found += [address for (address,) in connection.execute(f"SELECT {column} FROM {table}") if address]
    assert len(found) >= 5
    return found


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


WORK = """
import sys
from pathlib import Path
import mlflow
from fxnorm.tracking.runs import TrackedRun, configure
if sys.argv[1] == "ours":
    configure()
client, run_id = mlflow.MlflowClient(), Path("run").read_text()
assert Path(client.download_artifacts(run_id, "note.txt")).read_text() == "of the original"
client.log_text(run_id, "of this one", "more.txt")
assert len(list(Path("mlartifacts").rglob("more.txt"))) == 1
model = Path(mlflow.artifacts.download_artifacts("models:/a model/1"))
assert model.resolve().is_relative_to(Path.cwd()), model
if sys.argv[1] == "ours":
    TrackedRun.start("a new run", {}, {}).add_text("new.txt", "new")
    assert len(list(Path("mlartifacts").rglob("new.txt"))) == 1
"""
"""What the store held is read, and what is new goes into this folder."""


def works(folder: Path, whose: str, uri: str = "sqlite:///mlflow.db") -> None:
    """In a process of its own: MLflow keeps for a process where it found a database first."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    command = [sys.executable, "-c", WORK, whose]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", FOLDERS)
def test_every_address_leads_into_a_copy_of_any_name(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    copy = tmp_path / name
    shutil.copytree(original, copy)
    monkeypatch.chdir(copy)
    for uri in ("sqlite:///mlflow.db", "sqlite:///./mlflow.db"):
        embedded_store.settle(uri)
        paths = [Path(local_file_uri_to_path(address)) for address in addresses(copy) if "models:" not in address]
        assert all(not path.is_absolute() for path in paths)
        assert sum(path.is_dir() for path in paths) >= 4
    absolute = f"sqlite:///{urllib.parse.quote(str(copy))}/mlflow.db"
    (copy / "notebooks").mkdir()
    for folder, uri in ((copy, absolute), (tmp_path, absolute), (copy / "notebooks", "sqlite:///../mlflow.db")):
        monkeypatch.chdir(folder)
        embedded_store.settle(uri)
        paths = [Path(local_file_uri_to_path(address)) for address in addresses(copy) if "models:" not in address]
        assert sum(path.is_dir() for path in paths) >= 4
    assert all(path.is_relative_to(copy) for path in paths if path.is_dir())


def test_a_copy_works_and_leaves_the_original_alone_and_may_be_moved_without_us(original: Path, tmp_path: Path) -> None:
    before = files(original)
    copy = tmp_path / "Größe 100% #1?"
    shutil.copytree(original, copy)
    works(copy, "ours")
    for path in (copy / "mlartifacts").rglob("more.txt"):
        path.unlink()
    works(copy.rename(tmp_path / "moved"), "MLflow's own")
    assert files(original) == before


@pytest.mark.parametrize("original_stays", [True, False])
def test_a_store_that_is_opened_from_any_folder_follows_too(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, original_stays: bool
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.chdir(tmp_path)
    for source, folder in ((original, first), (first, second)):
        shutil.copytree(source, folder)
        if source == first and not original_stays:
            shutil.rmtree(first)
        embedded_store.settle(f"sqlite:///{folder}/mlflow.db")
        paths = [Path(local_file_uri_to_path(address)) for address in addresses(folder) if "models:" not in address]
        assert all(path.is_relative_to(folder) for path in paths)
        assert sum(path.is_dir() for path in paths) >= 4


def test_an_experiment_of_another_project_in_the_same_database_stays_where_it_is(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, other = tmp_path / "project", tmp_path / "other"
    shutil.copytree(original, project)
    other.mkdir()
    monkeypatch.chdir(other)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/mlflow.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
    run = TrackedRun.start("a run of the other project", {}, {})
    run.add_text("note.txt", "of the other")
    for folder in (project, other, tmp_path):
        monkeypatch.chdir(folder)
        before = addresses(project)
        runs.configure()
        assert [address for address in before if "other" in address] == [
            address for address in addresses(project) if "other" in address
        ]
        fetched = mlflow.MlflowClient().download_artifacts(run.run_id, "note.txt")
        assert Path(fetched).read_text() == "of the other"
    assert list((other / "mlartifacts").rglob("note.txt"))


def test_what_is_no_database_gets_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Path("mlflow.db").write_text("a text, and a longer one than the header of a database would be\n" * 10)
    with pytest.raises(FxnormError, match=r"^mlflow.db: ") as raised:
        runs.configure()
    assert "\n" not in str(raised.value)


def test_results_of_a_local_pipeline_are_not_taken_from_where_they_lay_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "first").mkdir()
    monkeypatch.chdir(tmp_path / "first")
    noted = local.cache_folder(Path("pipeline_runs"))
    assert noted == local.cache_folder(Path("./pipeline_runs"))
    noted.mkdir(parents=True)
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    monkeypatch.chdir(tmp_path / "second")
    assert not local.cache_folder(Path("pipeline_runs")).exists()

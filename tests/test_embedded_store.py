"""Workspaces of a project, a DVC experiment's and a git worktree, and the one MLflow store that they share."""

import subprocess
from pathlib import Path

import pytest

from fxnorm.errors import FxnormError
from fxnorm.tracking import embedded_store


def _git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def worktree(tmp_path: Path) -> Path:
    """A worktree beside a repository of one commit, whose project lies in a folder of it."""
    repository = tmp_path / "main"
    (repository / "project").mkdir(parents=True)
    (repository / "project" / "dvc.yaml").touch()
    _git(repository, "init", "-q")
    _git(repository, "add", "--all")
    _git(repository, "commit", "-q", "-m", "start")
    _git(repository, "worktree", "add", "-q", str(tmp_path / "other"))
    return tmp_path / "other" / "project"


def test_a_git_worktree_writes_into_the_store_of_the_project(worktree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(worktree)
    embedded_store.share()
    Path("mlflow.db").write_text("runs")  # through a link to a file that was not there
    Path("mlartifacts", "model").touch()
    project = worktree.parents[1] / "main" / "project"
    assert (project / "mlflow.db").read_text() == "runs"
    assert (project / "mlartifacts" / "model").is_file()
    embedded_store.share()
    assert Path("mlflow.db").read_text() == "runs"


def test_a_workspace_follows_a_project_that_was_moved(worktree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(worktree)
    embedded_store.share()
    repository = worktree.parents[1] / "main"
    repository.rename(repository.with_name("moved"))
    _git(repository.with_name("moved"), "worktree", "repair", str(worktree.parent))
    embedded_store.share()
    assert Path("mlflow.db").readlink() == repository.with_name("moved") / "project" / "mlflow.db"


def test_an_experiment_of_dvc_in_a_temporary_workspace_leaves_its_run_in_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "repository" / "project"
    workspace = project / ".dvc" / "tmp" / "exps" / "tmp1" / "project"
    (workspace / ".dvc").mkdir(parents=True)
    monkeypatch.setenv("DVC_ROOT", str(project))
    monkeypatch.chdir(workspace)
    embedded_store.share()
    Path("mlflow.db").write_text("runs")
    assert (project / "mlflow.db").read_text() == "runs"


def test_a_store_that_a_workspace_has_already_is_kept_and_named(
    worktree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(worktree)
    Path("mlflow.db").write_text("own")
    with pytest.raises(FxnormError, match=r"other/project/mlflow\.db: .*store of its own"):
        embedded_store.share()
    assert Path("mlflow.db").read_text() == "own"


def test_a_project_itself_and_a_folder_outside_git_have_a_store_of_their_own(
    worktree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    monkeypatch.setenv("DVC_ROOT", str(worktree.parents[1] / "main" / "project"))
    for folder in (worktree.parents[1] / "main" / "project", outside):
        monkeypatch.chdir(folder)
        embedded_store.share()
        assert not Path("mlflow.db").is_symlink()

"""Which code a result is from, as far as git can tell."""

import subprocess
from pathlib import Path

import pytest

from fxnorm.versions import code_version


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a repository with one commit."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FXNORM_COMMIT", raising=False)
    (tmp_path / "file").write_text("one")
    user = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["add", "file"], [*user, "commit", "-q", "-m", "start"]):
        subprocess.run(["git", *command], check=True)
    return tmp_path


def test_a_changed_file_is_told(repository: Path) -> None:
    clean = code_version()
    assert clean["git.dirty"] == "false"
    (repository / "file").write_text("another")
    assert code_version() == clean | {"git.dirty": "true"}


def test_where_git_cannot_tell_whether_a_file_differs_nothing_is_said_of_it(repository: Path) -> None:
    commit = code_version()["git.commit"]
    (repository / ".git/index").write_bytes(b"broken")
    assert code_version() == {"mlflow.source.git.commit": commit, "git.commit": commit}


def test_an_image_says_which_commit_it_is_of(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FXNORM_COMMIT", "v1-3-gabc-dirty")
    assert code_version() == {
        "mlflow.source.git.commit": "v1-3-gabc",
        "git.commit": "v1-3-gabc",
        "git.dirty": "true",
    }

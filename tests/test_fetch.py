"""Data of a git revision, brought from DVC's remote storage in an S3 store, as tasks on a cluster bring it."""

import subprocess
from pathlib import Path

import pytest
import yaml

from fxnorm.errors import DatasetError
from fxnorm.stages import fetch
from tests import servers
from tests.folders import contents
from tests.project import Project

pytestmark = pytest.mark.system

FILES = {"wet/train/A/bass.wav": b"one", "wet/train/B/bass.wav": b"two"}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, s3_environment: dict[str, str]) -> Project:
    """A repository with two versions of its data, the first tagged, and no cache of its own any more."""
    project = Project(tmp_path_factory.mktemp("published"))
    project.environment |= s3_environment
    project.run("git", "init", "-q", "-b", "main")
    project.run("dvc", "init", "-q")
    project.run("dvc", "remote", "add", "-q", "--default", "store", "s3://fxnorm/fetched")
    for number, suffix in enumerate((b"", b" again")):
        for name, content in FILES.items():
            file = project.folder / "data" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content + suffix)
        project.run("dvc", "add", "-q", "data")
        project.run("dvc", "push", "-q")
        project.commit(f"version {number}")
        project.run("git", "tag", f"v{number}")
    return project


@pytest.fixture
def address(published: Project, s3_environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where a clone without data lies, with the store's credentials in the environment."""
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(published.folder), str(clone)], check=True)
    return str(clone)


def test_a_revision_stands_for_its_commit_and_its_data(published: Project, address: str, tmp_path: Path) -> None:
    for revision, suffix in (("v0", b""), ("v1", b" again"), ("main", b" again")):
        commit = fetch.resolve(address, revision)
        assert commit == published.run("git", "rev-parse", f"{revision}^{{commit}}").strip()
        digest = fetch.run(address, commit, tmp_path / "out")
        assert contents(tmp_path / "out/data") == {name: text + suffix for name, text in FILES.items()}
        tracked = published.run("git", "show", f"{revision}:data.dvc")
        assert (tmp_path / "out/data.dvc").read_text() == tracked
        assert digest == yaml.safe_load(tracked)["outs"][0]["md5"]


@pytest.mark.parametrize(
    "where, said",
    [
        ({"revision": "v9"}, "at v9: cannot be fetched"),
        ({"path": "songs"}, "no songs.dvc; 'dvc add songs' makes it"),
        ({"remote": "elsewhere"}, "elsewhere"),
        ({"repository": "no/such/repository"}, "no/such/repository at main: cannot be fetched"),
    ],
)
def test_what_is_not_there_is_named_in_one_line_and_leaves_nothing(
    address: str, tmp_path: Path, where: dict[str, str], said: str
) -> None:
    arguments = {"repository": address, "revision": "main", "path": "data", "remote": ""} | where
    with pytest.raises(DatasetError) as caught:
        fetch.run(output=tmp_path / "out", **arguments)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["clone"]


def test_a_file_that_the_remote_lacks_or_has_damaged_is_an_error_and_not_another_dataset(
    published: Project, s3_environment: dict[str, str], address: str, tmp_path: Path
) -> None:
    store = servers.s3_client(s3_environment)
    (key,) = [
        item["Key"]
        for item in store.list_objects_v2(Bucket="fxnorm", Prefix="fetched/")["Contents"]
        if store.get_object(Bucket="fxnorm", Key=item["Key"])["Body"].read() == b"one"
    ]
    try:
        store.delete_object(Bucket="fxnorm", Key=key)
        with pytest.raises(DatasetError, match="at v0: cannot be fetched"):
            fetch.run(address, "v0", tmp_path / "out")
        store.put_object(Bucket="fxnorm", Key=key, Body=b"another one")
        with pytest.raises(DatasetError, match=r"data/wet/train/A/bass.wav: its content is not what DVC tracks"):
            fetch.run(address, "v0", tmp_path / "out")
    finally:
        store.put_object(Bucket="fxnorm", Key=key, Body=b"one")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def imported(published: Project, tmp_path_factory: pytest.TempPathFactory, s3_environment: dict[str, str]) -> Project:
    """A repository with folders that DVC tracks in other ways than by ``dvc add`` and a plain remote."""
    store = servers.s3_client(s3_environment)
    store.create_bucket(Bucket="versioned")
    store.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    for name, content in FILES.items():
        store.put_object(Bucket="versioned", Key=f"source/{name}", Body=content)
    project = Project(tmp_path_factory.mktemp("imported"))
    project.environment |= s3_environment
    project.run("git", "init", "-q", "-b", "main")
    project.run("dvc", "init", "-q")
    project.run("dvc", "remote", "add", "-q", "--default", "store", "s3://fxnorm/imported")
    project.run("dvc", "remote", "add", "-q", "versions", "s3://versioned/store")
    project.run("dvc", "remote", "modify", "-q", "versions", "version_aware", "true")
    for name, content in FILES.items():
        file = project.folder / "versioned" / name
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
    project.run("dvc", "add", "-q", "versioned")
    project.run("dvc", "push", "-q", "--remote", "versions", "versioned")
    project.run("dvc", "add", "-q", "--to-remote", "--out", "sent", "versioned")
    project.run("dvc", "import-url", "-q", "--version-aware", "s3://versioned/source", "aware")
    project.commit("start")
    project.run("git", "checkout", "-q", "-b", "merged")
    (project.folder / "broken.dvc").write_text("outs:\n<<<<<<< HEAD\n")
    project.commit("a merge conflict")
    return project


@pytest.mark.parametrize(("path", "remote"), [("versioned", "versions"), ("sent", ""), ("aware", "")])
def test_a_folder_that_is_tracked_in_another_way_is_brought_too(
    imported: Project, address: str, tmp_path: Path, path: str, remote: str
) -> None:
    """The kind: a ``.dvc`` file is taken to be as ``dvc add`` writes it with a plain remote."""
    digest = fetch.run(str(imported.folder), "main", tmp_path / "out", path, remote)
    assert contents(tmp_path / "out" / path) == FILES
    assert digest.endswith(".dir")


def test_a_merge_conflict_in_what_tracks_a_folder_is_named_in_one_line(
    imported: Project, address: str, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError) as caught:
        fetch.run(str(imported.folder), "merged", tmp_path / "out", "broken")
    assert "broken.dvc: expected a file that 'dvc add' writes, found another with a merge conflict" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()

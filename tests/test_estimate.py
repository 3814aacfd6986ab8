"""What a run is estimated to take, against the files themselves."""

import json
from pathlib import Path

import pytest

from fxnorm.data.dataset import songs
from fxnorm.io import audio
from fxnorm.tracking import runs, speeds
from tests.conftest import noise
from tests.project import Project

pytestmark = pytest.mark.system

LENGTHS = {
    "wet/train/A": 2.0,
    "wet/train/B": 3.0,
    "wet/train/C": 1.0,
    "wet/val/D": 1.5,
    "wet/test/E": 2.5,
    "dry/test/F": 1.0,
}
FORMATS = {"vocals": ".wav", "bass": ".flac", "mixture": ".mp3"}
NETWORK = {
    "train.network": "crafx2", "train.task": "mix", "train.sequence_seconds": "2.0", "train.precision": "auto",
    "train.sizes.filters": "8",
}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("estimated"))
    for song, seconds in LENGTHS.items():
        for name, suffix in FORMATS.items():
            audio.write(project.folder / "data" / song / f"{name}{suffix}", noise(seconds, 0.2))
    project.run("git", "init", "-q", "-b", "main")
    project.run("dvc", "init", "-q")
    project.run("dvc", "add", "-q", "data")
    project.commit("songs")
    return project


def estimate(project: Project, *options: str) -> dict[str, object]:
    project.run("fxnorm", "pipeline", "estimate", "--set", "repository=.", "--json", "found.json", *options)
    found: dict[str, object] = json.loads((project.folder / "found.json").read_text())
    return found


def test_an_estimate_is_of_the_songs_that_there_are(project: Project) -> None:
    found = estimate(project, "--set", "shards=2")
    files = [file for part in ("wet", "dry") for song in songs(project.folder / "data" / part) for file in song.files]
    assert found["songs"] == {"wet/train": 3, "wet/val": 1, "wet/test": 1, "dry/test": 1}
    assert found["hours"] == pytest.approx(sum(LENGTHS.values()) / 3600, rel=1e-3)
    assert found["gigabytes"] == pytest.approx(sum(file.stat().st_size for file in files) / 1e9)
    assert found["longest_seconds"] == pytest.approx(3.0, rel=1e-3)
    tasks = {row["task"]: row for row in found["tasks"]}  # type: ignore[attr-defined]
    assert {name: tasks[name]["tasks"] for name in ("check", "statistics", "normalize", "train")} == {
        "check": 2, "statistics": 2, "normalize": 2, "train": 1,
    }  # fmt: skip
    assert tasks["statistics"]["read"] < found["gigabytes"] < 3 * tasks["statistics"]["read"]
    assert tasks["train"]["hours"] is None
    assert "no earlier training" in str(found["training"])


def test_the_training_s_hours_are_those_of_the_newest_training_of_the_same_network(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    runs.configure()
    for params, speed in ((NETWORK, 4.0), (NETWORK, 8.0), (NETWORK | {"train.sizes.filters": "16"}, 2.0)):
        with runs.TrackedRun.start("a training", params, {"device": "cuda"}) as tracked:
            tracked.log(1, {"train/examples_per_second": speed})
    newest = speeds.newest(NETWORK)
    assert newest is not None
    assert (newest.examples_per_second, newest.device) == (8.0, "cuda x 1")
    assert speeds.newest(NETWORK | {"train.sequence_seconds": "4.0"}) is None
    monkeypatch.setitem(project.environment, "MLFLOW_TRACKING_URI", uri)
    (project.folder / "params.yaml").write_text(
        "train: {sequence_seconds: 2.0, sizes: {filters: 8}, batch_size: 4, warm_up_batches: 0, batches_per_epoch: 900,"
        " schedule: [{epochs: 8, learning_rate: 1.0e-3}]}\n"
    )
    found = estimate(project, "--params", "params.yaml")
    (training,) = (row for row in found["tasks"] if row["task"] == "train")  # type: ignore[attr-defined]
    assert training["hours"] == pytest.approx(1.0)


def test_another_pipeline_is_refused(project: Project) -> None:
    with pytest.raises(AssertionError, match="expected training, whose tasks are estimated"):
        project.run(
            "fxnorm", "pipeline", "estimate", "--pipeline", "batch", "--set", "sessions=/a", "--set", "output=/b"
        )

"""The MLflow run of an execution: what people compare, what survives interruptions, what a missing server gives."""

import json
import shutil
import threading
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Metric

from fxnorm.errors import FxnormError
from fxnorm.mixing.mixer import mixer_digest
from fxnorm.tracking import evaluations
from fxnorm.tracking.runs import MIXER_TAG, RUN_FILE, TrackedRun, file_beside, pack, run_of
from fxnorm.tracking.system_metrics import SystemMetrics
from tests import mixers, servers
from tests.waiting import until

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('tracking') / 'mlflow.db'}"


@pytest.fixture
def run(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrackedRun:
    """A run that was just started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.delenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", raising=False)
    return TrackedRun.start("a run", {"train.loss": "b"}, {"network": "crafx2"})


def history(run: TrackedRun, name: str) -> list[Metric]:
    return list(mlflow.MlflowClient().get_metric_history(run.run_id, name))


def test_an_execution_says_who_ran_which_code_in_an_experiment_for_training(run: TrackedRun) -> None:
    client = mlflow.MlflowClient()
    found = client.get_run(run.run_id)
    assert found.data.tags["mlflow.source.name"].startswith("fxnorm ")
    assert found.data.tags["network"] == "crafx2"
    experiment = client.get_experiment(found.info.experiment_id)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_a_dataset_is_an_input_under_the_hash_that_DVC_knows_it_by(run: TrackedRun) -> None:  # noqa: N802
    version = {"digest": "5" * 64, "dvc": "8242f0513b2b93f724d11dddad576c5d.dir"}
    run.add_dataset("wet/train+val", version, "training")
    run.add_dataset("test_wet", {"digest": "7" * 64}, "evaluation")
    run.add_dataset("test_wet", {"digest": "7" * 64}, "evaluation")
    inputs = mlflow.MlflowClient().get_run(run.run_id).inputs
    assert inputs is not None
    found = {given.dataset.name: given for given in inputs.dataset_inputs}
    assert len(inputs.dataset_inputs) == 2, "the same twice is one"
    assert found["wet/train+val"].dataset.digest == version["dvc"]
    assert json.loads(found["wet/train+val"].dataset.source)["tags"] == version
    assert found["test_wet"].dataset.digest == "7" * 36
    contexts = {name: [tag.value for tag in given.tags] for name, given in found.items()}
    assert contexts == {"wet/train+val": ["training"], "test_wet": ["evaluation"]}


def test_a_table_takes_the_place_of_the_one_before(run: TrackedRun) -> None:
    for loss in (2.0, 1.0):
        run.add_table("evaluation/songs.json", [{"song": "A", "loss": loss}, {"song": "B"}])
    client = mlflow.MlflowClient()
    experiment = client.get_run(run.run_id).info.experiment_id
    table = client.load_table(experiment, "evaluation/songs.json", [run.run_id])
    assert table["song"].tolist() == ["A", "B"]
    assert table["loss"].tolist()[0] == 1.0
    (shown,) = json.loads(run.tags()["mlflow.loggedArtifacts"])
    assert shown == {"path": "evaluation/songs.json", "type": "table"}


def test_steps_that_are_done_again_after_an_interruption_are_there_once(run: TrackedRun, tmp_path: Path) -> None:
    run.leave_in(tmp_path)
    with run:
        for step in (1, 2, 3):
            run.log(step, {"train/loss": float(step)})
    again = TrackedRun.resume(tmp_path)
    assert again is not None
    again.go_on()
    with again:
        for step in (2, 3, 4):
            again.log(step, {"train/loss": float(step), "validation/loss": 0.5})
    assert [(point.step, point.value) for point in history(run, "train/loss")] == [
        (1, 1.0),
        (2, 2.0),
        (3, 3.0),
        (4, 4.0),
    ]
    assert [point.step for point in history(run, "validation/loss")] == [2, 3, 4]


def samples_of(run: TrackedRun) -> list[Metric]:
    """Of the processor, which are not sent yet."""
    return [metric for metric in list(run._waiting) if metric.key == "system/cpu_utilization_percentage"]


def test_the_machine_is_watched_and_goes_on_counting_after_an_interruption(
    run: TrackedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    run.leave_in(tmp_path)
    for part in range(2):
        going = TrackedRun.resume(tmp_path)
        assert going is not None
        if part:
            going.go_on()
        with going:
            going.watch_system()
            until(lambda going=going: len(samples_of(going)) >= 2)  # type: ignore[misc]
    for name in ("system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"):
        steps = [point.step for point in history(run, name)]
        assert len(steps) >= 2 * 3, "and one at the end of each part"
        assert steps == list(range(len(steps))), "each sample once, one after the other"
    assert not [thread for thread in threading.enumerate() if thread.name == "system metrics"]


def test_a_short_run_has_a_sample_of_the_machine_unless_it_is_switched_off(
    run: TrackedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    with run:
        run.watch_system()
    assert not history(run, "system/cpu_utilization_percentage")
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    with run:
        run.watch_system()
    assert len(history(run, "system/cpu_utilization_percentage")) == 1


def test_nobody_waits_for_a_server_that_is_silent_to_stop_watching_the_machine() -> None:
    kept: list[int] = []
    watching = SystemMetrics(lambda sample, values: kept.append(sample), first_sample=7)
    watching.stop()
    assert kept == [7]


def test_another_evaluation_is_a_run_within_the_trainings_and_leaves_that_as_it_was(
    run: TrackedRun, mixer_folder: Path, tmp_path: Path
) -> None:
    mixer = Path(shutil.copytree(mixer_folder, tmp_path / "mixer"))
    with run:
        run.leave_beside(mixer, mixer_digest(mixer))
    client = mlflow.MlflowClient()

    def evaluated(report: Path) -> str:
        trained = run_of(mixer, report, "evaluation")
        with trained.adding(), evaluations.run_for(report, trained) as own:
            evaluations.publish(report, own, "stereo_loss_b_matched")
        return own.run_id

    def loss(run_id: str) -> float:
        return float(client.get_run(run_id).data.metrics["test_wet.crafx2.stereo_loss_b_matched"])

    first = mixers.report(tmp_path / "first", mixer, 3.0)
    ended = client.get_run(run.run_id).info
    assert evaluated(first) == run.run_id
    before = client.get_run(run.run_id)
    assert (loss(run.run_id), before.info) == (3.0, ended), "its time is the training's"
    songs = mixers.report(tmp_path / "songs", mixer, 5.0, "other songs")
    code = mixers.report(tmp_path / "code", mixer, 6.0)
    others = mixers.report(tmp_path / "others", mixer, 7.0)
    for report, key, value in ((code, "code", "another"), (others, "compared_with", {"wave_u_net": "its digest"})):
        content = json.loads((report / "evaluated_mixer.json").read_text())
        (report / "evaluated_mixer.json").write_text(json.dumps(content | {key: value}))
    nested = {evaluated(report): report for report in (songs, code, others)}
    assert len(nested) == 3
    assert sorted(map(loss, nested)) == [5.0, 6.0, 7.0]
    for run_id, report in nested.items():
        assert evaluated(report) == run_id, "once more"
        found = client.get_run(run_id)
        assert found.data.tags["mlflow.parentRunId"] == run.run_id
        assert (found.data.params, found.info.status) == (before.data.params, "FINISHED")
    assert evaluated(first) == run.run_id
    assert client.get_run(run.run_id).data.tags == before.data.tags
    with pytest.raises(FxnormError, match="cannot be read"), run_of(mixer, songs, "evaluation").adding():
        raise FxnormError("songs/test_data.json: cannot be read")
    assert client.get_run(run.run_id).info == ended


def test_a_server_that_is_not_there_gets_one_line(
    run: TrackedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.leave_in(tmp_path)
    nowhere = f"http://127.0.0.1:{servers.free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", nowhere)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for ask in (lambda: TrackedRun.start("a run", {}, {}), lambda: TrackedRun.resume(tmp_path)):
        with pytest.raises(FxnormError, match=nowhere) as raised:
            ask()
        assert "\n" not in str(raised.value)


def test_a_run_that_was_deleted_or_is_another_servers_is_not_gone_on_with(
    run: TrackedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.leave_in(tmp_path)
    assert TrackedRun.resume(tmp_path) is not None
    mlflow.MlflowClient().delete_run(run.run_id)
    assert TrackedRun.resume(tmp_path) is None
    mlflow.MlflowClient().restore_run(run.run_id)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'another.db'}")
    assert TrackedRun.resume(tmp_path) is None


def test_runs_that_start_at_once_share_the_experiment_that_one_of_them_makes(
    run: TrackedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "made by another")
    looks = mlflow.MlflowClient.get_experiment_by_name
    made: list[str] = []

    def late(client: mlflow.MlflowClient, name: str) -> object:
        found = looks(client, name)
        if not made:
            made.append(client.create_experiment(name))  # right after this one saw that there is none
        return found

    monkeypatch.setattr(mlflow.MlflowClient, "get_experiment_by_name", late)
    started = TrackedRun.start("a run", {}, {})
    assert mlflow.MlflowClient().get_run(started.run_id).info.experiment_id == made[0]


@pytest.mark.parametrize(
    "content, said",
    [
        ("{", "expected the id of an MLflow run"),
        ("[]", "expected the id of an MLflow run"),
        ('{"id": 3}', "expected the id of an MLflow run"),
        ('{"run_id": "a/b"}', "cannot look up run a/b"),
    ],
)
def test_a_file_that_names_no_run_is_an_error_not_an_unknown_run(
    run: TrackedRun, tmp_path: Path, content: str, said: str
) -> None:
    (tmp_path / RUN_FILE).write_text(content)
    with pytest.raises(FxnormError, match=said) as raised:
        TrackedRun.resume(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_run_in_place_of_an_unknown_one_is_shared_by_the_stages_and_the_mixer_stays_as_it_is(
    run: TrackedRun, mixer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (mixers.changed(mixer_folder, tmp_path / f"mixer-{seed}", seed) for seed in (1, 2))
    report = tmp_path / "report"
    run.leave_beside(one, mixer_digest(one))
    trained = {path: path.read_bytes() for path in one.rglob("*") if path.is_file()}
    assert run_of(one, report, "evaluation").run_id == run.run_id
    assert not (report / RUN_FILE).exists()
    copies = [Path(shutil.copytree(one, tmp_path / "elsewhere" / name)) for name in ("alone", "packed")]
    shutil.copy(file_beside(one), file_beside(copies[1]))
    pack(copies[1])
    later = TrackedRun.start("the same once more", {}, {MIXER_TAG: mixer_digest(one)})
    assert run_of(copies[1], tmp_path / "other report", "evaluation").run_id == run.run_id, "the one that is named"
    assert run_of(copies[0], tmp_path / "other report", "evaluation").run_id == later.run_id, "the newest of the Mixer"
    shutil.copy(file_beside(one), file_beside(other))
    assert run_of(other, tmp_path / "another", "evaluation").run_id not in (run.run_id, later.run_id), "of another"

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'another.db'}")
    evaluation = run_of(one, report, "evaluation")
    assert evaluation.run_id != run.run_id
    assert run_of(one, report, "registration").run_id == evaluation.run_id
    assert {path: path.read_bytes() for path in one.rglob("*") if path.is_file()} == trained
    assert run_of(other, report, "evaluation").run_id != evaluation.run_id, "each Mixer has its own"
    assert not (other / RUN_FILE).exists()

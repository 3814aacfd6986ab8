"""The pipeline as Kubeflow gets it, and a whole run of it by Kubeflow's local runner."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from fxnorm.errors import FxnormError, SettingsError
from fxnorm.io import audio
from fxnorm.mixing.mixer import mixer_digest
from fxnorm.pipeline import experiments, graph, local
from fxnorm.pipeline.cluster import Cluster
from fxnorm.pipeline.parameters import BatchParameters, Parameters, SearchParameters
from fxnorm.tracking.runs import DEFAULT_EXPERIMENT, MIXER_TAG
from tests import servers
from tests.cluster import Surroundings, surroundings
from tests.conftest import noise
from tests.project import REPOSITORY, TINY, Project

COMPILED = Path(graph.__file__).with_name("pipeline.yaml")


@pytest.mark.parametrize("name", graph.PIPELINES)
def test_the_compiled_pipeline_is_that_of_the_code(tmp_path: Path, name: str) -> None:
    graph.compile_to(tmp_path / "pipeline.yaml", Cluster(), name)
    compiled = COMPILED.with_name(graph.PIPELINES[name].file.name)
    found, expected = (list(yaml.safe_load_all(path.read_text())) for path in (compiled, tmp_path / "pipeline.yaml"))
    assert found == expected, "stale: run 'fxnorm pipeline compile'"


@pytest.mark.parametrize(
    "wrong, said",
    [
        ("output=mixes", "output: .*expected s3://BUCKET/PREFIX, or an absolute path"),
        ("sessions=s3://bucket", "expected s3://BUCKET/KEY"),
        ("options.target_loudnes=-14", "options: target_loudnes: unknown"),
        ("options.song=A", "options: song: each session has its own"),
        ("repository=here", "repository: unknown parameter; expected sessions, output, mixer"),
        ("most_failed=-1", "most_failed"),
    ],
)
def test_parameters_of_the_batch_are_checked_before_anything_runs(wrong: str, said: str) -> None:
    given = ["sessions=s3://songs/inbox", "output=/mixes", "options.target_loudness=-14"]
    assert BatchParameters.load(None, given).arguments()["options"] == {"target_loudness": -14}
    with pytest.raises(SettingsError, match=said):
        BatchParameters.load(None, [*given, wrong])


def test_the_batch_reads_the_registry_once_and_its_stores_in_every_task_that_mixes() -> None:
    _, platforms = yaml.safe_load_all(COMPILED.with_name("batch.yaml").read_text())
    executors = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    given = {
        name.removeprefix("exec-"): {secret["secretName"] for secret in executor.get("secretAsEnv", [])}
        for name, executor in executors.items()
    }
    assert {task for task, secrets in given.items() if "fxnorm-mlflow" in secrets} == {"list-sessions"}
    storing = {"list-sessions", "mix-sessions", "finish-mixes"}
    assert {task for task, secrets in given.items() if "fxnorm-s3" in secrets} == storing


SEARCH = ["repository=here", "output=s3://bucket/search", "space={trials: 2, space: {train.seed: {low: 0, high: 9}}}"]


@pytest.mark.parametrize(
    "wrong, said",
    [
        ("output=here", "output: .*expected s3://BUCKET/PREFIX, or an absolute path"),
        ("space.trials=0", "--set: space: trials: input should be greater than 0"),
        ("space={trials: 2, space: {train.sed: {low: 0, high: 9}}}", "space: with .*train.sed: unknown key"),
        ("space={trials: 2, space: {normalize.seed: {low: 0, high: 9}}}", "expected settings of train alone"),
        ("storage=postgresql://me:secret@host/study", "give it in the secret fxnorm-search"),
        ("settings.train.initial_weights=artifacts/front_end", "is on no node"),
    ],
)
def test_parameters_of_a_search_are_checked_before_anything_runs(wrong: str, said: str) -> None:
    arguments = SearchParameters.load(None, SEARCH).arguments()
    assert arguments["space"] == '{"trials": 2, "space": {"train.seed": {"low": 0, "high": 9}}}'
    with pytest.raises(SettingsError, match=said) as caught:
        SearchParameters.load(None, [*SEARCH, wrong])
    assert "secret@" not in str(caught.value)


def test_a_trial_of_a_search_has_one_accelerator() -> None:
    with pytest.raises(SettingsError, match="expected 1 at most"):
        SearchParameters.load(None, SEARCH).check_on(Cluster.model_validate({"training": {"accelerators": 2}}))


def test_the_tasks_of_a_search_share_a_database_and_train_on_accelerators_so_many_at_a_time() -> None:
    pipeline, platforms = yaml.safe_load_all(COMPILED.with_name("search.yaml").read_text())
    executors = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    given = {
        name.removeprefix("exec-"): {secret["secretName"] for secret in executor.get("secretAsEnv", [])}
        for name, executor in executors.items()
    }
    searching = {"begin-search", "search-trial", "collect-search"}
    assert {task for task, secrets in given.items() if "fxnorm-search" in secrets} == searching
    assert {task for task, secrets in given.items() if "fxnorm-mlflow" in secrets} == searching - {"begin-search"}
    resources = pipeline["deploymentSpec"]["executors"]["exec-search-trial"]["container"]["resources"]
    assert resources["accelerator"]["resourceCount"] == "1"
    loops = [task for task in pipeline["root"]["dag"]["tasks"].values() if "parameterIterator" in task]
    assert {loop["iteratorPolicy"]["parallelismLimit"] for loop in loops} == {8, 4}


def test_parameters_are_checked_before_anything_runs() -> None:
    given = ["repository=here", "shards=2", "settings.train.seed=1"]
    assert Parameters.load(None, given).settings == {"train": {"seed": 1}}
    for wrong, said in (("shard=3", "shard: unknown parameter"), ("settings.train.seeds=1", "did you mean 'seed'")):
        with pytest.raises(SettingsError, match=said):
            Parameters.load(None, [*given, wrong])
    with pytest.raises(SettingsError, match="repository"):
        Parameters.load(None)
    assert Parameters.load(None, ["repository=here", "path=data/"]).path == "data"


def test_a_published_experiment_brings_what_is_not_given() -> None:
    given = ["repository=here", "settings.train.seed=3"]
    parameters = Parameters.load(None, given, experiment="crafx2_lb")
    assert parameters.settings["train"] == {"sizes": {"front_end": "random"}, "loss": "b", "seed": 3}
    published = yaml.safe_load((REPOSITORY / "configs/pretraining.yaml").read_text())["train"]
    assert (parameters.graph, parameters.arguments()["pretraining_settings"]) == ("pretraining", published)
    weights = "settings.train.initial_weights=models:/fxnorm-automix@champion"
    begun = Parameters.load(None, [*given, weights], experiment="crafx2_lb")
    assert (begun.graph, begun.pretraining) == ("training", {})
    assert Parameters.load(None, given, experiment="wave_u_net_lb").graph == "training"
    assert set(experiments.names()) == {"crafx2_la", "crafx2_lb", "default_mixer", "wave_u_net_lb"}
    for name, said in (("pretraining", "trains a front-end alone; crafx2_la, crafx2_lb"), ("lb", "expected one of")):
        with pytest.raises(SettingsError, match=f"--experiment {name}: .*{said}"):
            Parameters.load(None, given, experiment=name)
    parameters = Parameters.load(None, [*given, "settings.train.batch_size=8"], experiment="crafx2_lb")
    with pytest.raises(SettingsError, match=r"^pretraining\.batch_size: expected a multiple of the 8 accel.*found 20"):
        parameters.check_on(Cluster.model_validate({"training": {"accelerators": 8}}))


def test_tasks_that_read_songs_share_a_cache_and_have_a_bound_on_their_disk(tmp_path: Path) -> None:
    cluster = Cluster.model_validate({"disk": "50Gi", "data_cache": "songs"})
    graph.compile_to(tmp_path / "pipeline.yaml", cluster, "pretraining")
    pipeline, platforms = yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text())
    kubernetes = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    tasks = {name.removeprefix("exec-"): task for name, task in kubernetes.items()}
    mounted = {name.rstrip("-23") for name, task in tasks.items() if task.get("pvcMount")}
    assert mounted == {"divide", "check", "statistics", "normalize", "evaluate", "register"}
    assert all({"volumeName": "scratch", "mountPath": "/scratch", "sizeLimit": "50Gi"}.items() <= mount.items()
               for task in tasks.values() for mount in task["emptyDirMounts"][-1:])  # fmt: skip
    (environment,) = [
        {variable["name"]: variable["value"] for variable in executor["container"]["env"]}
        for name, executor in pipeline["deploymentSpec"]["executors"].items()
        if name == "exec-statistics"
    ]
    assert environment == {"TMPDIR": "/scratch", "FXNORM_DATA_CACHE": "/data-cache"}


@pytest.mark.parametrize(
    "wrong, said",
    [
        ("path=../elsewhere", "path: .*within the repository"),
        ("checkpoints=s3://bucket", "expected s3://BUCKET/KEY"),
        ("store=normalized", "store: .*expected s3://BUCKET/PREFIX, or an absolute path"),
        ("pretraining={batch_siz: 2}", "pretraining: .*batch_siz"),
        ("pretraining={task: mix}", "pretraining: expected a front-end"),
        ("repository=https://me:secret@example.org/songs", "a password or token"),
        ("settings.train.task=front_end", "settings.train.task: expected 'mix'"),
        ("settings.train.initial_weights=artifacts/front_end", "initial_weights: artifacts/front_end is on no node"),
    ],
)
def test_what_would_fail_after_hours_is_refused_at_once(wrong: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        Parameters.load(None, ["repository=here", wrong])
    assert "secret@" not in str(caught.value)


def test_a_batch_that_the_accelerators_cannot_share_is_refused() -> None:
    parameters = Parameters.load(None, ["repository=here", "settings.train.batch_size=4"])
    parameters.check_on(Cluster.model_validate({"training": {"accelerators": 2}}))
    with pytest.raises(SettingsError, match="a multiple of the 8 accelerators, found 4"):
        parameters.check_on(Cluster.model_validate({"training": {"accelerators": 8}}))


@pytest.mark.parametrize(
    "wrong", ["memory: 8GB", "cpu: four", "image: ''", "secrets: [{name: a, keys: {}, tasks: [fly]}]"]
)
def test_a_cluster_that_kubernetes_would_not_understand_is_named_in_one_line(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "cluster.yaml").write_text(wrong)
    with pytest.raises(SettingsError) as caught:
        Cluster.load(tmp_path / "cluster.yaml")
    assert wrong.partition(":")[0] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cluster_retries_for_days_with_even_pauses_and_gives_secrets_to_whom_they_concern() -> None:
    pipeline, platforms = yaml.safe_load_all(COMPILED.read_text())
    policy = pipeline["root"]["dag"]["tasks"]["train"]["retryPolicy"]
    assert policy == {
        "backoffDuration": "60s",
        "backoffFactor": 1.0,
        "backoffMaxDuration": f"{60 * 24 * 60 * 60}s",
        "maxRetryCount": 5,
    }
    executors = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    given = {
        name.removeprefix("exec-"): {secret["secretName"] for secret in executor.get("secretAsEnv", [])}
        for name, executor in executors.items()
    }
    assert {task for task, secrets in given.items() if "fxnorm-mlflow" in secrets} == {"train", "evaluate", "register"}
    # MLflow may hand out addresses of its store, to which evaluate and register then write themselves
    reading = {"resolve", "list-songs", "divide", "check", "statistics", "normalize"}
    storing = {task for task, secrets in given.items() if "fxnorm-s3" in secrets}
    assert storing == reading | {"train", "evaluate", "register"}


def test_settings_of_a_params_file_stand_where_no_others_are_given(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text("train: {seed: 3, batch_size: 2}\nregister: {margin: 0.5}\n")
    found = Parameters.load(None, ["repository=here", "settings.train.seed=1"], params)
    assert found.settings == {"train": {"seed": 1, "batch_size": 2}, "register": {"margin": 0.5}}
    params.write_text("trian: {}\n")
    with pytest.raises(SettingsError, match="trian"):
        Parameters.load(None, ["repository=here"], params)


def test_the_compiled_pipeline_names_no_place_and_no_secret_of_anyone() -> None:
    text = COMPILED.read_text()
    assert str(Path(graph.__file__).parents[1]) not in text
    assert str(Path.home()) not in text
    (platforms,) = [document["platforms"] for document in yaml.safe_load_all(text) if "platforms" in document]
    executors = platforms["kubernetes"]["deploymentSpec"]["executors"].values()
    environments = {
        variable["envVar"]
        for executor in executors
        for secret in executor.get("secretAsEnv", [])
        for variable in secret["keyToEnv"]
    }
    assert {"AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD"} <= environments
    assert "env:" not in text, "values of environment variables would stand here"


def test_a_candidate_is_registered_where_evaluate_returns_true() -> None:
    pipeline, *_ = yaml.safe_load_all(COMPILED.read_text())
    gated = {name: task for name, task in pipeline["root"]["dag"]["tasks"].items() if "triggerPolicy" in task}
    ((condition, task),) = gated.items()
    assert task["triggerPolicy"] == {"condition": "inputs.parameter_values['pipelinechannel--evaluate-Output'] == true"}
    assert task["inputs"]["parameters"]["pipelinechannel--evaluate-Output"] == {
        "taskOutputParameter": {"outputParameterKey": "Output", "producerTask": "evaluate"}
    }
    assert list(pipeline["components"][f"comp-{condition}"]["dag"]["tasks"]) == ["register"]


@pytest.fixture(scope="module")
def around(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    """What the tasks talk to, after a whole run."""
    folder = tmp_path_factory.mktemp("cluster")
    with servers.s3(folder / "s3.log", "fxnorm") as s3, surroundings(project, folder, s3) as made:
        made.run("subprocess", "--cache")
        yield made


def assert_read(around: Surroundings, times: dict[str, int]) -> None:
    """Each object of the data set was read so many times, by its kind; others not once."""
    (tracked,) = yaml.safe_load((around.project.folder / "data.dvc").read_text())["outs"]
    digest = tracked["md5"]
    listed = json.loads((around.project.folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]).read_bytes())
    kinds = {file["md5"]: "/".join(file["relpath"].split("/")[:2]) for file in listed}
    read = servers.objects_read(around.folder / "s3.log", "/fxnorm/dvc/files/md5/")
    assert read.pop(digest) == 1
    assert read == {md5: times[kind] for md5, kind in kinds.items() if kind in times}


RESPONSES = ("impulse_responses/reverb", "impulse_responses/pre_reverb")


def test_a_whole_run_registers_a_model_with_the_metrics_of_dvc_repro(around: Surroundings) -> None:
    # once by the check and by each stage that needs it; impulse responses by each of two shards
    by_stages = {"wet/train": 3, "wet/val": 2, "wet/test": 2, "dry/test": 1}
    assert_read(around, by_stages | dict.fromkeys(RESPONSES, 2))
    version, run = around.champion()
    expected = around.reproduced_metrics()
    assert {name: run.data.metrics[name] for name in expected} == expected
    folder = around.project.folder
    tracked = yaml.safe_load((folder / "data.dvc").read_text())["outs"][0]["md5"]
    recipe = json.loads((folder / "artifacts/mixer/normalization.json").read_text())
    assert {name.partition(".")[2]: run.data.tags[name] for name in ("data.dvc", "data.digest")} == recipe["data"]
    assert run.data.tags["data.dvc"] == tracked
    assert run.info.status == "FINISHED"
    assert version.run_id == run.info.run_id


@pytest.mark.slow  # a minute of processor time
def test_a_run_with_a_front_end_first_trains_as_one_machine_does_and_takes_over_what_is_done(
    around: Surroundings,
) -> None:
    first: dict[str, object] = {**TINY, "task": "front_end", "batch_size": 1, "schedule": TINY["schedule"]}
    songs = around.folder / "songs"
    output = around.run("subprocess", "--cache", pretraining=first, store=str(songs))
    assert "pretrain" in output
    # by the evaluation and, as their place is another, by the normalization; the rest is taken over
    again = {"wet/train": 4, "wet/val": 3, "wet/test": 3, "dry/test": 2}
    assert_read(around, again | dict.fromkeys(RESPONSES, 4))
    published = [path for path in (around.folder / "runs").rglob("stored.json") if "normalize" in str(path)]
    assert len(published) == 2
    assert not [path for one in published for path in one.parent.glob("*/*/*.wav")]
    assert list(songs.rglob("*.wav"))
    version, _ = around.champion()
    project = around.project
    environment = {**project.environment, **around.environment}
    (project.folder / "front_end.yaml").write_text(yaml.safe_dump({**project.settings(), "train": first}))
    for name, *options in (
        ("front_end", "--params", "front_end.yaml"),
        ("begun", "--set", "train.initial_weights=front_end"),
    ):
        paths = ["--checkpoints", f"{name}-checkpoints", "--curve", f"{name}.csv"]
        project.run("fxnorm", "train", "artifacts/normalized", name, *paths, *options)
    assert version.tags[MIXER_TAG] == mixer_digest(project.folder / "begun")
    client = MlflowClient(around.environment["MLFLOW_TRACKING_URI"])
    (experiment,) = client.search_experiments(filter_string=f"name = '{DEFAULT_EXPERIMENT}'")
    (alone,) = [
        one.info.run_id
        for one in client.search_runs([experiment.experiment_id])
        if one.data.params.get("train.task") == "front_end"
    ]
    for address, folder in ((f"runs:/{alone}", "front_end"), ("models:/fxnorm-automix@champion", "begun")):
        notes = []
        for weights in (address, folder):
            command = ["fxnorm", "initial-weights", "weights.json", "--set", f"train.initial_weights={weights}"]
            subprocess.run(command, cwd=project.folder, env=environment, check=True)
            notes.append((project.folder / "weights.json").read_text())
        assert notes[0] == notes[1], address


@pytest.mark.system
def test_a_run_of_the_batch_mixes_what_it_can_and_fails_by_what_it_could_not(
    mixer_folder: Path, tmp_path: Path
) -> None:
    sessions, output = tmp_path / "sessions", tmp_path / "mixes"
    for name in ("Kick", "Bass"):
        audio.write(sessions / f"One/{name}.wav", noise(0.4, 0.2, channels=1))
    (sessions / "Two").mkdir()
    (sessions / "Two/Kick.wav").write_bytes(b"")
    given = [f"sessions={sessions}", f"output={output}", f"mixer={mixer_folder}", "shards=1", "options.bits='16'"]
    with pytest.raises(FxnormError, match="stop-at-failures"):
        local.run(Cluster(), BatchParameters.load(None, given), tmp_path / "runs", False, (), False)
    assert {path.name for path in output.iterdir()} == {".mixes", "One.flac", "mixes.csv", "index.html"}
    (page,) = (tmp_path / "runs").rglob("finish-mixes/page")
    assert page.read_bytes() == (output / "index.html").read_bytes()
    assert "Two,failed" in (output / "mixes.csv").read_text()

"""Registering, comparing, going back and serving on PostgreSQL with an S3 store; test_registry.py has it on SQLite."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from fxnorm import Mixer
from fxnorm.cli import main
from fxnorm.constants import SAMPLE_RATE
from fxnorm.data import dataset
from fxnorm.io import audio
from fxnorm.registry import aliases
from fxnorm.registry.registered import open_mixer
from fxnorm.settings import Settings
from fxnorm.stages import register
from fxnorm.tracking.runs import RUN_FILE
from tests import mixers, prefork, servers
from tests.conftest import noise

pytestmark = pytest.mark.system

STORES = ("through_the_server", "directly")

Store = dict[str, str]
"""Environment variables that say where runs, models and artifacts go."""


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def database(logs: Path) -> Iterator[str]:
    """A PostgreSQL server."""
    with servers.postgresql(logs / "postgresql.log") as address:
        yield address


@pytest.fixture(scope="module")
def through_the_server(database: str, logs: Path, s3_environment: Store) -> Iterator[Store]:
    """MLflow's server on PostgreSQL brings artifacts to the S3 store: clients have no credentials for it."""
    options = ["--artifacts-destination", "s3://fxnorm/through"]
    with servers.mlflow_on(database, options, logs / "through.log", s3_environment) as address:
        yield {"MLFLOW_TRACKING_URI": address}


@pytest.fixture(scope="module")
def directly(database: str, through_the_server: Store, logs: Path, s3_environment: Store) -> Iterator[Store]:
    """Another server on the same PostgreSQL, whose clients write to the S3 store themselves."""
    options = ["--no-serve-artifacts", "--default-artifact-root", "s3://fxnorm/directly"]
    with servers.mlflow_on(database, options, logs / "directly.log") as address:
        yield {"MLFLOW_TRACKING_URI": address, "MLFLOW_EXPERIMENT_NAME": "directly", **s3_environment}


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("code")


@pytest.fixture(autouse=True)
def _little_is_carried(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file takes several requests to the stores."""
    mixers.carry_little(monkeypatch, code)


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    found: Store = request.getfixturevalue(request.param)
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return found


def fxnorm(*arguments: str | Path, status: int = 0) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result.stdout.strip().splitlines()[-1]


def aliased(name: str) -> dict[str, str]:
    return {alias: str(number) for alias, number in mlflow.MlflowClient().get_registered_model(name).aliases.items()}


@pytest.mark.parametrize("store", ["directly"], indirect=True)
def test_better_versions_serve_worse_ones_challenge_and_a_rollback_brings_the_one_before_back(
    store: Store, mixer_folder: Path
) -> None:
    name = "one-after-another"
    model = ["--set", f"register.name={name}"]
    losses = {"good": 3.0, "better": 2.0, "worse": 2.5}
    said = []
    for seed, (label, loss) in enumerate(losses.items()):
        folder = mixers.changed(mixer_folder, Path(label), seed)
        said.append(fxnorm("register", folder, mixers.report(Path(f"report-{label}"), folder, loss), *model))
    test, shown = "test_wet.stereo_loss_b_matched", "; p = 0.0078 (Wilcoxon, 8 songs)"
    assert said == [
        f"{name} version 1 is @champion: better than the baseline in {test}: crafx2 3.000,"
        f" normalized_sum 10.000{shown}",
        f"{name} version 2 is @champion: better than the baseline and the champion in {test}: crafx2 2.000,"
        f" normalized_sum 10.000, champion (version 1) 3.000{shown}",
        f"{name} version 3 is @challenger: not better than the champion in {test}: crafx2 2.500,"
        " normalized_sum 10.000, champion (version 2) 2.000",
    ]
    assert aliased(name) == {"champion": "2", "previous": "1", "challenger": "3"}
    serves(name, Path("better"))
    said_back = fxnorm("rollback", name)
    assert said_back == f"{name} version 1 is @champion again; version 2, the champion so far, is @previous"
    assert aliased(name) == {"champion": "1", "previous": "2", "challenger": "3"}
    serves(name, Path("good"))
    fxnorm("rollback", *model)
    assert aliased(name) == {"champion": "2", "previous": "1", "challenger": "3"}
    recorded(name, "2", Path("report-better"))


def serves(name: str, mixer: Path) -> None:
    """The champion mixes as this Mixer does, loaded in either way."""
    stems = {"vocals": noise(1.0, seed=1), "bass": noise(1.0, seed=2)}
    expected = Mixer.load(mixer).mix(stems, SAMPLE_RATE)
    assert np.array_equal(open_mixer(f"models:/{name}@champion").mix(stems, SAMPLE_RATE), expected)
    row = {stem: audio.encode(samples, SAMPLE_RATE, ".wav", subtype="FLOAT") for stem, samples in stems.items()}
    answer = mlflow.pyfunc.load_model(f"models:/{name}@champion").predict(pd.DataFrame([row]))
    mixed, _ = audio.decode(answer["mix"].iloc[0], "mix")
    assert np.abs(mixed - expected).max() < 1e-4, "16-bit FLAC"


def recorded(name: str, number: str, report: Path) -> None:
    """The version says what it is, and its run what was decided."""
    client = mlflow.MlflowClient()
    version = client.get_model_version(name, number)
    run_id = json.loads((report / RUN_FILE).read_text())["run_id"]
    assert version.run_id == run_id
    assert version.description is not None
    assert "| CRAFx2 | **2.000** |" in version.description
    assert "| sum of the normalized stems | 10.000 |" in version.description
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test_wet.champion.stereo_loss_b_matched"] == 3.0
    assert {"model_card.md", "registration.json"} <= {file.path for file in client.list_artifacts(run_id)}


@pytest.mark.parametrize("store", ["through_the_server"], indirect=True)
def test_registrations_at_the_same_time_leave_one_champion_that_serves_and_one_before_it(
    store: Store, mixer_folder: Path
) -> None:
    name = "at-once"
    first = mixers.changed(mixer_folder, Path("first"), 0)
    fxnorm("register", first, mixers.report(Path("report-first"), first, 5.0), "--set", f"register.name={name}")
    processes = []
    for seed in (1, 2):
        folder = mixers.changed(mixer_folder, Path(f"mixer-{seed}"), seed)
        report = mixers.report(Path(f"report-{seed}"), folder, 5.0 - seed)
        command = [str(prefork.programs() / "fxnorm"), "register", str(folder), str(report)]
        processes.append(subprocess.Popen([*command, "--set", f"register.name={name}"], env=os.environ | store))
    assert [process.wait(300) for process in processes] == [0, 0]
    numbers = {version.version for version in mlflow.MlflowClient().search_model_versions(f"name='{name}'")}
    assert {str(number) for number in numbers} == {"1", "2", "3"}
    found = aliased(name)
    assert found["champion"] != found["previous"]
    assert found["champion"] in ("2", "3")
    champion = aliases.version_at(name, aliases.CHAMPION)
    assert champion is not None
    seed = {"4.0": 1, "3.0": 2}[champion.tags["test_wet.stereo_loss_b_matched"]]
    serves(name, Path(f"mixer-{seed}"))


@pytest.mark.parametrize("store", ["through_the_server"], indirect=True)
def test_a_registration_tells_nobody_the_servers_password(
    store: Store,
    mixer_folder: Path,
    make_song: Callable[..., Path],
    s3_environment: Store,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "false")  # put back as it was at the end
    address = store["MLFLOW_TRACKING_URI"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.replace("://", "://alice:s3cret@"))
    settings = Settings.of({"register": {"name": "told-to-nobody"}})
    make_song("data/wet/test/A", seconds=1.0)
    songs = dataset.digest(dataset.songs("data/wet", "test"))
    first = mixers.changed(mixer_folder, Path("one"), 0)
    register.run(settings, first, mixers.report(Path("report-one"), first, 3.0))
    client = mlflow.MlflowClient()
    lost = urlsplit(client.get_model_version_download_uri("told-to-nobody", "1")).path.strip("/")
    keys = servers.s3_client(s3_environment).list_objects_v2(Bucket="fxnorm", Prefix=f"through/{lost}/")["Contents"]
    for item in keys:
        servers.s3_client(s3_environment).delete_object(Bucket="fxnorm", Key=item["Key"])
    candidate = mixers.changed(mixer_folder, Path("two"), 1)
    report = mixers.report(Path("report-two"), candidate, 2.0, songs)
    decision = register.run(settings, candidate, report, Path("data"))
    assert f"not in the registry at {address}" in decision["reason"]
    version = client.get_model_version("told-to-nobody", "2")
    assert version.run_id is not None
    tags = client.get_run(version.run_id).data.tags
    told = [json.dumps(decision), str(version.description), str(tags)]
    told += [(report / register.REGISTRATION_FILE).read_text(), *capfd.readouterr()]
    assert not [text for text in told if "s3cret" in text]


@pytest.mark.parametrize("store", STORES, indirect=True)
def test_a_training_that_is_tracked_by_a_server_has_its_curves_and_files_there(
    store: Store, normalized_folder: Path
) -> None:
    sizes = "{filters: 8, bottleneck: 8, hidden: 8, skip: 8, blocks: 2, repeats: 1, squeeze_ratio: 1}"
    tiny = {"sizes": sizes, "sequence_seconds": 0.25, "batch_size": 2, "batches_per_epoch": 2, "warm_up_batches": 1}
    tiny |= {"schedule": "[{epochs: 1, learning_rate: 0.001}]"}
    shutil.copytree(normalized_folder, "normalized")
    options = [text for key, value in tiny.items() for text in ("--set", f"train.{key}={value}")]
    options += ["--set", "resources.loader_workers=0"]
    assert CliRunner().invoke(main, ["train", "normalized", "mixer", *options]).exit_code == 0
    client = mlflow.MlflowClient()
    run = client.get_run(json.loads(Path("mixer-run.json").read_text())["run_id"])
    assert run.info.status == "FINISHED"
    assert [point.step for point in client.get_metric_history(run.info.run_id, "train/loss")] == [1, 2, 3]
    assert run.data.metrics["system/cpu_utilization_percentage"] >= 0
    assert run.inputs is not None
    (given,) = run.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("wet/train+val", "noise")
    downloaded = client.download_artifacts(run.info.run_id, "mixer-loss.csv")
    assert Path(downloaded).read_text() == Path("mixer-loss.csv").read_text()

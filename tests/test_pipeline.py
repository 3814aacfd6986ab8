"""The whole path on tiny data: DVC's stages, MLflow's run and registry, and a real server that answers requests."""

import base64
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import requests
import soundfile
import yaml

from fxnorm import Mixer
from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.io import audio
from tests import kernels, servers
from tests.project import REPOSITORY, Project
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.system

MODEL = "models:/fxnorm-automix@champion"


def outdated(project: Project) -> str:
    """What ``dvc status`` says, but for the stages that look each time at what DVC cannot see: to which store results
    go and whether it still has them, and the weights that the settings name.
    """
    status = project.run("dvc", "status")
    for stage in ("store", "initial_weights"):
        always = f"{stage}:\n\talways changed\n"
        assert always in status
        status = status.replace(always, "")
    return status.strip()


def test_everything_is_where_the_readme_says(project: Project) -> None:
    for name in (
        "artifacts/statistics.npz",
        "artifacts/plots/statistics.png",
        "artifacts/plots/normalization.png",
        "artifacts/loss.csv",
        "artifacts/mixer/mixer.json",
        "reports/metrics.json",
        "reports/headline.json",
        "reports/report.html",
        "reports/songs.csv",
        "reports/registration.json",
        "mlflow.db",
    ):
        assert (project.folder / name).stat().st_size > 0, name
    assert not list(project.folder.glob("**/*.tmp"))


def test_the_report_compares_every_system_on_both_splits(project: Project) -> None:
    metrics = json.loads((project.folder / "reports/metrics.json").read_text())
    assert set(metrics) == {"test_wet", "test_dry"}
    for systems in metrics.values():
        assert set(systems) == {"reference", "input_sum", "normalized_sum", "static_mix", "crafx2"}
        for system, found in systems.items():
            assert system == "reference" or set(found) >= {
                "stereo_loss_a",
                "stereo_loss_b",
                "loudness_mape",
                "spectral_mape",
                "dynamic_mape",
            }
            assert all(np.isfinite(value) for value in found.values())
    headline = json.loads((project.folder / "reports/headline.json").read_text())
    run_id = json.loads((project.folder / "artifacts/mixer-run.json").read_text())["run_id"]
    assert headline.pop("mlflow_run") == run_id
    for split, chosen in headline.items():
        network, baseline = metrics[split]["crafx2"], metrics[split]["static_mix"]
        decisive = "stereo_loss_b_matched"
        assert chosen.pop(f"{decisive}_over_static") == network[decisive] / baseline[decisive]
        assert chosen.items() <= network.items()
        assert len(chosen) == 5
    wet = metrics["test_wet"]["input_sum"]
    assert wet["loudness_mape"] < 1e-3, "on wet songs the sum of the stems is the mixture"
    page = (project.folder / "reports/report.html").read_text()
    assert "the sum of the normalized stems, all at one loudness: stereo loss b, matched, " in page
    assert " of 1 song, too few to show a difference. It " in page
    for source in [part.split('"')[0] for part in page.split('<a href="')[1:] if not part.startswith("#")]:
        assert (project.folder / "reports" / urllib.parse.unquote(source)).is_file(), source


def test_a_second_repro_runs_nothing_whatever_a_training_takes_of_the_machine(project: Project) -> None:
    project.set("resources", checkpoint_every=7, keep_checkpoints=1)
    assert project.stages_run(project.run("dvc", "repro")) == []


def test_a_model_is_registered_anew_when_code_that_it_carries_changes(project: Project) -> None:
    for left in (
        "fxnorm/effects/__pycache__/levels.another-compiler.pyc",
        "serving/__pycache__/request_limiter.another-compiler.pyc",
    ):
        file = project.folder / left
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"compiled")
    assert not outdated(project), "not by what Python leaves there"
    for name in ("serving/request_limiter.py", "fxnorm/mixing/options.py"):
        file = project.folder / name
        before = file.read_text()
        file.write_text(f"{before}# changed\n")
        status = project.run("dvc", "status", "register")
        assert f"modified:           {name.partition('/')[0]}" in status
        file.write_text(before)
    assert not outdated(project)


def test_touching_a_parameter_reruns_only_what_depends_on_it(project: Project) -> None:
    project.set("register", margin=1.0e6)
    assert project.stages_run(project.run("dvc", "repro")) == ["register"]
    decision = json.loads((project.folder / "reports/registration.json").read_text())
    assert decision["alias"] == "challenger"
    assert "not better than the baseline" in decision["reason"]
    project.set("register", margin=-1.0e6)  # lets any candidate pass: later tests need a champion
    assert project.stages_run(project.run("dvc", "repro")) == ["register"]
    assert json.loads((project.folder / "reports/registration.json").read_text())["alias"] == "champion"
    assert not outdated(project)


def test_one_run_holds_the_whole_experiment(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    client = mlflow.MlflowClient(project.environment["MLFLOW_TRACKING_URI"])
    run_id = json.loads((project.folder / "artifacts/mixer-run.json").read_text())["run_id"]
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["train.batch_size"] == "2"
    assert run.data.params["train.sizes.filters"] == "16"
    curve = [(point.step, point.value) for point in client.get_metric_history(run_id, "train/loss")]
    assert [step for step, _ in curve] == list(range(1, 8))
    metrics = json.loads((project.folder / "reports/metrics.json").read_text())
    assert run.data.metrics["test_wet.crafx2.stereo_loss_b"] == metrics["test_wet"]["crafx2"]["stereo_loss_b"]
    tracked = yaml.safe_load((project.folder / "data.dvc").read_text())["outs"][0]["md5"]
    commit = project.run("git", "rev-parse", "HEAD").strip()
    assert (run.data.tags["data.dvc"], run.data.tags["git.commit"]) == (tracked, commit)
    assert run.data.tags["git.dirty"] == "false"
    assert run.inputs is not None
    given = {item.dataset.name: item.dataset.digest for item in run.inputs.dataset_inputs}
    assert given == dict.fromkeys(("wet/train+val", "test_wet", "test_dry"), tracked)
    table = json.loads(Path(client.download_artifacts(run_id, "evaluation/songs.json")).read_text())
    assert [row[0].split("/")[0] for row in table["data"]] == ["test_wet", "test_dry"]
    assert table["columns"][1] == "crafx2 stereo_loss_b_matched"
    assert table["data"][0][1] == pytest.approx(metrics["test_wet"]["crafx2"]["stereo_loss_b_matched"])
    assert not any("." in column for column in table["columns"]), "MLflow's pages show such columns empty"
    assert "system/cpu_utilization_percentage" in run.data.metrics
    names = {file.path for file in client.list_artifacts(run_id, "plots")}
    assert names == {"plots/statistics.png", "plots/normalization.png"}
    (song,) = [file.path for file in client.list_artifacts(run_id, "evaluation/mixes/test_dry")]
    assert f"{song}/crafx2.flac" in {file.path for file in client.list_artifacts(run_id, song)}


def printed_by_make_demo(what: str) -> str:
    """A command that ``make demo`` prints at its end."""
    commands = subprocess.run(["make", "-n", "demo"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    (line,) = (line for line in commands.splitlines() if line.startswith("echo ") and what in line)
    printed = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True).stdout
    return printed.removeprefix(what).strip()


@dataclass(frozen=True)
class Endpoint:
    """A server of this machine."""

    port: int
    process: "subprocess.Popen[bytes]"


@pytest.fixture(scope="module")
def server(project: Project) -> Iterator[Endpoint]:
    """A server that serves the champion."""
    port = servers.free_port()
    address = f"http://127.0.0.1:{port}"
    log = project.folder / "server.log"
    # as it is printed, in a shell that knows nothing of the project's environment
    command = ["bash", "-c", f"exec {printed_by_make_demo('The endpoint')} --port {port}"]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(project.folder), "OMP_NUM_THREADS": "1"}
    (project.folder / ".venv").symlink_to(sys.prefix)
    kernels.bring(project.folder / "mlartifacts")
    with open(log, "w") as output:
        server = subprocess.Popen(
            command, cwd=project.folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            until(lambda: server.poll() is not None or servers.answers(f"{address}/ping"), log.read_text)
            assert server.poll() is None, log.read_text()
            yield Endpoint(port, server)
        finally:
            with contextlib.suppress(ProcessLookupError):  # it has ended
                os.killpg(server.pid, 15)
            server.wait(PATIENCE)
            (project.folder / ".venv").unlink()


@pytest.fixture
def endpoint(server: Endpoint) -> str:
    """The server's address."""
    return f"http://127.0.0.1:{server.port}"


def post(endpoint: str, row: Mapping[str, str | None], **params: Any) -> requests.Response:
    content = {"dataframe_records": [row], "params": params}
    return requests.post(f"{endpoint}/invocations", json=content, timeout=120)


def wav(samples: np.ndarray) -> bytes:
    """As no writer of ours would: with whatever the samples (samples, channels) are."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


def base64_file(content: bytes) -> str:
    return base64.b64encode(content).decode()


def test_the_endpoint_mixes_as_the_mixer_does(project: Project, endpoint: str) -> None:
    (song,) = (project.folder / "data/dry/test").iterdir()
    files = {stem: song / f"{stem}.wav" for stem in STEMS if stem != "other"}
    row = {stem: base64_file(path.read_bytes()) for stem, path in files.items()}
    answer = post(endpoint, row, as_is=True)
    assert answer.status_code == 200, answer.text
    (prediction,) = answer.json()["predictions"]
    served, sample_rate = audio.decode(base64.b64decode(prediction["mix"]), "mix")
    stems = {stem: audio.read(path)[0] for stem, path in files.items()}
    mix = Mixer.load(project.folder / "artifacts/mixer").mix(stems, SAMPLE_RATE)
    assert sample_rate == SAMPLE_RATE
    assert served.shape == mix.shape
    assert np.abs(served - mix).max() < 1e-4


@pytest.mark.parametrize("suffix", [".flac", ".mp3"])
def test_the_endpoint_takes_other_formats(project: Project, endpoint: str, suffix: str) -> None:
    (song,) = (project.folder / "data/dry/test").iterdir()
    content = audio.encode(audio.read(song / "bass.wav")[0], SAMPLE_RATE, suffix)
    answer = post(endpoint, {"bass": base64_file(content)})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "row, said",
    [
        ({"bass": base64_file(b"these are words")}, "bass: not readable"),
        ({"bass": "%%% no base64 %%%"}, "bass"),
        ({"bass": base64_file(audio.encode(np.zeros((2, 4410)), SAMPLE_RATE, ".wav"))}, "silent"),
        ({"bass": base64_file(wav(np.full((4410, 2), np.nan)))}, "NaN"),
        ({"bass": base64_file(audio.encode(np.full((2, 4410), 0.1), SAMPLE_RATE, ".wav")[:-500])}, "truncated"),
        ({"bass": base64_file(audio.encode(np.zeros((3, 4410)), SAMPLE_RATE, ".wav"))}, "channels"),
        ({"bass": ""}, "at least one stem"),
        ({"bass": None}, "bass"),
        ({}, "at least one row"),
    ],
)
def test_the_endpoint_answers_bad_requests_with_400_and_goes_on(
    project: Project, endpoint: str, row: dict[str, str | None], said: str
) -> None:
    answer = post(endpoint, row)
    assert answer.status_code == 400, answer.text
    message = answer.json()["message"]
    assert said in message
    assert "\n" not in message
    assert "Traceback" not in answer.text
    assert requests.get(f"{endpoint}/ping", timeout=PATIENCE).status_code == 200


def test_the_command_mixes_with_the_registered_model(project: Project) -> None:
    (song,) = (project.folder / "data/dry/test").iterdir()
    project.run("fxnorm", "mix", MODEL, "--dry", "--bass", str(song / "bass.wav"), "--output", "mix.flac")
    assert audio.read(project.folder / "mix.flac")[0].shape == audio.read(song / "bass.wav")[0].shape


def test_the_endpoint_ends_with_ctrl_c_and_with_it_what_it_started(server: Endpoint) -> None:
    server.process.send_signal(signal.SIGINT)  # to it alone
    server.process.wait(PATIENCE)
    until(lambda: not servers.listens(server.port))

"""``fxnorm pipeline submit``, with kfp's own client against a server that speaks Kubeflow's API."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fxnorm.cli import main
from fxnorm.pipeline.client import TOKEN_VARIABLE
from tests.kubeflow_server import RECURRING_RUN_ID, RUN_ID, Kubeflow, run, serve, task
from tests.waiting import PATIENCE, until

ROOT = Path(__file__).parents[1]
TOKEN = "eyJhbGciOi.c2VjcmV0.signature"
GIVEN = ["--set", "repository=https://example.org/songs.git", "--poll", "0.01"]


@pytest.fixture
def kubeflow() -> Iterator[Kubeflow]:
    with serve(Kubeflow()) as server:
        yield server


@pytest.fixture
def submit(
    kubeflow: Kubeflow, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs the command in this process: exit status, standard output, standard error."""
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)

    def call(*arguments: str, host: str | None = None) -> tuple[int, str, str]:
        monkeypatch.setattr(
            sys, "argv", ["fxnorm", "pipeline", "submit", "--host", host or kubeflow.address, *GIVEN, *arguments]
        )
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), *capsys.readouterr()

    return call


def test_a_run_is_started_and_shown_until_it_succeeds(kubeflow: Kubeflow, submit: Any) -> None:
    kubeflow.runs = [
        run("PENDING"),
        run("RUNNING", task("root-driver", "SUCCEEDED"), task("resolve", "RUNNING", 1)),
        run("RUNNING", task("resolve", "RUNNING", 1)),
        run("RUNNING", task("resolve", "SUCCEEDED", 1), *(task("statistics", "RUNNING", number) for number in (2, 3))),
        run("SUCCEEDED", task("statistics", "SUCCEEDED", 3), task("executor", "SUCCEEDED", 4)),
    ]
    status, output, error = submit("--set", "shards=2", "--set", "settings.train.seed=1", "--experiment", "songs")
    assert (status, error) == (0, "")
    (started,) = kubeflow.asked("POST", "/runs")
    assert started.body["runtime_config"]["parameters"] == {
        "repository": "https://example.org/songs.git",
        "revision": "main",
        "path": "data",
        "remote": "",
        "shards": 2,
        "checkpoints": "",
        "store": "",
        "pretraining_settings": {},
        "train_settings": {"seed": 1},
    }
    assert started.body["experiment_id"] == "experiment-0"
    assert [experiment["display_name"] for experiment in kubeflow.experiments] == ["songs"]
    assert f"{kubeflow.address}/#/runs/details/{RUN_ID}" in output
    assert f"run {RUN_ID}: started" in output
    assert [line.split("  ")[1] for line in output.splitlines() if line.startswith("0:00:")] == [
        "run: PENDING",
        "resolve: RUNNING",
        "run: RUNNING",
        "resolve: SUCCEEDED",
        "statistics: RUNNING",
        "statistics 2: RUNNING",
        "statistics 2: SUCCEEDED",
        "run: SUCCEEDED",
    ]


def test_a_published_experiment_is_started_by_its_name(kubeflow: Kubeflow, submit: Any) -> None:
    status, output, error = submit("--experiment", "crafx2_lb", "--set", "settings.train.seed=1")
    assert status == 0, error
    line = "experiment crafx2_lb: settings of configs/crafx2_lb.yaml, pre-training of configs/pretraining.yaml"
    assert output.startswith(line)
    (started,) = kubeflow.asked("POST", "/runs")
    given = started.body["runtime_config"]["parameters"]
    assert given["train_settings"] == {"sizes": {"front_end": "random"}, "loss": "b", "seed": 1}
    assert given["pretraining_settings"]["weight_decay"] == 1e-6
    tasks = started.body["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]
    assert "pretrain" in tasks["train"]["dependentTasks"]
    assert [experiment["display_name"] for experiment in kubeflow.experiments] == ["crafx2_lb"]


def test_an_experiment_that_is_there_is_used(kubeflow: Kubeflow, submit: Any) -> None:
    kubeflow.experiments = [{"experiment_id": "old", "display_name": "fxnorm"}]
    assert submit("--run-name", "tuesday", "--service-account", "trainer", "--no-wait")[0] == 0
    (started,) = kubeflow.asked("POST", "/runs")
    names = [started.body[key] for key in ("experiment_id", "display_name", "service_account")]
    assert names == ["old", "tuesday", "trainer"]
    assert not kubeflow.asked("POST", "/experiments")
    assert not kubeflow.asked("GET", f"/runs/{RUN_ID}")


@pytest.mark.parametrize(
    ("message", "said"), [("OOMKilled:\nexit code 137", "OOMKilled: exit code 137"), ("", "the task's log says why")]
)
def test_a_failed_run_names_the_task_and_the_reason(kubeflow: Kubeflow, submit: Any, message: str, said: str) -> None:
    kubeflow.runs = [
        run("RUNNING", task("train", "RUNNING", 1)),
        run(
            "FAILED",
            task("for-loop-2", "FAILED", 3, finished=True),
            task("train", "FAILED", 1, message, finished=True),
            task("evaluate", "FAILED", 2, "later", finished=True),
        ),
    ]
    status, _, error = submit()
    assert status == 1
    assert error.splitlines() == [
        f"fxnorm: run {RUN_ID} FAILED after 0:00:00: train: {said}; {kubeflow.address}/#/runs/details/{RUN_ID}"
    ]


def test_a_run_that_fails_before_any_task_or_is_canceled_says_so(kubeflow: Kubeflow, submit: Any) -> None:
    kubeflow.runs = [run("FAILED", task("resolve-driver", "FAILED", finished=True), error={"message": "no secret"})]
    status, _, error = submit()
    assert (status, "resolve-driver: no secret" in error) == (1, True)
    kubeflow.runs = [run("CANCELED")]
    status, _, error = submit()
    assert (status, f"run {RUN_ID} CANCELED" in error) == (1, True)


def test_without_cache_no_task_takes_over_anything(kubeflow: Kubeflow, submit: Any) -> None:
    assert submit("--no-wait")[0] == 0
    assert submit("--no-wait", "--no-cache")[0] == 0
    with_cache, without = (json.dumps(request.body) for request in kubeflow.asked("POST", "/runs"))
    assert '"enableCache": true' in with_cache
    assert '"enableCache": true' not in without


def test_the_cluster_s_settings_are_in_the_pipeline(kubeflow: Kubeflow, submit: Any, tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text("image: registry.example.org/fxnorm:7\n", encoding="utf-8")
    assert submit("--no-wait", "--cluster", str(tmp_path / "cluster.yaml"))[0] == 0
    (started,) = kubeflow.asked("POST", "/runs")
    executors = started.body["pipeline_spec"]["pipeline_spec"]["deploymentSpec"]["executors"].values()
    assert {executor["container"]["image"] for executor in executors} == {"registry.example.org/fxnorm:7"}


def test_a_schedule_makes_a_recurring_run(kubeflow: Kubeflow, submit: Any) -> None:
    status, output, _ = submit("--schedule", "0 30 3 * * 1", "--max-concurrency", "2")
    assert (status, RECURRING_RUN_ID in output) == (0, True)
    (made,) = kubeflow.asked("POST", "/recurringruns")
    assert made.body["trigger"] == {"cron_schedule": {"cron": "0 30 3 * * 1"}}
    expected = {"mode": "ENABLE", "max_concurrency": 2, "no_catchup": True, "experiment_id": "experiment-0"}
    assert {key: made.body[key] for key in expected} == expected
    assert made.body["runtime_config"]["parameters"]["repository"] == "https://example.org/songs.git"
    assert not kubeflow.asked("POST", "/runs")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "shard=2"], "shard: unknown parameter"),
        (["--set", "settings.train.epochs=2"], "train.epochs: unknown key"),
        (["--set", "repository=https://anna:secret@example.org/songs.git"], "repository"),
        (["--set", "repository=https://secret@example.org/songs.git"], "repository"),
        (["--schedule", "30 3 * * 1"], "expected six fields"),
        (["--token-file", "nowhere.txt"], "--token-file nowhere.txt: cannot be read (No such file or directory)"),
        (["--ca-file", "nowhere.pem"], "--ca-file nowhere.pem: no such file"),
        (["--cluster", "nowhere.yaml"], "nowhere.yaml"),
        (["--parameters", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_what_cannot_be_meant_is_said_before_anything_is_asked(
    kubeflow: Kubeflow, submit: Any, arguments: list[str], said: str
) -> None:
    status, output, error = submit(*arguments)
    assert (status, output, len(error.splitlines())) == (1, "", 1)
    assert said in error
    assert "secret" not in error.replace("in a secret of the cluster", "")
    assert not kubeflow.requests


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, "text/html", "<html>Welcome</html>", {}), "not as Kubeflow Pipelines does"),
        ((404, "text/html", "<html>nothing here</html>", {}), "is not an address of Kubeflow Pipelines (404"),
        ((302, "text/html", "", {"Location": "https://login.example.org/?state=1"}), "to https://login.example.org/"),
        ((401, "text/plain", "no", {}), "refuses this token or cookie, or wants one (401"),
        ((403, "application/json", '{"message": "RBAC: access\\ndenied"}', {}), "(403 Forbidden: RBAC: access denied)"),
        ((503, "text/plain", "no upstream", {"Retry-After": "3600"}), "503"),
        ((500, "application/json", '{"code": 13, "message": "database is gone"}', {}), "database is gone"),
    ],
)
def test_a_server_that_does_not_serve_gets_one_line(
    kubeflow: Kubeflow, submit: Any, tmp_path: Path, answer: tuple[int, str, str, dict[str, str]], said: str
) -> None:
    kubeflow.instead = answer
    (tmp_path / "token").write_text(TOKEN, encoding="utf-8")
    status, output, error = submit("--token-file", str(tmp_path / "token"))
    assert (status, output, len(error.splitlines())) == (1, "", 1)
    assert error.startswith(f"fxnorm: {kubeflow.address}: ")
    assert said in error
    assert TOKEN not in error
    assert len(kubeflow.requests) == 1


@pytest.mark.parametrize(
    "host", ["kubeflow.example.org", "ftp://example.org", "http://", "http://localhost:8080/#/runs", "http://a:b@host"]
)
def test_a_host_that_is_no_address_is_refused(submit: Any, host: str) -> None:
    status, _, error = submit(host=host)
    assert (status, len(error.splitlines())) == (1, 1)
    assert error.startswith("fxnorm: --host")
    assert "a:b" not in error


def test_a_host_where_nobody_listens_gets_one_line(submit: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        status, _, error = submit(host=f"http://127.0.0.1:{port}")
    assert status == 1
    assert error == (
        f"fxnorm: http://127.0.0.1:{port}: cannot be reached "
        "(Failed to establish a new connection: [Errno 111] Connection refused)\n"
    )


def test_a_token_is_read_from_a_file_or_a_variable_and_goes_nowhere_else(
    kubeflow: Kubeflow, submit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeflow.token = TOKEN
    (tmp_path / "token").write_text(f"{TOKEN}\n", encoding="utf-8")
    status, output, error = submit("--token-file", str(tmp_path / "token"))
    assert (status, TOKEN in output + error) == (0, False)
    assert {request.headers["authorization"] for request in kubeflow.requests} == {f"Bearer {TOKEN}"}
    assert not any(TOKEN in json.dumps(request.body) for request in kubeflow.requests)
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    assert submit()[0] == 0
    monkeypatch.setenv(TOKEN_VARIABLE, "another")
    status, output, error = submit()
    assert (status, "another" in output + error) == (1, False)


def test_a_token_that_expires_is_read_again(kubeflow: Kubeflow, submit: Any, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first", encoding="utf-8")
    kubeflow.token = "first"
    kubeflow.runs = [run("RUNNING"), run("SUCCEEDED")]
    answer = kubeflow.answer

    def renew_after_the_start(request: Any) -> Any:
        answered = answer(request)
        if request.method == "POST" and request.path.endswith("/runs"):
            token.write_text("second", encoding="utf-8")
            kubeflow.token = "second"
        return answered

    kubeflow.answer = renew_after_the_start  # type: ignore[method-assign]
    assert submit("--token-file", str(token))[0] == 0


def test_a_token_that_is_refused_while_waiting_ends_the_wait_only(kubeflow: Kubeflow, submit: Any) -> None:
    kubeflow.runs = [run("RUNNING"), 401]
    status, _, error = submit()
    assert (status, len(error.splitlines())) == (1, 1)
    assert f"run {RUN_ID} goes on" in error


@pytest.mark.parametrize("content", ["", "two\nlines", "caf\u00e9"])
def test_a_token_file_with_something_else_is_refused(submit: Any, tmp_path: Path, content: str) -> None:
    (tmp_path / "token").write_text(content, encoding="utf-8")
    status, _, error = submit("--token-file", str(tmp_path / "token"))
    assert (status, "expected one line" in error) == (1, True)
    assert not content or content not in error


def test_a_cookie_is_sent(kubeflow: Kubeflow, submit: Any, tmp_path: Path) -> None:
    (tmp_path / "cookie").write_text("authservice_session=abc", encoding="utf-8")
    assert submit("--cookie-file", str(tmp_path / "cookie"))[0] == 0
    assert {request.headers["cookie"] for request in kubeflow.requests} == {"authservice_session=abc"}


def test_namespaces_are_for_kubeflow_with_several_users(kubeflow: Kubeflow, submit: Any) -> None:
    status, _, error = submit("--namespace", "anna")
    assert (status, "leave it out" in error) == (1, True)
    kubeflow.several_users = True
    status, _, error = submit()
    assert (status, "--namespace" in error) == (1, True)
    assert submit("--namespace", "anna", "--no-wait")[0] == 0
    assert kubeflow.experiments[0]["namespace"] == "anna"
    status, _, error = submit("--namespace", "berta")
    assert (status, "namespace 'berta' is not yours" in error) == (1, True)


def test_a_server_that_is_away_for_a_moment_does_not_end_the_wait(kubeflow: Kubeflow, submit: Any) -> None:
    kubeflow.runs = [run("RUNNING"), 503, 502, run("SUCCEEDED")]
    status, output, _ = submit()
    assert (status, output.count("asking again")) == (0, 1)


def test_a_wait_can_be_bounded(kubeflow: Kubeflow, submit: Any) -> None:
    kubeflow.runs = [run("RUNNING")]
    status, _, error = submit("--timeout", "0.05")
    assert (status, "is still RUNNING after 0.05 s" in error) == (1, True)
    assert "it goes on" in error


def test_interrupting_the_command_leaves_the_run_and_the_home_folder_alone(kubeflow: Kubeflow, tmp_path: Path) -> None:
    context = tmp_path / ".config/kfp/context.json"
    context.parent.mkdir(parents=True)
    context.write_text('{"namespace": "old", "client_authentication_cookie": "old"}', encoding="utf-8")
    kubeflow.runs = [run("RUNNING")]
    arguments = [sys.executable, "-m", "fxnorm", "pipeline", "submit", "--host", kubeflow.address, *GIVEN]
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        arguments, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    while "run: RUNNING" not in (line := process.stdout.readline()):
        assert line, "ended before it waited"
    asked = len(kubeflow.requests)
    until(lambda: len(kubeflow.requests) > asked)  # so it waits
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=PATIENCE)
    link = f"{kubeflow.address}/#/runs/details/{RUN_ID}"
    assert error == f"fxnorm: run {RUN_ID} goes on; watch it at {link}\n"
    assert process.returncode == 130
    assert not [request for request in kubeflow.requests if "terminate" in request.path]
    assert not any("cookie" in request.headers for request in kubeflow.requests)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["context.json"]

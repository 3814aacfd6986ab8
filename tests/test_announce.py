"""The message that tells how a run on a cluster ended, at a real HTTP server in the webhook's place."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fxnorm.errors import FxnormError
from fxnorm.stages import announce
from fxnorm.tracking import kubeflow_runs, runs
from tests import prefork

ENDING = announce.Ending("fxnorm-automix", "9c1d-77", "SUCCEEDED")


class Webhook(ThreadingHTTPServer):
    """Answers with ``statuses``, the last one again and again, and keeps what it was sent."""

    def __init__(self) -> None:
        self.statuses = [200]
        self.received: list[dict[str, str]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/services/T0/secret"


class _Handler(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        self.server.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        statuses = self.server.statuses
        self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announce, "_PAUSE_SECONDS", 0.0)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_message_names_the_run_and_links_to_it_and_to_the_report() -> None:
    evaluated = kubeflow_runs.Evaluated("#/experiments/1/runs/ab", "crafx2 <b>", "- CRAFx2 & co. win")
    assert announce.message(ENDING, evaluated, "https://kubeflow.example.org/", "https://mlflow.example.org") == (
        "*fxnorm-automix*: <https://kubeflow.example.org/#/runs/details/9c1d-77|run 9c1d-77> has ended well\n"
        "Report: <https://mlflow.example.org/#/experiments/1/runs/ab|crafx2 &lt;b&gt;>\n"
        "- CRAFx2 &amp; co. win"
    )
    failed = announce.Ending("fxnorm-automix", "9c1d-77", "FAILED", "no\nsuch revision")
    assert announce.message(failed, None, "", "") == "*fxnorm-automix*: run 9c1d-77 failed: no\\nsuch revision"


def test_a_webhook_that_is_busy_is_asked_again(webhook: Webhook) -> None:
    webhook.statuses = [503, 429, 200]
    announce.send(webhook.address, "done")
    assert webhook.received == [{"text": "done"}] * 3


@pytest.mark.parametrize("status", [404, 302])
def test_a_refusal_names_the_host_and_not_the_secret(webhook: Webhook, status: int) -> None:
    webhook.statuses = [status]
    with pytest.raises(FxnormError, match=rf"^127.0.0.1: .* \(status {status}\)$"):
        announce.send(webhook.address, "done")


@pytest.mark.parametrize("address", ["hooks.example.org/secret", "file:///secret", "https://[secret", "http://"])
def test_an_address_that_is_none_is_refused_and_not_shown(address: str) -> None:
    with pytest.raises(FxnormError, match="expected the https:// address") as caught:
        announce.send(address, "done")
    assert "secret" not in str(caught.value)


def test_a_server_that_is_not_there_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kubeflow_runs, "evaluated_by", lambda run: None)
    monkeypatch.setenv(announce.VARIABLE, "http://127.0.0.1:9/secret")
    announce.run(ENDING, "", "")
    assert "127.0.0.1: the webhook did not take the message" in caplog.text
    assert "secret" not in caplog.text
    monkeypatch.delenv(announce.VARIABLE)
    announce.run(ENDING, "", "")
    assert "so nobody is told" in caplog.text


def test_the_report_of_a_run_is_found(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("store"))
    monkeypatch.setenv(announce.VARIABLE, webhook.address)
    monkeypatch.setenv(kubeflow_runs.VARIABLE, "9c1d-77")
    runs.configure()
    tracked = runs.TrackedRun.start("crafx2 loss b", {}, kubeflow_runs.tags() | {runs.DESCRIPTION_TAG: "- better"})
    announce.run(ENDING, "", "http://mlflow")
    text = webhook.received[0]["text"]
    assert f"/runs/{tracked.run_id}|crafx2 loss b>" in text
    assert text.endswith("\n- better")
    assert kubeflow_runs.evaluated_by("another") is None
    with pytest.raises(FxnormError, match="no id of a Kubeflow run"):
        kubeflow_runs.evaluated_by("x' or '1")


def test_a_pipeline_that_fails_ends_with_its_message(webhook: Webhook, tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text("announce: {kubeflow: 'https://kubeflow.example.org'}\n")
    done = subprocess.run(
        [prefork.programs() / "fxnorm", "pipeline", "run", "--cluster", "cluster.yaml", "--set", "repository=/nowhere"],
        cwd=tmp_path,
        env={**os.environ, announce.VARIABLE: webhook.address, "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    (received,) = webhook.received
    assert received["text"].startswith("*fxnorm-automix*: <https://kubeflow.example.org/#/runs/details/")
    assert "> failed" in received["text"]
    assert "secret" not in done.stdout + done.stderr

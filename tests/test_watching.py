"""Metrics, request log, tokens and settings of the endpoint, without a server: one is in tests/test_serving.py."""

import asyncio
import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fxnorm.cli import main
from fxnorm.errors import FxnormError, SettingsError
from fxnorm.mixing.report import MixReport
from fxnorm.monitoring.records import STATUSES, RequestLog
from fxnorm.serving import request_log, tokens, workers
from fxnorm.serving.limits import Limits
from fxnorm.serving.metrics import Metrics
from fxnorm.serving.record import RequestRecord
from fxnorm.serving.request_limiter import RequestLimiter
from fxnorm.serving.tokens import Tokens
from fxnorm.serving.watch import Watch
from fxnorm.serving.watching import Watching
from tests.metrics import parsed, value_of
from tests.waiting import PATIENCE

REPORT = MixReport(-20.0, -1.0, 0.0, 0.0, {"bass": -21.5, "vocals": None}, {"loudness": {"bass": -5.0}}, [])


def record(status: int = 200, version: str = "1") -> RequestRecord:
    made = RequestRecord(status=status, version=version)
    if status == 200:
        made.note(12.5, REPORT)
    return made


def test_every_way_to_end_is_there_from_the_start_and_counted() -> None:
    metrics = Metrics()
    found = parsed(metrics.text().decode())
    counters = {(s.labels["status"], s.labels["reason"]): s.value for s in found["fxnorm_requests"].samples}
    assert counters == {(str(status), reason): 0.0 for reason, status in STATUSES.items()}
    watch = Watch(metrics)
    for status in (200, 400, 401, 408, 413, 415, 503, 504, 500, 404):
        watch.note(record(status))
    left = record(0)
    left.left = True
    watch.note(left)
    found = parsed(metrics.text().decode())
    for status, reason in ((200, "mixed"), (401, "token"), (500, "defect"), (404, "other"), (499, "left")):
        assert value_of(found, "fxnorm_requests_total", status=str(status), reason=reason) == 1
    assert value_of(found, "fxnorm_drift_bucket", effect="loudness", stem="bass", le="4.0") == 0
    assert value_of(found, "fxnorm_drift_bucket", effect="loudness", stem="bass", le="6.0") == 1


def test_promtool_finds_nothing_to_say_about_the_metrics() -> None:
    metrics = Metrics()
    metrics.serves("1", "0.1.0+abc")
    Watch(metrics).note(record())
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=metrics.text(),
        capture_output=True,
        check=False,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


_WORKER = """
import sys
from pathlib import Path
from fxnorm.monitoring.records import LoggedRequest
from fxnorm.serving.metrics import Metrics
metrics = Metrics(Path(sys.argv[1]))
metrics.serves("1", "code")
metrics.waiting.inc()
metrics.count(LoggedRequest(time="2026-10-01T00:00Z", status=200, reason="mixed", seconds=1, phases={}, version="1"))
print(metrics.text().decode(), flush=True)
sys.stdin.readline()
print(metrics.text().decode(), flush=True)
"""


def test_a_scrape_of_one_worker_tells_of_all_of_them(tmp_path: Path) -> None:
    def start() -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", _WORKER, str(tmp_path)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    first = start()
    assert first.stdin is not None and first.stdout is not None
    lines = [first.stdout.readline()]
    while lines[-1] and "fxnorm_memory_bytes{" not in lines[-1]:
        lines.append(first.stdout.readline())
    second = start()
    out, _ = second.communicate("\n", timeout=PATIENCE)  # both are there for its first text
    together = parsed(out.split("# HELP fxnorm_memory_bytes")[0])
    assert value_of(together, "fxnorm_requests_total", reason="mixed") == 2
    assert value_of(together, "fxnorm_requests_waiting") == value_of(together, "fxnorm_serving") == 2
    rest, _ = first.communicate("\n", timeout=PATIENCE)
    alone = parsed(rest[rest.index("# HELP") :])
    assert value_of(alone, "fxnorm_requests_total", reason="mixed") == 2, "what the other counted stays"
    assert value_of(alone, "fxnorm_requests_waiting") == value_of(alone, "fxnorm_serving") == 1, "what it was does not"
    assert [sample.labels["process"] for sample in alone["fxnorm_memory_bytes"].samples] == [str(first.pid)]


def test_the_workers_folder_is_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.tempfile, "gettempdir", lambda: str(tmp_path))
    assert workers.shared_folder() is None

    class Parent:
        pid = os.getpid()

    monkeypatch.setattr(multiprocessing, "parent_process", Parent)
    left_behind = tmp_path / f"fxnorm-workers-{os.getuid()}-4194305"  # more than a process's number can be
    left_behind.mkdir()
    folder = workers.shared_folder()
    assert folder is not None and folder.stat().st_mode & 0o777 == 0o700
    assert workers.shared_folder() == folder
    assert not left_behind.exists()
    folder.chmod(0o777)
    with pytest.raises(FxnormError, match="found another's"):
        workers.shared_folder()


def test_a_large_log_is_renamed_and_few_files_stay_whichever_process_writes(tmp_path: Path) -> None:
    path, failures = tmp_path / "log", list[int]()
    logs = [request_log.RequestLog(path, 5_000, lambda: failures.append(1)) for _ in range(2)]
    for number in range(200):
        logs[number % 2].write(record(version=str(number)).finished())
    for log in logs:
        log.close()
    files = sorted(file.name for file in tmp_path.iterdir() if not file.name.startswith("."))
    assert files == ["log", "log.1", "log.2", "log.3", "log.4", "log.5"]
    assert all((tmp_path / file).stat().st_size <= 5_000 for file in files)
    found = RequestLog.read(path)
    assert (found.damaged, failures) == ([], [])
    newest = {int(request.version) for request in found.requests}
    assert len(newest) == len(found.requests) > 50
    assert newest & {198, 199}, "one of them was written last; the other process may have been done long before"


def test_a_full_disk_fails_no_request_and_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, failures = tmp_path / "log", []
    path.symlink_to("/dev/full")
    log = request_log.RequestLog(path, 10_000, lambda: failures.append(1))
    for _ in range(3):
        log.write(record().finished())
    log._writer.submit(lambda: None).result()
    path.unlink()
    log.write(record().finished())
    log.close()
    assert len(failures) == 3
    said = [entry.getMessage() for entry in caplog.records if str(path) in entry.getMessage()]
    assert said[0] == f"{path}: the request log cannot be written (No space left on device); requests are served on"
    assert sum("cannot be written" in line for line in said) == 1
    assert len(RequestLog.read(path).requests) == 1
    with pytest.raises(SettingsError, match=r"FXNORM_REQUEST_LOG=.*/none/log: cannot be written \(No such file"):
        request_log.RequestLog(tmp_path / "none/log", 1, lambda: None)


def line(name: str, token: str) -> str:
    return f"{name}:{hashlib.sha256(token.encode()).hexdigest()}\n"


def test_tokens_follow_their_file_and_a_damaged_one_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tokens, "_SECONDS_BETWEEN_LOOKS", 0.0)
    path, failures = tmp_path / "tokens", []
    path.write_text(f"# who may mix\n\n{line('studio', 'one')}{line('other', 'two')}")
    found = Tokens(path, lambda: failures.append(1))
    for good in (b"Bearer one", b"bearer two", b"Bearer  one"):
        assert found.allow(good)
    for wrong in (b"", b"Bearer", b"Bearer three", b"Basic one", b"one", b"Bearer \xff", b"Bearer one two"):
        assert not found.allow(wrong)
    path.write_text(line("studio", "three"))
    assert found.allow(b"Bearer three")
    assert not found.allow(b"Bearer one")
    for content in (b"three\n", b"", b"\xff\xfe"):
        path.write_bytes(content)
        assert found.allow(b"Bearer three")
    path.unlink()
    assert found.allow(b"Bearer three")
    assert len(failures) == 4
    assert not any("three" in entry.getMessage() for entry in caplog.records), (
        "a token in place of its hash is not shown"
    )
    path.write_text(line("new", "four"))
    assert found.allow(b"Bearer four")
    assert not found.allow(b"Bearer three")


@pytest.mark.parametrize("content, said", [(None, "No such file"), (b"secret\n", "line 1: expected NAME:SHA256"),
                                           (b"\n", "at least one token")])  # fmt: skip
def test_a_file_of_tokens_that_cannot_be_read_stops_the_start(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "tokens"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=said) as refused:
        Tokens(path, lambda: None)
    assert f"FXNORM_TOKENS_FILE={path}: " in str(refused.value)
    assert "secret" not in str(refused.value)


async def exchange(limiter: RequestLimiter, method: str, path: str, **headers: str) -> tuple[int, bytes]:
    """What a request with no body that ever arrives is answered."""
    status, answer = 0, b""

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status, answer
        status = message.get("status", status)
        answer += message.get("body", b"")
        if message["type"] == "http.response.body":
            whole.set()

    whole = asyncio.Event()
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": encoded, "client": ("127.0.0.1", 1)}
    task = asyncio.create_task(limiter(scope, asyncio.Queue[Any]().get, send))
    async with asyncio.timeout(PATIENCE):
        await whole.wait()
    task.cancel()
    return status, answer


async def nothing(*_: object) -> None:
    raise AssertionError("reached the server")


def test_what_is_watched_needs_a_token_and_waits_for_nobody(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(line("a", "one"))
    watch = Watch(Metrics(), tokens=Tokens(tmp_path / "tokens", lambda: None), reload=lambda: (200, {"version": "2"}))
    limiter = RequestLimiter(nothing, Limits(timeout_seconds=60.0), watch)
    limiter._admitted_requests = 100

    async def run() -> None:
        for method, path in (("GET", "/metrics"), ("POST", "/reload"), ("POST", "/invocations"), ("POST", "/else")):
            status, answer = await exchange(limiter, method, path)
            assert (status, json.loads(answer)["error_code"]) == (401, "UNAUTHENTICATED")
        bearer = {"authorization": "Bearer one"}
        status, answer = await exchange(limiter, "GET", "/metrics", **bearer)
        assert status == 200
        assert value_of(parsed(answer.decode()), "fxnorm_requests_total", reason="token") == 2, "of mixes alone"
        assert await exchange(limiter, "POST", "/reload", **bearer) == (200, b'{"version": "2"}')

    asyncio.run(run())


def test_what_is_off_reaches_the_server_behind_as_before() -> None:
    reached = []

    async def application(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        reached.append(scope["path"])
        await send({"type": "http.response.start", "status": 404})
        await send({"type": "http.response.body"})

    limiter = RequestLimiter(application, Limits(timeout_seconds=60.0))
    assert asyncio.run(exchange(limiter, "GET", "/metrics"))[0] == 404
    assert reached == ["/metrics"]


def test_settings_are_off_unless_they_are_set() -> None:
    found = Watching.from_environment({"FXNORM_SHADOW": "", "FXNORM_MAX_ROWS": "2", "FXNORM_TOKEN": "x", "PATH": "/"})
    assert found == Watching()
    assert (found.metrics, found.request_log, found.tokens_file, found.reload, found.watch_seconds) == (
        True, None, None, False, 0.0,
    )  # fmt: skip
    address = "models:/a@champion"
    assert Watching.from_environment({"FXNORM_RELOAD": "1", "FXNORM_MODEL": address}).model == address


@pytest.mark.parametrize(
    "variables, said",
    [
        ({"FXNORM_TOKEN_FILE": "a"}, "FXNORM_TOKEN_FILE: unknown, expected some of FXNORM_METRICS, "),
        ({"FXNORM_REQUESTLOG": "a"}, "FXNORM_REQUESTLOG: unknown"),
        ({"FXNORM_SHADOW_SHARE": "2"}, "FXNORM_SHADOW_SHARE=2: Input should be less than or equal to 1"),
        ({"FXNORM_RELOAD": "perhaps"}, "FXNORM_RELOAD=perhaps: "),
        ({"FXNORM_RELOAD": "1"}, "FXNORM_MODEL=: expected an address with an alias"),
        ({"FXNORM_WATCH_SECONDS": "5", "FXNORM_MODEL": "models:/a/3"}, "because FXNORM_WATCH_SECONDS is set"),
        ({"FXNORM_SHADOW": "mixer"}, "FXNORM_SHADOW=mixer: expected an address such as models:/NAME@ALIAS"),
    ],
)
def test_a_setting_that_cannot_be_is_named(variables: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Watching.from_environment(variables)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "variables, said",
    [
        ({"FXNORM_TOKENS_FILE": "none"}, "FXNORM_TOKENS_FILE=none: cannot be read (No such file or directory)"),
        ({"FXNORM_WATCH_SECOND": "5"}, "FXNORM_WATCH_SECOND: unknown, expected some of "),
        ({"FXNORM_MAX_ROWS": "0"}, "FXNORM_MAX_ROWS=0: "),
    ],
)
def test_the_command_refuses_at_once_what_the_server_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["serve"], env=variables)
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert done.output.startswith(f"fxnorm: {said}")

"""The request limiter before an application that records what reaches it; limits and prefixes."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from fastapi import FastAPI

from fxnorm.constants import SAMPLE_RATE
from fxnorm.errors import AudioError, FxnormError, SettingsError
from fxnorm.io import audio
from fxnorm.serving import request_limiter
from fxnorm.serving.deadline import CURRENT, Deadline, OutOfTimeError
from fxnorm.serving.limits import Limits
from fxnorm.serving.request_limiter import RequestLimiter
from fxnorm.serving.stems import StemReader, refuse_outside
from tests import servers
from tests.conftest import noise
from tests.waiting import PATIENCE

BODY = json.dumps({"dataframe_records": [{"bass": "QUJD"}]}).encode()
SCOPE = {
    "type": "http",
    "method": "POST",
    "path": "/invocations",
}
SERVING = Path(__file__).parents[1] / "serving"
Message = MutableMapping[str, Any]


class Client:
    """One request: what it sends, and what it is answered."""

    def __init__(self, body: bytes = BODY, pieces: int = 1, whole: bool = True) -> None:
        size = max(1, -(-len(body) // pieces))
        self._arriving: asyncio.Queue[Message] = asyncio.Queue()
        for start in range(0, len(body), size):
            more = start + size < len(body) or not whole
            self._arriving.put_nowait({"type": "http.request", "body": body[start : start + size], "more_body": more})
        self.asked = 0
        self.status = 0
        self.answer = b""

    def leave(self) -> None:
        self._arriving.put_nowait({"type": "http.disconnect"})

    async def _receive(self) -> Message:
        self.asked += 1
        return await self._arriving.get()

    async def _send(self, message: Message) -> None:
        self.status = message.get("status", self.status)
        self.answer += message.get("body", b"")

    async def post(self, application: RequestLimiter, content_type: str = "application/json") -> None:
        headers = [(b"content-type", content_type.encode())]
        await application({**SCOPE, "headers": headers}, self._receive, self._send)


class Application:
    """Reads a request, and answers it when it is told to."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[list[tuple[bytes, bytes]]] = []
        self.deadlines: list[Deadline | None] = []
        self.go_on = asyncio.Event()
        self.most_at_once = 0
        self._at_once = 0

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        self.bodies.append(body)
        self.headers.append(scope["headers"])
        self.deadlines.append(CURRENT.get())
        await self.go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"mixed"})
        self._at_once -= 1


def limits(**variables: str) -> Limits:
    return Limits.from_environment({f"FXNORM_{name.upper()}": value for name, value in variables.items()}, 60.0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


def test_a_body_reaches_the_server_as_it_was_sent() -> None:
    async def run() -> None:
        large = BODY + b" " * 2_500_000
        application, client = Application(), Client(large, pieces=7)
        application.go_on.set()
        await client.post(RequestLimiter(application, limits()))
        assert (application.bodies == [large], client.status, client.answer) == (True, 200, b"mixed")

    asyncio.run(run())


CONTENT_TYPES = (
    'application/json; charset="utf-8"',
    "application/json;",
    "APPLICATION/JSON",
    "application/json ;charset=UTF-8",
)


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
def test_whatever_json_is_called_the_server_behind_gets_the_one_name_that_it_knows(content_type: str) -> None:
    async def run() -> None:
        application, client = Application(), Client()
        application.go_on.set()
        await client.post(RequestLimiter(application, limits()), content_type)
        assert (client.status, application.headers) == (200, [[(b"content-type", b"application/json")]])

    asyncio.run(run())


def test_two_requests_are_served_while_the_others_wait_and_the_line_is_bounded() -> None:
    async def run() -> None:
        application = Application()
        endpoint = RequestLimiter(application, limits(max_waiting="2"))
        clients = [Client() for _ in range(5)]
        tasks = [asyncio.create_task(client.post(endpoint)) for client in clients]
        await until(lambda: sum(task.done() for task in tasks) == 2 and application.most_at_once == 2)
        assert sorted(client.status for client in clients) == [0, 0, 0, 503, 503]
        assert b"being served already" in clients[-1].answer
        application.go_on.set()
        await asyncio.gather(*tasks)
        assert [client.status for client in clients[:3]] == [200, 200, 200]
        assert application.most_at_once == 2, "no more than one that is mixed and another"
        await (late := Client()).post(endpoint)
        assert late.status == 200

    asyncio.run(run())


def test_two_bodies_that_are_too_large_together_have_their_turns_one_after_the_other() -> None:
    async def run() -> None:
        application = Application()
        endpoint = RequestLimiter(application, limits(max_request_mb="1"))
        clients = [Client(BODY + b" " * size) for size in (600_000, 700_000, 100_000)]
        tasks = [asyncio.create_task(client.post(endpoint)) for client in clients]
        await until(lambda: len(application.bodies) == 1)
        await asyncio.sleep(0.05)
        assert application.most_at_once == 1, "the third does not pass the second"
        application.go_on.set()
        await asyncio.gather(*tasks)
        assert [client.status for client in clients] == [200, 200, 200]

    asyncio.run(run())


def test_whoever_leaves_the_line_is_not_mixed() -> None:
    async def run() -> None:
        application = Application()
        endpoint = RequestLimiter(application, limits())
        clients = [Client() for _ in range(3)]
        tasks = [asyncio.create_task(client.post(endpoint)) for client in clients[:2]]
        await until(lambda: len(application.bodies) == 2)
        tasks.append(asyncio.create_task(clients[2].post(endpoint)))
        clients[2].leave()
        await tasks[2]
        application.go_on.set()
        await asyncio.gather(*tasks)
        assert len(application.bodies) == 2

    asyncio.run(run())


def test_a_mix_is_given_up_when_its_client_leaves() -> None:
    async def run() -> None:
        application, client = Application(), Client()
        task = asyncio.create_task(client.post(RequestLimiter(application, limits())))
        await until(lambda: len(application.deadlines) == 1)
        deadline = application.deadlines[0]
        assert deadline is not None
        deadline.check()
        client.leave()
        await until(lambda: deadline.remaining() == 0)
        with pytest.raises(OutOfTimeError, match="not mixed within 57 s"):
            deadline.check()
        application.go_on.set()
        await task

    asyncio.run(run())


def test_time_in_the_line_counts() -> None:
    async def run() -> None:
        application = Application()
        endpoint = RequestLimiter(application, limits())
        tasks = [asyncio.create_task(Client().post(endpoint)) for _ in range(2)]
        await until(lambda: len(application.bodies) == 2)
        endpoint._limits = limits(timeout_seconds="0.2")  # for those that come now
        await (third := Client()).post(endpoint)
        assert third.status == 504
        assert len(application.bodies) == 2
        application.go_on.set()
        await asyncio.gather(*tasks)

    asyncio.run(run())


def test_a_body_that_does_not_arrive_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_limiter, "_SECONDS_TO_DRAIN", 0.1)

    async def run(seconds: str) -> None:
        application, client = Application(), Client(b"")
        await client.post(RequestLimiter(application, limits(timeout_seconds=seconds)))
        assert client.status == 408
        assert application.bodies == []

    asyncio.run(run("0.1"))
    monkeypatch.setattr(request_limiter, "_SECONDS_BETWEEN_PARTS", 0.1)
    asyncio.run(run("50"))


def test_clients_that_send_nothing_keep_nobody_out() -> None:
    async def run() -> None:
        application = Application()
        application.go_on.set()
        endpoint = RequestLimiter(application, limits(max_waiting="1"))
        idle = [Client(b"") for _ in range(20)]
        tasks = [asyncio.create_task(client.post(endpoint)) for client in idle]
        await until(lambda: all(client.asked for client in idle))
        await (good := Client()).post(endpoint)
        assert good.status == 200
        for client in idle:
            client.leave()
        await asyncio.gather(*tasks)

    asyncio.run(run())


def test_all_bodies_together_are_bounded() -> None:
    """Two of a megabyte each may be inside; a third that arrives beside two others that are not whole yet may not."""

    async def run() -> None:
        application = Application()
        application.go_on.set()
        endpoint = RequestLimiter(application, limits(max_waiting="1", max_request_mb="1"))
        halves = [Client(b" " * 900_000, whole=False) for _ in range(2)]
        tasks = [asyncio.create_task(half.post(endpoint)) for half in halves]
        await until(lambda: all(half.asked == 2 for half in halves))
        await (third := Client(BODY + b" " * 300_000)).post(endpoint)
        assert third.status == 503
        assert b"too much is being sent at once" in third.answer
        for half in halves:
            half.leave()
        await asyncio.gather(*tasks)
        await (late := Client(BODY + b" " * 300_000)).post(endpoint)
        assert late.status == 200

    asyncio.run(run())


def test_what_a_server_does_beside_mixing_leaves_the_cores_to_it() -> None:
    found = []

    async def application(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        found.append(await asyncio.to_thread(os.getpriority, os.PRIO_PROCESS, 0))  # on Linux, of the calling thread

    async def run() -> None:
        await RequestLimiter(application, limits())(
            {"type": "lifespan"}, asyncio.Queue[Message]().get, asyncio.Queue[Message]().put
        )

    own = os.getpriority(os.PRIO_PROCESS, 0)
    asyncio.run(run())
    assert found == [min(own + 10, 19)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == own


def test_the_limiter_is_for_servers_alone() -> None:
    before = FastAPI.build_middleware_stack
    assert not request_limiter.install(limits())
    assert FastAPI.build_middleware_stack is before


@pytest.mark.parametrize("server, level", [(None, "INFO"), ("mlserver", "WARNING")])
def test_without_a_limiter_the_log_names_the_limits_that_do_not_hold(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, server: str | None, level: str
) -> None:
    for name in request_limiter._OTHER_SERVERS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    if server is not None:
        monkeypatch.setitem(sys.modules, server, ModuleType(server))
    with caplog.at_level("INFO", logger=request_limiter.__name__):
        request_limiter.warn_without()
    (record,) = caplog.records
    assert record.levelname == level
    assert f"of others: {server or 'none'}" in record.getMessage()
    assert "FXNORM_MAX_REQUEST_MB" in record.getMessage()


def test_limits_come_from_the_environment() -> None:
    found = limits(max_request_mb="2.5", max_seconds="90", s3_prefixes="s3://a/b, s3://c")
    assert (found.request_bytes, found.max_seconds, found.s3_prefixes) == (2_500_000, 90.0, ("s3://a/b", "s3://c"))
    assert limits().timeout_seconds == pytest.approx(57.0)
    assert limits().s3_prefixes == ()


@pytest.mark.parametrize(
    "variables, said",
    [
        ({"max_request_mb": "much"}, "FXNORM_MAX_REQUEST_MB=much: "),
        ({"max_request_mb": "inf"}, "FXNORM_MAX_REQUEST_MB=inf: Input should be a finite number"),
        ({"max_request_mb": "1e305"}, "FXNORM_MAX_REQUEST_MB=1e305: Input should be less than"),
        ({"max_decoded_mb": "nan"}, "FXNORM_MAX_DECODED_MB=nan: Input should be a finite number"),
        ({"max_seconds": "inf"}, "FXNORM_MAX_SECONDS=inf: Input should be a finite number"),
        ({"max_request_mbs": "5"}, "FXNORM_MAX_REQUEST_MBS: unknown, expected some of FXNORM_MAX_CHANNELS, "),
        ({"max_rows": "0"}, "FXNORM_MAX_ROWS=0: "),
        ({"max_channels": "3"}, "FXNORM_MAX_CHANNELS=3: "),
        ({"timeout_seconds": "600"}, "FXNORM_TIMEOUT_SECONDS=600: more than the server's own 60"),
        ({"s3_prefixes": "bucket/stems"}, "FXNORM_S3_PREFIXES: bucket/stems: expected a prefix"),
        ({"s3_prefixes": "s3://"}, "FXNORM_S3_PREFIXES: s3://: expected a prefix"),
    ],
)
def test_a_limit_that_cannot_be_is_named(variables: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        limits(**variables)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_manifests_set_limits_that_exist() -> None:
    kserve = yaml.safe_load((SERVING / "kserve.yaml").read_text())
    (container,) = kserve["spec"]["predictor"]["containers"]
    compose = yaml.safe_load((SERVING / "compose.yaml").read_text())
    for variables, timeout in (
        ({item["name"]: item["value"] for item in container["env"]}, kserve["spec"]["predictor"]["timeout"]),
        (compose["services"]["endpoint"]["environment"], 600),
    ):
        found = Limits.from_environment(variables, timeout)
        set_here = {name.removeprefix("FXNORM_").lower() for name in variables if name.startswith("FXNORM_")}
        assert set_here <= set(Limits.model_fields)
        assert found.max_waiting == 4
        assert found.s3_prefixes == ()


@pytest.mark.parametrize("prefix", ["s3://bucket/stems", "s3://bucket/stems/"])
def test_prefixes_hold_segment_by_segment(prefix: str) -> None:
    for inside in ("s3://bucket/stems/a.wav", "s3://bucket/stems/b/c d.wav", "s3://bucket/stems/%2e%2e/a.wav"):
        refuse_outside(inside, (prefix,))
    for outside in (
        "s3://bucket/stems", "s3://bucket/stems2/a.wav", "s3://bucket/a.wav", "s3://bucket2/stems/a.wav",
        "s3://bucket/stems/../a.wav", "s3://bucket/stems/./a.wav", "s3://bucket//stems/a.wav", "S3://bucket/stems/a.wav",
        "s3://bucket/stems/a\x00.wav", "s3:/bucket/stems/a.wav", "https://bucket/stems/a.wav", "",
    ):  # fmt: skip
        with pytest.raises(AudioError):
            refuse_outside(outside, (prefix,))
    with pytest.raises(AudioError, match="not below a prefix"):
        refuse_outside("s3://bucket/stems/a.wav", ())


def test_a_key_is_as_long_as_s3_lets_it_be_and_is_cut_short_in_errors() -> None:
    refuse_outside("s3://bucket/" + "ä" * 512, ("s3://bucket",))
    with pytest.raises(AudioError, match=r"^s3://bucket/a{188}…: expected a key of at most 1024 bytes$"):
        refuse_outside("s3://bucket/" + "a" * 1_025, ("s3://bucket",))


def test_what_all_songs_of_a_request_hold_together_is_bounded() -> None:
    def row(seconds: float) -> dict[str, Any]:
        content = audio.encode(noise(seconds), SAMPLE_RATE, ".wav")
        return {"bass": content, "vocals": content, "drums": np.nan}

    reader = StemReader(limits(max_seconds="3"), Deadline(60))
    assert set(reader.read(row(2.0))) == {"bass", "vocals"}
    with pytest.raises(AudioError, match="vocals: 2 s, expected at most 1 s"):
        reader.read(row(2.0))
    reader = StemReader(limits(max_decoded_mb="1"), Deadline(60))
    with pytest.raises(AudioError, match=r"bass: \d+ bytes of samples when decoded"):
        reader.read(row(2.0))


def test_objects_are_bounded_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with servers.s3(tmp_path / "s3.log", "bucket") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        content = audio.encode(noise(1.0), SAMPLE_RATE, ".wav")
        for name in ("bass", "drums"):
            servers.s3_client(environment).put_object(Bucket="bucket", Key=f"stems/{name}.wav", Body=content)
        rows = [{f"{name}_uri": f"s3://bucket/stems/{name}.wav"} for name in ("bass", "drums")]
        reader = StemReader(limits(s3_prefixes="s3://bucket", max_request_mb="0.5"), Deadline(60))
        assert reader.read(rows[0])["bass"].shape == (2, SAMPLE_RATE)
        with pytest.raises(FxnormError, match=r"^s3://bucket/stems/drums.wav: \d+ bytes, expected at most \d+$"):
            reader.read(rows[1])


def test_stems_are_counted_as_they_are_once_resampled() -> None:
    content = audio.encode(noise(1.0), 8_000, ".flac")  # 353 kB of samples, 1,945 kB at 44.1 kHz
    reader = StemReader(limits(max_decoded_mb="2"), Deadline(60))
    with pytest.raises(AudioError, match=r"^bass: 1944808 bytes of samples when decoded, expected at most 55192$"):
        reader.read({"vocals": content, "bass": content})

"""The request limiter before MLflow's scoring server: limits on bodies, a bounded queue, and a time limit.

``mlflow models serve`` reads bodies of any size, starts a mix for every request at once, and lets a mix whose time is
over go on, and it offers no way to add middleware. But the model is loaded in the server's own process, before its
application is built; so the model calls :func:`install`, and whoever serves it with MLflow's own commands gets the
limiter.
"""

import asyncio
import contextlib
import ipaddress
import json
import logging
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import FastAPI

from fxnorm.serving import metrics
from fxnorm.serving.deadline import CURRENT, Deadline
from fxnorm.serving.limits import Limits
from fxnorm.serving.record import RECORD, RequestRecord
from fxnorm.serving.request_check import RefusedError, check_request
from fxnorm.serving.watch import Watch

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_SCORING_SERVER = "mlflow.pyfunc.scoring_server.app"
_OTHER_SERVERS = ("mlserver", "gunicorn", "uvicorn", "hypercorn", "waitress", "bentoml", "sagemaker_inference")
_JSON = "application/json"
_VERSION_HEADER = b"x-model-version"
_AT_ONCE = 2
_NICENESS = 10
_SECONDS_BETWEEN_PARTS = 10.0
_SECONDS_TO_DRAIN = 10.0
_PART = 1_000_000  # bytes
_METRICS, _RELOAD = "/metrics", "/reload"
_NAMES = {
    401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 503: "TEMPORARILY_UNAVAILABLE", 504: "DEADLINE_EXCEEDED"
}  # fmt: skip
"""MLflow's names of errors, by status; any other is BAD_REQUEST."""

_module_logger = logging.getLogger(__name__)
_logger = logging.getLogger("uvicorn.error")  # the one whose lines the server shows


def is_server() -> bool:
    """Whether this process is MLflow's scoring server."""
    return _SCORING_SERVER in sys.modules


def install(limits: Limits, watch: Watch | None = None) -> bool:
    """Put a :class:`RequestLimiter` before the application that MLflow's scoring server builds next in this process.

    Returns:
        whether this process is such a server; in any other, nothing is done.
    """
    if not is_server():
        return False
    # Read in FastAPI 0.165.0 and Starlette 1.10.0: an application calls it once, at its first message, and serves all
    # requests through the result. If that changes, requests are served without limits; the tests of the endpoint and
    # tests/test_private_interfaces.py fail then.
    build = FastAPI.build_middleware_stack

    def build_limited(application: FastAPI) -> Any:
        return RequestLimiter(build(application), limits, watch)

    FastAPI.build_middleware_stack = build_limited  # type: ignore[assignment, method-assign]
    _logger.info("Requests are held to %s", limits)
    return True


def warn_without() -> None:
    """Log which limits do not hold in this process, in which :func:`install` found no server of MLflow.

    Whether it serves at all can only be guessed, by the modules of servers that are loaded: where one is, as a warning.
    """
    server = next((name for name in _OTHER_SERVERS if name in sys.modules), None)
    level, seen = (logging.INFO, "none") if server is None else (logging.WARNING, server)
    _module_logger.log(
        level,
        "Of MLflow's scoring server nothing is loaded in this process (of others: %s), so what limits whole requests "
        "does not hold: FXNORM_MAX_REQUEST_MB for bodies, FXNORM_MAX_ROWS, FXNORM_MAX_WAITING, FXNORM_TIMEOUT_SECONDS. "
        "What limits stems does.",
        seen,
    )


class RequestLimiter:
    """An ASGI application around another, which gets at most two requests at a time, and only well-formed ones.

    Two, because the model mixes one song at a time: another one is decoded or encoded meanwhile.

    Args:
        application: the other one.
        limits: of requests.
        watch: what is noted of requests, and who may send them.
    """

    def __init__(self, application: Application, limits: Limits, watch: Watch | None = None) -> None:
        self._application = application
        self._limits = limits
        self._watch = watch or Watch()
        self._admitted_requests = 0
        self._held_bytes = 0
        self._check = asyncio.Lock()
        self._turns = _Turns(limits.request_bytes)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request; those that bring nothing, such as health checks, pass at once."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == _METRICS and self._watch.metrics:
            await self._answer_beside(self._metrics, scope, receive, send)
        elif scope["type"] != "http" or scope["method"] != "POST":
            await self._application(scope, receive, send)
        elif scope["path"] == _RELOAD and self._watch.reload is not None:
            await self._answer_beside(self._reload, scope, receive, send)
        else:
            await self._post(scope, receive, send)

    async def _live(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """The server's life, from its start to its end."""
        # MLflow's application parses and answers in these threads
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(initializer=lower_priority))
        try:
            await self._application(scope, receive, send)
        finally:
            self._watch.close()

    async def _post(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Have one request mixed, and note how it ended."""
        record = RequestRecord()
        body, deadline = _Body(receive), Deadline(self._limits.timeout_seconds)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.until_here("encode")
                record.status, record.left = message["status"], body.has_left
                message = self._with_version(message, record)
            await send(message)

        try:
            headers = _headers(scope)
            self._refuse_without_token(headers)
            self._refuse_by_headers(headers)
            self._refuse_if_full()  # before the client sends its body
            with self._watch.activity.request():
                await self._receive(body, deadline)
                with self._admitted():  # only now: a client that sends slowly, or nothing, must not keep others out
                    await self._serve(_as_plain_json(scope), body, deadline, answer, record)
        except RefusedError as refused:
            body.content.clear()
            await _answer(refused, body, answer)
        finally:
            self._held_bytes -= body.taken_bytes
            if not record.status:  # nothing was answered
                record.status, record.left = 500, body.has_left
            self._watch.note(record)

    def _refuse_without_token(self, headers: dict[str, bytes]) -> None:
        tokens = self._watch.tokens
        if tokens is not None and not tokens.allow(headers.get("authorization", b"")):
            raise RefusedError(401, "expected the header 'Authorization: Bearer TOKEN' with a token of this server's")

    @staticmethod
    def _with_version(message: Message, record: RequestRecord) -> Message:
        if not record.songs:
            return message
        return {**message, "headers": [*message.get("headers", ()), (_VERSION_HEADER, record.version.encode())]}

    async def _answer_beside(
        self,
        content: Callable[[MutableMapping[str, Any]], Awaitable[tuple[int, str, bytes]]],
        scope: MutableMapping[str, Any],
        receive: Receive,
        send: Send,
    ) -> None:
        """Answer what is no request for a mix, at once: it neither waits for its turn, nor counts."""
        try:
            self._refuse_without_token(_headers(scope))
            status, media_type, text = await content(scope)
        except RefusedError as refused:
            await _answer(refused, _Body(receive), send)
            return
        headers = [(b"content-type", media_type.encode()), (b"content-length", str(len(text)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text})

    async def _metrics(self, _scope: MutableMapping[str, Any]) -> tuple[int, str, bytes]:
        assert self._watch.metrics is not None
        return 200, metrics.CONTENT_TYPE, self._watch.metrics.text()

    async def _reload(self, scope: MutableMapping[str, Any]) -> tuple[int, str, bytes]:
        assert self._watch.reload is not None
        client = scope.get("client")
        # a page in a browser of this machine reaches it too, but cannot hide where it comes from
        if client is None or not _is_loopback(client[0]) or "origin" in _headers(scope):
            raise RefusedError(403, "expected a request of this machine")
        status, answer = await asyncio.to_thread(self._watch.reload)
        return status, _JSON, json.dumps(answer).encode()

    def _refuse_by_headers(self, headers: dict[str, bytes]) -> None:
        media_type, _, parameters = headers.get("content-type", b"").decode("latin-1").lower().partition(";")
        if media_type.strip() != _JSON or parameters.replace(" ", "").replace('"', "") not in ("", "charset=utf-8"):
            raise RefusedError(415, f"expected the Content-Type {_JSON}, in UTF-8")
        if headers.get("content-encoding", b"identity").lower() != b"identity":
            raise RefusedError(415, "expected a body without Content-Encoding")
        length = headers.get("content-length", b"0")
        if not length.isdigit() or int(length) > self._limits.request_bytes:
            raise self._too_large()

    def _too_large(self) -> RefusedError:
        return RefusedError(413, f"the request is larger than {self._limits.max_request_mb:g} MB")

    def _refuse_if_full(self) -> None:
        if self._admitted_requests > self._limits.max_waiting:
            raise RefusedError(503, f"{self._admitted_requests} requests are being served already; try again later")

    async def _receive(self, body: "_Body", deadline: Deadline) -> None:
        """Let the body arrive, within its time and within what all bodies together may hold."""
        try:
            async with asyncio.timeout(deadline.remaining()):
                async for part in body.arriving(_SECONDS_BETWEEN_PARTS):
                    body.taken_bytes += len(part)
                    self._held_bytes += len(part)
                    if body.taken_bytes > self._limits.request_bytes:
                        raise self._too_large()
                    if self._held_bytes > (self._limits.max_waiting + 1) * self._limits.request_bytes:
                        raise RefusedError(503, "too much is being sent at once; try again later")
                    body.content += part
        except TimeoutError as error:
            raise RefusedError(408, "the request did not arrive in time; expected it without a long pause") from error

    @contextlib.contextmanager
    def _admitted(self) -> Iterator[None]:
        """Count a request as admitted: one is mixed, the others wait."""
        self._refuse_if_full()
        self._admitted_requests += 1
        try:
            yield
        finally:
            self._admitted_requests -= 1

    async def _serve(
        self,
        scope: MutableMapping[str, Any],
        body: "_Body",
        deadline: Deadline,
        send: Send,
        record: RequestRecord,
    ) -> None:
        with self._watch.waiting(), record.phase("wait"):
            await self._check.acquire()  # one at a time: it needs a few times the body's memory
        try:
            with record.phase("decode"):
                await asyncio.to_thread(check_request, body.content, self._limits)
        finally:
            self._check.release()
        size = len(body.content)
        left = asyncio.create_task(body.wait_until_left())
        left.add_done_callback(lambda _: deadline.give_up())
        try:
            with self._watch.waiting(), record.phase("wait"):
                await self._wait_for_turn(size, deadline, left)
            try:
                CURRENT.set(deadline)
                RECORD.set(record)
                record.mark()
                await self._application(scope, body.replay, send)
            finally:
                self._turns.give_back(size)
        finally:
            left.cancel()

    async def _wait_for_turn(self, size: int, deadline: Deadline, left: "asyncio.Task[None]") -> None:
        """Take one of the turns, unless the time ends or the client leaves before one is free."""
        turn = asyncio.create_task(self._turns.take(size))
        try:
            await asyncio.wait({turn, left}, timeout=deadline.remaining(), return_when=asyncio.FIRST_COMPLETED)
            if not turn.done():
                raise RefusedError(
                    504, f"other requests were being served for {deadline.seconds:.0f} s; try again later"
                )
        finally:
            turn.cancel()


class _Turns:
    """Two at a time, first come first served, whose bodies together are not larger than one body may be.

    MLflow's server needs several times a body's memory to read it.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._taken: list[int] = []
        self._line: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int) -> None:
        """Wait for a turn with a body of ``size`` bytes."""
        waiting = (size, asyncio.get_running_loop().create_future())
        self._line.append(waiting)
        self._admit()
        try:
            await waiting[1]
        except asyncio.CancelledError:
            if waiting in self._line:
                self._line.remove(waiting)
                self._admit()
            else:
                self.give_back(size)
            raise

    def give_back(self, size: int) -> None:
        """Let the next one in."""
        self._taken.remove(size)
        self._admit()

    def _admit(self) -> None:
        while self._line:
            size, admitted = self._line[0]
            if len(self._taken) == _AT_ONCE or (self._taken and sum(self._taken) + size > self._most_bytes):
                return
            self._line.popleft()
            self._taken.append(size)
            admitted.set_result(None)


class _Body:
    """A request's body, kept as it came until it is this request's turn, and the client's presence after that."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.content = bytearray()  # not a list of parts: a hostile client's have a byte each
        self.taken_bytes = 0
        self._left = asyncio.Event()
        self._complete = False

    @property
    def has_left(self) -> bool:
        """Whether the client is known to have left."""
        return self._left.is_set()

    async def drain(self) -> None:
        """Read and discard the rest of the body: a client that is still sending does not read the answer."""
        async for _ in self.arriving(_SECONDS_TO_DRAIN):
            pass

    async def arriving(self, longest_pause: float) -> AsyncIterator[bytes]:
        """Part by part.

        Raises:
            TimeoutError: nothing came for ``longest_pause`` seconds.
        """
        while not self._complete:
            async with asyncio.timeout(longest_pause):
                message = await self._receive()
            self._complete = not message.get("more_body", False)  # also where the client left
            if message["type"] == "http.disconnect":
                self._left.set()
            yield message.get("body", b"")

    async def replay(self) -> Message:
        """The body once more for the application, in parts whose memory is freed; then the client's disconnection."""
        if self.content:
            part = bytes(self.content[:_PART])
            del self.content[:_PART]
            return {"type": "http.request", "body": part, "more_body": bool(self.content)}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def wait_until_left(self) -> None:
        """Return when the client has left."""
        while not self._left.is_set():
            if (await self._receive())["type"] == "http.disconnect":
                self._left.set()


def lower_priority() -> None:
    """Lower the priority of this thread, and of those that it starts, under that of the song that is mixed.

    The network's threads spin while they wait for each other. If another thread takes the core of one of them, the
    others keep their cores busy without computing.
    """
    if sys.platform == "linux":  # elsewhere it would be the whole process
        os.nice(_NICENESS)


def _as_plain_json(scope: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """With the one spelling of the Content-Type that MLflow's server knows: it answers others 415, in plain text."""
    others = [(name, value) for name, value in scope["headers"] if name.lower() != b"content-type"]
    return {**scope, "headers": [*others, (b"content-type", _JSON.encode())]}


def _headers(scope: MutableMapping[str, Any]) -> dict[str, bytes]:
    return {name.decode("latin-1").lower(): value for name, value in scope["headers"]}


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:  # a socket in the file system has none
        return False


async def _answer(refused: RefusedError, body: _Body, send: Send) -> None:
    content = json.dumps(
        {"error_code": _NAMES.get(refused.status, "BAD_REQUEST"), "message": refused.sentence}
    ).encode()
    headers = [
        (b"content-type", _JSON.encode()),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),
        *([(b"www-authenticate", b"Bearer")] if refused.status == 401 else []),
    ]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": content, "more_body": True})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_SECONDS_TO_DRAIN):
            await body.drain()
    await send({"type": "http.response.body", "body": b"", "more_body": False})

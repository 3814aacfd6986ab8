"""What stands before MLflow's scoring server: limits on bodies, a bounded waiting line, and time that ends.

``mlflow models serve`` reads bodies of any size, starts a mix for every request at once, and lets a mix whose time is
over go on. It has no place for middleware. But the model is loaded in the server's own process, before its application
is built; so the model calls :func:`install`, and whoever serves it with MLflow's own commands gets the gate.
"""

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from typing import Any

from fastapi import FastAPI

from serving.deadline import CURRENT, Deadline
from serving.limits import Limits
from serving.request_check import RefusedError, check_request

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_SCORING_SERVER = "mlflow.pyfunc.scoring_server.app"
_JSON = "application/json"
_SECONDS_TO_DRAIN = 10.0
_PART = 1_000_000  # bytes
_NAMES = {503: "TEMPORARILY_UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}
"""MLflow's names of errors, by status; any other is BAD_REQUEST."""

_logger = logging.getLogger("uvicorn.error")  # the one whose lines the server shows


def install(limits: Limits) -> bool:
    """Put a :class:`Gate` around the application that MLflow's scoring server is about to build in this process.

    Returns:
        whether this process is such a server; in any other, nothing is done.
    """
    if _SCORING_SERVER not in sys.modules:
        return False
    build = FastAPI.build_middleware_stack

    def build_gated(application: FastAPI) -> Any:
        return Gate(build(application), limits)

    FastAPI.build_middleware_stack = build_gated  # type: ignore[assignment, method-assign]
    _logger.info("Requests are held to %s", limits)
    return True


class Gate:
    """An ASGI application around another, which gets one request at a time, and only ones worth its while."""

    def __init__(self, application: Application, limits: Limits) -> None:
        self._application = application
        self._limits = limits
        self._inside = 0
        self._check = asyncio.Lock()
        self._mix = asyncio.Lock()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request; those that bring nothing, such as health checks, pass at once."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._application(scope, receive, send)
            return
        body = _Body(receive, self._limits.request_bytes)
        try:
            self._refuse_by_headers({name.decode("latin-1").lower(): value for name, value in scope["headers"]})
            with self._place():
                await self._serve(scope, body, send)
        except RefusedError as refused:
            await _answer(refused, body, send)

    def _refuse_by_headers(self, headers: dict[str, bytes]) -> None:
        kind, _, parameters = headers.get("content-type", b"").decode("latin-1").lower().partition(";")
        if kind.strip() != _JSON or parameters.replace(" ", "").replace('"', "") not in ("", "charset=utf-8"):
            raise RefusedError(415, f"expected the Content-Type {_JSON}, in UTF-8")
        if headers.get("content-encoding", b"identity").lower() != b"identity":
            raise RefusedError(415, "expected a body without Content-Encoding")
        length = headers.get("content-length", b"0")
        if not length.isdigit() or int(length) > self._limits.request_bytes:
            raise self._too_large()

    def _too_large(self) -> RefusedError:
        return RefusedError(413, f"the request is larger than {self._limits.max_request_mb:g} MB")

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        """A place inside: one to be mixed, the others to wait."""
        if self._inside > self._limits.max_waiting:
            raise RefusedError(503, f"{self._inside} requests are being served already; try again later")
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    async def _serve(self, scope: MutableMapping[str, Any], body: "_Body", send: Send) -> None:
        deadline = Deadline(self._limits.timeout_seconds)
        try:
            async with asyncio.timeout(deadline.remaining()):
                if not await body.read():
                    raise self._too_large()
        except TimeoutError as error:
            raise RefusedError(408, f"the request did not arrive within {deadline.seconds:.0f} s") from error
        async with self._check:  # one at a time: it needs a few times the body's memory
            await asyncio.to_thread(check_request, body.content, self._limits)
        left = asyncio.create_task(body.wait_until_left())
        left.add_done_callback(lambda _: deadline.give_up())
        try:
            await self._wait_for_turn(deadline, left)
            try:
                CURRENT.set(deadline)
                await self._application(scope, body.replay, send)
            finally:
                self._mix.release()
        finally:
            left.cancel()

    async def _wait_for_turn(self, deadline: Deadline, left: "asyncio.Task[None]") -> None:
        """Take the lock of the mix, unless the time ends or the client leaves before it is free."""
        turn = asyncio.create_task(self._mix.acquire())
        try:
            await asyncio.wait({turn, left}, timeout=deadline.remaining(), return_when=asyncio.FIRST_COMPLETED)
            if not turn.done():
                raise RefusedError(
                    504, f"other requests were being served for {deadline.seconds:.0f} s; try again later"
                )
        finally:
            turn.cancel()


class _Body:
    """A request's body, kept as it came until it is this request's turn, and the client's presence after that."""

    def __init__(self, receive: Receive, most_bytes: int) -> None:
        self._receive = receive
        self._most_bytes = most_bytes
        self.content = bytearray()  # not a list of parts: a hostile client's have a byte each
        self._left = asyncio.Event()
        self._complete = False

    async def read(self) -> bool:
        """Whether the body came and is not too large."""
        async for part in self._arriving():
            self.content += part
            if len(self.content) > self._most_bytes:
                self.content.clear()
                return False
        return True

    async def drain(self) -> None:
        """Let the rest go by: a client that is still sending does not see the answer."""
        async for _ in self._arriving():
            pass

    async def _arriving(self) -> AsyncIterator[bytes]:
        while not self._complete:
            message = await self._receive()
            self._complete = not message.get("more_body", False)  # also where the client left
            if message["type"] == "http.disconnect":
                self._left.set()
            yield message.get("body", b"")

    async def replay(self) -> Message:
        """The body once more, in parts that are let go of, for the application; then its client's leaving."""
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


async def _answer(refused: RefusedError, body: _Body, send: Send) -> None:
    content = json.dumps(
        {"error_code": _NAMES.get(refused.status, "BAD_REQUEST"), "message": refused.sentence}
    ).encode()
    headers = [
        (b"content-type", _JSON.encode()),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": content, "more_body": True})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_SECONDS_TO_DRAIN):
            await body.drain()
    await send({"type": "http.response.body", "body": b"", "more_body": False})

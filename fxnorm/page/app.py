"""The page's requests: what is asked of sessions, in JSON, and the pieces of files and audio that go in and out."""

import asyncio
import functools
import json
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import numpy as np
import soundfile
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from fxnorm.errors import FxnormError, OutputError, first_line, printable, system_reason
from fxnorm.mixing.alternatives import MOST
from fxnorm.mixing.delivery import BITS
from fxnorm.page import labels, making
from fxnorm.page.exports import Wish, export
from fxnorm.page.guard import Application, Guard
from fxnorm.page.limits import BODY_SECONDS, CHUNK_BYTES, JSON_BYTES, MOST_SAMPLES
from fxnorm.page.making import Request as MixRequest
from fxnorm.page.refusal import Refused
from fxnorm.page.session import Session
from fxnorm.page.store import Store, is_token, new_token, owner_of

_CLIENT = Path(__file__).parent / "client"
_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".txt": "text/plain",
    ".svg": "image/svg+xml",
}
_LOOK_SECONDS = 0.25  # how often a stream of events looks for something new
_QUIET_SECONDS = 15.0  # after which it says that it is still there
_SWEEP_SECONDS = 60.0
_STREAMS = 8  # of one user
_KEPT_EXPORTS = 10  # of a mix

_logger = logging.getLogger(__name__)
_Body = TypeVar("_Body", bound=BaseModel)
_Handler = Callable[[Request, str], Awaitable[Response]]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Nothing(_Strict):
    pass


class _NewSession(_Strict):
    name: Annotated[str, Field(max_length=1_024)]


class _NewFile(_Strict):
    name: Annotated[str, Field(max_length=4_096)]
    bytes: Annotated[int, Field(lt=2**53)]
    reference: bool = False


class _Row(_Strict):
    file: Annotated[str, Field(max_length=20)]
    group: str
    source: str = ""
    pair: Annotated[str, Field(max_length=20)] | None = None
    side: str | None = None
    gain_db: float = 0.0
    use: bool = True
    by: Literal["guess", "heard", "word", "hand"] | None = None


class _NewTable(_Strict):
    balance: str = "loudness"
    tracks: Annotated[list[_Row], Field(max_length=1_000)]


def application(store: Store, hosts: frozenset[str]) -> Application:
    """The page as an ASGI application.

    Args:
        store: of all sessions.
        hosts: what the server is called, with port; requests for any other name are refused.
    """
    page = _Page(store)

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(store))
        try:
            yield
        finally:
            sweeping.cancel()

    session, mix = "/api/sessions/{session}", "/api/sessions/{session}/mixes/{mix}"
    routes = [
        Route("/", page.index, methods=["GET"]),
        Route("/built/{name}", page.built, methods=["GET"]),
        *(
            Route(path, page.for_user(handler), methods=[method])
            for method, path, handler in (
                ("GET", "/api/page", page.about),
                ("GET", "/api/sessions", page.sessions),
                ("POST", "/api/sessions", page.add_session),
                ("GET", session, page.session),
                ("PATCH", session, page.rename_session),
                ("DELETE", session, page.remove_session),
                ("GET", f"{session}/events", page.events),
                ("POST", f"{session}/files", page.add_file),
                ("PUT", f"{session}/files/{{file}}/content", page.receive),
                ("DELETE", f"{session}/files/{{file}}", page.remove_file),
                ("POST", f"{session}/listen", page.listen),
                ("GET", f"{session}/waveforms", page.waveforms),
                ("PUT", f"{session}/table", page.change_table),
                ("POST", f"{session}/mixes", page.add_mix),
                ("POST", f"{mix}/cancel", page.cancel_mix),
                ("DELETE", mix, page.remove_mix),
                ("GET", f"{mix}/audio/{{source}}", page.audio),
                ("GET", f"{mix}/figures", page.figures),
                ("POST", f"{mix}/exports", page.add_export),
                ("GET", f"{mix}/exports/{{export}}", page.export),
            )
        ),
    ]
    handlers: Any = {
        HTTPException: _http_error,
        Refused: _refused,
        FxnormError: _user_error,
        OSError: _system_error,
    }
    return Guard(Starlette(routes=routes, lifespan=life, exception_handlers=handlers), hosts)


class _Page:
    """The handlers of requests."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._streams: dict[str, int] = {}
        files = [_CLIENT / "index.html", *sorted((_CLIENT / "built").iterdir())]
        self._files = {file.name: (file.read_bytes(), _TYPES.get(file.suffix, "text/plain")) for file in files}

    def for_user(self, handler: _Handler) -> Callable[[Request], Awaitable[Response]]:
        """A handler that is told who asks."""

        @functools.wraps(handler)
        async def handle(request: Request) -> Response:
            token = request.cookies.get(_cookie(request), "")
            if not is_token(token):
                raise Refused(401, "open the page first; it makes you known to this server")
            answer = await handler(request, owner_of(token))
            answer.headers.setdefault("cache-control", "no-store")
            return answer

        return handle

    # the page itself

    async def index(self, request: Request) -> Response:
        """The page; whoever opens it first becomes a user."""
        content, kind = self._files["index.html"]
        answer = Response(content, media_type=kind, headers={"cache-control": "no-store"})
        known = request.cookies.get(_cookie(request), "")
        answer.set_cookie(
            _cookie(request),
            known if is_token(known) else new_token(),
            max_age=round(3_600 * self._store.limits.keep_hours),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    async def built(self, request: Request) -> Response:
        """Script and style of the page."""
        name = request.path_params["name"]
        if name == "index.html" or name not in self._files:
            raise Refused(404, "no such page")
        content, kind = self._files[name]
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    async def about(self, _: Request, __: str) -> Response:
        """What the page has to know."""
        limits, engine = self._store.limits, self._store.engine
        return JSONResponse({
            "mixer": engine.name,
            "endpoint": engine.endpoint,
            "has_parts": engine.has_parts,
            "keep_hours": limits.keep_hours,
            "limits": {
                "files": limits.files,
                "file_bytes": limits.file_bytes,
                "session_bytes": limits.session_bytes,
                "seconds": limits.seconds,
                "sessions": limits.sessions,
                "chunk_bytes": CHUNK_BYTES,
            },
            "suffixes": list(limits.suffixes),
            "bits": {suffix[1:]: list(bits) for suffix, bits in BITS.items()},
            "sample_rates": list(get_args(making.Rate)),
            "most_alternatives": 1 if engine.mixer is None else min(MOST, 4),
        })  # fmt: skip

    # sessions

    async def sessions(self, _: Request, owner: str) -> Response:
        """Those of a user."""
        found = self._store.of(owner)
        listed = [{"id": entry.id, "name": entry.name, "revision": entry.revision} for entry in found]
        return JSONResponse({"sessions": listed})

    async def add_session(self, request: Request, owner: str) -> Response:
        """A new one."""
        body = await _body(request, _NewSession)
        session = await run_in_threadpool(self._store.add, owner, body.name)
        return JSONResponse(session.as_json(), 201)

    async def session(self, request: Request, owner: str) -> Response:
        """All of one."""
        return JSONResponse(self._session(request, owner).as_json())

    async def rename_session(self, request: Request, owner: str) -> Response:
        """Another name."""
        session, body = self._session(request, owner), await _body(request, _NewSession)
        await run_in_threadpool(session.rename, body.name)
        return JSONResponse(session.as_json())

    async def remove_session(self, request: Request, owner: str) -> Response:
        """One less."""
        await run_in_threadpool(self._store.remove, self._session(request, owner))
        return Response(status_code=204)

    async def events(self, request: Request, owner: str) -> Response:
        """The session's state whenever it changes, as server-sent events."""
        session = self._session(request, owner)
        if self._streams.get(owner, 0) >= _STREAMS:
            raise Refused(429, f"{_STREAMS} streams of events are open; close a page")
        self._streams[owner] = self._streams.get(owner, 0) + 1
        return StreamingResponse(
            self._stream(session, owner), media_type="text/event-stream", headers={"cache-control": "no-store"}
        )

    async def _stream(self, session: Session, owner: str) -> AsyncIterator[str]:
        try:
            seen, quiet = -1, 0.0
            while not session.is_removed and not self._store.is_ending:
                if session.revision != seen:
                    seen, quiet = session.revision, 0.0
                    yield f"event: state\ndata: {json.dumps(session.as_json())}\n\n"
                elif quiet >= _QUIET_SECONDS:
                    quiet = 0.0
                    session.use()
                    yield ": still here\n\n"
                await asyncio.sleep(_LOOK_SECONDS)
                quiet += _LOOK_SECONDS
            if session.is_removed:
                yield "event: gone\ndata: {}\n\n"
        finally:
            self._streams[owner] -= 1
            if not self._streams[owner]:
                del self._streams[owner]

    # files

    async def add_file(self, request: Request, owner: str) -> Response:
        """Announce a file."""
        session, body = self._session(request, owner), await _body(request, _NewFile)
        file, is_new = await run_in_threadpool(session.add_file, body.name, body.bytes, body.reference)
        return JSONResponse({"file": file.id, "received": file.received}, 201 if is_new else 200)

    async def receive(self, request: Request, owner: str) -> Response:
        """A piece of a file."""
        session, file_id = self._session(request, owner), request.path_params["file"]
        _expect(request, "application/octet-stream", CHUNK_BYTES)
        offset = _number(request, "offset", 2**53)
        taken = 0
        with session.receiving(file_id, offset) as receiver:
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    async for content in request.stream():
                        taken += len(content)
                        if taken > CHUNK_BYTES:
                            raise Refused(413, f"expected pieces of at most {CHUNK_BYTES} bytes", file_id)
                        receiver.write(content)
            except TimeoutError as error:
                raise Refused(408, f"the piece did not arrive within {BODY_SECONDS:g} s", file_id) from error
        await run_in_threadpool(session.unpack, file_id)
        return JSONResponse({"received": offset + taken})

    async def remove_file(self, request: Request, owner: str) -> Response:
        """One less."""
        await run_in_threadpool(self._session(request, owner).remove_file, request.path_params["file"])
        return Response(status_code=204)

    async def listen(self, request: Request, owner: str) -> Response:
        """Have the tracks sorted."""
        session = self._session(request, owner)
        await _body(request, _Nothing)
        await run_in_threadpool(session.listen)
        return JSONResponse(session.as_json(), 202)

    async def waveforms(self, request: Request, owner: str) -> Response:
        """Of the tracks."""
        return JSONResponse(self._session(request, owner).waveforms())

    async def change_table(self, request: Request, owner: str) -> Response:
        """Another table."""
        session, body = self._session(request, owner), await _body(request, _NewTable)
        await run_in_threadpool(session.change_table, body.model_dump())
        return JSONResponse(session.as_json())

    # mixes

    async def add_mix(self, request: Request, owner: str) -> Response:
        """Ask for a mix."""
        session, body = self._session(request, owner), await _body(request, MixRequest)
        await run_in_threadpool(session.mix, body)
        return JSONResponse(session.as_json(), 202)

    async def cancel_mix(self, request: Request, owner: str) -> Response:
        """Ask for it no more."""
        session = self._session(request, owner)
        await _body(request, _Nothing)
        await run_in_threadpool(session.cancel, request.path_params["mix"])
        return JSONResponse(session.as_json(), 202)

    async def remove_mix(self, request: Request, owner: str) -> Response:
        """One less."""
        await run_in_threadpool(self._session(request, owner).remove_mix, request.path_params["mix"])
        return Response(status_code=204)

    async def audio(self, request: Request, owner: str) -> Response:
        """A piece of what is listened to."""
        _, made, folder = self._session(request, owner).made(request.path_params["mix"])
        path = making.file_of(request.path_params["source"], made, folder)
        if path is None:
            raise Refused(404, "nothing of that name to listen to")
        start, count = _number(request, "start", 2**40), _number(request, "count", MOST_SAMPLES)
        content = await run_in_threadpool(_piece, path, start, count)
        headers = {"cache-control": "private, max-age=86400, immutable"}
        return Response(content, media_type="application/octet-stream", headers=headers)

    async def figures(self, request: Request, owner: str) -> Response:
        """What is drawn."""
        _, _, folder = self._session(request, owner).made(request.path_params["mix"])
        return FileResponse(folder / making.FIGURES_FILE, media_type="application/json")

    async def add_export(self, request: Request, owner: str) -> Response:
        """Make something to take away."""
        session, wish = self._session(request, owner), await _body(request, Wish)
        mix, made, folder = session.made(request.path_params["mix"])
        place = (
            folder
            / "exports"
            / f"{secrets.token_hex(8)}{wish.suffix.rpartition('.')[1]}{wish.suffix.rpartition('.')[2]}"
        )
        sentence = await run_in_threadpool(_exported, wish, mix, made, folder, place)
        name = labels.download_name(session.name, wish.suffix)
        place.with_suffix(".name").write_text(name, encoding="utf-8")
        answer = {"id": place.name, "name": name, "bytes": place.stat().st_size, "sentence": sentence}
        return JSONResponse(answer, 201)

    async def export(self, request: Request, owner: str) -> Response:
        """Take it away."""
        _, _, folder = self._session(request, owner).made(request.path_params["mix"])
        places = _exports(folder)
        if request.path_params["export"] not in places:
            raise Refused(404, "this file is gone; ask for it again")
        place = places[request.path_params["export"]]
        name = place.with_suffix(".name").read_text(encoding="utf-8")
        return FileResponse(place, filename=name, media_type="application/octet-stream")

    def _session(self, request: Request, owner: str) -> Session:
        return self._store.get(owner, request.path_params["session"])


def _cookie(request: Request) -> str:
    """Of its own for each port: a browser gives those of all ports of a machine to each."""
    return f"fxnorm_page_{request.url.port or 0}"


async def _body(request: Request, kind: type[_Body]) -> _Body:
    """A request's JSON, of a kind.

    Raises:
        Refused: it is another, too large or too slow.
    """
    _expect(request, "application/json", JSON_BYTES)
    content = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                content += piece
                if len(content) > JSON_BYTES:
                    raise Refused(413, f"expected a body of at most {JSON_BYTES} bytes")
    except TimeoutError as error:
        raise Refused(408, f"the body did not arrive within {BODY_SECONDS:g} s") from error
    try:
        return kind.model_validate_json(bytes(content))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Refused(422, printable(f"{where}: {first['msg']}" if where else str(first["msg"]), 300)) from error


def _expect(request: Request, kind: str, most: int) -> None:
    """Refuse a body by the headers, before it is read.

    Raises:
        Refused: it is of another kind, or announces more bytes.
    """
    length = request.headers.get("content-length", "0")
    if length.isascii() and length.isdigit() and int(length[:20]) > most:
        raise Refused(413, f"expected a body of at most {most} bytes")
    found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found != kind:
        raise Refused(415, f"expected the content type {kind}")


def _number(request: Request, name: str, most: int) -> int:
    """A number of the address's query."""
    found = request.query_params.getlist(name)
    if len(found) != 1 or not (found[0].isascii() and found[0].isdigit() and len(found[0]) < 20):
        raise Refused(422, f"{name}: expected a number")
    number = int(found[0])
    if number > most:
        raise Refused(422, f"{name}: expected at most {most}")
    return number


def _piece(path: Path, start: int, count: int) -> bytes:
    """Samples as float32, the left ones and then the right ones."""
    with soundfile.SoundFile(path) as file:
        file.seek(min(start, file.frames))
        return np.ascontiguousarray(file.read(count, "float32", always_2d=True).T, dtype="<f4").tobytes()


def _exported(wish: Wish, mix: Any, made: making.Made, folder: Path, place: Path) -> str:
    place.parent.mkdir(exist_ok=True)
    older = sorted(_exports(folder).values(), key=lambda path: path.stat().st_mtime)
    for path in older[: max(0, len(older) - _KEPT_EXPORTS + 1)]:
        path.unlink(missing_ok=True)
        path.with_suffix(".name").unlink(missing_ok=True)
    return export(wish, made, mix.table, folder, place)


def _exports(folder: Path) -> dict[str, Path]:
    """Files to take away, by their ids; those that are whole have a name."""
    found = (folder / "exports").glob("*") if (folder / "exports").is_dir() else ()
    return {path.name: path for path in found if path.suffix != ".name" and path.with_suffix(".name").is_file()}


async def _sweep(store: Store) -> None:
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        removed = await run_in_threadpool(store.remove_expired)
        if removed:
            _logger.info("Removed %d sessions that nobody used any more", removed)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return JSONResponse(error.as_json(), error.status, {"cache-control": "no-store"})


async def _user_error(_: Request, error: Exception) -> Response:
    if isinstance(error, OutputError):  # whose text names a folder of the server's
        _logger.error("%s", error)
        return JSONResponse({"error": "the server cannot store this", "file": None}, 507)
    return JSONResponse({"error": first_line(error), "file": None}, 422)


async def _system_error(_: Request, error: Exception) -> Response:
    """The disk is full, mostly: what was received so far stays."""
    assert isinstance(error, OSError)
    _logger.error("The system refused: %s", error)
    return JSONResponse({"error": f"the server cannot store this ({system_reason(error)})", "file": None}, 507)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = {404: "no such page", 405: "this cannot be asked for here"}.get(error.status_code, error.detail)
    return JSONResponse({"error": text, "file": None}, error.status_code, error.headers)

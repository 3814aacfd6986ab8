"""What stands before the page: nobody but its own pages may talk to it through somebody's browser.

A page of the world could have a browser send requests to a server on the same machine. So the name that a request is
for (``Host``) has to be one of this server's, which refuses other names that were made to lead here (DNS rebinding),
and a request that comes from a page (``Origin``, ``Sec-Fetch-Site``) has to come from this one (OWASP, "Cross-Site
Request Forgery Prevention").
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

_SAFE = ("GET", "HEAD")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "media-src 'self' blob:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_MOST_HEADERS = 100


class Guard:
    """An ASGI application before another.

    Args:
        application: the other one.
        hosts: what this server is called, with port; in lower case.
    """

    def __init__(self, application: Application, hosts: frozenset[str]) -> None:
        self._application = application
        self._hosts = hosts
        self._origins = frozenset(f"{scheme}://{host}" for scheme in ("http", "https") for host in hosts)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        if scope["type"] != "http":  # no WebSockets here
            await send({"type": "websocket.close", "code": 1008})
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            await self._application(scope, receive, answer)
            return
        status, text = refusal
        body = json.dumps({"error": text, "file": None}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await answer(
            {"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]}
        )
        await answer({"type": "http.response.body", "body": body})

    def _refusal(self, scope: Message) -> tuple[int, str] | None:
        headers: list[tuple[bytes, bytes]] = list(scope["headers"])
        if len(headers) > _MOST_HEADERS:
            return 431, f"{len(headers)} headers, expected at most {_MOST_HEADERS}"
        named = {
            name: [value.decode("latin-1") for key, value in headers if key == name]
            for name in (b"host", b"origin", b"sec-fetch-site", b"content-encoding")
        }
        if len(named[b"host"]) != 1 or named[b"host"][0].lower() not in self._hosts:
            return 421, "this server is not called so; 'fxnorm page --allow-host NAME' lets it be called NAME"
        if any(origin.lower() not in self._origins for origin in named[b"origin"]):
            return 403, "another page's requests are not carried out"
        if scope["method"] not in _SAFE and any(site != "same-origin" for site in named[b"sec-fetch-site"]):
            return 403, "another page's requests are not carried out"
        if named[b"content-encoding"]:
            return 415, "expected a body without content-encoding"
        return None

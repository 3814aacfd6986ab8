"""The page's server: a folder of sessions, and uvicorn before it."""

import contextlib
import ipaddress
import logging
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import uvicorn

from fxnorm.errors import FxnormError, SettingsError
from fxnorm.page.app import application
from fxnorm.page.limits import Limits
from fxnorm.page.making import Engine
from fxnorm.page.store import Store

_LOCAL = ("127.0.0.1", "localhost", "[::1]")
_MOST_AT_ONCE = 200  # connections
_LAST_SECONDS = 3
_HTTP = 80
_EVERYWHERE = ("0.0.0.0", "::")  # addresses to listen at, but none to open


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches what listens at this address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def hosts_of(host: str, port: int, allowed: Iterable[str]) -> frozenset[str]:
    """What a server is called in requests, with port and, at the usual ones and behind another server, without.

    Args:
        host: the address that it listens at.
        port: likewise.
        allowed: further names, with or without port.

    Raises:
        SettingsError: a name that is none.
    """
    names = [*_LOCAL]
    if not is_loopback(host) and host not in _EVERYWHERE:
        names.append(f"[{host}]" if ":" in host else host)
    known = {f"{name}:{port}" for name in names} | (set(names) if port == _HTTP else set())
    for name in allowed:
        if not name or any(letter in name for letter in "/@ ?#*"):
            raise SettingsError(f"--allow-host {name}: expected a name such as mixes.example.org, or NAME:PORT")
        known |= {name.lower()} if _has_port(name) else {name.lower(), f"{name.lower()}:{port}"}
    return frozenset(known)


def serve(
    engine: Engine,
    host: str,
    port: int,
    allowed: Sequence[str],
    keep_hours: float,
    folder: Path | None,
    ready: Callable[[str], None],
) -> None:
    """Serve the page until a signal.

    Args:
        engine: what listens and mixes.
        host: the address to listen at.
        port: likewise; 0 for any that is free.
        allowed: further names that the server is called by.
        keep_hours: how long a session stays that nobody uses.
        folder: where sessions are kept; None for a folder that is removed at the end.
        ready: is called with the page's address once it can be opened.

    Raises:
        SettingsError: names that are none.
        FxnormError: somebody else listens there, or the system does not allow it.
    """
    limits = Limits(keep_hours=keep_hours) if is_loopback(host) else Limits.of_strangers(keep_hours)
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(_listening(host, port))
        port = listening.getsockname()[1]
        hosts = hosts_of(host, port, allowed)
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fxnorm-page-")))
        store = Store(folder, engine, limits)
        stack.callback(store.close)
        config = uvicorn.Config(
            application(store, hosts),
            log_level=logging.WARNING,
            access_log=False,
            limit_concurrency=_MOST_AT_ONCE,
            timeout_graceful_shutdown=_LAST_SECONDS,
            server_header=False,
        )
        everywhere = host in _EVERYWHERE
        shown = next(iter(allowed), host) if everywhere else f"[{host}]" if ":" in host else host
        address = f"http://{shown}/" if _has_port(shown) else f"http://{shown}:{port}/"
        server = _Announced(config, lambda: ready(address), store.end)
        server.run(sockets=[listening])


class _Announced(uvicorn.Server):
    """Tells when it has begun, and when it is about to end."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], ending: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready
        self._ending = ending

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's."""
        self._ending()
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's."""
        await super().startup(sockets)
        self._ready()


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = socket.create_server((host, port), family=family, backlog=_MOST_AT_ONCE)
    except OSError as error:
        raise FxnormError(f"{host}:{port}: cannot listen there ({error.strerror or error})") from error
    with made:
        yield made


def _has_port(name: str) -> bool:
    return name.rpartition("]")[2].rpartition(":")[2].isdigit() and ":" in name.rpartition("]")[2]

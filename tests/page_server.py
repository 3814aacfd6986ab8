"""The page's server in a thread of the tests, and a client that does what the page in a browser does."""

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import requests
import uvicorn

from fxnorm.page.app import application
from fxnorm.page.limits import Limits
from fxnorm.page.making import Engine
from fxnorm.page.server import hosts_of
from fxnorm.page.store import Store
from tests.waiting import PATIENCE, until


@contextlib.contextmanager
def served(engine: Engine, folder: Path, limits: Limits | None = None) -> Iterator[str]:
    """The address of a running server, whose sessions are kept in a folder."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        store = Store(folder, engine, limits or Limits())
        config = uvicorn.Config(
            application(store, hosts_of("127.0.0.1", port, ["mixes.example.org"])),
            log_level="warning",
            timeout_graceful_shutdown=3,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            until(lambda: server.started)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join()
            store.close()


class User:
    """Somebody with a browser."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.http = requests.Session()
        assert self.http.get(f"{address}/").status_code == 200

    def ask(self, method: str, path: str, status: int = 200, **options: Any) -> Any:
        """The JSON of an answer, which has this status."""
        answer = self.http.request(method, f"{self.address}/api/{path}", timeout=PATIENCE, **options)
        assert answer.status_code == status, (answer.status_code, answer.text[:500])
        return answer.json() if answer.content else None

    def session(self, name: str = "A Song") -> str:
        """The id of a new one."""
        return str(self.ask("POST", "sessions", 201, json={"name": name})["id"])

    def state(self, session: str) -> dict[str, Any]:
        """All of a session."""
        return dict(self.ask("GET", f"sessions/{session}"))

    def upload(self, session: str, name: str, content: bytes, piece: int = 2**20, **more: Any) -> str:
        """The id of a file that was sent in pieces."""
        announced = self.ask(
            "POST", f"sessions/{session}/files", 201, json={"name": name, "bytes": len(content), **more}
        )
        file = str(announced["file"])
        for start in range(0, len(content), piece):
            received = self.send(session, file, start, content[start : start + piece])
            assert received["received"] == min(start + piece, len(content))
        return file

    def send(self, session: str, file: str, offset: int, content: Any, status: int = 200) -> Any:
        """The answer to one piece."""
        path = f"sessions/{session}/files/{file}/content?offset={offset}"
        return self.ask("PUT", path, status, data=content, headers={"Content-Type": "application/octet-stream"})

    def sorted_session(self, files: Mapping[str, bytes], name: str = "A Song") -> tuple[str, dict[str, str]]:
        """A session whose tracks were sorted, and the ids of its files by name."""
        session = self.session(name)
        ids = {name: self.upload(session, name, content) for name, content in files.items()}
        self.listen(session)
        return session, ids

    def listen(self, session: str) -> dict[str, Any]:
        """Have the tracks sorted; the state then."""
        self.ask("POST", f"sessions/{session}/listen", 202, json={})
        until(lambda: self.state(session)["listening"] is None)
        return self.state(session)

    def table(self, session: str) -> dict[str, Any]:
        """The table as it is sent back."""
        table = self.state(session)["table"]
        rows = [{key: value for key, value in row.items() if key not in ("by", "why")} for row in table["tracks"]]
        return {"balance": table["balance"], "tracks": rows}

    def mix(self, session: str, **options: Any) -> dict[str, Any]:
        """A mix that was made, or failed."""
        self.ask("POST", f"sessions/{session}/mixes", 202, json=options)
        return until(lambda: self._ended(session)) or {}

    def _ended(self, session: str) -> dict[str, Any] | None:
        mix: dict[str, Any] = self.state(session)["mixes"][-1]
        return None if mix["state"] in ("queued", "running") else mix

    def piece(self, session: str, mix: str, source: str, start: int, count: int) -> np.ndarray:
        """What is listened to, (2, samples)."""
        path = f"{self.address}/api/sessions/{session}/mixes/{mix}/audio/{source}?start={start}&count={count}"
        answer = self.http.get(path, timeout=PATIENCE)
        assert answer.status_code == 200
        return np.frombuffer(answer.content, "<f4").reshape(2, -1)

    def taken(self, session: str, mix: str, **wish: Any) -> tuple[dict[str, Any], bytes]:
        """What is told of a file to take away, and the file."""
        made = self.ask("POST", f"sessions/{session}/mixes/{mix}/exports", 201, json=wish)
        path = f"{self.address}/api/sessions/{session}/mixes/{mix}/exports/{made['id']}"
        answer = self.http.get(path, timeout=PATIENCE)
        assert answer.status_code == 200
        assert answer.headers["Content-Disposition"].startswith("attachment; ")
        return made, answer.content

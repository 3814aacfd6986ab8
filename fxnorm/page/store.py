"""All sessions of a server, each known to its user alone, removed when nobody has used them for a while."""

import hashlib
import logging
import secrets
import threading
from datetime import UTC, datetime
from pathlib import Path

from fxnorm.errors import OutputError
from fxnorm.page.jobs import Queue
from fxnorm.page.limits import Limits
from fxnorm.page.making import Engine
from fxnorm.page.refusal import Refused
from fxnorm.page.session import STATE_FILE, Session, session_id

_TOKEN_LETTERS = 43  # of 32 random bytes in base64

_logger = logging.getLogger(__name__)


def new_token() -> str:
    """What a browser shows to be a user: 256 random bits."""
    return secrets.token_urlsafe(32)


def is_token(text: str) -> bool:
    """Whether a text has the form of a token."""
    return len(text) == _TOKEN_LETTERS and text.isascii() and text.replace("-", "").replace("_", "").isalnum()


def owner_of(token: str) -> str:
    """What is kept of a user: from it the token cannot be told."""
    return hashlib.sha256(token.encode()).hexdigest()


class Store:
    """Sessions in a folder.

    Args:
        folder: of all sessions; those that an earlier server left are there again.
        engine: what listens and mixes.
        limits: of users.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: Path, engine: Engine, limits: Limits) -> None:
        self.limits = limits
        self.engine = engine
        self.is_ending = False
        self._folder = folder
        self._lock = threading.Lock()
        self._queues = Queue("listen", limits.all_sessions), Queue("mix", limits.waiting)
        self._sessions: dict[str, Session] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            kept = sorted(path for path in folder.iterdir() if (path / STATE_FILE).is_file())
        except OSError as error:
            raise OutputError(f"{folder}: cannot be used ({error.strerror})") from error
        for path in kept:
            try:
                session = Session.open(path, engine, limits, self._queues)
            except (OSError, ValueError) as error:
                _logger.warning("%s: passed over, its state cannot be read (%s)", path, type(error).__name__)
                continue
            self._sessions[session.id] = session

    def of(self, owner: str) -> list[Session]:
        """The sessions of a user, oldest first."""
        with self._lock:
            return [session for session in self._sessions.values() if session.owner == owner]

    def get(self, owner: str, name: str) -> Session:
        """A session of a user.

        Raises:
            Refused: the user has none of this id.
        """
        with self._lock:
            session = self._sessions.get(name)
        if session is None or session.owner != owner:
            raise Refused(404, "this session is gone")
        session.use()
        return session

    def add(self, owner: str, name: str) -> Session:
        """A new session.

        Raises:
            Refused: there are too many.
        """
        with self._lock:
            own = sum(session.owner == owner for session in self._sessions.values())
            if own >= self.limits.sessions:
                raise Refused(409, f"{own} sessions are here, the most that there may be; remove one")
            if len(self._sessions) >= self.limits.all_sessions:
                raise Refused(503, "this server has as many sessions as it takes; try again later")
            session = Session.new(self._folder / session_id(), owner, name, self.engine, self.limits, self._queues)
            self._sessions[session.id] = session
            return session

    def remove(self, session: Session) -> None:
        """Remove a session."""
        with self._lock:
            self._sessions.pop(session.id, None)
        session.remove()

    def remove_expired(self) -> int:
        """Remove what nobody has used for longer than the limit; how many it were."""
        now = datetime.now(UTC)
        with self._lock:
            gone = [session for session in self._sessions.values() if session.expires < now and not session.is_busy]
        for session in gone:
            self.remove(session)
        return len(gone)

    def end(self) -> None:
        """The server is about to end: whoever watches a session is told no more, so that the connections can end."""
        self.is_ending = True

    def close(self) -> None:
        """The server ends, and what is being made."""
        for queue in self._queues:
            queue.close()

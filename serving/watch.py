"""What is noted of a server's requests, by the metrics, the request log and whoever waits for a moment of rest."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fxnorm.serving.metrics import Metrics
from fxnorm.serving.record import RequestRecord
from fxnorm.serving.request_log import RequestLog
from fxnorm.serving.tokens import Tokens


class Activity:
    """Whether requests are in the server, from the moment that their headers arrive."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests = 0
        self._last = time.monotonic()

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """A request is in the server within the block."""
        with self._lock:
            self._requests += 1
        try:
            yield
        finally:
            with self._lock:
                self._requests -= 1
                self._last = time.monotonic()

    def is_idle(self, seconds: float = 0.0) -> bool:
        """Whether there has been no request for so long."""
        return self._requests == 0 and time.monotonic() - self._last >= seconds


@dataclass
class Watch:
    """What the server does beside mixing; None is off.

    Attributes:
        metrics: counts requests.
        log: gets a line a request.
        tokens: who may send them.
        reload: takes another version of the model; gives a status and an answer.
        activity: of the server.
        at_end: called when the server ends.
    """

    metrics: Metrics | None = None
    log: RequestLog | None = None
    tokens: Tokens | None = None
    reload: Callable[[], tuple[int, dict[str, Any]]] | None = None
    activity: Activity = field(default_factory=Activity)
    at_end: list[Callable[[], None]] = field(default_factory=list)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """A request waits for its turn within the block."""
        if self.metrics is None:
            yield
            return
        self.metrics.waiting.inc()
        try:
            yield
        finally:
            self.metrics.waiting.dec()

    @contextlib.contextmanager
    def mixing(self) -> Iterator[None]:
        """A song is in progress within the block."""
        if self.metrics is None:
            yield
            return
        with self.metrics.mixing():
            yield

    def note(self, record: RequestRecord) -> None:
        """Count and log a request that was answered."""
        if self.metrics is None and self.log is None:
            return
        finished = record.finished()
        if self.metrics is not None:
            self.metrics.count(finished)
        if self.log is not None and finished.reason != "token":  # who has none shall not fill the log
            self.log.write(finished)

    def close(self) -> None:
        """The server ends."""
        for end in self.at_end:
            end()
        if self.log is not None:
            self.log.close()

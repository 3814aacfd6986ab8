"""The request log: one line of JSON a request, in a file that is renamed when it is large.

Lines are written in a thread of their own, so that a slow disk delays no answer, and a disk that takes none fails no
request.
"""

import contextlib
import fcntl
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from logging.handlers import RotatingFileHandler
from pathlib import Path

from fxnorm.errors import SettingsError, system_reason
from fxnorm.monitoring.records import LoggedRequest

_OLDER_FILES = 5
_MOST_WAITING = 1_000
"""Lines that a slow disk may be behind."""

_logger = logging.getLogger("uvicorn.error")  # the one whose lines the server shows


class RequestLog:
    """A file that several processes write to.

    Args:
        path: of the file.
        most_bytes: of a file.
        failed: called for each line that could not be written.

    Raises:
        SettingsError: it cannot be written.
    """

    def __init__(self, path: Path, most_bytes: int, failed: Callable[[], None]) -> None:
        self._path = Path(os.path.abspath(path))
        self._failed = failed
        self._is_failing = False
        self._waiting = threading.Semaphore(_MOST_WAITING)
        try:
            self._path.open("a", encoding="utf-8").close()
            self._file = _SharedFile(self._path, most_bytes)
        except OSError as error:
            raise SettingsError(f"FXNORM_REQUEST_LOG={path}: cannot be written ({system_reason(error)})") from error
        self._writer = ThreadPoolExecutor(1, "request-log")

    def write(self, request: LoggedRequest) -> None:
        """Have a request written, soon."""
        if self._waiting.acquire(blocking=False):
            self._writer.submit(self._write, request)
        else:
            self._fails(f"{_MOST_WAITING} lines wait for it")

    def close(self) -> None:
        """Write what waits."""
        self._writer.shutdown()

    def _write(self, request: LoggedRequest) -> None:
        self._waiting.release()
        line = request.model_dump_json()
        try:
            self._file.emit(logging.LogRecord("", logging.INFO, "", 0, line, None, None))
        except OSError as error:
            self._fails(system_reason(error))
        else:
            if self._is_failing:
                _logger.info("%s: the request log is written again", self._path)
            self._is_failing = False

    def _fails(self, reason: str) -> None:
        self._failed()
        if not self._is_failing:
            _logger.error("%s: the request log cannot be written (%s); requests are served on", self._path, reason)
        self._is_failing = True


class _SharedFile(RotatingFileHandler):
    """A rotated file of several processes: one at a time writes or renames, and opens whatever has the name then."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        super().__init__(path, maxBytes=most_bytes, backupCount=_OLDER_FILES, encoding="utf-8", delay=True)
        self._size_before = 0
        self._lock_file = os.open(path.with_name(f".{path.name}.lock"), os.O_CREAT | os.O_RDWR, 0o600)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line.

        Raises:
            OSError: the system refuses; nothing of the line stays.
        """
        fcntl.flock(self._lock_file, fcntl.LOCK_EX)
        before = None
        try:
            super().emit(record)
        except OSError:
            before = self._size_before
            raise
        finally:
            if self.stream is not None:
                with contextlib.suppress(OSError):  # what could not be written, once more
                    self.stream.close()
                self.stream = None
            if before is not None:
                with contextlib.suppress(OSError):
                    os.truncate(self.baseFilename, before)
            fcntl.flock(self._lock_file, fcntl.LOCK_UN)

    def shouldRollover(self, record: logging.LogRecord) -> int:  # noqa: N802  logging's name
        """Whether the line is too much for the file; asked right before it is written."""
        decision = super().shouldRollover(record)
        self._size_before = 0 if decision else os.stat(self.baseFilename).st_size
        return int(decision)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Let the error out, which logging would print with its trace."""
        raise  # noqa: PLE0704  within the except of logging's own emit()

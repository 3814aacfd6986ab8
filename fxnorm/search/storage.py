"""Where a study is kept: an Optuna storage in a SQLite file, for processes of one machine, or in PostgreSQL.

What decides over the next trial is done by one process at a time. So two of them never take the same trial, nor begin
one more than was asked for; and a SQLite file never has two writers that wait for each other.
"""

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, ProgrammingError, SQLAlchemyError
from tqdm import tqdm

from fxnorm.errors import FxnormError, SettingsError, first_line, needs
from fxnorm.io import locks

Value = TypeVar("Value")

VARIABLE = "FXNORM_SEARCH_STORAGE"
"""Environment variable with the address: a password in a command can be seen by all users of a machine."""

_DRIVER = "postgresql+psycopg2"
_BUSY_SECONDS = 600.0
"""How long SQLite waits for another process's write, each of which takes milliseconds."""
_ADVISORY_LOCK = int.from_bytes(b"fxnorm", "big")
_LONGEST_DECISION_SECONDS = 600
_PATIENCE_SECONDS = 600.0
"""How long a database that does not answer is tried again: what is computed in the meantime does not depend on it."""
_PAUSE_SECONDS = 5.0


class Storage:
    """An open storage.

    Attributes:
        shown: its address without credentials.
        database: its file, if it is one.
        rdb: Optuna's own.
    """

    def __init__(self, url: URL) -> None:
        self.database = Path(url.database or "") if url.get_backend_name() == "sqlite" else None
        self.shown = str(self.database) if self.database is not None else url.set(query={}).render_as_string()
        self._password = url.password
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        options: dict[str, Any]
        if self.database is not None:
            # SQLite's own BEGIN would be refused at once where two have read before they write
            options = {"connect_args": {"timeout": _BUSY_SECONDS, "isolation_level": "IMMEDIATE"}}
        else:
            options = {"pool_pre_ping": True}  # connections are idle for hours
        with self._as_user_error(), contextlib.ExitStack() as stack:
            if self.database is not None:
                self.database.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locks.held(self.database, "-tables", wait=True))  # which one process makes
            try:
                self.rdb = _connected(url, options)
            except RuntimeError as error:  # the tables are another Optuna's
                raise FxnormError(f"{self.shown}: {first_line(error)}") from error
            except ImportError as error:
                raise FxnormError(needs("a study in PostgreSQL", "psycopg2", "mlops")) from error

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """The block for one process alone, on all machines; the lock ends with the process, however that ends."""
        if self.database is not None:
            with locks.held(self.database, "-deciding", wait=True):
                yield
            return
        with contextlib.ExitStack() as stack:
            with self._as_user_error():
                connection = stack.enter_context(self.rdb.engine.connect())
                # PostgreSQL learns of a machine that lost its power after hours, and of an idle transaction in time
                connection.execute(text("SELECT set_config('idle_in_transaction_session_timeout', :time, true)"),
                                   {"time": f"{_LONGEST_DECISION_SECONDS}s"})  # fmt: skip
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
            yield
            with contextlib.suppress(SQLAlchemyError):  # the connection, and the lock with it, may be lost
                connection.rollback()

    def close(self) -> None:
        """Let go of the connections that are kept open."""
        self.rdb.remove_session()
        self.rdb.engine.dispose()

    def patiently(self, request: Callable[[], Value]) -> Value:
        """The answer to a request, which is made again while the database does not answer.

        Raises:
            FxnormError: it has not answered for minutes.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                with self._as_user_error():
                    return request()
            except _StorageError as error:
                if time.monotonic() > deadline:
                    raise
                tqdm.write(f"search: {error}; trying again")
                time.sleep(_PAUSE_SECONDS)

    @contextlib.contextmanager
    def _as_user_error(self) -> Iterator[None]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                yield
        except (SQLAlchemyError, StorageInternalError) as error:
            cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
            reason = first_line(cause)
            if self._password:
                reason = reason.replace(str(self._password), "***")
            raise _StorageError(f"{self.shown}: no study can be kept there ({reason})") from error


def _connected(url: URL, options: dict[str, Any]) -> RDBStorage:
    text_of_url = url.render_as_string(hide_password=False)
    try:
        return RDBStorage(text_of_url, options)
    except (IntegrityError, ProgrammingError):  # another machine makes the tables at this moment
        time.sleep(1.0)
        return RDBStorage(text_of_url, options)


class _StorageError(FxnormError):
    """The database does not answer, or refuses."""


def address(given: str) -> URL:
    """The address of a storage: ``postgresql://…``, ``sqlite:///FILE``, or the name of a SQLite file.

    Raises:
        SettingsError: it is another kind of address.
    """
    if "://" not in given:
        return URL.create("sqlite", database=given)
    try:
        url = make_url(given)
    except ArgumentError as error:
        raise SettingsError("--storage: expected postgresql://USER:PASSWORD@HOST/NAME, or a file") from error
    if url.get_backend_name() == "postgresql":
        return url.set(drivername=_DRIVER)
    if url.drivername == "sqlite" and url.database and url.database != ":memory:":
        return url
    raise SettingsError(f"--storage: expected postgresql://USER:PASSWORD@HOST/NAME, or a file, found {url.drivername}")

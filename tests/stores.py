"""What MLflow does anew for each store or model, done once in a process.

The tables of a new SQLite file, whose migrations take a second; and the versions of the packages that a model asks for,
which MLflow reads of a hundred packages whenever it saves or loads one.
"""

import atexit
import contextlib
import functools
import shutil
import sqlite3
import tempfile
from pathlib import Path

import sqlalchemy
from mlflow.store.db import utils
from mlflow.utils import requirements_utils

# Read in MLflow 3.17.2; tests/test_private_interfaces.py names what is used of it.
_migrate = utils._initialize_tables
_installed_version = functools.cache(requirements_utils._get_installed_version)


def new_database(file: Path) -> None:
    """Leave MLflow's tables in ``file``, with nothing in them, as MLflow itself does in a file that is not there."""
    with contextlib.closing(sqlite3.connect(_tables())) as ours, contextlib.closing(sqlite3.connect(file)) as new:
        ours.backup(new)


def make_them_quickly() -> None:
    """From now on, MLflow in this process copies the tables into new SQLite files instead of migrating each, and looks
    up a package's version once.
    """
    utils._initialize_tables = _initialize
    requirements_utils._get_installed_version = _installed_version


def _initialize(engine: sqlalchemy.Engine) -> None:
    file = engine.url.database
    if engine.dialect.name != "sqlite" or not file or not utils._is_empty_database(engine):
        _migrate(engine)
    else:
        new_database(Path(file))


@functools.cache
def _tables() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="mlflow-tables-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    engine = sqlalchemy.create_engine(f"sqlite:///{folder}/mlflow.db")
    _migrate(engine)
    engine.dispose()
    return folder / "mlflow.db"

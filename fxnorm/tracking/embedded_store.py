"""The embedded MLflow store, a SQLite database with its artifacts in a folder beside it, in a project that moves.

MLflow writes where artifacts lie into the database as absolute addresses, so a project that was renamed, moved or
copied would read and write in the folder where it lay before. Here they are made relative, as the address of the
database ``sqlite:///mlflow.db`` is, so that MLflow's own commands find them wherever the project lies. A database with
an absolute address may be opened from any folder: there they stay absolute, and follow when it is opened.

Other workspaces of a project, a temporary one of a DVC experiment or a git worktree, have no store of their own, which
would go when they go: links lead to the project's.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlparse

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from fxnorm.errors import FxnormError

DEFAULT_URI = "sqlite:///mlflow.db"
ARTIFACTS = "mlartifacts"
_ADDRESSES = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}
"""Where MLflow 3.17 keeps addresses of artifacts: table -> columns."""
_PATIENCE_SECONDS = 60.0


def database_of(uri: str) -> Path | None:
    """The file of an embedded store, relative if its address is; None for a server or another database."""
    if not uri.startswith("sqlite:"):
        return None
    try:
        name = make_url(uri).database
    except ArgumentError:
        return None
    return Path(name) if name and name != ":memory:" else None


def share() -> None:
    """Have the working directory use the store of the project that it is another workspace of, if it is one.

    Raises:
        FxnormError: it has a store of its own already, or the links cannot be made.
    """
    folder = Path.cwd()
    project = _project_of(folder)
    if project is None or not project.is_dir():
        return
    database = database_of(DEFAULT_URI)
    assert database is not None
    (project / ARTIFACTS).mkdir(exist_ok=True)
    for name in (str(database), ARTIFACTS):
        _link(folder / name, project / name)


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and Path(os.readlink(link)) != target:
        link.unlink()  # the project was moved
    try:
        link.symlink_to(target)
    except FileExistsError as error:
        if link.is_symlink():  # from before, or by another process a moment ago
            return
        raise FxnormError(
            f"{link}: this folder is another workspace of {target.parent} and has an MLflow store of its own; move it"
            " away, or name it in MLFLOW_TRACKING_URI"
        ) from error
    except OSError as error:
        raise FxnormError(f"{link}: no link to the MLflow store of {target.parent} can be made ({error})") from error


def _project_of(folder: Path) -> Path | None:
    """The folder that corresponds to ``folder`` in the project whose temporary workspace or git worktree this is."""
    root = os.environ.get("DVC_ROOT")  # of the project, also in the workspace of an experiment
    if root and folder.is_relative_to(Path(root).resolve() / ".dvc" / "tmp"):
        workspace = _parent_with(folder, ".dvc")
        return None if workspace is None else Path(root).resolve() / folder.relative_to(workspace)
    workspace = _parent_with(folder, ".git")
    if workspace is None or not (workspace / ".git").is_file():
        return None
    # gitrepository-layout(5): the file names the worktree's own folder, in which "commondir" names the repository's
    _, _, own = (workspace / ".git").read_text(encoding="utf-8").strip().partition("gitdir: ")
    common = Path(os.path.normpath(workspace / own)) / "commondir"
    if not common.is_file():
        return None
    repository = (common.parent / common.read_text(encoding="utf-8").strip()).resolve()
    return repository.parent / folder.relative_to(workspace) if repository.name == ".git" else None


def _parent_with(folder: Path, name: str) -> Path | None:
    return next((parent for parent in (folder, *folder.parents) if (parent / name).exists()), None)


def new_location() -> str:
    """Where a new experiment's artifacts go: a folder of the working directory, which is made.

    Without it, a new location could not be distinguished from one that was moved away.
    """
    Path(ARTIFACTS).mkdir(exist_ok=True)
    return Path(ARTIFACTS).absolute().as_uri()


def settle(uri: str) -> None:
    """Have the addresses in an embedded store lead to the artifacts beside it, all of them or none.

    Raises:
        FxnormError: they would have to be changed and cannot be.
    """
    database = database_of(uri)
    if database is None or not database.is_file():
        return
    try:
        with _opened(database) as connection:
            changes = _changes(connection, database)
            if changes:
                connection.execute("BEGIN IMMEDIATE")
                for (table, column), new in _changes(connection, database).items():
                    connection.executemany(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", new)
                connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise FxnormError(
            f"{database}: its artifacts lie elsewhere than it says, and their addresses cannot be changed ({error})"
        ) from error


@contextlib.contextmanager
def _opened(database: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(
        f"file:{quote(str(database.absolute()))}?mode=rw", _PATIENCE_SECONDS, isolation_level=None, uri=True
    )
    try:
        yield connection
    finally:
        connection.close()


def _changes(connection: sqlite3.Connection, database: Path) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """(table, column) -> pairs of a new and an old address, where they differ."""
    known = _columns(connection)
    if ("experiments", "artifact_location") not in known:
        return {}
    folder = _folder_of(database)
    before = _folders_before(connection, folder, known)
    changes = {}
    for table, columns in _ADDRESSES.items():
        for column in columns:
            if (table, column) not in known:
                continue
            rows = connection.execute(f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL")
            pairs = [(_moved(address, before, folder, database), address) for (address,) in rows]
            if pairs := [(new, old) for new, old in pairs if new != old]:
                changes[table, column] = pairs
    return changes


def _columns(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    return {
        (table, column)
        for table in _ADDRESSES
        for _, column, *_ in connection.execute(f"PRAGMA table_info({table})").fetchall()
    }


def _is_of_working_directory(database: Path) -> bool:
    """Whether the database's address holds in the project's folder alone, as relative addresses do."""
    return not database.is_absolute() and ".." not in database.parts


def _folder_of(database: Path) -> Path:
    """The folder that has the artifacts' folder: the working directory, or the database's own."""
    return Path.cwd() if _is_of_working_directory(database) else Path(os.path.normpath(database.absolute().parent))


def _folders_before(connection: sqlite3.Connection, folder: Path, known: set[tuple[str, str]]) -> list[Path]:
    """Folders in which the project lay before: artifacts of theirs lie in ``folder`` now.

    They may still lie there too, because a copied project has an original. An experiment of another project in the same
    database, whose artifacts are nowhere else, stays where it is.
    """
    before = []
    for (address,) in connection.execute("SELECT DISTINCT artifact_location FROM experiments"):
        path = _local_path(address)
        if path is None or not path.is_absolute() or path.name != ARTIFACTS or path.parent == folder:
            continue
        here = folder / ARTIFACTS
        if not here.is_dir():
            continue
        inside = [
            artifacts.relative_to(path)
            for table, column in (("runs", "artifact_uri"), ("logged_models", "artifact_location"))
            if (table, column) in known
            for (text,) in connection.execute(f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL")
            if (artifacts := _local_path(text)) is not None and artifacts.is_relative_to(path)
        ]
        if any((here / part).exists() for part in inside) or not (inside or path.exists()):
            before.append(path.parent)
    return before


def _moved(address: str, before: list[Path], folder: Path, database: Path) -> str:
    """An address as it should be."""
    path = _local_path(address)
    if path is None:
        return address
    if not path.is_absolute():
        if Path.cwd() != folder and path.parts[:1] == (ARTIFACTS,):
            return (folder / path).as_uri()
        return address
    for old in [*before, folder]:
        if path.is_relative_to(old):
            inside = path.relative_to(old)
            if _is_of_working_directory(database):
                return quote(inside.as_posix())
            return address if old == folder else (folder / inside).as_uri()
    return address


def _local_path(address: str) -> Path | None:
    """The path of a local address, as MLflow reads it; None for another."""
    parsed = urlparse(address)
    if parsed.scheme == "file":
        return Path(unquote(parsed.path))
    return Path(unquote(address)) if not parsed.scheme else None

"""``python logins.py COMMAND …``: make the login of a reader, then become the command, which is MLflow's server.

``MLFLOW_READER_USERNAME`` and ``MLFLOW_READER_PASSWORD`` are for who only fetches models, such as an endpoint. One that
is there already keeps its password; without these variables none is made.
"""

import os
import sys

_NAME, _PASSWORD = "MLFLOW_READER_USERNAME", "MLFLOW_READER_PASSWORD"


def make_reader(name: str, password: str) -> None:
    """Make the login, unless it is there."""
    from mlflow.server.auth.config import read_auth_config  # noqa: PLC0415  other commands have no use for it
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore  # noqa: PLC0415

    store = SqlAlchemyStore()
    store.init_db(read_auth_config().database_uri)
    if not store.has_user(name):
        store.create_user(name, password)


def main() -> None:
    """Take both variables out of the environment: the server has no use for them."""
    name, password = os.environ.pop(_NAME, ""), os.environ.pop(_PASSWORD, "")
    if bool(name) != bool(password):
        sys.exit(f"{_NAME} and {_PASSWORD}: expected both or none")
    if name and name == os.environ.get("MLFLOW_AUTH_ADMIN_USERNAME"):
        sys.exit(f"{_NAME}: expected another name than the administrator's")
    if name:
        make_reader(name, password)
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()

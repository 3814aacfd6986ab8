"""Errors of MLflow and the stores behind it as one line of text for the user, without any password.

Such lines go on into reports, descriptions of versions and notes of runs, whose readers need not know the password.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import TypeVar
from urllib.parse import parse_qsl, unquote

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

from fxnorm import errors
from fxnorm.errors import FxnormError, system_reason, system_sentence

_Answer = TypeVar("_Answer")

_MISSING = ErrorCode.Name(RESOURCE_DOES_NOT_EXIST)
_HIDDEN = "***"
# SQLAlchemy takes passwords with a slash; three slashes begin a file's path, which may hold any sign
_USER_OF_ADDRESS = re.compile(r"^([^:/]+:/{0,2})(?!/)((?:[^/@:]*:[^@]*@)?(?:[^/?#]*@)?)")
_USER_IN_TEXT = re.compile(r"(?<=://)[^\s/?#]*@")


@contextlib.contextmanager
def as_user_error(prefix: str) -> Iterator[None]:
    """Turn errors of MLflow and its stores into a user's: ``prefix``, then the error's first line in brackets.

    Raises:
        FxnormError: in place of MLflow's errors, those of a database or an S3 store, and the system's, such as a full
            disk.
    """
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    # a module that is not found is the database's driver
    except (MlflowException, *_of_databases(), ModuleNotFoundError, Boto3Error, BotoCoreError, ClientError) as error:
        raise FxnormError(f"{prefix} ({first_line(error)})") from error
    except OSError as error:
        reason = without_credentials(system_sentence(error) or system_reason(error))
        raise FxnormError(f"{prefix} ({reason})") from error


def _of_databases() -> tuple[type[Exception], ...]:
    """Errors of a database that MLflow opens itself; a served model, which asks a server, has no package for that."""
    try:
        from sqlalchemy.exc import SQLAlchemyError
    except ModuleNotFoundError:
        return ()
    return (SQLAlchemyError,)


def unless_missing(request: Callable[..., _Answer], *arguments: str) -> _Answer | None:
    """The answer to a request, or None if MLflow reports that what it names does not exist; other errors are raised."""
    try:
        return request(*arguments)
    except MlflowException as error:
        if error.error_code != _MISSING:
            raise
        return None


def first_line(error: Exception) -> str:
    """An error's first line, without credentials; the type of the error, if it has no text."""
    return without_credentials(errors.first_line(error))


def server() -> str:
    """The tracking server's address, without credentials."""
    return shown(mlflow.get_tracking_uri())


def registry_server() -> str:
    """The same of the registry, which is the tracking server's unless ``MLFLOW_REGISTRY_URI`` names another."""
    return shown(mlflow.get_registry_uri())


def shown(uri: str) -> str:
    """An address without user, password and query."""
    return _USER_OF_ADDRESS.sub(r"\1", uri).partition("?")[0]


def without_credentials(text: str) -> str:
    """A text without the users and passwords of the addresses in it, and without the passwords of MLflow's stores."""
    addresses = {mlflow.get_tracking_uri(), mlflow.get_registry_uri()}
    for uri in addresses:
        text = text.replace(uri, shown(uri))
    text = _USER_IN_TEXT.sub("", text)
    for password in sorted(set().union(*map(_passwords, addresses)), key=len, reverse=True):
        text = text.replace(password, _HIDDEN)
    return text


def _passwords(uri: str) -> set[str]:
    """As the address spells them, and as they are."""
    match = _USER_OF_ADDRESS.match(uri)
    spelled = match[2].removesuffix("@").partition(":")[2] if match else ""
    queried = [value for key, value in parse_qsl(uri.partition("?")[2]) if "password" in key]
    return {spelled, unquote(spelled), *queried} - {""}

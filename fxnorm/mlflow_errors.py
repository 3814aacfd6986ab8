"""What MLflow and the artifact store behind it raise, as one line of text for the user."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

from mlflow.exceptions import MlflowException

from fxnorm.errors import FxnormError

_Answer = TypeVar("_Answer")

# an alias that no version has is, to MLflow, an invalid parameter
_MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


@contextlib.contextmanager
def one_line(what: str) -> Iterator[None]:
    """Put ``what`` in front of an error's first line.

    Raises:
        FxnormError: in place of MLflow's errors and those of an S3 store.
    """
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (MlflowException, Boto3Error, BotoCoreError, ClientError) as error:
        raise FxnormError(f"{what} ({first_line(error)})") from error


def unless_missing(ask: Callable[..., _Answer], *arguments: str) -> _Answer | None:
    """The answer, or None if there is no such thing; that the server does not answer is an error still."""
    try:
        return ask(*arguments)
    except MlflowException as error:
        if error.error_code not in _MISSING:
            raise
        return None


def first_line(error: Exception) -> str:
    """An error's first line."""
    return str(error).strip().splitlines()[0]

"""Errors that a user can cause. Their text is one line that names the file or key and what was expected."""

import importlib.util
import itertools
import os
import shutil

EXTRAS = {
    "page": ("starlette", "uvicorn"),
    "mlops": (
        "boto3", "botocore", "docker", "dvc", "dvc_data", "fastapi", "fsspec", "kfp", "kfp_kubernetes",
        "kfp_server_api", "mlflow", "optuna", "pandas", "prometheus_client", "psutil", "pynvml", "s3fs", "sqlalchemy",
        "uvicorn",
    ),
    "demo": ("midirenderer", "pretty_midi", "pyloudnorm"),
    "listening-test": ("statsmodels", "pandas"),
    "formats": ("av",),
}  # fmt: skip
"""Extra of this distribution -> packages that it adds to a plain installation, which is enough to mix.

Where two bring the same package, the first is named.
"""

_MOST_SHOWN = 60  # characters


def printable(text: str, most: int = _MOST_SHOWN) -> str:
    """Untrusted text made fit for a message: cut short, with escapes for line breaks and invisible characters."""
    shown = (letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text)
    return "".join(itertools.islice(shown, most)) + ("…" if len(text) > most else "")


def first_line(error: BaseException) -> str:
    """The first line of an error's text that is not empty; the name of its class, if the text is empty."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)


class FxnormError(Exception):
    """Something the user gave cannot be used. Entry points print the text alone and exit with ``exit_status``."""

    exit_status = 1


class OutputError(FxnormError):
    """A file or folder that must not be written or cannot be: the place is at fault, not one song of many."""


class AudioError(FxnormError):
    """Audio that cannot be read, or holds what no mix can be made of."""


class DatasetError(FxnormError):
    """A folder that is not a dataset, or one that lacks what a stage needs."""


class SettingsError(FxnormError):
    """An unknown key, or a value that a setting cannot take."""


class ModelError(FxnormError):
    """A Mixer directory or checkpoint that is incomplete or does not fit."""


class StoreError(FxnormError):
    """An object store that does not answer, or that refuses the client (its credentials) rather than one request."""

    refused = False
    """Whether it answered with a refusal, so that another attempt would not help."""


class StoppedError(FxnormError):
    """A signal stopped work that goes on when it is started again; the exit status is 128 + the signal's number.

    A shell gives a process that the signal ended the same status, so whoever started it sees that it did not finish.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_status = 128 + signal_number


class DivergedError(FxnormError):
    """A loss that is no number any more: what was to be learnt with these settings cannot be."""


class PrunedError(FxnormError):
    """A search ended a training before its schedule, because others were ahead of it."""


def missing_package(error: ImportError, who: str = "this command", extra: str | None = None) -> str | None:
    """What to install where a package of one of the extras is not there, in one line; None for any other error.

    Args:
        error: what an import raised.
        who: the feature or command that needs the package.
        extra: the one to name; by default the first in :data:`EXTRAS` that brings the package.
    """
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return None
    package = error.name.partition(".")[0]
    extra = extra or next((name for name, packages in EXTRAS.items() if package in packages), None)
    # a part that is missing of a package that is there is a defect, which keeps its trace
    if extra is None or package not in EXTRAS[extra] or importlib.util.find_spec(package) is not None:
        return None
    return needs(who, package, extra)


def needs(who: str, package: str, extra: str) -> str:
    """One line: which feature needs which package, and what to install."""
    return f"{who} needs {package}, which is not installed: pip install 'fxnorm-automix[{extra}]'"


def system_reason(error: OSError) -> str:
    """Why the system refused, in one line."""
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        *_, reason = error.args[0][0]  # (source, target, reason) of each file that could not be copied
        return " ".join(str(reason).split())
    return " ".join(str(error.strerror or error).split()) or type(error).__name__


def system_sentence(error: OSError) -> str | None:
    """A system's error that a user can cause, such as a full disk, as one line with the file's name if it has one.

    None for what has neither a file's name nor a number: it did not come from a file.
    """
    if isinstance(error, BrokenPipeError):
        return None  # the reader of the output, such as head, has ended
    if isinstance(error.filename, str | bytes):
        return f"{os.fsdecode(error.filename)}: {system_reason(error)}"
    if isinstance(error, shutil.Error) or error.errno is not None:
        return system_reason(error)
    return None

"""Versions of a registered model: the one that a server began with, and another one that the registry has.

Another version is loaded into the running server as data alone: its Mixer. Its code and packages are not, so they have
to be those that run.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import mlflow

import fxnorm
from fxnorm.errors import FxnormError
from fxnorm.io import bounded, object_store
from fxnorm.mixing.mixer import Mixer
from fxnorm.tracking.errors import as_user_error, registry_server

UNKNOWN = "unknown"

_META_FILE = "registered_model_meta"  # which MLflow leaves in what it downloads from a registry
_MODEL_FILE = "MLmodel"
_PREFIX = "models:/"
_SHOWN_DIGITS = 12


@dataclass(frozen=True)
class Origin:
    """Where a Mixer is from.

    Attributes:
        version: of the registered model; ``unknown`` where it was not downloaded from a registry.
        code: the library's version, and a hash of the code and the pinned packages that travel with the model.
    """

    version: str
    code: str

    @classmethod
    def of(cls, mixer: Path, version: str | None = None) -> "Origin":
        """The origin of the Mixer in a model's folder.

        Args:
            mixer: its folder.
            version: if it is known.
        """
        folder = model_folder(mixer)
        if folder is None:
            return cls(version or UNKNOWN, fxnorm.__version__)
        if version is None:
            meta = folder / _META_FILE
            version = str(bounded.read_yaml(meta).get("model_version", UNKNOWN)) if meta.is_file() else UNKNOWN
        return cls(version, f"{fxnorm.__version__}+{_digest(folder)[:_SHOWN_DIGITS]}")


@dataclass(frozen=True)
class Served:
    """A Mixer and where it is from."""

    mixer: Mixer
    origin: Origin


class OtherCodeError(FxnormError):
    """A version whose code or packages are not those that run."""


def model_folder(mixer: Path) -> Path | None:
    """The folder of the model that a Mixer is in; None for a Mixer that is in none."""
    return next((folder for folder in mixer.resolve().parents if (folder / _MODEL_FILE).is_file()), None)


def newest(address: str) -> str:
    """The number of the version that ``models:/NAME@ALIAS`` (or ``models:/NAME/VERSION``) names now.

    Raises:
        FxnormError: the registry does not answer, or does not know it.
    """
    name, alias, number = split(address)
    if alias is None:
        return str(number)
    with as_user_error(f"{address}: not to be had of the registry at {registry_server()}"):
        return str(mlflow.MlflowClient().get_model_version_by_alias(name, alias).version)


def split(address: str) -> tuple[str, str | None, str | None]:
    """Name, and alias or number, of an address."""
    rest = address.removeprefix(_PREFIX)
    name, at, alias = rest.partition("@")
    if at:
        return name, alias, None
    name, _, number = rest.partition("/")
    return name, None, number


def downloaded(address: str, number: str, code: str, folder: Path) -> Path:
    """A version's Mixer directory, in ``folder``.

    Args:
        address: of the model.
        number: of the version.
        code: that runs, as in :class:`Origin`.
        folder: an empty one.

    Raises:
        OtherCodeError: the version has other code or other packages.
        FxnormError: the registry does not answer, or it has no Mixer.
    """
    name, _, _ = split(address)
    object_store.send_required_checksums_only()  # where artifacts lie in an S3 store, MLflow asks it itself
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with as_user_error(f"{address}: version {number}: not to be had of the registry at {registry_server()}"):
        mlflow.artifacts.download_artifacts(artifact_uri=f"{_PREFIX}{name}/{number}", dst_path=str(folder))
    mixer = next((path.parent for path in sorted(folder.rglob("mixer.json"))), None)
    if mixer is None or model_folder(mixer) is None:
        raise FxnormError(f"{address}: version {number}: expected a model with a Mixer, found another")
    if Origin.of(mixer, number).code != code:
        raise OtherCodeError(
            f"{address}: version {number} has other code or packages than this server: restart the server to take it"
        )
    return mixer


def _digest(folder: Path) -> str:
    """A hash of a model's code and packages."""
    total = hashlib.sha256()
    for path in sorted([*folder.rglob("*.py"), folder / "requirements.txt"]):
        if path.is_file():
            total.update(f"{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return total.hexdigest()

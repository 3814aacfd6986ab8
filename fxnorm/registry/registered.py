"""The MLflow model registry: a Mixer goes in as a pyfunc, and comes out as a Mixer directory again."""

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import mlflow
from tqdm import tqdm

from fxnorm.constants import DEFAULT_MIXER, MIXER_FILE, WEIGHTS_FILE
from fxnorm.errors import FxnormError, ModelError
from fxnorm.io.files import whole_folder
from fxnorm.io.folders import cache_folder
from fxnorm.mixing.shipped import directory_of
from fxnorm.registry import served_model
from fxnorm.registry.aliases import MODEL_PREFIX, Version
from fxnorm.registry.served_model import MIXER_ARTIFACT
from fxnorm.tracking import runs
from fxnorm.tracking.errors import as_user_error, registry_server

if TYPE_CHECKING:
    from fxnorm.mixing.mixer import Mixer

_LARGEST_MIXER_BYTES = 4 * 2**30
_MOST_FILES = 10_000


def open_mixer(name: str) -> "Mixer":
    """A Mixer from its directory, ``default``, or of the registry: ``models:/name@alias`` or ``models:/name/version``.

    Raises:
        ModelError: it is not there, or not a Mixer.
    """
    from fxnorm.mixing.mixer import Mixer  # PyTorch takes seconds to import, and whoever looks a model up mixes nothing

    with mixer_directory(name) as folder:
        return Mixer.load(folder)


@contextlib.contextmanager
def mixer_directory(name: str) -> Iterator[Path]:
    """The directory of such a Mixer; that of one from the registry exists until the block ends.

    Raises:
        ModelError: the registry does not have it.
    """
    if not name.startswith(MODEL_PREFIX):
        yield directory_of(name)
        return
    runs.configure()
    with tempfile.TemporaryDirectory() as folder:
        with _only_there(name):
            downloaded = _download(name, folder)
        yield downloaded


def shipped_model() -> Path:
    """An MLflow model of the Mixer that comes with the package, made at its first use and kept in the user's cache.

    Raises:
        ModelError: the package lacks it.
        OutputError: the cache cannot be written to.
    """
    from fxnorm.mixing.mixer import mixer_digest

    mixer = directory_of(DEFAULT_MIXER)
    digest = hashlib.sha256(f"{mixer_digest(mixer)} {served_model.digest()}".encode()).hexdigest()
    folder = cache_folder() / f"served-{digest[:16]}"
    if not (folder / "MLmodel").is_file():
        with whole_folder(folder) as temporary:
            mlflow.pyfunc.save_model(str(temporary), **served_model.contents(mixer))
    return folder


@contextlib.contextmanager
def _only_there(name: str) -> Iterator[None]:
    try:
        with as_user_error(f"{name}: not in the registry at {registry_server()}"):
            yield
    except FxnormError as error:
        raise ModelError(str(error)) from error


def check(name: str) -> None:
    """Look up whether the registry has the model ``models:/name@alias`` (or ``models:/name/version``).

    Raises:
        ModelError: it does not.
    """
    with _only_there(name):
        mlflow.models.get_model_info(name)


def register(mixer: Path, name: str, run_id: str, tags: Mapping[str, str]) -> str:
    """Log a Mixer directory as a pyfunc into its run, and register it; no version exists without its tags.

    MLflow marks a run that it writes a model into as running and then as ended; one that had ended stays as it was.

    Returns:
        the new version.

    Raises:
        FxnormError: the tracking server or the artifacts' store does not take it.
    """
    with (
        as_user_error(f"{name}: the registry at {registry_server()} does not take {mixer}"),
        _kept_status(run_id),
        mlflow.start_run(run_id=run_id),
    ):
        logged = mlflow.pyfunc.log_model(
            name="model",
            **served_model.contents(mixer),
            registered_model_name=name,
            tags=dict(tags),
        )
    return str(logged.registered_model_version)


@contextlib.contextmanager
def _kept_status(run_id: str) -> Iterator[None]:
    client = mlflow.MlflowClient()
    before = client.get_run(run_id).info
    try:
        yield
    finally:
        if before.end_time is not None:
            client.set_terminated(run_id, before.status, before.end_time)


def is_whole(version: Version) -> bool:
    """Whether a version can be served still: neither its run is deleted, nor its files."""
    if version.run_id and not runs.is_alive(version.run_id):
        return False
    try:
        with as_user_error(version.uri):
            path = _mixer_path(version.uri)
            files = mlflow.artifacts.list_artifacts(artifact_uri=f"{version.uri}/{path}") if path else []
            return {MIXER_FILE, WEIGHTS_FILE} <= {PurePosixPath(file.path).name for file in files}
    except FxnormError as error:
        tqdm.write(f"{version.uri}: cannot be read any more ({error})")
        return False


def _mixer_path(name: str) -> str | None:
    """Where a registered model has its Mixer, if it has one."""
    described = mlflow.models.get_model_info(name).flavors.get("python_function", {}).get("artifacts", {})
    path = described.get(MIXER_ARTIFACT, {}).get("path")
    return None if path is None else str(path)


def _download(name: str, folder: str) -> Path:
    """Only the Mixer directory of a registered model, into ``folder``; nothing of the model is executed."""
    path = _mixer_path(name)
    if path is None:
        raise ModelError(f"{name}: expected a model with a Mixer, found another")
    _refuse_large(f"{name}/{path}")
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=f"{name}/{path}", dst_path=folder))


def _refuse_large(uri: str) -> None:
    """What somebody registered under a name may be anything; a disk should not fill with it."""
    base, _, _ = uri.rpartition("/artifacts/")
    folders, files, size = [uri.removeprefix(f"{base}/")], 0, 0
    while folders:
        for file in mlflow.artifacts.list_artifacts(artifact_uri=f"{base}/{folders.pop()}"):
            files += 1
            size += file.file_size or 0
            if file.is_dir:
                folders.append(file.path)
            if files > _MOST_FILES or size > _LARGEST_MIXER_BYTES:
                limits = f"{_MOST_FILES} files and {_LARGEST_MIXER_BYTES} bytes"
                raise ModelError(f"{uri}: expected a Mixer of at most {limits}, found a larger one")

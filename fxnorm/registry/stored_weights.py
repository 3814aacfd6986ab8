"""Weights that a training begins with, wherever an earlier run has left them: here, in a store, or at MLflow.

Nothing that is brought is executed or unpickled: weights are safetensors, and beside them lies what they learnt from.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import mlflow

from fxnorm.constants import WEIGHTS_FILE
from fxnorm.data.provenance import TRAINED_ON_FILE
from fxnorm.errors import FxnormError, ModelError, SettingsError
from fxnorm.io import addresses, object_store
from fxnorm.io.addresses import MODEL_PREFIX, RUN_PREFIX
from fxnorm.registry import registered
from fxnorm.tracking import runs
from fxnorm.tracking.errors import as_user_error

FRONT_END_FOLDER = "front_end"
"""Among the artifacts of a run that trained a front-end alone: its weights."""

_SETTING = "train.initial_weights"
_LARGEST_BYTES = 2**31  # the published network has 32 MB
_LARGEST_LIST = 2**24  # bytes of what they learnt from


@contextlib.contextmanager
def opened(name: str | None) -> Iterator[Path | None]:
    """The file or folder of weights, which is there until the block ends; None without a name.

    Args:
        name: a path; ``s3://BUCKET/PREFIX`` of a Mixer directory, of a front-end's folder or of a ``.safetensors``
            file; ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``; or ``runs:/RUN_ID`` of a run that trained a
            front-end, or whose Mixer was registered.

    Raises:
        SettingsError: the address is no such address.
        ModelError: there are no weights, or larger ones than any network here has.
        FxnormError: the store or MLflow does not answer.
    """
    if name is None or not addresses.is_address(name):
        yield None if name is None else Path(name)
        return
    try:
        addresses.check(name)
    except SettingsError as error:
        raise SettingsError(f"{_SETTING}: {error}") from error
    with tempfile.TemporaryDirectory(prefix="fxnorm-") as folder:
        if object_store.is_address(name):
            yield _from_store(name.rstrip("/"), Path(folder))
        elif name.startswith(RUN_PREFIX):
            with _from_run(name, Path(folder)) as found:
                yield found
        else:
            with registered.mixer_directory(name) as mixer:
                yield mixer


def _from_store(address: str, folder: Path) -> Path:
    """The weights and, if it is there, the list of what they learnt from."""
    parent, _, last = address.rpartition("/")
    is_file = last.endswith(".safetensors")
    place = parent if is_file else address
    weights = folder / WEIGHTS_FILE
    try:
        content = object_store.read(address if is_file else f"{address}/{WEIGHTS_FILE}", _LARGEST_BYTES)
    except FxnormError as error:
        raise ModelError(f"{_SETTING}: {error}") from error
    weights.write_bytes(content)
    if "/" in place.removeprefix(object_store.SCHEME):
        learnt = object_store.Folder(place).read(TRAINED_ON_FILE, _LARGEST_LIST)
        if learnt is not None:
            (folder / TRAINED_ON_FILE).write_bytes(learnt)
    return weights if is_file else folder


@contextlib.contextmanager
def _from_run(name: str, folder: Path) -> Iterator[Path]:
    """A front-end that a run trained, else the Mixer that was registered from it."""
    runs.configure()
    run_id = name.removeprefix(RUN_PREFIX)
    with as_user_error(f"{_SETTING}: {name}: cannot be read"):
        client = mlflow.MlflowClient()
        files = {file.path: file.file_size or 0 for file in client.list_artifacts(run_id, FRONT_END_FOLDER)}
        wanted = [file for file in (WEIGHTS_FILE, TRAINED_ON_FILE) if f"{FRONT_END_FOLDER}/{file}" in files]
        if WEIGHTS_FILE in wanted and sum(files.values()) > _LARGEST_BYTES:
            raise ModelError(
                f"{_SETTING}: {name}: expected at most {_LARGEST_BYTES} bytes, found {sum(files.values())}"
            )
        paths = [Path(client.download_artifacts(run_id, f"{FRONT_END_FOLDER}/{file}", str(folder))) for file in wanted]
        versions = [] if wanted else client.search_model_versions(f"run_id='{run_id}'", max_results=1)
    if WEIGHTS_FILE in wanted:
        yield paths[0].parent
        return
    if not versions:
        raise ModelError(f"{_SETTING}: {name}: expected a run that trained a front-end, or whose Mixer is registered")
    with registered.mixer_directory(f"{MODEL_PREFIX}{versions[0].name}/{versions[0].version}") as mixer:
        yield mixer

"""The MLflow model registry: a Mixer goes in as a pyfunc, and comes out as a Mixer directory again."""

import importlib.metadata
import importlib.util
import tempfile
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

import fxnorm
from fxnorm import audio, tracking
from fxnorm.aliases import MODEL_PREFIX
from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.errors import FxnormError, ModelError
from fxnorm.mixer import Mixer
from fxnorm.mlflow_errors import one_line

MIXER_ARTIFACT = "mixer"

_LARGEST_MIXER_BYTES = 4 * 2**30
_MOST_FILES = 10_000
_PYFUNC_MODULE = "serving.pyfunc"
_SERVED_PACKAGES = (
    "jinja2", "librosa", "matplotlib", "mlflow", "numba", "numpy", "pandas", "pydantic", "pyloudnorm", "pyyaml",
    "safetensors", "scipy", "soundfile", "soxr", "torch", "tqdm",
)  # fmt: skip


def open_mixer(name: str) -> Mixer:
    """A Mixer from its directory, or from the registry under ``models:/name@alias`` (or ``models:/name/version``).

    Raises:
        ModelError: it is not there, or not a Mixer.
    """
    if not name.startswith(MODEL_PREFIX):
        return Mixer.load(name)
    uri = tracking.configure()
    with tempfile.TemporaryDirectory() as folder:
        try:
            with one_line(f"{name}: not in the registry at {uri}"):
                downloaded = _download(name, folder)
        except FxnormError as error:
            raise ModelError(str(error)) from error
        return Mixer.load(downloaded)


def register(mixer: Path, name: str, run_id: str) -> str:
    """Log a Mixer directory as a pyfunc into its run, and register it.

    Returns:
        the new version.
    """
    with mlflow.start_run(run_id=run_id):
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=_pyfunc_file(),
            artifacts={MIXER_ARTIFACT: str(mixer)},
            code_paths=[str(Path(fxnorm.__file__).parent)],
            signature=signature(),
            input_example=_input_example(),
            pip_requirements=_pinned_requirements(),
            registered_model_name=name,
        )
    return str(logged.registered_model_version)


def signature() -> ModelSignature:
    """Stems as optional binary columns (the bytes of WAV, FLAC or MP3 files) in, the mix as a file's bytes out."""
    stems = Schema([ColSpec("binary", stem, required=False) for stem in STEMS])
    mix = Schema([ColSpec("binary", "mix"), ColSpec("long", "sample_rate"), ColSpec("double", "loudness_lufs")])
    return ModelSignature(inputs=stems, outputs=mix)


def _download(name: str, folder: str) -> Path:
    """Only the Mixer directory of a registered model, into ``folder``; nothing of the model is executed."""
    described = mlflow.models.get_model_info(name).flavors.get("python_function", {}).get("artifacts", {})
    path = described.get(MIXER_ARTIFACT, {}).get("path")
    if path is None:
        raise ModelError(f"{name}: expected a model with a Mixer, found another")
    _refuse_large(f"{name}/{path}")
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=f"{name}/{path}", dst_path=folder))


def _refuse_large(uri: str) -> None:
    """What somebody registered under a name may be anything; a disk should not fill with it."""
    base, _, _ = uri.rpartition("/artifacts/")
    folders, files, size = [uri.removeprefix(f"{base}/")], 0, 0
    while folders:
        for found in mlflow.artifacts.list_artifacts(artifact_uri=f"{base}/{folders.pop()}"):
            files += 1
            size += found.file_size or 0
            if found.is_dir:
                folders.append(found.path)
            if files > _MOST_FILES or size > _LARGEST_MIXER_BYTES:
                limits = f"{_MOST_FILES} files and {_LARGEST_MIXER_BYTES} bytes"
                raise ModelError(f"{uri}: expected a Mixer of at most {limits}, found a larger one")


def _input_example() -> pd.DataFrame:
    """A second of two tones: small, and shows how a request is made."""
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    tones = {"vocals": 440.0, "bass": 55.0}
    return pd.DataFrame(
        {
            stem: [audio.encode(0.1 * np.sin(2 * np.pi * tones[stem] * time)[None], SAMPLE_RATE, ".flac")]
            for stem in tones
        }
    )


def _pyfunc_file() -> str:
    # found, not imported: the library does not know its faces
    found = importlib.util.find_spec(_PYFUNC_MODULE)
    if found is None or found.origin is None:
        raise FxnormError(f"{_PYFUNC_MODULE}: not installed; the package fxnorm-automix brings it")
    return found.origin


def _pinned_requirements() -> list[str]:
    """The versions in use here, without local build labels such as ``+cpu``, which no index has."""
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in _SERVED_PACKAGES]

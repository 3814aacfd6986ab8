"""The MLflow model registry: a Mixer goes in as a pyfunc, and comes out as a Mixer directory again."""

import importlib.metadata
import importlib.util
import tempfile
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

import fxnorm
from fxnorm import audio, tracking
from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.errors import FxnormError, ModelError
from fxnorm.mixer import Mixer

CHAMPION, CHALLENGER = "champion", "challenger"
MIXER_ARTIFACT = "mixer"

_MODEL_PREFIX = "models:/"
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
    if not name.startswith(_MODEL_PREFIX):
        return Mixer.load(name)
    uri = tracking.configure()
    with tempfile.TemporaryDirectory() as folder:
        try:
            downloaded = mlflow.artifacts.download_artifacts(artifact_uri=name, dst_path=folder)
        except MlflowException as error:
            raise ModelError(f"{name}: not in the registry at {uri} ({str(error).splitlines()[0]})") from error
        return Mixer.load(Path(downloaded) / "artifacts" / MIXER_ARTIFACT)


def champion_metric(name: str, split: str, metric: str, data_tags: dict[str, str]) -> tuple[str, float] | None:
    """The version with the alias ``champion`` and its network's metric, if it was measured on the same data."""
    client = mlflow.MlflowClient()
    try:
        version = client.get_model_version_by_alias(name, CHAMPION)
        run = client.get_run(str(version.run_id))
    except MlflowException:
        return None  # nothing is registered under this name yet, or its run was deleted
    same_data = all(run.data.tags.get(key) == value for key, value in data_tags.items())
    measured = run.data.metrics.get(f"{split}.{run.data.tags.get(tracking.NETWORK_TAG)}.{metric}")
    return (str(version.version), float(measured)) if same_data and measured is not None else None


def register(mixer: Path, name: str, run_id: str, alias: str, description: str) -> str:
    """Log a Mixer directory as a pyfunc into its run, register it and give it an alias.

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
    client = mlflow.MlflowClient()
    version = str(logged.registered_model_version)
    client.update_model_version(name, version, description)
    client.set_registered_model_alias(name, alias, version)
    return version


def signature() -> ModelSignature:
    """Stems as optional binary columns (the bytes of WAV, FLAC or MP3 files) in, the mix as a file's bytes out."""
    stems = Schema([ColSpec("binary", stem, required=False) for stem in STEMS])
    mix = Schema([ColSpec("binary", "mix"), ColSpec("long", "sample_rate"), ColSpec("double", "loudness_lufs")])
    return ModelSignature(inputs=stems, outputs=mix)


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

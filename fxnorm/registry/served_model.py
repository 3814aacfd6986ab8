"""What a registered model holds beside its Mixer, so that it serves on a machine that has only Python.

The model's code and the library travel inside, and every package that mixing and serving import is pinned with all that
it depends on in turn. Of MLflow that is mlflow-skinny: its server without the tracking server's packages.
"""

import functools
import hashlib
import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array, Map, Object, Property
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import fxnorm
from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.data.versions import code_digest
from fxnorm.errors import FxnormError
from fxnorm.io import audio
from fxnorm.mixing.options import MixOptions

MIXER_ARTIFACT = "mixer"
"""What the Mixer directory is called among the model's artifacts."""
DIGEST_TAG = "served.digest"
"""Of a registered version: what :func:`digest` gave."""

_PYFUNC_MODULE = "fxnorm.serving.pyfunc"
_SERVED_PACKAGES = (
    "boto3", "mlflow-skinny", "numba", "numpy", "pandas", "prometheus-client",
    "pydantic", "pyyaml", "safetensors", "scipy", "soundfile",
    "soxr", "threadpoolctl", "torch", "tqdm",
)  # fmt: skip
_OF_A_BUILD = ("nvidia-", "cuda-", "triton")
"""What PyTorch's CUDA builds need and its others do not: left to whichever build is installed where it is served."""
_PARAM_TYPES = {
    "dry": "boolean",
    "output_format": "string",
    "seed": "long",
    "song": "string",
    "keep": "string",
    "target_loudness": "double",
    "true_peak": "double",
    "as_is": "boolean",
    "bits": "string",
    "sample_rate": "long",
}
_EXAMPLE_SECONDS = 2.0


def contents(mixer: Path) -> dict[str, Any]:
    """What ``mlflow.pyfunc.log_model`` is given, beside names: code, artifacts, signature, example, requirements.

    Raises:
        FxnormError: the code of the endpoint is not installed.
    """
    pyfunc = _pyfunc_file()
    return {
        "python_model": str(pyfunc),
        "artifacts": {MIXER_ARTIFACT: str(mixer)},
        "code_paths": [str(Path(fxnorm.__file__).parent)],
        "signature": signature(),
        "input_example": (input_example(), {"dry": True, "output_format": "flac"}),
        "pip_requirements": pinned_requirements(),
    }


def digest() -> str:
    """A hash of what :func:`contents` puts beside a Mixer: the code that serves it, and the packages it is pinned to.

    Raises:
        FxnormError: the code of the endpoint is not installed.
    """
    _pyfunc_file()
    served = [code_digest(_PYFUNC_MODULE, __name__), *pinned_requirements()]
    return hashlib.sha256("\n".join(served).encode()).hexdigest()


def signature() -> ModelSignature:
    """Stems as files or URIs, or tracks by name, and the options of a mix in; its file and the report on it out."""
    stems = [ColSpec(DataType.binary, stem, required=False) for stem in STEMS]
    uris = [ColSpec(DataType.string, f"{stem}_uri", required=False) for stem in STEMS]
    # a table of the tracks is a text, so that a client may leave out of it what it likes
    tracks = [
        ColSpec(Map(DataType.string), "tracks", required=False),
        ColSpec(DataType.string, "table", required=False),
    ]
    reference = [
        ColSpec(DataType.binary, "reference", required=False),
        ColSpec(DataType.string, "reference_uri", required=False),
    ]
    texts = [Property(name, DataType.string) for name in ("group", "by", "source", "why")]
    by_stem = Map(DataType.double)
    mix = Schema(
        [
            ColSpec(DataType.binary, "mix"),
            ColSpec(DataType.long, "sample_rate"),
            ColSpec(DataType.double, "seconds"),
            ColSpec(DataType.double, "loudness_lufs", required=False),
            ColSpec(DataType.double, "true_peak_dbtp", required=False),
            ColSpec(DataType.double, "gain_db"),
            ColSpec(DataType.double, "reduction_db"),
            ColSpec(by_stem, "stem_loudness_lufs"),
            ColSpec(Map(by_stem), "drift"),
            ColSpec(Array(DataType.string), "warnings"),
            ColSpec(AnyType(), "reference", required=False),
            ColSpec(Map(Object([*texts, Property("use", DataType.boolean)])), "groups", required=False),
        ]
    )
    defaults = MixOptions().model_dump()
    params = ParamSchema([ParamSpec(name, data_type, defaults[name]) for name, data_type in _PARAM_TYPES.items()])
    return ModelSignature(inputs=Schema([*stems, *uris, *tracks, *reference]), outputs=mix, params=params)


def input_example() -> pd.DataFrame:
    """Two seconds of a dry song: a sung vowel, a bass note, a beat and a chord, each as a small FLAC file."""
    time = np.arange(round(_EXAMPLE_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    strokes = np.exp(-12 * (time % 0.5))
    vibrato = 220 * time + 0.4 * np.sin(2 * np.pi * 5 * time)
    stems = {
        "vocals": sum(np.sin(2 * np.pi * partial * vibrato) / partial for partial in range(1, 8)),
        "bass": np.sin(2 * np.pi * 55 * time) * strokes**0.2,
        "drums": np.random.default_rng(0).standard_normal(time.size) * strokes,
        "other": sum(np.sin(2 * np.pi * note * time) for note in (220.0, 277.2, 329.6)) * strokes**0.1,
    }
    files = {
        stem: [audio.encode((0.25 * samples / np.abs(samples).max())[None], SAMPLE_RATE, ".flac", subtype="PCM_16")]
        for stem, samples in stems.items()
    }
    return pd.DataFrame(files)


def pinned_requirements() -> list[str]:
    """The served packages and all they depend on, in the versions that are installed here.

    Local build labels such as ``+cpu``, which no index has, are left out.
    """
    return list(_pinned())


@functools.cache  # a registration asks three times, and the metadata of a hundred packages takes a while to read
def _pinned() -> tuple[str, ...]:
    pinned: set[tuple[str, str]] = set()
    waiting = [(name, "") for name in _SERVED_PACKAGES]
    while waiting:
        name, extra = waiting.pop()
        if name.startswith(_OF_A_BUILD) or (name, extra) in pinned:
            continue
        pinned.add((name, extra))
        for line in importlib.metadata.requires(name) or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(needed.name), needed_extra) for needed_extra in ("", *needed.extras)]
    names = sorted({name for name, _ in pinned})
    return tuple(f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in names)


def _pyfunc_file() -> Path:
    # located without an import: the registry may not import the serving code, which stands above it
    spec = importlib.util.find_spec(_PYFUNC_MODULE)
    if spec is None or spec.origin is None:
        raise FxnormError(f"{_PYFUNC_MODULE}: not installed; the package fxnorm-automix brings it")
    return Path(spec.origin)

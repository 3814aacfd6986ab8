"""A registered model on a machine of its own: an empty virtual environment, no repository, no tracking server.

Installing what the model asks for takes a minute or two.
"""

import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch

from fxnorm.constants import STEMS
from fxnorm.io import audio
from fxnorm.registry import served_model
from tests import servers
from tests.conftest import noise

pytestmark = pytest.mark.system

REPOSITORY = Path(__file__).parents[1]
NAME = "fxnorm-automix"
REAL_SONG = REPOSITORY.parent / "shared/songs/song-a"
"""Not part of the repository: noise is mixed as well, and alone where the song is not there."""


def run(*command: str | Path, folder: Path, **variables: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=bare_environment() | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def bare_environment() -> dict[str, str]:
    """Without what leads to the repository or to other servers; one thread, because sums depend on their number."""
    hidden = ("PYTHON", "VIRTUAL_ENV", "MLFLOW_", "FXNORM_", "AWS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return kept | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, mixer_folder: Path) -> str:
    """A registry in a folder of its own, with the Mixer in it."""
    folder = tmp_path_factory.mktemp("registry")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    experiment = mlflow.create_experiment("serving", artifact_location=(folder / "artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment):
        mlflow.pyfunc.log_model(name="model", registered_model_name=NAME, **served_model.contents(mixer_folder))
    return uri


@pytest.fixture
def empty_environment(tmp_path: Path) -> Iterator[Path]:
    """A virtual environment with pip alone; removed after the test, because it grows to more than a gigabyte."""
    venv.create(tmp_path / "empty", with_pip=True)
    yield tmp_path / "empty"
    shutil.rmtree(tmp_path / "empty")


def test_every_package_is_pinned_and_no_build_of_pytorch_is_preferred() -> None:
    requirements = served_model.pinned_requirements()
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line) for line in requirements)
    assert f"torch=={torch.__version__.partition('+')[0]}" in requirements
    assert not [line for line in requirements if line.startswith(("nvidia-", "triton", "dvc", "kfp", "mlflow=="))]


@pytest.mark.slow
def test_a_registered_model_serves_from_an_empty_environment_and_mixes_the_same_samples(
    registry: str, empty_environment: Path, tmp_path: Path
) -> None:
    mlflow_command = Path(sys.executable).parent / "mlflow"
    model = f"models:/{NAME}/1"
    run(mlflow_command, "artifacts", "download", "-u", model, "-d", tmp_path / "model", folder=tmp_path,
        MLFLOW_TRACKING_URI=registry)  # fmt: skip
    programs = empty_environment / "bin"
    requirements = tmp_path / "model/requirements.txt"
    run(programs / "pip", "install", "--quiet", "--no-compile", "-r", requirements, folder=tmp_path)
    assert "fxnorm" not in run(programs / "pip", "list", folder=tmp_path)

    for number, stem in enumerate(STEMS):
        audio.write(tmp_path / f"{stem}.flac", noise(3.0, 0.2, seed=number))
    songs = [tmp_path, *([REAL_SONG] if REAL_SONG.is_dir() else [])]
    mix: list[str | Path] = [sys.executable, "-m", "fxnorm", "mix"]
    library = {"PYTHONPATH": str(REPOSITORY)}
    with servers.scoring(str(tmp_path / "model"), tmp_path, bare_environment(), programs) as endpoint:
        for song in songs:
            stems = [text for stem in STEMS for text in (f"--{stem}", str(song / f"{stem}.flac"))]
            run(*mix, model, *stems, "--output", "here.wav", folder=tmp_path, MLFLOW_TRACKING_URI=registry, **library)
            run(*mix, "--endpoint", endpoint, *stems, "--output", "there.wav", folder=tmp_path, **library)
            here, there = (audio.read(tmp_path / name)[0] for name in ("here.wav", "there.wav"))
            assert np.array_equal(here, there), song


def test_a_registered_model_runs_its_own_code_whatever_library_is_installed(registry: str, tmp_path: Path) -> None:
    """So one that was registered by an older version, whose modules lay elsewhere, still serves."""
    for name in ("fxnorm", "serving"):
        (tmp_path / "newer" / name).mkdir(parents=True)
        (tmp_path / "newer" / name / "__init__.py").write_text("raise ImportError('of another version')\n")
    program = "\n".join([
        "import mlflow, numpy as np",
        f"model = mlflow.pyfunc.load_model('models:/{NAME}/1')",
        "from fxnorm import Mixer",
        "print(Mixer.__module__, model.metadata.signature.outputs.input_names()[0])",
    ])  # fmt: skip
    said = run(sys.executable, "-c", program, folder=tmp_path, MLFLOW_TRACKING_URI=registry,
               PYTHONPATH=str(tmp_path / "newer"))  # fmt: skip
    assert said.splitlines()[-1] == "fxnorm.mixing.mixer mix"

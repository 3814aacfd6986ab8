"""The built package, in an environment of its own that has nothing else: what users of ``pip install`` get."""

import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fxnorm import Mixer
from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.io import audio
from tests.conftest import noise
from tests.project import REPOSITORY

pytestmark = pytest.mark.slow

_OF_THE_EXTRAS = ("boto3", "dvc", "kfp", "mlflow", "pandas", "pretty_midi", "pyloudnorm", "statsmodels")


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=900)


def finished(*command: str, cwd: Path) -> str:
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # in a copy: setuptools takes what an earlier build has left beside the sources for part of them
    for name in ("fxnorm", "serving", "components", "pipeline"):
        ignored = shutil.ignore_patterns("__pycache__", "node_modules")
        shutil.copytree(REPOSITORY / name, folder / "source" / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder / "source" / name)
    finished(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", ".", "./source", cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def programs(wheel: Path) -> Path:
    """The folder of the programs of an environment that has the package and what it needs."""
    folder = wheel.parent / "environment"
    venv.create(folder, with_pip=True)
    constraints = str(REPOSITORY / "constraints.txt")
    finished(str(folder / "bin/pip"), "install", "-q", "--constraint", constraints, str(wheel), cwd=wheel.parent)
    return folder / "bin"


def test_a_wheel_has_one_top_level_name_and_every_file_that_is_read(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"fxnorm"}
    tracked = finished("git", "ls-files", "fxnorm", "serving", "components", "pipeline", cwd=REPOSITORY).splitlines()
    code = {name if name.startswith("fxnorm/") else f"fxnorm/{name}" for name in tracked if name.endswith(".py")}
    assert code <= set(names)
    assert {name for name in names if name.endswith(".py")} <= code
    bundled = ("fxnorm/listening_test/page/", "fxnorm/page/client/")
    read = {name for name in tracked if "/page/" in name and not name.startswith(bundled)}
    read |= {name for name in tracked if name.startswith(tuple(f"{page}built/" for page in bundled))}
    read |= {f"{page}index.html" for page in bundled}
    assert read and read <= set(names)


def test_the_package_alone_mixes_four_files_as_it_does_here(
    programs: Path, wheel: Path, mixer_folder: Path, tmp_path: Path
) -> None:
    stems = {stem: noise(1.0, 0.2, seed=number) for number, stem in enumerate(STEMS)}
    for stem, samples in stems.items():
        audio.write(tmp_path / f"{stem}.wav", samples, subtype="FLOAT")
    given = [text for stem in STEMS for text in (f"--{stem}", f"{stem}.wav")]
    fxnorm = str(programs / "fxnorm")
    finished(fxnorm, "mix", str(mixer_folder), *given, "--dry", "--output", "mix.wav", cwd=tmp_path)
    expected = Mixer.load(mixer_folder).mix(stems, SAMPLE_RATE, dry=True)
    np.testing.assert_allclose(audio.read(tmp_path / "mix.wav")[0], expected, atol=2**-22)
    program = "import importlib.util, sys; sys.exit(any(map(importlib.util.find_spec, sys.argv[1:])))"
    finished(str(programs / "python"), "-c", program, *_OF_THE_EXTRAS, cwd=tmp_path)
    finished(
        str(programs / "python"), "-c", "import fxnorm.listening_test, fxnorm.serving, fxnorm.pipeline", cwd=tmp_path
    )


def test_a_command_whose_extra_is_missing_names_it(programs: Path, tmp_path: Path) -> None:
    for command in (["pipeline", "compile"], ["mix", "models:/a@champion", "--output", "mix.wav"]):
        done = run(str(programs / "fxnorm"), *command, cwd=tmp_path)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert "pip install 'fxnorm-automix[mlops]'" in line

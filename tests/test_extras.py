"""Without an extra, its commands name it in one line, and what needs none of its packages works."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fxnorm.constants import SAMPLE_RATE
from fxnorm.errors import EXTRAS, missing_package
from fxnorm.io import audio
from tests import encoded
from tests.conftest import noise

_WITHOUT = """
import sys
for package in {packages!r}:
    sys.modules[package] = None
from fxnorm.cli import main
main(prog_name="fxnorm")
"""


def run_without(folder: Path, extras: tuple[str, ...], *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A command where none of the extras' packages can be imported."""
    packages = sorted({package for extra in extras for package in EXTRAS[extra]})
    command = [sys.executable, "-c", _WITHOUT.format(packages=packages), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize(
    "extra, arguments, package",
    [
        ("mlops", ("rollback",), "mlflow"),
        ("mlops", ("serve",), "mlflow"),
        ("mlops", ("mix", "models:/a@champion", "--bass", "{stem}", "--output", "mix.wav"), "mlflow"),
        ("mlops", ("mix", "{mixer}", "--bass", "s3://bucket/bass.wav", "--output", "mix.wav"), "boto"),
        ("mlops", ("pipeline", "compile", "--output", "pipeline.yaml"), "kfp"),
        ("demo", ("demo-data", "data"), "p"),
    ],
)
def test_a_command_names_the_extra_that_it_needs(
    extra: str, arguments: tuple[str, ...], package: str, tmp_path: Path, mixer_folder: Path
) -> None:
    stem = tmp_path / "stem.wav"
    audio.write(stem, noise(2.0), SAMPLE_RATE)
    done = run_without(tmp_path, (extra,), *(word.format(mixer=mixer_folder, stem=stem) for word in arguments))
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("fxnorm: ")
    assert f" needs {package}" in line
    assert line.endswith(f", which is not installed: pip install 'fxnorm-automix[{extra}]'")
    assert list(tmp_path.iterdir()) == [stem]


def test_a_file_that_pyav_reads_names_its_extra(tmp_path: Path, mixer_folder: Path) -> None:
    encoded.stem_mp4(tmp_path / "bass.m4a", [noise(0.1)])
    done = run_without(tmp_path, ("formats",), "mix", str(mixer_folder), "--bass", "bass.m4a", "--output", "mix.wav")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    expected = "reading MP4 needs av, which is not installed: pip install 'fxnorm-automix[formats]'"
    assert line == f"fxnorm: bass.m4a: {expected}"


def test_mixing_needs_no_extra(tmp_path: Path, mixer_folder: Path) -> None:
    audio.write(tmp_path / "bass.wav", noise(2.0), SAMPLE_RATE)
    arguments = ("mix", str(mixer_folder), "--bass", "bass.wav", "--output", "mix.wav", "--report", "report.json")
    done = run_without(tmp_path, tuple(EXTRAS), *arguments)
    assert done.returncode == 0, done.stderr
    assert np.abs(audio.read(tmp_path / "mix.wav")[0]).max() > 0


@pytest.mark.parametrize("arguments", [("--help",), ("train", "--help"), ("check", "dataset")])
def test_help_and_the_check_of_a_dataset_need_no_extra(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = run_without(tmp_path, tuple(EXTRAS), *arguments)
    assert "pip install" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_defect_is_not_taken_for_an_extra_that_is_missing() -> None:
    assert missing_package(ModuleNotFoundError("No module named 'fxnorm.x'", name="fxnorm.x")) is None
    assert missing_package(ModuleNotFoundError("No module named 'mlflow.x'", name="mlflow.x")) is None
    assert missing_package(ImportError("cannot import name 'x'", name="mlflow")) is None

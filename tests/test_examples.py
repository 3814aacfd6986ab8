"""The programs in examples/, as they are called."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from fxnorm import Mixer
from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.io import audio
from tests.conftest import noise
from tests.project import REPOSITORY


def example(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(REPOSITORY / "examples" / name), run_name="__main__")


def test_a_folder_of_stems_is_mixed(mixer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stems = {stem: noise(0.5, 0.2, seed=number) for number, stem in enumerate(STEMS)}
    for stem, samples in stems.items():
        audio.write(tmp_path / "song" / f"{stem}.wav", samples, subtype="FLOAT")
    example(monkeypatch, "mix_song.py", mixer_folder, tmp_path / "song", tmp_path / "mix.wav")
    expected = Mixer.load(mixer_folder).mix(stems, SAMPLE_RATE, dry=True)
    np.testing.assert_allclose(audio.read(tmp_path / "mix.wav")[0], expected, atol=2**-22)


def test_a_stem_is_brought_to_the_average_loudness(
    mixer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    audio.write(tmp_path / "bass.wav", noise(2.0, 0.02))
    statistics = mixer_folder / "statistics.npz"
    example(monkeypatch, "normalize_stem.py", statistics, "bass", tmp_path / "bass.wav", tmp_path / "out.wav")
    loudness = {line.split(":")[0]: float(line.split()[1]) for line in capsys.readouterr().out.splitlines()}
    assert abs(loudness["before"] - loudness["target"]) > 3
    assert loudness["after"] == pytest.approx(loudness["target"], abs=0.1)

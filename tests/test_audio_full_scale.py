"""What passes full scale is kept where something is computed from it later, and said where a format cuts it off.

The kind: a file of integer samples holds nothing beyond full scale, and its writer clips without a word.
"""

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.data import dataset
from fxnorm.io import audio
from fxnorm.normalization.recipe import Recipe
from fxnorm.stages import normalize
from fxnorm.training.data import StoredSong
from tests.conftest import noise


def loud(level: float, seed: int = 0) -> np.ndarray:
    """Noise with a peak."""
    samples = noise(1.0, seed=seed)
    return samples * np.float32(level / np.abs(samples).max())


@pytest.fixture(scope="module")
def recipe_folder(mixer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that leaves levels as they are."""
    recipe = Recipe.load(mixer_folder)
    settings = recipe.settings.model_copy(update={"effects": ("panning",)})
    folder = tmp_path_factory.mktemp("recipe")
    dataclasses.replace(recipe, settings=settings).save(folder)
    return folder


def normalized(recipe_folder: Path, folder: Path, levels: dict[str, float], subtype: str = "FLOAT") -> dataset.Song:
    """A song of noise with these peaks, as the stage writes it."""
    for number, name in enumerate((*STEMS, "mixture")):
        samples = loud(levels.get(name, 0.5), number)
        audio.write(folder / "song" / f"{name}.wav", samples, subtype=subtype)
    (song,) = dataset.songs(folder)
    notes = normalize._Done(folder / "notes", "this code")
    normalize._normalize_song(song, recipe_folder, "recipe", folder / "normalized", dry=False, done=notes)
    (done,) = dataset.songs(folder / "normalized")
    return done


@pytest.mark.parametrize("name", ["mixture", "vocals", "bass"])
def test_a_training_file_beyond_full_scale_is_not_clipped(name: str, recipe_folder: Path, tmp_path: Path) -> None:
    song = normalized(recipe_folder, tmp_path, {name: 3.0})
    path = song.folder / f"{name}.wav"
    stored, _ = audio.read(path)
    assert np.abs(stored).max() > 1.2
    if name == "mixture":
        assert np.array_equal(stored, audio.read(tmp_path / "song/mixture.wav")[0])
    stems, mixture = StoredSong(song).read(0, SAMPLE_RATE)
    learnt = mixture.numpy() if name == "mixture" else stems[2 * STEMS.index(name) :][:2].numpy()
    assert np.array_equal(learnt, stored)


@pytest.mark.parametrize("level", [0.5, 1.0])
def test_a_training_file_within_full_scale_has_24_bits(level: float, recipe_folder: Path, tmp_path: Path) -> None:
    song = normalized(recipe_folder, tmp_path, {"mixture": level})
    assert {soundfile.info(str(path)).subtype for path in song.files} == {"PCM_24"}
    expected = audio.encode(audio.read(tmp_path / "song/mixture.wav")[0], SAMPLE_RATE, ".wav", "PCM_24")
    assert (song.folder / "mixture.wav").read_bytes() == expected


@pytest.mark.parametrize(
    "suffix, subtype, clips",
    [
        (".flac", None, True), (".flac", "PCM_16", True), (".wav", "PCM_16", True), (".wav", "PCM_24", True),
        (".wav", "PCM_32", True), (".wav", "ULAW", True), (".wav", None, False), (".wav", "DOUBLE", False),
        (".mp3", None, False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("level", [0.9, 2.0])
def test_what_is_cut_off_is_said_and_nothing_else(
    suffix: str, subtype: str | None, clips: bool, level: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"a{suffix}"
    with caplog.at_level(logging.WARNING):
        audio.write(path, loud(level), subtype=subtype)
        audio.encode(loud(level), SAMPLE_RATE, suffix, subtype)
    said = [record.getMessage() for record in caplog.records]
    if not (clips and level > 1):
        assert said == []
        if level > 1:
            assert np.abs(audio.read(path)[0]).max() > 1.5
        return
    assert [sentence.partition(": its peak of +6.0 dBFS is cut off")[0] for sentence in said] == [str(path), suffix]

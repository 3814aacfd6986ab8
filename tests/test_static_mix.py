"""The mix without a network is what least squares finds, by another way of finding it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.data import dataset
from fxnorm.effects.third_octaves import CENTRES_HZ
from fxnorm.errors import DatasetError, ModelError
from fxnorm.mixing.static_mix import STATIC_MIX_FILE, Correlations, StaticMix
from tests.conftest import noise

MakeSong = Callable[..., Path]
BANDS = len(CENTRES_HZ)


def song(seconds: float = 4.0, seed: int = 0) -> np.ndarray:
    """Four stems of noise that have little in common, (8, samples)."""
    return np.concatenate([noise(seconds, 0.1, seed + number) for number in range(len(STEMS))])


def error(mixed: np.ndarray, mixture: np.ndarray) -> float:
    return float(np.square(mixed.astype(np.float64) - mixture).sum())


def test_gains_balances_and_equalizers_of_a_made_up_mix_are_found_again() -> None:
    generator = np.random.default_rng(0)
    made = StaticMix(10 ** generator.uniform(-0.5, 0.5, (len(STEMS), 2, BANDS)), 1)
    stems = song(seconds=20.0)
    mixture = made.mix(stems)
    found = StaticMix.solve(Correlations.of(stems, mixture))
    residual = 10 * np.log10(error(found.mix(stems), mixture) / np.square(mixture).sum())
    assert residual < -40
    audible = CENTRES_HZ > 200  # a band of few bins has few samples to tell its gain from
    decibels = 20 * np.log10(np.abs(found.gains / made.gains))[..., audible]
    assert np.abs(decibels).max() < 1.0


def test_no_gains_come_nearer_than_those_of_least_squares_in_the_time_domain() -> None:
    stems = song(seconds=2.0)
    generator = np.random.default_rng(1)
    # a mixture that no gains give: filtered stems, one squared, and noise
    response = generator.standard_normal(200) * np.exp(-np.arange(200) / 30)
    mixture = scipy.signal.fftconvolve(stems[:2] + stems[2:4], response[None], axes=1)[:, : stems.shape[1]]
    mixture += 3 * np.square(stems[4:6]) + noise(2.0, 0.05, 9)
    found = StaticMix.solve(Correlations.of(stems, mixture.astype(np.float32)))

    columns = []
    for stem in range(len(STEMS)):
        for band in range(BANDS):
            alone = StaticMix(np.zeros((len(STEMS), 2, BANDS)), 1)
            alone.gains[stem, 0, band] = 1.0
            columns.append(alone.mix(stems)[0])
    design = np.array(columns, dtype=np.float64).T
    exact = np.linalg.solve(design.T @ design, design.T @ mixture[0])
    least = float(np.square(design @ exact - mixture[0]).sum())
    assert error(found.mix(stems)[0], mixture[0]) < 1.01 * least


def test_a_stem_that_never_sounds_gets_no_gain_and_harms_no_other() -> None:
    stems = song()
    stems[4:6] = 0
    found = StaticMix.solve(Correlations.of(stems, stems.reshape(4, 2, -1).sum(axis=0)))
    assert np.abs(found.gains[2]).max() < 1e-6
    np.testing.assert_allclose(found.gains[[0, 1, 3]], 1.0, atol=1e-3)


def test_songs_are_fitted_together_and_the_file_holds_what_was_found(make_song: MakeSong, tmp_path: Path) -> None:
    for number in range(2):
        make_song(f"normalized/train/{number}", seconds=1.0, seed=number)
    make_song("normalized/train/unmixed", seconds=0.5, seed=7, mixture=False)
    songs = dataset.songs(tmp_path / "normalized", "train")
    found = StaticMix.fit(songs)
    assert found.songs == 2, "without a mixture there is nothing to learn"
    (tmp_path / "mixer").mkdir()
    found.save(tmp_path / "mixer")
    kept = StaticMix.load(tmp_path / "mixer")
    assert kept is not None
    np.testing.assert_allclose(kept.gains, found.gains, atol=1e-6)
    with pytest.raises(DatasetError, match="expected songs with a mixture to fit the static mix on, found none"):
        StaticMix.fit([song for song in songs if song.mixture is None])


def test_what_is_no_static_mix_is_refused_with_the_files_name(tmp_path: Path) -> None:
    assert StaticMix.load(tmp_path) is None, "an imported Mixer has none"
    StaticMix(np.ones((len(STEMS), 2, BANDS)), 1).save(tmp_path)
    file = tmp_path / STATIC_MIX_FILE
    content = json.loads(file.read_text())
    spoiled = {
        "words": "{",
        "no bass": json.dumps({**content, "gains": {"vocals": content["gains"]["vocals"]}}),
        "one channel": json.dumps({**content, "gains": {stem: [[1.0] * BANDS] for stem in STEMS}}),
        "a band too many": json.dumps({**content, "gains": {stem: [[1.0] * (BANDS + 1)] * 2 for stem in STEMS}}),
        "loud": file.read_text().replace("1.0", "1e9", 1),
        "no number": file.read_text().replace("1.0", "NaN", 1),
    }
    for kind, text in spoiled.items():
        file.write_text(text)
        with pytest.raises(ModelError, match=STATIC_MIX_FILE) as raised:
            StaticMix.load(tmp_path)
        assert "\n" not in str(raised.value), kind


def test_a_mix_is_as_long_as_its_stems_and_silence_stays_silent() -> None:
    found = StaticMix(np.ones((len(STEMS), 2, BANDS)), 1)
    stems = song(seconds=0.5)
    assert found.mix(stems).shape == (2, SAMPLE_RATE // 2)
    np.testing.assert_allclose(found.mix(stems), stems.reshape(4, 2, -1).sum(axis=0), atol=1e-4)
    assert not found.mix(np.zeros_like(stems)).any()

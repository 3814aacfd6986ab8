"""Measuring and matching against what the method's reference implementation computed on a rendered six-second song."""

from pathlib import Path

import numpy as np
import pytest

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.effects import compression, equalization, loudness, onsets, panning, reverberation, spectrum
from fxnorm.effects.features import measure_stem
from fxnorm.io import audio
from fxnorm.normalization.normalizer import EffectNormalizer
from fxnorm.statistics import DatasetStatistics

DATA = Path(__file__).parent / "data" / "effects"
BIN_STEP = 16  # of the 32,769 bins of a curve, every 16th is kept in the test data
EXCERPT = slice(2 * SAMPLE_RATE, 2 * SAMPLE_RATE + 11_025)  # of each reference result
CENTRES = 1000 * 2 ** (np.arange(-12, 12) / 3)  # Hz


@pytest.fixture(scope="module")
def statistics() -> DatasetStatistics:
    return DatasetStatistics.load(DATA / "musdb18_statistics.npz")


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    with np.load(DATA / "features.npz") as file:
        return dict(file)


@pytest.fixture(scope="module", params=STEMS)
def stem(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def song() -> dict[str, np.ndarray]:
    return {stem: audio.read(DATA / "song" / f"{stem}.flac")[0] for stem in STEMS}


def padded(samples: np.ndarray) -> np.ndarray:
    return np.pad(samples, ((0, 0), (spectrum.FFT_SIZE, spectrum.FFT_SIZE)))


def cut(samples: np.ndarray) -> np.ndarray:
    return samples[:, spectrum.FFT_SIZE : -spectrum.FFT_SIZE]


def error_db(result: np.ndarray, name: str) -> float:
    """Level of the difference from a reference result under that result, over the excerpt."""
    expected = audio.read(DATA / "normalized" / name)[0]
    return float(20 * np.log10(np.linalg.norm(result[:, EXCERPT] - expected) / np.linalg.norm(expected)))


def third_octaves(samples: np.ndarray) -> np.ndarray:
    magnitude = spectrum.mean_curves(padded(samples))[0]
    frequencies = np.linspace(0, SAMPLE_RATE / 2, magnitude.size)
    bands = [(frequencies >= c * 2 ** (-1 / 6)) & (frequencies < c * 2 ** (1 / 6)) for c in CENTRES]
    return 20 * np.log10([magnitude[band].mean() for band in bands])


def test_features_agree_with_the_reference(
    stem: str, song: dict[str, np.ndarray], reference: dict[str, np.ndarray]
) -> None:
    features = measure_stem(song[stem], SAMPLE_RATE, stem)
    assert features["loudness"] == pytest.approx(float(reference[f"loudness/{stem}"]), abs=1e-4)
    np.testing.assert_allclose(features["compression"], reference[f"compression/{stem}"], atol=1e-3)
    for effect in ("equalization", "panning"):
        curve = np.asarray(features[effect])[::BIN_STEP]
        np.testing.assert_allclose(curve, reference[f"{effect}/{stem}"], rtol=1e-5)


def test_onsets_are_the_reference_s_to_the_sample(
    stem: str, song: dict[str, np.ndarray], reference: dict[str, np.ndarray]
) -> None:
    at_minus_10_dbfs = padded(song[stem]) * np.float32(10 ** (-10 / 20) / np.abs(song[stem]).max())
    np.testing.assert_array_equal(onsets.detect(at_minus_10_dbfs[0]), reference[f"onsets_left/{stem}"])


def test_loudness_agrees_with_the_reference(
    stem: str, song: dict[str, np.ndarray], statistics: DatasetStatistics
) -> None:
    matched = loudness.match(padded(song[stem]), SAMPLE_RATE, float(statistics.target("loudness", stem)))
    assert error_db(cut(matched), f"loudness/{stem}.flac") < -90


def test_equalization_agrees_with_the_reference(
    stem: str, song: dict[str, np.ndarray], statistics: DatasetStatistics
) -> None:
    matched = equalization.match(padded(song[stem]), SAMPLE_RATE, statistics.target("equalization", stem))
    assert error_db(cut(matched), f"equalization/{stem}.flac") < -90


def test_compression_agrees_with_the_reference(
    stem: str, song: dict[str, np.ndarray], statistics: DatasetStatistics
) -> None:
    settings = compression.PUBLISHED_SETTINGS[stem]
    matched = compression.match(padded(song[stem]), SAMPLE_RATE, statistics.target("compression", stem), settings)
    assert error_db(cut(matched), f"compression/{stem}.flac") < -90


def test_panning_without_a_limit_agrees_with_the_reference(
    stem: str, song: dict[str, np.ndarray], statistics: DatasetStatistics
) -> None:
    no_limit = panning.PanningSettings(frequency_limit=None)
    matched = panning.match(padded(song[stem]), SAMPLE_RATE, statistics.target("panning", stem), no_limit)
    assert error_db(cut(matched), f"panning/{stem}.flac") < -90


def test_reverberation_agrees_with_the_reference(song: dict[str, np.ndarray]) -> None:
    impulse_response = audio.read(DATA / "impulse_response.flac")[0]
    settings = reverberation.ReverberationSettings(low_shelf_frequency=600.0, high_shelf_frequency=8_500.0)
    result = reverberation.apply(song["vocals"], SAMPLE_RATE, impulse_response, settings)
    assert error_db(result, "reverberation_vocals.wav") < -90


def test_the_whole_chain_agrees_with_the_reference(
    stem: str, song: dict[str, np.ndarray], statistics: DatasetStatistics, reference: dict[str, np.ndarray]
) -> None:
    normalized = EffectNormalizer(statistics, panning_limit=None).normalize(song[stem], SAMPLE_RATE, stem)
    # the reference stops panning drums after 4.9 s, which moves their level by half a per cent
    assert error_db(normalized, f"chain/{stem}.flac") < (-40 if stem == "drums" else -80)
    found = loudness.measure(normalized, SAMPLE_RATE)
    assert found == pytest.approx(float(reference[f"chain_loudness/{stem}"]), abs=0.01)
    np.testing.assert_allclose(third_octaves(normalized), reference[f"chain_third_octaves/{stem}"], atol=0.1)


def test_a_precise_match_brings_every_third_of_an_octave_to_the_target(
    stem: str, song: dict[str, np.ndarray], statistics: DatasetStatistics
) -> None:
    target = statistics.target("equalization", stem)
    settings = equalization.EqualizationSettings(third_octaves=True)
    matched = equalization.match(padded(song[stem]), SAMPLE_RATE, target, settings)
    frequencies = np.linspace(0, SAMPLE_RATE / 2, target.size)
    bands = [(frequencies >= c * 2 ** (-1 / 6)) & (frequencies < c * 2 ** (1 / 6)) for c in CENTRES]
    # as it is: how loud a spectrum is depends on the sound, so that at -30 LUFS only its shape can be the target's
    own = equalization.measure(matched, SAMPLE_RATE, reference_loudness=None)
    difference = np.array([20 * np.log10(own[band].mean() / target[band].mean()) for band in bands])
    assert np.abs(difference).max() < 0.2
    at_loudness = equalization.measure(matched, SAMPLE_RATE)
    np.testing.assert_allclose(at_loudness / own, np.median(at_loudness / own), rtol=1e-5)


def test_precisely_matched_panning_lies_at_the_target(
    stem: str, song: dict[str, np.ndarray], statistics: DatasetStatistics
) -> None:
    limit = panning.PUBLISHED_LIMITS[stem]
    assert limit is not None
    target = statistics.target("panning", stem)
    matched = panning.match(padded(song[stem]), SAMPLE_RATE, target, panning.PanningSettings.precise(limit))
    bins = int(limit * spectrum.FFT_SIZE / SAMPLE_RATE)
    missing = panning.measure(matched, SAMPLE_RATE)[:bins] - target[:bins]
    assert abs(missing.mean()) < 0.02
    assert np.abs(missing).mean() < 0.05


def test_published_panning_lies_at_nine_tenths_of_the_target(
    stem: str, song: dict[str, np.ndarray], statistics: DatasetStatistics
) -> None:
    limit = panning.PUBLISHED_LIMITS[stem]
    assert limit is not None
    target = statistics.target("panning", stem)
    matched = panning.match(padded(song[stem]), SAMPLE_RATE, target, panning.PanningSettings(limit))
    bins = int(limit * spectrum.FFT_SIZE / SAMPLE_RATE)
    missing = panning.measure(matched, SAMPLE_RATE)[:bins] - 0.9 * target[:bins]
    assert np.abs(missing).mean() < 0.06


def test_matched_compression_leaves_no_peaks_over_the_target(
    stem: str, song: dict[str, np.ndarray], statistics: DatasetStatistics
) -> None:
    target = statistics.target("compression", stem)
    matched = compression.match(song[stem], SAMPLE_RATE, target, compression.PUBLISHED_SETTINGS[stem])
    for channel in matched:
        figure = compression.measure(channel[None], SAMPLE_RATE, reference_peak=None)
        assert figure is not None
        assert figure[0] < target.sum()

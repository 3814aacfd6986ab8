"""The compressor against its definition, and the search against trying every setting in order."""

from pathlib import Path

import numpy as np
import pytest

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.effects import compression, compressor, equalization, onsets
from fxnorm.effects.compression import CompressionSettings
from fxnorm.io import audio
from fxnorm.statistics import DatasetStatistics
from tests.conftest import noise

DATA = Path(__file__).parent / "data" / "effects"
SETTINGS = CompressionSettings(attack_ms=10.0, release_ms=200.0, lowest_ratio=4)


def compressed_by_definition(samples: np.ndarray, threshold: float, ratio: float) -> np.ndarray:
    attack, release = (np.exp(-1 / (0.001 * SAMPLE_RATE * time)) for time in (SETTINGS.attack_ms, SETTINGS.release_ms))
    level = 20 * np.log10(np.maximum(np.abs(samples.astype(np.float64)), 1e-6))
    wanted = np.maximum(level - threshold, 0) * (1 - 1 / ratio)
    reduction, reductions = 0.0, []
    for goal in wanted:
        share = attack if goal > reduction else release
        reduction = share * reduction + (1 - share) * goal
        reductions.append(reduction)
    return samples * 10 ** (-np.array(reductions) / 20)


def peak_of_every_channel(samples: np.ndarray) -> list[float]:
    figures = [compression.measure(channel[None], SAMPLE_RATE, reference_peak=None) for channel in samples]
    return [float(figure[0]) for figure in figures if figure is not None]


def first_setting_that_fits(samples: np.ndarray, limit: float, settings: CompressionSettings) -> np.ndarray:
    """One channel at -10 dBFS, by trying every ratio and threshold in order."""
    if peak_of_every_channel(samples[None])[0] < limit:
        return samples
    smoothing = compressor.smoothing(settings.attack_ms), compressor.smoothing(settings.release_ms)
    result = np.empty_like(samples)
    for ratio in range(settings.lowest_ratio, 21):
        for threshold in np.arange(-10, -40.5, -0.5):
            compressor.compress(samples, compressor.levels(samples), threshold, ratio, *smoothing, result)
            if peak_of_every_channel(result[None])[0] < limit:
                return result
    return result


def drum_hits(seed: int) -> np.ndarray:
    """Decaying noise bursts of many levels, so that some lie near every limit."""
    generator = np.random.default_rng(seed)
    samples = np.zeros(4 * SAMPLE_RATE)
    for start in np.arange(0.1, 3.9, 0.17):
        length = int(0.15 * SAMPLE_RATE)
        burst = generator.standard_normal(length) * np.exp(-np.arange(length) / generator.uniform(500, 4000))
        first = int(start * SAMPLE_RATE)
        samples[first : first + length] += burst * generator.uniform(0.05, 0.3)
    return samples.astype(np.float32)


def test_the_compressor_follows_its_definition() -> None:
    samples = noise(1.0, level=0.3)[0]
    result = np.empty_like(samples)
    smoothing = compressor.smoothing(SETTINGS.attack_ms), compressor.smoothing(SETTINGS.release_ms)
    compressor.compress(samples, compressor.levels(samples), -25.0, 6.0, *smoothing, result)
    np.testing.assert_allclose(result, compressed_by_definition(samples, -25.0, 6.0), rtol=1e-4)


def test_a_steady_tone_is_reduced_by_the_ratio() -> None:
    square = np.where(np.arange(2 * SAMPLE_RATE) // 50 % 2, 0.5, -0.5).astype(np.float32)
    result = np.empty_like(square)
    compressor.compress(square, compressor.levels(square), -20.0, 4.0, 0.99, 0.999, result)
    level = 20 * np.log10(0.5)
    assert 20 * np.log10(np.abs(result[-1])) == pytest.approx(-20 + (level + 20) / 4, abs=0.01)


def test_segment_levels_are_what_compressing_gives() -> None:
    samples = drum_hits(0)
    starts = onsets.detect(samples)
    level = compressor.levels(samples)
    thresholds = np.linspace(-10, -41, compressor.LANES).astype(np.float32)
    estimated = compressor.segment_levels(level, starts, thresholds, 0.75, 0.995, 0.9999)
    result = np.empty_like(samples)
    for lane in (0, 13, 31):
        compressor.compress(samples, level, float(thresholds[lane]), 4.0, 0.995, 0.9999, result)
        peaks = np.maximum.reduceat(np.abs(result), starts)
        np.testing.assert_allclose(estimated[:, lane], 20 * np.log10(peaks), atol=0.02)


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("equalized", [False, True])
def test_the_search_finds_the_first_setting_that_fits(stem: str, equalized: bool) -> None:
    statistics = DatasetStatistics.load(DATA / "musdb18_statistics.npz")
    samples = audio.read(DATA / "song" / f"{stem}.flac")[0]
    if equalized:
        samples = equalization.match(samples, SAMPLE_RATE, statistics.target("equalization", stem))
    settings, target = compression.PUBLISHED_SETTINGS[stem], statistics.target("compression", stem)
    matched = compression.match(samples, SAMPLE_RATE, target, settings)
    for channel, found in zip(samples, matched, strict=True):
        at_minus_10_dbfs = channel * np.float32(10 ** (-10 / 20) / np.abs(channel).max())
        expected = first_setting_that_fits(at_minus_10_dbfs, target.sum(), settings)
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("limit", [-11.5, -13.0, -16.0])
def test_the_search_finds_the_first_setting_for_drum_hits(seed: int, limit: float) -> None:
    samples = drum_hits(seed)
    samples *= np.float32(10 ** (-10 / 20) / np.abs(samples).max())
    matched = compression.match(samples[None], SAMPLE_RATE, np.array([limit, 0.0]), SETTINGS)
    np.testing.assert_allclose(matched[0], first_setting_that_fits(samples, limit, SETTINGS), atol=1e-6)


def test_what_no_setting_can_hold_gets_the_strongest() -> None:
    clicks = np.zeros((1, SAMPLE_RATE), dtype=np.float32)
    clicks[0, ::8820] = 0.9  # too short for any attack time
    clicks += noise(1.0, 0.01, channels=1)
    matched = compression.match(clicks, SAMPLE_RATE, np.array([-40.0, 0.5]), SETTINGS)
    at_minus_10_dbfs = clicks[0] * np.float32(10 ** (-10 / 20) / np.abs(clicks).max())
    expected = compressed_by_definition(at_minus_10_dbfs, -40.0, 20.0)
    np.testing.assert_allclose(matched[0], expected, atol=1e-5)


def test_peaks_under_the_target_are_only_brought_to_minus_10_dbfs() -> None:
    samples = noise(2.0)
    matched = compression.match(samples, SAMPLE_RATE, np.array([-5.0, 1.0]), SETTINGS)
    np.testing.assert_allclose(np.abs(matched).max(axis=1), 10 ** (-10 / 20), rtol=1e-5)
    for channel, before in zip(matched, samples, strict=True):
        np.testing.assert_allclose(channel, before * (channel.max() / before.max()), atol=1e-6)


def test_a_silent_channel_stays_as_it_is() -> None:
    samples = noise(1.0)
    samples[1] *= np.float32(1e-4)
    matched = compression.match(samples, SAMPLE_RATE, np.array([-14.0, 1.0]), SETTINGS)
    np.testing.assert_array_equal(matched[1], samples[1])


def test_silence_around_a_stem_changes_nothing() -> None:
    samples = np.pad(drum_hits(1), (SAMPLE_RATE, SAMPLE_RATE // 2))[None]
    longer = np.pad(samples, ((0, 0), (100 * onsets.FRAME, 50_000)))
    target = np.array([-14.0, 1.0])
    matched = compression.match(samples, SAMPLE_RATE, target, SETTINGS)
    within = compression.match(longer, SAMPLE_RATE, target, SETTINGS)[:, 100 * onsets.FRAME : -50_000]
    np.testing.assert_array_equal(within, matched)


def test_silence_has_no_peaks_to_measure() -> None:
    assert compression.measure(np.zeros((2, SAMPLE_RATE), dtype=np.float32), SAMPLE_RATE) is None


def test_an_onset_is_found_within_a_frame_of_every_hit() -> None:
    hits = np.arange(1, 8) * SAMPLE_RATE // 2
    samples = np.zeros(5 * SAMPLE_RATE, dtype=np.float32)
    for hit in hits:
        samples[hit : hit + 4000] = noise(4000 / SAMPLE_RATE, 0.5, channels=1)[0] * np.exp(-np.arange(4000) / 800)
    found = onsets.detect(samples)
    assert len(found) == len(hits)
    assert np.abs(found - hits).max() < 2 * onsets.FRAME

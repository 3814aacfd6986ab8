"""Integrated loudness against pyloudnorm and the test signals of EBU Tech 3341."""

import numpy as np
import pyloudnorm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects import loudness
from fxnorm.errors import AudioError
from tests.conftest import noise


def tone(level_dbfs: float, seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (10 ** (level_dbfs / 20) * np.sin(2 * np.pi * 1000 * time)).astype(np.float32)[None].repeat(2, axis=0)


def test_a_1_khz_tone_at_minus_23_dbfs_has_minus_23_lufs() -> None:
    assert loudness.measure(tone(-23, 20), SAMPLE_RATE) == pytest.approx(-23, abs=0.1)  # EBU Tech 3341, case 1


def test_quiet_parts_are_gated_out() -> None:
    quiet, loud = tone(-36, 10), tone(-23, 60)  # EBU Tech 3341, case 3
    measured = loudness.measure(np.concatenate([quiet, loud, quiet], axis=1), SAMPLE_RATE)
    assert measured == pytest.approx(-23, abs=0.1)


@settings(max_examples=25, deadline=None)
@given(
    samples=st.integers(SAMPLE_RATE // 2, 3 * SAMPLE_RATE),
    channels=st.integers(1, 2),
    level=st.floats(1e-4, 2.0),
    seed=st.integers(0, 1000),
)
def test_loudness_agrees_with_pyloudnorm(samples: int, channels: int, level: float, seed: int) -> None:
    audio = noise(samples / SAMPLE_RATE, level, seed, channels)
    audio[:, samples // 3 : samples // 2] *= np.float32(1e-3)
    expected = pyloudnorm.Meter(SAMPLE_RATE).integrated_loudness(audio.T.astype(np.float64))
    assert loudness.measure(audio, SAMPLE_RATE) == pytest.approx(expected, abs=1e-3)


def test_matched_audio_has_the_target_s_loudness() -> None:
    matched = loudness.match(noise(3.0), SAMPLE_RATE, -30.0)
    assert loudness.measure(matched, SAMPLE_RATE) == pytest.approx(-30, abs=0.01)


def test_matched_audio_never_passes_full_scale() -> None:
    matched = loudness.match(noise(1.0), SAMPLE_RATE, 3.0)
    assert np.abs(matched).max() == pytest.approx(1, abs=1e-6)


def test_audio_under_the_loudness_gate_has_no_loudness_and_is_left_alone() -> None:
    silence = np.zeros((2, SAMPLE_RATE), dtype=np.float32)
    assert loudness.measure(silence, SAMPLE_RATE) == -np.inf
    quiet = noise(1.0, level=1e-5)
    np.testing.assert_array_equal(loudness.match(quiet, SAMPLE_RATE, -30.0), quiet)


def test_audio_shorter_than_a_block_counts_as_one_block() -> None:
    short = tone(-20, 0.2)
    filled = np.pad(short, ((0, 0), (0, SAMPLE_RATE * 4 // 10 - short.shape[1])))
    assert loudness.measure(short, SAMPLE_RATE) == pytest.approx(loudness.measure(filled, SAMPLE_RATE), abs=0.01)


def test_another_sample_rate_is_refused() -> None:
    with pytest.raises(AudioError, match="44100 Hz, found 48000 Hz"):
        loudness.measure(noise(1.0), 48_000)

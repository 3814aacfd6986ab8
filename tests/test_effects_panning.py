"""Panning by its identities: what is centred, what is on one side, and what must not change."""

import numpy as np
import pytest

from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects import panning, spectrum
from fxnorm.effects.panning import PanningSettings
from fxnorm.errors import AudioError
from tests.conftest import noise

SECONDS = 3.0


def curve(similarity: float) -> np.ndarray:
    return np.full(spectrum.BINS, similarity)


def panned_noise(left: float, right: float) -> np.ndarray:
    """One sound at full level, on both sides with these gains."""
    return noise(SECONDS, 0.5, channels=1) * np.array([[left], [right]], dtype=np.float32)


@pytest.mark.parametrize(("left", "right", "similarity"), [(1, 1, 1.0), (1, 0, 0.0), (0.3, 0.7, 0.42 / 0.58)])
def test_similarity_is_that_of_the_gains(left: float, right: float, similarity: float) -> None:
    measured = panning.measure(panned_noise(left, right), SAMPLE_RATE)
    np.testing.assert_allclose(measured, similarity, atol=1e-4)


def test_mono_audio_is_centred() -> None:
    np.testing.assert_allclose(panning.measure(noise(1.0, channels=1), SAMPLE_RATE), 1)


@pytest.mark.parametrize("wanted", [0.5, 0.8])
def test_a_panned_sound_gets_the_similarity_asked_for(wanted: float) -> None:
    matched = panning.match(panned_noise(0.4, 0.6), SAMPLE_RATE, curve(wanted), PanningSettings(None, scale=1.0))
    np.testing.assert_allclose(panning.measure(matched, SAMPLE_RATE), wanted, atol=0.04)


def test_exchanging_the_channels_exchanges_them_in_the_result() -> None:
    audio = noise(SECONDS, 0.5)
    audio[0] *= np.float32(0.5)
    matched = panning.match(audio, SAMPLE_RATE, curve(0.9))
    exchanged = panning.match(audio[::-1], SAMPLE_RATE, curve(0.9))
    np.testing.assert_allclose(exchanged[::-1], matched, atol=1e-6)


@pytest.mark.parametrize("louder", [0, 1])
def test_a_stem_stays_on_its_side(louder: int) -> None:
    gains = [1.0, 0.6] if louder == 0 else [0.6, 1.0]
    matched = panning.match(panned_noise(*gains), SAMPLE_RATE, curve(0.7))
    levels = np.linalg.norm(matched, axis=1)
    assert levels[louder] > 1.2 * levels[1 - louder]


def test_over_the_limit_similarity_does_not_depend_on_the_target() -> None:
    audio = noise(SECONDS, 0.5)
    limited = PanningSettings(frequency_limit=6_000.0)
    one, other = (panning.match(audio, SAMPLE_RATE, curve(value), limited) for value in (0.4, 0.9))
    difference = np.abs(np.fft.rfft(one - other))
    frequencies = np.linspace(0, SAMPLE_RATE / 2, difference.shape[1])
    over, under = frequencies > 6_100, frequencies < 5_900
    assert np.linalg.norm(difference[:, over]) < 0.02 * np.linalg.norm(difference[:, under])


def test_frames_that_stay_quiet_are_panned_to_their_side_and_no_further() -> None:
    quiet = panned_noise(0.9e-3, 1e-3)
    matched = panning.match(quiet, SAMPLE_RATE, curve(0.9))
    np.testing.assert_allclose(matched, quiet * np.array([[0.3], [0.7]]), atol=1e-7)


def test_refining_brings_the_similarity_closer() -> None:
    audio = noise(SECONDS, 0.5)
    audio[0] += audio[1]
    missing = [
        abs(panning.measure(matched, SAMPLE_RATE).mean() - 0.6)
        for refinements in (0, 1)
        for matched in [panning.match(audio, SAMPLE_RATE, curve(0.6), PanningSettings(None, 1.0, refinements))]
    ]
    assert missing[1] < 0.5 * missing[0]


def test_independent_sides_are_narrowed_where_gains_do_not_suffice() -> None:
    wide = noise(SECONDS, 0.5)
    target = curve(0.97)
    by_gains = panning.match(wide, SAMPLE_RATE, target, PanningSettings(None, scale=1.0))
    precise = panning.match(wide, SAMPLE_RATE, target, PanningSettings.precise(None))
    assert panning.measure(by_gains, SAMPLE_RATE).mean() < 0.9
    assert panning.measure(precise, SAMPLE_RATE).mean() == pytest.approx(0.97, abs=0.05)


def test_without_a_level_floor_quiet_sounds_are_panned_like_loud_ones() -> None:
    settings = PanningSettings.precise(None)
    loud = panned_noise(0.4, 0.6)
    matched, quiet = (panning.match(level * loud, SAMPLE_RATE, curve(0.9), settings) for level in (1.0, 1e-4))
    np.testing.assert_allclose(quiet, 1e-4 * matched, atol=1e-9)


@pytest.mark.parametrize("exponent", [-18, -20, -25, -30, -40])
def test_a_channel_of_next_to_nothing_is_not_turned_up_beyond_the_other(exponent: int) -> None:
    audio = noise(1.0, 0.5) * np.array([[10.0**exponent], [1]], dtype=np.float32)
    for settings in (PanningSettings(None), PanningSettings.precise(None)):
        matched = panning.match(audio, SAMPLE_RATE, curve(0.9), settings)
        assert np.abs(matched[0]).max() <= 2 * np.abs(matched[1]).max()


def test_mono_audio_cannot_be_panned() -> None:
    with pytest.raises(AudioError, match="two channels"):
        panning.match(noise(1.0, channels=1), SAMPLE_RATE, curve(0.9))

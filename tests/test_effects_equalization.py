"""Equalization by its identities."""

import numpy as np
import pytest
import scipy.signal

from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects import equalization, spectrum
from fxnorm.effects.equalization import EqualizationSettings
from tests.conftest import noise


def own_spectrum(channel: np.ndarray) -> np.ndarray:
    return equalization.measure(channel[None], SAMPLE_RATE)


def sloping_noise(slope: float) -> np.ndarray:
    """Noise with a smooth spectrum, which every filter can resolve."""
    white = np.random.default_rng(0).standard_normal((2, 10 * SAMPLE_RATE))
    return (0.05 * scipy.signal.lfilter([1], [1, -slope], white)).astype(np.float32)


def test_the_curve_does_not_depend_on_the_level() -> None:
    audio = noise(3.0)
    curves = [equalization.measure(audio * np.float32(gain), SAMPLE_RATE) for gain in (1, 0.1)]
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-4)


def test_a_channel_that_has_the_target_already_is_only_brought_to_minus_30_lufs() -> None:
    audio = noise(4.0, channels=1)
    matched = equalization.match(audio, SAMPLE_RATE, own_spectrum(audio[0]))
    gain = float(np.linalg.norm(matched) / np.linalg.norm(audio))
    inner = slice(1000, -1000)  # the filter reaches over the ends
    np.testing.assert_allclose(matched[:, inner], gain * audio[:, inner], atol=1e-4 * gain)


@pytest.mark.parametrize("settings", [EqualizationSettings(), EqualizationSettings(third_octaves=True)])
def test_a_smooth_spectrum_is_met(settings: EqualizationSettings) -> None:
    target = spectrum.smooth(equalization.measure(sloping_noise(-0.3), SAMPLE_RATE), 401)
    matched = equalization.match(sloping_noise(0.3), SAMPLE_RATE, target, settings)
    found = spectrum.smooth(equalization.measure(matched, SAMPLE_RATE), 401)
    heard = slice(150, 18_000)  # 100 Hz to 12 kHz
    difference = 20 * np.log10(found[heard] / target[heard])
    assert np.abs(difference - np.median(difference)).max() < 1.5


def test_matching_is_zero_phase() -> None:
    click = np.zeros((1, SAMPLE_RATE), dtype=np.float32)
    click[0, SAMPLE_RATE // 2] = 0.9
    target = spectrum.smooth(equalization.measure(sloping_noise(0.6), SAMPLE_RATE), 401)
    matched = equalization.match(click, SAMPLE_RATE, target)[0]
    around = matched[SAMPLE_RATE // 2 - 500 : SAMPLE_RATE // 2 + 501]
    np.testing.assert_allclose(around, around[::-1], atol=1e-5 * np.abs(around).max())


def test_a_silent_channel_stays_as_it_is() -> None:
    audio = noise(2.0)
    audio[0] = 0
    matched = equalization.match(audio, SAMPLE_RATE, own_spectrum(noise(2.0)[1]))
    assert not matched[0].any()
    assert matched[1].any()


def test_digital_silence_stays_digital_silence() -> None:
    audio = noise(3.0)
    audio[:, SAMPLE_RATE : 2 * SAMPLE_RATE] = 0
    matched = equalization.match(audio, SAMPLE_RATE, own_spectrum(audio[0]))
    assert not matched[:, SAMPLE_RATE + 1001 : 2 * SAMPLE_RATE - 1001].any()
    assert matched[:, SAMPLE_RATE + 900].any()

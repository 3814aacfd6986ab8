"""Spectra, smoothing, convolution and filters against SciPy and librosa."""

import librosa
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects import spectrum
from fxnorm.effects.convolution import convolve
from fxnorm.effects.filters import biquad
from tests.conftest import noise


@pytest.mark.parametrize(("fft_size", "hop", "padding"), [(2048, 1024, 0), (2048, 1024, 2048), (512, 128, 100)])
def test_frames_are_librosa_s_without_centring(fft_size: int, hop: int, padding: int) -> None:
    audio = noise(0.4)
    found = np.concatenate(list(spectrum.frames(audio, fft_size, hop, at_once=5, padding=padding)), axis=1)
    padded = np.pad(audio, ((0, 0), (padding, padding)))
    window = np.sqrt(scipy.signal.get_window("hann", fft_size))
    expected = librosa.stft(padded, n_fft=fft_size, hop_length=hop, window=window, center=False)
    np.testing.assert_allclose(found, expected.transpose(0, 2, 1), atol=1e-4)


@pytest.mark.parametrize("length", [151, 401, 501])
def test_smoothing_is_scipy_s_savitzky_golay_filter(length: int) -> None:
    curve = np.abs(np.random.default_rng(0).standard_normal(spectrum.BINS))
    expected = scipy.signal.savgol_filter(curve, length, 1, mode="mirror")
    np.testing.assert_allclose(spectrum.smooth(curve, length), expected, atol=1e-12)


def test_silence_around_audio_does_not_change_the_sum_over_frames() -> None:
    audio = noise(3.0)
    silence = np.zeros((2, 4 * spectrum.HOP), dtype=np.float32)
    around = np.concatenate([silence, audio, silence], axis=1)
    magnitude, similarity = spectrum.mean_curves(around)
    frames = librosa.util.frame(around, frame_length=spectrum.FFT_SIZE, hop_length=spectrum.HOP, axis=1)
    spectra = np.abs(np.fft.rfft(frames * spectrum.window(spectrum.FFT_SIZE, "float64")))
    np.testing.assert_allclose(magnitude, spectra.mean(axis=(0, 1)), rtol=1e-6)
    np.testing.assert_allclose(spectrum.mean_magnitude(around), spectra.mean(axis=1), rtol=1e-3)
    power = np.square(spectra).sum(axis=0)
    expected = np.divide(2 * spectra.prod(axis=0), power, out=np.ones_like(power), where=power > 0)
    np.testing.assert_allclose(similarity, expected.mean(axis=0), rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    samples=st.integers(1, 5000),
    taps=st.integers(1, 400),
    start=st.floats(0, 1),
    lead=st.integers(0, 3000),
    gap=st.integers(0, 3000),
)
def test_convolution_agrees_with_direct_convolution(samples: int, taps: int, start: float, lead: int, gap: int) -> None:
    generator = np.random.default_rng(samples)
    sound = generator.standard_normal(samples).astype(np.float32)
    audio = np.concatenate([np.zeros(lead), sound, np.zeros(gap), sound, np.zeros(gap)]).astype(np.float32)
    kernel = generator.standard_normal(taps)
    first = int(start * (taps - 1))
    expected = np.convolve(audio.astype(np.float64), kernel)[first : first + audio.size]
    found = convolve(audio, kernel, first)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.sqrt(taps) * 5)
    np.testing.assert_array_equal(found[expected == 0], 0)


@pytest.mark.parametrize(("kind", "low_db", "high_db"), [("low_shelf", -30, 0), ("high_shelf", 0, -30)])
def test_a_shelf_has_its_gain_on_its_side_and_half_of_it_at_its_frequency(
    kind: str, low_db: float, high_db: float
) -> None:
    section = biquad(kind, 1000.0, gain_db=-30.0, quality=0.707)  # type: ignore[arg-type]
    _, response = scipy.signal.freqz(section[:3], section[3:], [1.0, 1000.0, 22_000.0], fs=SAMPLE_RATE)
    np.testing.assert_allclose(20 * np.log10(np.abs(response)), [low_db, -15, high_db], atol=0.1)

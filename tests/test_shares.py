"""Shares of tracks in what their sum gets: through each effect, the normalization, the network and the command."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects import compression, equalization, loudness, panning, reverberation
from fxnorm.effects.controls import Control
from fxnorm.effects.impulse_responses import ImpulseResponses
from fxnorm.normalization.normalizer import ORDER, EffectNormalizer
from fxnorm.statistics import DatasetStatistics
from tests.conftest import noise

ROOMS = ImpulseResponses.synthesized(0.1, count=1)
STATISTICS = DatasetStatistics.load(Path(__file__).parent / "data" / "effects" / "musdb18_statistics.npz")
ROUNDING_DB = -100.0

Effect = Callable[[np.ndarray, list[Control] | None], np.ndarray]


def compress(audio: np.ndarray, controls: list[Control] | None) -> np.ndarray:
    hard = np.array([-25.0, 1.0])  # a target that takes a search
    return compression.match(audio, SAMPLE_RATE, hard, compression.PUBLISHED_SETTINGS["drums"], controls=controls)


def pan(audio: np.ndarray, controls: list[Control] | None) -> np.ndarray:
    settings = panning.PanningSettings(6_000.0, refinements=1, scale=1.0)
    return panning.match(audio, SAMPLE_RATE, STATISTICS.target("panning", "drums"), settings, controls=controls)


EFFECTS: dict[str, Effect] = {
    "reverberation": lambda audio, controls: reverberation.apply(
        audio, SAMPLE_RATE, ROOMS.choose(np.random.default_rng(0)), controls=controls
    ),
    "equalization": lambda audio, controls: equalization.match(
        audio, SAMPLE_RATE, STATISTICS.target("equalization", "drums"), controls=controls
    ),
    "compression": compress,
    "panning": pan,
    "loudness": lambda audio, controls: loudness.match(audio, SAMPLE_RATE, -18.0, controls=controls),
}


def tracks(right: float = 1.0, channels: int = 2) -> list[np.ndarray]:
    """Three that sound at other times, on both sides."""
    sides = np.array([[1.0], [right]], np.float32)[:channels]
    found = [sides * noise(1.2, 0.3, seed, channels=channels) for seed in range(3)]
    found[0][:, : SAMPLE_RATE // 2] = 0
    found[1][:, SAMPLE_RATE:] = 0
    if channels == 2:
        found[2][1] = 0
    return found


def sum_of(signals: list[np.ndarray]) -> np.ndarray:
    return np.asarray(np.sum(signals, axis=0, dtype=np.float64).astype(np.float32))


def error_db(found: np.ndarray, expected: np.ndarray) -> float:
    energies = [float(np.square(signal, dtype=np.float64).sum()) for signal in (found - expected, expected)]
    return float(10 * np.log10((energies[0] + 1e-30) / (energies[1] + 1e-30)))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("effect", EFFECTS)
def test_what_a_sum_gets_its_tracks_get_too(effect: str, channels: int) -> None:
    if (effect, channels) == ("panning", 1):
        pytest.skip("panning has two channels")
    signals, controls = tracks(channels=channels), list[Control]()
    total = sum_of(signals)
    expected = EFFECTS[effect](total.copy(), controls)
    assert np.array_equal(EFFECTS[effect](total.copy(), None), expected), "controls change nothing"
    assert error_db(expected, total) > -20, "it has something to do"
    (control,) = controls
    for signal in signals:
        control(signal)
    assert error_db(sum_of(signals), expected) < ROUNDING_DB


@pytest.mark.parametrize("effect", EFFECTS)
def test_tracks_of_a_silent_sum_are_left_alone(effect: str) -> None:
    silence, controls = np.zeros((2, 30_000), np.float32), list[Control]()
    EFFECTS[effect](silence.copy(), controls)
    controls[0](silence)
    assert not silence.any()


@pytest.mark.parametrize(
    ("right", "stem"), [(1.0, "vocals"), (1e-4, "drums"), (0.0, "vocals")], ids=["stereo", "residue", "one side"]
)
def test_shares_add_up_behind_the_whole_normalization(right: float, stem: str) -> None:
    normalizer = EffectNormalizer(STATISTICS, ORDER, impulse_responses=ROOMS, pre_impulse_responses=ROOMS)
    signals = tracks(right)
    total = sum_of(signals)
    plain = normalizer.normalize(total, SAMPLE_RATE, stem, dry=True)
    expected = normalizer.normalize(total, SAMPLE_RATE, stem, dry=True, along=iter(signals))
    assert np.array_equal(plain, expected)
    for channel in np.flatnonzero(expected.any(axis=1)):
        assert error_db(sum_of(signals)[channel], expected[channel]) < ROUNDING_DB


def test_tracks_of_a_stem_without_programme_stay_as_they_are() -> None:
    signals = [np.full((2, 20_000), 1e-4, np.float32), noise(0.5, 1e-3)[:, :20_000]]
    before = [signal.copy() for signal in signals]
    EffectNormalizer(STATISTICS).normalize(sum_of(signals), SAMPLE_RATE, "bass", along=signals)
    assert all(map(np.array_equal, before, signals))

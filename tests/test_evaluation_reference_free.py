"""What is measured of mixes without a reference: levels, balance and masking, against sounds whose values are known."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.signal

from fxnorm.constants import MIXTURE, SAMPLE_RATE, STEMS
from fxnorm.effects.features import measure_mixture
from fxnorm.effects.third_octaves import CENTRES_HZ
from fxnorm.evaluation.masking import masked_shares
from fxnorm.evaluation.reference_free import balance_of, describe, training_balance
from fxnorm.io import audio as audio_io
from fxnorm.statistics import DatasetStatistics

pytestmark = pytest.mark.filterwarnings("error")

DATA = Path(__file__).parent / "data"
LEVELS = {"integrated_loudness_lufs", "true_peak_dbtp"}


def band(seconds: float, low_hertz: float, high_hertz: float, seed: int, level: float = 0.1) -> np.ndarray:
    """Noise between two frequencies, independent on both sides."""
    white = np.random.default_rng(seed).standard_normal((2, round(seconds * SAMPLE_RATE)))
    sections = scipy.signal.butter(8, (low_hertz, high_hertz), "bandpass", fs=SAMPLE_RATE, output="sos")
    filtered = scipy.signal.sosfilt(sections, white)
    return (level * filtered / filtered.std()).astype(np.float32)


@pytest.fixture(scope="module")
def stems() -> dict[str, np.ndarray]:
    """Vocals and other share their band, bass and drums have one each."""
    bands = {"vocals": (300, 3000), "bass": (40, 120), "drums": (6000, 12_000), "other": (300, 3000)}
    return {stem: band(2, *edges, seed) for seed, (stem, edges) in enumerate(bands.items())}


def shares_of(mix: np.ndarray, stems: dict[str, np.ndarray]) -> dict[str, float]:
    return {stem: share for stem, share in masked_shares({"mix": mix}, stems, SAMPLE_RATE)["mix"].items() if share}


def test_stems_in_bands_of_their_own_are_not_masked_and_those_that_share_one_are(stems: dict[str, np.ndarray]) -> None:
    shares = shares_of(np.sum(list(stems.values()), axis=0), stems)
    assert shares["bass"] < 0.15
    assert shares["drums"] < 0.15
    # of two equal energies E the partial loudness is (1 + k)^a - k^a, with the published k of -4 dB and a of 0.23
    threshold = 10**-0.4
    expected = 1 - ((1 + threshold) ** 0.23 - threshold**0.23)
    assert shares["vocals"] == pytest.approx(expected, abs=0.05)
    assert shares["other"] == pytest.approx(expected, abs=0.05)


def test_the_louder_the_others_the_more_is_masked(stems: dict[str, np.ndarray]) -> None:
    mixes = {str(gain): stems["vocals"] + gain * stems["other"] for gain in (0.1, 0.5, 1.0, 4.0)}
    found = masked_shares(mixes, stems, SAMPLE_RATE)
    shares = [found[name]["vocals"] or 0.0 for name in mixes]
    assert shares == sorted(shares)
    assert shares[0] < 0.5
    assert shares[-1] > 0.85


def test_gains_filters_and_panning_of_the_stems_are_found_from_the_mix_alone(stems: dict[str, np.ndarray]) -> None:
    gains = {"vocals": (0.9, 0.2), "bass": (0.5, 0.5), "drums": (0.1, 0.7), "other": (0.3, 0.3)}
    parts = {stem: np.array(gains[stem], np.float32)[:, None] * audio for stem, audio in stems.items()}
    mix = np.sum(list(parts.values()), axis=0)
    assert shares_of(mix, stems) == pytest.approx(shares_of(mix, parts), abs=1e-3)


def test_a_mix_of_other_sounds_has_no_masking(stems: dict[str, np.ndarray]) -> None:
    assert shares_of(band(2, 40, 12_000, seed=9), stems) == {}


def test_a_stem_that_is_missing_silent_or_not_in_the_mix_has_none(stems: dict[str, np.ndarray]) -> None:
    some = {"vocals": stems["vocals"], "bass": np.zeros_like(stems["bass"]), "other": stems["other"][:1]}
    found = masked_shares({"mix": stems["vocals"]}, some, SAMPLE_RATE)["mix"]
    assert found["vocals"] == pytest.approx(0, abs=1e-2)
    assert [found[stem] for stem in ("bass", "drums", "other")] == [None] * 3


@pytest.fixture(scope="module")
def mixture() -> np.ndarray:
    return audio_io.read(DATA / "evaluation" / "mixture.flac")[0]


@pytest.fixture(scope="module")
def statistics(mixture: np.ndarray) -> DatasetStatistics:
    found = DatasetStatistics()
    found.add(MIXTURE, measure_mixture(mixture, SAMPLE_RATE))
    return found


def test_the_balance_of_the_training_mixture_itself_is_on_target(
    mixture: np.ndarray, statistics: DatasetStatistics
) -> None:
    described = describe({"mix": mixture}, {"other": mixture}, SAMPLE_RATE, statistics)["mix"]
    assert described["spectral_balance_db"] == pytest.approx(0, abs=1e-3)


def test_a_tilt_is_seen_in_the_balance_at_its_size(mixture: np.ndarray, statistics: DatasetStatistics) -> None:
    target = training_balance(statistics)
    assert target is not None
    frequencies = np.array([0, *CENTRES_HZ, SAMPLE_RATE / 2])
    octaves = np.log2(np.maximum(frequencies, 25) / 1000)
    fir = scipy.signal.firwin2(16_385, frequencies, 10 ** (octaves / 20), fs=SAMPLE_RATE)
    tilted = scipy.signal.oaconvolve(mixture, fir[None], mode="same", axes=1).astype(np.float32)
    balance = balance_of(tilted)
    assert balance is not None
    slope = np.polyfit(np.log2(CENTRES_HZ), balance - target, 1)[0]
    assert slope == pytest.approx(1, abs=0.1), "dB an octave"


def test_without_the_training_mixtures_there_is_no_balance(mixture: np.ndarray) -> None:
    published = DatasetStatistics.load(DATA / "effects" / "musdb18_statistics.npz")
    for statistics in (None, published):
        described = describe({"mix": mixture}, {"other": mixture}, SAMPLE_RATE, statistics)["mix"]
        assert described["spectral_balance_db"] is None


def test_six_decibels_change_loudness_and_true_peak_alone_and_swapped_sides_nothing(
    mixture: np.ndarray, statistics: DatasetStatistics, stems: dict[str, np.ndarray]
) -> None:
    own = {"vocals": mixture[:, : 2 * SAMPLE_RATE], "bass": 0.1 * stems["bass"]}
    mix = 0.4 * (own["vocals"] + own["bass"])
    swapped = {stem: audio[::-1] for stem, audio in own.items()}
    plain = describe({"mix": mix, "louder": 2 * mix}, own, SAMPLE_RATE, statistics)
    other_way = describe({"mix": mix[::-1]}, swapped, SAMPLE_RATE, statistics)["mix"]
    for name, value in plain["mix"].items():
        expected = None if value is None else value + 6.02 * (name in LEVELS)
        assert plain["louder"][name] == pytest.approx(expected, abs=0.01), name
        assert other_way[name] == pytest.approx(value, abs=1e-4), name


@pytest.mark.parametrize("samples", [1, 100, SAMPLE_RATE])
@pytest.mark.parametrize("level", [0.0, 0.1])
def test_silence_and_short_mixes_give_finite_numbers_or_none(
    samples: int, level: float, statistics: DatasetStatistics
) -> None:
    mix = level * band(1, 100, 1000, seed=1)[:, :samples]
    described = describe({"mix": mix}, dict.fromkeys(STEMS, mix), SAMPLE_RATE, statistics)
    json.dumps(described, allow_nan=False)

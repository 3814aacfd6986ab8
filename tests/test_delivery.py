"""The level that a mix is delivered at: loudness, true peak, sample formats."""

import numpy as np
import pyloudnorm
import pytest
import scipy.signal

from fxnorm.constants import MIXTURE, SAMPLE_RATE
from fxnorm.effects import loudness
from fxnorm.effects.features import measure_mixture
from fxnorm.evaluation.metrics import true_peak_dbtp
from fxnorm.io import audio
from fxnorm.mixing import limiter
from fxnorm.mixing.delivery import Delivery, deliver, encode
from fxnorm.statistics import DatasetStatistics
from tests.conftest import noise


def beat(seconds: float = 6.0) -> np.ndarray:
    """Strokes over noise."""
    strokes = np.exp(-12 * (np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE % 0.5))
    return np.asarray(noise(seconds, 0.9) * strokes + noise(seconds, 0.02, seed=1), dtype=np.float32)


def peak_by_resampling(mix: np.ndarray) -> float:
    """True peak in dBTP by SciPy's interpolation at eight times the rate."""
    fine = scipy.signal.resample_poly(mix.astype(np.float64), 8, 1, axis=1)
    return float(20 * np.log10(np.abs(fine).max()))


@pytest.mark.parametrize("target", [-24.0, -17.0, -15.0])
@pytest.mark.parametrize("ceiling", [-1.0, -3.0])
def test_loudness_and_true_peak_are_kept_by_other_meters(target: float, ceiling: float) -> None:
    delivered = deliver(beat(), Delivery(target, ceiling), DatasetStatistics())
    found = pyloudnorm.Meter(SAMPLE_RATE).integrated_loudness(delivered.mix.T.astype(np.float64))
    assert delivered.remark is None
    assert found == pytest.approx(target, abs=0.1)
    assert peak_by_resampling(delivered.mix) <= ceiling


def held_down(delivered: limiter.Delivered, decibels: float) -> float:
    """The share of blocks of 400 ms that the limiter turns down by more on average; all of the mix is programme."""
    reduction = delivered.gain_db - 20 * np.log10(delivered.gains.astype(np.float64))
    size = round(0.4 * SAMPLE_RATE)
    blocks = reduction[: reduction.size // size * size].reshape(-1, size)
    return float((blocks.mean(axis=1) > decibels).mean())


def leveled(mix: np.ndarray, target: float) -> limiter.Delivered:
    return limiter.deliver(mix, loudness.measure(mix, SAMPLE_RATE), target, -1.0)


def test_a_target_that_would_crush_the_mix_is_missed_and_said() -> None:
    target = -2.0
    mix = beat() + noise(6.0, 0.1, seed=2)
    delivered = leveled(mix, target)
    assert 0 < held_down(delivered, limiter.CRUSHING_DB) <= limiter.MOST_CRUSHED
    further = limiter.limit(mix * np.float32(10 ** ((delivered.gain_db + 1) / 20)), -1.0)
    assert loudness.measure(further, SAMPLE_RATE) > delivered.loudness_lufs, "there was more to get"
    remark = deliver(mix, Delivery(target), DatasetStatistics()).remark
    assert remark == (
        f"{delivered.loudness_lufs:.1f} LUFS, {target - delivered.loudness_lufs:.1f} LU under the target of -2.0: to"
        " stay under -1 dBTP, the limiter would hold over 50% of it down by over 6 dB"
    )


@pytest.mark.parametrize(("height", "missed"), [(1.2, False), (19.0, True)])
def test_a_single_stroke_does_not_decide_the_loudness_unless_it_is_a_fault(height: float, missed: bool) -> None:
    spiked = noise(6.0, 0.1)
    spiked[:, 2 * SAMPLE_RATE] = height
    delivered = deliver(spiked, Delivery(-14.0), DatasetStatistics())
    assert peak_by_resampling(delivered.mix) <= -1.0
    if missed:
        assert delivered.reduction_db == pytest.approx(limiter.MOST_REDUCTION_DB, abs=0.01)
        assert delivered.remark is not None and "turn its highest peak down by over 24 dB" in delivered.remark
    else:
        assert delivered.remark is None
        assert delivered.reduction_db > 12
        assert pyloudnorm.Meter(SAMPLE_RATE).integrated_loudness(delivered.mix.T) == pytest.approx(-14.0, abs=0.1)


def test_the_gain_of_a_limiter_has_no_steps() -> None:
    """Averaged twice over 5 ms, it changes by a 220th of its range from sample to sample at most."""
    delivered = leveled(beat(), -6.0)
    assert delivered.reduction_db > 12
    changes = np.abs(np.diff(delivered.gains.astype(np.float64)))
    assert changes.max() <= np.ptp(delivered.gains) / (0.005 * SAMPLE_RATE - 1)


def test_what_stays_under_the_ceiling_gets_one_gain() -> None:
    mix = noise(3.0)
    delivered = deliver(mix, Delivery(-30.0), DatasetStatistics())
    np.testing.assert_allclose(delivered.mix, mix * 10 ** (delivered.gain_db / 20), rtol=1e-6)
    assert delivered.reduction_db == 0


def test_without_a_target_the_level_is_the_average_of_the_training_mixtures() -> None:
    statistics = DatasetStatistics()
    for level in (0.05, 0.2):
        statistics.add(MIXTURE, measure_mixture(noise(3.0, level), SAMPLE_RATE))
    expected = np.mean([loudness.measure(noise(3.0, level), SAMPLE_RATE) for level in (0.05, 0.2)])
    mix = noise(3.0, 0.01)
    delivered = deliver(mix, Delivery(), statistics)
    assert delivered.loudness_lufs == pytest.approx(expected, abs=0.02)
    assert deliver(mix, Delivery(as_is=True), statistics).mix is mix
    assert deliver(mix, Delivery(), DatasetStatistics()).mix is mix, "statistics of versions before lack it"


def test_gains_make_parts_add_up_to_the_delivered_mix() -> None:
    parts = np.stack([beat(), noise(6.0, 0.1, seed=2)])
    mix = parts.sum(axis=0)
    delivered = deliver(mix, Delivery(-9.0), DatasetStatistics())
    assert delivered.gains is not None
    assert delivered.reduction_db > 3
    np.testing.assert_allclose((parts * delivered.gains).sum(axis=0), delivered.mix, atol=1e-6)


def test_a_limiter_leaves_alone_what_is_far_from_its_peaks() -> None:
    quiet = noise(4.0, 0.1)
    peaked = quiet.copy()
    peaked[:, 2 * SAMPLE_RATE] = 1.5
    limited = limiter.limit(peaked, -1.0)
    assert peak_by_resampling(limited) <= -1.0
    look_ahead = round(0.01 * SAMPLE_RATE) + 2
    before, after = slice(0, 2 * SAMPLE_RATE - look_ahead), slice(3 * SAMPLE_RATE, None)
    assert np.array_equal(limited[:, before], quiet[:, before])
    np.testing.assert_allclose(limited[:, after], quiet[:, after], rtol=1e-5)


@pytest.mark.parametrize("hertz", [997.0, 5_512.5, 11_025.0])
def test_a_true_peak_lies_between_samples(hertz: float) -> None:
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    sine = scipy.signal.windows.tukey(time.size, 0.5) * np.sin(2 * np.pi * hertz * time + np.pi / 4)
    assert limiter.true_peak(sine[None]) == pytest.approx(0.0, abs=0.02)
    assert 0 <= limiter.true_peak(beat()) - true_peak_dbtp(beat()) < 0.6, "which a meter of four times the rate misses"


@pytest.mark.parametrize("sample_rate", [48_000, 96_000])
def test_another_sample_rate_keeps_the_ceiling(sample_rate: int) -> None:
    delivered = deliver(beat(), Delivery(-12.0, sample_rate=sample_rate), DatasetStatistics())
    assert peak_by_resampling(delivered.audio) <= -1.0
    assert delivered.audio.shape[1] == pytest.approx(6.0 * sample_rate, abs=1)


@pytest.mark.parametrize("bits", ["16", "24"])
def test_dither_makes_the_error_of_integers_noise(bits: str) -> None:
    """The error of a dithered quantizer has no mean and one variance, whatever the signal (Lipshitz et al.)."""
    step = 2.0 ** (1 - int(bits))
    ramp = np.linspace(-20 * step, 20 * step, 200_000, dtype=np.float32)[None].repeat(2, axis=0)
    content = encode(ramp, SAMPLE_RATE, ".wav", bits)
    assert content == encode(ramp, SAMPLE_RATE, ".wav", bits), "the same bytes"
    error = (audio.decode(content, "ramp")[0] - ramp) / step
    for part in np.split(error, 50, axis=1):
        assert abs(part.mean()) < 0.05
        assert part.var() == pytest.approx(0.25, abs=0.03), "of rounding 1/12, and of triangular dither 1/6"
